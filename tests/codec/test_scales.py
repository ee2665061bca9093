"""Powers of two times a bucket: other scales, the same codes, up to float32's ends."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qgenx_jax as qgenx
from qgenx_jax._codec import scales
from qgenx_jax._codec.quantizer import coder_of

pytestmark = pytest.mark.quick

QUANTIZERS = {
    "sign": qgenx.uniform(1),
    "ternary": qgenx.uniform(2),
    "uniform": qgenx.uniform(5, norm=2),
    "exponential": qgenx.exponential(4, norm=1),
    "min_max": qgenx.min_max(4),
}
EXPONENTS = np.array([0, -112, -66, -65, -64, -63, -1, 1, 58, 59, 60, 61, 100, 120])


@pytest.mark.parametrize("name", QUANTIZERS)
def test_scaling_by_powers_of_two_changes_no_code(name):
    rounding = coder_of(QUANTIZERS[name], "float32").rounding
    rng = np.random.default_rng(1)
    bucket = (rng.choice([-1, 1], 40) * rng.uniform(0.01, 1.9, 40)).astype(np.float32)
    rows = bucket * np.exp2(EXPONENTS).astype(np.float32)[:, None]
    r16 = np.broadcast_to(rng.integers(0, 2**16, 40, np.int32), rows.shape)

    @jax.jit
    def roundtrip(rows):
        grid, meta = rounding.measure(rows)
        codes = rounding.round(rows, grid, jnp.asarray(r16))
        shared = jnp.split(meta, meta.shape[1], axis=1)
        return codes, meta, rounding.values(codes.astype(jnp.int32), shared)

    codes, meta, values = map(np.asarray, roundtrip(rows))
    powers = np.exp2(EXPONENTS)[:, None]
    for row, exponent in enumerate(EXPONENTS):
        where = f"{name} at 2^{exponent}"
        np.testing.assert_array_equal(codes[row], codes[0], err_msg=where)
        np.testing.assert_array_equal(meta[row], meta[0] * powers[row], err_msg=where)
        np.testing.assert_array_equal(
            values[row], values[0] * powers[row], err_msg=where
        )
    assert len(np.unique(codes[0])) > 1


def test_a_share_is_a_quotient_rounded_once():
    counts = [*range(1, 65), 127, 129, 1000, 1023, 4095, 4096]
    for dtype in (np.float32, np.float64):
        with jax.enable_x64(dtype == np.float64):
            shares = jax.jit(lambda x: [scales.share(count, x) for count in counts])
            found = np.stack(shares(dtype([5, 0, np.inf, np.nan])))
        assert found.dtype == dtype
        wanted = dtype(1) / np.asarray(counts, dtype)
        for place in range(3):
            np.testing.assert_array_equal(found[:, place], wanted)
        assert np.isnan(found[:, 3]).all()
