"""How short the codes of a vector could be, as streams, beside their fixed width."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import qgenx_jax as qgenx
from qgenx_jax import bounds, entropy


class CodeBits(NamedTuple):
    """Bits of all codes of a vector, without the scales of its buckets.

    Attributes:
        fixed: as a collective carries them.
        entropy: of the distribution of codes over all roundings.
        huffman: of a stream that is really made, of one rounding, with its header.
        bound: the most that the theorem allows for one, on average.
    """

    fixed: float = 0.0
    entropy: float = 0.0
    huffman: float = 0.0
    bound: float = 0.0

    def plus(self, other: "CodeBits") -> "CodeBits":
        """Of two vectors, each with a stream of its own."""
        return CodeBits(*(a + b for a, b in zip(self, other, strict=True)))


def code_bits(
    vector: jax.Array, quantizer: qgenx.Quantizer, levels: jax.Array | None = None
) -> CodeBits:
    """What a group's flat vector takes, by levels in place of the quantizer's own."""
    known, size = np.asarray(vector), int(np.size(vector))
    p = bounds.code_probabilities(known, quantizer, levels=levels)
    within = bounds.code_length_bound(p, size, buckets=0, signs=False)
    payload = quantizer.encode(0, jnp.asarray(vector), levels)
    codes = [np.ravel(codes) for codes, _ in quantizer.records(payload)]
    return CodeBits(
        fixed=float(quantizer.bits * size),
        entropy=float(within.least),
        huffman=8.0 * len(entropy.encode(np.concatenate(codes))),
        bound=float(within.most),
    )
