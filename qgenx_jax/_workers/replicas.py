"""Whether copies that are to be equal are equal, to the last bit."""

import functools
import zlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from qgenx_jax import _checks
from qgenx_jax._types import Array, AxisName
from qgenx_jax._workers import axes, collectives
from qgenx_jax._workers.failures import Differing, ExchangeError

_NONE = np.uint32(0xFFFFFFFF)
"""No leaf, or no worker."""


class Drift(NamedTuple):
    """Where copies differ, from `check_replicas(tree, axis_name, where=True)`.

    Attributes:
        leaf: the first leaf whose copies differ, its number in `jax.tree.leaves(tree)`,
            int32 (); -1 where all are equal.
        worker: the odd one, of whose copy of that leaf there are no more than half,
            where more than half of the workers have equal ones, int32 (); -1 where all
            are equal or no such majority is, as with K = 2. The first, if several are.
    """

    leaf: Array
    worker: Array

    @property
    def agrees(self) -> Array:
        """Whether all copies are equal, bool ()."""
        return self.leaf < 0

    def raise_for(self, tree: Any) -> None:
        """Outside of compiled functions: raises where copies differ.

        Args:
            tree: as it was checked, or its structure with any leaves.

        Raises:
            ExchangeError: a ValueError, too; with the leaf's path and the odd worker.
            ValueError: for a tree that has no such leaf.
        """
        leaf, worker = int(self.leaf), int(self.worker)
        if leaf < 0:
            return
        with_path = jax.tree_util.tree_leaves_with_path(tree)
        if leaf >= len(with_path):
            rule = f"must be the tree that was checked, whose leaf {leaf} differs"
            found = _checks.Text(f"one of {len(with_path)} leaves")
            raise _checks.refuse("tree", rule, found, "pass what was given there")
        path, _ = with_path[leaf]
        odd = f"; the odd one is worker {worker}" if worker >= 0 else ""
        raise _differing(path, f"different ones{odd}")


def check_replicas(
    tree: Any, axis_name: AxisName = None, *, where: bool = False
) -> bool | Array | Drift:
    """Checks that a tree is equal on all workers, to the last bit.

    Where JAX tracks what varies it has shown so before anything ran. Copies may drift
    with `check_vma=False`, where hosts read different files or draw different numbers,
    and by a faulty chip. Compared are 32 bits of each leaf, which costs a reading of it
    and, inside, one all-gather of 4 bytes for each leaf: cheap enough for every
    hundredth step. Copies that differ in one word of 4 bytes are always found out,
    others but for one case in 2^32.

    Args:
        tree: parameters and state, say. What lies below `per_worker` may differ.
        axis_name: inside a function mapped over workers their axis, or a tuple of axes.
            None outside: then all copies of whatever `NamedSharding`s say is replicated
            are compared, on all processes, and of other arrays those of the processes.
            All processes have to call it.
        where: inside, whether to say which leaf differs, and on which worker.

    Returns:
        True outside, where it raises otherwise. Inside a truth value, equal on all
        workers, to be returned by the step, or to spoil what it returns:
        `jnp.where(qgenx.check_replicas(params, "data"), loss, jnp.nan)`; with
        where=True a `Drift`, equal on all workers, too, whose `raise_for` is called on
        what the step has returned.

    Raises:
        ExchangeError: outside, a ValueError, too, with the path of the first leaf whose
            copies differ, where they are, and the odd one where most are equal.
        ValueError: if the axis is not bound, or missing inside a compiled function;
            for where=True outside.

    Example:
        >>> import jax, jax.numpy as jnp, qgenx_jax as qgenx
        >>> qgenx.check_replicas({"kernel": jnp.ones((4, 4))})
        True
        >>> agree = lambda x: qgenx.check_replicas(x, "data")
        >>> jax.vmap(agree, axis_name="data")(jnp.array([1.0, 1.0, 1.5]))
        Array([False, False, False], dtype=bool)
        >>> tree = {"bias": jnp.zeros(3), "kernel": jnp.array([1.0, 1.0, 1.5])}
        >>> look = lambda tree: qgenx.check_replicas(tree, "data", where=True)
        >>> drift = jax.vmap(look, axis_name="data", out_axes=None)(tree)
        >>> drift.raise_for(tree)
        Traceback (most recent call last):
        ...
        qgenx_jax._workers.failures.Differing: leaf ['kernel'] of tree must be equal \
wherever there is a copy of it, got different ones; the odd one is worker 2: ...
    """
    if axis_name is not None:
        drift = _drift(tree, axis_name)
        return drift if where else drift.agrees
    with_path = jax.tree_util.tree_leaves_with_path(tree)
    if any(isinstance(leaf, Tracer) for _, leaf in with_path):
        raise _checks.refuse(
            "axis_name",
            "must be given inside a compiled function",
            None,
            'pass that of the workers, for instance "data", or check what the compiled '
            "function returns",
        )
    if where:
        rule = "must be left out without an axis_name, where what differs is raised"
        raise _checks.refuse("where", rule, where, "leave it out")
    with ExchangeError.naming():
        jax.block_until_ready(tree)
        copies = _copies(with_path)
    for (path, _), holders in zip(with_path, copies, strict=True):
        if len(holders) > 1:
            places = " | ".join(map(_listed, holders))
            few, *_, most = sorted(holders, key=len)
            is_odd = 2 * len(most) > sum(map(len, holders))
            odd = f"; the odd one is {_listed(few)}" if is_odd else ""
            different = f"{len(holders)} different ones, on {places}{odd}"
            raise _differing(path, different)
    return True


