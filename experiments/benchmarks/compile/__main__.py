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

import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from absl import app, flags

from experiments.benchmarks.compile import steps
from experiments.benchmarks.compile.steps import Cost
from experiments.common import arguments, tables

_LEAVES = flags.DEFINE_list(
    "leaves", ["10", "100", "400", "1000"], f"of the model, multiples of {steps.LAYER}"
)
_WIDTH = flags.DEFINE_integer("width", 128, "of the model", steps.LEAST)
_STEP = flags.DEFINE_enum("step", "update", steps.KINDS, "what is compiled")
_WORKERS = flags.DEFINE_integer("workers", 4, "simulated devices", 1)
_ROUNDS = flags.DEFINE_integer("rounds", 1, "rounds; medians are printed", 1)
_OUTPUT = flags.DEFINE_string("output", "", "folder for compile.csv")

_EXCHANGES = flags.DEFINE_list(
    "exchanges", list(steps.MEANS), f"of {', '.join(steps.MEANS)}"
)


def rows(leaves: int, names: Sequence[str]) -> list[tables.Row]:
    """Of the table, for a number of leaves."""
    costs: dict[str, list[Cost]] = {name: [] for name in names}
    for _ in range(_ROUNDS.value):
        for name in names:
            costs[name].append(steps.measure(*_step(name, leaves, _WIDTH.value)))
    size = sum(math.prod(shape) for shape in steps.shapes(leaves, _WIDTH.value))
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
    return steps.create_step(
        steps.MEANS[name](), _STEP.value, leaves, width, _WORKERS.value
    )


def main(argv: list[str]) -> None:
    """Measures all combinations."""
    folder = arguments.output_folder(_OUTPUT.value, argv)
    leaves = arguments.whole_numbers("leaves", _LEAVES.value, steps.LAYER, 10**5)
    names = arguments.names("exchanges", _EXCHANGES.value, list(steps.MEANS))
    if any(count % steps.LAYER for count in leaves):
        raise app.UsageError(
            f"--leaves must be multiples of {steps.LAYER}, the leaves of a layer, got "
            f"{leaves}; write for instance --leaves={steps.LAYER},{10 * steps.LAYER}"
        )
    jax.config.update("jax_num_cpu_devices", _WORKERS.value)
    jax.config.update("jax_enable_compilation_cache", False)
    print(f"jax {jax.__version__}, {_WORKERS.value} simulated devices", flush=True)
    for name in names:
        steps.measure(*_step(name, steps.LAYER, steps.LEAST))
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
