"""Checkpoints of a run by Orbax: all that it takes to go on to the bit."""

import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import orbax.checkpoint as ocp


class Checkpoints:
    """The checkpoints of one run, by iteration; a context manager.

    A checkpoint appears under its name only when it is complete, so a run may be
    killed at any moment. Saving goes on in the background while training does.
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
        """
        if iteration == self._here:
            return
        items = ocp.args.Composite(
            arrays=ocp.args.StandardSave(arrays), facts=ocp.args.JsonSave(dict(facts))
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
            ValueError: if it is damaged, or of another configuration.
        """
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        restored = self._read(
            iteration,
            arrays=ocp.args.StandardRestore(abstract),
            facts=ocp.args.JsonRestore(),
        )
        self._here = iteration
        return restored["arrays"], dict(restored["facts"])

    def facts(self, iteration: int) -> dict[str, Any]:
        """The facts of a checkpoint alone.

        Raises:
            ValueError: as `restore`.
        """
        return dict(self._read(iteration, facts=ocp.args.JsonRestore())["facts"])

    def _read(self, iteration: int, **items: Any) -> Any:
        try:
            return self._manager.restore(iteration, args=ocp.args.Composite(**items))
        # Orbax raises errors of many kinds, its own and those of what it reads with
        except Exception as error:
            others = [step for step in self._manager.all_steps() if step != iteration]
            what = " ".join(str(error).split())[:200]
            raise ValueError(
                f"checkpoint {iteration} must be complete and of this configuration, "
                f"got {type(error).__name__}: {what}; remove "
                f"{str(self._folder / str(iteration))!r} to go on from "
                f"{max(others, default='the start')}"
            ) from error

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        """Waits for what is being saved; not for processes that may be gone."""
        if kind is not None and jax.process_count() > 1:
            return
        self._manager.wait_until_finished()
        self._manager.close()
