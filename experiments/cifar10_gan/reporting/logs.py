"""Where a run's metrics go: CSV always, TensorBoard and Weights & Biases if asked.

    with open_log(workdir, columns, tensorboard=True) as log:
        log.write(iteration, {"loss": 0.5})
        log.images(iteration, {"samples": grid})
        log.flush()  # before a checkpoint of this iteration is saved

The heavy packages are imported where they are asked for.
"""

import contextlib
import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from experiments.common.tables import CsvWriter, PathLike, Row

Picture = np.ndarray | PathLike
"""(height, width, 3) uint8, or an image file."""


class Mirror(Protocol):
    """A place besides the CSV file, which gets numbers and pictures only."""

    def write(self, iteration: int, values: Mapping[str, float]) -> None:
        """Adds numbers of an iteration."""
        ...

    def images(self, iteration: int, images: Mapping[str, np.ndarray]) -> None:
        """Adds pictures, (height, width, 3) uint8."""
        ...

    def flush(self) -> None:
        """Hands on what is held back."""
        ...

    def close(self, failed: bool) -> None:
        """Flushes and ends; `failed` if the run ends by an exception."""
        ...


class Log:
    """A CSV file and its mirrors; a context manager that closes all, come what may."""

    def __init__(self, csv: CsvWriter, mirrors: Sequence[Mirror]) -> None:
        """Takes over what is open."""
        self._csv = csv
        self._mirrors = mirrors

    def write(self, iteration: int, row: Row) -> None:
        """Adds a row; cells that are no numbers are left out of the mirrors.

        Raises:
            ValueError: if the row has a column that the log has not.
        """
        self._csv.write({**row, "iteration": iteration})
        values = {
            name: float(value)
            for name, value in row.items()
            if name != "iteration" and _is_number(value)
        }
        for mirror in self._mirrors:
            mirror.write(iteration, values)

    def images(self, iteration: int, images: Mapping[str, Picture]) -> None:
        """Adds pictures to the mirrors; a CSV file holds none.

        Raises:
            ValueError: if an array is no picture.
        """
        if not self._mirrors:
            return
        pixels = {name: _pixels(name, picture) for name, picture in images.items()}
        for mirror in self._mirrors:
            mirror.images(iteration, pixels)

    def flush(self) -> None:
        """Returns when all rows of the CSV file are on the disk."""
        self._csv.flush()
        for mirror in self._mirrors:
            mirror.flush()

    def close(self, *, failed: bool = False) -> None:
        """Closes all, also where one of them cannot; closing twice is fine."""
        with contextlib.ExitStack() as stack:
            for mirror in self._mirrors:
                stack.callback(mirror.close, failed)
            stack.callback(self._csv.close)
        self._mirrors = ()

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self.close(failed=kind is not None)


def open_log(
    workdir: PathLike,
    columns: Sequence[str],
    *,
    tensorboard: bool = False,
    wandb_project: str = "",
    config: Mapping[str, Any] | None = None,
    resume_at: int | None = None,
) -> Log:
    """Opens metrics.csv in the workdir, and what else is asked for.

    Args:
        workdir: of the run; its folder is made.
        columns: of the CSV file, with "iteration".
        tensorboard: writes events to the folder tensorboard there. Where TensorFlow,
            clu or tensorboard is not installed, a line says so and the run goes on.
        wandb_project: of Weights & Biases, "" for none. The run's identity is kept in
            the file wandb_id, so that a resumed run continues it.
        config: shown by both beside the metrics.
        resume_at: the iteration of the checkpoint that the run resumes from: later rows
            of the CSV, and TensorBoard's later events, are removed. Weights & Biases
            keeps what it has, and gets the iterations after that.

    Raises:
        ValueError: if columns lack "iteration", or `CsvWriter` refuses them or the
            file.
        ImportError: if wandb_project is given and wandb is not installed.
    """
    workdir = Path(workdir)
    if "iteration" not in columns:
        raise ValueError(
            f"columns must include 'iteration', got {list(columns)}; add it"
        )
    wandb = _import_wandb(wandb_project) if wandb_project else None
    settings = dict(config or {})
    with contextlib.ExitStack() as stack:
        csv = CsvWriter(workdir / "metrics.csv", columns, resume_at=resume_at)
        stack.callback(csv.close)
        mirrors: list[Mirror] = []
        if tensorboard and (
            events := _open_events(workdir / "tensorboard", settings, resume_at)
        ):
            stack.callback(events.close, True)
            mirrors.append(events)
        if wandb is not None:
            resumes = resume_at is not None
            mirrors.append(_Wandb(wandb, wandb_project, workdir, settings, resumes))
        stack.pop_all()
    return Log(csv, mirrors)


