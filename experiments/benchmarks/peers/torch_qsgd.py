"""QSGD with uniform levels and the maximum norm in PyTorch, eager: a peer of the codec.

Written as PyTorch users write it. Codes of 2 and 4 bits are packed into bytes by
shifts; others take a byte each. PyTorch is the extra ``peers``.
"""

# pyright: reportMissingImports=false
import torch
from torch import Tensor


def encode(x: Tensor, bits: int, bucket: int) -> tuple[Tensor, Tensor]:
    """Codes (buckets, bytes), uint8, and norms (buckets, 1) of x, of whole buckets."""
    steps = 2 ** (bits - 1) - 1
    rows = x.view(-1, bucket)
    norms = rows.abs().amax(dim=1, keepdim=True)
    levels = rows * (steps / torch.where(norms > 0, norms, 1.0))
    levels = (levels + torch.rand_like(levels)).floor().clamp(-steps, steps)
    return pack((levels + steps).to(torch.uint8), bits), norms


def decode(packed: Tensor, norms: Tensor, bits: int) -> Tensor:
    """The vector that codes and norms stand for."""
    steps = 2 ** (bits - 1) - 1
    return ((unpack(packed, bits).float() - steps) * (norms / steps)).view(-1)


def pack(codes: Tensor, bits: int) -> Tensor:
    """Neighbouring codes into one byte, the first one lowest."""
    if bits not in (2, 4):
        return codes
    together = 8 // bits
    packed = codes[:, ::together]
    for i in range(1, together):
        packed = packed | codes[:, i::together] << (bits * i)
    return packed


def unpack(packed: Tensor, bits: int) -> Tensor:
    """Inverse of `pack`."""
    if bits not in (2, 4):
        return packed
    parts = [packed >> shift & 2**bits - 1 for shift in range(0, 8, bits)]
    return torch.stack(parts, dim=-1).flatten(1)
