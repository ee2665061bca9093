"""Levels that follow the dual vectors: fitted anew before certain exchanges.

    statistics of this worker's vectors -> one small exact gather -> the same solver on
    all workers -> levels, in a branch that other exchanges do not take

What differs between workers, the statistics, lives in that branch alone, so that a
state holds nothing of it. The vectors are handed to the branch as leaves of the tree,
which are there already: nothing is put together for it where it is not taken.
"""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from jax import lax
from jax.flatten_util import ravel_pytree

from qgenx_jax import _checks, _trees
from qgenx_jax._adapt import refit
from qgenx_jax._adapt.statistics import Statistics, added, exponent, scaled
from qgenx_jax._codec.quantizer import Quantizer
from qgenx_jax._exchange.layout import Layout
from qgenx_jax._types import Array, AxisName, DualVector
from qgenx_jax._workers import axes, collectives


class Adaptation(NamedTuple):
    """What an exchange knows of levels that it fits; equal on all workers.

    Attributes:
        count: exchanges done, int32.
        predicted: by group, sum_k E||Q(V_k) - V_k||^2 / sum_k ||V_k||^2 of the group's
            vectors at the last refresh, with the levels since; 0 before the first one,
            float32.
    """

    count: Array
    predicted: dict[str, Array]


def fitted_groups(quantizers: Mapping[str, Quantizer | None]) -> dict[str, Quantizer]:
    """The groups whose levels are fitted anew."""
    return {
        group: quantizer
        for group, quantizer in quantizers.items()
        if quantizer is not None and quantizer.refresh is not None
    }


def initial(quantizers: Mapping[str, Quantizer | None]) -> Adaptation | None:
    """What a state begins with; None where no levels are fitted."""
    groups = fitted_groups(quantizers)
    if not groups:
        return None
    return Adaptation(
        jnp.zeros((), jnp.int32), {g: jnp.zeros((), jnp.float32) for g in groups}
    )


def check(known: Any, quantizers: Mapping[str, Quantizer | None]) -> None:
    """Checks that a state knows of the groups whose levels are fitted, and no others.

    Raises:
        ValueError: if it is the state of another configuration.
    """
    expected = sorted(fitted_groups(quantizers))
    found = sorted(known.predicted) if isinstance(known, Adaptation) else []
    if found != expected or (known is not None) != bool(expected):
        raise _checks.refuse(
            "state.adaptation",
            f"must be of the groups {expected}, whose levels are fitted",
            found,
            "make the state by init of this very exchange",
        )


def refreshed(
    tree: DualVector,
    levels: Mapping[str, Array],
    known: Adaptation,
    layout: Layout,
    quantizers: Mapping[str, Quantizer | None],
    axis_name: AxisName,
) -> tuple[dict[str, Array], Adaptation]:
    """The levels of the exchange that is next, and what is known of them after it.

    Args:
        tree: this worker's.
        levels: in use, by group; kept where nothing better is found.
        known: of them.
        layout: how the leaves travel.
        quantizers: by group.
        axis_name: the axis over workers.
    """
    tables, predicted = dict(levels), dict(known.predicted)
    groups = fitted_groups(quantizers)
    for schedule in dict.fromkeys(of.refresh for of in groups.values()):
        assert schedule is not None
        mine = {g: of for g, of in groups.items() if of.refresh == schedule}
        now = {g: (tables[g], predicted[g]) for g in mine}
        fitted = functools.partial(_fitted, layout, mine, axis_name)
        found = lax.cond(
            schedule.is_due(known.count), fitted, lambda tree, now: now, tree, now
        )
        for group, (table, error) in found.items():
            tables[group], predicted[group] = table, error
    count = jnp.asarray(optax.safe_increment(known.count))
    return tables, Adaptation(count, predicted)


Known = dict[str, tuple[Array, Array]]
"""By group a table of levels, and the relative error that is expected of it."""


def _fitted(
    layout: Layout,
    quantizers: Mapping[str, Quantizer],
    axis_name: AxisName,
    tree: DualVector,
    now: Known,
) -> Known:
    """The branch that fits levels: see `refreshed`."""
    flats: dict[frozenset, list[tuple[str, Array]]] = {}
    for flat, vector in zip(layout.vectors, layout.flatten(tree), strict=True):
        if flat.label is not None and flat.label in quantizers:
            flats.setdefault(flat.over, []).append((flat.label, vector))
    exponents = _exponents(flats, axis_name)
    totals: dict[str, Statistics] = {}
    for over, own in flats.items():
        parts = [
            refit.statistics(quantizers[label], scaled(x, exponents[label]))
            for label, x in own
        ]
        sums = _over_workers(parts, over, axis_name)
        for (label, _), part in zip(own, sums, strict=True):
            before = totals.get(label)
            totals[label] = part if before is None else added(before, part)
    return {
        group: refit.refitted(quantizers[group], totals[group], *known)
        if group in totals
        else known
        for group, known in now.items()
    }


def _exponents(
    flats: Mapping[frozenset, list[tuple[str, Array]]], axis_name: AxisName
) -> dict[str, Array]:
    """By group the largest exponent of all its coordinates, on all workers and shards.

    Vectors are divided by that power of two, so that no sum of squares overflows.
    """
    found: dict[str, Array] = {}
    for over, own in flats.items():
        each = jnp.stack([exponent(x) for _, x in own])
        each = jnp.max(collectives.gather(each, axis_name), axis=0)
        of_shards = collectives.gather(each, axes.in_order(over) or None)
        each = jnp.max(of_shards, axis=0)
        for (label, _), power in zip(own, each, strict=True):
            before = found.get(label)
            found[label] = power if before is None else jnp.maximum(before, power)
    return found


def _over_workers(parts: Any, over: frozenset, axis_name: AxisName) -> Any:
    """The sum over workers, in their order, then over a model's shards.

    Gathered and added up here: all workers of a program have the same bits.
    """
    flat, unravel = ravel_pytree(parts)
    gathered = collectives.gather(flat, axis_name)
    total = _trees.add_up(gathered.shape[0], lambda worker: gathered[worker])
    return unravel(collectives.all_reduce(total, axes.in_order(over) or None))
