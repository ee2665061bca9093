"""The exchange: a tree per worker goes in, the mean over workers comes out.

    flatten -> encode -> one uint8 buffer -> one all-gather -> decode and average

All that a worker sends at one exchange (packed codes, norms, leaves kept exact, one
number for the step size) lies in one buffer, so that an exchange is one collective.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax
from jax import lax

from qgenx_jax import _checks, _collectives, _random, _trees, _workers
from qgenx_jax._quantize import Quantizer
from qgenx_jax._types import Array, AxisName, DualVector, LeafPredicate

COLLECTIVES = ("auto", "exact", "all_gather")


class ExchangeState(NamedTuple):
    """State of an exchange.

    Attributes:
        key: PRNG key, the same on all workers; split at every send. Worker k rounds
            with a stream of its own, this key with k folded in.
    """

    key: Array


class Traffic(NamedTuple):
    """What one worker sends and receives in one exchange, counted before it runs.

    Attributes:
        collective: "all_gather" of one uint8 buffer, or "exact", an all-reduce.
        workers: K.
        coordinates: of the whole tree.
        payload_bytes: of the buffer that a worker contributes; of the tree for "exact".
        sent_bytes: (K - 1) payloads for all_gather; 2 (K - 1) / K of the tree for
            "exact", as a ring all-reduce sends.
        received_bytes: the same number here.
        bits_per_coordinate: 8 payload_bytes / coordinates.
    """

    collective: str
    workers: int
    coordinates: int
    payload_bytes: int
    sent_bytes: int
    received_bytes: int
    bits_per_coordinate: float


@dataclasses.dataclass(frozen=True)
class Exchange:
    """Averages trees over workers; made by `exchange`, which documents it."""

    axis_name: AxisName
    quantizer: Quantizer | None
    collective: str
    exact: LeafPredicate | None
    key: Any

    def init(self) -> ExchangeState:
        """The state before the first send."""
        return ExchangeState(_random.canonical_key(self.key))

    def send(
        self,
        tree: DualVector,
        state: ExchangeState,
        *,
        scalar: Callable[[DualVector], Array] | None = None,
    ) -> tuple[tuple[DualVector, DualVector, Array | None], ExchangeState]:
        """One exchange, to be called under the axis `axis_name`.

        Args:
            tree: this worker's dual vector.
            state: the exchange's state, equal on all workers.
            scalar: from this worker's own decoded vector, one number that rides in the
                same buffer.

        Returns:
            ((mean, own, scalars), state): the mean over workers of the decoded vectors,
            equal on all workers to the last bit; this worker's own decoded vector; the
            workers' numbers, shape (K,), or None without `scalar`.

        Raises:
            ValueError: if the axis is not bound, a leaf is not a real floating-point
                array or does not vary over the workers, or no leaf is left to quantize.
        """
        _workers.axis_size(self.axis_name)  # raises where the axis is not bound
        layout = self._layout(tree)
        _workers.refuse_replicated("the tree to exchange", tree, self.axis_name)
        if self._strategy == "exact":
            number = None if scalar is None else _collectives.number(scalar(tree))
            mean, numbers = _collectives.all_reduce_mean(tree, number, self.axis_name)
            return (mean, tree, numbers), state
        key, sub = jax.random.split(state.key)
        vector, exact_leaves = layout.split(tree)
        own, payload = tree, None
        if self.quantizer is not None:
            sub = jax.random.fold_in(sub, lax.axis_index(self.axis_name))
            payload = self.quantizer.encode(sub, vector)
            own = layout.join(self.quantizer.decode(payload), exact_leaves)
        number = None if scalar is None else _collectives.number(scalar(own))
        sent = _collectives.Contribution(payload, exact_leaves, number)
        mean, numbers = _collectives.all_gather_mean(
            sent, layout, self.quantizer, self.axis_name
        )
        return (mean, own, numbers), ExchangeState(key)

    def traffic(
        self, tree: DualVector, workers: int, *, scalar_bytes: int = 0
    ) -> Traffic:
        """Bytes of one exchange of such a tree, which the compiled program shows.

        Args:
            tree: the tree, or its shapes and dtypes.
            workers: K.
            scalar_bytes: 4 where a float32 number rides along (the adaptive step size,
                at the update), 8 in float64.

        Raises:
            ValueError: as `send` does for the tree.

        Example:
            >>> import jax.numpy as jnp, qgenx_jax as qgenx
            >>> exchange = qgenx.exchange("data", qgenx.uniform(bits=4))
            >>> exchange.traffic(jnp.zeros((1024, 1024)), workers=3).sent_bytes
            1056768
        """
        workers = _checks.whole_number("workers", workers, 1, None)
        layout = self._layout(tree)
        coordinates = sum(math.prod(leaf.shape) for leaf in layout.leaves)
        payload = layout.exact_bytes + scalar_bytes
        if self._strategy == "exact":
            sent = -(-2 * (workers - 1) * payload // workers)
        else:
            if self.quantizer is not None:
                payload += self.quantizer.n_bytes(layout.quantized_size)
            sent = (workers - 1) * payload
        bits = 8 * payload / coordinates if coordinates else 0.0
        return Traffic(self._strategy, workers, coordinates, payload, sent, sent, bits)

    @property
    def _strategy(self) -> str:
        if self.collective == "auto":
            return "exact" if self.quantizer is None else "all_gather"
        return self.collective

    def _layout(self, tree: DualVector) -> _trees.Layout:
        _checks.floating_leaves("the tree to exchange", tree)
        exact = self.exact if self.quantizer is not None else _every_leaf
        layout = _trees.layout(tree, exact)
        if self.quantizer is not None and layout.leaves and all(layout.exact):
            raise _checks.refuse(
                "exact",
                f"must leave {self.quantizer} at least one leaf to quantize",
                f"all {len(layout.leaves)} leaves exact",
                "pass quantizer=None for an exact exchange, or exact=None to quantize "
                "every leaf (quantized_mean keeps leaves of fewer than 2 dimensions or "
                "1024 elements exact unless told otherwise)",
            )
        return layout


def exchange(
    axis_name: AxisName,
    quantizer: Quantizer | None,
    *,
    collective: str = "auto",
    exact: LeafPredicate | None = None,
    key: _random.KeyOrSeed = 0,
) -> Exchange:
    """The exchange of dual vectors between workers, under a mapped axis.

    Worker k contributes V_k and all receive (1/K) sum_k Q(V_k), with E Q(v) = v and
    independent rounding, so the mean's quantization variance falls as 1/K.

    Args:
        axis_name: the axis over workers, bound by jax.shard_map, jax.pmap or jax.vmap.
        quantizer: what each vector is rounded to; None exchanges exactly.
        collective: "all_gather": one all-gather of one uint8 buffer, of which each
            worker decodes all K, (K - 1) payloads sent per worker; "exact": an
            all-reduce in the leaves' precision or float32, only with quantizer=None;
            "auto": "exact" without a quantizer, "all_gather" with one.
        exact: leaves that travel as their own bytes, chosen by
            `exact(path, shape_and_dtype)`, for instance `qgenx_jax.small_leaves`.
        key: PRNG key or seed of the rounding; the same on all workers.

    Returns:
        An `Exchange` with `init()`, `send(tree, state, scalar=)` and
        `traffic(tree, workers)`.

    Raises:
        ValueError: for an unknown collective, a key that is none, or a quantizer given
            to the exact collective.

    Example:
        >>> import jax, jax.numpy as jnp, qgenx_jax as qgenx
        >>> exchange = qgenx.exchange("data", qgenx.uniform(bits=8))
        >>> def worker(vector):
        ...     (mean, own, _), state = exchange.send(vector, exchange.init())
        ...     return mean
        >>> vectors = jnp.array([[127.0, -3.0], [127.0, 5.0]])  # on levels: exact
        >>> jax.vmap(worker, axis_name="data", out_axes=None)(vectors)
        Array([127.,   1.], dtype=float32)

    References:
        Ramezani-Kebrya et al., Distributed Extra-gradient with Optimal Complexity and
        Communication Guarantees, ICLR 2023, algorithm 1.
    """
    _checks.one_of("collective", collective, COLLECTIVES)
    _check_quantizer(quantizer)
    if collective == "exact" and quantizer is not None:
        raise _checks.refuse(
            "collective",
            "must not be 'exact' where a quantizer is given",
            quantizer,
            "pass quantizer=None for an exact exchange",
        )
    _random.canonical_key(key)
    return Exchange(axis_name, quantizer, collective, exact, key)


def quantized_mean(
    axis_name: AxisName,
    quantizer: Quantizer | None,
    *,
    collective: str = "auto",
    exact: LeafPredicate | None = _trees.small_leaves,
    key: _random.KeyOrSeed = 0,
) -> optax.GradientTransformation:
    """Replaces each worker's updates by their mean over workers, exchanged in b bits.

    The first link of a chain for data-parallel training: updates <- (1/K) sum_k Q(g_k).

    Args:
        axis_name: the axis over workers.
        quantizer: what each worker's updates are rounded to; None for an exact mean.
        collective: as in `exchange`.
        exact: leaves that travel exactly; by default `small_leaves`, those of fewer
            than 2 dimensions or under 1024 elements.
        key: PRNG key or seed of the rounding; the same on all workers.

    Returns:
        An optax transformation whose state is an `ExchangeState`.

    Raises:
        ValueError: as `exchange` does, and at the update as `Exchange.send` does.

    Example:
        >>> import optax, qgenx_jax as qgenx
        >>> optimizer = optax.chain(
        ...     qgenx.quantized_mean("data", qgenx.uniform(bits=4, bucket_size=1024)),
        ...     optax.adam(1e-3),
        ... )

    References:
        Alistarh et al., QSGD, NeurIPS 2017.
    """
    worker_mean = exchange(
        axis_name, quantizer, collective=collective, exact=exact, key=key
    )

    def init_fn(params: optax.Params) -> ExchangeState:
        del params
        return worker_mean.init()

    def update_fn(
        updates: optax.Updates,
        state: Any,
        params: optax.Params | None = None,
    ) -> tuple[optax.Updates, ExchangeState]:
        del params
        (mean, _, _), state = worker_mean.send(updates, state)
        return mean, state

    return optax.GradientTransformation(init_fn, update_fn)


def _every_leaf(path: str, leaf: jax.ShapeDtypeStruct) -> bool:
    del path, leaf
    return True


def _check_quantizer(quantizer: Any) -> None:
    if quantizer is not None and not isinstance(quantizer, Quantizer):
        raise _checks.refuse(
            "quantizer",
            "must be a quantizer, or None for an exact exchange",
            quantizer,
            "make one by qgenx_jax.uniform(bits=...)",
        )
