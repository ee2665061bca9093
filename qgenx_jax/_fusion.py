"""Where XLA's fusion has to stop, and how vectors are put together without one."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata


def apart(function: Callable[..., Any], *args: Any) -> Any:
    """function(*args), on CPUs compiled apart from what comes before and after.

    Codecs work on rows of buckets, and what surrounds them on flat vectors or on
    leaves. XLA on CPUs fuses the two, runs the codec in the loops of the surroundings,
    and then computes a row and a column for every element: 3 to 6 times slower than
    loops over rows, which LLVM vectorizes. `lax.optimization_barrier` does not help,
    it is gone before fusion; a call that must not be inlined does. Where there are
    threads by the million, fusion is what one wants, and nothing is done.

    To be called under jit: on its own it compiles anew at each call.

    Args:
        function: of arrays, or of trees of them, to the same.
        args: passed on.
    """

    def inside(*args: Any) -> Any:
        # said aloud, as the calls in it would inherit what is said about the outer one
        with set_xla_metadata(inlineable="true"):
            return function(*args)

    def call(*args: Any) -> Any:
        with set_xla_metadata(inlineable="false"):
            return jax.jit(inside)(*args)

    return lax.platform_dependent(*args, cpu=call, default=function)


def joined(parts: Sequence[Any], dtype: np.dtype | str) -> Any:
    """Flat parts, the first one long and the others short, as one vector.

    For floats that were just computed: to concatenate a long and a short vector takes
    XLA on CPUs up to three times as long as to copy them, so there the first part is
    padded, and the others are written into the padding. Not for bytes, which
    concatenate faster, nor for a vector that is cut again: XLA sees through slices of a
    concatenation, and of nothing else.

    Args:
        parts: of this dtype, each of shape (any,).
        dtype: of the result, also where there is no part.
    """

    def at_once(parts: Sequence[Any]) -> Any:
        return jnp.concatenate(parts)

    def one_by_one(parts: Sequence[Any]) -> Any:
        first, *others = parts
        whole = jnp.pad(first, (0, sum(other.size for other in others)))
        start = first.size
        for other in others:
            whole = lax.dynamic_update_slice(whole, other, (start,))
            start += other.size
        return whole

    parts = [part for part in parts if part.size]
    if len(parts) < 2:
        return parts[0] if parts else jnp.zeros(0, dtype)
    return lax.platform_dependent(parts, cpu=one_by_one, default=at_once)
