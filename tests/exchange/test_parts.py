"""Flat vectors with their coders: chunks, their padding, and what stays of each."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qgenx_jax as qgenx
from qgenx_jax._codec.coder import Raw
from qgenx_jax._codec.quantizer import coder_of
from qgenx_jax._exchange import groups
from qgenx_jax._exchange.parts import Part, cut, parts, shares

pytestmark = [pytest.mark.quick, pytest.mark.usefixtures("compiled_plainly")]

FLOAT = np.dtype("float32")
SIZES = (1, 2, 7, 64, 100, 1023, 8192, 8193, 100_000)
COUNTS = (1, 2, 3, 8, 17)


def part_of(quantizer, size):
    coder = Raw(FLOAT) if quantizer is None else coder_of(quantizer, FLOAT)
    return Part("all", size, FLOAT, coder, coder)


@pytest.mark.parametrize("bucket_size", [None, 1, 64, 100])
@pytest.mark.parametrize("count", COUNTS)
def test_chunks_hold_the_vector_and_pad_less_than_one_percent(bucket_size, count):
    """The least number that holds it, or whole buckets where those add 1/128 at most.

    Found by trying one number after the other.
    """
    for size in SIZES:
        part = part_of(qgenx.uniform(4, bucket_size=bucket_size), size)
        least = next(n for n in range(size + 1) if n * count >= size)
        whole = least
        while bucket_size and whole % bucket_size:
            whole += 1
        pads_little = 128 * (whole - least) <= least
        expected = whole if count > 1 and pads_little else least
        assert part.chunk(count) == expected, f"{size} coordinates"


@pytest.mark.parametrize(
    "quantizer",
    [None, qgenx.uniform(4, bucket_size=4), qgenx.min_max(4), qgenx.adaptive(2)],
    ids=str,
)
@pytest.mark.parametrize("count", COUNTS)
def test_together_is_the_inverse_of_chunks(quantizer, count):
    for size in (1, 5, 16, 37):
        vector = np.random.default_rng(size).normal(size=size).astype(FLOAT)
        part = part_of(quantizer, size)
        chunks = part.chunks(jnp.asarray(vector), count)
        assert chunks.shape == (count, part.chunk(count))
        rows = np.asarray(chunks).reshape(-1)
        np.testing.assert_array_equal(rows[:size], vector)
        np.testing.assert_array_equal(part.together(chunks), vector)


def test_padding_is_in_no_norm():
    """It is 0 where norms do not see zeros, else in between a bucket's extremes.

    The other values are above 5: a zero among them would be the minimum.
    """
    vector = np.float32([5, 9, 7, 8, 6])
    flat = jnp.asarray(vector)
    no_zero = qgenx.user_levels([1.0], zero=False)
    signed = qgenx.user_levels([-1.0, 0.5, 1.0])
    for quantizer in (
        None,
        qgenx.uniform(2),
        qgenx.user_levels([1.0]),
        no_zero,
        signed,
    ):
        rows = part_of(quantizer, 5).chunks(flat, 4)
        np.testing.assert_array_equal(rows, [[5, 9], [7, 8], [6, 0], [0, 0]])
    rows = part_of(qgenx.min_max(2), 5).chunks(flat, 4)
    np.testing.assert_array_equal(rows[:2], [[5, 9], [7, 8]])
    assert set(np.asarray(rows[2:]).flat) <= set(vector)
    np.testing.assert_array_equal([rows[2].min(), rows[2].max()], [6, 6])


TREE = {
    "large": jax.ShapeDtypeStruct((40, 3), "bfloat16"),
    "levels": jax.ShapeDtypeStruct((50,), "float32"),
    "half": jax.ShapeDtypeStruct((5,), "bfloat16"),
    "bias": jax.ShapeDtypeStruct((7,), "float32"),
    "scale": jax.ShapeDtypeStruct((2,), "float32"),
}
LABELS = {"large": "a", "levels": "b", "half": "c", "bias": "c", "scale": "c"}
A, B = qgenx.uniform(4, bucket_size=10), qgenx.user_levels([0.5, 1.0])
AGAIN = qgenx.uniform(8, bucket_size=10)


def parts_of_tree(levels):
    quantizers = {"a": A, "b": B, "c": None}
    layout = groups.layout(TREE, quantizers, LABELS, None)
    return parts(layout, quantizers, {"a": AGAIN}, levels)


def test_a_part_for_each_group_and_each_dtype_of_exact_leaves():
    mine = jnp.array([0.25, 1.0])
    a, b, *exact = parts_of_tree({"b": mine})
    assert [(x.group, x.size, x.dtype) for x in (a, b)] == [
        ("a", 120, FLOAT),
        ("b", 50, FLOAT),
    ]
    # 120 codes of 4 bits and 12 norms; 8 bits the second time; 5 signed levels
    # are 3 bits, 8 codes at a time
    assert (a.coder.n_bytes(120), a.second.n_bytes(120)) == (60 + 48, 120 + 48)
    assert b.coder.n_bytes(50) == b.second.n_bytes(50) == -(-50 // 8) * 3 + 4
    for coder in (b.coder, b.second):  # the state's levels, not the quantizer's
        np.testing.assert_array_equal(coder.rounding.table, mine)
    kinds = {x.size: (x.group, x.dtype, x.coder, x.second) for x in exact}
    half = np.dtype(jnp.bfloat16)
    assert kinds == {
        5: (None, FLOAT, Raw(half), Raw(FLOAT)),
        9: (None, FLOAT, Raw(FLOAT), Raw(FLOAT)),
    }


def test_shares_are_chunks_and_exact_ones_are_sums_already():
    """After a reduce-scatter exact halves are float32; codes are to be made yet."""
    whole = parts_of_tree({})
    for part, share in zip(whole, shares(whole, 3), strict=True):
        assert share.size == part.chunk(3) == -(-part.size // 3)
        assert share.second is part.second
        assert share.coder is (part.second if part.group is None else part.coder)
        if part.group is None:
            assert share.coder.n_bytes(share.size) == 4 * share.size


def test_cut_gives_neighbouring_runs():
    x = np.arange(24).reshape(2, 12)
    found = list(cut(jnp.asarray(x), (3, 0, 7)))
    for run, columns in zip(found, (x[:, :3], x[:, 3:3], x[:, 3:10]), strict=True):
        np.testing.assert_array_equal(run, columns)
