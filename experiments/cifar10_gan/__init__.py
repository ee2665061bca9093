"""WGAN-GP on 32 x 32 pictures, trained with quantized extra-gradient.

The way of a run, and its rooms; most need none of the others' heavy dependencies:

- ``config``: the fields of a run, presets, one check of them all,
- ``sources``, ``pictures``, ``data``: where pictures come from; batches, prefetched,
- ``models``, ``layers``, ``convolutions``: the ResNet and DCGAN pairs as pure functions
  of a params pytree, with convolutions whose derivatives are fast on a CPU,
- ``reference_weights``: weights in PyTorch's layout, to these and back,
- ``losses``: the two players' losses and their joint gradient operator,
- ``methods``: optimizers by name, each around a quantized exchange,
- ``place``, ``step``, ``run``, ``train``: workers on devices, one iteration on all of
  them, a run that is set up, and its loop,
- ``keys``: random streams by purpose,
- ``averages``, ``score``, ``evaluate``: averages of weights, and scores of samples,
- ``checkpoints``: all that it takes to go on to the bit,
- ``observer``, ``report``, ``figures``, ``logs``: rows, progress, curves, TensorBoard,
- ``runs`` and ``compare``: runs over each other.
"""
