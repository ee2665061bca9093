"""The rooms and their order: imports go one way, between folders and inside them."""

import ast
import graphlib
import pathlib
import re

import pytest

from experiments.checks import mutation

pytestmark = pytest.mark.quick
ROOT = pathlib.Path(__file__).parent.parent
LIBRARY = ROOT / "qgenx_jax"
GROUND = ("_types", "_checks", "_trees", "_random")
FLOORS = (
    set(GROUND),
    {"_codec", "_workers", "problems"},
    {"bounds", "entropy", "_adapt"},
    {"_exchange"},
    {"_methods"},
    {"__init__"},
)
"""Rooms of one floor import nothing of each other, but for ground files, in order."""
ALLOWED = {"jax", "numpy", "optax", "chex", "qgenx_jax"}
STANDARD = {
    "collections",
    "contextlib",
    "contextvars",
    "dataclasses",
    "functools",
    "heapq",
    "inspect",
    "itertools",
    "json",
    "math",
    "operator",
    "re",
    "typing",
    "zlib",
}
FILES = sorted(LIBRARY.rglob("*.py"))


def name_of(path):
    """(room, file in it) of a path: ("_codec", "families.uniform"), ("_trees", "")."""
    parts = path.relative_to(LIBRARY).with_suffix("").parts
    return parts[0], ".".join(parts[1:])


def imports_of(path):
    """(package, dotted module) for every import in a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name.partition(".")[0], alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import"
            assert node.module is not None
            for alias in node.names:
                yield node.module.partition(".")[0], f"{node.module}.{alias.name}"


def floor_of(room):
    (floor,) = (index for index, rooms in enumerate(FLOORS) if room in rooms)
    return floor


def order_of(room):
    """A room's files as its docstring lists them; names of folders stand for theirs."""
    if room in GROUND:
        return []
    text = ast.get_docstring(ast.parse((LIBRARY / room / "__init__.py").read_text()))
    assert text is not None, f"{room} says nothing"
    return re.findall(r"^- `(\w+)`:", text, re.MULTILINE)


def test_every_room_has_a_floor():
    found = {path.stem for path in LIBRARY.iterdir() if path.suffix in ("", ".py")}
    assert found - {"__pycache__"} == set.union(*FLOORS), "give a new room its floor"


FOLDERS = sorted(set.union(*FLOORS) - {"__init__", *GROUND})


@pytest.mark.parametrize("room", FOLDERS)
def test_a_rooms_docstring_lists_its_files(room):
    files = {path.stem for path in (LIBRARY / room).iterdir()}
    assert sorted(order_of(room)) == sorted(files - {"__init__", "__pycache__"})


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(LIBRARY)))
def test_imports_go_down(path):
    room, file = name_of(path)
    for package, module in imports_of(path):
        assert package in ALLOWED | STANDARD, f"{path} imports {package}"
        if package != "qgenx_jax" or room == "__init__":
            continue
        other, *rest = module.split(".")[1:]
        if other == room:
            order = order_of(room)
            if file in ("", "__init__"):
                continue  # a folder's own list of names
            here, there = order.index(file.split(".")[0]), order.index(rest[0])
            if here == there and "." in file:
                continue  # within a folder of a room, see below
            assert there < here, f"{room}/{file} imports {rest[0]}, which comes later"
        elif room in GROUND and other in GROUND:
            assert GROUND.index(other) < GROUND.index(room), f"{room} imports {other}"
        else:
            assert floor_of(other) < floor_of(room), f"{room}/{file} imports {other}"


@pytest.mark.parametrize("folder", ["_codec/families", "_exchange/strategies"])
def test_imports_within_a_folder_of_a_room_make_no_circle(folder):
    package = ".".join(["qgenx_jax", *folder.split("/")]) + "."
    graph = {}
    for path in (LIBRARY / folder).glob("*.py"):
        modules = [module for _, module in imports_of(path)]
        graph[path.stem] = {
            m[len(package) :].split(".")[0] for m in modules if m.startswith(package)
        }
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, with the circle


COLLECTIVES = {"all_gather", "all_to_all", "psum", "psum_scatter"}
COLLECTIVES |= {"pmax", "pmean", "pmin", "ppermute"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(LIBRARY)))
def test_collectives_are_in_one_file(path):
    of_lax = {
        node.attr
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "lax"
    }
    if path != LIBRARY / "_workers" / "collectives.py":
        found = of_lax & COLLECTIVES
        assert not found, f"{path} calls {found}: say it by _workers/collectives.py"


def names_of_families():
    """Classes, public functions and rows of FAMILIES, of the files that have them."""
    for path in (LIBRARY / "_codec" / "families").glob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
                yield node.name
            elif isinstance(node, ast.Assign):
                for row in filter(lambda x: isinstance(x, ast.Subscript), node.targets):
                    assert isinstance(row.slice, ast.Constant)
                    yield row.slice.value


FAMILIES = {name for name in names_of_families() if not name.startswith("_")}
FAMILIES -= {"best"}  # a factory of another's, and a word


def test_the_names_of_families_are_found():
    assert {"uniform", "min_max", "MinMax", "levels", "user_levels"} <= FAMILIES


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(LIBRARY)))
def test_decisions_on_a_family_are_in_its_file(path):
    room, file = name_of(path)
    if file.startswith("families.") or room == "__init__":
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Name) and node.id != "levels":  # a file, and a field
            assert node.id not in FAMILIES, f"{path}:{node.lineno}"
        if isinstance(node, ast.Compare):
            for side in (node.left, *node.comparators):
                if isinstance(side, ast.Constant):
                    found = side.value in FAMILIES
                    assert not found, f"{path}:{node.lineno} asks for a family"


TESTED_BY = {
    "_types": (),  # aliases: nothing happens there
    "_checks": ("codec", "exchange", "methods", "workers"),  # test_bad_input, test_axes
}
"""Files of the library without a test file of their name, and folders of tests."""


@pytest.mark.parametrize(
    "path",
    [path for path in FILES if path.stem != "__init__"],
    ids=lambda p: str(p.relative_to(LIBRARY)),
)
def test_every_file_has_its_tests(path):
    twin = ROOT / mutation.twin(path.relative_to(LIBRARY).with_suffix("").as_posix())
    if path.stem in TESTED_BY:
        assert not twin.exists(), f"{path.stem} is no exception any more"
        for folder in TESTED_BY[path.stem]:
            assert list((ROOT / "tests" / folder).glob("test_*.py"))
    else:
        assert twin.exists(), f"{path} wants {twin.relative_to(ROOT)}"


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
