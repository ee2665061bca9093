"""A pair for each player, as one pair."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import optax

from qgenx_jax import _checks, _trees
from qgenx_jax._exchange.groups import Labels, spread
from qgenx_jax._methods.averaging import EmaState, ErgodicAverageState
from qgenx_jax._methods.exchanging import ExchangingPair
from qgenx_jax._methods.known_leaves import overlaid
from qgenx_jax._methods.pair import ExtragradientPair, make_pair, step_of
from qgenx_jax._types import DualVector, HalfStep, Params, State


class PartitionState(NamedTuple):
    """State of `partition`.

    Attributes:
        inner: by label, the state that the half-steps of its pair share; trees like the
            parameters have optax.MaskedNode where a leaf is another's.
    """

    inner: Mapping[str, State]


def partition(
    pairs: Mapping[str, ExtragradientPair], labels: Labels
) -> ExtragradientPair:
    """One extra-gradient pair of several, each for its own leaves of the parameters.

    All players move at once, by one joint dual vector: each pair is given the leaves of
    its label at both half-steps. So each may have its own optimizer, learning rate and
    projection, where the points that the vectors are taken at are those of one method.

    Args:
        pairs: by label, from `extragradient`, `extra_adam`, `extra_sgd`, or a `chain`
            without an exchange: one `quantized_mean` before the whole sends all leaves
            together.
        labels: of the leaves, as in optax.partition: a tree of strings, a prefix of the
            parameters' tree, or a function from it to that.

    Returns:
        The pair, for `chain`, `iterate` and `alternating`.

    Raises:
        ValueError: if there is no pair, or one is none, an observer, or exchanges
            itself, as `q_genx` does; at init, if the labels are no prefix of the
            parameters, a leaf's label has no pair, a pair no leaf, or an observer.

    Example:
        >>> import jax.numpy as jnp, optax, qgenx_jax as qgenx
        >>> positive = optax.projections.projection_non_negative
        >>> pair = qgenx.chain(
        ...     qgenx.quantized_mean("data", qgenx.uniform(bits=4)),
        ...     qgenx.partition(
        ...         {
        ...             "weights": qgenx.extra_adam(1e-3),
        ...             "multiplier": qgenx.extra_sgd(0.1, projection=positive),
        ...         },
        ...         {"weights": "weights", "multiplier": "multiplier"},
        ...     ),
        ... )
        >>> state = pair.init({"weights": jnp.ones((4, 3)), "multiplier": jnp.zeros(2)})
    """
    if not isinstance(pairs, Mapping) or not pairs:
        rule, way_out = "must be a mapping with at least one pair", "label the pairs"
        raise _checks.refuse("pairs", rule, pairs, way_out)
    for label, pair in pairs.items():
        _check_pair(label, pair)
    steps = {label: step_of(pair) for label, pair in pairs.items()}

    def parts(tree: Params, own: list[str]) -> dict[str, Params]:
        leaves, structure = jax.tree.flatten(tree)
        hidden = optax.MaskedNode()
        return {
            label: structure.unflatten(
                [
                    x if mine == label else hidden
                    for x, mine in zip(leaves, own, strict=True)
                ]
            )
            for label in pairs
        }

    def labels_of(params: Params) -> list[str]:
        own = spread(params, labels)
        for label in own:
            _checks.one_of("labels", label, pairs)
        return own

    def init_fn(params: Params) -> PartitionState:
        own = labels_of(params)
        for label in pairs:
            if own and label not in own:
                rule = f"must give {label!r}, which has a pair, at least one leaf"
                way_out = "label a leaf so, or leave that pair out"
                raise _checks.refuse("labels", rule, sorted(set(own)), way_out)
        mine = parts(params, own)
        inner = {label: pair.init(mine[label]).inner for label, pair in pairs.items()}
        if _trees.find(inner, (EmaState, ErgodicAverageState)):
            raise _checks.refuse(
                "pairs",
                "must have no observers, which would average a part of the parameters",
                _checks.Text("a chain with one"),
                "write qgenx_jax.chain(partition(...), ema(...))",
            )
        return PartitionState(inner)

    def step_fn(
        updates: DualVector,
        state: State,
        params: Params,
        *,
        half_step: HalfStep,
        **extra: Any,
    ) -> tuple[Params, PartitionState]:
        way_out = "make the state by init of this very pair"
        _checks.instance_of("state", state, PartitionState, way_out)
        if set(state.inner) != set(pairs):
            rule = f"must have the labels {sorted(pairs)}"
            raise _checks.refuse("state", rule, sorted(state.inner), way_out)
        own = labels_of(params)
        way_out = "pass the dual vector at these params"
        _checks.same_structure("updates", updates, "params", params, way_out)
        points, vectors = parts(params, own), parts(updates, own)
        moves, inner = {}, {}
        for label, step in steps.items():
            moves[label], inner[label] = step(
                vectors[label],
                state.inner[label],
                points[label],
                half_step=half_step,
                **extra,
            )
        whole = overlaid(list(moves.values()), "move", "label each leaf once")
        return whole, PartitionState(inner)

    return make_pair(init_fn, step_fn)


def _check_pair(label: Any, pair: Any) -> None:
    """Checks one pair under its label.

    Raises:
        ValueError: as `partition` does.
    """
    name = f"pairs[{label!r}]"
    if not isinstance(label, str):
        raise _checks.refuse(
            "pairs", "must have strings for labels", label, "name them"
        )
    step_of(pair, may_observe=False)
    if isinstance(pair, ExchangingPair):
        raise _checks.refuse(
            name,
            "must not exchange: players travel together",
            _checks.Text("a pair with an exchange in it"),
            "write qgenx_jax.chain(quantized_mean(...), partition(...)); q_genx has "
            "gamma0 and projection for each player",
        )
