"""The networks of a run: pairs of a generator and a discriminator.

`models` has the ResNet and the DCGAN pair, as pure functions of a pytree of parameters,
made of `layers`, whose convolutions `convolutions` computes, with derivatives that are
fast on a CPU. `reference_weights` takes weights in PyTorch's layout to these and back.
"""
