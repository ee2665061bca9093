"""Candidates of a plan: by name, by a function, as they are; and what is none."""

import math

import numpy as np
import pytest

import qgenx_jax as qgenx
from qgenx_jax._exchange import candidates

pytestmark = pytest.mark.quick
FLATS = [np.random.default_rng(0).standard_normal(600).astype("f4")]
BUCKETS = (64, math.inf, 16)


def made(named):
    make, shared = candidates.candidates_of(named, *BUCKETS)
    return candidates.made_of(make, FLATS) if shared is None else shared


def test_names_stand_for_one_of_each_number_of_bits_and_exact():
    of = {"bucket_size": 64, "scale_bits": 16}
    uniform = [qgenx.uniform(bits, **of) for bits in range(1, 9)]
    assert made("uniform") == [*uniform, None]
    fitted = made("fitted")
    assert [x.family for x in fitted[:-1]] == ["uniform"] + ["levels_without_zero"] * 7
    for bits, quantizer in zip(range(1, 9), made("dithered")[:-1], strict=True):
        bend = qgenx.fit_bend(FLATS, bits, bucket_size=64)
        assert quantizer == qgenx.dithered(bits, bend=bend, **of)


def test_a_function_and_a_sequence():
    found = made(lambda bits, flats: qgenx.uniform(bits) if bits > 6 else None)
    assert found == [None] * 6 + [qgenx.uniform(7), qgenx.uniform(8), None]
    each = [qgenx.uniform(4), None, qgenx.uniform(4)]
    assert made(each) == [qgenx.uniform(4), None], "each once"


def test_what_is_none_is_refused():
    for bad in (4, [], [3]):
        with pytest.raises(ValueError, match="candidates must be"):
            candidates.candidates_of(bad, *BUCKETS)
    with pytest.raises(ValueError, match="candidates must be one of"):
        candidates.candidates_of("best", *BUCKETS)
    with pytest.raises(ValueError, match=r"norm must be infinity for .*dithered"):
        candidates.candidates_of("dithered", 64, 2, 32)
