"""What the headers of array files promise, before anything is read by them."""

import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from numpy.lib import format as npy

_READERS = {
    (1, 0): npy.read_array_header_1_0,
    (2, 0): npy.read_array_header_2_0,
}
"""Of the versions whose names are ASCII; pictures have no names."""
_DEFLATED = 1100
"""The most by which a deflated file can grow, a little more than zlib's 1032."""


def check_arrays(path: Path) -> None:
    """Checks that the arrays of a .npy or .npz file are as large as they say.

    NumPy asks for the memory first, and finds out afterwards.

    Raises:
        ValueError: if one is not.
        OSError: if the file is none.
    """
    if not path.is_file():
        raise OSError("no regular file")
    for name, file, size in _arrays(path):
        with file:
            version = npy.read_magic(file)
            if version not in _READERS:
                raise ValueError(f"{name} of version {version}, not 1.0 or 2.0")
            shape, _, dtype = _READERS[version](file)
            promised, there = math.prod(shape) * dtype.itemsize, size - file.tell()
        if promised > there:
            raise ValueError(
                f"{name} of {there:,} bytes, where its header says {promised:,}"
            )


def _arrays(path: Path) -> Iterator[tuple[str, IO[bytes], int]]:
    with path.open("rb") as file:
        if file.read(len(npy.MAGIC_PREFIX)) == npy.MAGIC_PREFIX:
            file.seek(0)
            yield path.name, file, path.stat().st_size
            return
    if not zipfile.is_zipfile(path):
        return  # NumPy says what it is instead
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.file_size > max(info.compress_size, 1) * _DEFLATED:
                raise ValueError(
                    f"{info.filename} of {info.compress_size:,} bytes, that cannot "
                    f"hold the {info.file_size:,} it says"
                )
            if info.filename.endswith(".npy"):
                yield info.filename, archive.open(info), info.file_size
