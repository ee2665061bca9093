"""The data of a run, by room.

- `sources`: `load_pictures`, by `folders`, `tfds_sets`, `splits` and `fitting`;
- `batches`: `Batches`, seeded, sharded by worker, at a position of plain integers.
"""

from experiments.cifar10_gan.batches import Batches, Position
from experiments.cifar10_gan.sources import EMBEDDED_SIZE, load_pictures

__all__ = [
    "EMBEDDED_SIZE",
    "Batches",
    "Position",
    "load_pictures",
]
