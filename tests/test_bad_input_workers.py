"""Bad steps of map_workers; see test_bad_input.py."""

import jax
import numpy as np
import pytest

import qgenx_jax as qgenx
from tests.lib.helpers import AXIS, mesh_of

X = np.ones(3, np.float32)
DIFFERS = "the step's {} must be equal on all workers, got one that differs: exchange"
STEPS = {
    "params alone": (lambda x, s, b: x, "step must return a tuple .*, got .*: return"),
    "nothing": (lambda x, s, b: None, "step must return a tuple .*, got NoneType: ret"),
    "another shape": (
        lambda x, s, b: (x[:1], s),
        "the step's params must have the sha",
    ),
    "another dtype": (
        lambda x, s, b: (x.astype("f2"), s),
        "the step's params must have the dtype float32 .*, got float16: return params",
    ),
    "another shape of state": (
        lambda x, s, b: (x, s[:1]),
        r"the step's state must have the shape \(3,\) .*, got \(1,\): return state",
    ),
    "exchanged by nobody": (lambda x, s, b: (x - b, s), DIFFERS.format("params")),
    "state exchanged by nobody": (lambda x, s, b: (x, s + b), DIFFERS.format("state")),
}


@pytest.mark.parametrize("where", ["vmap", "shard_map"])
@pytest.mark.parametrize(
    ("step", "message"), [pytest.param(*row, id=name) for name, row in STEPS.items()]
)
def test_is_refused(step, message, where):
    place = {"workers": 2} if where == "vmap" else {"mesh": mesh_of(2)}
    run = qgenx.map_workers(step, AXIS, **place)
    with pytest.raises(ValueError, match=f"^{message}"):
        jax.eval_shape(run, X, X, np.zeros((2, 3), np.float32))


def test_a_step_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"step must be a function .*, got None: for"):
        qgenx.map_workers(None, AXIS, workers=2)
