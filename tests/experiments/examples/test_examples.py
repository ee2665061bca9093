"""Examples run as they stand, in processes of their own, and do what they say."""

import pathlib
import re

import pytest

from tests.lib.programs import ran

ROOT = pathlib.Path(__file__).parents[3]
FOLDER = ROOT / "experiments" / "examples"
NAMES = sorted(path.stem for path in FOLDER.glob("[!_]*.py"))


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


def test_four_bits_train_a_module_as_exact_ones_do():
    (exact_first, exact), (first, four_bits) = [
        line[-2:] for line in numbers_of("nnx_optimizer")
    ]
    assert first == pytest.approx(exact_first, abs=0.01)
    assert max(exact, four_bits) < first / 10
    assert four_bits < 1.2 * exact


def test_five_turns_of_a_critic_bring_the_generator_home():
    ((first, last),) = numbers_of("n_critic")
    assert last < first / 10


def test_eight_bits_at_the_end_are_as_good_as_all_the_time():
    (two, few), (eight, many), (changed, between) = numbers_of("changing_bits")
    assert eight < 0.8 * two
    assert changed == pytest.approx(eight, rel=0.1)
    assert few < between < 0.6 * many


def test_a_restored_run_goes_on():
    (start,), (undisturbed,), (same,), _, (fewer,) = numbers_of("checkpoint")
    assert same == undisturbed < start / 20
    assert fewer < start / 20


def test_processes_read_their_own_rows_and_agree():
    (loss, norm), (other_loss, other_norm) = numbers_of("own_rows")
    assert norm == other_norm
    assert loss != other_loss
    assert 0.5 < loss < 1.5  # of the noise alone it would be 1


def test_evaluation_in_the_loop_sees_what_was_learnt():
    (now,), (average,) = numbers_of("evaluation")
    assert min(now, average) > 88


def test_what_an_example_returns_is_drawn(tmp_path):
    printed = ran("-m", "experiments.examples", "own_losses", f"--output={tmp_path}")
    assert (tmp_path / "own_losses.txt").read_text() == printed
    assert (tmp_path / "own_losses.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.quick
@pytest.mark.parametrize("name", NAMES)
def test_an_example_is_short_listed_and_shown(name):
    assert len((FOLDER / f"{name}.py").read_text().splitlines()) <= 60
    assert f"experiments.examples.{name} " in (FOLDER / "__init__.py").read_text()
    pages = [path.read_text() for path in (ROOT / "docs").rglob("*.md")]
    assert sum(f".. example:: {name}\n" in page for page in pages) == 1
    this = re.sub(r"\s", "", pathlib.Path(__file__).read_text())
    assert f'numbers_of("{name}")' in this
