"""Flags that list numbers or names, and an early end."""

import pytest
from absl import app

from experiments.common import arguments


def test_an_interrupted_benchmark_says_so(monkeypatch):
    def interrupted(main):
        raise KeyboardInterrupt

    monkeypatch.setattr(app, "run", interrupted)
    with pytest.raises(SystemExit, match="interrupted; tables of what was measured"):
        arguments.run(lambda argv: None)


def test_numbers_are_listed_with_ranges():
    def numbers(*items):
        return arguments.whole_numbers("bits", items, 1, 8)

    assert numbers("8", "2..4", "3", " 1") == [8, 2, 3, 4, 1]
    for wrong in ("9", "0..2", "4..2", "x", "1..y", ""):
        with pytest.raises(app.UsageError, match=f"--bits must .* got {wrong!r}"):
            numbers("2", wrong)
    with pytest.raises(app.UsageError, match="at least one number"):
        numbers()
    assert arguments.names("where", ["b", " a", "b"], ("a", "b")) == ["b", "a"]
    for wrong in (["c"], []):
        with pytest.raises(app.UsageError, match="--where must list some of a, b, got"):
            arguments.names("where", wrong, ("a", "b"))
