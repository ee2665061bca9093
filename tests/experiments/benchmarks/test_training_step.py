"""The benchmark of a half-step runs, with and without PyTorch; no test times it."""

import csv
import importlib.util
import subprocess
import sys

import pytest

from tests.lib.programs import ran

HAS_TORCH = importlib.util.find_spec("torch") is not None

# PyTorch counts as missing, installed or not.
WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
from absl import app
from experiments.benchmarks import training_step
app.run(training_step.main)
"""


def run(tmp_path, start, *arguments):
    table = tmp_path / "table.csv"
    few = ("--rounds=1", "--latent=3")
    printed = ran(*start, *few, f"--output={table}", *arguments)
    with table.open(newline="") as file:
        return list(csv.DictReader(file)), printed


def test_without_pytorch_our_side_and_the_shares_are_printed(tmp_path):
    rows, output = run(
        tmp_path,
        ["-c", WITHOUT_TORCH],
        "--model=dcgan",
        "--width=4",
        "--batch=2",
        "--shares",
        "--bits=4",
    )
    assert "PyTorch is not installed: our side only" in output
    (row,) = rows
    assert list(row) == ["model", "width", "batch", "ours ms"]
    assert (row["model"], row["width"], row["batch"]) == ("dcgan", "4", "2")
    assert float(row["ours ms"]) > 0
    for column in ("operator / whole", "codec / whole", "optimizer / whole"):
        assert column in output


@pytest.mark.skipif(not HAS_TORCH, reason="needs PyTorch, the extra `peers`")
@pytest.mark.parametrize("model", ["resnet", "dcgan"])
def test_both_sides_agree_on_losses_and_gradients(tmp_path, model):
    rows, output = run(
        tmp_path,
        ["-m", "experiments.benchmarks.training_step"],
        f"--model={model}",
        "--width=4",
        "--batch=2",
        "--threads=1",
        "--profile",
    )
    assert "1 threads; jax" in output
    assert "penalty and its gradient" in output
    (row,) = rows
    assert float(row["largest deviation"]) < 1e-9
    assert float(row["ours / torch"]) > 0
    assert float(row["ours / torch shared"]) > 0


def test_refuses_widths_without_batches():
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "experiments.benchmarks.training_step",
            "--width=4,8",
            "--batch=2",
        ],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode != 0
    assert "one entry per case, got [4, 8] and [2]" in done.stdout + done.stderr
