"""The exchange: a tree per worker goes in, the mean over workers comes out.

    flatten -> encode -> one uint8 buffer -> one all-gather -> decode and average

All that a worker sends at one exchange (packed codes, norms, leaves kept exact, one
number for the step size) lies in one buffer, so that an exchange is one collective. By
`reduce_scatter` it is two, with one buffer each.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from qgenx_jax import (
    _checks,
    _collectives,
    _groups,
    _random,
    _strategies,
    _traffic,
    _trees,
    _wire,
    _workers,
)
from qgenx_jax._cost import Link
from qgenx_jax._groups import Labels
from qgenx_jax._quantize import Quantizer
from qgenx_jax._traffic import Traffic
from qgenx_jax._types import Array, AxisName, DualVector, LeafPredicate


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


@dataclasses.dataclass(frozen=True, eq=False)
class Exchange:
    """Averages trees over workers; made by `exchange`, which documents it."""

    axis_name: AxisName
    quantizers: Mapping[str, Quantizer | None]
    labels: Labels | None
    collective: str | Link | None
    second: Mapping[str, Quantizer | None]
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
        layout, parts, strategy = self._checked(tree, state)
        if strategy == "exact":
            own = _trees.widen(tree)
            number = None if scalar is None else _collectives.number(scalar(own))
            mean, numbers = _collectives.all_reduce_mean(tree, number, self.axis_name)
            return (mean, own, numbers), state
        vectors = _wire.flatten(layout, tree)
        keys = self._keys(layout, vectors, state)
        joints = _strategies.joints(strategy, parts)

        def number_of(own: list[Array]) -> Array:
            assert scalar is not None
            return _collectives.number(scalar(_wire.unflatten(layout, own, joints)))

        means, own, numbers = _strategies.mean(
            strategy,
            parts,
            vectors,
            keys,
            None if scalar is None else number_of,
            self.axis_name,
        )
        mean = _wire.unflatten(layout, means, joints)
        own = None if own is None else _wire.unflatten(layout, own, joints)
        kept, _ = _random.next_key(state.key)
        return (mean, own, numbers), ExchangeState(kept, state.levels)

    def quantize(self, tree: DualVector, state: ExchangeState) -> DualVector:
        """This worker's own decoded vector, as `send` gives it, without a collective.

        For measuring what quantization changes; it may stand in a `lax.cond`. The tree,
        the state, the dtypes of the result and the errors are those of `send`.
        """
        layout, parts, strategy = self._checked(tree, state)
        if strategy == "exact":
            return _trees.widen(tree)
        vectors = _wire.flatten(layout, tree)
        keys = self._keys(layout, vectors, state)
        own = _strategies.own(strategy, parts, vectors, keys, self.axis_name)
        joints = _strategies.joints(strategy, parts)
        return _wire.unflatten(layout, own, joints)

    def _checked(
        self, tree: DualVector, state: ExchangeState
    ) -> tuple[_trees.Layout, tuple[_wire.Part, ...], str]:
        """How the tree travels, its parts, and the collective it goes by."""
        made = "make it by init of this very exchange"
        _checks.instance_of("state", state, ExchangeState, made)
        _random.canonical_key(state.key)
        workers = _workers.axis_size(self.axis_name)  # raises where it is not bound
        layout = self.layout(tree)
        _workers.refuse_replicated("the tree to exchange", tree, self.axis_name)
        _groups.check_levels(state.levels, self._initial_levels())
        parts = self._parts(layout, state.levels)
        return layout, parts, self._strategy(parts, workers)

    def _keys(
        self, layout: _trees.Layout, vectors: list[Array], state: ExchangeState
    ) -> list[Array]:
        """This worker's stream of rounding bits for each part."""
        _, key = _random.next_key(state.key)
        # two exchanges of one program, which may have equal keys, round differently
        key = jax.random.fold_in(key, layout.fingerprint)
        return [
            _workers.stream_key(jax.random.fold_in(key, i), vector, self.axis_name)
            for i, vector in enumerate(vectors)
        ]

    def traffic(
        self,
        tree: DualVector,
        workers: int | tuple[int, ...],
        *,
        scalar_bytes: int = 0,
    ) -> Traffic:
        """Bytes of one exchange of such a tree, which the compiled program shows.

        Args:
            tree: the tree, or its shapes and dtypes.
            workers: K, or the sizes of the axes, which "hierarchical" needs.
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
        sizes = workers if isinstance(workers, tuple) else (workers,)
        sizes = [_checks.whole_number("workers", size, 1, None) for size in sizes]
        _checks.whole_number("scalar_bytes", scalar_bytes, 0, None)
        layout, total = self.layout(tree), math.prod(sizes)
        parts = self._parts(layout, self._initial_levels())
        strategy = self._strategy(parts, total)
        phases = _strategies.phases(strategy, parts, sizes, scalar_bytes)
        return _traffic.traffic(strategy, total, phases, layout.coordinates)

    def _strategy(self, parts: Sequence[_wire.Part], workers: int) -> str:
        return _strategies.choose(self.collective, parts, self.quantizers, workers)

    def _parts(
        self, layout: _trees.Layout, levels: Mapping[str, Array]
    ) -> tuple[_wire.Part, ...]:
        return _wire.parts(layout, self.quantizers, self.second, levels)

    def _initial_levels(self) -> dict[str, Array]:
        return {
            group: quantizer.initial_levels
            for group, quantizer in self.quantizers.items()
            if quantizer is not None and quantizer.initial_levels is not None
        }

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
    collective: str | Link | None = None,
    second: Quantizer | Mapping[str, Quantizer | None] | None = None,
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
        collective: with what the mean is made, and what a worker sends of a payload:
            "all_gather": one all-gather of one uint8 buffer, of which each worker
            decodes all K; K - 1 payloads;
            "reduce_scatter": an all-to-all of the chunks of that buffer, of which each
            worker averages its own, and an all-gather of the means, which are encoded
            again with independent bits; 2 (K - 1) / K payloads, and a second variance,
            that of the mean's own quantization, which does not fall with K;
            "hierarchical": on a tuple of axes, exact reduce-scatter over the last one,
            of N workers, then the faster of the two above on 1/N of the vector, then
            exact all-gather; its own vectors are None;
            "exact": an all-reduce in the leaves' precision or float32, only with
            quantizer=None;
            a `Link`: the faster of "all_gather" and "reduce_scatter" by that model; as
            a rule one phase up to K = 2, for small vectors and with slow encoders, two
            phases for large ones; "exact" without a quantizer;
            "auto": the same with the numbers of `Link()`;
            None: one quantization, so that the mean is that of the own vectors:
            "exact" without a quantizer, "all_gather" with one.
        second: what means are rounded to in the second phase of "reduce_scatter", and
            nothing where one phase is chosen; None for the same. With labels, a
            mapping; labels left out keep theirs.
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
    quantizers = _groups.quantizers_of(quantizer, labels)
    own_second = _groups.second_of(second, quantizers)
    _strategies.check(collective, axis_name, quantizers, second)
    if exact is not None:
        what = "of a leaf's path and shape, or None"
        _checks.function("exact", exact, what, "for instance qgenx_jax.small_leaves")
    _random.canonical_key(key)
    return Exchange(axis_name, quantizers, labels, collective, own_second, exact, key)
