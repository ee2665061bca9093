"""Runs over each other: groups, curves, the table and what is refused."""

import csv
import json

import numpy as np
import pytest

from experiments.cifar10_gan.reporting.compare import compare, summarize
from experiments.cifar10_gan.reporting.finished_runs import (
    get_curve,
    group_runs,
    read_run,
)
from experiments.common import figures
from experiments.common.tables import CsvWriter, read_csv

BYTES = {32: 6_000_000, 4: 750_000}
SECONDS = {32: 2.0, 4: 1.0}


def make_run(folder, *, bits=4, seed=0, iterations=6, shift=0.0, **changes):
    """A run of rows that can be computed by head; scores at 0, 3, 6, without time.

    The score at iteration t is 1 - t / 10 + shift, and 10 s pass before the first.
    """
    config = {"model": "dcgan", "width": 8, "bits": bits, "bucket_size": 256}
    config |= {"seed": seed, "workdir": str(folder), "data_dir": str(folder)} | changes
    columns = ["iteration", "seconds", "loss_generator", "bytes", "score", "score_ema"]
    with CsvWriter(folder / "metrics.csv", columns) as writer:
        for t in range(iterations + 1):
            if t > 0:
                row = {"seconds": 10 + t * SECONDS[bits], "bytes": t * BYTES[bits]}
                writer.write({"iteration": t, "loss_generator": -t, **row})
            if t % 3 == 0:
                score = 1 - t / 10 + shift
                writer.write({"iteration": t, "score": score, "score_ema": score / 2})
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def seeds(tmp_path):
    """Three seeds of 4 bits, one of them stopped early, and one exact run."""
    return [
        make_run(tmp_path / "a", seed=0, shift=0.0),
        make_run(tmp_path / "exact", bits=32),
        make_run(tmp_path / "b", seed=1, shift=0.3, iterations=4),
        make_run(tmp_path / "c", seed=2, shift=-0.06),
    ]


def groups_of(*folders):
    return group_runs([read_run(folder) for folder in folders])


def test_runs_that_differ_in_the_seed_only_are_a_group(tmp_path, seeds):
    groups = groups_of(*seeds)
    assert [group.legend for group in groups] == ["4 bits (3 seeds)", "exact"]
    assert [run.config["seed"] for run in groups[0].runs] == [0, 1, 2]
    assert [group.end for group in groups] == [4, 6]
    other = make_run(tmp_path / "other", bucket_size=512, extra=True)
    assert [group.legend for group in groups_of(*seeds, other)] == [
        "4 bits, bucket_size=256, no extra (3 seeds)",
        "exact, bucket_size=256, no extra",
        "4 bits, bucket_size=512, extra=True",
    ]
    assert [group.legend for group in groups_of(seeds[1])] == ["exact"]
    again = make_run(tmp_path / "again", seed=0)
    assert groups_of(seeds[0], again)[0].legend == "4 bits (2 runs)", (
        "a repeated seed is no other seed"
    )


def test_curves_are_means_at_the_iterations_that_all_seeds_have(seeds):
    group, exact = groups_of(*seeds)
    curve = get_curve(group, "score", "iteration")
    assert curve is not None
    np.testing.assert_array_equal(curve.x, [0, 3])
    np.testing.assert_allclose(curve.mean, [1.08, 0.78], rtol=1e-12)
    np.testing.assert_allclose(curve.low, [0.94, 0.64], rtol=1e-12)
    np.testing.assert_allclose(curve.high, [1.3, 1.0], rtol=1e-12)
    # Rows of scores have no time and no bytes of their own.
    curve = get_curve(exact, "score", "seconds")
    assert curve is not None
    np.testing.assert_allclose(curve.x, [0, 16, 22])
    curve = get_curve(exact, "score", "bytes")
    assert curve is not None
    np.testing.assert_allclose(curve.x, [0, 18e6, 36e6])
    assert get_curve(exact, "score_average", "iteration") is None
    assert get_curve(exact, "score", "gamma") is None


def test_a_score_later_than_the_last_time_has_no_place_on_that_axis(tmp_path):
    folder = make_run(tmp_path / "run")
    with (folder / "metrics.csv").open("a") as file:
        file.write("9,,,,0.1,0.1\n")
    (group,) = groups_of(folder)
    for x, expected in [("iteration", [0, 3, 6, 9]), ("bytes", [0, 2.25e6, 4.5e6])]:
        curve = get_curve(group, "score", x)
        assert curve is not None
        np.testing.assert_allclose(curve.x, expected, err_msg=x)


