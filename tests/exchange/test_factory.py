"""An exchange made by its factory, handed on ready, or for one worker alone."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import qgenx_jax as qgenx
from tests.lib.exchanges import send_all
from tests.lib.helpers import AXIS, assert_trees_identical, vectors

pytestmark = [pytest.mark.quick, pytest.mark.usefixtures("compiled_plainly")]

BITS = qgenx.uniform(4, bucket_size=16)
METHODS = {
    "quantized_mean": qgenx.quantized_mean,
    "q_genx": lambda *args, **settings: qgenx.q_genx(*args, **settings),
}


def updated(optimizer, x):
    """What an update makes of a vector, by vmap over two workers."""

    def run(x):
        return optimizer.update(x, optimizer.init(x))

    return jax.jit(jax.vmap(run, axis_name=AXIS, out_axes=None))(x)


def test_a_ready_exchange_is_used_as_it_is():
    settings = {"collective": "reduce_scatter", "exact": None, "key": 7}
    exchange = qgenx.exchange(AXIS, BITS, **settings)
    x = jnp.asarray(vectors(2, 100))
    ready = qgenx.quantized_mean(exchange)
    assert ready.exchange is exchange
    made = qgenx.quantized_mean(AXIS, BITS, **settings)
    assert_trees_identical(updated(ready, x), updated(made, x), "ready against made")
    assert qgenx.q_genx(exchange, variant="optimistic").exchange is exchange


@pytest.mark.parametrize("method", [qgenx.quantized_mean, qgenx.q_genx])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("quantizer", BITS),
        ("quantizer", None),
        ("labels", {"a": "b"}),
        ("collective", "reduce_scatter"),
        ("link", qgenx.Link()),
        ("second", BITS),
        ("exact", lambda path, leaf: False),
        ("key", 1),
    ],
)
def test_what_a_ready_exchange_would_not_read_is_refused(method, name, value):
    with pytest.raises(ValueError, match=rf"{name} must be left out with an exchange"):
        method(qgenx.exchange(AXIS, BITS), **{name: value})


@pytest.mark.parametrize("method", [qgenx.quantized_mean, qgenx.q_genx])
def test_an_axis_needs_a_quantizer(method):
    with pytest.raises(ValueError, match="quantizer must be given with the name of"):
        method(AXIS)


def test_defaults_are_the_same_or_have_a_name():
    """Of dual vectors and of gradients; None would not say why they differ."""
    of = {
        f.__name__: {
            name: inspect.signature(f).parameters[name].default
            for name in ("collective", "exact", "link", "second", "labels", "key")
        }
        for f in (qgenx.exchange, qgenx.q_genx, qgenx.quantized_mean)
    }
    assert of["exchange"] == of["q_genx"]
    assert of["q_genx"]["collective"] == "once"
    assert of["quantized_mean"]["collective"] == "auto"
    assert of["q_genx"]["exact"] is qgenx.no_leaves
    assert of["quantized_mean"]["exact"] is qgenx.small_leaves
    differ = {
        name
        for name in of["q_genx"]
        if of["q_genx"][name] != of["quantized_mean"][name]
    }
    assert differ == {"collective", "exact"}


def test_bytes_are_read_off_what_sends_them():
    params = jax.ShapeDtypeStruct((1024, 1024), "float32")
    mean = qgenx.quantized_mean(AXIS, qgenx.uniform(4))
    assert mean.traffic(params, 8) == mean.exchange.traffic(params, 8)
    assert mean.traffic(params, 8).collective == "reduce_scatter"


@pytest.mark.parametrize("collective", ["once", "all_gather", "reduce_scatter"])
def test_one_worker_without_an_axis_has_the_bits_of_one_with(collective):
    """Quantized all the same, as it is asked for by name, under plain jit."""
    settings = {"collective": collective, "exact": None}
    x = jnp.asarray(vectors(1, 100))
    alone = qgenx.exchange(None, BITS, **settings)
    number = lambda own: own[0]  # noqa: E731
    (mean, own, numbers), _ = jax.jit(
        lambda x: alone.send(x, alone.init(), scalar=number)
    )(x[0])
    (other, others), theirs = send_all(
        qgenx.exchange(AXIS, BITS, **settings), x, number
    )
    np.testing.assert_array_equal(mean, other)
    np.testing.assert_array_equal(own, theirs[0])
    np.testing.assert_array_equal(numbers, others)
    assert not np.array_equal(own, x[0]), "nothing was quantized"
    np.testing.assert_array_equal(alone.quantize(x[0], alone.init()), own)
    traffic = alone.traffic(x[0], 1)
    assert (traffic.sent_bytes, traffic.workers) == (0, 1)


def test_one_worker_trains_by_plain_jit():
    optimizer = optax.chain(
        qgenx.quantized_mean(None, BITS, exact=None), optax.sgd(0.5)
    )
    target = jnp.linspace(-1, 1, 40)

    @jax.jit
    def step(x, state):
        gradient = qgenx.local_params(x, None) - target
        updates, state = optimizer.update(gradient, state, x)
        return optax.apply_updates(x, updates), state

    x = jnp.zeros(40)
    state = optimizer.init(x)
    for _ in range(60):
        x, state = step(x, state)
    np.testing.assert_allclose(x, target, atol=1e-5)


def test_a_step_for_many_runs_for_one():
    """`map_workers(step, None)`: the same script, on one device."""
    pair = qgenx.q_genx(None, BITS, variant="optimistic", gamma0=0.1)
    step = qgenx.iterate(pair, lambda x, batch: x - batch, axis_name=None)
    run = qgenx.map_workers(step, None)
    x = jnp.zeros(20)
    state = qgenx.init(pair, x, workers=1)
    batch = jnp.ones((1, 1, 20))
    for _ in range(3):
        x, state = run(x, state, batch)
    named = qgenx.q_genx(AXIS, BITS, variant="optimistic", gamma0=0.1)
    other = qgenx.map_workers(
        qgenx.iterate(named, lambda x, batch: x - batch), AXIS, workers=1
    )
    y = jnp.zeros(20)
    state = qgenx.init(named, y, workers=1)
    for _ in range(3):
        y, state = other(y, state, batch)
    np.testing.assert_allclose(x, y, rtol=1e-6)
    with pytest.raises(ValueError, match="axis_name must be a name where there is a"):
        qgenx.map_workers(step, None, workers=3)


def test_no_axis_is_no_fast_axis():
    with pytest.raises(ValueError, match="axis_name must be a tuple"):
        qgenx.exchange(None, BITS, collective="hierarchical")


@pytest.mark.parametrize("collective", ["exact", "all_gather", "reduce_scatter"])
def test_short_vectors_ride_along(collective):
    """(m,) on each worker come back as (K, m), in the order of the workers."""
    quantizer = None if collective == "exact" else BITS
    x = jnp.asarray(vectors(3, 50))
    numbers = lambda own: jnp.stack([own[0], jnp.sum(own), own[1]])  # noqa: E731
    exchange = qgenx.exchange(AXIS, quantizer, collective=collective)
    (_, found), own = send_all(exchange, x, numbers)
    assert found.shape == (3, 3)
    np.testing.assert_allclose(found, jax.vmap(numbers)(own), rtol=1e-6)
    (_, empty), _ = send_all(exchange, x, lambda own: own[:0])
    assert empty.shape == (3, 0)


@pytest.mark.parametrize(
    "value",
    [jnp.ones((2, 2)), 1j, "three", None],
    ids=["2-d", "complex", "text", "None"],
)
def test_only_real_numbers_ride_along(value):
    exchange = qgenx.exchange(None, BITS)
    with pytest.raises(ValueError, match="scalar must return one real number, or a"):
        exchange.send(jnp.ones(3), exchange.init(), scalar=lambda own: value)


def test_a_link_is_given_where_something_is_chosen_by_it():
    fast, slow = qgenx.Link(0, 1e12, 1e-9, 0), qgenx.Link(0, 1e6, 0, 0)
    tree = jnp.zeros(10_000)
    for link, expected in ((fast, "all_gather"), (slow, "reduce_scatter")):
        for given in ({"collective": link}, {"collective": "auto", "link": link}):
            exchange = qgenx.exchange(AXIS, BITS, **given)
            assert exchange.traffic(tree, 4).collective == expected
        hosts = qgenx.exchange(
            ("host", "chip"), BITS, collective="hierarchical", link=link
        )
        phases = [x.collective for x in hosts.traffic(tree, (4, 2)).phases[1:-1]]
        assert phases[-1] == "all_gather"
        assert (len(phases) == 2) == (expected == "reduce_scatter")
    with pytest.raises(ValueError, match="link must be left out with 'all_gather'"):
        qgenx.exchange(AXIS, BITS, collective="all_gather", link=fast)
    with pytest.raises(ValueError, match="link must be of type Link"):
        qgenx.exchange(AXIS, BITS, collective="auto", link=1e9)


def test_what_a_state_gathers_per_worker_is_laid_out_and_handed_on():
    exchange = qgenx.exchange(AXIS, BITS)
    assert exchange.init().per_worker is None
    state = exchange.init()._replace(per_worker={"sum": jnp.ones((1, 5))})
    laid_out = qgenx.lay_out(state, workers=3)
    assert laid_out.per_worker["sum"].shape == (3, 5)
    specs = qgenx.state_specs(state, AXIS)
    assert specs.per_worker["sum"] == jax.sharding.PartitionSpec(AXIS)
    assert specs.key == jax.sharding.PartitionSpec()

    def step(x, state, batch):
        mean, state = exchange.mean(batch, state)
        return mean, state

    run = qgenx.map_workers(step, AXIS, workers=3)
    _, after = run(jnp.zeros(40), laid_out, jnp.asarray(vectors(3, 40)))
    np.testing.assert_array_equal(after.per_worker["sum"], np.ones((3, 5)))
    assert not jnp.array_equal(
        jax.random.key_data(after.key), jax.random.key_data(state.key)
    )


def test_two_links_and_an_exchange_as_an_axis_are_refused():
    with pytest.raises(ValueError, match="link must be left out with collective=Link"):
        qgenx.exchange(AXIS, BITS, collective=qgenx.Link(), link=qgenx.Link())
    with pytest.raises(ValueError, match="axis_name must be the name of an axis"):
        qgenx.exchange(qgenx.exchange(AXIS, BITS), BITS)


def test_what_is_made_anew_of_the_same_functions_keeps_its_exchange():
    """As `_replace` and `jax.tree.map` do; an attribute would be lost."""
    mean = qgenx.quantized_mean(AXIS, BITS)
    pair = qgenx.q_genx(AXIS, BITS)
    for kept in (mean._replace(init=mean.init), jax.tree.map(lambda f: f, mean)):
        assert kept.exchange is mean.exchange
    for kept in (pair._replace(update=pair.update), jax.tree.map(lambda f: f, pair)):
        assert kept.traffic(jnp.zeros(9), 3) == pair.traffic(jnp.zeros(9), 3)
    kept = qgenx.chain(mean._replace(init=mean.init), qgenx.extra_sgd(0.1))
    assert kept.exchange is mean.exchange


def test_hyperparameters_are_injected_beside_an_exchange():
    """A ready one and a predicate are no hyperparameters: `static_args` says so."""

    def create(exchange, rate):
        return optax.chain(qgenx.quantized_mean(exchange), optax.sgd(rate))

    exchange = qgenx.exchange(None, None)
    optimizer = optax.inject_hyperparams(create, static_args="exchange")(exchange, 0.5)
    x = jnp.ones(3)
    updates, _ = optimizer.update(x, optimizer.init(x), x)
    np.testing.assert_array_equal(updates, -0.5 * x)
    static = ("axis_name", "quantizer", "exact", "key")
    inject = optax.inject_hyperparams(qgenx.quantized_mean, static_args=static)
    mean = inject(None, BITS, exact=qgenx.no_leaves)
    updates, _ = mean.update(7 * x, mean.init(x), x)
    np.testing.assert_array_equal(updates, 7 * x)  # of 7 steps: on a level
