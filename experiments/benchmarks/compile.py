"""How long a data-parallel training step takes to compile, by leaves and exchange.

    python -m experiments.benchmarks.compile [--leaves=10,100,400,1000] [--width=128]
        [--exchanges="pmean,exact,8 bits all_gather,4 bits reduce_scatter"]
        [--step=update] [--workers=4] [--rounds=1] [--output=FOLDER]

A model of L leaves is L / 10 layers of a transformer, each of six matrices and four
vectors. The step averages gradients over simulated devices and hands them to
optax.adam; "update" is given the gradients, "training" computes them, too.

    traced s      CPU seconds in which the step is traced and lowered to StableHLO
    compiled s    CPU seconds of XLA
    / pmean       both together, over those of `lax.pmean` in the same round
    equations     of the traced step, with those of all programs in it
    instructions  of the compiled step, with those of all computations in it
    temporaries   of the compiled step, in bytes per coordinate

CPU seconds are of all threads; others on a shared machine disturb them least. Before
each step JAX forgets what it has traced and compiled; one small step of each exchange
goes first and is not counted. In a round all take turns; medians over the rounds are
printed. FOLDER gets compile.csv, after every number of leaves.
"""

import gc
import math
import resource
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags
from jax import lax
from jax.sharding import PartitionSpec as P

import qgenx_jax as qgenx
from experiments.common import arguments, tables

AXIS = "data"
LAYER = 10
"""Leaves of a layer."""


LEAST = 16
"""Width from which a layer has leaves that are quantized."""

KINDS = ("update", "training")

_LEAVES = flags.DEFINE_list(
    "leaves", ["10", "100", "400", "1000"], f"of the model, multiples of {LAYER}"
)
_WIDTH = flags.DEFINE_integer("width", 128, "of the model", LEAST)
_STEP = flags.DEFINE_enum("step", "update", KINDS, "what is compiled")
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


def rows(leaves: int, names: Sequence[str]) -> list[tables.Row]:
    """Of the table, for a number of leaves."""
    costs: dict[str, list[Cost]] = {name: [] for name in names}
    for _ in range(_ROUNDS.value):
        for name in names:
            costs[name].append(measure(*_step(name, leaves, _WIDTH.value)))
    size = sum(math.prod(shape) for shape in shapes(leaves, _WIDTH.value))
    found = []
    for name, of in costs.items():
        row: dict[str, Any] = {"step": _STEP.value, "leaves": leaves, "exchange": name}
        row["traced s"] = float(np.median([cost.traced for cost in of]))
        row["compiled s"] = float(np.median([cost.compiled for cost in of]))
        row["/ pmean"] = ""
        if "pmean" in costs:
            pairs = zip(of, costs["pmean"], strict=True)
            row["/ pmean"] = float(np.median([a.seconds / b.seconds for a, b in pairs]))
        row["equations"] = of[0].equations
        row["instructions"] = of[0].instructions
        row["temporaries"] = of[0].temporaries / size
        found.append(row)
    return found


def _step(name: str, leaves: int, width: int) -> tuple[Any, Any]:
    return create_step(MEANS[name](), _STEP.value, leaves, width, _WORKERS.value)


def main(argv: list[str]) -> None:
    """Measures all combinations."""
    folder = arguments.output_folder(_OUTPUT.value, argv)
    leaves = arguments.whole_numbers("leaves", _LEAVES.value, LAYER, 10**5)
    names = arguments.names("exchanges", _EXCHANGES.value, list(MEANS))
    if any(count % LAYER for count in leaves):
        raise app.UsageError(
            f"--leaves must be multiples of {LAYER}, the leaves of a layer, got "
            f"{leaves}; write for instance --leaves={LAYER},{10 * LAYER}"
        )
    jax.config.update("jax_num_cpu_devices", _WORKERS.value)
    jax.config.update("jax_enable_compilation_cache", False)
    print(f"jax {jax.__version__}, {_WORKERS.value} simulated devices", flush=True)
    for name in names:
        measure(*_step(name, LAYER, LEAST))
    table: list[tables.Row] = []
    for count in leaves:
        table += rows(count, names)
        print(f"{count} leaves: done", flush=True)
        if folder:
            tables.write_csv(table, folder / "compile.csv")
    tables.print_table(table)
    if folder:
        print(f"\nwritten to {folder}: compile.csv")


if __name__ == "__main__":
    arguments.run(main)
