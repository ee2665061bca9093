"""Which tests are to notice which mutations, and what is mutated."""

import ast

import pytest

from experiments.checks import mutation
from experiments.common.processes import ROOT

pytestmark = pytest.mark.quick

SOURCE = '''
def f(x: int = 1) -> int:
    """1 + 1"""
    if x < 2.5 and not x:
        raise ValueError(f"{x + 1}")
    return max(x, -x) * 3
'''
CHANGED = {
    "def f(x: int=2) -> int:",
    "def f(x: int=0) -> int:",
    "if x < 2.5 or not x:",
    "if x <= 2.5 and (not x):",
    "if x >= 2.5 and (not x):",
    "if x < 5.0 and (not x):",
    "if x < 3.5 and (not x):",
    "if x < 2.5 and (not not x):",
    "return min(x, -x) * 3",
    "return max(x, +x) * 3",
    "return max(x, -x) + 3",
    "return max(x, -x) * 4",
    "return max(x, -x) * 2",
}


@pytest.mark.parametrize("room", mutation.ROOMS)
def test_rooms_are_files_and_have_tests(room):
    tests = mutation.ROOMS[room]
    assert (ROOT / mutation.LIBRARY / f"{room}.py").exists()
    assert [test for test in tests if not (ROOT / test).exists()] == []
    assert len(set(tests)) == len(tests)


def test_every_file_that_does_something_is_a_room():
    library = ROOT / mutation.LIBRARY
    files = {
        path.relative_to(library).with_suffix("").as_posix()
        for path in library.rglob("*.py")
        if path.stem not in ("__init__", "_types")
    }
    assert set(mutation.ROOMS) == files


def test_one_node_of_behaviour_is_changed_at_a_time(tmp_path, monkeypatch):
    """Neither annotations, nor documentation, nor the text of errors."""
    (tmp_path / mutation.LIBRARY).mkdir()
    (tmp_path / mutation.LIBRARY / "f.py").write_text(SOURCE)
    monkeypatch.setattr(mutation, "ROOT", tmp_path)
    before = ast.unparse(ast.parse(SOURCE)).splitlines()
    changed = []
    for mutant in mutation.mutants("f", None):
        source, _ = mutation.mutated(mutant)
        pairs = zip(before, source.splitlines(), strict=True)
        (line,) = (new.strip() for old, new in pairs if old != new)
        changed.append(line)
    assert sorted(changed) == sorted(CHANGED)
    only = {mutant.line for mutant in mutation.mutants("f", 6)}
    assert only == {6}
