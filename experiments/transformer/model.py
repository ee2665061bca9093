"""A decoder of bytes: blocks of causal attention and of two dense layers, in Flax."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


class Decoder(nn.Module):
    """Logits of the next byte.

    Attributes:
        layers: blocks.
        width: of the residual stream; a dense layer is four times as wide.
        heads: of attention.
        length: the longest sequence.
    """

    layers: int = 6
    width: int = 384
    heads: int = 6
    length: int = 64

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        """(batch, n) of whole numbers below 256 to (batch, n, 256)."""
        n = tokens.shape[1]
        places = self.param(
            "places", nn.initializers.normal(0.02), (self.length, self.width)
        )
        x = nn.Embed(256, self.width)(tokens) + places[None, :n]
        mask = nn.make_causal_mask(tokens)
        for _ in range(self.layers):
            seen = nn.LayerNorm()(x)
            x += nn.MultiHeadDotProductAttention(self.heads)(seen, mask=mask)
            hidden = nn.Dense(4 * self.width)(nn.LayerNorm()(x))
            x += nn.Dense(self.width)(nn.gelu(hidden))
        return nn.Dense(256)(nn.LayerNorm()(x))


def next_byte_loss(model: Decoder, params: Any, tokens: jax.Array) -> jax.Array:
    """Mean cross-entropy of all tokens (batch, n + 1) but the first, nats a byte."""
    logits: Any = model.apply({"params": params}, tokens[:, :-1])
    found = jax.nn.log_softmax(logits.astype(jnp.float32))
    return -jnp.mean(jnp.take_along_axis(found, tokens[:, 1:, None], axis=-1))
