"""Bytes of an iteration are those of all its exchanges, as compiled programs show."""

import jax
import jax.numpy as jnp
import optax
import pytest

import qgenx_jax as qgenx
from tests.lib.helpers import AXIS, mesh_of
from tests.lib.hlo import collectives

pytestmark = [pytest.mark.quick, pytest.mark.usefixtures("compiled_plainly")]

WORKERS = 3
BITS = qgenx.uniform(4, bucket_size=64)
X = {"a": jnp.zeros((30, 41)), "b": jnp.zeros(7)}


def mean(**settings):
    return qgenx.quantized_mean(AXIS, BITS, exact=None, **settings)


def q_genx(variant, **settings):
    return qgenx.q_genx(AXIS, BITS, variant=variant, **settings)


PAIRS = {
    "dual_extrapolation": q_genx("dual_extrapolation"),
    "optimistic": q_genx("optimistic"),
    "dual_averaging": q_genx("dual_averaging"),
    "given step size": q_genx("dual_extrapolation", step_size=0.1),
    "two phases": q_genx("optimistic", collective="reduce_scatter"),
    "chain": qgenx.chain(mean(), qgenx.extra_adam(1e-3), qgenx.ema(0.9)),
    "chain around q_genx": qgenx.chain(optax.clip(1.0), q_genx("optimistic")),
}


@pytest.mark.parametrize("name", PAIRS)
def test_traffic_of_an_iteration_is_what_its_program_gathers(name):
    pair = PAIRS[name]
    operator = lambda x: jax.tree.map(lambda v: v + 1, x)  # noqa: E731
    step = qgenx.iterate(pair, operator, axis_name=AXIS)
    mesh = mesh_of(WORKERS)
    run = qgenx.map_workers(step, AXIS, mesh=mesh)
    text = run.lower(X, qgenx.init(pair, X, mesh, AXIS)).compile().as_text()
    found = sum(
        size // (WORKERS if op == "all-gather" else 1)
        for op, dtype, size in collectives(text)
        if dtype == "u8"
    )
    traffic = pair.traffic(X, WORKERS)
    assert found == traffic.payload_bytes, name
    assert traffic.exchanges == (1 if pair.is_oracle_free else 2)
    assert traffic.sent_bytes == sum(x.sent_bytes for x in traffic.phases)
    coordinates = traffic.coordinates / traffic.exchanges
    assert coordinates == 30 * 41 + 7
    # 4 bits, a norm of 32 bits for 64 of them, a number at most, chunks' padding
    assert 4 < traffic.bits_per_coordinate < 9.5


def test_seconds_of_an_iteration_are_those_of_its_exchanges():
    pair = qgenx.q_genx(
        ("host", "chip"), BITS, collective="hierarchical", step_size=0.1
    )
    link, fast = qgenx.Link(1e-3, 1e6, 0, 0), qgenx.Link(0, 1e9, 0, 0)
    one = pair.exchange.traffic(X, (2, 4))
    both = pair.traffic(X, (2, 4))
    assert both.collective == "hierarchical"
    seconds = link.seconds(both, fast=fast)
    assert seconds == pytest.approx(2 * link.seconds(one, fast=fast))


def test_a_chain_without_an_exchange_counts_nothing():
    assert not hasattr(qgenx.chain(qgenx.extra_adam(1e-3)), "traffic")


def test_what_goes_around_tells_of_the_exchange_inside():
    """Bytes of `accumulate` are those of one exchange, whatever k is."""
    gathering = mean(collective="all_gather")
    sent = gathering.traffic(X, WORKERS)
    for around in (
        qgenx.accumulate(5, gathering),
        qgenx.accumulate(lambda updates: updates + 1, gathering),
        qgenx.skip_not_finite(gathering),
        qgenx.skip_not_finite(qgenx.accumulate(5, gathering)),
        qgenx.accumulate(5, qgenx.skip_not_finite(gathering)),
    ):
        assert around.exchange is gathering.exchange
        assert around.traffic(X, WORKERS) == sent
    optimizer = qgenx.alternating(q_genx("dual_extrapolation"))
    both = optimizer.traffic(X, WORKERS)
    assert both.exchanges == 2
    for around in (qgenx.accumulate(5, optimizer), qgenx.skip_not_finite(optimizer)):
        assert around.exchange is optimizer.exchange
        assert around.traffic(X, WORKERS) == both
    pair = q_genx("optimistic")
    guarded = qgenx.skip_not_finite(pair)
    assert guarded.traffic(X, WORKERS) == pair.traffic(X, WORKERS)


def test_bytes_of_accumulate_are_those_of_its_program_once_in_k_calls():
    optimizer = qgenx.accumulate(5, mean(collective="all_gather"))
    mesh = mesh_of(WORKERS)

    def step(params, state, vector):
        updates, state = optimizer.update(vector, state, params)
        return optax.apply_updates(params, updates), state

    run = qgenx.map_workers(step, AXIS, mesh=mesh)
    batch = jax.tree.map(lambda x: jnp.ones((WORKERS, *x.shape)), X)
    state = qgenx.init(optimizer, X, mesh, AXIS)
    text = run.lower(X, state, batch).compile().as_text()
    sizes = [size // WORKERS for _, dtype, size in collectives(text) if dtype == "u8"]
    assert sizes == [optimizer.traffic(X, WORKERS).payload_bytes]


def test_a_weight_is_counted_where_one_may_be_given():
    """skip_not_finite hands it on, and accumulate refuses it."""
    plain = mean(collective="all_gather")
    weighted = plain.traffic(X, WORKERS, weighted=True)
    guarded = qgenx.skip_not_finite(plain)
    assert guarded.traffic(X, WORKERS, weighted=True) == weighted
    assert weighted.sent_bytes > plain.traffic(X, WORKERS).sent_bytes
    with pytest.raises(TypeError, match="weighted"):
        qgenx.accumulate(2, plain).traffic(X, WORKERS, weighted=True)


def test_around_what_tells_of_no_exchange_there_is_none():
    for inside in (optax.sgd(0.1), optax.chain(mean(), optax.sgd(0.1))):
        for around in (qgenx.accumulate(2, inside), qgenx.skip_not_finite(inside)):
            assert not hasattr(around, "traffic")
            assert not hasattr(around, "exchange")
