"""The small adversarial games: operators, and gaps that are refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy import optimize

import qgenx_jax as qgenx

pytestmark = [pytest.mark.quick, pytest.mark.usefixtures("compiled_plainly")]

problems = qgenx.problems


def test_the_dirac_gan_against_its_formula():
    theta, psi = 0.7, -0.4
    x = {"generator": jnp.asarray(theta), "discriminator": jnp.asarray(psi)}
    a = problems.dirac_gan().operator(x)
    slope = 1 / (1 + np.exp(theta * psi))  # h'(t)
    assert float(a["generator"]) == pytest.approx(slope * psi, rel=1e-6)
    assert float(a["discriminator"]) == pytest.approx(-slope * theta, rel=1e-6)
    start = ravel_pytree(problems.dirac_gan(3.0).start)[0]
    assert float(jnp.linalg.norm(start)) == pytest.approx(3, rel=1e-6)


def plain_losses(problem_seed, samples, width, x):
    """(loss of the generator, of the critic) in NumPy, the slopes by hand."""
    rng = np.random.default_rng(problem_seed)
    angles = 2 * np.pi * rng.integers(8, size=samples) / 8
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    real = circle + 0.05 * rng.normal(size=circle.shape)
    latent, mixture = rng.normal(size=circle.shape), rng.uniform(size=(samples, 1))

    def network(own, points):
        return np.tanh(points @ own["w1"] + own["b1"]) @ own["w2"] + own["b2"]

    critic, made = x["discriminator"], network(x["generator"], latent)
    between = mixture * real + (1 - mixture) * made
    hidden = np.tanh(between @ critic["w1"] + critic["b1"])
    slopes = ((1 - hidden**2) * critic["w2"][:, 0]) @ critic["w1"].T
    penalty = 10 * ((np.linalg.norm(slopes, axis=1) - 1) ** 2).mean()
    fake, true = network(critic, made).mean(), network(critic, real).mean()
    return -fake, fake - true + penalty


def test_the_wasserstein_gan_against_finite_differences_of_a_transcription():
    with jax.enable_x64(True):
        problem = problems.wasserstein_gan_2d(12, width=4, seed=3)
        start = jax.tree.map(np.asarray, problem.start)
        vector = problem.operator(problem.start)
        for number, player in enumerate(("generator", "discriminator")):
            flat, unravel = ravel_pytree(problem.start[player])

            def loss(z, player=player, unravel=unravel, number=number):
                own = jax.tree.map(np.asarray, unravel(jnp.asarray(z)))
                return plain_losses(3, 12, 4, {**start, player: own})[number]

            expected = optimize.approx_fprime(np.asarray(flat), loss, 1e-7)
            found = ravel_pytree(vector[player])[0]
            np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("make", [problems.dirac_gan, problems.wasserstein_gan_2d])
def test_they_are_not_monotone_and_have_no_gap(make):
    problem = make()
    flat, unravel = ravel_pytree(problem.start)
    jacobian = jax.jacrev(lambda z: ravel_pytree(problem.operator(unravel(z)))[0])(flat)
    assert np.linalg.eigvalsh(np.asarray(jacobian + jacobian.T))[0] < -1e-3
    assert problem.strong is None
    message = r"gap must be of a monotone operator, .*: look at the norm of operator"
    with pytest.raises(ValueError, match=f"^{message}"):
        problem.gap(problem.start)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: problems.dirac_gan(-1), "distance must be a finite number of at leas"),
        (lambda: problems.wasserstein_gan_2d(0), "samples must be a whole number of a"),
        (lambda: problems.wasserstein_gan_2d(width=0), "width must be a whole number"),
        (lambda: problems.wasserstein_gan_2d(seed=-1), "seed must be a whole number"),
    ],
)
def test_is_refused(make, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        make()
