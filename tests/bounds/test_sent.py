"""What codecs may send: by decoding with many keys, and for one vector as for many."""

import numpy as np
import pytest

import qgenx_jax as qgenx
from qgenx_jax.bounds import code_probabilities, exact_variance, sent
from tests.lib.helpers import vectors, within_5_sigma

pytestmark = pytest.mark.quick
QUANTIZERS = [
    qgenx.uniform(3, bucket_size=16),
    qgenx.min_max(2, bucket_size=16),
    qgenx.user_levels([0.1, 0.4, 1.0], norm="range", bucket_size=16),
    qgenx.dithered(3, bend=0.8, bucket_size=16),
    qgenx.dithered(1, bend=3.0, bucket_size=16, scale_bits=16),
]


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=str)
def test_rows_of_several_vectors_are_those_of_each(quantizer):
    v = vectors(3, 40)
    found, xp = sent.sent(v, quantizer, None)
    assert xp is np
    for k in range(3):
        alone = exact_variance(v[k], quantizer)
        rows = np.concatenate([of.variance(np)[k] for of in found])
        np.testing.assert_allclose(rows, alone, rtol=1e-12)


@pytest.mark.parametrize("quantizer", QUANTIZERS[3:], ids=str)
def test_codes_of_dithers_are_as_frequent_as_counted(quantizer):
    v, draws = vectors(1, 32)[0], 400
    expected = code_probabilities(v, quantizer)
    codes = []
    for seed in range(draws):
        (opened,) = quantizer.records(quantizer.encode(seed, v))
        codes.append(np.asarray(opened[0]).ravel())
    counts = np.bincount(np.ravel(codes), minlength=expected.size)
    found = counts / counts.sum()
    bar = np.sqrt(expected / counts.sum()) + 1e-6
    within_5_sigma(found, expected, bar, "how often codes are sent")
