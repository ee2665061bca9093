"""Bytes to learn: the sources of Python's own library, which every Python has."""

import pathlib
import sysconfig

import numpy as np

MODULES = (
    "argparse", "ast", "calendar", "cgi", "configparser", "copy", "csv", "datetime",
    "decimal", "difflib", "dis", "doctest", "enum", "fractions", "functools", "gettext",
    "heapq", "inspect", "ipaddress", "locale", "mailbox", "mimetypes", "optparse",
    "pathlib", "pdb", "pickle", "platform", "plistlib", "random", "selectors", "shutil",
    "smtplib", "socket", "ssl", "statistics", "string", "subprocess", "tarfile",
    "tempfile", "textwrap", "threading", "tokenize", "traceback", "types", "typing",
    "uuid", "warnings", "weakref", "zipfile",
)  # fmt: skip
"""Those that are one file; what a version does not have is left out."""


def library_sources() -> np.ndarray:
    """About two million bytes, uint8 (n,).

    Raises:
        FileNotFoundError: if this Python has no sources.
    """
    folder = pathlib.Path(sysconfig.get_path("stdlib"))
    paths = [folder / f"{name}.py" for name in MODULES]
    found = b"\n".join(path.read_bytes() for path in paths if path.is_file())
    if not found:
        raise FileNotFoundError(f"no sources of Python's library in {folder}")
    return np.frombuffer(found, np.uint8)


def batches(
    text: np.ndarray, step: int, shape: tuple[int, ...], length: int, seed: int
) -> np.ndarray:
    """Pieces of a text at random places, uint8 (*shape, length); equal for equal steps.

    Args:
        text: uint8 (n,).
        step: which batch.
        shape: workers and sequences.
        length: of a sequence.
        seed: of the places.
    """
    rng = np.random.default_rng([seed, step])
    starts = rng.integers(0, text.size - length, shape)
    return text[starts[..., None] + np.arange(length)]
