"""When levels are fitted anew: milestones, every so many, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qgenx_jax._adapt import solvers
from qgenx_jax._codec import schedule
from qgenx_jax._codec.schedule import Refresh, refresh

pytestmark = pytest.mark.quick


def due(of, counts):
    """The counts at which a refresh is due, by one compiled program."""
    is_due = jax.jit(jax.vmap(of.is_due))(jnp.asarray(counts, jnp.int32))
    assert is_due.dtype == bool
    return [count for count, now in zip(counts, np.asarray(is_due), strict=True) if now]


def test_the_default_is_the_papers_program():
    of = refresh(None, "newton", "histogram")
    assert of == Refresh()
    counts = [0, 1, 199, 200, 201, 400, 1000, 2000, 4999, 5000, 5001]
    counts += [9_999, 10_000, 10_001, 15_000, 20_000, 2**31 - 1]
    assert due(of, counts) == [0, 200, 1000, 5000, 10_000, 20_000]
    assert (schedule.MILESTONES, schedule.EVERY) == ((0, 200, 1000, 5000), 10_000)


@pytest.mark.parametrize("every", [1, 3, 2**31 - 1])
def test_a_number_is_every_so_many_from_the_first_on(every):
    of = refresh(every, "gradient", "normal")
    assert of == Refresh((), every, "gradient", "normal")
    counts = [0, 1, 2, 3, 4, 6, 7, 2**31 - 2, 2**31 - 1]
    assert due(of, counts) == [count for count in counts if count % every == 0]


@pytest.mark.parametrize("adapt", [(7, 2), [2, 7, 2], range(2, 8, 5), (np.int8(2), 7)])
def test_a_sequence_is_these_and_no_others(adapt):
    of = refresh(adapt, "amq", "histogram")
    assert of == Refresh((2, 7), 0, "amq", "histogram"), "in order, once each"
    assert hash(of) == hash(Refresh((2, 7), 0, "amq", "histogram"))
    assert due(of, range(60)) == [2, 7]


def test_counts_are_traced_scalars_too():
    of = refresh((0, 4), "coordinate", "histogram")
    found = [bool(jax.jit(of.is_due)(jnp.int32(count))) for count in range(6)]
    assert found == [True, False, False, False, True, False]


def test_the_methods_that_may_be_named_are_those_that_there_are():
    """Two lists, as `_codec` may not import `_adapt`, which is above it."""
    assert tuple(solvers.METHODS) == schedule.METHODS


WHOLE = "adapt must be a whole number from "
ROWS = {
    "no exchange": (
        ((), "amq", "normal"),
        r"adapt must name an exchange .*, got \(\):",
    ),
    "every 0": ((0, "amq", "normal"), WHOLE + "1 to 2147483647, got 0: pass an int"),
    "every -1": ((-1, "amq", "normal"), WHOLE + "1 to .*, got -1: pass an int"),
    "a fraction": ((0.5, "amq", "normal"), WHOLE + "1 to .*, got 0.5: pass an int"),
    "text": (("200", "amq", "normal"), WHOLE + "1 to .*, got '200': pass an int"),
    "a bool": ((True, "amq", "normal"), WHOLE + "1 to .*, got True: pass an int"),
    "beyond int32": ((2**31, "amq", "normal"), WHOLE + "1 to .*, got 2147483648: pass"),
    "negative": (((0, -2), "amq", "normal"), WHOLE + "0 to .*, got -2: pass an int"),
    "fractions": (((0, 1.5), "amq", "normal"), WHOLE + "0 to .*, got 1.5: pass an int"),
    "method": (
        (None, "secant", "normal"),
        "method must be one of 'newton', 'coordinate', .*, got 'secant': choose",
    ),
    "law": (
        (None, "amq", "laplace"),
        "law must be one of 'histogram', 'normal', got 'laplace': choose one",
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_is_refused(name):
    arguments, message = ROWS[name]
    with pytest.raises(ValueError, match=f"^{message}"):
        refresh(*arguments)
