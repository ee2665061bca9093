"""One run: K workers in one program, Adam after the exchanged mean."""

import functools
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import qgenx_jax as qgenx
from experiments.common import vectors
from experiments.transformer.model import Decoder, next_byte_loss
from experiments.transformer.text import batches

AXIS = "data"


class Setting(NamedTuple):
    """What all runs of a comparison have in common.

    Attributes:
        workers: K.
        sequences: of each worker's batch.
        length: bytes of a sequence.
        layers, width: of the model.
        rate: of Adam, after a tenth of the steps in which it grows from 0.
        steps: of training.
        seed: of parameters and batches.
    """

    workers: int = 4
    sequences: int = 2
    length: int = 64
    layers: int = 6
    width: int = 384
    rate: float = 1e-3
    steps: int = 200
    seed: int = 0

    def model(self) -> Decoder:
        """The decoder, with a head for each 64 of its width."""
        return Decoder(self.layers, self.width, self.width // 64, self.length)


class Row(NamedTuple):
    """What is known after a step.

    Attributes:
        step: from 1.
        loss: of the batches of all workers, before it, nats a byte.
        error: ‖mean Q(g_k) - mean g_k‖ / ‖mean g_k‖.
        seconds: that it took.
    """

    step: int
    loss: float
    error: float
    seconds: float


def create_step(
    model: Decoder, exchange: qgenx.Exchange, optimizer: optax.GradientTransformation
) -> Callable[..., Any]:
    """The jitted step: K workers' gradients, their mean by the exchange, an update."""

    def gradient(params: Any, tokens: jax.Array) -> tuple[jax.Array, Any]:
        def value(params: Any) -> jax.Array:
            return next_byte_loss(model, params, tokens)

        return jax.value_and_grad(value)(params)

    def worker(params: Any, carried: Any, tokens: jax.Array) -> tuple[Any, ...]:
        value, own = gradient(params, tokens)
        mean, carried = exchange.mean(own, carried)
        return jax.lax.pmean(value, AXIS), own, mean, carried

    # by vmap: the same bits as on a mesh, and a mean that is decoded once
    together = jax.vmap(
        worker, in_axes=(None, None, 0), out_axes=(None, 0, None, None), axis_name=AXIS
    )

    @functools.partial(jax.jit, donate_argnums=(0, 1, 2))
    def step(params: Any, state: Any, carried: Any, tokens: jax.Array) -> Any:
        value, own, mean, carried = together(params, carried, tokens)
        exact = jax.tree.map(lambda g: jnp.mean(g, axis=0), own)
        off = jax.tree.map(jnp.subtract, mean, exact)
        error = optax.tree.norm(off) / optax.tree.norm(exact)
        updates, state = optimizer.update(mean, state, params)
        return optax.apply_updates(params, updates), state, carried, value, error

    return step


def train(
    setting: Setting,
    exchange: qgenx.Exchange,
    text: np.ndarray,
    record: dict[int, pathlib.Path] | None = None,
) -> Iterator[Row]:
    """Rows of a run, as they come.

    Args:
        setting: of the run.
        exchange: of the gradients, over the axis "data".
        text: to learn, uint8 (n,).
        record: after which steps to write the workers' gradients, and where, .npz.
    """
    of = setting
    model = of.model()
    key = jax.random.key(of.seed)
    tokens = jnp.zeros((1, of.length), jnp.int32)
    params = jax.jit(model.init)(key, tokens)["params"]
    warm = max(1, of.steps // 10)
    schedule = optax.linear_schedule(0, of.rate, warm)
    optimizer = optax.adam(schedule)
    state, carried = optimizer.init(params), exchange.init()
    step = create_step(model, exchange, optimizer)
    for number in range(1, of.steps + 1):
        begun = time.perf_counter()
        shape = (of.workers, of.sequences)
        drawn = batches(text, number, shape, of.length + 1, of.seed)
        tokens = jnp.asarray(drawn, jnp.int32)
        params, state, carried, value, error = step(params, state, carried, tokens)
        row = float(value), float(error)
        yield Row(number, *row, time.perf_counter() - begun)
        if record and number in record:
            gradient = functools.partial(_gradient, model, params)
            vectors.write(jax.jit(gradient), tokens, record[number])


def _gradient(model: Decoder, params: Any, tokens: jax.Array) -> Any:
    return jax.grad(lambda params: next_byte_loss(model, params, tokens))(params)
