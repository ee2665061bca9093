"""The families of quantizers, by their factories."""

import math
from collections.abc import Sequence

import numpy as np

from qgenx_jax import _checks, _levels
from qgenx_jax._quantize import Quantizer


def uniform(
    bits: int = 8,
    *,
    norm: float = math.inf,
    bucket_size: int | None = 1024,
    source: str = "counter",
    kernel: str = "xla",
) -> Quantizer:
    """Equal steps between -||v||_q and ||v||_q: QSGD (q = 2), QSGD-inf (q = infinity).

    Args:
        bits: per coordinate, sign included, 1 to 8; 2^(bits - 1) - 1 steps on each side
            of zero, so that 2 bits are ternary. 1 bit has the levels -n and n alone.
        norm: q, one of 1, 2 and infinity.
        bucket_size: coordinates that share one norm of 4 bytes; None for one bucket.
        source: of the 16 random bits per coordinate: "counter", a hash fused into the
            rounding, or "threefry", jax.random's, some twenty times slower on a CPU.
        kernel: what encodes on GPUs. "xla" compiles to two kernels that read the
            vector; "pallas" to one, where norm is infinity, bits are 1, 2, 4 or 8,
            bucket_size is a power of two from 256 to 16384, source is "counter" and
            arithmetic float32. Elsewhere, and on other devices, it is as "xla". The
            bytes are the same: compared in Pallas's interpreter, and compiled for an
            H100, but never run or timed on a GPU, so not the default. Not for
            `jax.export`, which compiles it for all platforms that are asked for.

    Returns:
        The quantizer. It costs bits / 8 + 4 / bucket_size bytes per coordinate.

    Raises:
        ValueError: for values outside these ranges.

    Example:
        >>> import qgenx_jax as qgenx
        >>> qgenx.uniform(bits=4).n_bytes(1_000_000)  # float32 takes 4,000,000
        503908

    References:
        Alistarh et al., QSGD, NeurIPS 2017; Ramezani-Kebrya et al., Distributed
        Extra-gradient with Optimal Complexity and Communication Guarantees, ICLR 2023,
        section 3.
    """
    return Quantizer("uniform", bits, norm, bucket_size, source, kernel=kernel)


def exponential(
    bits: int = 4,
    *,
    base: float = 0.5,
    norm: float = 2,
    bucket_size: int | None = 1024,
    source: str = "counter",
) -> Quantizer:
    """Levels that grow geometrically, l_j = base^(s + 1 - j): NUQSGD.

    Args:
        bits: per coordinate, sign included, 2 to 8; s + 1 = 2^(bits - 1) - 1.
        base: ratio of neighbouring levels, in (0, 1); 1/2 in NUQSGD. Levels are kept to
            12 significant bits and stop at 2^-50.
        norm: q, one of 1, 2 and infinity.
        bucket_size: coordinates that share one norm of 4 bytes; None for one bucket.
        source: as in `uniform`.

    Returns:
        The quantizer.

    Raises:
        ValueError: for values outside these ranges.

    Example:
        >>> import qgenx_jax as qgenx
        >>> qgenx.exponential(bits=3).levels
        (0.25, 0.5, 1.0)

    References:
        Ramezani-Kebrya et al., NUQSGD: Provably Communication-efficient Data-parallel
        SGD via Nonuniform Quantization, JMLR 2021.
    """
    bits = _checks.whole_number("bits", bits, 2, 8)
    if not isinstance(base, (float, np.floating)) or not 0 < base < 1:
        raise _checks.refuse("base", "must be in (0, 1)", base, "NUQSGD uses 0.5")
    levels = _levels.exponential_levels(bits, float(base))
    return Quantizer("exponential", bits, norm, bucket_size, source, levels)


def user_levels(
    levels: Sequence[float],
    *,
    norm: float = math.inf,
    bucket_size: int | None = 1024,
    source: str = "counter",
) -> Quantizer:
    """Levels of one's own, 0 < l_1 < ... < l_{s+1} = 1, mirrored to negative values.

    In an exchange they live in its state (`ExchangeState.levels`), so that others of
    the same number can be put there while training goes on, without recompiling.

    Args:
        levels: increasing, in (0, 1], the last one 1; kept to 12 significant bits.
        norm: q, one of 1, 2 and infinity.
        bucket_size: coordinates that share one norm of 4 bytes; None for one bucket.
        source: as in `uniform`.

    Returns:
        The quantizer, of as few bits as hold the signed levels.

    Raises:
        ValueError: for levels that are not such, and values outside these ranges.

    Example:
        >>> import qgenx_jax as qgenx
        >>> qgenx.user_levels([0.1, 0.4, 1.0]).bits
        3
    """
    checked = _levels.check_levels(levels)
    bits = _levels.bits_for(len(checked))
    return Quantizer("levels", bits, norm, bucket_size, source, checked)


def min_max(
    bits: int = 8,
    *,
    bucket_size: int | None = 1024,
    source: str = "counter",
    kernel: str = "xla",
) -> Quantizer:
    """2^bits equal steps between each bucket's minimum and maximum, as in torch_cgx.

    Args:
        bits: per coordinate, 1 to 8.
        bucket_size: coordinates that share minimum and unit, 8 bytes; None for one.
        source: as in `uniform`.
        kernel: as in `uniform`.

    Returns:
        The quantizer. It costs bits / 8 + 8 / bucket_size bytes per coordinate.

    Raises:
        ValueError: for values outside these ranges.

    Example:
        >>> import jax.numpy as jnp, qgenx_jax as qgenx
        >>> quantizer = qgenx.min_max(bits=2)
        >>> quantizer.decode(quantizer.encode(0, jnp.array([-1.0, 0.0, 1.0, 2.0])))
        Array([-1.,  0.,  1.,  2.], dtype=float32)

    References:
        Markov et al., CGX: Adaptive System Support for Communication-Efficient Deep
        Learning, Middleware 2022.
    """
    return Quantizer("min_max", bits, math.inf, bucket_size, source, kernel=kernel)
