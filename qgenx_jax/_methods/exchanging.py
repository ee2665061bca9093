"""Pairs that contain an exchange, and what an iteration of them sends."""

from typing import Any

import jax

from qgenx_jax import _trees
from qgenx_jax._exchange.exchange import Exchange
from qgenx_jax._exchange.traffic import Traffic, together
from qgenx_jax._methods.pair import ExtragradientPair


class ExchangingPair(ExtragradientPair):
    """A pair that contains an exchange: what `q_genx` returns, or a `chain` with one.

    Attributes:
        exchange: what carries the dual vectors.
        rides: for each exchange of an iteration, whether a number for the step size
            rides along.
    """

    exchange: Exchange
    rides: tuple[bool, ...]

    def traffic(self, params: Any, workers: int | tuple[int, ...]) -> Traffic:
        """Bytes that one worker sends and receives in an iteration, all exchanges.

        In `alternating`, where half-steps are not told apart when they are traced, the
        number for the adaptive step size rides along at both.

        Args:
            params: the parameters, or their shapes and dtypes.
            workers: K, or the sizes of the axes, which "hierarchical" needs.

        Raises:
            ValueError: as `Exchange.traffic` does.

        Example:
            >>> import jax.numpy as jnp, qgenx_jax as qgenx
            >>> pair = qgenx.q_genx("data", qgenx.uniform(bits=8))
            >>> traffic = pair.traffic(jnp.zeros(1024), workers=3)
            >>> traffic.exchanges, traffic.sent_bytes  # and a number, to 2 others
            (2, 4120)
        """
        widest = _trees.widest(map(_trees.accumulator_dtype, jax.tree.leaves(params)))
        return together(
            [
                self.exchange.traffic(
                    params, workers, scalar_bytes=widest.itemsize if rides else 0
                )
                for rides in self.rides
            ]
        )


def exchanging(
    pair: ExtragradientPair, exchange: Exchange, rides: tuple[bool, ...]
) -> ExchangingPair:
    """A pair as one that contains an exchange."""
    found = ExchangingPair(*pair)
    found.exchange, found.rides = exchange, rides
    return found
