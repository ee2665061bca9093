"""The pictures of a run, from where they lie to batches on the devices.

`sources.load_pictures` loads a split: scikit-learn's digits (`digits`), generated ones
(`pictures`), or those of an array file, a folder (`folders`) or TensorFlow Datasets
(`tfds_sets`). `splits` says which are
held out, and `fitting` makes any picture 32 x 32 x 3 bytes. `batches` deals them to the
workers, seeded, at a position of plain integers; `prefetch` makes the same batches in
the background. Put together, in every process alike, with the `Place` of the workers:

    pictures = load_pictures("cifar10", "train")
    local = place.local_workers(K)
    batches = Batches(pictures, batch_size=64, workers=K, local_workers=local, draws=2)
    with Prefetched(batches, place=place.place_batch) as ahead:
        real = next(ahead)  # on the devices, (K, 2, 64, 32, 32, 3)
        saved = ahead.state()  # of what was consumed: goes into the checkpoint
"""
