"""Exchanges by name."""

import pytest

import qgenx_jax as qgenx
from experiments.transformer import exchanges

pytestmark = pytest.mark.quick


def test_names_stand_for_quantizers_and_roundings():
    exact = exchanges.create("exact", "data", 0)
    assert exact.quantizers == {"all": None}
    cases = {
        "uniform4": (qgenx.uniform(4), "independent"),
        "adaptive3": (qgenx.adaptive(3), "correlated"),
        "best2": (qgenx.best(2), "correlated"),
    }
    for name, (quantizer, rounding) in cases.items():
        made = exchanges.create(name, "data", 5)
        assert made.quantizers == {"all": quantizer}
        assert (made.rounding, made.key) == (rounding, 5)
        assert made.exact is qgenx.small_leaves


@pytest.mark.parametrize("name", ["best", "best9", "min_max4", "", "exact4"])
def test_others_are_refused(name):
    with pytest.raises(ValueError, match=r"exchanges must be exact, or uniform, .*got"):
        exchanges.create(name, "data", 0)
