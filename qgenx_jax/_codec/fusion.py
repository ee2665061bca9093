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
    pieces: Sequence[Any], shapes: tuple[tuple[int, ...], ...], dtype: np.dtype | str
) -> list[Any]:
    """A vector's leaves: neighbouring runs of it in these shapes.

    XLA fuses cuts into the loops that use the leaves. An offset that is written into a
    loop makes it differ from all others, and a loop takes LLVM a hundredth of a second:
    Adam has three for each leaf. Of loops that are equal XLA on CPUs compiles one. So
    there leaves of one shape are cut at offsets known only at run time. Still fused, it
    costs no copy.

    Args:
        pieces: flat arrays that make up the vector, one after the other: a long one,
            and perhaps a short one. A leaf that has some of both is copied, on CPUs:
            what is fused with a concatenation asks for every element where it is from.
        shapes: of the leaves, whose sizes add up to that of the vector.
        dtype: of the vector, also where there is no piece.
    """
    if len(shapes) == 1:
        return [joined(pieces, dtype).reshape(shapes[0])]
    sizes = [math.prod(shape) for shape in shapes]
    ends = list(itertools.accumulate(sizes))
    starts = [end - size for end, size in zip(ends, sizes, strict=True)]
    first = pieces[0] if pieces else jnp.zeros(0, dtype)
    # a shape that occurs once has no loop to share
    runs = enumerate(zip(starts, ends, strict=True))
    inside = [i for i, (start, end) in runs if start < end <= first.size < MOST]
    count = collections.Counter(shapes[i] for i in inside)
    shared = [i for i in inside if count[shapes[i]] > 1]
    known_late = _at_run_time([starts[i] for i in shared], first)
    offsets = dict(zip(shared, known_late, strict=True))
    leaves = []
    for index, (start, end) in enumerate(zip(starts, ends, strict=True)):
        if index in offsets:
            leaf = lax.dynamic_slice(first, (offsets[index],), (end - start,))
        else:
            sides = _between(pieces, start, end)
            leaf = sides[0] if sides else jnp.zeros(0, dtype)
            if len(sides) > 1:
                leaf = apart(lambda *sides: jnp.concatenate(sides), *sides)
        leaves.append(leaf.reshape(shapes[index]))
    return leaves


def _between(pieces: Sequence[Any], start: int, end: int) -> list[Any]:
    """What the pieces of a vector have of its coordinates from start to end."""
    found, before = [], 0
    for piece in pieces:
        low, high = max(start - before, 0), min(end - before, piece.size)
        if low < high:
            found.append(lax.slice_in_dim(piece, low, high))
        before += piece.size
    return found


def _at_run_time(numbers: Sequence[int], vector: Any) -> Sequence[Any]:
    """Whole numbers as scalars that XLA on CPUs does not know; as they are elsewhere.

    They are what a call returns that is not inlined. XLA evaluates calls of constants,
    hence the argument that is none, a number of a vector; and JAX hands on what is
    returned as it came, hence the barrier.
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
    one = lax.slice_in_dim(vector, 0, 1)
    scalars = [jnp.uint32(number) for number in numbers]
    axes = tuple(jax.typeof(one).mat.varying)
    if axes:  # a barrier's results vary over what any of its arguments vary over
        scalars = lax.pcast(scalars, axes, to="varying")
    return lax.platform_dependent(one, *scalars, cpu=call, default=known)