def _differing(path: tuple[Any, ...], found: str) -> Differing:
    refusal = _checks.refuse(
        _checks.leaf_name(path, "tree"),
        "must be equal wherever there is a copy of it",
        _checks.Text(found),
        "leave check_vma of jax.shard_map on, which finds what makes them "
        "differ, and give all processes the same seed and files; "
        "jax.device_put(jax.device_get(x), x.sharding) takes one of the copies",
    )
    return Differing(*refusal.args)


def _listed(who: Sequence[Any]) -> str:
    """Those who hold the same, the first of them."""
    rest = f" and {len(who) - 4} more" if len(who) > 4 else ""
    return ", ".join(map(str, who[:4])) + rest


def _drift(tree: Any, axis_name: AxisName) -> Drift:
    """Where leaves differ along an axis, equal on all workers and shards."""
    _checks.axis_name(axis_name)
    axes.axis_size(axis_name)
    with_path = jax.tree_util.tree_leaves_with_path(tree)
    of = [i for i, (path, _) in enumerate(with_path) if not axes.is_per_worker(path)]
    if not of:
        return Drift(jnp.int32(-1), jnp.int32(-1))
    found = jnp.stack([fingerprint(with_path[i][1]) for i in of])
    found = axes.vary_over(found, axes.tracked(axis_name))
    table = collectives.gather(found, axis_name)  # (K, leaves)
    differ = (table != table[:1]).any(axis=0)
    first = jnp.argmax(differ)
    leaf = jnp.where(differ.any(), jnp.asarray(of, jnp.uint32)[first], _NONE)
    copies = table[:, first]
    alike = (copies[:, None] == copies[None, :]).sum(axis=1)  # (K,)
    is_odd = (2 * alike <= len(copies)) & (2 * alike.max() > len(copies))
    worker = jnp.where(is_odd.any(), jnp.argmax(is_odd).astype(jnp.uint32), _NONE)
    others = axes.in_order(axes.varying(leaf))
    if others:  # shards of a model: the first leaf of any, and who is odd there
        here, (leaf, _) = leaf, collectives.extremes(leaf, others)
        worker = jnp.where(here == leaf, worker, _NONE)
        worker, _ = collectives.extremes(worker, others)
    # the largest uint32 is -1 as an int32
    return Drift(*(jax.lax.bitcast_convert_type(x, jnp.int32) for x in (leaf, worker)))


