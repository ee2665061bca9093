"""A run that is set up: pictures, networks, optimizer, workers, and its position."""

import pathlib

from flax import nnx

from experiments.cifar10_gan import methods
from experiments.cifar10_gan import place as places
from experiments.cifar10_gan import step as steps
from experiments.cifar10_gan.checkpoints import Checkpoints
from experiments.cifar10_gan.config import Config, key_of
from experiments.cifar10_gan.data.batches import Batches
from experiments.cifar10_gan.data.sources import load_pictures
from experiments.cifar10_gan.networks import models


class Run:
    """A run that is set up: everything that the loop works with.

    Attributes:
        config: checked.
        workdir: of this run.
        place: where the workers are.
        pair: the two networks.
        method: the optimizer.
        step: one iteration on all workers.
        batches: pictures for this process's workers.
        position: of the batches, after this iteration.
        training: parameters, averages and the optimizer's state.
        iteration: how many are done.
        seconds: that they took, without setting up.
    """

    def __init__(self, config: Config) -> None:
        """Sets up the beginning of a run.

        Raises:
            ValueError: for a configuration that cannot run.
        """
        config.validate()
        self.config = config
        self.workdir = pathlib.Path(config.workdir)
        pictures = places.together(
            lambda: load_pictures(
                config.source, data_dir=config.data_dir or None, seed=config.seed
            )
        )
        self.place = places.create_place(config)
        self.method = methods.create_method(config, self.place.axis_name)
        self.batches = Batches(
            pictures,
            batch_size=config.batch_size,
            workers=config.workers,
            seed=config.seed,
            local_workers=self.place.local_workers(config.workers),
            draws=self.method.calls,
        )
        modules = models.create_pair(
            config.model,
            width=config.width,
            latent=config.latent,
            rngs=nnx.Rngs(key_of(config, "weights")),
        )
        self.pair = models.split_pair(*modules)
        params = models.rescale_kernels(self.pair.params, config.init_deviation)
        self.training = steps.start(config, self.method, params, self.place)
        self.step = steps.create_step(config, self.pair, self.method, self.place)
        self.position = self.batches.state()
        self.iteration = 0
        self.seconds = 0.0

    def save(self, checkpoints: Checkpoints) -> None:
        """Saves a checkpoint of this iteration."""
        facts = {"position": self.position, "seconds": self.seconds}
        checkpoints.save(self.iteration, self.training, facts)

    def restore(self, checkpoints: Checkpoints, iteration: int) -> None:
        """Goes to a checkpoint."""
        training, facts = checkpoints.restore(iteration, self.training)
        self.training = training
        self.batches.restore(facts["position"])
        self.position = self.batches.state()
        self.seconds = facts["seconds"]
        self.iteration = iteration
