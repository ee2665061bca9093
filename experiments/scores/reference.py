"""Features of real pictures, kept in a file under a digest of all they depend on."""

import contextlib
import hashlib
import os
import zipfile
from pathlib import Path

import numpy as np

from experiments.scores.features import load_extractor


def reference(real: np.ndarray) -> np.ndarray:
    """Features of real pictures, from a file where they were computed before.

    The file's name is a digest of the pictures and of all that features depend on. It
    lies in the folder of `cache_folder`; where that cannot be written, features are
    computed anew each time.

    Args:
        real: uint8 (n, h, w, 3).

    Returns:
        float32 (n, 1280).

    Raises:
        ValueError: if the file is damaged.
    """
    extractor = load_extractor()
    digest = hashlib.sha256(extractor.digest.encode())
    digest.update(repr(real.shape).encode())
    digest.update(np.ascontiguousarray(real).data)
    path = cache_folder() / f"{digest.hexdigest()[:32]}.npy"
    if path.is_file():
        return _read(path, len(real))
    features = extractor(real)
    part = path.with_suffix(f".{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            np.save(file, features)
        part.replace(path)  # at once: no other run reads half of it
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        print(f"features of real pictures are not kept ({error})", flush=True)
    return features


def cache_folder() -> Path:
    """Where features of real pictures lie: QGENX_CACHE, else the user's cache."""
    given = os.environ.get("QGENX_CACHE")
    if given:
        return Path(given).expanduser()
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(home).expanduser() / "qgenx_jax"


def _read(path: Path, count: int) -> np.ndarray:
    try:
        features = np.load(path, allow_pickle=False)
        if features.ndim != 2 or len(features) != count:
            raise ValueError(f"it holds {features.shape} for {count} pictures")
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"the kept features of real pictures must be readable, got {str(path)!r} "
            f"({error}); remove the file, and they are computed anew"
        ) from error
    return features