def _copies(with_path: Sequence[tuple[Any, Any]]) -> list[list[list[Any]]]:
    """For each leaf those who hold equal copies, of the first shard that has others."""
    leaves = [leaf for _, leaf in with_path]
    holders: list[dict[str, dict[int, list[Any]]]] = [{} for _ in leaves]

    def add(leaf: int, shard: Any, bits: Any, who: Any) -> None:
        holders[leaf].setdefault(str(shard), {}).setdefault(int(bits), []).append(who)

    meshes: dict[Mesh, list[int]] = {}
    alone = []
    for i, leaf in enumerate(leaves):
        sharding = getattr(leaf, "sharding", None)
        if not isinstance(sharding, NamedSharding):
            alone.append(i)
        elif isinstance(sharding.mesh, Mesh) and sharding.mesh.size > 1:
            meshes.setdefault(sharding.mesh, []).append(i)
    for mesh, of in meshes.items():
        table = _on_devices(mesh, [leaves[i] for i in of])
        for i, bits in zip(of, table.T, strict=True):
            where = leaves[i].sharding.devices_indices_map(leaves[i].shape)
            for device, x in zip(mesh.devices.flat, bits, strict=True):
                add(i, where[device], x, device)
    alone = [i for i in alone if not axes.is_per_worker(with_path[i][0])]
    if alone and jax.process_count() > 1:
        table = _on_hosts([leaves[i] for i in alone])
        for process, bits in enumerate(table):
            for i, x in zip(alone, bits, strict=True):
                add(i, "all of it", x, f"process {process}")
    return [_first_that_differ(shards.values()) for shards in holders]


def _first_that_differ(shards: Iterable[dict[int, list[Any]]]) -> list[list[Any]]:
    groups = ([*copies.values()] for copies in shards)
    return next((found for found in groups if len(found) > 1), [])


def _on_devices(mesh: Mesh, leaves: Sequence[Any]) -> np.ndarray:
    """Fingerprints of what each device of a mesh holds, (devices, leaves)."""
    read = _reader(mesh, tuple(leaf.sharding.spec for leaf in leaves))
    (shard, *_) = read(*leaves).addressable_shards
    return np.asarray(shard.data)


@functools.lru_cache(maxsize=8)
def _reader(mesh: Mesh, specs: tuple[PartitionSpec, ...]) -> Any:
    def read(*leaves: Array) -> Array:
        found = jnp.stack([fingerprint(leaf) for leaf in leaves])
        return collectives.gather(found, mesh.axis_names)

    everywhere = PartitionSpec()
    return jax.jit(
        jax.shard_map(
            read, mesh=mesh, in_specs=specs, out_specs=everywhere, check_vma=False
        )
    )


def _on_hosts(leaves: Sequence[Any]) -> np.ndarray:
    """Fingerprints of what each process holds, (processes, leaves)."""
    plain = [jax.random.key_data(x) if _is_key(x) else x for x in leaves]
    found = [zlib.crc32(np.ascontiguousarray(np.asarray(x)).tobytes()) for x in plain]
    mine = np.asarray(found, np.uint32)
    return np.asarray(multihost_utils.process_allgather(mine))


def fingerprint(x: Any) -> Array:
    """32 bits, of all bits of an array and where they stand, uint32."""
    words = _words(jnp.asarray(x)).ravel()
    places = jax.lax.iota(jnp.uint32, words.size) * np.uint32(0x9E3779B9)
    return jnp.sum(_mixed(_mixed(words + np.uint32(1)) ^ places), dtype=jnp.uint32)


def _mixed(x: Array) -> Array:
    """A bijection of 32 bits: the last steps of MurmurHash3."""
    x = (x ^ (x >> 16)) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * np.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


def _is_key(x: Any) -> bool:
    dtype = getattr(x, "dtype", None)
    return dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)


def _words(x: Array) -> Array:
    """An array's bits as uint32, narrow ones widened."""
    if _is_key(x):
        x = jax.random.key_data(x)
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        x = jnp.stack([x.real, x.imag])
    if jax.dtypes.itemsize_bits(x.dtype) < 8 or x.dtype == bool:
        x = x.astype(jnp.float32)  # which has all of their values
    kind = {1: jnp.uint8, 2: jnp.uint16}.get(x.dtype.itemsize, jnp.uint32)
    return jax.lax.bitcast_convert_type(x, kind).astype(jnp.uint32)
