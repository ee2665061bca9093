"""WGAN-GP on 32 x 32 pictures, trained with quantized extra-gradient.

`config` has the fields of a run, one check of them all and its random keys; `fields`
says which of them are read; `presets` are such fields under a name. `run` sets one up:
pictures of `data`, a pair of `networks`, an optimizer of `methods`, workers of `place`.
`train` is its loop: `step` does an iteration on all workers, by the joint gradient of
the two players' `losses`, and keeps averages of the weights; `checkpoints` hold all
that it takes to go on to the bit; `reporting` shows it.
"""
