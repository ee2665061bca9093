"""Moves of `alternating` reach the parameters as they are, or are refused at init."""

import jax
import jax.numpy as jnp
import optax
import pytest

import qgenx_jax as qgenx
from tests.lib.helpers import AXIS

PARAMS = {"a": jnp.ones((2, 3)), "b": jnp.ones(4)}
PAIRS = {
    "extra_sgd": qgenx.extra_sgd(0.1),
    "oracle-free": qgenx.q_genx(None, None, variant="optimistic"),
    "exchanging": qgenx.q_genx(AXIS, qgenx.uniform(8)),
    "over two axes": qgenx.q_genx(("host", "chip"), None),
}


@optax.stateless
def halved_where_large(updates, params):
    del params
    return jax.tree.map(lambda x: jnp.where(jnp.abs(x) > 1, x / 2, x), updates)


CHANGED = {
    "scaled": lambda inner: optax.chain(inner, optax.scale(0.5)),
    "added to": lambda inner: optax.chain(inner, optax.add_decayed_weights(0.1)),
    "negated": lambda inner: optax.chain(inner, optax.scale(-1.0)),
    "taken from zero": lambda inner: optax.chain(
        inner, optax.stateless(lambda u, _: jax.tree.map(lambda x: 0 - x, u))
    ),
    "in part": lambda inner: optax.chain(inner, halved_where_large),
    "by a value": lambda inner: optax.chain(
        inner, optax.contrib.reduce_on_plateau(patience=1)
    ),
    "within accumulate": lambda inner: qgenx.accumulate(
        2, optax.chain(inner, optax.clip(1.0))
    ),
}
KEPT = {
    "alone": lambda inner: inner,
    "scaled by 1": lambda inner: optax.chain(inner, optax.scale(1.0)),
    "held back": lambda inner: optax.MultiSteps(inner, 2).gradient_transformation(),
    "if finite": lambda inner: optax.apply_if_finite(inner, 2),
    "flattened": optax.flatten,
    "vectors scaled": lambda inner: optax.chain(optax.scale(0.5), inner),
    "beside another": lambda inner: optax.partition(
        {"game": inner, "rest": optax.adam(0.1)}, {"a": "game", "b": "rest"}
    ),
    "accumulated": lambda inner: qgenx.accumulate(2, inner),
}


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("change", CHANGED)
def test_who_changes_a_move_is_refused(change, pair):
    optimizer = CHANGED[change](qgenx.alternating(PAIRS[pair]))
    with pytest.raises(ValueError, match=r"moves of alternating as they are.*leaf \["):
        qgenx.init(optimizer, PARAMS, workers=3)


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("kept", KEPT)
def test_who_hands_moves_on_or_holds_them_back_is_not(kept, pair):
    optimizer = KEPT[kept](qgenx.alternating(PAIRS[pair]))
    qgenx.init(optimizer, PARAMS, workers=3)


def test_low_precision_and_one_leaf_without_a_path():
    half = jnp.ones(3, jnp.bfloat16)
    optimizer = qgenx.alternating(qgenx.extra_adam(0.1))
    qgenx.init(optimizer, half, workers=2)
    with pytest.raises(ValueError, match="the whole"):
        qgenx.init(optax.chain(optimizer, optax.scale(2.0)), half, workers=2)


def test_what_cannot_be_traced_is_left_to_its_caller():
    def update(updates, state, params=None, *, loss):
        return optimizer.update(
            jax.tree.map(lambda x: x * loss, updates), state, params
        )

    optimizer = qgenx.alternating(qgenx.extra_sgd(0.1))
    wants_more = optax.GradientTransformationExtraArgs(optimizer.init, update)
    qgenx.init(wants_more, PARAMS, workers=2)


MEAN = qgenx.quantized_mean(AXIS, None)
AS_ONE = {
    "chain": lambda pair: optax.chain(MEAN, pair),
    "named_chain": lambda pair: optax.named_chain(("mean", MEAN), ("pair", pair)),
    "masked": lambda pair: optax.masked(pair, {"a": True, "b": False}),
    "partition": lambda pair: optax.partition({"all": pair}, {"a": "all", "b": "all"}),
    "apply_if_finite": lambda pair: optax.apply_if_finite(pair, 2),
}


@pytest.mark.parametrize("wrapper", AS_ONE)
def test_a_pair_that_is_called_as_one_transformation_is_refused(wrapper):
    optimizer = AS_ONE[wrapper](qgenx.extra_adam(0.1))
    with pytest.raises(ValueError, match=r"both half-steps .*qgenx_jax\.alternating"):
        qgenx.init(optimizer, PARAMS, workers=2)


@pytest.mark.parametrize("pair", PAIRS)
def test_a_pair_alone_and_an_optimizer_that_drives_both_sides_are_not(pair):
    qgenx.init(PAIRS[pair], PARAMS, workers=2)
    extrapolation, update = PAIRS[pair]

    def both(updates, state, params=None):
        is_free = isinstance(extrapolation, qgenx.OracleFree)
        first, state = extrapolation.update(None if is_free else updates, state, params)
        half = optax.apply_updates(params, first)
        second, state = update.update(updates, state, half)
        return jax.tree.map(jnp.add, first, second), state

    qgenx.init(optax.GradientTransformation(update.init, both), PARAMS, workers=2)