def test_compare_draws_groups_and_writes_their_table(seeds, monkeypatch, capsys):
    kept = []
    monkeypatch.setattr(
        figures, "save_figure", lambda figure, path: kept.append(figure)
    )
    output = seeds[0].parent / "compare.png"
    compare([*seeds, seeds[0]], output)
    (figure,) = kept
    panels = np.reshape(figure.axes, (3, 3))
    assert [axes.get_ylabel().split("\n")[-1] for axes in panels[:, 0]] == [
        "distance, raw",
        "dist., moving average",
        "generator loss",
    ]
    assert [axes.get_xlabel() for axes in panels[-1]] == [
        "iteration",
        "time (seconds)",
        "sent per worker (MB)",
    ]
    lines = panels[0, 2].get_lines()
    assert [line.get_label() for line in lines] == ["4 bits (3 seeds)", "exact"]
    assert [list(line.get_xdata()) for line in lines] == [[0, 2.25], [0, 18, 36]]
    assert [len(axes.collections) for axes in panels.flat] == [1] * 9, (
        "only the group of several runs has a band"
    )
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "4 bits (3 seeds)",
        "exact",
    ]
    printed = capsys.readouterr().out.splitlines()
    cells = [line.strip("| ").split(" | ") for line in printed[:4]]
    assert cells == [
        [
            *("group", "seeds", "iterations", "distance at start", "at end, raw"),
            *("at end, moving average", "seconds per iteration"),
            *("bytes per iteration", "bytes in all", "bytes over exact"),
        ],
        ["---"] * 10,
        [
            *("4 bits", "3", "4", "1.08", "0.78 ± 0.18", "0.390 ± 0.090", "1"),
            *("750,000", "3000 kB", "0.125"),
        ],
        ["exact", "1", "6", "1", "0.4", "0.2", "2", "6,000,000", "36 MB", "1"],
    ]
    assert "4 bits is compared up to iteration 4" in printed[5]
    assert "{'a': 6, 'b': 4, 'c': 6}" in printed[5]
    assert printed[-1].startswith("runs: 4, groups: 2,"), "a run counts once"
    table = read_csv(output.with_suffix(".csv"))
    assert float(table[0]["score_half_spread"]) == pytest.approx(0.18)
    assert table[1]["score_half_spread"] == "", "one seed has no spread"
    assert table[1]["bytes"] == "36000000"


def test_bytes_are_compared_only_with_exact_runs_of_the_same_sizes(tmp_path, capsys):
    small = make_run(tmp_path / "small", width=4)
    compare([small, make_run(tmp_path / "exact", bits=32)], tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["bytes_over_exact"] for row in rows] == ["", "1.0"]
    assert "| – |\n" in capsys.readouterr().out


def test_seconds_per_iteration_mind_neither_pauses_nor_a_new_clock(tmp_path):
    folder = make_run(tmp_path / "run", iterations=1)
    with (folder / "metrics.csv").open("a") as file:
        for t, seconds in [(2, 12), (4, 14), (5, 99), (6, 3), (8, 5), (9, 6)]:
            file.write(f"{t},{seconds},,,,\n")
    (row,) = summarize(groups_of(folder))
    assert row["seconds_per_iteration"] == 1.0


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("metrics.csv", None, r"got '.*run', which has no metrics.csv; name the"),
        ("config.json", None, r"got '.*run', which has no config.json; put back"),
        ("metrics.csv", "", r"has no rows in metrics.csv; wait"),
        ("metrics.csv", "iteration,score\n", r"has no rows in metrics.csv; wait"),
        ("metrics.csv", "iteration,score\n5,0.", r"has no rows in metrics.csv; wait"),
        ("metrics.csv", "score\n1\n", r"cannot be read \(rows must have an iteration"),
        (
            "metrics.csv",
            "iteration,slope\n1,2\n",
            r"share one of the columns .*'slope'",
        ),
        ("config.json", '{"bits": ', r"cannot be read \("),
        ("config.json", "[]", r"has a config.json without fields"),
    ],
)
def test_folders_that_hold_no_run_are_refused(tmp_path, name, text, message):
    run = make_run(tmp_path / "run")
    (run / name).unlink() if text is None else (run / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        compare([make_run(tmp_path / "good", seed=1), run], tmp_path / "a.png")
    assert not (tmp_path / "a.png").exists()
    assert not (tmp_path / "a.csv").exists()


def test_seeds_without_a_common_iteration_are_refused(tmp_path):
    runs = [make_run(tmp_path / name, seed=i) for i, name in enumerate("ab")]
    for i, run in enumerate(runs):
        (run / "metrics.csv").write_text(f"iteration,score\n{i},1\n")
    with pytest.raises(ValueError, match=r"iterations in common, .* \['4 bits'\]"):
        compare(runs, tmp_path / "a.png")


def test_calls_that_name_no_run_or_no_figure_are_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one workdir, got none"):
        compare([], tmp_path / "a.png")
    for output in ("a.csv", "a"):
        with pytest.raises(ValueError, match=rf"output must end in .* got '{output}'"):
            compare([make_run(tmp_path / "run")], output)
