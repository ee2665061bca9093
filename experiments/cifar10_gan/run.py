"""A run that is set up: pictures, networks, optimizer, workers, and its position."""

import pathlib
import sys
from typing import Any

import jax
from flax import nnx

import qgenx_jax as qgenx
from experiments.cifar10_gan import methods, quantizers
from experiments.cifar10_gan import place as places
from experiments.cifar10_gan import step as steps
from experiments.cifar10_gan.checkpoints import Checkpoints, Unreadable
from experiments.cifar10_gan.clock import Clock
from experiments.cifar10_gan.config import Config, key_of
from experiments.cifar10_gan.data.batches import Batches
from experiments.cifar10_gan.data.sources import load_pictures
from experiments.cifar10_gan.digests import Damaged
from experiments.cifar10_gan.networks import models
from experiments.cifar10_gan.resuming import check_numbers, numbers
from experiments.cifar10_gan.together.handshake import digest
from experiments.cifar10_gan.together.leaving import AnotherProcessFailed
from experiments.cifar10_gan.together.votes import alike, of_first, together
from experiments.cifar10_gan.vectors import Vectors


class Run:
    """A run that is set up: everything that the loop works with.

    Attributes:
        config: checked.
        workdir: of this run.
        pictures: of the training split.
        place: where the workers are.
        pair: the two networks.
        method: the optimizer.
        step: one iteration on all workers.
        pictures: that it trains on, uint8 (n, 32, 32, 3).
        batches: of them, for this process's workers.
        position: of the batches, after this iteration.
        training: parameters, averages and the optimizer's state.
        plan: of bits for each leaf; None before there is one.
        vectors: dual vectors outside of the step.
        traffic: of an iteration of these workers.
        iteration: how many are done.
        clock: of the seconds that they took.
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
        pictures = together(
            lambda: load_pictures(
                config.source, data_dir=config.data_dir or None, seed=config.seed
            ),
            "loading pictures",
        )
        alike("source", digest(pictures))
        self.pictures = pictures
        self.place = places.create_place(config)
        self.method = methods.create_method(config, self.place.axis_name)
        self.plan: qgenx.Plan | None = None
        self.batches = Batches(
            pictures,
            batch_size=config.batch_size,
            share=config.share,
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
            leak=config.leak,
            rngs=nnx.Rngs(key_of(config, "weights")),
        )
        self.pair = models.split_pair(*modules)
        params = models.rescale_kernels(self.pair.params, config.init_deviation)
        alike("parameters", digest(params))
        self.training = steps.start(config, self.method, params, self.place)
        self.step = steps.create_step(config, self.pair, self.method, self.place)
        self.vectors = Vectors(config, self.pair)
        self.position = self.batches.state()
        self.iteration = 0
        self.clock = Clock()
        self.traffic = self.method.traffic(params, config.workers)
        self.sent_bytes = 0
        self.workers_before = config.workers

    def replan(self, pictures: Any) -> qgenx.Plan:
        """Plans bits for the vectors of an iteration that is next, of these pictures.

        The step is compiled anew when it is next called. The budget is the payload of
        the exchange without a plan.
        """
        config, params = self.config, self.training.params
        shapes = jax.eval_shape(lambda: params)
        bare = quantizers.create_exchange(config, self.place.axis_name)
        budget = bare.traffic(shapes, config.workers).payload_bytes
        weights = None
        if config.plan == "adam":
            state = jax.tree.map(lambda x: x.addressable_data(0), self.training.state)
            weights = qgenx.adam_weights(state, b2=config.b2)
        done = self.iteration
        plan = self.vectors.plan(params, pictures, done, budget, weights)
        # made of the pictures that are here: in each process another one
        plan = qgenx.Plan.from_json(of_first(plan.to_json(), "a plan"))
        self.use(plan)
        self.training = steps.replan(self.training, self.method, self.place)
        return plan

    def use(self, plan: qgenx.Plan | None) -> None:
        """Goes on by a plan, or none; the state of the exchange has to follow."""
        config, place = self.config, self.place
        self.plan = plan
        self.method = methods.create_method(config, place.axis_name, plan)
        self.step = steps.create_step(config, self.pair, self.method, place)
        self.traffic = self.method.traffic(self.training.params, config.workers)

    def save(self, checkpoints: Checkpoints) -> None:
        """Saves a checkpoint of this iteration."""
        facts = {
            "position": self.position,
            **self.clock.facts(),
            "sent_bytes": self.sent_bytes,
            "config": numbers(self.config),
        }
        if self.plan is not None:
            facts["plan"] = self.plan.to_json()
        checkpoints.save(self.iteration, self.training, facts)

    def restore(self, checkpoints: Checkpoints, iteration: int) -> None:
        """Goes to a checkpoint, of this number of workers or of another.

        The checkpoint says of which: config.json may have been written for those that
        were to come.
        """
        known = checkpoints.facts(iteration)
        check_numbers(self.config, known.get("config", {}), iteration)
        if "plan" in known or self.plan is not None:
            plan = known.get("plan")
            self.use(None if plan is None else qgenx.Plan.from_json(plan))
            self.training = steps.replan(self.training, self.method, self.place)
        before = int(known["position"]["workers"])
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
        # older checkpoints know only one time, with everything in it
        seconds = facts["seconds"]
        in_all, untimed = facts.get("seconds_in_all", seconds), facts.get("untimed", 0)
        self.clock = Clock(seconds, in_all, untimed)
        self.iteration = iteration

    def restore_latest(self, checkpoints: Checkpoints) -> None:
        """Goes to the last checkpoint that is good, if there is one, and says so.

        Later ones, which are damaged, are moved to damaged/ in the workdir.

        Raises:
            ValueError: if there are checkpoints, and none is good; all stay.
            Unreadable: if the disk does not give one out; all stay.
        """
        there = of_first(list(checkpoints.all()), "the checkpoints")
        damaged: list[tuple[int, ValueError]] = []
        for iteration in reversed(there):
            try:
                self.restore(checkpoints, iteration)
                break
            except Damaged as error:
                damaged.append((iteration, error))
            except AnotherProcessFailed as error:
                if Unreadable.was(error.reason):
                    raise
                damaged.append((iteration, ValueError(str(error))))
        if not damaged:
            return
        if len(damaged) == len(there):
            raise damaged[0][1]
        aside = checkpoints.set_aside(iteration for iteration, _ in damaged)
        if jax.process_index() == 0:
            for iteration, error in damaged:
                print(
                    f"checkpoint {iteration} is damaged, and now in {str(aside)!r}: "
                    f"{error}",
                    file=sys.stderr,
                )
            print(f"going back to checkpoint {self.iteration}", file=sys.stderr)


WEIGHTS = ("raw", "average", "ema")
"""Of the generator: as they are, their uniform average, their moving average."""


def weights_of(run: Run) -> dict[str, Any]:
    """The generator's weights by the names of `WEIGHTS`: one device's copies."""
    training = run.training
    trees = (
        training.params["generator"],
        training.averages.uniform.average,
        training.averages.moving.average,
    )
    here = jax.tree.map(lambda x: x.addressable_data(0), trees)
    return dict(zip(WEIGHTS, here, strict=True))
