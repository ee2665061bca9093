"""Which collective an exchange takes where none is named."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qgenx_jax as qgenx
from tests.lib.helpers import AXIS

pytestmark = pytest.mark.quick

BITS = qgenx.uniform(4, bucket_size=64)


@pytest.mark.parametrize(
    ("size", "workers", "expected"),
    [
        (10**6, 1, "exact"),  # nothing is sent
        (10**6, 2, "all_gather"),  # as many bytes, and one quantization
        (10**6, 3, "reduce_scatter"),
        (10**6, 64, "reduce_scatter"),
        (10**4, 3, "all_gather"),  # latency counts for more
        (1, 64, "all_gather"),
        (0, 8, "all_gather"),
    ],
)
def test_auto_takes_two_phases_where_bytes_count(size, workers, expected):
    vector = jax.ShapeDtypeStruct((size,), "float32")
    auto = qgenx.exchange(AXIS, BITS, collective="auto").traffic(vector, workers)
    assert auto.collective == expected


def test_defaults_and_auto():
    """A mean alone goes by what is fastest, what hands on own vectors by one phase."""
    vector = jax.ShapeDtypeStruct((1024, 1024), "float32")
    names = {
        quantizer: [
            qgenx.exchange(AXIS, quantizer, collective=collective)
            .traffic(vector, 8)
            .collective
            for collective in ("once", "auto")
        ]
        for quantizer in (None, BITS)
    }
    assert names == {None: ["exact"] * 2, BITS: ["all_gather", "reduce_scatter"]}


ONE = jax.make_mesh((1, 2), ("host", "chip"), devices=jax.devices()[:2])


def mean_on(mesh, axis, collective, vectors):
    """Of one quantized mean on a mesh, with the program's text."""
    optimizer = qgenx.quantized_mean(axis, BITS, collective=collective, exact=None)

    def step(params, state, vector):
        return optimizer.update(vector, state, params)

    run = qgenx.map_workers(step, axis, mesh=mesh)
    state = qgenx.init(optimizer, vectors[0], mesh, axis)
    text = run.lower(vectors[0], state, vectors).compile().as_text()
    return np.asarray(run(vectors[0], state, vectors)[0]), text


@pytest.mark.parametrize(
    ("collective", "is_exact"),
    [("auto", True), ("once", False), ("all_gather", False), ("reduce_scatter", False)],
)
def test_one_worker_sends_nothing_and_rounds_where_that_is_asked_for(
    collective, is_exact
):
    x = np.random.default_rng(0).normal(size=(1, 500)).astype(np.float32)
    mesh = jax.make_mesh((1,), (AXIS,), devices=jax.devices()[:1])
    mean, _ = mean_on(mesh, AXIS, collective, x)
    assert np.array_equal(mean, x[0]) == is_exact
    exchange = qgenx.exchange(AXIS, BITS, collective=collective)
    assert exchange.traffic(x[0], 1).sent_bytes == 0
    expected = {"auto": "exact", "once": "all_gather", "reduce_scatter": "all_gather"}
    name = exchange.traffic(x[0], 1).collective
    assert name == expected.get(collective, collective)


def test_one_host_alone_rounds_nothing():
    x = np.random.default_rng(0).normal(size=(2, 500)).astype(np.float32)
    mean, text = mean_on(ONE, ("host", "chip"), "hierarchical", x)
    np.testing.assert_allclose(mean, x.astype(np.float64).mean(axis=0), 1e-6, 1e-7)
    assert "u8[" not in text, "something is encoded"


def test_reduce_scatter_of_one_worker_has_one_rounding():
    """Its mean is its own vector; a second rounding would be variance for nothing."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 500)), jnp.float32)
    coarse = qgenx.uniform(2)
    exchange = qgenx.exchange(AXIS, BITS, collective="reduce_scatter", second=coarse)

    def run(vector):
        (mean, own, _), _ = exchange.send(vector, exchange.init())
        return mean, own

    mean, own = jax.jit(jax.vmap(run, axis_name=AXIS))(x)
    np.testing.assert_array_equal(mean, own)
