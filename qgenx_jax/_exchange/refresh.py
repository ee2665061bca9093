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

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from qgenx_jax import _trees
from qgenx_jax._adapt import fit
from qgenx_jax._codec.quantizer import Quantizer
from qgenx_jax._codec.schedule import Refresh
from qgenx_jax._exchange.layout import Flat, Layout
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


def adaptive(quantizers: Mapping[str, Quantizer | None]) -> dict[str, Quantizer]:
    """The groups whose levels are fitted anew."""
    return {
        group: quantizer
        for group, quantizer in quantizers.items()
        if quantizer is not None and quantizer.refresh is not None
    }


def initial(quantizers: Mapping[str, Quantizer | None]) -> Adaptation | None:
    """What a state begins with; None where no levels are fitted."""
    groups = adaptive(quantizers)
    if not groups:
        return None
    return Adaptation(jnp.zeros((), jnp.int32), {g: jnp.zeros(()) for g in groups})


def refreshed(
    tree: DualVector,
    layout: Layout,
    quantizers: Mapping[str, Quantizer | None],
    levels: dict[str, Array],
    known: Adaptation,
    axis_name: AxisName,
) -> tuple[dict[str, Array], Adaptation]:
    """The levels of the exchange that is next, and what is known of them after it.

    Args:
        tree: this worker's.
        layout: how its leaves travel.
        quantizers: by group.
        levels: in use, by group; kept where nothing better is found.
        known: of them.
        axis_name: the axis over workers.
    """
    levels, predicted = dict(levels), dict(known.predicted)
    groups = adaptive(quantizers)
    for schedule in dict.fromkeys(of.refresh for of in groups.values()):
        assert schedule is not None
        mine = {g: of for g, of in groups.items() if of.refresh == schedule}
        now = {g: (levels[g], predicted[g]) for g in mine}
        fitted = functools.partial(_fitted, layout, mine, axis_name)
        found = lax.cond(
            schedule.is_due(known.count), fitted, lambda tree, now: now, tree, now
        )
        for group, (table, error) in found.items():
            levels[group], predicted[group] = table, error
    count = known.count + 1
    return levels, Adaptation(count, predicted)


Found = dict[str, tuple[Array, Array]]
"""By group a table of levels, and the relative error that is expected of it."""


def _fitted(
    layout: Layout,
    quantizers: Mapping[str, Quantizer],
    axis_name: AxisName,
    tree: DualVector,
    now: Found,
) -> Found:
    """The branch that fits levels: see `refreshed`."""
    vectors = list(zip(layout.vectors, layout.flatten(tree), strict=True))
    found = {}
    for group, quantizer in quantizers.items():
        own = [(flat, x) for flat, x in vectors if flat.label == group]
        total = None
        for flat, vector in own:
            part = _over_workers(fit.statistics(quantizer, vector), flat, axis_name)
            total = part if total is None else jax.tree.map(jnp.add, total, part)
        table, error = now[group]
        found[group] = fit.refitted(quantizer, total, table, error)
    return found


def _over_workers(part: Any, flat: Flat, axis_name: AxisName) -> Any:
    """The sum of statistics over workers, in their order, and over a model's shards."""
    flattened, unravel = _raveled(part)
    gathered = collectives.gather(flattened, axis_name)
    total = _trees.add_up(gathered.shape[0], lambda worker: gathered[worker])
    over = tuple(sorted(flat.over, key=str))
    return unravel(collectives.all_reduce(total, over or None))
