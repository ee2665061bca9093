"""Data-parallel training steps, and what it costs to compile them."""

import gc
import resource
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.extend
import jax.numpy as jnp
import optax
from jax import lax
from jax.sharding import PartitionSpec as P

import qgenx_jax as qgenx

AXIS = "data"
LAYER = 10
"""Leaves of a layer."""


LEAST = 16
"""Width from which a layer has leaves that are quantized."""

KINDS = ("update", "training")

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
    """Of the leaves of a stack of layers."""
    square, wide = (width, width), (width, 4 * width)
    layer = [square] * 4 + [wide, wide[::-1], (width,), (width,), wide[1:], (width,)]
    return layer * (leaves // LAYER)


def loss(params: list[jax.Array], tokens: jax.Array) -> jax.Array:
    """Of a stack of layers: attention with one head, and two dense ones.

    Args:
        params: as `shapes` has them.
        tokens: (count, width).
    """
    x = tokens
    for start in range(0, len(params), LAYER):
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
        leaves: of the parameters.
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
    step = jax.shard_map(worker, mesh=mesh, in_specs=(P(), P(), P(AXIS)), out_specs=P())
    given: Any = [jax.ShapeDtypeStruct((workers, *x.shape), x.dtype) for x in params]
    if kind == "training":
        given = jax.ShapeDtypeStruct((workers, 16, width), jnp.float32)
    state = jax.eval_shape(optimizer.init, params)
    return jax.jit(step), (params, state, given)


def measure(step: Any, given: tuple[Any, ...]) -> Cost:
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
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            yield from equations(inner)
