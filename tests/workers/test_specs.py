"""Over which axes of a mesh the leaves of a state are cut."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import qgenx_jax as qgenx
from qgenx_jax._workers import specs
from tests.lib.helpers import AXIS

pytestmark = pytest.mark.quick


def mesh():
    auto = (AxisType.Auto,) * 3
    return jax.make_mesh((2, 2, 2), (AXIS, "model", "stage"), auto)


def shape(*sizes, cut, dtype="float32"):
    return jax.ShapeDtypeStruct(sizes, dtype, sharding=NamedSharding(mesh(), cut))


def test_state_specs_find_what_differs_between_workers():
    pair = qgenx.alternating(qgenx.q_genx(AXIS, qgenx.uniform(8)))
    state = jax.eval_shape(pair.init, {"x": jnp.zeros(5)})
    specs = qgenx.state_specs(state, AXIS)
    assert specs.inner.per_worker == {"x": P(AXIS)}
    others = specs._replace(inner=specs.inner._replace(per_worker=None))
    assert set(jax.tree.leaves(others, is_leaf=lambda s: isinstance(s, P))) == {P()}


def test_what_is_like_a_parameter_is_cut_alike():
    params = {
        "embedding": shape(8, 6, cut=P(("stage", "model"))),
        "bias": shape(6, cut=P()),
        "scale": shape(2, cut=P("model")),
    }
    optimizer = qgenx.accumulate(
        2, optax.chain(qgenx.quantized_mean(AXIS, None), optax.adam(1e-3))
    )
    state = jax.eval_shape(optimizer.init, params)
    found = qgenx.state_specs(state, AXIS, params)
    exchange, (adam, _) = found.inner
    like = {"embedding": P(("stage", "model")), "bias": P(), "scale": P("model")}
    assert adam.mu == adam.nu == like
    assert found.per_worker == {
        "embedding": P(AXIS, ("stage", "model")),
        "bias": P(AXIS),
        "scale": P(AXIS, "model"),
    }
    assert (adam.count, exchange.key, found.count) == (P(), P(), P())


def test_one_array_is_found_by_its_shape_and_kind():
    params = shape(2, cut=P("model"))
    state = {
        "moment": jnp.zeros(2),
        "factored": jnp.zeros(1),
        "key": jnp.zeros(2, jnp.uint32),  # words that have the shape by chance
        "per_worker": jnp.zeros((4, 2)),
    }
    assert qgenx.state_specs(state, AXIS, params) == {
        "moment": P("model"),
        "factored": P(),
        "key": P(),
        "per_worker": P(AXIS, "model"),
    }


def test_the_workers_axes_and_unknown_ones_cut_nothing():
    params = {"x": shape(8, 4, cut=P((AXIS, "model"), "stage"))}
    state = {"m": {"x": jnp.zeros((8, 4))}}
    assert qgenx.state_specs(state, AXIS, params) == {"m": {"x": P("model", "stage")}}
    assert qgenx.state_specs(state, (AXIS, "stage"), params) == {"m": {"x": P("model")}}
    known = specs.specs_like(state, AXIS, params, known=("stage",))
    assert known == {"m": {"x": P(None, "stage")}}


def test_a_shard_is_what_other_axes_than_the_workers_leave():
    assert specs.shard_of(shape(8, 4, cut=P((AXIS, "model"), "stage")), AXIS) == (
        (4, 2),
        {"model", "stage"},
    )
    assert specs.shard_of(shape(8, 4, cut=P(AXIS)), AXIS) == ((8, 4), set())
    assert specs.shard_of(np.zeros((3, 5)), AXIS) == ((3, 5), set())
    assert specs.shard_of(1.0, AXIS) == ((), set())
