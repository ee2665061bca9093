"""One process of several of the benchmark of the exchange; started by it.

    python -m experiments.benchmarks.exchange.worker COORDINATOR PROCESS FILE SETTINGS

Joins the others over gloo, with one CPU device, and writes the seconds of each case and
round to FILE, as JSON. SETTINGS are JSON, too: {"workers": K, "cases": [[collective,
bits], ...], "size": coordinates, "rounds": of each case}.
"""

import json
import pathlib
import sys

import jax

from experiments.benchmarks.exchange import calls as exchange_calls
from experiments.common import processes, timing


def main(coordinator: str, process: str, file: str, settings: str) -> None:
    """Joins, runs, writes."""
    processes.end_with_parent()
    asked = json.loads(settings)
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 1)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(
        coordinator,
        asked["workers"],
        int(process),
        initialization_timeout=60,
        coordinator_bind_address=coordinator,
    )
    devices = jax.devices()
    cases = [exchange_calls.Case(*case) for case in asked["cases"]]
    seconds = timing.rounds_side_by_side(
        exchange_calls.create_calls(cases, asked["size"], devices),
        asked["rounds"],
        before=exchange_calls.create_barrier(devices),
    )
    found = [of_case.tolist() for of_case in seconds.values()]
    pathlib.Path(file).write_text(json.dumps(found))
    jax.distributed.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
