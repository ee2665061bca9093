"""Bit strings to bytes, against strings of characters; words longer than a table."""

import numpy as np
import pytest

from qgenx_jax.entropy import bitstream, prefix_codes

pytestmark = pytest.mark.quick


def test_strings_one_after_the_other():
    rng = np.random.default_rng(0)
    for size in (0, 1, 6, 50):
        lengths = rng.integers(0, 65, size)
        words = np.array([int(rng.integers(2**62)) % 2 ** int(n) for n in lengths])
        text = "".join(
            format(w, "b").zfill(n) for w, n in zip(words, lengths, strict=True) if n
        )
        text += "0" * (-len(text) % 8)
        expected = [int(text[i : i + 8], 2) for i in range(0, len(text), 8)]
        words, blocks = words.astype(np.uint64), range(0, size, 7)
        found = bitstream.write((words[i : i + 7], lengths[i : i + 7]) for i in blocks)
        np.testing.assert_array_equal(found, expected)


def test_words_longer_than_the_table_are_read():
    lengths = np.array([*range(1, 40), 39])
    code = prefix_codes.canonical(lengths)
    symbols = np.random.default_rng(0).integers(0, 40, 500)
    data = bitstream.write([(code.words[symbols], code.lengths[symbols])])
    reader = bitstream.Reader(code, 12)
    found = bitstream.read(reader, data, np.zeros(1, np.int64), 500, 1024)
    np.testing.assert_array_equal(found, symbols)
