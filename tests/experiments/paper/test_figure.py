"""The table of the figure by hand, and which runs are there."""

import json

import pytest

from experiments.cifar10_gan.reporting.finished_runs import Group, read_run
from experiments.paper import figure
from experiments.paper.methods import DEFAULT, METHODS, SIZES, arguments
from experiments.paper.runs import Planned, RunFailed, check_same, is_done, reached

SCORES = {  # by iteration: exact comes to 50 at 40 of 50 iterations
    "exact": [(0, 90), (20, 70), (40, 50), (50, 45)],
    "uniform4": [(0, 90), (20, 75), (40, 55), (50, 50)],
    "best2": [(0, 90), (20, 80), (40, 75), (50, 70)],
}
SECONDS = {"exact": 2.0, "uniform4": 0.5, "best2": 0.25}  # per iteration
BYTES = {"exact": 800, "uniform4": 100, "best2": 50}


def write_run(folder, name, seed, *, worse=0.0):
    workdir = folder / f"{name}_{seed}"
    workdir.mkdir()
    config = {"seed": seed, "bits": 32 if name == "exact" else 4}
    (workdir / "config.json").write_text(json.dumps(config))
    lines = ["iteration,seconds,bytes,frechet_ema"]
    for iteration, score in SCORES[name]:
        seconds, sent = iteration * SECONDS[name], iteration * BYTES[name]
        lines.append(f"{iteration},{seconds},{sent},{score + worse}")
    (workdir / "metrics.csv").write_text("\n".join(lines) + "\n")
    return Planned(name, seed, workdir, (), 50)


def test_seconds_and_bytes_to_a_score_by_hand(tmp_path, capsys):
    runs = [write_run(tmp_path, name, 0) for name in SCORES]
    rows = figure.write(figure.groups_of(runs), "frechet_ema", tmp_path)
    by_method = {row["method"]: row for row in rows}
    assert {row["to be reached"] for row in rows} == {50.0}
    exact, four = by_method["exact"], by_method["4 bits"]
    assert (exact["seconds to it"], exact["bytes to it"]) == (80.0, 32_000.0)
    assert (four["seconds to it"], four["bytes to it"]) == (25.0, 5000.0)
    assert four["seconds over exact's"] == 25 / 80
    assert four["bytes over exact's"] == 5000 / 32_000
    never = by_method["best, 2 bits"]
    assert (never["seeds there"], never["seconds to it"]) == (0, "")
    assert (tmp_path / "figure1.png").stat().st_size > 10_000
    assert "| best, 2 bits | 1 | 50 | 70 |" in capsys.readouterr().out


def test_seeds_that_do_not_come_there_are_counted(tmp_path):
    runs = [write_run(tmp_path, "exact", 0), write_run(tmp_path, "exact", 1, worse=20)]
    (row,) = figure.summarize(figure.groups_of(runs), "frechet_ema")
    # the mean at iteration 40 is 60, which seed 1 (65 at the end) does not reach
    assert (row["to be reached"], row["seeds there"], row["seeds"]) == (60.0, 1, 2)
    assert (row["frechet_ema"], row["half spread"]) == (55.0, 10.0)


def test_runs_without_scores_are_refused(tmp_path):
    run = write_run(tmp_path, "exact", 0)
    group = Group("exact", [read_run(run.workdir)])
    with pytest.raises(ValueError, match="must have kid at some iteration"):
        figure.summarize([group], "kid")


def test_a_run_is_done_when_it_is_kept(tmp_path):
    run = write_run(tmp_path, "exact", 0)
    assert reached(run) == 50
    assert not is_done(run)
    (run.workdir / "checkpoints" / "50").mkdir(parents=True)
    assert is_done(run)
    assert reached(run._replace(workdir=tmp_path / "none")) == 0


def test_a_run_of_other_arguments_is_not_drawn_for_this_one(tmp_path):
    run = write_run(tmp_path, "exact", 0)._replace(arguments=("--width=16",))
    check_same(run)  # of before there were such files
    (run.workdir / "arguments.json").write_text('["--width=16"]')
    check_same(run._replace(arguments=("--width=16", "--process=1", "--iterations=9")))
    with pytest.raises(RunFailed, match=r"--width=64.*got .*--width=16.*--folder"):
        check_same(run._replace(arguments=("--width=64",)))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", METHODS)
def test_the_program_reads_all_that_a_method_gives(name, size):
    from experiments.cifar10_gan.config import Config
    from experiments.cifar10_gan.fields import check_read
    from experiments.cifar10_gan.presets import from_preset

    types = {key: type(value) for key, value in vars(Config()).items()}
    given = dict(
        flag.removeprefix("--").split("=", 1)
        for flag in arguments(METHODS[name], SIZES[size], ())
    )
    preset = given.pop("preset")
    fields = {key: types[key](value) for key, value in given.items()}
    config = from_preset(preset, fields)
    config.validate()
    check_read(config, fields)
    assert set(DEFAULT) <= set(METHODS)
