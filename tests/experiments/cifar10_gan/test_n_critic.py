"""Several updates of the discriminator for each of the generator."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qgenx_jax as qgenx
from experiments.cifar10_gan import methods, quantizers, run
from experiments.cifar10_gan.config import EXACT, Config
from experiments.cifar10_gan.optimizers import ADAMS, EXTRAPOLATED, OPTIMISTIC, Q_GENX
from tests.lib.helpers import mesh_of
from tests.lib.hlo import collectives
from tests.lib.tiny_runs import TINY

pytestmark = pytest.mark.usefixtures("compiled_plainly")

AXIS = "data"
WORKERS = 3
SIZE = 40
N = 3
B1, B2, EPSILON = 0.5, 0.9, 1e-8
RATES = {"generator": 0.01, "discriminator": 0.03}
CALLS = {"extra_adam": 2, "extra_sgd": 2, "adam": 1, "optimistic_adam": 1, "sgd": 1}
START = {
    "generator": {"w": jnp.linspace(1.0, 2.0, SIZE)},
    "discriminator": {"w": jnp.linspace(-1.0, 0.5, SIZE)},
}


def config(name, **changes):
    rates = {f"learning_rate_{player}": rate for player, rate in RATES.items()}
    settings = {"n_critic": N, "b1": B1, "b2": B2, **rates, **changes}
    return Config(optimizer=name, **settings)


def vectors(x, y, offset):
    """Of a monotone game, with an offset of each worker's and call's own."""
    return {"generator": x + 0.5 * y + offset, "discriminator": y - 0.5 * x - offset}


def dual_vector(params, offset, *, players=methods.PLAYERS):
    found = vectors(params["generator"]["w"], params["discriminator"]["w"], offset)
    return {player: {"w": found[player]} for player in players}, {}


class Player:
    """One player's optimizer, transcribed in NumPy: its move for a vector."""

    def __init__(self, name, rate):
        self.name, self.rate, self.t = name, rate, 0
        self.m = self.n = np.zeros(SIZE)
        self.last = 0.0

    def move(self, v):
        unit = v
        if self.name in ADAMS:
            self.t += 1
            self.m = B1 * self.m + (1 - B1) * v
            self.n = B2 * self.n + (1 - B2) * v**2
            mean = self.m / (1 - B1**self.t)
            unit = mean / (np.sqrt(self.n / (1 - B2**self.t)) + EPSILON)
        if self.name not in OPTIMISTIC:
            return -self.rate * unit
        last, self.last = self.last, unit
        return -self.rate * (2 * unit - last)


def reference(name, offsets):
    """The points after each iteration; offsets (iterations, calls, SIZE)."""
    players = {player: Player(name, rate) for player, rate in RATES.items()}
    at = {player: np.asarray(START[player]["w"], np.float64) for player in players}

    def moved(start, point, moving, offset):
        v = vectors(point["generator"], point["discriminator"], offset)
        moves = {player: players[player].move(v[player]) for player in moving}
        return {**start, **{p: start[p] + move for p, move in moves.items()}}

    for of_iteration in offsets:
        fresh = iter(of_iteration)
        for group in range(N):
            moving = methods.PLAYERS if group == N - 1 else ("discriminator",)
            half = moved(at, at, moving, next(fresh))
            if name in EXTRAPOLATED:
                half = moved(at, half, moving, next(fresh))
            at = half
        yield at


