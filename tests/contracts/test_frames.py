"""How many of the library's functions lie between an update and a rounding."""

import pathlib
import traceback

import jax.numpy as jnp
import pytest

import qgenx_jax as qgenx
from qgenx_jax._codec.families.uniform import Uniform

pytestmark = pytest.mark.plainly

LIBRARY = str(pathlib.Path(qgenx.__file__).parent)
X = jnp.zeros(5000)
MOST = 12


def deepest(monkeypatch, optimizer):
    """The library's frames from the optimizer's update to `Uniform.round`."""
    found = []
    original = Uniform.round

    def watched(self, *args):
        stack = traceback.extract_stack()[:-1]
        names = [
            f"{x.filename[len(LIBRARY) :]}:{x.name}"
            for x in stack
            if x.filename.startswith(LIBRARY)
        ]
        found.append([*names, "Uniform.round"])
        return original(self, *args)

    monkeypatch.setattr(Uniform, "round", watched)
    step = qgenx.iterate(optimizer, lambda x: x + 1)
    run = qgenx.map_workers(step, "data", workers=3)
    run(X, qgenx.init(optimizer, X, workers=3))
    drivers = ("map_workers", "pacing", "running", "handed", "iterate")
    of_update = [
        [name for name in names if not any(driver in name for driver in drivers)]
        for names in found
    ]
    return max(of_update, key=len)


@pytest.mark.parametrize(
    ("bits", "collective"),
    [
        (2, "all_gather"),
        (4, "reduce_scatter"),
        pytest.param(8, "all_gather", marks=pytest.mark.quick),
        (8, "reduce_scatter"),
    ],
)
def test_from_a_pairs_update_to_the_rounding(monkeypatch, bits, collective):
    quantizer = qgenx.uniform(bits)
    pair = qgenx.q_genx("data", quantizer, variant="optimistic", collective=collective)
    names = deepest(monkeypatch, pair)
    assert len(names) <= MOST, "\n".join(names)
