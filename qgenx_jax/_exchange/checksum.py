"""Four bytes at the end of each message, by which who receives it knows it again.

    checksum = k c + sum over i of mix(mix(w_i + 1) ^ (i c))    mod 2^32, c odd

of worker k's bytes, w_i four of them. As mixing is one-to-one, a message with other
bits in one w_i, or in the checksum, never fits; any other one does with probability
2^-32.

What one worker receives may be damaged where the others receive it well. So after the
last phase all tell each other whether all has fitted: they decide alike.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from qgenx_jax._codec import packing
from qgenx_jax._types import Array, AxisName
from qgenx_jax._workers import axes, collectives
from qgenx_jax._workers.replicas import fingerprint

N_BYTES = 4
"""Of a checksum, and of what a worker tells the others at the end."""
_OF_A_WORKER = np.uint32(0x9E3779B9)
"""c: no two workers' messages fit in one another's place."""


def sealed(rows: Array, axis_name: AxisName) -> Array:
    """Messages with their checksums: uint8 (..., bytes) to (..., bytes + 4)."""
    sums = _sums(rows, axes.axis_index(axis_name))
    return jnp.concatenate([rows, sums], axis=-1)


def opened(arrived: Array) -> tuple[Array, Array]:
    """Messages (K, bytes) of (K, bytes + 4), row k from worker k; whether all fit."""
    rows = arrived[:, :-N_BYTES]
    found = jax.vmap(_sums)(rows, jnp.arange(rows.shape[0]))
    return rows, (found == arrived[:, -N_BYTES:]).all()


def fit_everywhere(fits: Sequence[Array], axis_name: AxisName) -> Array:
    """Whether all fit on all workers, and on all shards of a model; alike on all.

    A worker says one of two words that differ in all bits, other ones than those of any
    other worker: no damage to what it says makes a no a yes.
    """
    mine = jnp.stack(list(fits)).all()
    yes = _words(axes.axis_index(axis_name))
    said = packing.to_bytes(jnp.where(mine, yes, ~yes))
    said = axes.vary_over(said, axes.tracked(axis_name))
    heard = collectives.gather(said, axis_name)  # (K, 4)
    expected = jax.vmap(packing.to_bytes)(_words(jnp.arange(heard.shape[0])))
    good = (heard == expected).all()
    names = axis_name if isinstance(axis_name, tuple) else (axis_name,)
    others = axes.in_order(axes.by_hand().difference(names))
    if not others:
        return good
    good = axes.vary_over(good, axes.tracked(others))
    return collectives.all_reduce(jnp.int32(~good), others) == 0


def spoiled(good: Array, x: Array) -> Array:
    """The floating-point array, or NaN; others as they are."""
    is_float = jnp.issubdtype(x.dtype, jnp.floating)
    return jnp.where(good, x, jnp.asarray(jnp.nan, x.dtype)) if is_float else x


def _words(workers: Array) -> Array:
    return (workers.astype(jnp.uint32) + 1) * _OF_A_WORKER


def _sums(rows: Array, worker: Array) -> Array:
    """The checksums (..., 4) of a worker's messages (..., bytes)."""
    missing = -rows.shape[-1] % N_BYTES
    padding = [(0, 0)] * (rows.ndim - 1) + [(0, missing)]
    words = jnp.pad(rows, padding).reshape(*rows.shape[:-1], -1, N_BYTES)
    words = jax.lax.bitcast_convert_type(words, jnp.uint32)
    of_each = jnp.vectorize(fingerprint, signature="(n)->()")(words)
    total = of_each + _words(worker)
    return jax.lax.bitcast_convert_type(total, jnp.uint8)
