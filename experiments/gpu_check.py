"""All that is to be measured on a GPU, by one command, into one report.

    python -m experiments.gpu_check --output=gpu_check [--minutes=5]

Runs, one after the other, and writes what each prints to `report.md` in the folder,
which has to be a new one, as it goes: training at the paper's batch beside PyTorch on
the same card (where the extra ``peers`` is installed), the codec beside a copy, the
share of an iteration that the exchange takes, and the score after some minutes of
training. A command that fails is reported with its last lines, and the others go on;
the exit code is then 1.

`--tiny` does the same on sizes that a CPU does in minutes: to see that all of it runs.
"""

import pathlib
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from absl import app, flags

from experiments.common.processes import environment

_OUTPUT = flags.DEFINE_string("output", "gpu_check", "folder of the report")
_MINUTES = flags.DEFINE_float("minutes", 5.0, "of training before the score", 1.0)
_TINY = flags.DEFINE_boolean("tiny", False, "small sizes, for a CPU")
_ONLY = flags.DEFINE_list("only", [], "names of checks; empty: all")


class Check(NamedTuple):
    """One thing to be measured.

    Attributes:
        name: short, for `--only`.
        question: that its numbers answer.
        arguments: of Python.
    """

    name: str
    question: str
    arguments: Sequence[str]


def checks(folder: pathlib.Path, *, minutes: float, tiny: bool) -> Iterator[Check]:
    """All checks, in order."""

    def module(name: str, full: Sequence[str], small: Sequence[str]) -> list[str]:
        return ["-m", f"experiments.{name}", *(small if tiny else full)]

    yield Check(
        "training",
        "How long is a half-step at the paper's batch, beside PyTorch's on this card?",
        module(
            "benchmarks.training_step",
            ["--model=resnet", "--width=128,128", "--batch=341,1024", "--shares"],
            ["--model=dcgan", "--width=4", "--batch=4", "--rounds=2", "--shares"],
        ),
    )
    yield Check(
        "codec",
        "How near is the codec to a copy of the vector?",
        module(
            "benchmarks.codec",
            ["--exponents=22,25", "--bits=8,4,2", "--families=uniform,dithered"],
            ["--exponents=12", "--bits=4", "--families=uniform", "--rounds=2"],
        ),
    )
    run = str(folder / "run")
    small = ["--iterations=4", "--width=4", "--batch_size=2", "--score_every=2"]
    small += ["--score_samples=8", "--log_every=2", "--preset=cifar10_small"]
    small += ["--source=embedded", f"--workdir={run}", "--notensorboard"]
    per_iteration = 0.5  # seconds, of which the most is not known before it is measured
    yield Check(
        "score",
        f"How far does the paper's experiment come in about {minutes:g} minutes?",
        module(
            "cifar10_gan",
            [
                "--preset=paper",
                f"--iterations={max(int(minutes * 60 / per_iteration), 2)}",
                "--score_every=500",
                f"--workdir={run}",
                "--profile=20-25",
            ],
            [*small, "--profile=2-3"],
        ),
    )
    yield Check(
        "evaluate",
        "How good are its pictures, by a network?",
        module(
            "cifar10_gan",
            ["evaluate", run, "--scores=sliced,frechet,kid"],
            ["evaluate", run, "--scores=sliced", "--samples=8"],
        ),
    )


def main(argv: list[str]) -> None:
    """Runs the checks, and writes the report."""
    if argv[1:]:
        raise app.UsageError(f"arguments must be --flag=value, got {argv[1:]}")
    folder = pathlib.Path(_OUTPUT.value)
    wanted = list(checks(folder, minutes=_MINUTES.value, tiny=_TINY.value))
    known = [check.name for check in wanted]
    if unknown := set(_ONLY.value) - set(known):
        raise app.UsageError(f"--only must name some of {known}, got {sorted(unknown)}")
    if folder.exists():
        raise app.UsageError(
            f"--output must be a new folder, got {str(folder)!r}; name another"
        )
    folder.mkdir(parents=True)
    report, failed = folder / "report.md", []
    report.write_text(f"# What a GPU shows\n\n{facts()}\n")
    for check in wanted:
        if _ONLY.value and check.name not in _ONLY.value:
            continue
        print(f"{check.name}: {check.question}", flush=True)
        begun = time.monotonic()
        done = subprocess.run(
            [sys.executable, *check.arguments],
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        seconds = time.monotonic() - begun
        printed = done.stdout if done.returncode == 0 else done.stdout + done.stderr
        with report.open("a") as file:
            file.write(
                f"\n## {check.name}\n\n{check.question}\n\n"
                f"    python {' '.join(check.arguments)}\n\n"
                f"{seconds:.0f} s, exit code {done.returncode}\n\n"
                f"```\n{printed[-6000:].strip()}\n```\n"
            )
        print(f"  {seconds:.0f} s, exit code {done.returncode}", flush=True)
        failed += [check.name] if done.returncode else []
    print(f"the report is {report}")
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}; see the report")


def facts() -> str:
    """The devices and versions, found by a process of its own: it takes no memory."""
    code = (
        "import jax, jaxlib; d = jax.devices(); "
        "print(len(d), d[0].device_kind, 'by jax', jax.__version__, 'and jaxlib', "
        "jaxlib.__version__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or f"no device: {done.stderr[-500:]}"


if __name__ == "__main__":
    app.run(main)
