"""What measured errors, bytes and copies say, on errors of a known law."""

import math

import numpy as np
import pytest

from qgenx_jax.check import verdicts
from qgenx_jax.check.verdicts import Moved

pytestmark = pytest.mark.quick


@pytest.mark.parametrize("law", ["normal", "heavy", "few"])
def test_errors_without_bias_pass(law):
    """All of 200 seeds: the threshold is one in a million, for many coordinates."""
    for seed in range(200):
        rng = np.random.default_rng(seed)
        errors = rng.normal(size=(24, 400))
        if law == "heavy":
            errors *= np.exp(rng.normal(size=400))
        if law == "few":  # most coordinates are on levels
            errors *= rng.random(400) < 0.2
        assert verdicts.unbiased(errors, 400.0).ok, seed


@pytest.mark.parametrize("bias", [0.5, 1.0])
def test_a_bias_of_half_an_error_is_found(bias):
    for seed in range(100):
        rng = np.random.default_rng(seed)
        errors = rng.normal(size=(24, 400)) + bias * rng.normal(size=400)
        assert verdicts.unbiased(errors, 400.0).ok is False, seed


def test_errors_that_are_always_the_same_are_a_bias():
    errors = np.repeat(np.ones((1, 10)), 24, axis=0)
    assert verdicts.unbiased(errors, 10.0).ok is False
    assert verdicts.unbiased(1e-7 * errors, 10.0).ok
    assert verdicts.unbiased(0 * errors, 0.0).ok


def test_streams():
    rng = np.random.default_rng(0)
    assert verdicts.apart(0.05 * rng.normal(size=24)).ok
    assert verdicts.apart(np.full(24, -0.5)).ok
    assert verdicts.apart(np.ones(24)).ok is False
    assert verdicts.apart(np.full(24, 0.3)).ok is False


def test_replicas():
    prints = np.repeat(np.arange(24)[:, None], 3, axis=1)
    assert verdicts.replicas(prints).ok
    prints[5, 2] += 1
    found = verdicts.replicas(prints)
    assert found.ok is False
    assert "at 1 of 24 exchanges workers [2] differ" in found.text


PROGRAM = """
  %a = u8[4,100]{1,0} all-gather(u8[1,100] %x), dimensions={0}
  %b = (u8[1,50]{1,0}, u8[1,50]{1,0}, u8[1,50], u8[1,50]) all-to-all(%p, %q, %r, %s)
  %c = f32[25]{0} all-reduce(%y), to_apply=%sum
  %d = (u8[100]{0}, u8[400]{0}) all-gather-start(%x), dimensions={0}
  %e = u8[30] collective-permute(%z), source_target_pairs={{0,1}}
  %f = bf16[10]{0} reduce-scatter(%w), dimensions={0}
"""


def test_collectives_of_a_program():
    assert verdicts.moved(PROGRAM, 4) == [
        Moved("all-gather", "u", 300),
        Moved("all-to-all", "u", 150),
        Moved("all-reduce", "f", 150),
        Moved("all-gather", "u", 300),
        Moved("collective-permute", "u", 30),
        Moved("reduce-scatter", "b", 60),
    ]


@pytest.mark.parametrize(
    ("found", "predicted", "most_floats", "ok"),
    [
        ([Moved("all-gather", "u", 300)], 300, 0, True),
        ([Moved("all-gather", "u", 300)], 302, 0, False),
        ([Moved("all-reduce", "f", 300)], 300, 0, False),
        ([Moved("all-reduce", "f", 300)], 300, math.inf, True),
        ([], 300, 0, False),
        ([Moved("all-gather", "u", 300), Moved("all-reduce", "f", 9)], 300, 10, True),
    ],
)
def test_bytes(found, predicted, most_floats, ok):
    assert verdicts.as_predicted(found, predicted, most_floats).ok is ok
