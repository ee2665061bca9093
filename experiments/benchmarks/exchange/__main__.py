"""How long an exchange takes, beside the exact one, without a network between workers.

    python -m experiments.benchmarks.exchange [--workers=3] [--where=devices,processes]
        [--collectives=all_gather,reduce_scatter,hierarchical] [--bits=8,4,2]
        [--exponents=20] [--rounds=11] [--output=FOLDER]

K workers with a vector of 2^exponent float32 each get the mean: as K simulated devices
of one process, and as K processes over gloo. Exact is an all-reduce of float32, bf16
one of bfloat16, which XLA widens to float32 on CPUs: it saves bytes elsewhere only.
`hierarchical` needs a K that is no prime: 4 are 2 hosts of 2 chips.

The volume bound is what the speed-up over the exact exchange would be if nothing but
bytes on a wire took time, efficiency the part of it that is reached. Here there is no
wire: devices share their memory, and processes talk through the machine itself. So this
measures what an exchange adds; where compression pays is a matter of the link.

All are called in turn, processes from a barrier on, and the slowest process counts. The
coordinator is at 127.0.0.1, gloo at the address that the machine's name stands for.
Processes end when one fails and when this one does. "Best" is of the fastest round of
each. FOLDER gets exchange.csv, after every size, and exchange.png.
"""

import json
import pathlib
import sys
import tempfile

import jax
import numpy as np
from absl import flags

from experiments.benchmarks.exchange import calls as exchange_calls
from experiments.benchmarks.exchange import table
from experiments.benchmarks.exchange.calls import Case
from experiments.benchmarks.exchange.table import Row
from experiments.common import arguments, figures, processes, tables, timing

_WORKERS = flags.DEFINE_list("workers", ["3"], "K, 2 to 64")
_WHERE = flags.DEFINE_list(
    "where", ["devices", "processes"], "of devices (simulated), processes"
)
_COLLECTIVES = flags.DEFINE_list(
    "collectives",
    list(exchange_calls.COLLECTIVES),
    f"of {', '.join(exchange_calls.COLLECTIVES)}",
)
_BITS = flags.DEFINE_list("bits", ["8", "4", "2"], "per coordinate, 1 to 8; uniform")
_EXPONENTS = flags.DEFINE_list(
    "exponents", ["20"], "sizes are 2 to these powers, 10 to 26; 16..24 is usual"
)
_ROUNDS = flags.DEFINE_integer("rounds", 11, "of each exchange", 1)
_OUTPUT = flags.DEFINE_string("output", "", "folder for exchange.csv and exchange.png")


def on_devices(cases: list[Case], size: int, workers: int) -> np.ndarray:
    """Seconds (cases, rounds) on simulated devices."""
    calls = exchange_calls.create_calls(cases, size, jax.devices()[:workers])
    seconds = timing.rounds_side_by_side(calls, _ROUNDS.value)
    return np.stack(list(seconds.values()))


def on_processes(cases: list[Case], size: int, workers: int) -> np.ndarray:
    """Seconds (cases, rounds) of the slowest of as many processes."""
    settings = {
        "workers": workers,
        "cases": cases,
        "size": size,
        "rounds": _ROUNDS.value,
    }
    program = [sys.executable, "-m", "experiments.benchmarks.exchange.worker"]
    coordinator = f"127.0.0.1:{processes.free_port()}"
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        files = [folder / f"seconds_{process}.json" for process in range(workers)]
        commands = [
            [*program, coordinator, str(process), str(file), json.dumps(settings)]
            for process, file in enumerate(files)
        ]
        processes.run_together(commands, folder)
        found = [json.loads(file.read_text()) for file in files]
    return table.slowest(found)


MEASURE = {"devices": on_devices, "processes": on_processes}


def measure(
    where: str, workers: int, exponent: int, collectives: list[str], bits: list[int]
) -> list[Row]:
    """The rows of a size: the exact exchange first."""
    size = 2**exponent
    cases = exchange_calls.create_cases(workers, collectives, bits)
    seconds = MEASURE[where](cases, size, workers)
    sent = [exchange_calls.sent_bytes(case, size, workers) for case in cases]
    names = {"where": where, "workers": workers, "size": size}
    return [
        {**names, "collective": case.collective, "bits": case.bits}
        | table.columns(mine, seconds[0], mine_sent, sent[0])
        for case, mine, mine_sent in zip(cases, seconds, sent, strict=True)
    ]


def main(argv: list[str]) -> None:
    """Measures all combinations."""
    folder = arguments.output_folder(_OUTPUT.value, argv)
    places = arguments.names("where", _WHERE.value, tuple(MEASURE))
    collectives = arguments.names(
        "collectives", _COLLECTIVES.value, exchange_calls.COLLECTIVES
    )
    bits = arguments.whole_numbers("bits", _BITS.value, 1, 8)
    exponents = arguments.whole_numbers("exponents", _EXPONENTS.value, 10, 26)
    counts = arguments.whole_numbers("workers", _WORKERS.value, 2, 64)
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", max(counts))
    print(f"jax {jax.__version__} on CPU", flush=True)
    for workers in counts if "hierarchical" in collectives else []:
        if exchange_calls.grid(workers) is None:
            print(f"hierarchical is left out at the prime K = {workers}; 4 has it")
    rows: list[Row] = []
    for where in places:
        for workers in counts:
            for exponent in exponents:
                print(f"{workers} {where}, 2^{exponent} coordinates", flush=True)
                rows += measure(where, workers, exponent, collectives, bits)
                if folder:
                    tables.write_csv(rows, folder / "exchange.csv")
    print()
    tables.print_table(rows)
    if folder:
        figures.write_figure(
            rows,
            folder / "exchange.png",
            x="size",
            y=["ms", "speed-up", "efficiency"],
            by=["where", "workers", "collective", "bits"],
        )
        print(f"\nwritten to {folder}: exchange.csv, exchange.png")


if __name__ == "__main__":
    arguments.run(main)
