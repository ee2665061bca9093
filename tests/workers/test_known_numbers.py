"""Known numbers are computed as the program would."""

import jax.numpy as jnp
import numpy as np
import pytest

from qgenx_jax._workers import known_numbers

pytestmark = pytest.mark.quick


def test_sums_wrap_and_round_as_in_their_dtype():
    whole, half = np.zeros((), np.uint8), np.zeros((), np.float16)
    assert known_numbers.computed("add", [250, 10], whole) == 4
    assert known_numbers.computed("not", [0], np.zeros((), np.int32)) == -1
    assert known_numbers.computed("not", [True], np.zeros((), bool)) is False
    assert known_numbers.computed("add", [2048, 1], half) == 2048
    assert np.isinf(known_numbers.computed("mul", [1e5, 10], half))
    assert known_numbers.cast(300, whole) == 44


def test_only_single_numbers_are_known():
    assert known_numbers.number(jnp.float32(1.5)) == 1.5
    assert known_numbers.number(np.True_) is True
    assert known_numbers.number(np.ones(2)) is None
    assert known_numbers.number("text") is None
