"""Payloads: whose they are, how long, with which levels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qgenx_jax as qgenx

pytestmark = pytest.mark.quick
QUANTIZER = qgenx.uniform(4, bucket_size=8)


def test_a_payload_knows_its_bytes_and_its_quantizer():
    payload = QUANTIZER.encode(0, jnp.ones((3, 3)))
    assert payload.nbytes == QUANTIZER.n_bytes(9) == payload.data.size
    assert payload.shape == (3, 3)
    assert payload.dtype == np.float32
    payload.check(payload.nbytes, QUANTIZER)
    payload.check_levels(None)


def test_checks_name_what_differs():
    payload = QUANTIZER.encode(0, jnp.ones(9))
    with pytest.raises(ValueError, match="payload must be encoded by"):
        payload.check(payload.nbytes, qgenx.uniform(4))
    with pytest.raises(ValueError, match="payload must be 3 bytes"):
        payload.check(3, QUANTIZER)
    with pytest.raises(ValueError, match="levels must be given to decode"):
        payload.check_levels(jnp.ones(2))


def test_bytes_from_elsewhere_have_no_quantizer():
    data = QUANTIZER.encode(0, jnp.ones(9)).data
    payload = qgenx.Payload(data, (9,), np.dtype("float32"))
    payload.check(data.size, QUANTIZER)
    payload.check_levels(jnp.ones(2))  # nobody knows
    np.testing.assert_allclose(QUANTIZER.decode(payload), np.ones(9), rtol=1e-6)


def test_what_is_dithered_is_decoded_by_its_key():
    dithered, x = qgenx.dithered(3, bend=1.0), jnp.linspace(-1, 1, 50)
    payload = dithered.encode(4, x)
    found = dithered.decode(payload, key=4)
    assert np.abs(found - x).max() < 0.3
    wrong = dithered.decode(payload, key=5) - x
    assert 0.05 < np.abs(wrong).mean() < 0.3, "off by about a third of a step"
    typed = dithered.decode(payload, key=jax.random.key(4))
    np.testing.assert_array_equal(typed, found)
    with pytest.raises(ValueError, match=r"key must be given to decode .*, got None"):
        dithered.decode(payload)
    plain = QUANTIZER.encode(0, x)
    found = QUANTIZER.decode(plain, key=0)
    np.testing.assert_array_equal(found, QUANTIZER.decode(plain))