@pytest.mark.parametrize("name", CALLS)
def test_only_the_discriminator_moves_but_for_the_last_time(name):
    """As transcribed, moments and counters and all; each call has its own batch."""
    method = methods.create_method(config(name, bits=EXACT), AXIS)
    assert method.calls == N * CALLS[name]
    assert len(set(method.ahead)) == 1, "one program for all of them"
    first, last = (
        qgenx.map_workers(iterate(dual_vector), AXIS, workers=WORKERS)
        for iterate in (method.ahead[0], method.iterate)
    )
    state = qgenx.init(method.optimizer, START, workers=WORKERS)
    params, structure = START, jax.tree.structure(state)
    drawn = np.random.default_rng(0).normal(size=(4, WORKERS, method.calls, SIZE))
    expected = reference(name, drawn.mean(axis=1))
    for offsets, points in zip(drawn, expected, strict=True):
        parts = np.split(np.float32(offsets), N, axis=1)
        for part in parts[:-1]:
            params, state, _ = first(params, state, part)
        params, state, _ = last(params, state, parts[-1])
        for player, point in points.items():
            np.testing.assert_allclose(
                params[player]["w"], point, rtol=1e-4, atol=1e-5, err_msg=player
            )
    assert jax.tree.structure(state) == structure


def test_the_state_is_that_of_one_update_each():
    """So a checkpoint has the same tree; and today's runs are those of n_critic=1."""
    several, one = (
        jax.eval_shape(
            methods.create_method(
                config("extra_adam", n_critic=n), AXIS
            ).optimizer.init,
            START,
        )
        for n in (N, 1)
    )
    chex.assert_trees_all_equal_shapes_and_dtypes(several, one)


@pytest.mark.parametrize("name", CALLS)
def test_the_resting_generator_is_not_sent(name):
    """Bytes as counted, and as the compiled program gathers them."""
    made = config(name, exact_leaves="none")
    method = methods.create_method(made, AXIS)
    n_bytes = quantizers.create_quantizer(made).n_bytes
    alone, both = n_bytes(SIZE), n_bytes(2 * SIZE)
    traffic = method.traffic(START, WORKERS)
    payload = CALLS[name] * ((N - 1) * alone + both)
    assert traffic.sent_bytes == (WORKERS - 1) * payload
    assert traffic.payload_bytes == payload
    assert traffic.exchanges == method.calls
    assert traffic.coordinates == CALLS[name] * (N - 1 + 2) * SIZE
    assert traffic.bits_per_coordinate == 8 * payload / traffic.coordinates
    assert traffic.collective == "all_gather"
    if name != "adam":
        return
    mesh = mesh_of(WORKERS)
    state = qgenx.init(method.optimizer, START, mesh, AXIS)
    offsets = jnp.zeros((WORKERS, 1, SIZE))
    for iterate, payload in ((method.ahead[0], alone), (method.iterate, both)):
        step = qgenx.map_workers(iterate(dual_vector), AXIS, mesh=mesh)
        compiled = jax.jit(step).lower(START, state, offsets).compile()
        gathered = collectives(compiled.as_text())
        assert gathered == [("all-gather", "u8", WORKERS * payload)]


def test_workers_are_equal_and_have_batches_of_their_own_at_every_call():
    ready = run.Run(dataclasses.replace(TINY, optimizer="adam", n_critic=N))
    assert next(ready.batches).shape[:2] == (WORKERS, N)
    inputs = (
        np.zeros((WORKERS, N, 2, 32, 32, 3), np.float32),
        np.full(WORKERS, 1),
        np.full(WORKERS, True),
    )
    training, metrics = ready.step(
        ready.training, *map(ready.place.place_batch, inputs)
    )
    assert metrics["wasserstein"].shape == (WORKERS, N)
    assert len(set(np.ravel(metrics["wasserstein"]).tolist())) == WORKERS * N
    assert metrics["loss_generator"].shape == (WORKERS, 1), "G rests at the others"
    assert qgenx.check_replicas((training.params, training.state))


@pytest.mark.parametrize("name", Q_GENX)
@pytest.mark.parametrize(
    "changes", [{"n_critic": 5}, {"decay": "linear"}], ids=["n_critic", "decay"]
)
def test_q_genx_steps_of_the_joint_vector_alone(name, changes):
    (field,) = changes
    rule = rf"{field} must be .* for {name}, a variant of Q-GenX.*change optimizer"
    with pytest.raises(ValueError, match=rule):
        methods.create_method(Config(optimizer=name, **changes), AXIS)
