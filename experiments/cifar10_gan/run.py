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
        traffic: of an iteration of these workers.
        iteration: how many are done.
        seconds: that they took, without setting up.
        sent_bytes: that each worker has sent in them.
        workers_before: who did the iterations before the checkpoint, where the run goes
            on with another number of workers.
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
            dtype=config.dtype,
            rngs=nnx.Rngs(key_of(config, "weights")),
        )
        self.pair = models.split_pair(*modules)
        params = models.rescale_kernels(self.pair.params, config.init_deviation)
        self.training = steps.start(config, self.method, params, self.place)
        self.step = steps.create_step(config, self.pair, self.method, self.place)
        self.position = self.batches.state()
        self.iteration = 0
        self.seconds = 0.0
        self.traffic = self.method.traffic(params, config.workers)
        self.sent_bytes = 0
        self.workers_before = config.workers

    def save(self, checkpoints: Checkpoints) -> None:
        """Saves a checkpoint of this iteration."""
        facts = {
            "position": self.position,
            "seconds": self.seconds,
            "sent_bytes": self.sent_bytes,
        }
        checkpoints.save(self.iteration, self.training, facts)

    def restore(self, checkpoints: Checkpoints, iteration: int) -> None:
        """Goes to a checkpoint, of this number of workers or of another.

        The checkpoint says of which: config.json may have been written for those that
        were to come.
        """
        before = int(checkpoints.facts(iteration)["position"]["workers"])
        if before == self.config.workers:
            training, facts = checkpoints.restore(iteration, self.training)
        else:
            like = steps.shapes_of_workers(
                self.training, self.method, self.place, before
            )
            training, facts = checkpoints.restore(iteration, like)
            training = steps.reshard(training, self.place, before)
        self.training = training
        self.workers_before = before
        traffic = self.method.traffic(training.params, before)
        # older checkpoints do not say it, and are of one number of workers
        self.sent_bytes = facts.get("sent_bytes", iteration * traffic.sent_bytes)
        self.batches.restore(facts["position"])
        self.position = self.batches.state()
        self.seconds = facts["seconds"]
        self.iteration = iteration
