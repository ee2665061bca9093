"""Lines on how far a program is, rewritten in place where there is a terminal."""

import contextlib
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from typing import TextIO

COLUMNS = 80
"""That a line has at most, where there is no terminal to ask."""


class Progress:
    """One line on how far a run is: iteration, percent, rate, time left and values.

    On a terminal the line is rewritten in place; elsewhere (a log file) each is a line
    of its own. The rate is that since the last line, so a slow start does not linger;
    pauses, as for scores, are not in it, and those to come are in the time left, each
    as long as the last one was. Values that a line has no room for are left out of it.
    As a context manager it ends an unfinished line, so that a traceback after it
    starts on a line of its own.
    """

    def __init__(
        self,
        total: int,
        *,
        start: int = 0,
        every_seconds: float = 10.0,
        pause_every: int | None = None,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Starts the clock.

        Args:
            total: iterations of the whole run.
            start: iterations done before, in a run that resumes.
            every_seconds: least time between lines; the last iteration always prints.
            pause_every: iterations between `pause`s, of which one is at the end; None
                if there are none.
            stream: None is standard error.
            clock: seconds, never going back.

        Raises:
            ValueError: if total or pause_every is below 1, start not in [0, total] or
                every_seconds negative.
        """
        if total < 1:
            raise ValueError(f"total must be at least 1, got {total}; pass the count")
        if not 0 <= start <= total:
            raise ValueError(
                f"start must be in [0, total], got {start} of {total}; pass the "
                "iterations that are done"
            )
        if not every_seconds >= 0:
            raise ValueError(
                f"every_seconds must be at least 0, got {every_seconds}; pass 0 for "
                "a line each iteration"
            )
        if pause_every is not None and pause_every < 1:
            raise ValueError(
                f"pause_every must be at least 1, got {pause_every}; leave it out "
                "where there are none"
            )
        self._total = total
        self._every = every_seconds
        self._pause_every = pause_every
        self._pause = 0.0  # seconds that the last one took
        self._paused = 0.0  # seconds of those since the last line
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._done = start
        self._then = clock()
        self._width = 0

    def update(self, iteration: int, **values: float) -> bool:
        """Prints if it is time to; `iteration` counts finished ones, from 1.

        Reading a value waits for the device, so pass what is on the host, or call this
        only now and then. Returns whether it printed.
        """
        now = self._clock()
        last = iteration >= self._total
        if now - self._then < self._every and not last:
            return False
        seconds = max(now - self._then - self._paused, 1e-9)
        rate = (iteration - self._done) / seconds
        rest = max(self._total - iteration, 0)
        left = "-" if rate <= 0 else _duration(rest / rate + self._pauses(iteration))
        line = (
            f"{iteration}/{self._total} ({100 * iteration / self._total:.1f} %) "
            f"{rate:.2f} it/s, {left} left"
        )
        for name, value in values.items():
            text = f", {name} {value:.4g}"
            line += text if len(line + text) < self._columns() else ""
        if self._stream.isatty():
            # A line that wraps could not be rewritten.
            line = line[: self._columns() - 1]
            self._rewrite(line)
            self._width = len(line)
            if last:
                self.close()
        else:
            self._stream.write(line + "\n")
        self._stream.flush()
        self._done, self._then, self._paused = iteration, now, 0.0
        return True

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """What is done in it takes no time from the iterations."""
        begun = self._clock()
        yield
        self._pause = self._clock() - begun
        self._paused += self._pause

    def mark(self, iteration: int) -> None:
        """Measures the rate from this iteration on: what came before was compiling."""
        self._done, self._then, self._paused = iteration, self._clock(), 0.0

    def say(self, text: str) -> None:
        """Prints a line of its own, in place of an unfinished one."""
        self._rewrite(text) if self._width else self._stream.write(text)
        self._stream.write("\n")
        self._stream.flush()
        self._width = 0

    def close(self) -> None:
        """Ends an unfinished line; closing twice is fine."""
        if self._width:
            self._stream.write("\n")
            self._stream.flush()
        self._width = 0

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _pauses(self, iteration: int) -> float:
        """Seconds of the pauses to come; one of this iteration has been."""
        if self._pause_every is None:
            return 0.0
        every, total = self._pause_every, self._total
        left = total // every - iteration // every
        left += total % every > 0 and iteration < total  # that at the end
        return self._pause * max(left, 0)

    def _columns(self) -> int:
        terminal = self._stream.isatty()
        return shutil.get_terminal_size().columns if terminal else COLUMNS

    def _rewrite(self, line: str) -> None:
        # Blanks cover what a longer line before left behind.
        self._stream.write("\r" + line.ljust(self._width))


class Loading:
    """A line on how far a load is, for one that takes more than a few seconds."""

    def __init__(
        self,
        source: str,
        total: int,
        *,
        after_seconds: float = 2.0,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Starts the clock.

        Args:
            source: what is loaded, for the line.
            total: how many pictures.
            after_seconds: before the first line, and between lines.
            stream: None is standard error.
            clock: seconds, never going back.
        """
        self._source = source
        self._total = total
        self._after = after_seconds
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._start = self._then = clock()
        self._printed = False

    def update(self, done: int) -> None:
        """Prints if it is time to, or if a load that has printed is complete."""
        now = self._clock()
        last = done >= self._total
        if now - self._then < self._after and not (last and self._printed):
            return
        terminal = self._stream.isatty()
        line = (
            f"loading {self._source}: {done:,} of {self._total:,} pictures, "
            f"{now - self._start:.0f} s"
        )
        start, end = ("\r", "\n" if last else "") if terminal else ("", "\n")
        self._stream.write(start + line + end)
        self._stream.flush()
        self._printed, self._then = True, now


def _duration(seconds: float) -> str:
    """As 1:02:03."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
