"""What is timed beside the library: others' ways to do the same.

`numpy_qsgd` and `torch_qsgd` are QSGD as one would write it, for the benchmark `codec`;
`torch_wgan_gp` is the GAN of `experiments.cifar10_gan`, for `training_step`. Only
`torch_*` need PyTorch, and programs import them where it is there.
"""
