"""What process 0 sees of a run: rows, progress, scores and sample grids."""

import contextlib
import time
from collections.abc import Sequence
from typing import Any

import qgenx_jax as qgenx
from experiments.cifar10_gan.config import key_of
from experiments.cifar10_gan.reporting import logs
from experiments.cifar10_gan.reporting.album import Album
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
_TOLD = {"score": "sliced Wasserstein distance", "frechet": TITLES["frechet"]}


class Observer:
    """Writes down how a run goes; a context manager."""

    def __init__(self, run: Run, *, resume: bool) -> None:
        """Opens the logs, at the run's iteration if it is resumed."""
        config = run.config
        self._album = Album(run)
        self._scorer = create_scorer(config, run.pair, key_of(config, "scores"))
        sample_grid(self._scorer.real[:_GRID], run.workdir / "samples_real.png")
        self._progress = Progress(
            config.iterations,
            start=run.iteration,
            every_seconds=5.0,
            pause_every=config.score_every,
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
        self._began = time.monotonic()

    def record(
        self,
        run: Run,
        row: dict[str, float],
        *,
        scored: bool,
        stopped: Sequence[int] = (),
    ) -> None:
        """Writes one row, with scores and sample grids where they are due.

        Raises:
            Stopped: if `stopped` is not empty before all samples are drawn; nothing is
                written then.
        """
        values: dict[str, Any] = {name: float(x) for name, x in row.items()}
        if row:
            values["bytes_per_iteration"] = run.traffic.sent_bytes
            bits = round(run.traffic.bits_per_coordinate, 4)
            values["bits_per_coordinate"] = bits
            values["seconds"] = round(run.clock.training, 3)
            values["seconds_in_all"] = round(run.clock.in_all, 3)
            values["bytes"] = run.sent_bytes
        if scored:
            with self._progress.pause():
                values |= self._score(run, stopped)
        self._log.write(run.iteration, values)
        self._album.record(run)
        if row:
            shown = {
                "G": values["loss_generator"],
                "D": values["loss_discriminator"],
                "penalty": values["penalty"],
            }
            self._progress.update(run.iteration, **shown)
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

    def compiling(self) -> None:
        """Tells that the step is being compiled, which nothing else shows."""
        self._progress.say("compiling the training step ...")
        self._began = time.monotonic()

    def begin(self, run: Run) -> None:
        """Counts time left from here, after the iteration that compiled the step."""
        seconds = time.monotonic() - self._began
        self._progress.say(
            f"compiled, and iteration {run.iteration} done: {seconds:.0f} s"
        )
        self._progress.mark(run.iteration)

    def finish(self, run: Run) -> None:
        """Writes the pictures of a run that has come to its end."""
        self._log.images(run.iteration, self._album.finish(run))

    def flush(self) -> None:
        """Returns when all rows are on the disk, before a checkpoint is."""
        self._log.flush()

    def _score(self, run: Run, stopped: Sequence[int]) -> dict[str, float]:
        scores: dict[str, float] = {}
        values: dict[str, float] = {}
        grids = {}
        is_start = run.iteration == 0  # when averages are the raw weights
        for name, tree in weights_of(run).items():
            suffix = "" if name == "raw" else f"_{name}"
            if not is_start or name == "raw":
                samples = self._scorer.samples(tree, stopped)
                values = self._scorer.scores(samples)
                path = run.workdir / "samples" / f"{run.iteration:06d}{suffix}.png"
                grids[f"samples{suffix}"] = sample_grid(samples[:_GRID], path)
            scores |= {f"{score}{suffix}": value for score, value in values.items()}
        self._log.images(run.iteration, grids)
        for name, title in _TOLD.items():
            if name in scores:
                text = f"{title} at {run.iteration}: {scores[name]:.4g}"
                if not is_start:
                    uniform, moving = scores[f"{name}_average"], scores[f"{name}_ema"]
                    text += f", of averages {uniform:.4g} and {moving:.4g}"
                self._progress.say(text)
        return {name: value for name, value in scores.items() if name in COLUMNS}

    def __enter__(self) -> "Observer":
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)
