"""Dual vectors outside of the step: to record, and to plan bits by."""

import functools
from typing import Any

import jax
import numpy as np

from experiments.cifar10_gan import losses, quantizers
from experiments.cifar10_gan.config import Config, key_of
from experiments.cifar10_gan.networks import models
from experiments.common import vectors

PLANNED_ON = 3
"""Workers whose vectors a plan is made for, and that are recorded."""


class Vectors:
    """Computes exact dual vectors of workers, one at a time, on one device.

    Its program is compiled when it is first asked for.
    """

    def __init__(self, config: Config, pair: models.Pair) -> None:
        """Of the configured networks."""
        self._config = config
        self._operator = losses.wgan_gp_operator(
            pair.generate, pair.criticise, penalty_weight=config.penalty_weight
        )

    def of(self, params: Any, pictures: Any, iteration: int, worker: int) -> Any:
        """The joint dual vector of a worker's first oracle call, NumPy arrays.

        Args:
            params: replicated.
            pictures: (K, calls, n, 32, 32, 3), of an iteration.
            iteration: that has been done, which enters the latents' key.
            worker: whose pictures.
        """
        local = jax.tree.map(lambda x: np.asarray(x.addressable_data(0)), params)
        key = key_of(self._config, "vectors")
        for number in (iteration, worker):
            key = jax.random.fold_in(key, number)
        mine = np.asarray(pictures.addressable_shards[0].data)[0, 0]
        if pictures.is_fully_addressable:
            mine = np.asarray(pictures)[worker, 0]
        share = self._config.share
        own = mine if share is None else mine[: share.count(worker)]
        return jax.device_get(self._vector(local, own, key))

    @functools.cached_property
    def _vector(self) -> Any:
        def vector(params: Any, pictures: jax.Array, key: jax.Array) -> Any:
            batch = losses.draw_batch(key, pictures, latent=self._config.latent)
            return self._operator(params, batch)[0]

        return jax.jit(vector)

    def plan(
        self, params: Any, pictures: Any, iteration: int, budget: int, weights: Any
    ) -> Any:
        """Bits of each leaf for the first workers' vectors; see `create_plan`."""
        count = min(PLANNED_ON, len(pictures))
        found = [self.of(params, pictures, iteration, k) for k in range(count)]
        return quantizers.create_plan(self._config, found, budget, weights)

    def record(self, params: Any, pictures: Any, iteration: int, path: Any) -> Any:
        """Writes the vectors of the first workers as .npz; returns the first one's.

        Of several processes' run the first one's alone: no others' pictures are here.
        """
        of = functools.partial(self.of, params, pictures, iteration)
        count = min(PLANNED_ON, len(pictures)) if pictures.is_fully_addressable else 1
        return vectors.write(of, range(count), path)
