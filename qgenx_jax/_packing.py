"""Dense packing: codes of b bits to bytes and back, 3 bits costing 3 bits.

The layout is planar. With g = lcm(8, b) / b codes to a group of lcm(8, b) / 8 bytes
(b = 8: 1 to 1, 4: 2 to 1, 2: 4 to 1, 3: 8 to 3, 6: 4 to 3), a row of n codes, padded
with zeros to g G, is cut into g runs of G neighbours, and group i takes the i-th code
of every run. Codes that share a byte are thus G apart, so that packing and unpacking
are shifts of whole contiguous runs: no shuffle inside a vector register.
"""

import math

import jax.numpy as jnp

from qgenx_jax._types import Array


def _group(bits: int) -> tuple[int, int]:
    """Codes and bytes of one group."""
    together = math.lcm(8, bits)
    return together // bits, together // 8


def packed_size(size: int, bits: int) -> int:
    """Bytes that `size` codes of `bits` bits take: size * bits / 8, whole groups."""
    codes, n_bytes = _group(bits)
    return -(-size // codes) * n_bytes


def pack(codes: Array, bits: int) -> Array:
    """Packs the last axis.

    Args:
        codes: uint8 of shape (..., n), each below 2**bits.
        bits: 1 to 8.

    Returns:
        uint8 of shape (..., packed_size(n, bits)).
    """
    n_codes, n_bytes = _group(bits)
    rows, size = codes.shape[:-1], codes.shape[-1]
    groups = -(-size // n_codes)
    if groups * n_codes != size:
        pad = [(0, 0)] * len(rows) + [(0, groups * n_codes - size)]
        codes = jnp.pad(codes, pad)
    runs = codes.reshape(*rows, n_codes, groups)
    planes = []
    for byte in range(n_bytes):
        plane = jnp.zeros((*rows, groups), jnp.uint8)
        for run in range(n_codes):
            offset = run * bits - 8 * byte  # where the code's lowest bit lands
            if -bits < offset < 8:
                code = runs[..., run, :]
                # uint8 shifts drop what belongs to the neighbouring byte
                plane |= code << offset if offset >= 0 else code >> -offset
        planes.append(plane)
    return jnp.concatenate(planes, axis=-1)


def unpack(packed: Array, size: int, bits: int) -> Array:
    """Inverse of `pack`.

    Args:
        packed: uint8 of shape (..., packed_size(size, bits)).
        size: n, the number of codes.
        bits: 1 to 8.

    Returns:
        uint8 of shape (..., size).
    """
    n_codes, n_bytes = _group(bits)
    rows = packed.shape[:-1]
    groups = packed.shape[-1] // n_bytes
    planes = packed.reshape(*rows, n_bytes, groups)
    mask = jnp.uint8(2**bits - 1)
    runs = []
    for run in range(n_codes):
        code = jnp.zeros((*rows, groups), jnp.uint8)
        for byte in range(n_bytes):
            offset = run * bits - 8 * byte
            if -bits < offset < 8:
                plane = planes[..., byte, :]
                code |= plane >> offset if offset >= 0 else plane << -offset
        runs.append(code & mask)
    return jnp.concatenate(runs, axis=-1)[..., :size]
