"""Scores of a run's checkpoints, after it, or beside it while it goes on.

    python -m experiments.cifar10_gan evaluate RUN --scores=frechet,kid --draws=3

Each set of the generator's weights draws pictures from the latents that the run's own
scores have (draw 0), or from others. Real pictures are the test split's; for FID and
the Inception Score the training split's, as the literature has them. The row ``real``
says how far other real pictures are from those: no generator can do better than that.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.cifar10_gan.checkpoints import Checkpoints
from experiments.cifar10_gan.config import Config, key_of
from experiments.cifar10_gan.data.pictures import to_bytes, to_signed
from experiments.cifar10_gan.parsing import parse_scores
from experiments.cifar10_gan.reporting.score import (
    chosen_real,
    held_out,
    samples_of,
    sliced_wasserstein,
)
from experiments.cifar10_gan.resuming import replaced, resumed
from experiments.cifar10_gan.run import WEIGHTS, Run, weights_of
from experiments.cifar10_gan.workdirs import read_config
from experiments.common.tables import markdown, write_csv
from experiments.scores.judge import QUOTED, TITLES, Judge

SLICED = "sliced"
NAMES = (SLICED, *TITLES)
"""Scores that can be asked for."""
OF_TRAINING = ("fid", "isc")
"""Those whose protocol has the training split on the real side."""
_HEADINGS = {SLICED: "sliced Wasserstein distance", **TITLES}


class Asked(NamedTuple):
    """What is to be evaluated.

    Attributes:
        checkpoints: "latest", "all", or iterations with commas.
        weights: some of `WEIGHTS`, with commas.
        scores: some of `NAMES`, with commas.
        samples: how many pictures are drawn.
        draws: how many times, of other latents each.
        fid_weights: path of the weights of torch-fidelity's network.
        fid_download: lets torch-fidelity fetch them.
        output: the CSV file; "" is scores.csv in the run's workdir.
    """

    checkpoints: str = "latest"
    weights: str = ",".join(WEIGHTS)
    scores: str = "sliced,frechet,kid"
    samples: int = 10_000
    draws: int = 1
    fid_weights: str = ""
    fid_download: bool = False
    output: str = ""


def evaluate(workdir: Path, asked: Asked) -> list[dict[str, Any]]:
    """Scores checkpoints, prints a line for each number, and writes a CSV file.

    Args:
        workdir: of the run, which is only read.
        asked: what of it.

    Returns:
        Rows of the file: checkpoint, weights, draw, score, value, error (of the mean
        over parts of one draw, where the score has parts), samples, real (how many
        pictures), and whether the number may be quoted.

    Raises:
        ValueError: for a workdir without a run or without such checkpoints, or what
            cannot be asked.
        ImportError: if a package is missing that a score needs.
    """
    names = parse_scores(asked.scores, NAMES)
    weights = _choose("weights", asked.weights, WEIGHTS)
    if not names:
        raise ValueError(f"scores must name at least one of {NAMES}, got none")
    for name, least in (("samples", 2), ("draws", 1)):
        if getattr(asked, name) < least:
            raise ValueError(
                f"{name} must be at least {least}, got {getattr(asked, name)}"
            )
    config = config_of(workdir)
    rows: list[dict[str, Any]] = []
    output = Path(asked.output) if asked.output else workdir / "scores.csv"
    started = time.monotonic()

    def tell(found: Iterable[dict[str, Any]]) -> None:
        for row in found:
            rows.append(row)
            write_csv(rows, output)  # what is scored stays, however this ends
            where = f"iteration {row['checkpoint']}, {row['weights']}"
            if row["weights"] == "real":
                where = f"{row['samples']:,} other real pictures"
            error = f" ± {row['error']:.2g}" if row["error"] != "" else ""
            print(
                f"{where}, draw {row['draw']}: {_HEADINGS[row['score']]} "
                f"{row['value']:.4g}{error}  [{time.monotonic() - started:.0f} s]",
                flush=True,
            )

    with Checkpoints(workdir / "checkpoints", read_only=True) as checkpoints:
        chosen = _checkpoints(checkpoints, asked.checkpoints, workdir)
        run = Run(config)
        sides = list(_sides(run, names, asked))
        generate = jax.jit(run.pair.generate)
        for side in sides:
            tell(side.rows_of_real(asked.samples))
        for iteration in chosen:
            if iteration not in Checkpoints.there(workdir / "checkpoints"):
                print(f"iteration {iteration}: the run keeps it no longer", flush=True)
                continue
            run.restore(checkpoints, iteration)
            trees = weights_of(run)
            for name in weights:
                for draw in range(asked.draws):
                    latents = latents_of(config, asked.samples, draw)
                    samples = samples_of(generate, trees[name], latents)
                    for side in sides:
                        where = {"checkpoint": iteration, "weights": name, "draw": draw}
                        tell(side.rows(samples, where))
    print(f"\n{summary(rows)}\n\nin {output}")
    return rows


def latents_of(config: Config, count: int, draw: int) -> jax.Array:
    """Latents of a draw; those of draw 0 are the ones of the run's own scores."""
    key = key_of(config, "scores")
    if draw:
        key = jax.random.fold_in(key, draw)
    return jax.random.normal(key, (count, config.latent))


