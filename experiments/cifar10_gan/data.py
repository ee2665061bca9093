"""The data of a run, by room.

- `sources`: `load_pictures`, by `folders`, `tfds_sets`, `splits` and `fitting`;
- `batches`: `Batches`, seeded, sharded by worker, at a position of plain integers;
- `prefetch`: `Prefetched`, the same batches made in the background.

Put together, in every process alike, with the `Place` of the workers:

    pictures = load_pictures("cifar10", "train")
    local = place.local_workers(K)
    batches = Batches(pictures, batch_size=64, workers=K, local_workers=local, draws=2)
    with Prefetched(batches, place=place.place_batch) as ahead:
        real = next(ahead)  # on the devices, (K, 2, 64, 32, 32, 3)
        saved = ahead.state()  # of what was consumed: goes into the checkpoint
"""

from experiments.cifar10_gan.batches import Batches, Position
from experiments.cifar10_gan.prefetch import Prefetched
from experiments.cifar10_gan.sources import EMBEDDED_SIZE, load_pictures

__all__ = ["EMBEDDED_SIZE", "Batches", "Position", "Prefetched", "load_pictures"]
