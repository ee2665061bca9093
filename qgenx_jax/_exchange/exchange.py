"""The exchange: a tree per worker goes in, the mean over workers comes out.

    flatten -> encode -> one uint8 buffer -> one all-gather -> decode and average

All that a worker sends at one exchange (packed codes, norms, leaves kept exact, numbers
for the step size) lies in one buffer, so that an exchange is one collective. By
`reduce_scatter` it is two, with one buffer each.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from qgenx_jax import _checks, _random
from qgenx_jax._codec.bits import Stream
from qgenx_jax._codec.quantizer import Quantizer, initial_levels
from qgenx_jax._exchange import (
    choice,
    derivative,
    groups,
    refresh,
    shards,
    strategy,
    traffic,
    weights,
)
from qgenx_jax._exchange.groups import Labels
from qgenx_jax._exchange.layout import Layout
from qgenx_jax._exchange.parts import Part, Pieces, parts
from qgenx_jax._exchange.state import ExchangeState
from qgenx_jax._exchange.strategy import Strategy, Wanted
from qgenx_jax._exchange.streams import streams_of
from qgenx_jax._exchange.traffic import Link, Traffic
from qgenx_jax._types import Array, AxisName, DualVector, LeafPredicate
from qgenx_jax._workers import axes


@dataclasses.dataclass(frozen=True, eq=False)
class Exchange:
    """Averages trees over workers; made by `exchange`, which says what each may be.

    Attributes:
        axis_name: the axis over workers, or a tuple of axes; None for one worker.
        quantizers: by label, None for leaves that travel exact; the label is "all"
            where there is one quantizer.
        labels: of the leaves; None where there is one quantizer.
        collective: "once", "auto", "exact", "all_gather", "reduce_scatter" or
            "hierarchical".
        link: what "auto" and "hierarchical" choose by.
        second: by label, the quantizers of means that are encoded again, where they are
            others.
        exact: chooses leaves that travel as their own bytes; None for none.
        rounding: "correlated" between workers, or "independent".
        key: the key or seed that states begin with.
        generator: whose keys the states' words are, as `jax.random.key_impl` has it:
            that of a typed key, else what JAX's `jax_default_prng_impl` was when the
            exchange was made.
        checksum: whether messages have one.
    """

    axis_name: AxisName
    quantizers: Mapping[str, Quantizer | None]
    labels: Labels | None
    collective: str
    link: Link
    second: Mapping[str, Quantizer | None]
    exact: LeafPredicate | None
    rounding: str
    key: Any
    generator: Any
    checksum: bool

    def init(self) -> ExchangeState:
        """The state before the first send; it shares no buffer with the key given.

        It is a tree of plain arrays, whatever kind of key was given.
        """
        key = _random.canonical_key(self.key, self.generator)
        return ExchangeState(
            _random.words(key),
            self._initial_levels(),
            adaptation=refresh.initial(self.quantizers),
        )

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
            scalar: from this worker's own decoded vector, one number, or a short vector
                (m,) of them, that rides in the same buffer.

        Returns:
            ((mean, own, scalars), state): the mean over workers of the decoded vectors,
            equal on all workers to the last bit; this worker's own decoded vector, both
            in float32, or float64 for float64 leaves; what the workers' `scalar` gave,
            shape (K,) or (K, m), or None without it.

        Raises:
            ValueError: if the state is not an exchange's, the axis is not bound, a leaf
                is not a real floating-point array or does not vary over the workers, or
                no leaf is left to quantize.
        """
        if scalar is not None:
            _checks.function("scalar", scalar, "of a decoded vector", "or leave it out")
        state, layout, way, ways, vectors, streams = self._prepared(tree, state)

        def scalars(own: Sequence[Pieces]) -> Array:
            assert scalar is not None
            return strategy.scalars(scalar(layout.unflatten(own)))

        wanted = Wanted(True, None if scalar is None else scalars)
        found = way.mean(ways, vectors, streams, wanted, self.axis_name)
        mean = self._mean(layout.unflatten(found.means), tree, way)
        own = None if found.own is None else layout.unflatten(found.own)
        own = None if own is None else derivative.of_own(own, tree)
        return (mean, own, found.scalars), self._after(state, way)

    def mean(
        self, tree: DualVector, state: ExchangeState, *, weight: Any = None
    ) -> tuple[DualVector, ExchangeState]:
        """(mean, state) of `send`, without what else that returns.

        Args:
            tree: this worker's dual vector.
            state: the exchange's state, equal on all workers.
            weight: this worker's w_k >= 0, for sum_k w_k V_k / sum_k w_k. It rides in
                the same buffer. A worker of weight 0 adds nothing, whatever its vector;
                if all weights are 0, so is the mean; a traced weight that is negative
                or not finite makes it NaN. It must not be differentiated by.

        Raises:
            ValueError: as `send` does, for a weight that is none, and for one in
                "hierarchical".
        """
        wanted = Wanted()
        if weight is not None:
            # before the weight, which varies, hides what does not
            axes.refuse_replicated("the tree to exchange", tree, self.axis_name)
            _checks.floating_leaves("the tree to exchange", tree)
            own = weights.checked(weight, tree, self.collective, self.axis_name)
            tree = weights.times(own, tree)
            wanted = Wanted(scalars=lambda _: own)
        state, layout, way, ways, vectors, streams = self._prepared(tree, state)
        found = way.mean(ways, vectors, streams, wanted, self.axis_name)
        mean = self._mean(layout.unflatten(found.means), tree, way)
        if found.scalars is not None:
            mean = weights.scaled(weights.factor(found.scalars), mean)
        return mean, self._after(state, way)

    def quantize(self, tree: DualVector, state: ExchangeState) -> DualVector:
        """This worker's own decoded vector, as `send` gives it, without a collective.

        For measuring what quantization changes; it may stand in a `lax.cond`. The tree,
        the state, the dtypes of the result and the errors are those of `send`; levels
        are those of the state, even if `send` would fit them anew. Where no axis is
        bound, a like exchange with axis_name=None and one phase ("once" or
        "all_gather") rounds as worker 0 of this one does, if it rounds independently
        and does not dither.
        """
        known = self._prepared(tree, state, fits=False)[1:]
        layout, way, ways, vectors, streams = known
        own = layout.unflatten(way.own(ways, vectors, streams, self.axis_name))
        return derivative.of_own(own, tree)

    def traffic(
        self,
        tree: DualVector,
        workers: int | tuple[int, ...],
        *,
        scalar_bytes: int = 0,
    ) -> Traffic:
        """Bytes of one exchange of such a tree, which the compiled program shows.

        What `quantized_mean` and `q_genx` return has a `traffic` of its own, that of an
        update or of an iteration, which knows what rides along.

        Args:
            tree: the tree, or its shapes and dtypes; of what a `NamedSharding` cuts
                over other axes than the workers' a shard is counted.
            workers: K, or the sizes of the axes, which "hierarchical" needs.
            scalar_bytes: of what `scalar` of `send` returns, 4 for each float32 number.

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
        ways = self._parts(layout, self._initial_levels())
        way = self._strategy(ways, sizes)
        phases = way.phases(ways, total, scalar_bytes)
        return traffic.traffic(way.name, total, phases, layout.coordinates)

    def layout(self, tree: DualVector) -> Layout:
        """How the leaves of a tree travel.

        Raises:
            ValueError: as `send` does for the tree.
        """
        return groups.layout(
            tree, self.quantizers, self.labels, self.exact, self.axis_name
        )

    def sum_of_squares(self, tree: DualVector) -> Array:
        """||tree||_2^2 of a worker's vector, of all shards where a model is cut."""
        bound = axes.by_hand()
        return shards.sum_of_squares(tree, [x & bound for x in self.layout(tree).over])

    def _fitted(self, tree: DualVector, state: ExchangeState) -> ExchangeState:
        """The state with the levels of the next exchange, of this tree."""
        return self._prepared(tree, state)[0]

    def _checked(
        self, tree: DualVector, state: ExchangeState
    ) -> tuple[Layout, Strategy, Sequence[Part], list[Array]]:
        """How the tree travels, the strategy, parts and vectors for it."""
        made = "make it by init of this very exchange"
        _checks.instance_of("state", state, ExchangeState, made)
        _random.canonical_key(state.key, self.generator, "state.key")
        sizes = axes.axis_sizes(self.axis_name)  # raises where it is not bound
        layout = self.layout(tree)
        axes.refuse_replicated("the tree to exchange", tree, self.axis_name)
        groups.check_levels(state.levels, self._initial_levels())
        refresh.check(state.adaptation, self.quantizers)
        ways = self._parts(layout, state.levels)
        return layout, self._strategy(ways, sizes), ways, layout.flatten(tree)

    def _prepared(
        self, tree: DualVector, state: ExchangeState, *, fits: bool = True
    ) -> tuple[ExchangeState, Layout, Strategy, Any, list[Array], list[Stream]]:
        """The state with levels for the tree, how it travels, the strategy, and parts,
        vectors and streams for it.
        """
        layout, way, ways, vectors = self._checked(tree, state)
        if not _rounds(way):
            return state, layout, way, ways, vectors, [state.key] * len(vectors)
        if fits and state.adaptation is not None:
            known = derivative.constant(tree), state.levels, state.adaptation
            found = refresh.refreshed(*known, layout, self.quantizers, self.axis_name)
            state = state._replace(levels=found[0], adaptation=found[1])
            ways = self._parts(layout, state.levels)
        _, key = _random.next_key(state.key, self.generator)
        # two exchanges of one program, which may have equal keys, round differently
        key = jax.random.fold_in(key, layout.fingerprint)
        rounded = streams_of(key, ways, vectors, self.axis_name, self.rounding)
        return state, layout, way, ways, derivative.constant(vectors), rounded

    def _mean(self, mean: DualVector, tree: DualVector, way: Strategy) -> DualVector:
        """The mean with its derivative, which an all-reduce has by itself."""
        is_rounded = _rounds(way)
        return derivative.of_mean(mean, tree, self.axis_name) if is_rounded else mean

    def _after(self, state: ExchangeState, way: Strategy) -> ExchangeState:
        """The state after an exchange; one that rounds nothing uses no key."""
        if not _rounds(way):
            return state
        return state._replace(key=_random.next_key(state.key, self.generator)[0])

    def _strategy(self, ways: Sequence[Part], sizes: Sequence[int]) -> Strategy:
        is_exact = not any(self.quantizers.values())
        named = None if self.axis_name is None else sizes
        known = self.collective, self.link, ways, is_exact, named, self.checksum
        way = choice.choose(*known)
        return shards.by_axes(way, ways)

    def _parts(self, layout: Layout, levels: Mapping[str, Array]) -> tuple[Part, ...]:
        return parts(layout, self.quantizers, self.second, levels)

    def _initial_levels(self) -> dict[str, Array]:
        levels = {
            group: initial_levels(quantizer)
            for group, quantizer in self.quantizers.items()
            if quantizer is not None
        }
        return {group: x for group, x in levels.items() if x is not None}


def _rounds(way: Strategy) -> bool:
    return way.name != "exact"
