"""The folder of a run: whether it can be used, and the configuration in it."""

import dataclasses
import json
import pathlib
import secrets
import time
from typing import Any

from experiments.cifar10_gan.config import Config
from experiments.cifar10_gan.resuming import recorded, resumed
from experiments.cifar10_gan.together.leaving import crew
from experiments.cifar10_gan.together.votes import of_first

_SEEN_SECONDS = 3.0
"""Until a file written on one machine is seen on another: NFS remembers folders."""


def check_workdir(config: Config, *, resume: bool) -> pathlib.Path:
    """Makes the workdir, or finds the run to resume in it.

    Raises:
        ValueError: if it cannot be written, holds a run that is not to be resumed, or
            none to resume, or one of another configuration.
    """
    workdir = pathlib.Path(config.workdir)
    saved = read_config(workdir)
    if resume and saved is None:
        raise ValueError(
            f"workdir must hold a run to resume, got {str(workdir)!r} without a "
            "config.json; leave out --resume to start one"
        )
    left = [workdir / "metrics.csv", *(workdir / "checkpoints").glob("*")]
    if resume:
        resumed(saved or {}, dataclasses.asdict(config))
    elif saved is not None or any(path.exists() for path in left):
        raise ValueError(
            f"workdir must not hold a run already, got {str(workdir)!r}; go on with it "
            "by --resume, or pass another --workdir"
        )
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        (workdir / ".writable").touch()
        (workdir / ".writable").unlink(missing_ok=True)
    except OSError as error:
        raise ValueError(
            f"workdir must be a folder that can be written, got {str(workdir)!r} "
            f"({error}); pass another --workdir"
        ) from error
    return workdir


def check_shared(workdir: pathlib.Path) -> None:
    """Checks that all processes see one folder: a file that the first has written.

    Raises:
        ValueError: in all processes, with the paths that are not one folder.
    """
    members = crew()
    if members is None:
        return
    path, word = workdir / ".together", secrets.token_hex(8)
    if members.process == 0:
        path.write_text(word)
    where = str(workdir.resolve())
    word, first = of_first([word, where], "a word in the workdir")
    until = time.monotonic() + _SEEN_SECONDS
    while not (sees := _reads(path) == word) and time.monotonic() < until:
        time.sleep(0.1)
    seen = members.exchange("the workdir is shared", [sees, where])
    if members.process == 0:
        path.unlink(missing_ok=True)
    for process, (sees, other) in enumerate(seen):
        if not sees:
            raise ValueError(
                f"workdir must be one folder that all processes share, got {other!r} "
                f"in process {process} and {first!r} in process 0; pass a folder on a "
                "file system that all of them see"
            )


def _reads(path: pathlib.Path) -> str | None:
    try:
        return path.read_text()
    except OSError:
        return None


def read_config(workdir: pathlib.Path) -> dict[str, Any] | None:
    """The fields of the run in a workdir, or None if there is none.

    Raises:
        ValueError: if config.json is no configuration.
    """
    path = workdir / "config.json"
    if not path.is_file():
        return None
    try:
        return dict(json.loads(path.read_text()))
    except ValueError as error:
        raise ValueError(
            f"workdir must hold a config.json as a run writes it, got {str(path)!r} "
            f"({error}); start another run in another --workdir"
        ) from error


def save_config(config: Config, workdir: pathlib.Path) -> None:
    """Writes config.json; at once, so that no killed run leaves half of it."""
    text = json.dumps(recorded(config), indent=2) + "\n"
    path = workdir / "config.json.new"
    path.write_text(text)
    path.replace(workdir / "config.json")
