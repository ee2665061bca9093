"""A trace of some iterations, by jax.profiler, for TensorBoard or Perfetto."""

import pathlib
from typing import Any

import jax

from experiments.cifar10_gan.clock import Clock
from experiments.cifar10_gan.parsing import parse_range


class Profiler:
    """Traces the iterations from the first to the last of a range, on process 0.

    Does nothing where the range is empty, or a run goes on from beyond its start. To
    start and to write a trace takes time that is not training's.
    """

    def __init__(self, text: str, folder: pathlib.Path, clock: Clock) -> None:
        """Of the field `profile`; the trace goes to a folder."""
        wanted = parse_range("profile", text)
        self._range = wanted if jax.process_index() == 0 else None
        self._folder = folder
        self._clock = clock
        self._running = False

    def before(self, iteration: int, running: Any) -> None:
        """Starts where `iteration` is the first; what is `running` is waited for."""
        if self._range is not None and iteration == self._range[0]:
            jax.block_until_ready(running)
            self._clock.stop()
            jax.profiler.start_trace(str(self._folder))
            self._running = True
            self._clock.start()

    def after(self, iteration: int, running: Any) -> None:
        """Ends where `iteration` was the last, once it is done."""
        if self._range is not None and iteration == self._range[1]:
            jax.block_until_ready(running)
            self._clock.stop()
            self.close()
            self._clock.start()

    def close(self) -> None:
        """Ends a trace that is going on, and writes it."""
        if self._running:
            self._running = False
            jax.profiler.stop_trace()
