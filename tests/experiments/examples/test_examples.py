"""Examples run as they stand, in processes of their own, and do what they say."""

import pathlib
import re

import pytest

from tests.lib.programs import ran

ROOT = pathlib.Path(__file__).parents[3]
FOLDER = ROOT / "experiments" / "examples"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")


def numbers_of(name):
    """The numbers on each line that an example prints."""
    lines = ran("-m", f"experiments.examples.{name}", as_users=True).splitlines()
    return [[float(x) for x in re.findall(r"-?\d+\.\d+", line)] for line in lines]


def test_the_certificate_of_ones_own_losses_falls():
    (before,), (after,) = numbers_of("own_losses")
    assert after < before / 20


def test_a_constraint_on_a_rate_is_kept_for_a_price():
    (missed, right), (missed_less, right_less) = numbers_of("rate_constrained")
    assert missed_less < 6 < missed
    assert 80 < right_less < right


def test_an_adversary_in_training_helps_against_one():
    (clean, attacked), (clean_too, attacked_less) = numbers_of("robust_training")
    assert attacked < 20
    assert attacked_less > 50
    assert min(clean, clean_too) > 85


def test_a_matrix_game_comes_near_its_equilibrium():
    value = -1 / 18
    (even,), (euclidean, wins), (entropic, wins_too) = numbers_of("matrix_game")
    assert max(euclidean, entropic) < even / 20
    assert value - euclidean <= wins <= value + 1e-4
    assert value - entropic <= wins_too <= value + 1e-4


def test_three_processes_agree_to_the_last_bit():
    exploitability = [line[0] for line in numbers_of("three_processes") if line]
    assert len(exploitability) == 3
    assert len(set(exploitability)) == 1
    assert exploitability[0] < 0.1


@pytest.mark.quick
@pytest.mark.parametrize("name", NAMES)
def test_an_example_is_short_and_listed(name):
    assert len((FOLDER / f"{name}.py").read_text().splitlines()) <= 60
    assert f"experiments.examples.{name} " in (FOLDER / "__init__.py").read_text()
    assert (
        f"numbers_of({name!r})".replace("'", '"') in pathlib.Path(__file__).read_text()
    )
