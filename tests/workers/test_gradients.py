"""A worker's own gradient is NumPy's, on a mesh as by vmap, or is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import qgenx_jax as qgenx
from tests.lib.helpers import AXIS, mesh_of

pytestmark = pytest.mark.plainly

P = np.linspace(0.1, 1, 6, dtype=np.float32).reshape(2, 3)
X = np.stack([P + 1, P * 2])
PLACES = {"shard_map": {"mesh": mesh_of(2)}, "vmap": {"workers": 2}}


def of_workers(place, operator):
    def step(params, state, x):
        return params, state, operator(params, x)

    return jax.device_get(qgenx.map_workers(step, AXIS, **PLACES[place])(P, (), X)[2])


def centred(p, x):
    h = p * x
    return jnp.sum((h - lax.pmean(h, AXIS)) * x * x)


def gathered(p, x):
    return jnp.sum(lax.all_gather(p * x, AXIS) ** 2) / 2


def scanned(term, p, x):
    """The sum of a term of each row, by lax.scan, whose carry varies if one does."""
    start = 0 * term(p[0] * x[0])
    return lax.scan(lambda c, row: (c + term(row), None), start, p * x)[0]


def own_term(row):
    return jnp.sum(row * lax.pmean(row, AXIS))


def shared_term(row):
    return lax.pmean(jnp.sum(row), AXIS)


MEAN = X.mean(axis=0)
RIGHT = {
    "its own": (
        lambda p, x: jnp.sum(p * x) ** 2 / 2,
        lambda k: (P * X[k]).sum() * X[k],
    ),
    "of parameters alone": (lambda p, x: jnp.sum(p * p), lambda k: 2 * P),
    # d/dp_j of all workers' losses, as JAX has it for a sum inside a loss
    "a mean inside": (centred, lambda k: X[k] * (X[k] ** 2 - (X**2).mean(axis=0))),
    "all gathered": (gathered, lambda k: 2 * X[k] * P * X[k]),
    "a mean of half of it": (
        lambda p, x: lax.pmean(jnp.sum(p * x), AXIS) + jnp.sum(p * p),
        lambda k: X[k] + 2 * P,
    ),
    "a mean in a scan": (
        lambda p, x: scanned(own_term, p, x),
        lambda k: 2 * P * MEAN * X[k],
    ),
    "a mean of rows, and parameters": (
        lambda p, x: scanned(shared_term, p, x) + jnp.sum(p * p),
        lambda k: X[k] + 2 * P,
    ),
}
AVERAGED = {
    "pmean": lambda p, x: lax.pmean(jnp.sum(p * x), AXIS),
    "in a jit": lambda p, x: jax.jit(lambda y: 2 * lax.psum(y, AXIS))(jnp.sum(p * x)),
    "in a scan": lambda p, x: scanned(shared_term, p, x),
    "in a scan of a scan": lambda p, x: lax.scan(
        lambda c, _: (c + scanned(shared_term, p, x), None), 0.0, length=2
    )[0],
    "rows of a scan": lambda p, x: lax.scan(
        lambda c, row: (c, shared_term(row)), 0.0, p * x
    )[1].sum(),
    "and parameters": lambda p, x: lax.pmean(jnp.sum(p * x), AXIS) * 3.0,
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("loss", RIGHT)
def test_the_gradient_of_a_workers_loss(loss, place):
    found, expected = RIGHT[loss]

    def operator(params, x):
        return qgenx.value_and_grad(found, AXIS)(params, x)[1]

    gradients = of_workers(place, operator)
    for worker in range(2):
        np.testing.assert_allclose(gradients[worker], expected(worker), 2e-6, 1e-6)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("loss", AVERAGED)
def test_a_loss_that_all_workers_share_is_refused(loss, place):
    differentiate = qgenx.value_and_grad(AVERAGED[loss], AXIS)
    with pytest.raises(ValueError, match=r"loss must be a worker's own.*pmean"):
        of_workers(place, lambda params, x: differentiate(params, x)[1])


def test_what_an_iteration_hands_on_may_be_a_workers_own():
    """Of two rows: the first one's sum, read by the second iteration.

    On a mesh such a carry has to be of one type, which JAX says.
    """

    def loss(p, x):
        def body(carry, row):
            return (carry[1] + lax.pmean(jnp.sum(row), AXIS), jnp.sum(row)), None

        return lax.scan(body, (0.0, 0.0), p * x)[0][0]

    differentiate = qgenx.value_and_grad(loss, AXIS)
    found = of_workers("vmap", lambda params, x: differentiate(params, x)[1])
    np.testing.assert_allclose(found, X, 2e-6)


@pytest.mark.parametrize("place", PLACES)
def test_a_batch_may_be_closed_over(place):
    """What is not handed to the loss may be a worker's own, and is not averaged."""

    def operator(params, x):
        loss = lambda p: lax.pmean(jnp.sum(p * x), AXIS) + jnp.sum(x)  # noqa: E731
        return qgenx.value_and_grad(loss, AXIS)(params)[1]

    np.testing.assert_allclose(of_workers(place, operator), X, 2e-6)


@pytest.mark.parametrize("place", PLACES)
def test_arguments_and_further_results_are_those_of_jax(place):
    def loss(x, p, *, power):
        return jnp.sum(p * x**power), {"largest": jnp.max(x)}

    def operator(params, x):
        differentiate = qgenx.value_and_grad(loss, AXIS, argnums=(1, 0), has_aux=True)
        return differentiate(x, params, power=2)

    (value, aux), (by_p, by_x) = of_workers(place, operator)
    np.testing.assert_allclose(value, (P * X**2).sum(axis=(1, 2)), 1e-6)
    np.testing.assert_allclose(aux["largest"], X.max(axis=(1, 2)))
    np.testing.assert_allclose(by_p, X**2, 1e-6)
    np.testing.assert_allclose(by_x, 2 * P * X, 1e-6)


@pytest.mark.parametrize("place", PLACES)
def test_arguments_may_be_counted_from_the_end(place):
    differentiate = qgenx.value_and_grad(lambda x, p: jnp.sum(p * x), AXIS, argnums=-1)
    np.testing.assert_allclose(
        of_workers(place, lambda params, x: differentiate(x, params)[1]), X
    )


def test_one_worker_without_an_axis_and_bad_arguments():
    value, gradient = qgenx.value_and_grad(lambda p: jnp.sum(p**2), None)(P)
    np.testing.assert_allclose(value, (P**2).sum(), 1e-6)
    np.testing.assert_allclose(gradient, 2 * P, 1e-6)
    with pytest.raises(ValueError, match=r"loss must be a function"):
        qgenx.value_and_grad(3, AXIS)
    with pytest.raises(ValueError, match=r"axis_name must be the name of an axis"):
        qgenx.value_and_grad(jnp.sum, AXIS)(P)
