"""The rooms and their order: a file imports only files of a strictly lower rank."""

import ast
import pathlib

import pytest

pytestmark = pytest.mark.quick

ROOT = pathlib.Path(__file__).parent.parent
LIBRARY = ROOT / "qgenx_jax"
RANKS = {
    "_types": 0,
    "_checks": 1,
    "_fusion": 0,
    "_packing": 1,
    "_random": 2,
    "_trees": 2,
    "_workers": 2,
    "_accumulate": 6,
    "_placement": 3,
    "_map_workers": 4,
    "_operators": 2,
    "problems": 2,
    "_levels": 2,
    "_rounding": 3,
    "_passes": 6,
    "_quantize": 7,
    "_families": 9,
    "_groups": 9,
    "_step_size": 3,
    "_pair": 3,
    "_coders": 8,
    "_wire": 9,
    "_traffic": 10,
    "_cost": 11,
    "_collectives": 10,
    "_reduce_scatter": 11,
    "_hierarchical": 12,
    "_strategies": 13,
    "_exchange": 14,
    "_quantized_mean": 15,
    "_plain": 4,
    "_extragradient": 6,
    "_averaging": 4,
    "_compose": 16,
    "_readers": 17,
    "_qgenx": 15,
    "__init__": 18,
    "_scales": 2,
    "_records": 4,
    "_pallas": 4,
    "_pallas_recode": 5,
    "_payload": 2,
}
ALLOWED = {"jax", "numpy", "optax", "chex", "qgenx_jax"}
STANDARD = {"zlib", "collections", "dataclasses", "functools", "itertools", "math"}
STANDARD |= {"typing"}


def imports_of(path):
    """(package, module of the library or None) for every import in a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                first, _, rest = alias.name.partition(".")
                yield first, rest or None
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import"
            first, _, rest = (node.module or "").partition(".")
            if first == "qgenx_jax" and not rest:
                yield from ((first, alias.name) for alias in node.names)
            else:
                yield first, rest or None


def test_every_room_has_a_rank():
    files = {path.stem for path in LIBRARY.glob("*.py")}
    assert files == set(RANKS), "give a new file its rank here"


@pytest.mark.parametrize("name", RANKS)
def test_imports_go_down(name):
    for package, module in imports_of(LIBRARY / f"{name}.py"):
        assert package in ALLOWED | STANDARD, f"{name} imports {package}"
        if package == "qgenx_jax" and module is not None:
            assert RANKS[module] < RANKS[name], f"{name} imports {module}"


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(p, id=str(p.relative_to(ROOT)))
        for folder in ("qgenx_jax", "experiments", "tests")
        for p in sorted((ROOT / folder).rglob("*.py"))
    ],
)
def test_no_file_is_more_than_one_room(path):
    lines = len(path.read_text().splitlines())
    limit = 400 if path.is_relative_to(ROOT / "tests") else 300
    assert lines <= limit, f"{lines} lines: split it"
