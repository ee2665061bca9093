"""The exchange: a tree per worker goes in, the mean over workers comes out.

    flatten -> encode -> one uint8 buffer -> one all-gather -> decode and average

All that a worker sends at one exchange (packed codes, norms, leaves kept exact, one
number for the step size) lies in one buffer, so that an exchange is one collective.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from qgenx_jax import _checks, _collectives, _groups, _random, _trees, _workers
from qgenx_jax._groups import Labels
from qgenx_jax._quantize import Payload, Quantizer
from qgenx_jax._types import Array, AxisName, DualVector, LeafPredicate

COLLECTIVES = ("auto", "exact", "all_gather")


class ExchangeState(NamedTuple):
    """State of an exchange.

    Attributes:
        key: PRNG key, the same on all workers; split at every send. What rounds is this
            key with the tree's paths and shapes and the worker's index folded in.
        levels: of each group whose quantizer is `user_levels`, an array (s + 1,), to be
            replaced by other ones at will (where those break the rules of
            `user_levels`, means are NaN); the group of a single quantizer is "all".
    """

    key: Array
    levels: dict[str, Array]


class Traffic(NamedTuple):
    """What one worker sends and receives in one exchange, counted before it runs.

    Attributes:
        collective: "all_gather" of one uint8 buffer, or "exact", an all-reduce.
        workers: K.
        coordinates: of the whole tree.
        payload_bytes: of the buffer that a worker contributes; for "exact", of the tree
            in float32 at least, and K numbers.
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


