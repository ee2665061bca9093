"""How workers share a batch: as evenly as can be, the last ones one picture more.

    B = q K + r:  q pictures for each of the first K - r workers, q + 1 for the others

A program for many workers has one shape, so each worker takes as many rows as the
largest share has, and those beyond its own have weight 0. With weights K / B,

    (1/K) sum_k sum_i w_ki l_ki = (1/B) sum over all pictures of l,

so the plain mean over workers is the loss, and the dual vector, of the whole batch.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Share(NamedTuple):
    """Of a batch of `total` pictures by `workers` workers.

    Attributes:
        total: B, over all workers.
        workers: K, at most B.
    """

    total: int
    workers: int

    @property
    def rows(self) -> int:
        """Of every worker: the largest share."""
        return -(-self.total // self.workers)

    def count(self, worker: int) -> int:
        """How many of its rows are a worker's own."""
        return self.start(worker + 1) - self.start(worker)

    def start(self, worker: Any) -> Any:
        """The number, in the whole batch, of a worker's first picture; also traced."""
        each, more = divmod(self.total, self.workers)
        beyond = worker - (self.workers - more)
        if isinstance(worker, int):
            return each * worker + max(beyond, 0)
        return each * worker + jnp.maximum(beyond, 0)

    def weights(self, worker: jax.Array) -> jax.Array:
        """(rows,) float32: K / B of a worker's own pictures, 0 beyond them."""
        own = jnp.arange(self.rows) < self.start(worker + 1) - self.start(worker)
        return jnp.where(own, jnp.float32(self.workers / self.total), 0)
