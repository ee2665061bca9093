"""What the compiled program of a training step moves between devices."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import qgenx_jax as qgenx
from qgenx_jax._workers import axes, running
from tests.lib.helpers import AXIS, mesh_of
from tests.lib.hlo import collectives

WORKERS = 3


def assert_only_quantized_traffic(hlo, buffers, coordinates):
    """One u8 all-gather per buffer, of K times its size; no other of gradient size."""
    gathers = [size for op, dtype, size in collectives(hlo) if dtype == "u8"]
    assert sorted(gathers) == sorted(WORKERS * b for b in buffers), collectives(hlo)
    floats = [
        c for c in collectives(hlo) if c[1] != "u8" and c[2] >= coordinates // 100
    ]
    assert not floats, f"collectives of gradient size: {floats}"


def network(params, batch):
    """Mean loss of a two-layer network on this worker's batch."""
    inputs, targets = batch
    hidden = jnp.tanh(inputs @ params["first"] + params["bias"][None])
    return jnp.mean((hidden @ params["second"] - targets) ** 2)


PARAMS = {
    "first": jnp.zeros((64, 96)),
    "bias": jnp.zeros(96),
    "second": jnp.zeros((96, 32)),
}
COORDINATES = 64 * 96 + 96 + 96 * 32


def compiled_step(pair, *, axis_name=AXIS, local=True):
    """The optimized HLO of one iteration on three devices."""
    mesh = mesh_of(WORKERS)
    step = qgenx.iterate(
        pair, jax.grad(network), axis_name=axis_name if local else None
    )
    run = qgenx.map_workers(step, AXIS, mesh=mesh)
    state = qgenx.init(pair, PARAMS, mesh, AXIS)
    calls = 1 if pair.is_oracle_free else 2
    batch = jnp.zeros((WORKERS, calls, 16, 64)), jnp.zeros((WORKERS, calls, 16, 32))
    return run.lower(PARAMS, state, batch).compile().as_text()


def q_genx(variant, bits=4):
    return qgenx.q_genx(AXIS, qgenx.uniform(bits), variant=variant)


def payload_bytes(*, number, exact=None, bits=4):
    exchange = qgenx.exchange(AXIS, qgenx.uniform(bits), exact=exact)
    return exchange.traffic(
        PARAMS, WORKERS, scalar_bytes=4 if number else 0
    ).payload_bytes


@pytest.mark.parametrize(
    ("variant", "bits"), [("dual_averaging", 8), ("optimistic", 4), ("optimistic", 2)]
)
def test_oracle_free_variants_exchange_once(variant, bits):
    buffers = [payload_bytes(number=True, bits=bits)]
    hlo = compiled_step(q_genx(variant, bits))
    assert_only_quantized_traffic(hlo, buffers, COORDINATES)


@pytest.mark.quick
def test_a_constant_step_size_sends_no_number():
    pair = qgenx.q_genx(AXIS, qgenx.uniform(4), variant="dual_averaging", step_size=0.1)
    buffers = [payload_bytes(number=False)]
    assert_only_quantized_traffic(compiled_step(pair), buffers, COORDINATES)


def test_dual_extrapolation_exchanges_twice():
    # the number for the step size rides only with the second vector
    buffers = [payload_bytes(number=False), payload_bytes(number=True)]
    hlo = compiled_step(q_genx("dual_extrapolation"))
    assert_only_quantized_traffic(hlo, buffers, COORDINATES)


def test_extra_adam_exchanges_twice_and_small_leaves_ride_along():
    pair = qgenx.chain(
        qgenx.quantized_mean(AXIS, qgenx.uniform(4), collective="all_gather"),
        qgenx.extra_adam(1e-3),
    )
    buffers = [payload_bytes(number=False, exact=qgenx.small_leaves)] * 2
    assert_only_quantized_traffic(compiled_step(pair), buffers, COORDINATES)


@pytest.mark.parametrize("variant", ["dual_averaging", "dual_extrapolation"])
def test_one_call_of_alternating_exchanges_once(variant):
    """Also where the half-step is traced: one collective, not one for each branch."""
    optimizer = qgenx.alternating(q_genx(variant))
    mesh = mesh_of(WORKERS)

    def step(params, state, batch):
        gradient = jax.grad(network)(qgenx.local_params(params, AXIS), batch)
        updates, state = optimizer.update(gradient, state, params)
        return jax.tree.map(jnp.add, params, updates), state

    run = qgenx.map_workers(step, AXIS, mesh=mesh)
    state = qgenx.init(optimizer, PARAMS, mesh, AXIS)
    batch = jnp.zeros((WORKERS, 16, 64)), jnp.zeros((WORKERS, 16, 32))
    hlo = run.lower(PARAMS, state, batch).compile().as_text()
    buffers = [payload_bytes(number=True)]
    assert_only_quantized_traffic(hlo, buffers, COORDINATES)


def test_the_guards_are_what_keeps_float_sums_out(monkeypatch):
    """Replicated parameters: the guards raise; without them floats are moved."""
    pair = q_genx("optimistic")
    with pytest.raises(ValueError, match="must vary over the worker axis"):
        compiled_step(pair, local=False)
    monkeypatch.setattr(axes, "refuse_replicated", lambda *args: None)
    with pytest.raises(ValueError, match="must not take a gradient"):
        compiled_step(pair, local=False)
    monkeypatch.setattr(running, "refuse_summed", lambda *args: None)
    hlo = compiled_step(pair, local=False)
    with pytest.raises(AssertionError, match="collectives of gradient size"):
        assert_only_quantized_traffic(hlo, [payload_bytes(number=True)], COORDINATES)


@pytest.mark.quick
def test_the_reading_of_hlo_sees_float_collectives():
    """The check itself: a plain mean of gradients is found, with its size."""

    def mean(x):
        return lax.pmean(x[0], AXIS)

    mapped = jax.shard_map(
        mean,
        mesh=mesh_of(WORKERS),
        in_specs=jax.sharding.PartitionSpec(AXIS),
        out_specs=jax.sharding.PartitionSpec(),
    )
    hlo = jax.jit(mapped).lower(jnp.zeros((WORKERS, 5000))).compile().as_text()
    assert collectives(hlo) == [("all-reduce", "f32", 5000)]