class _Events:
    """Event files of TensorBoard, by clu."""

    def __init__(self, writer: Any, settings: Mapping[str, Any]) -> None:
        self._writer = writer
        kinds = bool | int | float | str
        flat = {k: v for k, v in settings.items() if isinstance(v, kinds)}
        if flat:
            writer.write_hparams(flat)

    def write(self, iteration: int, values: Mapping[str, float]) -> None:
        self._writer.write_scalars(iteration, values)

    def images(self, iteration: int, images: Mapping[str, np.ndarray]) -> None:
        self._writer.write_images(iteration, images)
        # TensorFlow holds events back for two minutes; pictures are rare.
        self._writer.flush()

    def flush(self) -> None:
        self._writer.flush()

    def close(self, failed: bool) -> None:
        del failed
        self._writer.close()


class _Wandb:
    """A run of Weights & Biases, whose steps are iterations."""

    def __init__(
        self,
        wandb: Any,
        project: str,
        workdir: Path,
        settings: Mapping[str, Any],
        resumes: bool,
    ) -> None:
        self._image = wandb.Image
        self._identity = workdir / "wandb_id"
        known = resumes and self._identity.exists()
        lines = self._identity.read_text().split() if known else []
        # the last iteration that it has; the file's second line, which older ones lack
        self._has = int(lines[1]) if len(lines) > 1 else -1
        try:
            self._run = wandb.init(
                project=project,
                dir=str(workdir),
                config=dict(settings),
                id=lines[0] if known else None,
                resume="allow" if known else None,
            )
        except getattr(wandb, "Error", ()) as error:
            raise ValueError(
                f"wandb must be a project that can be logged to, got {project!r} "
                f"({error}); set WANDB_MODE=offline, or leave it empty"
            ) from error
        self._keep(self._has)

    def write(self, iteration: int, values: Mapping[str, float]) -> None:
        if iteration > self._has:
            self._run.log(dict(values), step=iteration)
            self._keep(iteration)

    def _keep(self, iteration: int) -> None:
        """At once, so that no killed run leaves half of it."""
        new = self._identity.with_name("wandb_id.new")
        new.write_text(f"{self._run.id}\n{iteration}\n")
        new.replace(self._identity)

    def images(self, iteration: int, images: Mapping[str, np.ndarray]) -> None:
        if iteration <= self._has:
            return
        pictures = {name: self._image(pixels) for name, pixels in images.items()}
        self._run.log(pictures, step=iteration)

    def flush(self) -> None:
        """Nothing to do: a process of its own sends what is logged."""

    def close(self, failed: bool) -> None:
        self._run.finish(exit_code=int(failed))


def _open_events(
    folder: Path, settings: Mapping[str, Any], resume_at: int | None
) -> _Events | None:
    try:
        tensorflow = importlib.import_module("tensorflow")
        writers = importlib.import_module("clu.metric_writers")
    except ImportError as error:
        print(
            f"no TensorBoard events, since a package is missing ({error}); install "
            "qgenx_jax[experiments] for them",
            flush=True,
        )
        return None
    # The GPU's memory is JAX's.
    tensorflow.config.set_visible_devices([], "GPU")
    if resume_at is not None:
        _remove_later(tensorflow, folder, resume_at)
    is_new = resume_at is None or resume_at < 0 or not any(folder.glob("events.*"))
    # of a run that goes on they are there already
    shown = settings if is_new else {}
    return _Events(writers.SummaryWriter(str(folder)), shown)


def _remove_later(tensorflow: Any, folder: Path, iteration: int) -> None:
    """Leaves out of event files what a resumed run writes again, and a torn end."""
    event_of = tensorflow.compat.v1.Event.FromString
    for path in sorted(folder.glob("events.*")):
        kept = path.with_name("kept." + path.name)
        records = tensorflow.data.TFRecordDataset(str(path)).as_numpy_iterator()
        with (
            tensorflow.io.TFRecordWriter(str(kept)) as file,
            contextlib.suppress(tensorflow.errors.DataLossError),
        ):
            for record in records:
                event = event_of(record)
                if event.step <= iteration or not event.HasField("summary"):
                    file.write(record)
        kept.replace(path)


def _import_wandb(project: str) -> Any:
    try:
        return importlib.import_module("wandb")
    except ImportError as error:
        raise ImportError(
            f"wandb_project {project!r} needs Weights & Biases ({error}); pip install "
            "wandb, or leave wandb_project empty"
        ) from error


def _is_number(value: Any) -> bool:
    """Also of NumPy or JAX, but neither None nor text."""
    return np.ndim(value) == 0 and np.asarray(value).dtype.kind in "biuf"


def _pixels(name: str, picture: Picture) -> np.ndarray:
    if not isinstance(picture, np.ndarray):
        from PIL import Image

        with Image.open(picture) as image:
            return np.asarray(image.convert("RGB"))
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise ValueError(
            f"images must be uint8 of shape (height, width, 3), got {name!r} with "
            f"{picture.dtype} {picture.shape}; pass what figures.picture_grid returns"
        )
    return picture
