"""The exact variance of the mean of K vectors, rounded together or each on its own."""

from typing import Any

import jax.numpy as jnp
from jax import lax

from qgenx_jax import _checks
from qgenx_jax._codec.bits import MOST_STRATA, ROUNDINGS
from qgenx_jax._codec.quantizer import Quantizer
from qgenx_jax._types import Array
from qgenx_jax.bounds import dithers, sent


def mean_variance(
    vectors: Any,
    quantizer: Quantizer,
    *,
    rounding: str = "correlated",
    levels: Array | None = None,
) -> Any:
    """E ||(1/K) sum_k (Q(v_k) - v_k)||_2^2 of each bucket, over all roundings.

    With p_k the probability that coordinate v_k becomes the upper of its two values,
    and g_k their distance, it is

        (1/K^2) (sum_k g_k^2 p_k (1 - p_k) + sum_{j != k} g_j g_k c_jk)

    summed over coordinates. c_jk = 0 for "independent" rounding; for "correlated"

        c_jk = (K p_j p_k - sum_a p_ja p_ka) / (K (K - 1)) <= 0

    with p_ka = clip(K p_k - a, 0, 1), a = 0 .. K - 1: each worker is in a stratum of
    its own (Suresh et al., 2022). So correlated rounding never has the larger variance,
    and of equal vectors at most g^2 / (4 K^2) for a coordinate. Beyond 256 workers
    several are in one of 256 strata, fewer than by chance, and it stays below.

    Of `dithered` vectors, whose workers are turned evenly against each other, it is
    (1/K^2) (sum_k n_k^2 g(s_k) + sum_{j != k} n_j n_k cov), with cov from Bernoulli's
    polynomials (`qgenx_jax.bounds.dithers`), of either sign.

    It is that of `all_gather`, and of the first phase of `reduce_scatter` with buckets
    that lie alike; strata are counted as equal, which they are to K / 2^16.

    Args:
        vectors: (K, d), finite, one for each worker, as `Quantizer.encode` takes one.
        quantizer: one of the library's.
        rounding: "correlated" or "independent", as in `exchange`.
        levels: in place of the quantizer's own, as in `Quantizer.encode`.

    Returns:
        Array (buckets,), in the square of the vectors' unit, as `exact_variance`.

    Raises:
        ValueError: for vectors that are not (K, d), and as `exact_variance` does.

    Example:
        >>> import numpy as np, qgenx_jax as qgenx
        >>> v = np.array([[3.0, 1.0, -1.5]] * 3)  # equal: 3 strata
        >>> one = qgenx.bounds.exact_variance(v[0], qgenx.uniform(2))
        >>> of_mean = qgenx.bounds.mean_variance(v, qgenx.uniform(2))
        >>> one.round(2), of_mean.round(2)  # half and a third in between
        (array([4.25]), array([0.25]))

    References:
        Suresh et al., Correlated Quantization for Distributed Mean Estimation and
        Optimization, ICML 2022.
    """
    _checks.one_of("rounding", rounding, ROUNDINGS)
    shape = jnp.shape(vectors)
    if len(shape) != 2 or not shape[0]:
        rule, way_out = "must be (K, d), a row for each worker", "stack the vectors"
        raise _checks.refuse("vectors", rule, _checks.Text(shape), way_out)
    workers, size = shape
    found, xp = sent.sent(vectors, quantizer, levels)
    same = _in_one_stratum(workers)
    strata, variances = min(workers, MOST_STRATA), []
    for rows in found:  # of buckets of one length, (workers, rows, length) in all
        if isinstance(rows, sent.OnCurve):
            total = xp.sum(rows.squares(xp), axis=(0, 2))
            if rounding == "correlated" and workers > 1:
                total = total + _of_dithers(rows, workers, xp)
            variances.append(total / workers**2)
            continue
        gap = rows.upper - rows.lower
        # of the two values the larger one: codes of magnitudes go down where bits go up
        p = xp.where(gap < 0, 1 - rows.up, rows.up)
        gap = xp.abs(gap)
        total = xp.sum(rows.squares(xp), axis=(0, 2))
        if rounding == "correlated" and workers > 1:
            together = (1 - same) * strata / (strata - 1) - 1
            in_strata = same / strata - (1 - same) / (strata * (strata - 1))
            total = total + together * _of_pairs(gap * p, xp)
            for a in range(strata):
                part = gap * xp.clip(strata * p - a, 0, 1)
                total = total + in_strata * _of_pairs(part, xp)
        variances.append(total / workers**2)
    return xp.concatenate(variances) if size else xp.zeros(0)


def _in_one_stratum(workers: int) -> float:
    """How probable it is that two workers have ranks that differ by MOST_STRATA."""
    if workers <= MOST_STRATA:
        return 0.0
    each, more = divmod(workers, MOST_STRATA)
    pairs = more * (each + 1) * each + (MOST_STRATA - more) * each * (each - 1)
    return pairs / (workers * (workers - 1))


def _of_dithers(rows: sent.OnCurve, workers: int, xp: Any) -> Any:
    """The sum over pairs of workers of their covariances, (rows,).

    Each worker with the one that is 1, 2, ... K - 1 places after it.
    """
    places = rows.s(xp)
    parts = [x * rows.scale for x in dithers.in_bernoulli(rows.curve, places)]

    def with_all(shift: Any) -> Any:
        others = [xp.roll(x, shift, axis=0) for x in (places, *parts)]
        pair = (places, parts), (others[0], others[1:])
        found = dithers.covariance(*pair, workers)
        return xp.sum(xp.sum(found, axis=0), axis=-1)

    if xp is not jnp:
        return sum(with_all(shift) for shift in range(1, workers))
    start = jnp.zeros(places.shape[1], places.dtype)
    return lax.fori_loop(1, workers, lambda k, total: total + with_all(k), start)


def _of_pairs(x: Any, xp: Any) -> Any:
    """sum_{j != k} x_j x_k of (workers, rows, length), summed up to (rows,)."""
    return xp.sum(xp.sum(x, axis=0) ** 2 - xp.sum(x * x, axis=0), axis=-1)
