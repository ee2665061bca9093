"""The data of a run, by room.

- `sources`: `load_pictures`, by `folders`, `tfds_sets`, `splits` and `fitting`;
- `batches`: `Batches`, seeded, sharded by worker, at a position of plain integers;
- `prefetch`: `Prefetched`, the same batches made in the background;
- `placing`: which workers are this process's own, and its batches on their devices.

Put together, in every process alike:

    pictures = load_pictures("cifar10", "train")
    local = local_workers_of(mesh, "data")
    batches = Batches(pictures, batch_size=64, workers=K, local_workers=local, draws=2)
    with Prefetched(batches, place=lambda x: place_batch(x, mesh, "data")) as ahead:
        real = next(ahead)  # on the devices, (K, 2, 64, 32, 32, 3)
        saved = ahead.state()  # of what was consumed: goes into the checkpoint
"""

from experiments.cifar10_gan.batches import Batches, Position
from experiments.cifar10_gan.placing import local_workers_of, place_batch
from experiments.cifar10_gan.prefetch import Prefetched
from experiments.cifar10_gan.sources import EMBEDDED_SIZE, load_pictures

__all__ = [
    "EMBEDDED_SIZE",
    "Batches",
    "Position",
    "Prefetched",
    "load_pictures",
    "local_workers_of",
    "place_batch",
]
