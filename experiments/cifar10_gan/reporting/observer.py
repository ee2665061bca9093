"""What process 0 sees of a run: rows, progress, scores and sample grids."""

import contextlib
from typing import Any

import qgenx_jax as qgenx
from experiments.cifar10_gan.config import key_of
from experiments.cifar10_gan.reporting import logs
from experiments.cifar10_gan.reporting.codes import CodesLog
from experiments.cifar10_gan.reporting.figures import sample_grid
from experiments.cifar10_gan.reporting.levels import LevelsLog
from experiments.cifar10_gan.reporting.score import create_scorer
from experiments.cifar10_gan.resuming import recorded
from experiments.cifar10_gan.run import Run, weights_of
from experiments.common.progress import Progress
from experiments.scores.judge import TITLES

COLUMNS = (
    "iteration",
    "seconds",
    "seconds_in_all",
    "loss_generator",
    "loss_discriminator",
    "wasserstein",
    "penalty",
    "slope",
    "vector_norm_generator",
    "vector_norm_discriminator",
    "param_norm_generator",
    "param_norm_discriminator",
    "gamma",
    "quantization_error",
    "mean_error",
    "predicted_error",
    "bits_per_coordinate",
    "bytes_per_iteration",
    "bytes",
    "score",
    "score_average",
    "score_ema",
    "frechet",
    "frechet_average",
    "frechet_ema",
    "kid",
    "kid_average",
    "kid_ema",
)

_GRID = 64  # pictures in a grid


class Observer:
    """Writes down how a run goes; a context manager."""

    def __init__(self, run: Run, *, resume: bool) -> None:
        """Opens the logs, at the run's iteration if it is resumed."""
        config = run.config
        self._scorer = create_scorer(config, run.pair, key_of(config, "scores"))
        sample_grid(self._scorer.real[:_GRID], run.workdir / "samples_real.png")
        self._progress = Progress(
            config.iterations, start=run.iteration, every_seconds=5.0
        )
        self._stack = contextlib.ExitStack()
        self._log = self._stack.enter_context(
            logs.open_log(
                run.workdir,
                COLUMNS,
                tensorboard=config.tensorboard,
                wandb_project=config.wandb,
                config=recorded(config),
                resume_at=run.iteration if run.iteration else (-1 if resume else None),
            )
        )
        at = run.iteration if run.iteration else (-1 if resume else None)
        self._levels = self._stack.enter_context(
            LevelsLog(run.workdir / "levels.csv", resume_at=at)
        )
        # of the vectors before an iteration, which a resumed run looks at again
        self._codes = self._stack.enter_context(
            CodesLog(
                run.workdir / "vectors" / "codes.csv",
                resume_at=None if at is None else max(at - 1, -1),
            )
        )
        self._stack.enter_context(self._progress)

    def record(self, run: Run, row: dict[str, float], *, scored: bool) -> None:
        """Writes one row, with scores and sample grids where they are due."""
        values: dict[str, Any] = {name: float(x) for name, x in row.items()}
        if row:
            values["bytes_per_iteration"] = run.traffic.sent_bytes
            bits = round(run.traffic.bits_per_coordinate, 4)
            values["bits_per_coordinate"] = bits
            values["seconds"] = round(run.clock.training, 3)
            values["seconds_in_all"] = round(run.clock.in_all, 3)
            values["bytes"] = run.sent_bytes
        if scored:
            values |= self._score(run)
        self._log.write(run.iteration, values)
        if row:
            shown = {
                "loss_G": values["loss_generator"],
                "loss_D": values["loss_discriminator"],
                "penalty": values["penalty"],
            }
            self._progress.update(run.iteration, **shown)

        if row:
            self._levels.record(run)

    def recorded(self, run: Run, vector: Any) -> None:
        """Counts the codes of a recorded vector."""
        self._codes.record(run, vector)

    def planned(self, run: Run, plan: qgenx.Plan) -> None:
        """Tells of a plan of bits, and keeps it in the workdir."""
        path = run.workdir / "plans" / f"{run.iteration:06d}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(plan.to_json() + "\n")
        self._progress.say(f"planned after iteration {run.iteration}:\n{plan}")

    def begin(self, run: Run) -> None:
        """Counts time left from here, after the iteration that compiled the step."""
        self._progress.mark(run.iteration)

    def flush(self) -> None:
        """Returns when all rows are on the disk, before a checkpoint is."""
        self._log.flush()

    def _score(self, run: Run) -> dict[str, float]:
        scores: dict[str, float] = {}
        grids = {}
        for name, tree in weights_of(run).items():
            suffix = "" if name == "raw" else f"_{name}"
            samples = self._scorer.samples(tree)
            values = self._scorer.scores(samples)
            scores |= {f"{score}{suffix}": value for score, value in values.items()}
            path = run.workdir / "samples" / f"{run.iteration:06d}{suffix}.png"
            grids[f"samples{suffix}"] = sample_grid(samples[:_GRID], path)
        self._log.images(run.iteration, grids)
        self._progress.say(
            f"iteration {run.iteration}: sliced Wasserstein distance "
            f"{scores['score']:.4f}, of averaged weights {scores['score_average']:.4f} "
            f"(uniform) and {scores['score_ema']:.4f} (moving)"
        )
        if "frechet" in scores:
            self._progress.say(
                f"iteration {run.iteration}: {TITLES['frechet']} "
                f"{scores['frechet']:.1f}, {scores['frechet_average']:.1f} and "
                f"{scores['frechet_ema']:.1f}"
            )
        return {name: value for name, value in scores.items() if name in COLUMNS}

    def __enter__(self) -> "Observer":
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)
