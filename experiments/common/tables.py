"""Tables of measurements, on the screen and as CSV; a row is a mapping of its cells.

`write_csv` writes a whole table, `CsvWriter` adds to one row by row, as a run goes.
"""

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

PathLike = str | os.PathLike[str]
Row = Mapping[str, Any]


def print_table(rows: Sequence[Row]) -> None:
    """Prints rows of equal columns, aligned; floats with three digits."""

    def text(value: Any) -> str:
        return f"{value:.3g}" if isinstance(value, float) else str(value)

    columns = list(rows[0])
    cells = [columns, *([text(row[name]) for name in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    for line in cells:
        print("  ".join(cell.rjust(w) for cell, w in zip(line, widths, strict=True)))


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Lines of cells as a table in Markdown, the first of them its header."""
    header, *rest = rows
    lines = [header, ["---"] * len(header), *rest]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def write_csv(rows: Sequence[Row], path: PathLike) -> None:
    """Writes rows with the columns of the first, at once; makes the folder.

    Raises:
        ValueError: if a row has another column; it may lack some, which stay empty.
    """
    file, columns = Path(path), list(rows[0])
    if unknown := {name for row in rows for name in row}.difference(columns):
        raise ValueError(
            f"rows must only have columns of the first, {columns}, got also {unknown}; "
            "give it all"
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    cells = ([row.get(name, "") for name in columns] for row in rows)
    _replace(file, [columns, *cells])


def read_csv(path: PathLike) -> list[dict[str, str]]:
    """The whole rows of a CSV file as it stands, cells as text.

    Half a last line, of a run that was killed or is about to write it, is left out.
    """
    lines = _lines(Path(path))
    if lines and not lines[-1].endswith("\n"):
        lines.pop()
    return list(csv.DictReader(lines))


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
                renaming a new file over the old one, which gets the columns that it
                lacks; -1 removes all rows, None keeps all.

        Raises:
            ValueError: if columns are empty or repeat, or differ from the file's
                header; if the file's last line is torn and resume_at None; if resume_at
                is given and a row has no iteration.
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
        if resume_at is not None and set(header) < set(self._columns):
            # of a version that knew fewer columns
            each = [dict(zip(header, row, strict=False)) for row in rows]
            rows = [[row.get(name, "") for name in self._columns] for row in each]
            header = self._columns
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

    def __enter__(self) -> "CsvWriter":
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
