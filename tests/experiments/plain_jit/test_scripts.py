"""The script after differs from the one before in three lines, and trains like it."""

import difflib
import pathlib

import jax
import numpy as np
import pytest
from jax.sharding import AxisType

from experiments.plain_jit import scripts as program

FOLDER = pathlib.Path(program.__file__).parent


def lines_of(name):
    return (FOLDER / f"{name}.py").read_text().splitlines()


@pytest.mark.quick
def test_three_lines_differ():
    found = list(difflib.ndiff(lines_of("before"), lines_of("after")))
    new = [line[2:].strip() for line in found if line.startswith("+ ")]
    gone = [line for line in found if line.startswith("- ")]
    assert len(new) == 3, new
    assert len(gone) == 1, gone
    assert new[0] == "import qgenx_jax as qgenx"
    assert program.IN_THE_SCRIPT in new[1]


@pytest.mark.parametrize("model", [1, 2])
def test_by_an_exact_mean_the_losses_are_those_of_before(model):
    """In four steps: they differ by the order of sums alone."""
    kinds = (AxisType.Auto, AxisType.Auto)
    devices = jax.devices()[: 2 * model]
    mesh = jax.make_mesh((2, model), ("data", "model"), kinds, devices=devices)
    losses = {}
    for name, quantizer in (("before", program.IN_THE_SCRIPT), ("after", "None")):
        module = program.script(name, quantizer)
        steps = module.train(mesh, 11)
        losses[name] = [float(next(steps)) for _ in range(4)]
        steps.close()
    np.testing.assert_allclose(losses["after"], losses["before"], rtol=2e-4)
