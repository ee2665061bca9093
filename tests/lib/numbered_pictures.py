"""Pictures that tell which they are."""

import numpy as np


def numbered(n):
    """Pictures that tell their index: all pixels of picture i hold i."""
    return np.broadcast_to(
        np.arange(n, dtype=np.uint8)[:, None, None, None], (n, 32, 32, 3)
    ).copy()


def indices(batch):
    return np.rint((batch[..., 0, 0, 0] + 1) * 127.5).astype(int)
