"""What contains an exchange, pairs and what goes around all, and what it sends."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from qgenx_jax import _trees
from qgenx_jax._exchange.exchange import Exchange
from qgenx_jax._exchange.traffic import Traffic, together
from qgenx_jax._methods.constraints import Constraint
from qgenx_jax._methods.inner import Whole
from qgenx_jax._methods.pair import ExtragradientPair, carried_by


class Carried(NamedTuple):
    """What an `ExchangingPair` knows.

    Attributes:
        exchange: what carries the dual vectors.
        rides: for each exchange of an iteration, whether a number rides along.
        constraint: of q_genx, where its points have to be; None for all of space.
    """

    exchange: Exchange
    rides: tuple[bool, ...]
    constraint: Constraint | None = None


class ExchangingPair(ExtragradientPair):
    """A pair with an exchange in it: what `q_genx` returns, or a `chain` with one."""

    @property
    def exchange(self) -> Exchange:
        """What carries the dual vectors."""
        return carried_by(self).exchange

    @property
    def rides(self) -> tuple[bool, ...]:
        """For each exchange of an iteration, whether a number rides along."""
        return carried_by(self).rides

    @property
    def constraint(self) -> Constraint | None:
        """Where the points of q_genx have to be; None for all of space."""
        return carried_by(self).constraint

    def traffic(self, params: Any, workers: int | tuple[int, ...]) -> Traffic:
        """Bytes that one worker sends and receives in an iteration, all exchanges.

        In `alternating`, which has its own `traffic`, half-steps are not told apart
        when they are traced, and the number for the adaptive step size rides along at
        both.

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
        return of_iteration(self.exchange, self.rides, params, workers)


def of_iteration(
    exchange: Exchange,
    rides: tuple[bool, ...],
    params: Any,
    workers: int | tuple[int, ...],
) -> Traffic:
    """The bytes of several exchanges, with a number riding along at some of them."""
    widest = _trees.widest(map(_trees.accumulator_dtype, jax.tree.leaves(params)))
    n_bytes = [widest.itemsize if rides_along else 0 for rides_along in rides]
    each = [exchange.traffic(params, workers, scalar_bytes=n) for n in n_bytes]
    return together(each)


class ExchangingWhole(Whole):
    """What goes around a transformation with an exchange in it, and tells of that.

    Attributes:
        inside: the transformation, with an `exchange` and a `traffic` of its own.
    """

    inside: Any = None

    @property
    def exchange(self) -> Exchange:
        """What carries the dual vectors."""
        return self.inside.exchange

    def traffic(
        self, params: Any, workers: int | tuple[int, ...], **settings: Any
    ) -> Traffic:
        """The bytes that one worker sends and receives by what is inside.

        Args:
            params: the parameters, or their shapes and dtypes.
            workers: as in `Exchange.traffic`.
            **settings: of the `traffic` inside, as `weighted` of `quantized_mean`.

        Raises:
            ValueError: as `Exchange.traffic` does.

        Example:
            >>> import jax.numpy as jnp, qgenx_jax as qgenx
            >>> mean = qgenx.quantized_mean("data", qgenx.uniform(bits=8), exact=None)
            >>> guarded = qgenx.skip_not_finite(mean)
            >>> guarded.traffic(jnp.zeros(1024), workers=3).sent_bytes  # to 2 others
            2056
        """
        return self.inside.traffic(params, workers, **settings)


def whole_around(
    inside: Any,
    init: Callable[..., Any],
    update: Callable[..., Any],
    kind: type[ExchangingWhole] = ExchangingWhole,
) -> Whole:
    """What goes around a transformation; of that kind if there is an exchange in it.

    An optax.chain with a `quantized_mean` in it tells of none.
    """
    if not (hasattr(inside, "exchange") and hasattr(inside, "traffic")):
        return Whole(init, update)
    whole = kind(init, update)
    whole.inside = inside
    return whole
