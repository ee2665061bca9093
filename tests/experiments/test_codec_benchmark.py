"""The benchmark of the codec: command, columns, floors, peers; nothing is timed."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qgenx_jax as qgenx
from experiments.benchmarks import codec_calls, codec_table, numpy_qsgd, tables
from tests.lib.helpers import plainly_compiled, within_5_sigma

NEEDS_TORCH = pytest.mark.skipif(
    not codec_calls.HAS_TORCH, reason="needs PyTorch, the extra `peers`"
)


def test_the_command_prints_and_writes_a_table_and_a_figure(tmp_path):
    folder = tmp_path / "folder"
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "experiments.benchmarks.codec",
            "--exponents=10",
            "--bits=4",
            "--families=uniform,levels",
            "--payloads=2",
            "--rounds=2",
            "--threads=1",
            f"--output={folder}",
        ],
        env=plainly_compiled(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = tables.read_csv(folder / "codec.csv")
    found = [(row["family"], row["source"], row["bits"], row["size"]) for row in rows]
    assert found == [
        ("uniform", "counter", "4", "1024"),
        ("levels", "counter", "4", "1024"),
    ]
    assert "1 threads; jax" in done.stdout
    assert "2 of 2: levels, counter, 4 bits, 2^10: encode / x+1 is" in done.stdout
    assert {float(row["bits per coordinate"]) for row in rows} == {4 + 32 / 1024}
    for name in codec_table.CALLS:
        is_peer = "QSGD" in name
        for row in rows:
            is_there = not is_peer or row["family"] == "uniform"
            if "PyTorch" in name:
                is_there &= codec_calls.HAS_TORCH
            assert bool(row[f"{name} ms"]) == is_there, f"{name} of {row}"
        assert name in done.stdout
    assert all(float(row["average / floor, best"]) > 0 for row in rows)
    assert (folder / "codec.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("compiled_plainly")
def test_what_is_timed_is_the_librarys_codec():
    quantizer = codec_calls.create_quantizer("levels", 4, "counter")
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
    assert codec_calls.create_quantizer("levels", 1, "counter") is None


def test_columns_by_hand():
    seconds = {
        "x+1": np.array([1.0, 2, 9]),
        "copy": np.array([4.0]),
        "encode": np.array([6.0, 3, 8]),
        "NumPy QSGD": np.array([12.0, 24]),
    }
    row = codec_table.columns(seconds, size=10**9)
    assert row["encode ms"] == 6000
    assert row["NumPy QSGD ms"] == 18000
    assert row["encode / x+1"] == 3  # medians 6 and 2
    assert row["encode / x+1, best"] == 3  # minima 3 and 1
    assert row["encode / copy"] == 1.5
    assert row["encode / copy, best"] == 0.75
    assert row["NumPy QSGD / encode"] == 3
    assert row["NumPy QSGD / encode, best"] == 4
    assert row["encode GB/s"] == pytest.approx(4 / 6)
    assert row["encode GB/s, best"] == pytest.approx(4 / 3)
    for name in ("PyTorch QSGD ms", "PyTorch QSGD / encode", "decode / floor, best"):
        assert row[name] == ""


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


def peer(name):
    """encode(x, bits, bucket) and decode(packed, norms, bits) on NumPy arrays."""
    if name == "numpy":
        rng = np.random.default_rng(0)
        return lambda *args: numpy_qsgd.encode(rng, *args), numpy_qsgd.decode
    from experiments.benchmarks import torch_qsgd

    torch = torch_qsgd.torch
    torch.manual_seed(0)

    def encode(x, *args):
        return torch_qsgd.encode(torch.from_numpy(x), *args)

    return encode, lambda *args: torch_qsgd.decode(*args).numpy()


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("name", ["numpy", pytest.param("torch", marks=NEEDS_TORCH)])
def test_peers_round_to_neighbouring_levels_without_bias(name, bits):
    encode, decode = peer(name)
    bucket, repeats, steps = 8, 4000, 2 ** (bits - 1) - 1
    rng = np.random.default_rng(bits)
    x = rng.normal(size=3 * bucket).astype(np.float32)
    x[bucket : 2 * bucket] = 0  # a bucket without a norm
    packed, norms = encode(np.tile(x, repeats), bits, bucket)
    length = bucket * bits // 8 if bits in (2, 4) else bucket
    assert packed.shape == (3 * repeats, length)
    values = decode(packed, norms, bits).reshape(repeats, -1).astype(np.float64)
    norm = np.abs(x.reshape(-1, bucket)).max(1).repeat(bucket).astype(np.float64)
    place = np.divide(x * steps, norm, out=np.zeros(x.size), where=norm > 0)
    step = norm / steps
    below, above = np.floor(place) * step, np.ceil(place) * step
    is_level = np.minimum(np.abs(values - below), np.abs(values - above))
    assert np.all(is_level <= 1e-6 * norm), "not one of the two levels around x"
    share = place - np.floor(place)
    error = step * np.sqrt(share * (1 - share) / repeats) + 1e-6 * norm
    within_5_sigma(values.mean(0), x, error, f"{name} at {bits} bits")
