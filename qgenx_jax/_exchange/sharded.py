"""An exchange of leaves that are cut over mesh axes left to jit, shard by shard.

To make one vector of a leaf that jit cuts is to put the leaf together on every device,
in full precision, which nobody asked for. Where the cuts are known, each shard is a
vector: a `jax.shard_map` over those axes, within that over the workers, hands every
device its own, and `shards` does the rest.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import PartitionSpec

from qgenx_jax import _checks
from qgenx_jax._exchange import strategy
from qgenx_jax._exchange.exchange import Exchange
from qgenx_jax._exchange.layout import Layout
from qgenx_jax._exchange.state import ExchangeState
from qgenx_jax._types import Array, DualVector
from qgenx_jax._workers import axes
from qgenx_jax._workers.specs import names_of


@dataclasses.dataclass(frozen=True, eq=False)
class ShardedExchange(Exchange):
    """An exchange that knows how its leaves are cut; see `Exchange`.

    Attributes:
        specs: PartitionSpecs of the leaves, a prefix of the tree to exchange, or a
            function from that tree to such.
    """

    specs: Any

    def send(
        self,
        tree: DualVector,
        state: ExchangeState,
        *,
        scalar: Callable[[DualVector], Array] | None = None,
    ) -> tuple[tuple[DualVector, DualVector, Array | None], ExchangeState]:
        """See `Exchange.send`; `scalar` gets the whole vector, as jit has it."""
        specs, names = self._cuts(tree)
        of = self._labelled(tree)
        if not names or scalar is None:
            number = None
        else:
            # Levels that are due are fitted here, for the number's sake, and again in
            # the exchange: the same, as tree and state are, so that the number is of
            # the very vector that travels. It costs one more refresh, where one is due.
            own = self.quantize(tree, self._fitted(tree, state))
            number = strategy.scalars(scalar(own))

        def run(tree: Any, state: Any, number: Any) -> Any:
            rides = scalar if number is None else lambda own: number
            return Exchange.send(of, tree, state, scalar=rides)

        of_own = None if self.collective == "hierarchical" else specs
        out_specs = ((specs, of_own, PartitionSpec()), PartitionSpec())
        return self._nested(run, (specs, names), out_specs)(tree, state, number)

    def mean(
        self, tree: DualVector, state: ExchangeState, **settings: Any
    ) -> tuple[DualVector, ExchangeState]:
        """See `Exchange.mean`."""
        cuts, of = self._cuts(tree), self._labelled(tree)

        def run(tree: Any, state: Any, settings: Any) -> Any:
            return Exchange.mean(of, tree, state, **settings)

        out_specs = (cuts[0], PartitionSpec())
        return self._nested(run, cuts, out_specs)(tree, state, settings)

    def _fitted(self, tree: DualVector, state: ExchangeState) -> ExchangeState:
        """See `Exchange`: what is summed up are shards."""
        cuts, of = self._cuts(tree), self._labelled(tree)

        def run(tree: Any, state: Any) -> Any:
            return Exchange._fitted(of, tree, state)

        return self._nested(run, cuts, PartitionSpec())(tree, state)

    def quantize(
        self, tree: DualVector, state: ExchangeState, **settings: Any
    ) -> DualVector:
        """See `Exchange.quantize`."""
        cuts, of = self._cuts(tree), self._labelled(tree)

        def run(tree: Any, state: Any, settings: Any) -> Any:
            return Exchange.quantize(of, tree, state, **settings)

        return self._nested(run, cuts, cuts[0])(tree, state, settings)

    def layout(self, tree: DualVector) -> Layout:
        """See `Exchange.layout`; specs say what is cut also where JAX does not."""
        found = super().layout(tree)
        specs = jax.tree.leaves(broadcast(self.specs, tree), is_leaf=_is_spec)
        workers = names_of([self.axis_name])[0]
        cut = (frozenset().union(*names_of(spec)).difference(workers) for spec in specs)
        over = tuple(x | y for x, y in zip(found.over, cut, strict=True))
        return dataclasses.replace(found, over=over)

    def _labelled(self, tree: DualVector) -> "ShardedExchange":
        """The same with labels of whole leaves, where a function would see shards."""
        labels = self.labels
        if not callable(labels):
            return self
        return dataclasses.replace(self, labels=labels(tree))

    def _cuts(self, tree: DualVector) -> tuple[Any, frozenset]:
        """The leaves' specs, and the axes they name, of those that are left to jit.

        On one device, or where all axes are by hand, none is.

        Raises:
            ValueError: if specs do not fit the tree.
        """
        _checks.floating_leaves("the tree to exchange", tree)
        mesh = jax.sharding.get_abstract_mesh()
        known = set(mesh.axis_names) - axes.by_hand()
        each = broadcast(self.specs, tree)
        found = jax.tree.map(lambda spec: _among(spec, known), each, is_leaf=_is_spec)
        named = map(names_of, jax.tree.leaves(found, is_leaf=_is_spec))
        return found, frozenset().union(*(names for spec in named for names in spec))

    def _nested(
        self, run: Callable, cuts: tuple[Any, frozenset], out_specs: Any
    ) -> Callable[..., Any]:
        """A function of a tree, and of what all shards have, mapped over shards."""
        specs, names = cuts
        if not names:
            return run
        tracked = self.axis_name is None or bool(axes.tracked(self.axis_name))

        def call(tree: Any, *others: Any) -> Any:
            mapped = jax.shard_map(
                run,
                in_specs=(specs, *[PartitionSpec()] * len(others)),
                out_specs=out_specs,
                axis_names=set(names),
                check_vma=tracked,  # inside as around it
            )
            return mapped(tree, *others)

        return call


def sharded(exchange: Exchange, specs: Any) -> ShardedExchange:
    """The exchange, of leaves that are cut as `specs` say.

    Raises:
        ValueError: if a leaf of specs is no PartitionSpec.
    """
    if not callable(specs):
        _check(specs)
    fields = {f.name: getattr(exchange, f.name) for f in dataclasses.fields(exchange)}
    return ShardedExchange(**fields, specs=specs)


def _check(specs: Any) -> None:
    for spec in jax.tree.leaves(specs, is_leaf=_is_spec):
        if not _is_spec(spec):
            rule = "must be a tree of PartitionSpecs, or a function to one"
            way_out = 'pass for instance jax.sharding.PartitionSpec(None, "model")'
            raise _checks.refuse("specs", rule, spec, way_out)


def broadcast(specs: Any, tree: Any) -> Any:
    """The PartitionSpec of each leaf of a tree.

    Raises:
        ValueError: if specs are no prefix of the tree, or none.
    """
    if callable(specs):
        specs = specs(tree)
        _check(specs)
    try:
        return jax.tree.map(
            lambda spec, part: jax.tree.map(lambda _: spec, part),
            specs,
            tree,
            is_leaf=_is_spec,
        )
    except ValueError as error:
        rule = f"must be a prefix of the tree to exchange, {jax.tree.structure(tree)}"
        way_out = "give a PartitionSpec for every leaf, or for whole subtrees"
        raise _checks.refuse("specs", rule, specs, way_out) from error


def _is_spec(x: Any) -> bool:
    return isinstance(x, PartitionSpec)


def _among(spec: PartitionSpec, known: set) -> PartitionSpec:
    """A spec without axes that are not known."""
    each = [tuple(n for n in names if n in known) for names in names_of(spec)]
    return PartitionSpec(*(names or None for names in each))
