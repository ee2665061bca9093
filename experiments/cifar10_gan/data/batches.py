"""Batches of workers: seeded, without replacement, at a position that can be saved."""

import zlib
from collections.abc import Iterator, Sequence
from typing import TypedDict

import numpy as np

from experiments.cifar10_gan.data.fitting import check_pictures
from experiments.cifar10_gan.data.pictures import to_signed
from experiments.cifar10_gan.data.shares import Share


class Position(TypedDict):
    """Where a `Batches` iterator stands; plain integers, fit for JSON."""

    seed: int
    epoch: int
    step: int
    batch_size: int
    workers: int
    pictures: int
    checksum: int


class Batches(Iterator[np.ndarray]):
    """Endless batches for K workers, without replacement within an epoch.

    Epoch e uses the permutation that (seed, e) determines. Step t of an epoch takes its
    elements t K B to (t + 1) K B, B in a row for each worker, so that no two workers
    share an example in an epoch; a remainder smaller than K B is left out, a different
    one each epoch. The position is a pair of integers: `state` and `restore` resume a
    run exactly, at no cost.

    It does not tell processes apart: all of them are at the same position, each takes
    the rows of its own workers, and a run may go on with another number of processes,
    or of workers (`restore`).
    """

    def __init__(
        self,
        pictures: np.ndarray,
        *,
        batch_size: int,
        workers: int = 1,
        seed: int = 0,
        share: Share | None = None,
        local_workers: Sequence[int] | None = None,
        draws: int | None = None,
    ) -> None:
        """Starts at the first batch of epoch 0.

        Args:
            pictures: uint8 (n, 32, 32, 3); kept, not copied.
            batch_size: B, examples per worker and batch.
            workers: K, over all processes.
            seed: of the permutations; the same in all processes.
            share: of a batch that the workers share; batch_size is then not read. A
                worker's rows beyond its own part, of weight 0, repeat its first.
            local_workers: whose batches to yield, in this order, for a process that
                holds some of the workers (`Place.local_workers`); None is all K.
            draws: D, how many steps an iteration takes, one for each oracle call;
                `next` yields them together, and the position is always between two
                iterations. None yields single batches, without that axis.

        Raises:
            ValueError: for wrong pictures, a size below 1, B K > n, a negative seed, or
                a local worker outside [0, K).
        """
        check_pictures(pictures, "pictures")
        sizes = {"batch_size": batch_size, "workers": workers, "draws": draws}
        for name, value in sizes.items():
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}; pass 1")
        if seed < 0:
            raise ValueError(f"seed must be at least 0, got {seed}; pass 0")
        if share is not None and share.total > len(pictures):
            raise ValueError(
                f"global_batch must be at most the {len(pictures)} pictures there are, "
                f"got {share.total}; lower it or load more pictures"
            )
        if share is None and batch_size * workers > len(pictures):
            raise ValueError(
                "batch_size * workers must be at most the number of pictures, got "
                f"{batch_size} * {workers} = {batch_size * workers} > {len(pictures)}; "
                "lower batch_size or load more pictures"
            )
        local = range(workers) if local_workers is None else local_workers
        if any(not 0 <= worker < workers for worker in local):
            raise ValueError(
                f"local_workers must lie in [0, {workers}), got {list(local)}; count "
                "workers over all processes"
            )
        self._pictures = pictures
        self._batch_size = batch_size if share is None else share.total
        self._total = batch_size * workers if share is None else share.total
        self._columns = _columns(Share(self._total, workers))
        self._shared = share is not None
        self._workers = workers
        self._seed = seed
        self._local = np.asarray(local, np.int64)
        self._draws = draws
        self._checksum = zlib.crc32(np.ascontiguousarray(pictures).data)
        self._epoch = self._step = 0
        self._order = self._permutation(0)

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch, n // (K B), or n // B of a batch that is shared."""
        return len(self._pictures) // self._total

    def __next__(self) -> np.ndarray:
        """The next batches of the local workers.

        Returns:
            float32 in [-1, 1], (local workers, B, 32, 32, 3), or with draws (local
            workers, D, B, 32, 32, 3): D successive ones, stacked.
        """
        epoch, step, order = self._epoch, self._step, self._order
        drawn = []
        for _ in range(self._draws or 1):
            if step == self.steps_per_epoch:
                epoch, step = epoch + 1, 0
                order = self._permutation(epoch)
            taken = order[step * self._total : (step + 1) * self._total]
            drawn.append(taken[self._columns[self._local]])
            step += 1
        rows = drawn[0] if self._draws is None else np.stack(drawn, axis=1)
        batch = to_signed(self._pictures[rows])
        # Only now: whatever stops this call before leaves the position as it was.
        self._epoch, self._step, self._order = epoch, step, order
        return batch

    def state(self) -> Position:
        """The position before the next batch, to be saved with a checkpoint."""
        return {
            "seed": self._seed,
            "epoch": self._epoch,
            "step": self._step,
            "batch_size": self._batch_size,
            "workers": self._workers,
            "pictures": len(self._pictures),
            "checksum": self._checksum,
        }

    def restore(self, state: Position) -> None:
        """Goes to a position that `state` gave, whatever its draws were.

        One of K workers is taken over by K': their step t of an epoch becomes step
        ceil(t K / K'), so that no picture comes twice in the epoch, and fewer than K'
        batches of it are left out. A batch that is shared is the same for every K.

        Raises:
            ValueError: if it belongs to other pictures, another batch size or seed, or
                lies outside an epoch; the position is then as it was.
        """
        mine = self.state()
        if set(state) != set(mine):
            raise ValueError(
                f"state must have the entries {sorted(mine)}, got {sorted(state)}; "
                "pass what state() returned"
            )
        for name in ("seed", "batch_size", "pictures", "checksum"):
            if state[name] != mine[name]:
                raise ValueError(
                    f"state must have {name} {mine[name]}, as these batches do, got "
                    f"{state[name]}; start them with the arguments of the saved run"
                )
        epoch, step = int(state["epoch"]), int(state["step"])
        workers = int(state["workers"])
        before = self._total if self._shared else self._batch_size * max(workers, 1)
        last = len(self._pictures) // before
        if workers < 1 or epoch < 0 or not 0 <= step <= last:
            raise ValueError(
                f"state must have workers >= 1, epoch >= 0 and step in [0, {last}], "
                f"got {workers}, {epoch} and {step}; pass what state() returned"
            )
        if not self._shared:
            step = min(-(-step * workers // self._workers), self.steps_per_epoch)
        self._order = self._permutation(epoch)
        self._epoch, self._step = epoch, step

    def _permutation(self, epoch: int) -> np.ndarray:
        rng = np.random.default_rng([self._seed, epoch])
        return rng.permutation(len(self._pictures))


def _columns(share: Share) -> np.ndarray:
    """Which pictures of a whole batch each worker takes, (K, rows)."""
    starts = np.array([share.start(worker) for worker in range(share.workers)])
    counts = np.array([share.count(worker) for worker in range(share.workers)])
    within = np.arange(share.rows)
    return starts[:, None] + np.where(within < counts[:, None], within, 0)
