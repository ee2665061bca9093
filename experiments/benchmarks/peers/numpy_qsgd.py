"""QSGD with uniform levels and the maximum norm in NumPy: a peer of the codec.

Written as NumPy users write it, vectorised, with `numpy.random.Generator`. Codes of
2 and 4 bits are packed into bytes by shifts; others take a byte each.
"""

import numpy as np


def encode(
    rng: np.random.Generator, x: np.ndarray, bits: int, bucket: int
) -> tuple[np.ndarray, np.ndarray]:
    """Codes and the norms of buckets.

    Args:
        rng: decides the rounding.
        x: float32, whole buckets.
        bits: per coordinate, sign included, 2 to 8.
        bucket: coordinates that share a norm.

    Returns:
        uint8 of shape (buckets, bytes); float32 of shape (buckets, 1).
    """
    steps = 2 ** (bits - 1) - 1
    rows = x.reshape(-1, bucket)
    norms = np.abs(rows).max(axis=1, keepdims=True)
    levels = rows * (steps / np.where(norms > 0, norms, 1))
    # floor(y + u): the level above y with probability y - floor(y), else the one below
    levels += rng.random(rows.shape, np.float32)
    np.floor(levels, out=levels)
    np.clip(levels, -steps, steps, out=levels)
    codes = (levels + steps).astype(np.uint8)
    return pack(codes, bits), norms


def decode(packed: np.ndarray, norms: np.ndarray, bits: int) -> np.ndarray:
    """The vector that codes and norms stand for."""
    steps = 2 ** (bits - 1) - 1
    codes = unpack(packed, bits).astype(np.float32)
    return ((codes - steps) * (norms / steps)).reshape(-1)


def pack(codes: np.ndarray, bits: int) -> np.ndarray:
    """Neighbouring codes into one byte, the first one lowest."""
    if bits not in (2, 4):
        return codes
    together = 8 // bits
    packed = codes[:, ::together].copy()
    for i in range(1, together):
        packed |= codes[:, i::together] << (bits * i)
    return packed


def unpack(packed: np.ndarray, bits: int) -> np.ndarray:
    """Inverse of `pack`."""
    if bits not in (2, 4):
        return packed
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    codes = (packed[:, :, None] >> shifts) & np.uint8(2**bits - 1)
    return codes.reshape(len(packed), -1)
