"""Quantizers by name, and how they are spread over the leaves of a vector."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

import qgenx_jax as qgenx

Vector = Mapping[str, np.ndarray]


class Setting(NamedTuple):
    """What a row of the table has in common with others.

    Attributes:
        bits: per coordinate.
        norm: q of a bucket.
        bucket_size: coordinates of it; None for all.
    """

    bits: int
    norm: float
    bucket_size: int | None

    @property
    def buckets(self) -> dict[str, Any]:
        """Arguments of factories."""
        return {"norm": self.norm, "bucket_size": self.bucket_size}


WIDE_BITS, WIDE_LIMIT = 8, 4096
"""Of small leaves, and how small they are, where leaves are told apart by size."""


def _uniform(of: Setting) -> qgenx.Quantizer:
    return qgenx.uniform(of.bits, **of.buckets)


def _min_max(of: Setting) -> qgenx.Quantizer | None:
    if of.norm != math.inf:
        return None
    return qgenx.min_max(of.bits, bucket_size=of.bucket_size)


def _exponential(of: Setting) -> qgenx.Quantizer | None:
    return qgenx.exponential(of.bits, **of.buckets) if of.bits > 1 else None


def _adaptive(
    least: int, **settings: Any
) -> Callable[[Setting], qgenx.Quantizer | None]:
    def made(of: Setting) -> qgenx.Quantizer | None:
        if of.bits < least:
            return None
        return qgenx.adaptive(of.bits, adapt=[0], **settings, **of.buckets)

    return made


def _over_range(of: Setting) -> qgenx.Quantizer | None:
    if of.norm != math.inf or of.bits < 2:
        return None
    buckets: Any = {"norm": "range", "bucket_size": of.bucket_size}
    return qgenx.adaptive(of.bits, adapt=[0], **buckets)


def _dithered(of: Setting) -> qgenx.Quantizer | None:
    if of.norm != math.inf:
        return None
    return qgenx.dithered(of.bits, adapt=[0], bucket_size=of.bucket_size)


def _best(of: Setting) -> qgenx.Quantizer | None:
    """In buckets of its own, whatever the setting's are."""
    return qgenx.best(of.bits) if of.norm == math.inf else None


QUANTIZERS: dict[str, Callable[[Setting], qgenx.Quantizer | None]] = {
    "uniform": _uniform,
    "min_max": _min_max,
    "exponential": _exponential,
    "amq": _adaptive(3, zero=True, method="amq"),
    "adaptive with zero": _adaptive(3, zero=True),
    "adaptive": _adaptive(2),
    "adaptive by normal law": _adaptive(2, law="normal"),
    "adaptive signed": _adaptive(2, signed=True),
    "adaptive over the range": _over_range,
    "dithered": _dithered,
    "best": _best,
}
"""By name, from a setting; None where there is none for it."""


def optimal(of: Setting, flat: np.ndarray, *, zero: bool) -> qgenx.Quantizer | None:
    """Levels by dynamic programming on the vector's own histogram, on the host."""
    if of.bits < (3 if zero else 2):
        return None
    levels = qgenx.fit_levels(
        flat, of.bits, method="optimal", zero=zero, norm=of.norm,
        bucket_size=of.bucket_size,
    )  # fmt: skip
    return qgenx.user_levels(list(map(float, levels)), zero=zero, **of.buckets)


NAMES = (
    *QUANTIZERS,
    "optimal with zero",
    "optimal",
    "optimal per leaf",
    "uniform by size",
    "adaptive by size",
    "uniform planned",
    "adaptive planned",
    "dithered planned",
    "uniform planned once",
    "adaptive planned once",
    "dithered planned once",
)
"""All methods, in the order of the table."""


def exchange(
    name: str, of: Setting, vector: Vector, first: Vector | None = None
) -> qgenx.Exchange | None:
    """What carries a vector by one of NAMES; None where there is none for a setting.

    Args:
        name: of NAMES.
        of: the setting.
        vector: to carry.
        first: an earlier one of the same leaves, which "planned once" plans for; None
            where there is none.
    """
    base, _, how = name.partition(" ")
    if how == "per leaf":
        return _by_leaf(of, vector)
    if how == "by size":
        return _by_size(base, of, vector)
    if how == "planned":
        return _planned(base, of, vector)
    if how == "planned once":
        return None if first is None else _planned(base, of, first)
    if base == "optimal":
        flat = np.concatenate([np.ravel(x) for x in jax.tree.leaves(dict(vector))])
        quantizer = optimal(of, flat, zero=how == "with zero")
    else:
        quantizer = QUANTIZERS[name](of)
    return None if quantizer is None else qgenx.exchange(None, quantizer)


def _by_leaf(of: Setting, vector: Vector) -> qgenx.Exchange | None:
    """Levels of each leaf's own, on the host: a solver for each would take minutes."""
    each = {name: optimal(of, np.ravel(x), zero=False) for name, x in vector.items()}
    if None in each.values():
        return None
    return qgenx.exchange(None, each, labels={name: name for name in vector})


def _by_size(base: str, of: Setting, vector: Vector) -> qgenx.Exchange | None:
    sizes, large = [np.size(x) for x in vector.values()], QUANTIZERS[base](of)
    if of.bits >= WIDE_BITS or not min(sizes) <= WIDE_LIMIT < max(sizes):
        return None
    if large is None:
        return None
    each = {"small": qgenx.uniform(WIDE_BITS, **of.buckets), "large": large}
    return qgenx.exchange(None, each, labels=qgenx.by_size(WIDE_LIMIT))


def _planned(base: str, of: Setting, vector: Vector) -> qgenx.Exchange:
    """Of the bytes of `uniform`, by bits of each leaf alone, and with its levels."""
    known = base, of, id(vector)
    if known not in _PLANS:
        budget = _uniform(of).n_bytes(sum(np.size(x) for x in vector.values()))
        candidates = {"adaptive": "fitted"}.get(base, base)
        plan = qgenx.plan_bits(
            dict(vector), payload_bytes=budget, candidates=candidates, **of.buckets
        )
        _PLANS[known] = vector, plan
    return _PLANS[known][1].exchange(None)


_PLANS: dict[tuple[str, Setting, int], tuple[Vector, qgenx.Plan]] = {}
"""What was planned, which takes minutes, by the identity of the vector; the vector is
kept with it, so that no other one gets its identity."""
