"""Exchanges run on a mesh, of vectors made for it, and what came of them."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from qgenx_jax._exchange.exchange import Exchange
from qgenx_jax._exchange.state import ExchangeState
from qgenx_jax._types import Array
from qgenx_jax._workers import axes
from qgenx_jax._workers.pacing import told
from qgenx_jax._workers.replicas import fingerprint


class Trials(NamedTuple):
    """What T exchanges gave, on the host.

    Attributes:
        errors: of the mean, float32 (T, d).
        scale: ||exact mean||^2.
        prints: a fingerprint of each worker's mean, (T, K).
        products: see `verdicts.apart`, (T,); None where no own vector is known.
    """

    errors: np.ndarray
    scale: float
    prints: np.ndarray
    products: np.ndarray | None


def vectors(workers: int, like: Any, seed: int, *, equal: bool) -> np.ndarray:
    """One for each worker, (K, d): heavy tails, and scales that differ by leaf."""
    rng = np.random.default_rng(seed)
    parts = []
    for number, leaf in enumerate(jax.tree.leaves(like)):
        shape = (1 if equal else workers, int(np.prod(jnp.shape(leaf))))
        tails = rng.normal(size=shape) * np.exp(0.5 * rng.normal(size=shape))
        parts.append(tails * 10.0 ** (number % 3 - 1))
    found = np.concatenate(parts, axis=1).astype(np.float32)
    return np.repeat(found, workers, axis=0) if equal else found


def placed(rows: np.ndarray, mesh: Mesh | None, axis_name: Any) -> Array:
    """Rows, each on its worker, in however many processes."""
    if mesh is None:
        return jnp.asarray(rows)
    sharding = NamedSharding(mesh, PartitionSpec(axis_name))
    return jax.make_array_from_callback(rows.shape, sharding, lambda at: rows[at])


def mapped(run: Any, exchange: Exchange, mesh: Mesh | None, n_shared: int) -> Any:
    """`run(row, *shared)`, on each worker, to a row for each; compiled."""
    if mesh is None:  # one worker, for whom no axis is bound
        lane = lambda rows, *shared: run(rows[0], *shared)[None]  # noqa: E731
        return jax.jit(lane)
    over, everywhere = PartitionSpec(exchange.axis_name), PartitionSpec()
    # nothing is tracked: what is broken is to run, and to be found
    on_each = jax.shard_map(
        lambda rows, *shared: run(rows[0], *shared)[None],
        mesh=mesh,
        in_specs=(over, *[everywhere] * n_shared),
        out_specs=over,
        check_vma=False,
    )
    return told(jax.jit(on_each), mesh)


def tree_of(flat: Array, like: Any) -> Any:
    """A tree like another one, of a flat vector."""
    leaves, structure = jax.tree.flatten(like)
    found, start = [], 0
    for leaf in leaves:
        shape, size = jnp.shape(leaf), int(np.prod(jnp.shape(leaf)))
        piece = flat[start : start + size].reshape(shape)
        found.append(piece.astype(jnp.result_type(leaf)))
        start += size
    return jax.tree.unflatten(structure, found)


def _flat(tree: Any) -> Array:
    leaves = [x.astype(jnp.float32).reshape(-1) for x in jax.tree.leaves(tree)]
    return jnp.concatenate(leaves)


def trials(
    exchange: Exchange,
    mesh: Mesh | None,
    like: Any,
    draws: int,
    seed: int,
    *,
    equal: bool,
) -> Trials:
    """T exchanges of the same vectors, one after the other, by the keys of the states.

    Args:
        exchange: over an axis of the mesh.
        mesh: with that axis; None for one worker.
        like: the tree to exchange, or its shapes and dtypes.
        draws: T.
        seed: of the vectors.
        equal: whether all workers have the same.
    """
    sizes = [1] if mesh is None else [mesh.shape[n] for n in _names(exchange)]
    workers = int(np.prod(sizes))
    rows = vectors(workers, like, seed, equal=equal)
    # as leaves of few digits hold them
    held = np.stack([np.asarray(_flat(tree_of(jnp.asarray(r), like))) for r in rows])
    keeps_own = exchange.collective != "hierarchical"

    def one(row: Array, state: ExchangeState) -> tuple:
        tree = tree_of(row, like)
        if keeps_own:
            (mean, own, _), state = exchange.send(tree, state)
        else:
            (mean, state), own = exchange.mean(tree, state), tree
        found = fingerprint(_flat(mean))
        number = axes.axis_index(exchange.axis_name)
        # one vector of floats, with both halves of the fingerprint at its end
        tail = jnp.stack([found >> 16, found & 0xFFFF]).astype(jnp.float32)
        first = jnp.where(number == 0, _flat(mean), 0)
        return jnp.concatenate([first, _flat(own) - _flat(tree), tail]), state

    def run(row: Array, state: ExchangeState) -> Array:
        return one(row, state)[0]

    step = mapped(run, exchange, mesh, 1)
    after = jax.jit(lambda state, key: state._replace(key=key))
    state, exact = exchange.init(), held.mean(axis=0, dtype=np.float64)
    given = placed(rows, mesh, exchange.axis_name)
    keys = jax.random.split(jax.random.key(seed), draws)
    words = [_like_key(key, state) for key in keys]
    errors, prints, products, size = [], [], [], rows.shape[1]
    for key in words:
        found = _on_host(step(given, after(state, key))).astype(np.float64)
        errors.append((found[0, :size] - exact).astype(np.float32))
        prints.append(found[:, 2 * size] * 2.0**16 + found[:, 2 * size + 1])
        if keeps_own and workers > 1:
            own = found[:, size : 2 * size]
            squares = float((own**2).sum())
            cross = float((own.sum(axis=0) ** 2).sum()) - squares
            products.append(cross / ((workers - 1) * squares) if squares else 0.0)
    scale = float((exact**2).sum())
    return Trials(
        np.stack(errors),
        scale,
        np.stack(prints),
        np.array(products) if products else None,
    )


def _names(exchange: Exchange) -> tuple:
    name = exchange.axis_name
    return name if isinstance(name, tuple) else (name,)


def _like_key(key: Array, state: ExchangeState) -> Array:
    """Words of a key, as many as a state's, whatever its generator."""
    words = jax.random.key_data(key)
    return jnp.resize(words, state.key.shape)


def _on_host(x: Array) -> np.ndarray:
    if x.is_fully_addressable:
        return np.asarray(x)
    return np.asarray(multihost_utils.process_allgather(x, tiled=True))
