"""What the exchange benchmark compiles, and the bytes that it counts."""

import numpy as np
import pytest

from experiments.benchmarks.exchange import calls as exchange_calls
from experiments.benchmarks.exchange.calls import BFLOAT16, EXACT, Case
from tests.lib.helpers import mesh_of


def test_cases_and_their_bytes():
    names = exchange_calls.COLLECTIVES
    assert [exchange_calls.grid(k) for k in (2, 3, 4, 6, 9)] == [
        None,
        None,
        (2, 2),
        (3, 2),
        (3, 3),
    ]
    of_three = exchange_calls.create_cases(3, names, [8])
    assert [x.collective for x in of_three] == [
        "exact",
        "bf16",
        "all_gather",
        "reduce_scatter",
    ]
    assert exchange_calls.create_cases(4, names, [8])[-1] == Case("hierarchical", 8)
    # K = 4 and 2^13 coordinates: rings send 2 * 3/4 of a vector; a payload at 8 bits is
    # 2^13 bytes of codes and 8 norms; chips exchange half a vector each way, hosts a
    # payload of the other half
    sent = {
        case.collective: exchange_calls.sent_bytes(case, 2**13, 4)
        for case in exchange_calls.create_cases(4, names, [8])
    }
    assert sent == {
        "exact": 3 * 2**14,
        "bf16": 3 * 2**13,
        "all_gather": 3 * (2**13 + 32),
        "reduce_scatter": 2 * 3 * (2**11 + 8),
        "hierarchical": 2 * 2**14 + 2**12 + 16,
    }


@pytest.mark.usefixtures("compiled_plainly")
def test_what_is_timed_is_the_mean_of_the_workers():
    size, cases = 64, [EXACT, BFLOAT16, Case("hierarchical", 8)]
    calls = exchange_calls.create_calls(cases, size, list(mesh_of(4).devices.flat))
    rows = [np.random.default_rng([0, k]).normal(size=size) for k in range(4)]
    exact, bf16, quantized = (np.asarray(call()) for call in calls.values())
    np.testing.assert_allclose(exact, np.mean(rows, axis=0), atol=1e-6)
    np.testing.assert_allclose(bf16, exact, atol=2**-8 * np.abs(rows).max())
    assert not np.array_equal(bf16, exact)
    np.testing.assert_allclose(quantized, exact, atol=np.abs(rows).max() / 127)
    assert not np.array_equal(quantized, exact)
    assert list(calls) == ["exact, 32 bits", "bf16, 16 bits", "hierarchical, 8 bits"]
