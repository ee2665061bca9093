"""The table of seconds to a loss, of rows that are there, and one process by itself."""

import jax
import pytest

from experiments.local_steps import worker
from experiments.local_steps.summary import summary


@pytest.mark.quick
def test_the_loss_to_reach_is_one_that_all_have_reached():
    rows = {
        "exact": [
            {"step": 16, "seconds": 10.0, "loss": 3.0},
            {"step": 32, "seconds": 20.0, "loss": 2.5},
        ],
        "4 bits, H = 16": [
            {"step": 16, "seconds": 1.0, "loss": 2.8},
            {"step": 32, "seconds": 2.0, "loss": 2.4},
        ],
    }
    exact, local = summary(rows, "10mbit")
    assert (exact["seconds"], local["seconds"]) == (20.0, 2.0)
    assert local["exact over it"] == 10.0
    assert local["steps to 2.50"] == 32
    # 1 / 8 of the bits, once in 16 steps, but for small leaves that stay exact
    assert 100 < exact["bytes a step"] / local["bytes a step"] < 128
    assert local["model, s a step"] < exact["model, s a step"] / 50


def test_local_steps_lower_the_loss():
    mesh = jax.make_mesh((1,), ("data",), (jax.sharding.AxisType.Auto,))
    rows = list(worker.train("4 bits, H = 16", mesh, 48))
    assert [row["step"] for row in rows] == [16, 32, 48]
    assert rows[-1]["loss"] < rows[0]["loss"] - 0.3
