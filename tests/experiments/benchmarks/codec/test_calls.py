"""What the codec benchmark times: the codec as the library runs it, and its floors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qgenx_jax as qgenx
from experiments.benchmarks.codec import calls as codec_calls


@pytest.mark.usefixtures("compiled_plainly")
def test_what_is_timed_is_the_librarys_codec():
    quantizer = codec_calls.create_quantizer("levels", 4)
    x = jax.random.normal(jax.random.key(0), (1024,))
    calls = codec_calls.codec(quantizer, x, 2)
    own = calls["decode"]()
    payload = qgenx.Payload(calls["encode"](), x.shape, x.dtype)
    np.testing.assert_array_equal(quantizer.decode(payload), own)
    assert 0 < jnp.max(jnp.abs(own - x)) < jnp.max(jnp.abs(x)) / 3
    mean = calls["average"]()
    assert 0 < jnp.linalg.norm(mean - x) < jnp.linalg.norm(own - x)
    again = qgenx.Payload(calls["middle"](), x.shape, x.dtype)
    assert 0 < jnp.max(jnp.abs(quantizer.decode(again) - mean)) < jnp.max(jnp.abs(x))
    assert calls["middle floor"]().shape == payload.data.shape
    assert codec_calls.create_quantizer("levels", 1) is None


@pytest.mark.parametrize("bits", range(1, 9))
def test_the_floor_reads_every_byte_and_writes_every_coordinate(bits):
    size = 256
    row = np.arange(size * bits // 8, dtype=np.uint8)  # each byte is another one
    with jax.disable_jit():
        outputs = codec_calls.float_floor(jnp.asarray(row[None]), size)
    assert all(x.dtype == jnp.float32 for x in outputs)
    written = np.concatenate([np.asarray(x).reshape(-1) for x in outputs])
    assert written.size == size, "another number of coordinates than the codec's"
    found, copies = np.unique(written, return_counts=True)
    np.testing.assert_array_equal(found, row, "not every byte is read")
    nearest = {1: {8}, 2: {4}, 3: {4, 2}, 4: {2}, 5: {2, 1}, 6: {2, 1}, 7: {2, 1}}
    assert set(copies) == nearest.get(bits, {1}), "other widths than the nearest"


def test_the_floors_bytes_at_three_bits():
    """Half of 16 coordinates at 4 bits, half at 2: 4 and 2 bytes."""
    rows = jnp.array([[1, 2, 3, 4, 5, 6], [10, 20, 30, 40, 50, 255]], jnp.uint8)
    with jax.disable_jit():
        outputs = codec_calls.float_floor(rows, 16)
    four, two = (np.asarray(x).reshape(-1).tolist() for x in outputs)
    assert four == [11, 22, 33, 44] * 2  # runs of the bucket
    assert two == [55, 5] * 4  # 6 + 255 modulo 256
