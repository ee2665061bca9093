"""The quantizers that a plan chooses from."""

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from qgenx_jax import _checks
from qgenx_jax._adapt import bends
from qgenx_jax._adapt.fit import fit_levels
from qgenx_jax._codec.quantizer import Quantizer

Make: TypeAlias = Callable[[int, list[np.ndarray]], Quantizer | None]
"""A quantizer of so many bits, for flat vectors like these; None if there is none."""
WIDTHS = range(1, 9)
NAMES = ("uniform", "fitted", "dithered")


def candidates_of(
    candidates: str | Sequence[Quantizer | None] | Make,
    bucket_size: int | None,
    norm: float,
    scale_bits: int,
) -> tuple[Make | None, list[Quantizer | None] | None]:
    """How they are made of vectors, or those that are the same for all."""

    def equal_steps(bits: int, vectors: list[np.ndarray]) -> Quantizer:
        del vectors
        return Quantizer("uniform", bits, norm, bucket_size, scale_bits=scale_bits)

    def fitted(bits: int, vectors: list[np.ndarray]) -> Quantizer:
        if bits == 1:
            return equal_steps(bits, vectors)
        # on the host: to compile a solver for each width takes longer than all the rest
        buckets: dict[str, Any] = {"bucket_size": bucket_size, "norm": norm}
        levels = fit_levels(vectors, bits, method="optimal", zero=False, **buckets)
        table = tuple(map(float, np.asarray(levels)))
        shape = bits, norm, bucket_size, table
        return Quantizer("levels_without_zero", *shape, scale_bits=scale_bits)

    summed: dict[tuple[int, ...], np.ndarray] = {}

    def dithers(bits: int, vectors: list[np.ndarray]) -> Quantizer:
        known = tuple(id(x) for x in vectors)
        if known not in summed:
            summed.clear()  # of the vectors of one unit, asked for width by width
            summed[known] = bends.masses(vectors, bucket_size)
        table = (bends.bend_of(summed[known], bits),)
        shape = bits, norm, bucket_size, table
        return Quantizer("dithered", *shape, scale_bits=scale_bits)

    if isinstance(candidates, str):
        named = _checks.one_of("candidates", candidates, NAMES)
        if named == NAMES[2] and norm != math.inf:
            rule = 'must be infinity for the candidates "dithered"'
            raise _checks.refuse("norm", rule, norm, 'leave it out, or take "fitted"')
        made = {"fitted": fitted, "dithered": dithers}.get(named)
        return (None, made_of(equal_steps, [])) if made is None else (made, None)
    if callable(candidates):
        return candidates, None
    way_out = 'pass "uniform", "fitted", "dithered", or a list of quantizers'
    if not isinstance(candidates, Sequence) or not candidates:
        rule = "must be a name, a function or a sequence of quantizers"
        raise _checks.refuse("candidates", rule, candidates, way_out)
    return None, [checked(x) for x in dict.fromkeys(candidates)]


def made_of(make: Any, vectors: list[np.ndarray]) -> list[Quantizer | None]:
    """One of each number of bits, and exact."""
    return [*(checked(make(bits, vectors)) for bits in WIDTHS), None]


def checked(x: Any) -> Quantizer | None:
    """A quantizer, or None for exact.

    Raises:
        ValueError: for anything else.
    """
    if x is None or isinstance(x, Quantizer):
        return x
    rule, way_out = "must be quantizers, or None for exact", "make one by uniform(4)"
    raise _checks.refuse("candidates", rule, x, way_out)