def summary(rows: Sequence[dict[str, Any]]) -> str:
    """A table: a row for each checkpoint and weights, a column for each score."""
    names = list(dict.fromkeys(row["score"] for row in rows))
    places = list(dict.fromkeys((row["checkpoint"], row["weights"]) for row in rows))
    lines = [["checkpoint", "weights", *(_HEADINGS[name] for name in names)]]
    for place in places:
        cells = []
        for name in names:
            values = [
                row["value"]
                for row in rows
                if (row["checkpoint"], row["weights"]) == place and row["score"] == name
            ]
            cell = f"{np.mean(values):.4g}" if values else ""
            if len(values) > 1:
                cell += f" ± {np.std(values, ddof=1):.2g}"
            cells.append(cell)
        lines.append([*map(str, place), *cells])
    text = markdown(lines)
    unquoted = {row["score"] for row in rows if row["quotable"] == "no"}
    few = sorted(unquoted.intersection(QUOTED))
    if few:
        needed = ", ".join(f"{name} from {QUOTED[name]:,}" for name in few)
        text += f"\n\nNot to be quoted, of too few pictures: {needed} on."
    return text


def config_of(workdir: Path) -> Config:
    """The configuration of a run, for one process on this machine.

    Raises:
        ValueError: if the workdir holds no run.
    """
    saved = read_config(workdir)
    if saved is None:
        raise ValueError(
            f"evaluate must be given the workdir of a run, got {str(workdir)!r} "
            "without a config.json; name the --workdir of a run"
        )
    here = {"workdir": str(workdir), "processes": 1, "process": 0, "coordinator": ""}
    return replaced(resumed(saved, {}), here)


class _Side(NamedTuple):
    """Real pictures, and the scores that are against them."""

    real: np.ndarray
    others: np.ndarray
    judge: Judge | None
    sliced: np.ndarray | None

    def rows(
        self, samples: np.ndarray, where: dict[str, Any]
    ) -> Iterator[dict[str, Any]]:
        """Rows of samples in [-1, 1]."""
        values: dict[str, float] = {}
        if self.sliced is not None:
            count = min(len(samples), len(self.sliced))
            pair = samples[:count], self.sliced[:count]
            values[SLICED] = sliced_wasserstein(*pair)
        if self.judge is not None:
            values |= self.judge.scores(to_bytes(samples))
        for name, value in values.items():
            if name.endswith("_error"):
                continue
            count = min(len(samples), len(self.real))
            few = name not in QUOTED or count < QUOTED[name]
            yield {
                **where,
                "score": name,
                "value": value,
                "error": values.get(f"{name}_error", ""),
                "samples": len(samples),
                "real": len(self.real),
                "quotable": "no" if few else "yes",
            }

    def rows_of_real(self, count: int) -> Iterator[dict[str, Any]]:
        """Rows of other real pictures, at most `count`."""
        where = {"checkpoint": "", "weights": "real", "draw": 0}
        return self.rows(to_signed(self.others[:count]), where)


def _sides(run: Run, names: Sequence[str], asked: Asked) -> Iterator[_Side]:
    """One for the scores against test pictures, one for those against training ones."""
    config, train = run.config, run.pictures
    test = held_out(config)
    ours = [name for name in names if name not in (*OF_TRAINING, SLICED)]
    theirs = [name for name in names if name in OF_TRAINING]
    if ours or SLICED in names:
        judge = Judge(test, ours) if ours else None
        sliced = None
        if SLICED in names:
            sliced = chosen_real(config, test, asked.samples)
        yield _Side(test, train, judge, sliced)
    if theirs:
        judge = Judge(
            train, theirs, weights=asked.fid_weights, download=asked.fid_download
        )
        yield _Side(train, test, judge, None)


def _checkpoints(
    checkpoints: Checkpoints, asked: str, workdir: Path
) -> tuple[int, ...]:
    there = checkpoints.all()
    if not there:
        raise ValueError(
            f"the run must have a checkpoint, got {str(workdir)!r} without one; wait "
            "for its first"
        )
    if asked == "latest":
        return there[-1:]
    if asked == "all":
        return there
    wanted = _choose("checkpoint", asked, tuple(map(str, there)))
    return tuple(map(int, wanted))


def _choose(name: str, text: str, known: Sequence[str]) -> tuple[str, ...]:
    """Items with commas between them, each one of those that are known."""
    items = tuple(item.strip() for item in text.split(",") if item.strip())
    wrong = [item for item in items if item not in known]
    if wrong or not items:
        raise ValueError(
            f"{name} must be among {', '.join(known)}, with commas between them, got "
            f"{text!r}; leave out {', '.join(wrong) or 'the flag'}"
        )
    return tuple(dict.fromkeys(items))
