"""The claims of the paper on small variational inequalities, each with a verdict.

    python -m experiments.vi all [--quick] [--seeds=20] [--workdir=runs/vi]
    python -m experiments.vi rates

The figures: rates, workers, bits, steps, robustness, paths, constrained; or `all`.
Each writes FIGURE.csv and FIGURE.png to the workdir, and all together claims.csv and
report.html, one file with everything in it. The same seeds give the same tables, bit
for bit, on one machine. `speed` times the compiled scan beside loops, and is not in
`all`, for no two timings are the same.
"""

import importlib
import os
import pathlib
import time

import jax
from absl import app, flags

from experiments.common import arguments, figures, tables
from experiments.common.progress import Progress
from experiments.vi import report
from experiments.vi.lab import Lab, Result

FIGURES = ("rates", "workers", "bits", "steps", "robustness", "paths", "constrained")
ALONE = ("speed",)
"""Figures that are not in `all`."""

_QUICK = flags.DEFINE_boolean("quick", False, "fewer iterations, methods and seeds")
_SEEDS = flags.DEFINE_integer(
    "seeds", 0, "of each run; by default 20, or 6 with --quick"
)
_WORKDIR = flags.DEFINE_string("workdir", "runs/vi", "folder of figures and report")


def chosen(argv: list[str]) -> list[str]:
    """The figures that are asked for.

    Raises:
        app.UsageError: for another one, or none, or several.
    """
    found = argv[1:]
    if len(found) != 1 or found[0] not in (*FIGURES, *ALONE, "all"):
        raise app.UsageError(
            f"the figure must be one of {', '.join((*FIGURES, *ALONE))}, or all, got "
            f"{' '.join(found) or 'none'}; write for instance: "
            "python -m experiments.vi rates"
        )
    return list(FIGURES) if found[0] == "all" else found


def number_of_seeds() -> int:
    """Of each run.

    Raises:
        app.UsageError: if it is below 1, or beyond the first on which steps are chosen.
    """
    seeds = (6 if _QUICK.value else 20) if not _SEEDS.present else _SEEDS.value
    if not 1 <= seeds <= 1000:
        raise app.UsageError(
            f"--seeds must be from 1 to 1000, got {seeds}; leave it out for 20"
        )
    return seeds


def compile_plainly() -> None:
    """XLA compiles in half the time what then runs about as fast.

    To be called before JAX computes anything. Where XLA_FLAGS are set, they stay.
    """
    names = ["xla_backend_optimization_level=1"]
    names.append("xla_llvm_disable_expensive_passes=true")
    if jax.__version_info__ < (0, 11):  # XLA ends the process at a flag it lacks
        names.append("xla_cpu_use_fusion_emitters=false")
    os.environ.setdefault("XLA_FLAGS", " ".join(f"--{name}" for name in names))


def make(name: str, seeds: int, quick: bool) -> Result:
    """One figure, with a line on how far it is."""
    module = importlib.import_module(f"experiments.vi.figures.{name}")
    total = module.runs(Lab(seeds, quick, None))
    with Progress(total, every_seconds=5.0) as progress:
        progress.say(f"{name}: {total} runs of {seeds} seeds")
        return module.make(Lab(seeds, quick, progress))


def main(argv: list[str]) -> None:
    """Makes what is asked for."""
    names, seeds = chosen(argv), number_of_seeds()
    folder = arguments.folder("workdir", _WORKDIR.value)
    if names != ["speed"]:  # elsewhere compiling takes longer than what is compiled
        compile_plainly()
    begun = time.monotonic()
    results: dict[str, Result] = {}
    pictures: dict[str, pathlib.Path] = {}
    with jax.enable_x64(True):  # gaps are computed so, and some runs
        for name in names:
            result = results[name] = make(name, seeds, _QUICK.value)
            tables.write_csv(result.rows, folder / f"{name}.csv")
            figure = figures.new_figure(*result.size)
            result.draw(figure)
            pictures[name] = folder / f"{name}.png"
            figures.save_figure(figure, pictures[name])
            if result.table:
                tables.print_table(result.table)
                print()
    rows = [claim.row for result in results.values() for claim in result.claims]
    tables.write_csv(rows, folder / "claims.csv")
    tables.print_table([{k: v for k, v in row.items() if k != "why"} for row in rows])
    seconds = time.monotonic() - begun
    about = (
        f"{', '.join(names)}; {seeds} seeds{', quick' if _QUICK.value else ''}; "
        f"jax {jax.__version__} on {jax.devices()[0].device_kind}; {seconds:.0f} s"
    )
    report.write(folder / "report.html", results, pictures, about)
    held = sum(row["verdict"] == "holds" for row in rows)
    print(f"\n{held} of {len(rows)} claims hold; {folder / 'report.html'} ({about})")


if __name__ == "__main__":
    arguments.run(main)
