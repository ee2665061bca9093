"""Levels that are fitted, while training goes on, to what is sent."""

import math
from collections.abc import Sequence

from qgenx_jax import _checks
from qgenx_jax._codec import schedule
from qgenx_jax._codec.families.with_levels import NAMES, shape_of
from qgenx_jax._codec.levels import OVER_RANGE, RANGE, SIGNED, Shape, check_levels
from qgenx_jax._codec.quantizer import Quantizer


def adaptive(
    bits: int = 4,
    *,
    adapt: int | Sequence[int] | None = None,
    zero: bool = False,
    signed: bool = False,
    levels: Sequence[float] | None = None,
    method: str = "newton",
    law: str = "histogram",
    norm: float | str = math.inf,
    bucket_size: int | None = 1024,
    scale_bits: int = 32,
) -> Quantizer:
    """Levels of least expected variance, fitted to the dual vectors: algorithm 1.

    Before certain exchanges each worker sums up its own vector (weighted statistics of
    its normalised coordinates), the sums are added over workers, and all compute the
    same levels from them, which minimise the total variance of quantization

        sum_j int_{l_j}^{l_{j+1}} (l_{j+1} - u)(u - l_j) dF(u)

    with F the law of u = |v_i| / ||v||_q over all buckets v of all workers, each
    weighted by its coordinates times ||v||_q^2; with norm="range" u is the place
    (v_i - min v) / (max v - min v), and max v - min v stands for ||v||_q. It happens
    inside the jitted step: nothing is recompiled, and the other exchanges pay nothing.
    Where nothing can be learned (vectors of zeros, not finite), or nothing better is
    found, levels stay. Given the levels the quantizer is unbiased, as with any others.

    Args:
        bits: per coordinate, sign included; 1 to 8, of which 1 without zero, and 2 with
            it, leave nothing to fit, and are refused.
        adapt: before which exchanges, counted from 0: a sequence of their numbers, or
            one number n for 0, n, 2n, ...; None for 0, 200, 1000, 5000, and then every
            10,000, as in the paper's program. A method with two exchanges an iteration
            counts both.
        zero: whether zero is a level always, so that zeros stay zeros (padding, sparse
            vectors, coordinate sampling), of 2^bits - 1 levels; else 2^bits levels
            without zero, which at 4 bits have 0.9 times the variance, at 3 bits 0.7
            and at 2 bits 0.4 (normal coordinates).
        signed: levels of positive and negative coordinates apart, for vectors that are
            one-sided; slower, and no better for others. norm="range" is better still.
        levels: what to begin with, as `user_levels` takes them; None for equal steps.
        method: from several starts, of which the best is kept, "newton", Newton's
            method; "coordinate" or "gradient" descent, finished by it; "amq", geometric
            levels.
        law: "histogram", 1024 bins, or "normal", truncated normals of the buckets'
            means and variances: the sufficient statistics.
        norm: q, one of 1, 2 and infinity; or "range", 2^bits levels from a bucket's
            minimum to its maximum, neither of which a bucket of one sign wastes.
        bucket_size: coordinates that share one norm, or minimum and range, 8 bytes;
            None for one bucket.
        scale_bits: of that norm on the wire, 32 or 16, as in `uniform`; 32 of a range.

    Returns:
        The quantizer. An exchange's state holds its levels (`ExchangeState.levels`) and
        what is known of them (`ExchangeState.adaptation`).

    Raises:
        ValueError: for values outside these ranges.

    Example:
        >>> import jax, qgenx_jax as qgenx
        >>> exchange = qgenx.exchange(None, qgenx.adaptive(bits=3))
        >>> vector = jax.random.normal(jax.random.key(0), (4096,))
        >>> _, state = exchange.mean(vector, exchange.init())
        >>> [round(float(level), 1) for level in state.levels["all"]]  # not 1/7, 3/7
        [0.1, 0.3, 0.5, 1.0]

    References:
        Ramezani-Kebrya et al., Distributed Extra-gradient with Optimal Complexity and
        Communication Guarantees, ICLR 2023, algorithm 1; Faghri et al., Adaptive
        Gradient Quantization for Data-Parallel SGD, NeurIPS 2020.
    """
    _checks.instance_of("zero", zero, bool, "pass a bool")
    _checks.instance_of("signed", signed, bool, "pass a bool")
    if signed and zero:
        way_out = "leave one out: signed levels have none that stays"
        raise _checks.refuse("zero", "must be False for signed levels", zero, way_out)
    shape = SIGNED if signed else Shape(zero=zero)
    if isinstance(norm, str) and norm == RANGE:
        if signed or zero:
            name = "signed" if signed else "zero"
            rule, way_out = 'must be False with norm="range"', "leave it out"
            raise _checks.refuse(name, rule, True, way_out)
        shape = OVER_RANGE
    bits = _checks.whole_number("bits", bits, 1, 8)
    if bits < (3 if zero else 2):
        ends = "-1, 0 and 1" if zero and bits == 2 else "-1 and 1"
        ends = "minimum and maximum" if shape.ranged else ends
        same = "min_max" if shape.ranged else "uniform"
        raise _checks.refuse(
            "bits",
            f"must be at least {3 if zero else 2}, or there are but {ends}",
            bits,
            f"use {same}({bits}), which has the same levels",
        )
    if levels is None:
        levels = shape.equal(bits)
    elif shape_of(levels, zero, norm) != shape:
        begin = "begin" if signed else "not begin"
        rule = f"must {begin} with -1 where signed={signed}"
        raise _checks.refuse("levels", rule, levels, "give signed=, or other levels")
    checked = check_levels(levels, shape)
    if len(checked) != shape.most(bits):
        rule = f"must be {shape.most(bits)} for {bits} bits"
        way_out = "levels that are fitted keep their number"
        raise _checks.refuse("levels", rule, f"{len(checked)} levels", way_out)
    return Quantizer(
        NAMES[shape],
        bits,
        norm,
        bucket_size,
        checked,
        schedule.refresh(adapt, method, law),
        scale_bits,
    )
