"""The mean of an exchange as an optax transformation: data-parallel training."""

import dataclasses
from collections.abc import Mapping
from typing import Any, cast

import optax
from jax.sharding import Mesh

from qgenx_jax import _random, _trees
from qgenx_jax._codec.quantizer import Quantizer
from qgenx_jax._exchange import plain_jit, weights
from qgenx_jax._exchange.exchange import Exchange
from qgenx_jax._exchange.factory import NOT_GIVEN, ready_or_new
from qgenx_jax._exchange.groups import Labels
from qgenx_jax._exchange.layout import small_leaves
from qgenx_jax._exchange.traffic import Link, Traffic
from qgenx_jax._types import AxisName, LeafPredicate
from qgenx_jax._workers import axes
from qgenx_jax._workers.over_mesh import workers_of


def quantized_mean(
    axis_name: AxisName | Exchange,
    quantizer: Quantizer | Mapping[str, Quantizer | None] | None = NOT_GIVEN,
    *,
    labels: Labels | None = None,
    collective: str | Link = "auto",
    link: Link | None = None,
    second: Quantizer | Mapping[str, Quantizer | None] | None = None,
    exact: LeafPredicate | None = small_leaves,
    rounding: str = "correlated",
    checksum: bool = False,
    key: _random.KeyOrSeed = 0,
    specs: Any = None,
    mesh: Mesh | None = None,
) -> "QuantizedMean":
    """Replaces each worker's updates by their mean over workers, exchanged in b bits.

    The first link of a chain for data-parallel training: updates <- (1/K) sum_k Q(g_k).
    A transformation that may skip an update (optax.apply_if_finite, optax.MultiSteps)
    goes after it, never around it: all workers must take part in every exchange.

    `update(g, state, params, weight=w)`, also of a chain, gives the weighted mean,
    sum_k w_k Q(g_k) / sum_k w_k, see `Exchange.mean`: with each worker's number of
    tokens for weight, the gradient of the mean over all tokens.

    Args:
        axis_name: the axis over workers, None for one worker without a collective; or
            a ready `Exchange`, and nothing else.
        quantizer: what each worker's updates are rounded to; None for an exact mean. A
            mapping from labels for groups of leaves.
        labels: of the leaves, with a mapping, as in `exchange`.
        collective: as in `exchange`; by default "auto", what is fastest, for large
            vectors and 3 workers or more by quantizing the mean, too.
        link: as in `exchange`.
        second: as in `exchange`.
        exact: leaves that travel exactly; by default `small_leaves`, those of fewer
            than 2 dimensions or under 1024 elements.
        rounding: "correlated" or "independent" between workers, as in `exchange`.
        checksum: whether bytes that arrive otherwise than they were sent make the mean
            NaN on all workers, as in `exchange`; `skip_not_finite` then skips it.
        key: PRNG key or seed of the rounding; the same on all workers.
        specs: of leaves that are cut over other axes of the mesh, as in `exchange`; a
            leaf may be a `NamedSharding`, too. Of a mesh with Explicit axes the types
            of what is given say it.
        mesh: in an ordinary jitted step, outside of any `jax.shard_map`: the mesh with
            the axis. Updates are then what `value_and_grad(..., mesh=mesh)` returns,
            for each parameter a leaf (K, ...), row k worker k's; or, where JAX has such
            types, leaves that are *unreduced* over the axis, whose sum over the devices
            is the gradient. The mean comes out on all devices, like the parameters, so
            that all that follows in a chain is as it was. A weight is then (K,).

    Returns:
        An optax transformation whose state is an `ExchangeState`. Its `exchange` is
        what carries the updates, and `traffic(params, workers)` the bytes of an update.

    Raises:
        ValueError: as `exchange` does, and at the update as `Exchange.send` does, or if
            params are given that vary over the workers; with a mesh, if updates are
            neither of these two.

    Example:
        >>> import optax, qgenx_jax as qgenx
        >>> optimizer = optax.chain(
        ...     qgenx.quantized_mean("data", qgenx.uniform(bits=4, bucket_size=1024)),
        ...     optax.adam(1e-3),
        ... )

    References:
        Alistarh et al., QSGD, NeurIPS 2017.
    """
    worker_mean = ready_or_new(
        axis_name,
        quantizer,
        quantized_mean,
        labels=labels,
        collective=collective,
        link=link,
        second=second,
        exact=exact,
        rounding=rounding,
        checksum=checksum,
        key=key,
        specs=plain_jit.as_specs(specs),
    )
    if mesh is not None:
        workers_of(mesh, worker_mean.axis_name)

    def init_fn(params: optax.Params) -> Any:
        del params
        return worker_mean.init()

    return QuantizedMean(init_fn, _Update(worker_mean, mesh))


@dataclasses.dataclass(frozen=True)
class _Update:
    """The update of `quantized_mean`, which knows its exchange."""

    exchange: Exchange
    mesh: Mesh | None = None

    def __call__(
        self,
        updates: optax.Updates,
        state: Any,
        params: optax.Params | None = None,
        *,
        weight: Any = None,
        **extra: Any,
    ) -> tuple[optax.Updates, Any]:
        del extra
        if self.mesh is not None:
            run = plain_jit.mean_over(self.exchange, self.mesh, updates, params)
            return run(updates, state, weight)
        mean, state = self.exchange.mean(updates, state, weight=weight)
        axes.refuse_shards(params, self.exchange.axis_name)
        return _trees.cast_like(mean, updates), state


class QuantizedMean(optax.GradientTransformationExtraArgs):
    """What `quantized_mean` returns: a transformation that contains an exchange."""

    @property
    def exchange(self) -> Exchange:
        """What carries the updates."""
        return cast(_Update, self.update).exchange

    @property
    def mesh(self) -> Mesh | None:
        """The mesh that it was given, for a step in plain jit."""
        return cast(_Update, self.update).mesh

    def traffic(
        self,
        params: Any,
        workers: int | tuple[int, ...],
        *,
        weighted: bool = False,
    ) -> Traffic:
        """Bytes that one worker sends and receives in an update.

        Args:
            params: the parameters, or their shapes and dtypes.
            workers: as in `Exchange.traffic`.
            weighted: whether updates are given a weight, which rides along, and with
                which leaves that stay exact travel in float32 at least.

        Raises:
            ValueError: as `Exchange.traffic` does, and for a weight in "hierarchical".

        Example:
            >>> import jax.numpy as jnp, qgenx_jax as qgenx
            >>> mean = qgenx.quantized_mean("data", qgenx.uniform(bits=4))
            >>> mean.traffic(jnp.zeros((1024, 1024)), workers=3).collective
            'reduce_scatter'
        """
        if not weighted:
            return self.exchange.traffic(params, workers)
        weights.refuse_hierarchical(self.exchange.collective)
        n_bytes = weights.dtype_of(params).itemsize
        shapes = weights.widened(params)
        return self.exchange.traffic(shapes, workers, scalar_bytes=n_bytes)
