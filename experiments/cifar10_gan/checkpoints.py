"""Checkpoints of a run by Orbax: all that it takes to go on to the bit."""

import contextlib
import errno
import os
import pathlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import orbax.checkpoint as ocp

from experiments.cifar10_gan.digests import Damaged, digests, of_facts
from experiments.cifar10_gan.together.crew import Reason
from experiments.cifar10_gan.together.votes import gathered, together

_DIGESTS, _DIGEST = "digests", "digest"
"""Names in the facts, of those of the arrays and of all other facts."""
_OF_THE_DISK = frozenset(
    {
        errno.EIO,
        errno.ESTALE,
        errno.ETIMEDOUT,
        errno.EACCES,
        errno.EPERM,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.ENXIO,
        errno.ENODEV,
    }
)
"""Errors of a disk, or of the way to it, that say nothing of what is on it."""


class Unreadable(OSError):
    """Raised where a checkpoint may be whole, and the disk does not give it out."""

    @classmethod
    def was(cls, reason: Reason) -> bool:
        """Whether it is why another process has failed."""
        return f"failed: {cls.__name__}: " in reason.what


class Checkpoints:
    """The checkpoints of one run, by iteration; a context manager.

    A checkpoint appears under its name only when it is complete, so a run may be
    killed at any moment. Saving goes on in the background while training does. Digests
    of all that is in it go with it, and are compared when it is read.
    """

    def __init__(
        self, folder: pathlib.Path, *, keep: int = 1, read_only: bool = False
    ) -> None:
        """Opens the folder, or makes it.

        Args:
            folder: of this run alone.
            keep: how many of the last checkpoints stay.
            read_only: leaves everything as it is, for one who only looks: the run may
                be going on.
        """
        self._folder = folder.resolve()
        options = ocp.CheckpointManagerOptions(
            max_to_keep=None if read_only else keep,
            create=not read_only,
            cleanup_tmp_directories=not read_only,
            read_only=read_only,
        )
        self._manager = ocp.CheckpointManager(self._folder, options=options)
        self._here: int | None = None  # the iteration saved or restored last

    def latest(self) -> int | None:
        """The iteration of the last complete checkpoint, or None."""
        return self._manager.latest_step()

    def all(self) -> tuple[int, ...]:
        """The iterations of all complete checkpoints, in order."""
        return tuple(sorted(self._manager.all_steps()))

    @staticmethod
    def there(folder: pathlib.Path) -> tuple[int, ...]:
        """Those that are in a folder at this moment, of a run that may be going on."""
        return tuple(sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit()))

    def save(self, iteration: int, arrays: Any, facts: Mapping[str, Any]) -> None:
        """Saves a tree of arrays, and facts that JSON can hold.

        All processes of a run call it together. Nothing is done for the iteration that
        was saved or restored last.

        Raises:
            ValueError: in all processes, before anything is written, if they have not
                the same copies.
        """
        if iteration == self._here:
            return
        said = {**facts, _DIGESTS: digests(arrays)}
        items = ocp.args.Composite(
            arrays=ocp.args.StandardSave(arrays),
            facts=ocp.args.JsonSave({**said, _DIGEST: of_facts(said)}),
        )
        self._manager.save(iteration, args=items, force=True)
        self._here = iteration

    def restore(self, iteration: int, like: Any) -> tuple[Any, dict[str, Any]]:
        """Reads a checkpoint back.

        Args:
            iteration: of the checkpoint.
            like: a tree of arrays of the same structure, shapes, dtypes and placement.

        Returns:
            The arrays, placed as those of `like`, and the facts.

        Raises:
            Damaged: in all processes, if it is damaged, or of another configuration.
            Unreadable: if the disk does not give it out; in the other processes an
                AnotherProcessFailed.
        """
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        # each process reads what it needs: one alone may meet what is damaged
        restored = together(
            lambda: self._read(
                iteration,
                arrays=ocp.args.StandardRestore(abstract),
                facts=ocp.args.JsonRestore(),
            ),
            "reading a checkpoint",
        )
        arrays, facts = restored["arrays"], self._checked(iteration, restored["facts"])
        known = facts.pop(_DIGESTS, None)  # checkpoints of before have none
        if known is not None:
            self._compare(iteration, known, digests(arrays))
        self._here = iteration
        return arrays, facts

    def facts(self, iteration: int) -> dict[str, Any]:
        """The facts of a checkpoint alone.

        Raises:
            Damaged: as `restore`.
        """
        found = together(
            lambda: self._read(iteration, facts=ocp.args.JsonRestore())["facts"],
            "reading what a checkpoint says",
        )
        return self._checked(iteration, found)

    def _checked(self, iteration: int, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Facts that are what was saved."""
        found = dict(facts)
        known = found.pop(_DIGEST, None)
        is_good = known == of_facts(found) if known or _DIGESTS in found else True
        if not all(gathered(is_good, "what a checkpoint says")):
            raise self._refusal(iteration, "facts that are not those saved")
        return found

    def _compare(
        self, iteration: int, known: Mapping[str, int], found: Mapping[str, int]
    ) -> None:
        names = sorted({*known, *found})
        wrong = [name for name in names if known.get(name) != found.get(name)]
        for names in gathered(wrong, "what a checkpoint holds"):
            if names:
                what = f"other bits in {names[0]} than were saved"
                raise self._refusal(iteration, what)

    def _refusal(self, iteration: int, what: str) -> Damaged:
        others = [step for step in self._manager.all_steps() if step != iteration]
        return Damaged(
            f"checkpoint {iteration} must be complete and of this configuration, got "
            f"{what}; remove {str(self._folder / str(iteration))!r} to go on from "
            f"{max(others, default='the start')}"
        )

    def set_aside(self, iterations: Iterable[int]) -> pathlib.Path:
        """Moves damaged checkpoints out of the way of new ones.

        All processes call it together, the first moves.

        Returns:
            The folder that they are in then.
        """
        aside = self._folder.parent / "damaged"

        def move() -> None:
            aside.mkdir(exist_ok=True)
            for iteration in iterations:
                place, copy = aside / str(iteration), 1
                while place.exists():
                    copy, place = copy + 1, aside / f"{iteration}.{copy}"
                (self._folder / str(iteration)).rename(place)

        together(lambda: jax.process_index() == 0 and move(), "setting damage aside")
        self._manager.reload()
        return aside

    def _read(self, iteration: int, **items: Any) -> Any:
        try:
            return self._manager.restore(iteration, args=ocp.args.Composite(**items))
        # Orbax raises errors of many kinds, its own and those of what it reads with
        except Exception as error:
            number, path = _error_of_the_disk(error)
            if number is not None:
                raise Unreadable(
                    number,
                    f"checkpoint {iteration} must be readable, got "
                    f"{os.strerror(number)!r} from the disk; nothing was moved: mend "
                    "the disk, and start again with --resume",
                    path or str(self._folder / str(iteration)),
                ) from error
            what = " ".join(str(error).split())[:200]
            what = f"{type(error).__name__}: {what}"
            raise self._refusal(iteration, what) from error

    def __enter__(self) -> "Checkpoints":
        return self

    @contextlib.contextmanager
    def finished_first(self) -> Iterator[None]:
        """Around what all processes raise alike: what is being saved is finished."""
        try:
            yield
        except (ValueError, FloatingPointError):
            self._manager.wait_until_finished()
            raise

    def __exit__(self, kind: object, *error: object) -> None:
        """Waits for what is being saved; not for processes that may be gone."""
        if kind is not None and jax.process_count() > 1:
            return
        self._manager.wait_until_finished()
        self._manager.close()


def _error_of_the_disk(error: BaseException | None) -> tuple[int | None, str | None]:
    """The number of one that says nothing of what is on it, and the file, if known.

    Orbax wraps what Python raises; TensorStore tells of it in its text.
    """
    while error is not None:
        found = re.search(r"os_error_code='(\d+)'", str(error))
        number = int(found[1]) if found else getattr(error, "errno", None)
        if number in _OF_THE_DISK:
            named = re.search(r"""['"](/[^'"]+)['"]""", str(error))
            return number, named[1] if named else None
        error = error.__cause__ or error.__context__
    return None, None
