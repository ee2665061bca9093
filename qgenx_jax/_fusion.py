"""Where XLA's fusion has to stop."""

from collections.abc import Callable
from typing import Any

import jax
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
