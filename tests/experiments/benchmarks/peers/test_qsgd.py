"""QSGD in NumPy and PyTorch rounds to its levels, without bias."""

import numpy as np
import pytest

from experiments.benchmarks.codec import calls as codec_calls
from experiments.benchmarks.peers import numpy_qsgd
from tests.lib.helpers import within_5_sigma

NEEDS_TORCH = pytest.mark.skipif(
    not codec_calls.HAS_TORCH, reason="needs PyTorch, the extra `peers`"
)


def peer(name):
    """encode(x, bits, bucket) and decode(packed, norms, bits) on NumPy arrays."""
    if name == "numpy":
        rng = np.random.default_rng(0)
        return lambda *args: numpy_qsgd.encode(rng, *args), numpy_qsgd.decode
    from experiments.benchmarks.peers import torch_qsgd

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
