"""Batches made in the background, while the step before them runs."""

import queue
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Generic, NamedTuple, Self, TypeVar

import numpy as np

from experiments.cifar10_gan.data.batches import Batches, Position

T = TypeVar("T")


class Prefetched(Iterator[T], Generic[T]):
    """The same batches in the same order, made ahead of time by a thread.

    The thread starts at the first `next`, and gathers, normalises and places up to
    `depth` batches more than were asked for. It ends with `close`, the end of a `with`
    block, an error, the last reference to this object, or the interpreter. The position
    is that of the batches that `next` returned, however many more are made: `state` and
    `restore` mean what they do for `Batches`.

    An error in the thread is raised by the `next` whose batch it prevents, with the
    traceback of the thread; a `next` after that tries the same batch again. So does one
    after a keyboard interrupt of `next`, which ends the thread too.

    JAX's settings by `with` (`jax.default_device`, a mesh) are those of a thread, so
    `place` has to name its devices.
    """

    def __init__(
        self,
        batches: Batches,
        *,
        depth: int = 2,
        place: Callable[[np.ndarray], T] | None = None,
    ) -> None:
        """Stands at the position of the batches.

        Args:
            batches: used by the thread, so by nobody else before `close`; it puts them
                at the position of what was consumed.
            depth: how many batches are made ahead of the one in use.
            place: called by the thread with each batch, for instance to put it on
                devices; what it returns is what `next` returns. None: the batch itself.

        Raises:
            ValueError: if depth is below 1.
        """
        if depth < 1:
            raise ValueError(
                f"depth must be at least 1, got {depth}; use the batches themselves "
                "for none ahead"
            )
        self._batches = batches
        self._depth = depth
        self._place = place
        self._position = batches.state()
        self._producer: _Producer | None = None
        self._finalizer: Any = None  # of the producer

    def __next__(self) -> T:
        """The next batch, as `place` returned it."""
        if self._producer is not None and self._producer.stopped.is_set():
            self.close()  # again: an interrupt cut it short
        if self._producer is None:
            producer = _Producer(self._batches, self._place, self._depth)
            # The thread holds no reference to this object, so that it can be collected.
            self._finalizer = weakref.finalize(self, producer.stop)
            self._producer = producer
        try:
            batch, self._position = self._producer.take()
        except BaseException:  # the thread's error; or an interrupt, here or while
            self.close()  # waiting: whatever was taken, back to what was consumed
            raise
        return batch

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def state(self) -> Position:
        """The position before the next batch, to be saved with a checkpoint."""
        return self._position.copy()

    def restore(self, state: Position) -> None:
        """Goes to a position that `state` gave; drops what was made ahead.

        Raises:
            ValueError: as `Batches.restore` does; the position is then as it was.
        """
        self.close()
        self._batches.restore(state)
        self._position = self._batches.state()

    def close(self) -> None:
        """Ends the thread, and puts the batches at the position of what was consumed.

        Waits for the batch in the making. A `next` after it starts a new thread.
        """
        if self._producer is not None:
            self._producer.stop()
            self._batches.restore(self._position)
            self._finalizer.detach()
            self._producer = None


class _Made(NamedTuple):
    batch: Any = None
    position: Any = None  # after it
    error: BaseException | None = None


class _Producer:
    """A thread that makes batches ahead, until it is stopped or has failed.

    Its queues are those that a finalizer may use at any moment (`queue.SimpleQueue`):
    the garbage collector runs wherever it likes, in this thread too.
    """

    def __init__(
        self, batches: Batches, place: Callable[[np.ndarray], Any] | None, depth: int
    ) -> None:
        self.stopped = threading.Event()
        self._made: queue.SimpleQueue[_Made] = queue.SimpleQueue()
        self._room: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(depth):
            self._room.put(None)
        arguments = (batches, place, self._made, self._room, self.stopped)
        # daemon: Python joins other threads before it runs finalizers at its end
        self._thread = threading.Thread(
            target=_produce, args=arguments, name="prefetch", daemon=True
        )
        self._thread.start()

    def take(self) -> tuple[Any, Position]:
        """Waits for what is made next, makes room for one more; or raises its error."""
        made = self._made.get()
        self._room.put(None)
        if made.error is None:
            return made.batch, made.position
        try:
            raise made.error
        finally:
            del made  # the error's traceback refers to this frame

    def stop(self) -> None:
        """Ends the thread and waits for it; more than once is fine."""
        self.stopped.set()
        self._room.put(None)  # wakes it
        if self._thread is not threading.current_thread():  # collected by the thread
            self._thread.join()


def _produce(
    batches: Batches,
    place: Callable[[np.ndarray], Any] | None,
    made: queue.SimpleQueue[_Made],
    room: queue.SimpleQueue[None],
    stopped: threading.Event,
) -> None:
    while True:
        room.get()
        if stopped.is_set():
            return
        try:
            batch: Any = next(batches)
            if place is not None:
                batch = place(batch)
            made.put(_Made(batch, batches.state()))
        except BaseException as error:  # whatever it is, the consumer waits for it
            made.put(_Made(error=error))
            return
        del batch  # else it outlives the consumer's own use of it
