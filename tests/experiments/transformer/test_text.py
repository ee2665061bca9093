"""Bytes to learn: there, equal for equal steps, and pieces of the text."""

import numpy as np
import pytest

from experiments.transformer import text

pytestmark = pytest.mark.quick


def test_the_sources_of_pythons_library_are_there():
    found = text.library_sources()
    assert found.dtype == np.uint8
    assert found.size > 10**6
    assert b"class ArgumentParser" in found.tobytes()


def test_a_python_without_sources_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(text.sysconfig, "get_path", lambda _: str(tmp_path))
    with pytest.raises(FileNotFoundError, match="no sources of Python's library in"):
        text.library_sources()


def test_batches_are_pieces_and_differ_from_step_to_step():
    whole = np.arange(1000) % 256
    one = text.batches(whole, 3, (2, 5), 17, seed=0)
    assert one.shape == (2, 5, 17)
    assert (np.diff(one.astype(int), axis=-1) % 256 == 1).all()
    np.testing.assert_array_equal(one, text.batches(whole, 3, (2, 5), 17, seed=0))
    for step, seed in [(4, 0), (3, 1)]:
        assert (text.batches(whole, step, (2, 5), 17, seed) != one).any()
