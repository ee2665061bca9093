"""What an update reads, as its program tells: against derivatives and by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from qgenx_jax._workers.programs import Program

pytestmark = pytest.mark.quick

X, FLAG = jnp.arange(3.0), jnp.array(True)


def program(function, *arguments):
    return Program(jax.make_jaxpr(function)(*arguments))


def read_by(function, *arguments):
    """The inputs that the one result may depend on."""
    found = program(function, *arguments)
    (out,) = found.outputs
    return {i for i in found.inputs if found.values[i].reads & found.values[out].reads}


@pytest.mark.parametrize(
    "function",
    [
        lambda x, y: jnp.sin(x) * 2 + 0 * y,
        lambda x, y: jax.jit(lambda a, b: a * b)(x, y),
        lambda x, y: lax.cond(x[0] > 0, lambda: x, lambda: y),
        lambda x, y: jnp.where(False, x, y),
        lambda x, y: lax.scan(lambda c, _: (c + y, None), x, length=2)[0],
        lambda x, y: jnp.zeros(3) + 1,
    ],
)
def test_what_has_a_derivative_is_read(function):
    """At random points no result depends on an input that is not said to be read."""
    read = read_by(function, X, X)
    for seed in range(3):
        x, y = np.random.default_rng(seed).normal(size=(2, 3)).astype(np.float32)
        slopes = jax.jacobian(function, argnums=(0, 1))(x, y)
        depends = {i for i, slope in enumerate(slopes) if np.abs(slope).max() > 0}
        assert depends <= read


def test_a_product_with_zero_and_a_choice_that_is_known_read_less():
    assert read_by(lambda x, y: x + 0 * y, X, X) == {0}
    assert read_by(lambda x, y: jnp.where(True, x, y), X, X) == {0}
    assert read_by(lambda x, y: x * 0 + jnp.ones(3), X, X) == set()


@pytest.mark.parametrize("is_cond", [True, False])
def test_a_cond_and_a_select_are_the_same_choice(is_cond):
    def choose(flag, x):
        if is_cond:
            return lax.cond(flag, lambda: x, lambda: jnp.zeros(3))
        return jnp.where(flag, x, jnp.zeros(3))

    found = program(choose, FLAG, X)
    (out,) = found.outputs
    for case, reads_x in ((0, False), (1, True)):
        value = found.forced(0, case).get(out) or found.values[out]
        assert bool(value.reads & 2) == reads_x, case


def test_a_value_is_computed_from_what_it_needs_only():
    found = program(lambda count, x: (count + 1) * 2 + 0 * x[0], 3.0, X)
    (out,) = found.outputs
    assert float(found.evaluator({0: jnp.float32(3)})(out)) == 8
