"""Bits for each leaf, so that the total variance within a budget of bytes is least."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from qgenx_jax import _checks
from qgenx_jax._codec.quantizer import Quantizer
from qgenx_jax._exchange import groups, knapsack
from qgenx_jax._exchange.assigned import (
    Groups,
    cost,
    counted,
    grouped,
    variances,
)
from qgenx_jax._exchange.candidates import Make, candidates_of, checked, made_of
from qgenx_jax._exchange.groups import Labels
from qgenx_jax._exchange.plan import Plan
from qgenx_jax._exchange.recorded import Recorded, recorded
from qgenx_jax._exchange.splits import split
from qgenx_jax._types import DualVector

LITTLE = 1e-3
"""Of a budget, what may be left over; below it is looked for byte by byte."""


def plan_bits(
    *vectors: DualVector,
    payload_bytes: int | None = None,
    bits_per_coordinate: float | None = None,
    candidates: str | Sequence[Quantizer | None] | Make = "uniform",
    labels: Labels | None = None,
    weights: Any = None,
    most_groups: int = 9,
    bucket_size: int | None = 1024,
    norm: float = math.inf,
    scale_bits: int = 32,
) -> Plan:
    """Chooses a quantizer for each leaf, of least total variance within a budget.

        minimise  sum_i w_i^2 E (Q(v)_i - v_i)^2    within    bytes of a payload

    Exact variances of all leaves by all candidates make a multiple-choice knapsack,
    which is solved to 1e-4, with a bound for what any choice can reach. Leaves with the
    same quantizer become one group, as each group is compiled for itself, or a few by
    their scales: buckets run on from leaf to leaf, and share a norm. What the plan then
    says is computed from the groups as they travel: `Exchange.traffic` of it has
    exactly these bytes.

    It is a computation on the host, for the vectors given: of later ones it is as good
    as leaves keep their scales. A leaf of zeros, which tells nothing, is planned for as
    if its variances per coordinate were the mean of all others'.

    Args:
        *vectors: dual vectors as one worker has them, trees of one structure: recorded
            ones. The plan is for the mean of their variances.
        payload_bytes: the budget, bytes of a payload, norms included; or
        bits_per_coordinate: the same over coordinates, from which
            floor(bits coordinates / 8) bytes follow. Exactly one of them.
        candidates: of each leaf:
            "uniform": `uniform` of 1 to 8 bits, and exact;
            "fitted": levels of 2 to 8 bits, without zero, by `fit_levels`, 1 bit, and
            exact;
            "dithered": `dithered` of 1 to 8 bits, by `fit_bend`, and exact;
            a function make(bits, vectors), called with 1 to 8 bits and a list of flat
            vectors, one for each of `vectors`, for its own; and exact;
            a sequence of quantizers, of which None is exact.
        labels: as in `exchange`, to choose for groups, which are kept; None for leaves.
            Levels are fitted to each such group, else to all leaves, and again to those
            that are given so many bits.
        weights: w, what a coordinate's error is multiplied by: a tree like the vectors,
            or a prefix of it, of numbers or of arrays of the leaves' shapes; for
            instance `adam_weights(state)`. None for 1.
        most_groups: as long as there are fewer, a group is split by the scales of its
            leaves where that saves 2 % of the variance. Other quantizers are other
            groups in any case.
        bucket_size: of these three.
        norm: q of them; infinity for "dithered".
        scale_bits: of their norms on the wire, 32 or 16.

    Returns:
        The `Plan`; `plan.exchange(axis_name)` exchanges by it.

    Raises:
        ValueError: for a budget below the least possible, which it says, or none;
            vectors that are traced, empty, all zero or not finite; weights that are
            negative, not finite or of another structure; candidates that are none.

    Example:
        >>> import jax, jax.numpy as jnp, qgenx_jax as qgenx
        >>> normal = jax.random.normal(jax.random.key(0), (3, 4096))
        >>> vector = {"a": 100 * normal[0], "b": 10 * normal[1], "c": normal[2]}
        >>> plan = qgenx.plan_bits(vector, bits_per_coordinate=4.1)
        >>> plan.leaves
        {"['a']": 'uniform_7', "['b']": 'uniform_4', "['c']": 'uniform_1'}
        >>> one = plan.exchange(None)
        >>> decoded = one.quantize(vector, one.init())

    References:
        Shoham and Gersho, Efficient bit allocation for an arbitrary set of quantizers,
        IEEE Transactions on Acoustics, Speech and Signal Processing, 1988; layer-wise
        quantization of dual vectors: Nguyen et al., ICML 2025, arXiv 2505.14371.
    """
    of = recorded(vectors, weights)
    most_groups = _checks.whole_number("most_groups", most_groups, 1, None)
    units = _units(of, labels)
    make, shared = candidates_of(candidates, bucket_size, norm, scale_bits)
    if make is not None and labels is None:
        shared = made_of(make, of.flats(range(len(of.leaves))))
    tables = [shared or made_of(make, of.flats(unit)) for unit in units.values()]
    known, costs = np.zeros((2, len(units), len(tables[0])))
    for row, unit in enumerate(units.values()):
        for column, quantizer in enumerate(tables[row]):
            known[row, column] = of.variance(unit, quantizer)
            costs[row, column] = cost(of, unit, quantizer, runs_on=labels is None)
    values = _with_unknown(known, of, units.values())
    budget = _budget(payload_bytes, bits_per_coordinate, of.size)

    def ways(choice: np.ndarray) -> list[Groups]:
        chosen = [table[i] for table, i in zip(tables, choice, strict=True)]
        whole = grouped(of, units, chosen, by_leaf=labels is None)
        cut = split(of, whole, most_groups) if labels is None else whole
        return [whole] if cut is whole else [cut, whole]

    first = knapsack.solve(values, costs, budget)
    made = _within(of, ways, values, costs, budget)
    if made is None:
        made = ways(costs.argmin(axis=1))[-1]
        if made.payload_bytes > budget:
            raise _too_small(made.payload_bytes, budget, bits_per_coordinate, of.size)
    bound = 0.0
    if first is not None:
        is_known = np.array_equal(known, values)
        at_most = knapsack.lagrangian(known, costs, budget)
        bound = first.bound if is_known else max(at_most.bound, 0.0)
    if make is not None and shared is not None:
        made = _refitted(of, made, make, shared)
    return Plan(
        made.quantizers,
        {of.paths[i]: x for x, members in made.members.items() for i in members},
        dict(zip(of.paths, of.sizes, strict=True)),
        made.bytes_of,
        variances(of, made),
        of.energy(range(len(of.leaves))),
        bound,
    )


def _within(
    of: Recorded,
    ways: Callable[[np.ndarray], list[Groups]],
    values: np.ndarray,
    costs: np.ndarray,
    budget: int,
) -> Groups | None:
    """The best groups within a budget, of choices that are solved for ever less of it.

    Args:
        of: the vectors.
        ways: the groups that a choice may travel in, the first of least variance.
        values: variances of units by candidates.
        costs: their bytes, without the short buckets at the ends of groups.
        budget: bytes.
    """
    best, least, left = None, math.inf, float(budget)
    while (found := knapsack.solve(values, costs, left)) is not None:
        if knapsack.total(values, found.choice) >= least:
            break
        tried = ways(found.choice)
        for made in tried:
            if made.payload_bytes <= budget:
                variance = math.fsum(variances(of, made).values())
                if variance < least or best is None:
                    best, least = made, variance
        over = tried[0].payload_bytes - budget
        if over <= 0:
            break
        left -= over if over < LITTLE * budget else 1
    return best


def _budget(payload_bytes: Any, bits_per_coordinate: Any, size: int) -> int:
    """The budget in bytes."""
    if (payload_bytes is None) == (bits_per_coordinate is None):
        rule = "or bits_per_coordinate must be given, and not both"
        raise _checks.refuse("payload_bytes", rule, payload_bytes, "give one of them")
    if payload_bytes is not None:
        return _checks.whole_number("payload_bytes", payload_bytes, 0, None)
    way_out = "give for instance 4.1, norms included"
    bits = _checks.positive("bits_per_coordinate", bits_per_coordinate, way_out)
    return math.floor(float(bits) * size / 8)


def _too_small(least: int, budget: int, bits: Any, size: int) -> ValueError:
    """The error for a budget below what the fewest bits take, in the unit given."""
    way_out = "give more, or candidates of fewer bits"
    if bits is None:
        rule = f"must be at least {least}, what the fewest bits take"
        return _checks.refuse("payload_bytes", rule, budget, way_out)
    bits_of_least = math.ceil(8e4 * least / size) / 1e4
    rule = f"must be at least {bits_of_least}, what the fewest bits and norms take"
    return _checks.refuse("bits_per_coordinate", rule, bits, way_out)


def _units(of: Recorded, labels: Labels | None) -> dict[str, list[int]]:
    """What one quantizer is chosen for: indices of leaves, by path or label."""
    if labels is None:
        return {path: [i] for i, path in enumerate(of.paths)}
    found: dict[str, list[int]] = {}
    for i, label in enumerate(groups.spread(of.shapes, labels)):
        _checks.instance_of("labels", label, str, "name the groups by strings")
        found.setdefault(label, []).append(i)
    return found


def _with_unknown(
    known: np.ndarray, of: Recorded, units: Iterable[list[int]]
) -> np.ndarray:
    """Variances, of zeros the mean of the others' for so many coordinates."""
    is_zero = np.array([of.is_zero(unit) for unit in units])
    sizes = np.array([sum(of.sizes[i] for i in unit) for unit in units])
    mean = known[~is_zero].sum(axis=0) / sizes[~is_zero].sum()
    return np.where(is_zero[:, None], sizes[:, None] * mean, known)


def _refitted(
    of: Recorded, made: Groups, make: Make, shared: Sequence[Quantizer | None]
) -> Groups:
    """Groups with candidates made for their own leaves, where those are better."""
    quantizers = dict(made.quantizers)
    for label, old in made.quantizers.items():
        if old is None:
            continue
        members = made.members[label]
        new = checked(make(shared.index(old) + 1, of.flats(members)))
        if new != old and of.variance(members, new) < of.variance(members, old):
            tried = counted(of, {**quantizers, label: new}, made.members)
            if tried.bytes_of[label] <= made.bytes_of[label]:
                quantizers[label] = new
    return counted(of, quantizers, made.members)