@dataclasses.dataclass(frozen=True, eq=False)
class Exchange:
    """Averages trees over workers; made by `exchange`, which documents it."""

    axis_name: AxisName
    quantizers: Mapping[str, Quantizer | None]
    labels: Labels | None
    collective: str
    exact: LeafPredicate | None
    key: Any

    def init(self) -> ExchangeState:
        """The state before the first send; it shares no buffer with the key given."""
        key = jnp.array(_random.canonical_key(self.key), copy=True)
        return ExchangeState(key, self._initial_levels())

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
            equal on all workers to the last bit; this worker's own decoded vector, both
            in float32, or float64 for float64 leaves; the workers' numbers, shape (K,),
            or None without `scalar`.

        Raises:
            ValueError: if the state is not an exchange's, the axis is not bound, a leaf
                is not a real floating-point array or does not vary over the workers, or
                no leaf is left to quantize.
        """
        if scalar is not None:
            _checks.function("scalar", scalar, "of a decoded vector", "or leave it out")
        layout = self._checked(tree, state)
        if self._strategy == "exact":
            own = _trees.widen(tree)
            number = None if scalar is None else _collectives.number(scalar(own))
            mean, numbers = _collectives.all_reduce_mean(tree, number, self.axis_name)
            return (mean, own, numbers), state
        payloads, exact_leaves, own = self._encode(tree, layout, state)
        number = None if scalar is None else _collectives.number(scalar(own))

        def decode(group: str, payload: Payload) -> Array:
            return self._quantizer(group).decode(payload, state.levels.get(group))

        sent = _collectives.Contribution(payloads, exact_leaves, number)
        mean, numbers = _collectives.all_gather_mean(
            sent, layout, decode, self.axis_name
        )
        kept, _ = _random.next_key(state.key)
        return (mean, own, numbers), ExchangeState(kept, state.levels)

    def quantize(self, tree: DualVector, state: ExchangeState) -> DualVector:
        """This worker's own decoded vector, as `send` gives it, without a collective.

        For measuring what quantization changes; it may stand in a `lax.cond`. The tree,
        the state, the dtypes of the result and the errors are those of `send`.
        """
        layout = self._checked(tree, state)
        if self._strategy == "exact":
            return _trees.widen(tree)
        return self._encode(tree, layout, state)[-1]

    def _checked(self, tree: DualVector, state: ExchangeState) -> _trees.Layout:
        made = "make it by init of this very exchange"
        _checks.instance_of("state", state, ExchangeState, made)
        _random.canonical_key(state.key)
        _workers.axis_size(self.axis_name)  # raises where the axis is not bound
        layout = self.layout(tree)
        _workers.refuse_replicated("the tree to exchange", tree, self.axis_name)
        return layout

    def _encode(
        self, tree: DualVector, layout: _trees.Layout, state: ExchangeState
    ) -> tuple[dict[str, Payload], list[Array], DualVector]:
        """Payloads by group, the leaves that stay exact, and the own decoded vector."""
        _groups.check_levels(state.levels, self._initial_levels())
        _, key = _random.next_key(state.key)
        # two exchanges of one program, which may have equal keys, round differently
        key = jax.random.fold_in(key, layout.fingerprint)
        vectors, exact_leaves = layout.split(tree)
        payloads, decoded = {}, {}
        for index, (group, vector) in enumerate(vectors.items()):
            group_key = jax.random.fold_in(key, index)
            group_key = _workers.stream_key(group_key, vector, self.axis_name)
            levels = state.levels.get(group)
            payloads[group] = self._quantizer(group).encode(group_key, vector, levels)
            decoded[group] = self._quantizer(group).decode(payloads[group], levels)
        return payloads, exact_leaves, layout.join(decoded, exact_leaves)

    def traffic(
        self, tree: DualVector, workers: int, *, scalar_bytes: int = 0
    ) -> Traffic:
        """Bytes of one exchange of such a tree, which the compiled program shows.

        Args:
            tree: the tree, or its shapes and dtypes.
            workers: K.
            scalar_bytes: 4 where a float32 number rides along (for the adaptive step
                size, with every vector but that of a separate extrapolation), 8 in
                float64.

        Raises:
            ValueError: as `send` does for the tree.

        Example:
            >>> import jax.numpy as jnp, qgenx_jax as qgenx
            >>> exchange = qgenx.exchange("data", qgenx.uniform(bits=4))
            >>> exchange.traffic(jnp.zeros((1024, 1024)), workers=3).sent_bytes
            1056768
        """
        workers = _checks.whole_number("workers", workers, 1, None)
        _checks.whole_number("scalar_bytes", scalar_bytes, 0, None)
        layout = self.layout(tree)
        if self._strategy == "exact":
            payload = layout.accumulator_bytes + workers * scalar_bytes
            sent = -(-2 * (workers - 1) * payload // workers)
        else:
            payload = layout.exact_bytes + scalar_bytes
            for group in layout.groups:
                vector = layout.vector(group)
                payload += self._quantizer(group).n_bytes(vector.size, vector.dtype)
            sent = (workers - 1) * payload
        coordinates = layout.coordinates
        bits = 8 * payload / coordinates if coordinates else 0.0
        return Traffic(self._strategy, workers, coordinates, payload, sent, sent, bits)

    @property
    def _strategy(self) -> str:
        if self.collective == "auto":
            return "all_gather" if any(self.quantizers.values()) else "exact"
        return self.collective

    def _initial_levels(self) -> dict[str, Array]:
        return {
            group: quantizer.initial_levels
            for group, quantizer in self.quantizers.items()
            if quantizer is not None and quantizer.initial_levels is not None
        }

    def _quantizer(self, group: str) -> Quantizer:
        quantizer = self.quantizers[group]
        assert quantizer is not None  # leaves of such a group are exact
        return quantizer

    def layout(self, tree: DualVector) -> _trees.Layout:
        """How the leaves of a tree travel.

        Raises:
            ValueError: as `send` does for the tree.
        """
        return _groups.layout(tree, self.quantizers, self.labels, self.exact)


def exchange(
    axis_name: AxisName,
    quantizer: Quantizer | Mapping[str, Quantizer | None] | None,
    *,
    labels: Labels | None = None,
    collective: str = "auto",
    exact: LeafPredicate | None = None,
    key: _random.KeyOrSeed = 0,
) -> Exchange:
    """The exchange of dual vectors between workers, under a mapped axis.

    Worker k contributes V_k and all receive (1/K) sum_k Q(V_k), with E Q(v) = v and
    independent rounding, so the mean's quantization variance falls as 1/K.

    Args:
        axis_name: the axis over workers, bound by jax.shard_map, jax.pmap or jax.vmap.
        quantizer: what each vector is rounded to; None exchanges exactly. With labels,
            one for each group of leaves: a mapping from label to quantizer or None.
        labels: with such a mapping, the leaves' labels, as in optax.partition: a tree
            of strings, a prefix of the vectors' tree, or a function from it to that.
        collective: "all_gather": one all-gather of one uint8 buffer, of which each
            worker decodes all K, (K - 1) payloads sent per worker; "exact": an
            all-reduce in the leaves' precision or float32, only with quantizer=None;
            "auto": "exact" without a quantizer, "all_gather" with one.
        exact: leaves that travel as their own bytes, chosen by
            `exact(path, shape_and_dtype)`, for instance `qgenx_jax.small_leaves`.
        key: PRNG key or seed of the rounding; the same on all workers. Exchanges of
            trees of other paths or shapes round differently also where keys are equal.

    Returns:
        An `Exchange` with `init()`, `send(tree, state, scalar=)` and
        `traffic(tree, workers)`.

    Raises:
        ValueError: for an unknown collective, an axis that can be none, a key that is
            none, or a quantizer given to the exact collective.

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
    _checks.axis_name(axis_name)
    _checks.one_of("collective", collective, COLLECTIVES)
    quantizers = _groups.quantizers_of(quantizer, labels)
    if exact is not None:
        what = "of a leaf's path and shape, or None"
        _checks.function("exact", exact, what, "for instance qgenx_jax.small_leaves")
    if collective == "exact" and any(quantizers.values()):
        raise _checks.refuse(
            "collective",
            "must not be 'exact' where a quantizer is given",
            quantizer,
            "pass quantizer=None for an exact exchange",
        )
    _random.canonical_key(key)
    return Exchange(axis_name, quantizers, labels, collective, exact, key)
