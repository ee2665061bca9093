"""FSDP: parameters put together for a worker's step, and the mean gradient cut again.

    forward    shards --- all-gather ---> whole leaves, on every worker
    backward   each worker's own gradient, as K rows
               -> encode each row -> all-to-all -> decode and average one's own row

The mean stays where it is used, by the optimizer of that shard, so it is quantized
once, and K - 1 K-ths of a payload are sent. A `jax.custom_vjp` of one call: layers that
are gathered one by one are sent one by one, as their gradients come.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from qgenx_jax import _checks, _random, _trees
from qgenx_jax._codec.bits import ROUNDINGS
from qgenx_jax._codec.quantizer import Quantizer
from qgenx_jax._exchange import groups
from qgenx_jax._exchange.cuts import cuts_of
from qgenx_jax._exchange.gathering import differentiable, plan_of
from qgenx_jax._exchange.layout import small_leaves
from qgenx_jax._exchange.sharded import broadcast
from qgenx_jax._exchange.traffic import Phase, Traffic, phase, traffic
from qgenx_jax._types import Array, AxisName, LeafPredicate, Params
from qgenx_jax._workers import axes
from qgenx_jax._workers.specs import names_of


def gather_params(
    params: Params,
    axis_name: AxisName,
    quantizer: Quantizer | None,
    *,
    specs: Any,
    key: _random.KeyOrSeed,
    forward: Quantizer | None = None,
    exact: LeafPredicate | None = small_leaves,
    rounding: str = "correlated",
) -> Params:
    """Whole parameters of a worker's shards, whose gradient is exchanged in b bits.

        forward:    x = (x_1, ..., x_K), put together on every worker
        backward:   worker j's shard of (1/K) sum_k Q(g_k), g_k = dloss_k / dx

    To be called in the loss, of all parameters or layer by layer, within
    `jax.checkpoint` too. Differentiate the worker's own loss by `jax.value_and_grad`
    with respect to the shards: the gradients are means over workers, cut as the shards
    are, and an optimizer of theirs, with its state, has 1/K of the memory. Nothing is
    left to exchange. A loss that is averaged over the workers (`jax.lax.pmean`) has 1/K
    of that gradient, and one of a batch that is cut over further axes their sum, in
    full precision: cut parameters over all axes that the batch is, a tuple of them.

    Args:
        params: this worker's shards; leaves that `specs` do not cut are equal on all
            workers, and their gradients' mean is exact, by an all-reduce.
        axis_name: the axis over workers, or a tuple of axes; None for one alone.
        quantizer: what each worker's gradient is rounded to; None for an exact mean, by
            a reduce-scatter in float32 at least.
        specs: PartitionSpecs of the parameters, a prefix of their tree, or a function
            from it to such: what `jax.shard_map` has as in_specs, for instance by
            `shard_specs`.
        key: PRNG key or seed of the rounding; the same on all workers, another one at
            every step, and for every layer that is gathered by itself
            (`jax.random.fold_in`).
        forward: what shards are rounded to on their way; None for their own bytes. Its
            derivative goes straight through.
        exact: of leaves that are cut, by their path and whole shape, those whose
            gradients travel exact, as in `quantized_mean`.
        rounding: "correlated" or "independent" between workers, as in `exchange`.

    Returns:
        The whole parameters, as each worker's own.

    Raises:
        ValueError: if the axis is not bound; for leaves that are not cut as specs say,
            as far as JAX tracks that; for a quantizer whose levels adapt, and for a key
            that is none, or differs between workers.

    Example:
        >>> import jax, jax.numpy as jnp, qgenx_jax as qgenx
        >>> from jax.sharding import PartitionSpec as P
        >>> how = {"specs": P("data"), "key": jax.random.key(0), "exact": None}
        >>> def loss(shard, target):
        ...     x = qgenx.gather_params(shard, "data", qgenx.uniform(8), **how)
        ...     return 0.5 * jnp.sum((x - target) ** 2)
        >>> shards = jnp.zeros((2, 2))  # of 4 coordinates
        >>> targets = 127 * jnp.array([[-1.0, -1, -1, -1], [-1.0, -1, 1, -1]])
        >>> jax.vmap(jax.grad(loss), axis_name="data")(shards, targets)
        Array([[127., 127.],
               [  0., 127.]], dtype=float32)

    References:
        Rajbhandari et al., ZeRO, SC 2020; Wang et al., ZeRO++, 2023, which quantizes
        both ways, with bias; Zhao et al., PyTorch FSDP, VLDB 2023.
    """
    words = _checked(quantizer, forward, rounding, key, axis_name)
    workers = axes.axis_size(axis_name)
    leaves, treedef = jax.tree.flatten(params)
    _checks.floating_leaves("params", params)
    how = cuts_of(params, specs, axis_name, workers, whole=False)
    for path, x in jax.tree_util.tree_leaves_with_path(params):
        if any(names_of(jax.typeof(x).sharding.spec)):
            raise _checks.refuse(
                _checks.leaf_name(path, "params"),
                "must not be cut over an axis of type Explicit",
                _checks.Text(jax.typeof(x)),
                "map over that axis by hand, too, or make it Auto",
            )
    own = frozenset(axis_name if isinstance(axis_name, tuple) else (axis_name,))
    over = [axes.varying(x) - own for x in leaves]
    plan = plan_of(how, treedef, quantizer, exact, over, workers, forward)
    together = differentiable(plan, axis_name, rounding)
    return jax.tree.unflatten(treedef, together(tuple(leaves), words))


def gather_traffic(
    params: Params,
    quantizer: Quantizer | None,
    workers: int,
    *,
    specs: Any,
    axis_name: AxisName = "data",
    forward: Quantizer | None = None,
    exact: LeafPredicate | None = small_leaves,
) -> Traffic:
    """Bytes that one worker sends by `gather_params`, forward and backward, once each.

    A forward pass that `jax.checkpoint` makes again gathers again.

    Args:
        params: the whole parameters, or their shapes and dtypes.
        quantizer: as in `gather_params`.
        workers: K.
        specs: as in `gather_params`.
        axis_name: as in `gather_params`: which of the specs' axes that is.
        forward: as in `gather_params`.
        exact: as in `gather_params`.

    Returns:
        A `Traffic` with the phases "all_gather", of the shards, "all_to_all" or
        "reduce_scatter", of gradients, and "all_reduce", of leaves that are not cut,
        where there are such.

    Raises:
        ValueError: as `gather_params` does.

    Example:
        >>> import jax.numpy as jnp, qgenx_jax as qgenx
        >>> params = jnp.zeros((4096, 1024))
        >>> specs = qgenx.shard_specs(params, "data", 8)
        >>> sent = qgenx.gather_traffic(params, qgenx.uniform(4), 8, specs=specs)
        >>> [(x.collective, x.sent_bytes) for x in sent.phases]
        [('all_gather', 14680064), ('all_to_all', 1849344)]
    """
    _checked(quantizer, forward, "correlated", 0, None)
    workers = _checks.whole_number("workers", workers, 1, None)
    _checks.floating_leaves("params", params)
    how = cuts_of(params, specs, axis_name, workers, whole=True)
    if not any(how) and any(map(any, _entries(specs, params))):
        rule = f"must cut a leaf over {axis_name!r}"
        way_out = "give axis_name the name that specs have"
        raise _checks.refuse("specs", rule, specs, way_out)
    treedef, kinds = jax.tree.structure(params), jax.tree.leaves(params)
    over = [frozenset()] * len(kinds)
    plan = plan_of(how, treedef, quantizer, exact, over, workers, forward)
    phases: list[Phase] = []
    if plan.cuts:
        phases += [
            phase(
                "all_gather",
                workers,
                plan.parts,
                plan.sent_forward,
                0,
                lambda n: (workers - 1) * n,
            ),
            phase(
                "all_to_all" if quantizer is not None else "reduce_scatter",
                workers,
                plan.parts,
                lambda part: workers * plan.sent_backward(part),
                0,
                lambda n: n // workers * (workers - 1),
                lambda part: (workers * part.size, workers * part.size),
            ),
        ]
    n_bytes = sum(
        int(np.prod(jnp.shape(x))) * _trees.accumulator_dtype(x).itemsize
        for x, cut in zip(kinds, how, strict=True)
        if cut is None
    )
    if n_bytes:
        sent = 2 * n_bytes * (workers - 1) // workers
        phases.append(Phase("all_reduce", workers, n_bytes, sent, sent, {}, sent, 0))
    coordinates = sum(int(np.prod(jnp.shape(x))) for x in kinds)
    return traffic("fsdp", workers, phases, coordinates)


def _entries(specs: Any, params: Params) -> list[Any]:
    """The entries of all leaves' PartitionSpecs."""
    each = broadcast(specs, params)
    return jax.tree.leaves(each, is_leaf=lambda s: isinstance(s, PartitionSpec))


def _checked(
    quantizer: Any, forward: Any, rounding: Any, key: Any, axis_name: AxisName
) -> Array:
    """The words of a key, of arguments that are such.

    Raises:
        ValueError: for the first one that is not.
    """
    if axis_name is not None:
        _checks.axis_name(axis_name)
    for name, one in {"quantizer": quantizer, "forward": forward}.items():
        if one is None:
            continue
        groups.quantizers_of(one, None)
        if one.refresh is not None:
            raise _checks.refuse(
                name,
                "must have levels of its own: nothing here remembers fitted ones",
                one,
                "pass levels that fit_levels has found, by user_levels, or best or "
                "dithered with a bend",
            )
    _checks.one_of("rounding", rounding, ROUNDINGS)
    canonical = _random.typed(_random.canonical_key(key))
    if axis_name is not None and axes.tracked(axis_name) & axes.varying(canonical):
        raise _checks.refuse(
            "key",
            "must be the same on all workers",
            _checks.Text(jax.typeof(canonical)),
            "hand it to jax.shard_map with in_specs of PartitionSpec()",
        )
    return canonical
