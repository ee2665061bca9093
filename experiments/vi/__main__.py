"""The claims of the paper on small variational inequalities, each with a verdict.

    python -m experiments.vi all [--quick] [--seeds=10] [--workdir=runs/vi]
    python -m experiments.vi rates

Figures: rates, ... ; `all` makes all of them. Each writes FIGURE.csv and FIGURE.png to
the workdir, and all together claims.csv and report.html, one file with everything in it.
The same seeds give the same tables, bit for bit, on one machine.
"""

import importlib
import pathlib
import time

import jax
from absl import app, flags

from experiments.common import arguments, figures, tables
from experiments.common.progress import Progress
from experiments.vi import report
from experiments.vi.lab import Lab, Result

FIGURES = ("rates",)

_QUICK = flags.DEFINE_boolean("quick", False, "fewer iterations, methods and seeds")
_SEEDS = flags.DEFINE_integer("seeds", 0, "of each run; 0: 10, or 3 with --quick")
_WORKDIR = flags.DEFINE_string("workdir", "runs/vi", "folder of figures and report")


def chosen(argv: list[str]) -> list[str]:
    """The figures that are asked for.

    Raises:
        app.UsageError: for another one, or none, or several.
    """
    found = argv[1:]
    if len(found) != 1 or found[0] not in (*FIGURES, "all"):
        raise app.UsageError(
            f"the figure must be one of {', '.join(FIGURES)}, or all, got "
            f"{' '.join(found) or 'none'}; write for instance: "
            "python -m experiments.vi rates"
        )
    return list(FIGURES) if found[0] == "all" else found


def number_of_seeds() -> int:
    """Of each run.

    Raises:
        app.UsageError: if it is below 1, or beyond the first on which steps are chosen.
    """
    seeds = (3 if _QUICK.value else 10) if not _SEEDS.present else _SEEDS.value
    if not 1 <= seeds <= 1000:
        raise app.UsageError(
            f"--seeds must be from 1 to 1000, got {seeds}; leave it out for 10"
        )
    return seeds


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
    folder = arguments.output_folder(_WORKDIR.value)
    assert folder is not None or not _WORKDIR.value
    folder = folder or pathlib.Path()
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
