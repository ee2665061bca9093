"""Every public name is documented, has an example that runs, and is in the README."""

import inspect
import pathlib

import pytest

import qgenx_jax as qgenx

pytestmark = pytest.mark.quick

README = pathlib.Path(__file__).parents[2] / "README.md"
NAMES = [name for name in vars(qgenx) if not name.startswith("_")]
FACTORIES = [
    name
    for name in NAMES
    if inspect.isfunction(getattr(qgenx, name))
    and name not in ("ergodic_average_params", "ema_params")  # shown where they belong
]


@pytest.mark.parametrize("name", NAMES)
def test_documented_and_in_the_readme(name):
    documentation = inspect.getdoc(getattr(qgenx, name)) or ""
    assert len(documentation) > 40, f"{name} has no docstring worth the name"
    assert f"`{name}`" in README.read_text(), f"README does not mention `{name}`"


@pytest.mark.parametrize("name", FACTORIES)
def test_functions_have_an_example(name):
    documentation = inspect.getdoc(getattr(qgenx, name))
    assert "Example:" in documentation, f"{name} has no example"
    assert ">>>" in documentation


def test_version():
    assert qgenx.__version__.count(".") == 2
