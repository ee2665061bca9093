"""Learning rates that decay with iterations, against their closed forms."""

import jax.numpy as jnp
import numpy as np
import pytest

import qgenx_jax as qgenx
from experiments.cifar10_gan import methods
from experiments.cifar10_gan.config import EXACT, Config
from experiments.cifar10_gan.optimizers import ADAMS, EXTRAPOLATED, OPTIMISTIC, SGDS

pytestmark = pytest.mark.usefixtures("compiled_plainly")

SIZE = 3
RATES = {"generator": 0.01, "discriminator": 0.03}
B1 = 0.5
LENGTH, END = 4, 0.2
ITERATIONS = LENGTH + 3
START = {player: {"w": jnp.zeros(SIZE)} for player in RATES}


def dual_vector(params, batch, *, players=methods.PLAYERS):
    """Ones everywhere: Adam's moves, like SGD's, are then the learning rate."""
    del batch
    points = {player: jnp.mean(params[player]["w"]) for player in RATES}
    return {player: {"w": jnp.ones(SIZE)} for player in players}, points


def fraction(decay):
    """Of the rate at iterations 0, 1, ...: the definition, in NumPy."""
    done = np.minimum(np.arange(ITERATIONS) / LENGTH, 1)
    if decay == "linear":
        return 1 - (1 - END) * done
    if decay == "cosine":
        return END + (1 - END) * (1 + np.cos(np.pi * done)) / 2
    return np.ones(ITERATIONS)


def moved(name, rates):
    """By what each update moves, of ones at these rates: its rate.

    Optimistic ones move by twice that, less the one before, of which there is none at
    first: each rate once in the end, at which a vector was used.
    """
    if name not in OPTIMISTIC:
        return rates
    return 2 * rates - np.concatenate([[0.0], rates[:-1]])


@pytest.mark.parametrize("decay", ["constant", "linear", "cosine"])
@pytest.mark.parametrize("n_critic", [1, 2])
@pytest.mark.parametrize("name", [*ADAMS, *SGDS])
def test_every_call_of_an_iteration_has_its_rate(name, n_critic, decay):
    """After an iteration each player has moved by so many rates; then they stay."""
    made = Config(
        optimizer=name,
        bits=EXACT,
        b1=B1,
        n_critic=n_critic,
        decay=decay,
        decay_iterations=LENGTH,
        decay_to=END,
        learning_rate_generator=RATES["generator"],
        learning_rate_discriminator=RATES["discriminator"],
    )
    method = methods.create_method(made, "data")
    programs = {
        iterate: qgenx.map_workers(iterate(dual_vector), "data", workers=2)
        for iterate in {*method.ahead, method.iterate}
    }
    state = qgenx.init(method.optimizer, START, workers=2)
    params, batch = START, jnp.zeros((2, method.calls_of_update))
    seen = {player: [] for player in RATES}
    points = {player: [] for player in RATES}
    for _ in range(ITERATIONS):
        at = {player: [] for player in RATES}
        for iterate in (*method.ahead, method.iterate):
            params, state, metrics = programs[iterate](params, state, batch)
            for player in RATES:
                at[player].extend(np.asarray(metrics[player][0]))
        for player in RATES:
            seen[player].append(at[player])
            points[player].append(float(params[player]["w"][0]))
    for player, updates in {"generator": 1, "discriminator": n_critic}.items():
        rates = RATES[player] * fraction(decay)
        moves = -np.diff([0.0, *points[player]])
        each = moved(name, np.repeat(rates, updates)).reshape(ITERATIONS, updates)
        expected = each.sum(axis=1)
        np.testing.assert_allclose(moves, expected, rtol=1e-3, err_msg=player)
        if name not in EXTRAPOLATED:
            continue
        # an iteration's calls are at X_t and X_{t+1/2} of each update
        starts = np.array([0.0, *points[player][:-1]])
        ahead = np.array(seen[player])[:, 1::2] - np.array(seen[player])[:, ::2]
        moving = slice(-updates, None)
        np.testing.assert_allclose(
            -ahead[:, moving], np.tile(rates[:, None], updates), rtol=1e-3
        )
        np.testing.assert_allclose(
            [row[0] for row in seen[player]], starts, rtol=1e-3, atol=1e-7
        )
