"""What a rounding errs by: of the library's quantizers, and of the peers' QSGD."""

import jax
import numpy as np

import qgenx_jax as qgenx
from experiments.benchmarks.peers import numpy_qsgd
from qgenx_jax.bounds.given_vector import coordinate_variances


def error_of(quantizer: qgenx.Quantizer, x: jax.Array) -> float:
    """E ||Q(x) - x||^2 / ||x||^2, in closed form."""
    vector = np.asarray(x)
    each = coordinate_variances(vector, quantizer)
    return float(np.sum(each) / np.sum(np.square(vector, dtype=np.float64)))


def error_of_peers(x: jax.Array, bits: int, bucket: int) -> float:
    """The same of NumPy's QSGD, of one rounding; PyTorch's is the same method."""
    vector, rng = np.asarray(x), np.random.default_rng(3)
    packed = numpy_qsgd.encode(rng, vector, bits, bucket)
    off = numpy_qsgd.decode(*packed, bits).astype(np.float64) - vector
    return float(np.sum(off * off) / np.sum(np.square(vector, dtype=np.float64)))
