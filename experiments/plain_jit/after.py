"""An ordinary training script: a transformer in flax nnx, jit over sharded arrays."""

import tempfile
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import optax
import orbax.checkpoint as ocp
from flax import nnx
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

import qgenx_jax as qgenx
from experiments.transformer import text

WIDTH, HEADS, LAYERS, LENGTH, BATCH = 128, 4, 2, 64, 32


class Block(nnx.Module):
    """Attention and two dense layers."""

    def __init__(self, rngs: nnx.Rngs):
        self.norms = nnx.List([nnx.LayerNorm(WIDTH, rngs=rngs) for _ in range(2)])
        self.attention = nnx.MultiHeadAttention(HEADS, WIDTH, decode=False, rngs=rngs)
        self.up = nnx.Linear(WIDTH, 4 * WIDTH, rngs=rngs)
        self.down = nnx.Linear(4 * WIDTH, WIDTH, rngs=rngs)

    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        """(batch, length, width) to the same."""
        x += self.attention(self.norms[0](x), mask=mask)
        return x + self.down(nnx.gelu(self.up(self.norms[1](x))))


class Decoder(nnx.Module):
    """Logits of the next byte."""

    def __init__(self, rngs: nnx.Rngs):
        self.embed = nnx.Embed(256, WIDTH, rngs=rngs)
        self.places = nnx.Param(jax.random.normal(rngs(), (LENGTH, WIDTH)) / 50)
        self.blocks = nnx.List([Block(rngs) for _ in range(LAYERS)])
        self.head = nnx.Linear(WIDTH, 256, rngs=rngs)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """(batch, length) to (batch, length, 256)."""
        x = self.embed(tokens) + self.places[None]
        mask = nnx.make_causal_mask(tokens)
        for block in self.blocks:
            x = block(x, mask)
        return self.head(x)


def loss_of(model: Decoder, tokens: jax.Array) -> jax.Array:
    """Mean cross-entropy of the next byte, nats."""
    logits = model(tokens[:, :-1])
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:])
    return losses.mean()


def specs_of(params: Any) -> Any:
    """How parameters are cut over the axis "model": dense layers, as Megatron does."""

    def spec_of(path: tuple, x: jax.Array) -> PartitionSpec:
        if "up" in str(path):
            return PartitionSpec(*[None] * (x.ndim - 1), "model")
        is_cut = "down" in str(path) and x.ndim == 2
        return PartitionSpec("model") if is_cut else PartitionSpec()

    return jax.tree_util.tree_map_with_path(spec_of, params)


def are_matrices(params: Any) -> Any:
    """Which parameters decay."""
    return jax.tree.map(lambda p: p.ndim > 1, params)


def train(mesh: Mesh, steps: int) -> Iterator:
    """The losses of the steps, one after the other."""
    schedule = optax.warmup_cosine_decay_schedule(0.0, 3e-3, 10, steps)
    adamw = optax.adamw(schedule, weight_decay=0.01, mask=are_matrices)
    tx = optax.chain(
        qgenx.quantized_mean("data", qgenx.uniform(4), mesh=mesh, specs=specs_of),
        optax.clip_by_global_norm(1.0),
        optax.MultiSteps(adamw, 2).gradient_transformation(),
    )
    model = Decoder(nnx.Rngs(0))
    state = nnx.state(model)
    places = jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs_of(state))
    nnx.update(model, jax.device_put(state, places))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer, tokens):
        loss, gradient = qgenx.value_and_grad(loss_of, "data", mesh=mesh)(model, tokens)
        optimizer.update(model, gradient)
        return loss

    data = text.library_sources()
    for i in range(steps):
        tokens = text.batches(data, i, (BATCH,), LENGTH + 1, seed=0).astype(jnp.int32)
        tokens = jax.device_put(tokens, NamedSharding(mesh, PartitionSpec("data")))
        yield step(model, optimizer, tokens)
    with tempfile.TemporaryDirectory() as folder, ocp.StandardCheckpointer() as saver:
        saver.save(f"{folder}/state", nnx.state((model, optimizer)))


def main() -> None:
    """Trains on the devices there are."""
    sizes, kinds = (jax.device_count(), 1), (AxisType.Auto, AxisType.Auto)
    mesh = jax.make_mesh(sizes, ("data", "model"), kinds)
    for i, loss in enumerate(train(mesh, 200)):
        if i % 20 == 19:
            print(f"step {i + 1}: loss {loss:.3f}", flush=True)


if __name__ == "__main__":
    main()
