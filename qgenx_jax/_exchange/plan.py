"""A quantizer for each leaf, chosen beforehand: what a run keeps, and resumes with."""

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from qgenx_jax import _checks
from qgenx_jax._codec.levels import RANGE
from qgenx_jax._codec.quantizer import Quantizer
from qgenx_jax._codec.schedule import Refresh
from qgenx_jax._exchange.exchange import Exchange
from qgenx_jax._exchange.factory import exchange
from qgenx_jax._types import AxisName


@dataclasses.dataclass(frozen=True)
class Plan:
    """Which quantizer each leaf of a tree gets, and what that costs; see `plan_bits`.

    Variances are sum_i w_i^2 E (Q(v)_i - v_i)^2, means over the vectors that were
    given, in the square of the unit of w v; of one worker's vector. That of the mean of
    K workers with vectors like these is 1/K of it.

    Attributes:
        quantizers: by label; None for leaves that travel exact.
        leaves: the label of each leaf, by its path as `jax.tree_util.keystr` prints it.
        sizes: the coordinates of each leaf, by its path.
        bytes_of: by label, the bytes of its part of a payload.
        variances: by label, of its leaves as they travel, in buckets that run on from
            leaf to leaf; by real arithmetic, from which a codec differs by 2^-16.
        energy: sum_i w_i^2 v_i^2.
        lower_bound: no assignment of the candidates within the budget has a smaller
            variance where every leaf, or group of `labels=`, begins a bucket.

    Example:
        >>> import jax.numpy as jnp, qgenx_jax as qgenx
        >>> vector = {"bias": 9 * jnp.arange(8.0), "kernel": jnp.arange(512.0) % 7}
        >>> plan = qgenx.plan_bits(vector, bits_per_coordinate=2.5)
        >>> plan.leaves
        {"['bias']": 'uniform_4', "['kernel']": 'uniform_2'}
        >>> exchange = plan.exchange("data")
        >>> exchange.traffic(vector, workers=3).payload_bytes == plan.payload_bytes
        True
        >>> qgenx.Plan.from_json(plan.to_json()) == plan
        True
    """

    quantizers: Mapping[str, Quantizer | None]
    leaves: Mapping[str, str]
    sizes: Mapping[str, int]
    bytes_of: Mapping[str, int]
    variances: Mapping[str, float]
    energy: float
    lower_bound: float

    @property
    def coordinates(self) -> int:
        """Of the whole tree."""
        return sum(self.sizes.values())

    @property
    def payload_bytes(self) -> int:
        """What a worker contributes to an exchange of one phase, without scalars."""
        return sum(self.bytes_of.values())

    @property
    def bits_per_coordinate(self) -> float:
        """8 payload_bytes / coordinates, norms included."""
        return 8 * self.payload_bytes / self.coordinates

    @property
    def predicted(self) -> float:
        """The variance of a worker's vector, as it travels."""
        return math.fsum(self.variances.values())

    @property
    def relative(self) -> float:
        """predicted / energy."""
        return self.predicted / self.energy

    def labels(self, tree: Any) -> Any:
        """The label of each leaf, a tree of strings: `labels=` of an exchange.

        Raises:
            ValueError: if the leaves' paths and sizes are not those planned for.
        """
        with_path, treedef = jax.tree_util.tree_flatten_with_path(tree)
        found = {jax.tree_util.keystr(path): int(np.size(x)) for path, x in with_path}
        if found != dict(self.sizes):
            odd = sorted({p for p, _ in found.items() ^ self.sizes.items()})
            way_out = "pass the tree that it is for, or plan for this one"
            raise _checks.refuse(
                "the tree to exchange",
                f"must have the {len(self.sizes)} leaves of the plan",
                _checks.Text(f"others, or of other sizes, at {', '.join(odd[:3])}"),
                way_out,
            )
        return jax.tree.unflatten(treedef, [self.leaves[path] for path in found])

    def exchange(self, axis_name: AxisName, **settings: Any) -> Exchange:
        """`qgenx_jax.exchange` by this plan.

        `quantized_mean` and `q_genx` take it in place of axis and quantizer. By
        "reduce_scatter" the mean is quantized again, alike.

        Args:
            axis_name: as there.
            **settings: as there, but for `labels`; leaves that `exact=` keeps take
                more bytes than the plan says.

        Raises:
            ValueError: as there.
        """
        return exchange(axis_name, self.quantizers, labels=self.labels, **settings)

    def __str__(self) -> str:
        """A row for each group: its leaves, coordinates, quantizer, bits and error.

        Bits are those of a coordinate, norms included; the error is its share of
        `predicted`.
        """
        rows = [("group", "leaves", "coordinates", "norm", "bucket", "bits", "error")]
        of_group = {label: [] for label in self.quantizers}
        for path, label in self.leaves.items():
            of_group[label].append(self.sizes[path])
        whole = self.predicted
        for label, quantizer in sorted(self.quantizers.items(), key=_bits):
            size = sum(of_group[label])
            bits = 8 * self.bytes_of[label] / size if size else 0.0
            share = self.variances[label] / whole if whole else 0.0
            norm, bucket = "", ""
            if quantizer is not None:
                norm, bucket = f"{quantizer.norm}", f"{quantizer.bucket_size}"
            count = str(len(of_group[label]))
            numbers = (f"{size:,}", norm, bucket, f"{bits:.2f}", f"{share:.1%}")
            rows.append((label, count, *numbers))
        totals = (f"{self.coordinates:,}", "", "", f"{self.bits_per_coordinate:.2f}")
        rows.append(("all", str(len(self.leaves)), *totals, "100.0%"))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = []
        for first, *others in rows:
            cells = [first.ljust(widths[0])]
            cells += [x.rjust(n) for x, n in zip(others, widths[1:], strict=True)]
            lines.append("  ".join(cells))
        end = f"{self.payload_bytes:,} bytes, variance {whole:.4g}, {self.relative:.4g}"
        bound = f"of the energy; at least {self.lower_bound:.4g} by any plan"
        return "\n".join([*lines, f"{end} {bound}"])

    def to_json(self) -> str:
        """The plan as text, for `from_json`: a run resumes with the plan it began with.

        Where several processes exchange, one plans and the others are sent this.
        """
        kept = dataclasses.asdict(self)
        for quantizer in kept["quantizers"].values():
            if quantizer is not None and quantizer["norm"] == math.inf:
                quantizer["norm"] = "inf"  # JSON has no infinity
        return json.dumps(kept)

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        """The plan that `to_json` wrote, to the bit.

        Raises:
            ValueError: if the text is no such plan.
        """
        try:
            kept = json.loads(text)
            quantizers = {
                label: None if fields is None else _quantizer(fields)
                for label, fields in kept["quantizers"].items()
            }
            return cls(**{**kept, "quantizers": quantizers})
        # JSONDecodeError is a ValueError, and so is a number that is none
        except (TypeError, KeyError, AttributeError, ValueError) as error:
            rule, way_out = "must be what Plan.to_json wrote", "pass that"
            raise _checks.refuse("text", rule, text, way_out) from error


def _bits(item: tuple[str, Quantizer | None]) -> int:
    """What groups are listed by, the exact ones last."""
    return 32 if item[1] is None else item[1].bits


def _quantizer(fields: dict[str, Any]) -> Quantizer:
    """A quantizer from what JSON has of it: a list for a tuple, text for infinity."""
    norm, levels = fields["norm"], tuple(fields["levels"])
    norm = norm if norm == RANGE else float(norm)
    refresh = fields.get("refresh")
    if refresh is not None:
        at, *others = refresh
        refresh = Refresh(tuple(at), *others)
    known = {"norm": norm, "levels": levels, "refresh": refresh}
    return Quantizer(**{**fields, **known})
