"""The optimizers of the reference, transcribed in NumPy from its update equations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qgenx_jax as qgenx
from experiments.cifar10_gan import methods
from experiments.cifar10_gan.config import EXACT, Config
from experiments.cifar10_gan.optimizers import EXTRAPOLATED

pytestmark = pytest.mark.usefixtures("compiled_plainly")

SIZE, WORKERS, ITERATIONS = 4, 2, 20
RATES = {"generator": 0.02, "discriminator": 0.05}
B1, B2, EPS = 0.5, 0.9, 1e-8


class Rule:
    """One player's optimizer: `step(x, v)` is what is added to x, given v at x."""

    def __init__(self, rate, weight_decay=0.0):
        self.rate, self.weight_decay = rate, weight_decay
        self.t = 0

    def step(self, x, v):
        self.t += 1
        return self.law(v + self.weight_decay * x)


class Sgd(Rule):
    """PyTorch's, of which ExtraSGD makes its half-steps."""

    def __init__(self, rate, momentum=0.0, *, nesterov=False, **more):
        super().__init__(rate, **more)
        self.momentum, self.nesterov, self.buffer = momentum, nesterov, 0.0

    def law(self, g):
        self.buffer = self.momentum * self.buffer + g
        ahead = g + self.momentum * self.buffer
        return -self.rate * (ahead if self.nesterov else self.buffer)


class Adam(Rule):
    """Moments, the maximum of the second ones as they are, and one step size."""

    def __init__(self, rate, *, amsgrad=False, **more):
        super().__init__(rate, **more)
        self.amsgrad = amsgrad
        self.m = self.v = self.largest = 0.0

    def law(self, g):
        self.m = B1 * self.m + (1 - B1) * g
        self.v = B2 * self.v + (1 - B2) * g * g
        self.largest = np.maximum(self.largest, self.v)
        divisor = np.sqrt(self.largest if self.amsgrad else self.v) + EPS
        step_size = self.rate * np.sqrt(1 - B2**self.t) / (1 - B1**self.t)
        return -step_size * self.m / divisor


class OptimisticAdam(Adam):
    """Twice its step, less the one before, of which there is none at first."""

    last = 0.0

    def law(self, g):
        step = super().law(g)
        move, self.last = 2 * step - self.last, step
        return move


class Omd(Rule):
    """x - 2 lr v_t + lr v_{t-1}; v_{t-1} is a copy: the reference keeps the array."""

    last = 0.0

    def law(self, g):
        move, self.last = -2 * self.rate * g + self.rate * self.last, g
        return move


CASES = {
    "extra_adam": ("extra_adam", Adam, {}),
    "extra_adam amsgrad": ("extra_adam", Adam, {"amsgrad": True}),
    "extra_adam decay": ("extra_adam", Adam, {"weight_decay": 0.3}),
    "extra_adam both": ("extra_adam", Adam, {"amsgrad": True, "weight_decay": 0.3}),
    "adam": ("adam", Adam, {"amsgrad": True, "weight_decay": 0.3}),
    "optimistic_adam": ("optimistic_adam", OptimisticAdam, {}),
    "optimistic_adam both": (
        "optimistic_adam",
        OptimisticAdam,
        {"amsgrad": True, "weight_decay": 0.3},
    ),
    "omd": ("omd", Omd, {}),
    "omd decay": ("omd", Omd, {"weight_decay": 0.3}),
    "extra_sgd": ("extra_sgd", Sgd, {}),
    "extra_sgd momentum": ("extra_sgd", Sgd, {"momentum": 0.8, "weight_decay": 0.3}),
    "extra_sgd nesterov": ("extra_sgd", Sgd, {"momentum": 0.8, "nesterov": True}),
    "sgd": ("sgd", Sgd, {}),
    "sgd momentum": ("sgd", Sgd, {"momentum": 0.8, "weight_decay": 0.3}),
}


def game():
    """Both players' blocks [[a, b], [-b^T, c]] with a and c below 1: it rotates most.

    Each worker's offset is its own, and only the mean of the workers counts.
    """
    rng = np.random.default_rng(0)
    a, b, c = rng.normal(size=(3, SIZE, SIZE))
    blocks = 0.1 * a @ a.T, b, 0.1 * c @ c.T
    return blocks, rng.normal(size=(WORKERS, 2, SIZE)), rng.normal(size=(2, SIZE))


def dual_vector(params, blocks, offset):
    (a, b, c), (x, y) = blocks, (params[player]["w"] for player in RATES)
    vector = a @ x + b @ y + offset[0], c @ y - b.T @ x + offset[1]
    return {p: {"w": v} for p, v in zip(RATES, vector, strict=True)}, {}


@pytest.mark.parametrize("case", CASES)
def test_trajectories_are_those_of_the_reference(case):
    name, rule, flags = CASES[case]
    config = Config(
        optimizer=name,
        bits=EXACT,
        b1=B1,
        b2=B2,
        learning_rate_generator=RATES["generator"],
        learning_rate_discriminator=RATES["discriminator"],
        **flags,
    )
    config.validate()
    blocks, offsets, start = game()
    points = dict(zip(RATES, start, strict=True))
    rules = {player: rule(rate, **flags) for player, rate in RATES.items()}

    def step(at):
        """The points that an update at these leads to, from where it started."""
        params = {player: {"w": x} for player, x in at.items()}
        vector, _ = dual_vector(params, blocks, offsets.mean(axis=0))
        return {p: rules[p].step(at[p], vector[p]["w"]) for p in RATES}

    with jax.enable_x64(True):
        method = methods.create_method(config, "data")
        run = qgenx.map_workers(method.iterate(dual_vector), "data", workers=WORKERS)
        params = {player: {"w": jnp.asarray(x)} for player, x in points.items()}
        state = qgenx.init(method.optimizer, params, workers=WORKERS)

        def of_calls(x, like):
            shape = (WORKERS, method.calls, *like.shape)
            return jnp.broadcast_to(jnp.asarray(x), shape)

        batch = tuple(of_calls(block, block) for block in blocks)
        batches = batch, of_calls(offsets[:, None], offsets[0])
        for t in range(ITERATIONS):
            half = points
            if name in EXTRAPOLATED:
                half = {p: points[p] + move for p, move in step(points).items()}
            points = {p: points[p] + move for p, move in step(half).items()}
            params, state, _ = run(params, state, *batches)
            for player, x in points.items():
                np.testing.assert_allclose(
                    params[player]["w"],
                    x,
                    rtol=1e-6,
                    atol=1e-6,
                    err_msg=f"{player} after iteration {t + 1}",
                )
    if flags.get("amsgrad"):
        kept = [np.any(rules[p].largest > 1.1 * rules[p].v) for p in RATES]
        assert all(kept), "no maximum was kept: the case shows nothing"
