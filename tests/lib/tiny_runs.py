"""The GAN program's smallest run, which ends in seconds."""

from experiments.cifar10_gan.config import Config

TINY = Config(
    iterations=4,
    batch_size=2,
    width=4,
    latent=16,
    log_every=2,
    score_every=2,
    score_samples=8,
    checkpoint_every=2,
    tensorboard=False,
)
