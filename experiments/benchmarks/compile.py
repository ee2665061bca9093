"""How long a data-parallel training step takes to compile, by leaves and exchange.

    python -m experiments.benchmarks.compile [--leaves=10,100,400,1000] [--width=128]
        [--exchanges=pmean,exact,"8 bits all_gather","4 bits reduce_scatter"]
        [--step=update] [--workers=4] [--rounds=1] [--output=FOLDER]

A model of L leaves is a stack of L / 10 layers of a transformer, each with six matrices
and four vectors. The step averages gradients over simulated devices and goes on with
optax.adam; "update" gets gradients, "training" computes them by backpropagation too.

    traced    CPU seconds to trace the step and to lower it to StableHLO
    compiled  CPU seconds of XLA
    / pmean   their sum over that of `lax.pmean` with as many leaves, of the same round
    equations      traced, with those of all inner programs
    instructions   of the optimized HLO, with those inside fusions
    temporaries    bytes per coordinate, that the program needs on a device

CPU seconds are of all threads, which others on a shared machine disturb least. Each
cell starts without anything that JAX has cached, after one small step that is not
counted; with several rounds all cells take turns, and medians are printed. FOLDER gets
compile.csv.
"""

import gc
import resource
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags
from jax import lax
from jax.sharding import PartitionSpec as P

import qgenx_jax as qgenx
from experiments.benchmarks import arguments, tables

AXIS = "data"
LAYER = 10  # leaves of a layer

_LEAVES = flags.DEFINE_list("leaves", ["10", "100", "400", "1000"], "of the model")
_WIDTH = flags.DEFINE_integer("width", 128, "of the model", 1)
_WORKERS = flags.DEFINE_integer("workers", 4, "simulated devices", 1)
_ROUNDS = flags.DEFINE_integer("rounds", 1, "rounds; medians are printed", 1)
_OUTPUT = flags.DEFINE_string("output", "", "folder for compile.csv")

Means = dict[str, Callable[[], optax.GradientTransformation]]


def _pmean() -> optax.GradientTransformation:
    """What one writes without this library."""
    return optax.stateless(lambda updates, _: lax.pmean(updates, AXIS))


def _quantized(bits: int, collective: str) -> Callable[[], Any]:
    return lambda: qgenx.quantized_mean(
        AXIS, qgenx.uniform(bits), collective=collective
    )


MEANS: Means = {
    "pmean": _pmean,
    "exact": lambda: qgenx.quantized_mean(AXIS, None),
    "8 bits all_gather": _quantized(8, "all_gather"),
    "4 bits reduce_scatter": _quantized(4, "reduce_scatter"),
}
"""Of the gradients, by the name of the exchange."""

_EXCHANGES = flags.DEFINE_list("exchanges", list(MEANS), f"of {', '.join(MEANS)}")


class Cost(NamedTuple):
    """Of compiling one step.

    Attributes:
        traced: CPU seconds of tracing and lowering.
        compiled: CPU seconds of XLA.
        equations: of the traced program.
        instructions: of the compiled program.
        temporaries: bytes.
    """

    traced: float
    compiled: float
    equations: int
    instructions: int
    temporaries: int

    @property
    def seconds(self) -> float:
        """Of both."""
        return self.traced + self.compiled


def shapes(leaves: int, width: int) -> list[tuple[int, ...]]:
    """Of the leaves of a stack of layers, the last one maybe a part of a layer."""
    square, wide = (width, width), (width, 4 * width)
    layer = [square] * 4 + [wide, wide[::-1], (width,), (width,), wide[1:], (width,)]
    return [layer[index % LAYER] for index in range(leaves)]


def loss(params: list[jax.Array], tokens: jax.Array) -> jax.Array:
    """Of a stack of layers: attention with one head, and two dense ones.

    Args:
        params: as `shapes` has them, of whole layers.
        tokens: (count, width).
    """
    x = tokens
    for start in range(0, len(params) - LAYER + 1, LAYER):
        query, key, value, out, up, down, *vectors = params[start : start + LAYER]
        first, second, inner, outer = (vector[None] for vector in vectors)
        y = x * first
        weights = jax.nn.softmax((y @ query) @ (y @ key).T)
        x = x + (weights @ (y @ value)) @ out
        x = x + jnp.tanh((x * second) @ up + inner) @ down + outer
    return jnp.mean(x**2)


def create_step(
    mean: optax.GradientTransformation, kind: str, leaves: int, width: int, workers: int
) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """A step over simulated devices, and the shapes of its arguments.

    Args:
        mean: of the gradients, over the axis `AXIS`.
        kind: "update", whose last argument are gradients, with a leading axis over
            workers, or "training", whose last argument are tokens.
        leaves: of the parameters; for "training" of whole layers.
        width: of the model.
        workers: K.
    """
    optimizer = optax.chain(mean, optax.adam(1e-3))
    params = [jax.ShapeDtypeStruct(s, jnp.float32) for s in shapes(leaves, width)]

    def worker(params: Any, state: Any, given: Any) -> Any:
        own = jax.tree.map(lambda x: x[0], given)
        if kind == "training":
            own = jax.grad(loss)(qgenx.local_params(params, AXIS), own)
        updates, state = optimizer.update(own, state, params)
        return optax.apply_updates(params, updates), state

    mesh = jax.make_mesh((workers,), (AXIS,), (jax.sharding.AxisType.Auto,))
    step = jax.shard_map(
        worker, mesh=mesh, in_specs=(P(), P(), P(AXIS)), out_specs=P()
    )
    given: Any = [jax.ShapeDtypeStruct((workers, *x.shape), x.dtype) for x in params]
    if kind == "training":
        given = jax.ShapeDtypeStruct((workers, 16, width), jnp.float32)
    state = jax.eval_shape(optimizer.init, params)
    return jax.jit(step), (params, state, given)


def measure(step: Callable[..., Any], given: tuple[Any, ...]) -> Cost:
    """Compiles a step, of which nothing is known yet."""
    jax.clear_caches()
    gc.collect()
    start = cpu_seconds()
    traced = step.trace(*given)
    lowered = traced.lower()
    middle = cpu_seconds()
    compiled = lowered.compile()
    end = cpu_seconds()
    memory = compiled.memory_analysis()
    return Cost(
        traced=middle - start,
        compiled=end - middle,
        equations=sum(1 for _ in equations(traced.jaxpr.jaxpr)),
        instructions=compiled.as_text().count(" = "),
        temporaries=memory.temp_size_in_bytes,
    )


def cpu_seconds() -> float:
    """Of this process so far, in all its threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def equations(jaxpr: Any) -> Iterator[Any]:
    """Those of a program and of the programs in it, each as often as it occurs."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jax.core.jaxprs_in_params(equation.params):
            yield from equations(inner)
