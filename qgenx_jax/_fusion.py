"""Where XLA's fusion has to stop, and how vectors are joined and cut beside it."""

import collections
import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata

MOST = 2**32
"""Coordinates of a vector that offsets of 32 bits do not reach."""


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


@functools.partial(jax.jit, static_argnums=(1, 2))
def cut(
    vector: Any, shapes: tuple[tuple[int, ...], ...], joint: int | None = None
) -> list[Any]:
    """A flat vector's leaves: neighbouring runs of it in these shapes.

    XLA fuses cuts into the loops that use the leaves. An offset that is written into a
    loop makes it differ from all others, and a loop takes LLVM a hundredth of a second:
    Adam has three for each leaf. Of loops that are equal XLA on CPUs compiles one. So
    there leaves of one shape are cut at offsets known only at run time. Still fused, it
    costs no copy.

    Args:
        vector: of shape (n,).
        shapes: of the leaves, whose sizes add up to n.
        joint: where a vector is cut that was concatenated of two. XLA sees through
            slices of a concatenation which have one side of it, and of nothing else. A
            leaf that has both is copied, on CPUs: what is fused with a concatenation
            asks for every element where it comes from.
    """
    sizes = [math.prod(shape) for shape in shapes]
    ends = list(itertools.accumulate(sizes))
    starts = [end - size for end, size in zip(ends, sizes, strict=True)]
    if joint is None or vector.size >= MOST:
        joint = vector.size
    before = lax.slice_in_dim(vector, 0, joint)
    runs = enumerate(zip(starts, ends, strict=True))
    inside = [index for index, (start, end) in runs if start < end <= joint < MOST]
    # a shape that occurs once has no loop to share
    count = collections.Counter(shapes[index] for index in inside)
    shared = [index for index in inside if count[shapes[index]] > 1]
    known_late = _at_run_time([starts[index] for index in shared], before)
    offsets = dict(zip(shared, known_late, strict=True))
    leaves = []
    for index, (start, end) in enumerate(zip(starts, ends, strict=True)):
        if index in offsets:
            leaf = lax.dynamic_slice(before, (offsets[index],), (end - start,))
        elif start < joint < end:
            sides = before[start:], lax.slice_in_dim(vector, joint, end)
            leaf = apart(lambda *sides: jnp.concatenate(sides), *sides)
        else:
            leaf = lax.slice_in_dim(vector, start, end)
        leaves.append(leaf.reshape(shapes[index]))
    return leaves


def _at_run_time(numbers: Sequence[int], vector: Any) -> Sequence[Any]:
    """Whole numbers as scalars that XLA on CPUs does not know; as they are elsewhere.

    What a call returns that is not inlined. XLA evaluates calls of constants, hence the
    argument that is none, a number of a vector; and JAX hands on what is returned as it
    came, hence the barrier.
    """

    def hide(*args: Any) -> Any:
        return lax.optimization_barrier(args)[1:]

    def call(*args: Any) -> Any:
        with set_xla_metadata(inlineable="false"):
            return jax.jit(hide)(*args)

    def known(_: Any, *scalars: Any) -> Any:
        return scalars

    if not numbers:
        return []
    first = lax.slice_in_dim(vector, 0, 1)
    scalars = [jnp.uint32(number) for number in numbers]
    axes = tuple(jax.typeof(first).mat.varying)
    if axes:  # a barrier's results vary over what any of its arguments vary over
        scalars = lax.pcast(scalars, axes, to="varying")
    return lax.platform_dependent(first, *scalars, cpu=call, default=known)
