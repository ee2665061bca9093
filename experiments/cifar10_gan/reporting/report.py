"""What a run leaves behind as text: CSV rows, and a line on its progress."""

from __future__ import annotations

import csv
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

PathLike = str | os.PathLike[str]
Row = Mapping[str, Any]


class CsvWriter:
    """Appends rows to a CSV file with fixed columns, handed to the system row by row.

    The header is written once, into a new or empty file; a file that exists must have
    this header. A row may lack columns (empty cells) but not have others. Also a
    context manager.

    A run that was killed leaves rows later than its last checkpoint, and perhaps half
    a line. `resume_at` takes the file back to that checkpoint, so that the resumed run
    writes what an undisturbed one would have written. For that, rows must be written
    (and flushed, against a loss of power) before the checkpoint of their iteration.
    """

    def __init__(
        self, path: PathLike, columns: Sequence[str], *, resume_at: int | None = None
    ) -> None:
        """Opens the file and its folder.

        Args:
          path: of the file.
          columns: its header.
          resume_at: rows of later iterations and a torn last line are removed, by
            renaming a new file over the old one; -1 removes all rows, None keeps all.

        Raises:
          ValueError: if columns are empty or repeat, or differ from the file's header;
            if the file's last line is torn and resume_at None; if resume_at is given
            and a row has no iteration.
        """
        self._columns = list(columns)
        if not self._columns or len(set(self._columns)) != len(self._columns):
            raise ValueError(
                f"columns must be distinct and not empty, got {self._columns}; name "
                "each once"
            )
        if resume_at is not None and "iteration" not in self._columns:
            raise ValueError(
                "columns must include 'iteration' where resume_at is given, got "
                f"{self._columns}; add it"
            )
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = _lines(path)
        torn = lines.pop() if lines and not lines[-1].endswith("\n") else ""
        header, *rows = list(csv.reader(lines)) or [[]]
        if header and header != self._columns:
            raise ValueError(
                f"columns must be those of the existing file {str(path)!r}, {header}, "
                f"got {self._columns}; write to another file"
            )
        if resume_at is not None:
            kept = [row for row in rows if self._iteration(row, path) <= resume_at]
            _replace(path, [self._columns, *kept])
        elif torn:
            raise ValueError(
                f"path must be a file of whole lines, got {str(path)!r}, which ends in "
                f"{torn!r}; pass resume_at to remove that line"
            )
        self._file = path.open("a", newline="")
        self._writer = _writer(self._file)
        if not header and resume_at is None:
            self._writer.writerow(self._columns)
            self._file.flush()

    def write(self, row: Row) -> None:
        """Appends one row; values are written as ``str`` gives them.

        Raises:
          ValueError: if the row has an unknown column.
        """
        unknown = [name for name in row if name not in self._columns]
        if unknown:
            raise ValueError(
                f"row must only have columns {self._columns}, got also {unknown}; name "
                "them when the writer is made"
            )
        self._writer.writerow([row.get(name, "") for name in self._columns])
        self._file.flush()

    def flush(self) -> None:
        """Returns when all rows are on the disk: they survive a loss of power."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the file; closing twice is fine."""
        self._file.close()

    def __enter__(self) -> CsvWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _iteration(self, row: Sequence[str], path: Path) -> int:
        try:
            return int(row[self._columns.index("iteration")])
        except (IndexError, ValueError) as error:
            raise ValueError(
                f"path must be a file whose rows have an iteration, got {str(path)!r} "
                f"with the row {list(row)}; correct it, or write to another file"
            ) from error


class Progress:
    """One line on how far a run is: iteration, percent, rate, time left and values.

    On a terminal the line is rewritten in place; elsewhere (a log file) each is a line
    of its own. The rate is that since the last line, so a slow start does not linger.
    As a context manager it ends an unfinished line, so that a traceback after it
    starts on a line of its own.
    """

    def __init__(
        self,
        total: int,
        *,
        start: int = 0,
        every_seconds: float = 10.0,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Starts the clock.

        Args:
          total: iterations of the whole run.
          start: iterations done before, in a run that resumes.
          every_seconds: least time between lines; the last iteration always prints.
          stream: None is standard error.
          clock: seconds, never going back.

        Raises:
          ValueError: if total is below 1, start not in [0, total] or every_seconds
            negative.
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
        self._total = total
        self._every = every_seconds
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
        seconds = max(now - self._then, 1e-9)
        rate = (iteration - self._done) / seconds
        left = "-" if rate <= 0 else _duration(max(self._total - iteration, 0) / rate)
        line = (
            f"{iteration}/{self._total} ({100 * iteration / self._total:.1f} %) "
            f"{rate:.2f} it/s, {left} left"
        )
        line += "".join(f", {name} {value:.4g}" for name, value in values.items())
        if self._stream.isatty():
            # A line that wraps could not be rewritten.
            line = line[: shutil.get_terminal_size().columns - 1]
            self._rewrite(line)
            self._width = len(line)
            if last:
                self.close()
        else:
            self._stream.write(line + "\n")
        self._stream.flush()
        self._done, self._then = iteration, now
        return True

    def mark(self, iteration: int) -> None:
        """Measures the rate from this iteration on: what came before was compiling."""
        self._done, self._then = iteration, self._clock()

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

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _rewrite(self, line: str) -> None:
        # Blanks cover what a longer line before left behind.
        self._stream.write("\r" + line.ljust(self._width))


def read_rows(path: PathLike) -> list[dict[str, str]]:
    """The whole rows of a CSV file as it stands, cells as text.

    Half a last line, of a run that was killed or is about to write it, is left out.
    """
    lines = _lines(Path(path))
    if lines and not lines[-1].endswith("\n"):
        lines.pop()
    return list(csv.DictReader(lines))


def _writer(file: TextIO) -> Any:
    return csv.writer(file, lineterminator="\n")


def _lines(path: Path) -> list[str]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return file.readlines()


def _replace(path: Path, rows: Iterable[Sequence[str]]) -> None:
    """Writes a CSV file at once: whoever reads it sees the old or the new one."""
    new = path.with_name(path.name + ".new")
    with new.open("w", newline="") as file:
        _writer(file).writerows(rows)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def _duration(seconds: float) -> str:
    """As 1:02:03."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
