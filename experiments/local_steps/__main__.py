"""Seconds to a loss by each method, three nodes on links of a given rate.

    sudo python -m experiments.local_steps [--rate=10mbit] [--steps=160]
        [--exact_steps=160] [--csv=FILE]

The loss to reach is the highest of the last ones: what all methods get to. `model` is
what `Link.seconds` says of an exchange at that rate, over the steps between two of
them; `a step` is measured, computation included, of three processes on this machine's
cores. Needs root and iproute2.
"""

import json
import pathlib
import sys
import tempfile
from typing import Any

from absl import app, flags

from experiments.benchmarks.network import namespaces
from experiments.benchmarks.network.links import Links, bits_per_second
from experiments.common import arguments, processes, tables
from experiments.local_steps import worker
from experiments.local_steps.summary import NODES, summary

_RATE = flags.DEFINE_string("rate", "10mbit", "of the links")
_STEPS = flags.DEFINE_integer("steps", 320, "of each run", 16)
_EXACT = flags.DEFINE_integer("exact_steps", 160, "of the run by exact exchanges", 16)
_CSV = flags.DEFINE_string("csv", None, "a file for the rows of all runs")
PORT = 12377


def run(name: str, links: Links, steps: int) -> list[dict[str, Any]]:
    """The rows that process 0 prints."""
    commands = []
    for node in range(NODES):
        coordinator = f"{links.address(0)}:{PORT}"
        given = [str(node), str(NODES), coordinator, name, str(steps)]
        command = [sys.executable, "-m", "experiments.local_steps.worker", *given]
        # gloo finds its address by the host's name, which each node has its own of
        renamed = f'hostname {links.host(node)} && exec "$@"'
        inside = ["unshare", "--uts", "sh", "-c", renamed, "sh", *command]
        commands.append(links.command(node, *inside))
    with tempfile.TemporaryDirectory() as folder:
        processes.run_together(commands, pathlib.Path(folder))
        lines = (pathlib.Path(folder) / "output_0.txt").read_text().splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def main(_: list[str]) -> None:
    """Runs all methods, and prints the table."""
    try:
        bits_per_second(_RATE.value)
        namespaces.check_possible()
    except (ValueError, namespaces.NotPossible) as error:
        raise app.UsageError(str(error)) from error
    namespaces.sweep()
    found: dict[str, list[dict[str, Any]]] = {}
    with namespaces.terminated_as_interrupted(), Links(NODES) as links:
        links.limit(_RATE.value)
        for name in worker.METHODS:
            steps = _EXACT.value if name == "exact" else _STEPS.value
            found[name] = run(name, links, steps)
            last = found[name][-1]
            seconds, loss = last["seconds"], last["loss"]
            print(f"{name}: loss {loss:.3f} after {seconds:.0f} s", flush=True)
    rows = [{"method": name, **row} for name, of in found.items() for row in of]
    if _CSV.value:
        tables.write_csv(rows, _CSV.value)
    print(f"{NODES} nodes, links of {_RATE.value}, loss held out, nats a byte")
    tables.print_table(summary(found, _RATE.value))


if __name__ == "__main__":
    arguments.run(main)
