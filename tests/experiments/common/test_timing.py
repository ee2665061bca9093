"""Functions are called in turn, by a clock of our own: nothing here is timed."""

import pytest

from experiments.common import timing


class Clock:
    """Time that passes only where a function says so."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(timing.time, "perf_counter", lambda: self.now)

    def taking(self, *seconds):
        """A function that takes these seconds in turn, the last ones for ever."""
        left = list(seconds)

        def function():
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return function


def test_functions_are_called_in_turn():
    calls = []
    functions = {name: lambda n=name: calls.append(n) for name in "ab"}
    seconds = timing.seconds_side_by_side(functions, 2)
    assert "".join(calls) == "ab" + "abab"
    assert set(seconds) == {"a", "b"}
    with pytest.raises(ValueError, match=r"repeats must be at least 1, got 0"):
        timing.seconds_side_by_side(functions, 0)
    calls.clear()
    timing.rounds_side_by_side(functions, 1, before=lambda: calls.append("|"))
    assert "".join(calls) == "|a|b|a|b"


def test_the_first_call_does_not_count_and_slow_functions_have_fewer_rounds(
    monkeypatch,
):
    clock = Clock(monkeypatch)
    functions = {"compiled": clock.taking(60, 1, 2, 3), "slow": clock.taking(4)}
    seconds = timing.rounds_side_by_side(functions, 3, budget=7)
    assert {name: list(x) for name, x in seconds.items()} == {
        "compiled": [1, 2, 3],
        "slow": [4, 4],  # 8 s are over the budget
    }


def test_short_functions_are_called_until_a_round_is_long_enough(monkeypatch):
    clock = Clock(monkeypatch)
    # compiled, warm, then 8 / 2 = 4 calls in each round
    function = clock.taking(60, 2, 1, 2, 3, 6, 5)
    seconds = timing.rounds_side_by_side({"f": function}, 2, least=8)
    assert list(seconds["f"]) == [3, 5]
