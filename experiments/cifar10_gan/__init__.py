"""WGAN-GP on 32 x 32 pictures, trained with quantized extra-gradient.

The parts, none of which needs the others' heavy dependencies:

- ``convolutions``: convolutions whose derivatives of every order are fast on a CPU,
- ``models``: the ResNet and DCGAN pairs as pure functions of a params pytree,
- ``losses``: the two players' losses and their joint gradient operator,
- ``pictures`` and ``data``: generated pictures, CIFAR-10, array files, batches,
- ``report`` and ``score``: CSV, progress, figures, sliced Wasserstein distance.
"""
