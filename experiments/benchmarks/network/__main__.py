"""Exchanges and WGAN-GP iterations over slow links, emulated on this machine.

    sudo python -m experiments.benchmarks.network [--nodes=3] [--bits=8,4,2]
        [--rates=10mbit,100mbit,1gbit,unlimited] [--output=FOLDER]

N network namespaces joined by links of a given rate, a process of jax.distributed with
gloo in each. Tables, and CSV and PNG with --output:

exchange: seconds of an exact exchange, one in bfloat16, and quantized ones, split into
encode, wire and decode; bytes at the interfaces, without headers, beside `Traffic`;
where PyTorch is installed (the extra ``peers``), the same of DistributedDataParallel
on these links: without a hook, in float16, by PowerSGD.

gan: iterations of the CIFAR-10 GAN beside what compute and bytes at the link's rate
would allow.

break_even: the rate of a link below which compression pays.

A time is the median over rounds of the slowest process's. All variants take turns in
each round. Needs root and iproute2; namespaces are removed at the end, also of an
interrupted run, and the next run removes those of a killed one.
"""

import importlib.util
import os
import pathlib

from absl import app, flags

from experiments.benchmarks.network import measure, namespaces, report
from experiments.benchmarks.network.links import Links, bits_per_second
from experiments.benchmarks.network.processes import Fleet
from experiments.common import arguments, figures, tables

_NODES = flags.DEFINE_integer("nodes", 3, "N, namespaces with a worker each", 2, 100)
_RATES = flags.DEFINE_list(
    "rates", ["10mbit", "100mbit", "1gbit", "unlimited"], "of the links"
)
_BITS = flags.DEFINE_list("bits", ["8", "4", "2"], "per coordinate, 1 to 8")
_COLLECTIVES = flags.DEFINE_multi_enum(
    "collective",
    ["all_gather", "reduce_scatter"],
    ["all_gather", "reduce_scatter", "auto"],
    "of quantized exchanges; may be repeated",
)
_SIZES = flags.DEFINE_list(
    "sizes", ["4194304"], "coordinates; quartered at rates at which they take too long"
)
_LONGEST = flags.DEFINE_float("longest", 2.0, "seconds an exact exchange may take", 0)
_SECONDS = flags.DEFINE_float("seconds", 20.0, "to measure one rate for, about", 0)
_ROUNDS = flags.DEFINE_integer(
    "most_rounds", 15, "rounds at most, of as many as there is time for", 2
)
_GAN = flags.DEFINE_bool("gan", True, "iterations of the GAN, too")
_GAN_MODEL = flags.DEFINE_enum("gan_model", "dcgan", ["dcgan", "resnet"], "the pair")
_GAN_WIDTH = flags.DEFINE_integer("gan_width", 32, "filters of its narrowest layers", 1)
_GAN_BATCH = flags.DEFINE_integer("gan_batch", 16, "pictures per worker and call", 1)
_CHUNKS = flags.DEFINE_integer(
    "chunks", 1, "exchange in so many pieces, too, which could overlap; 1: not", 1
)
_PEERS = flags.DEFINE_bool("peers", True, "PyTorch's on the same links, too")
_RANK = flags.DEFINE_integer("powersgd_rank", 1, "of PowerSGD's matrices", 1)
_OUTPUT = flags.DEFINE_string("output", "", "folder for CSV and PNG; empty: none")

_EXCHANGE = ["rate", "framework", "collective", "bits", "coordinates", "sent bytes",
             "counted / sent", "seconds whole", "seconds encode", "seconds wire",
             "seconds decode", "seconds rest", "seconds link", "speed-up"]  # fmt: skip
_ITERATIONS = ["rate", "bits", "sent bytes", "counted / sent", "seconds whole",
               "seconds compute", "seconds encode", "seconds wire", "seconds decode",
               "seconds rest", "seconds allowed", "speed-up", "speed-up allowed",
               "reached / allowed", "allowed / whole"]  # fmt: skip


def check_flags() -> measure.Plan:
    """The flags, checked before anything is made.

    Raises:
        app.UsageError: for one that cannot be.
    """
    bits = arguments.whole_numbers("bits", _BITS.value, 1, 8)
    sizes = arguments.whole_numbers("sizes", _SIZES.value, 1, 2**31 - 1)
    try:
        for rate in _RATES.value:
            bits_per_second(rate)
    except ValueError as error:
        raise app.UsageError(str(error)) from error
    # slow links last: connections have found their speed when time is short
    rates = sorted(_RATES.value, key=bits_per_second, reverse=True)
    return measure.Plan(
        nodes=_NODES.value,
        rates=rates,
        bits=bits,
        collectives=_COLLECTIVES.value,
        sizes=sizes,
        longest=_LONGEST.value,
        seconds=_SECONDS.value,
        most_rounds=_ROUNDS.value,
        chunks=_CHUNKS.value,
    )


def save(name: str, rows: list[report.Row], y: list[str], by: list[str]) -> None:
    """Leaves the CSV and the figure of a table."""
    if not _OUTPUT.value:
        return
    folder = pathlib.Path(_OUTPUT.value)
    tables.write_csv(rows, folder / f"network_{name}.csv")
    if y and any(row["rate bit/s"] != "" for row in rows):
        figure = folder / f"network_{name}.png"
        figures.write_figure(rows, figure, x="rate bit/s", y=y, by=by)


def run(plan: measure.Plan) -> None:
    """Measures everything, with a table of each on the screen."""
    exchanges: list[report.Row] = []
    iterations: list[report.Row] = []
    with Links(plan.nodes) as links:
        with Fleet(links, "experiments.benchmarks.network.worker") as fleet:
            bench = measure.Bench(links, fleet, plan)
            print(bench.background(), flush=True)
            for rate in plan.rates:
                exchanges += measure.exchanges(bench, rate)
                save("exchange", exchanges, [], [])
            for rate in plan.rates if _GAN.value else []:
                shape = (_GAN_MODEL.value, _GAN_WIDTH.value, _GAN_BATCH.value)
                iterations += measure.iterations(bench, rate, *shape)
                save("gan", iterations, [], [])
        if _PEERS.value and importlib.util.find_spec("torch") is None:
            print("PyTorch is not installed: no peers; pip install '.[peers]'")
        elif _PEERS.value:
            with Fleet(links, "experiments.benchmarks.network.torch_worker") as fleet:
                bench = measure.Bench(links, fleet, plan)
                print(bench.background(), flush=True)
                for rate in plan.rates:
                    exchanges += measure.peers(bench, rate, _RANK.value, exchanges)
    print("\nexchanges")
    tables.print_table([report.milliseconds(row, _EXCHANGE) for row in exchanges])
    y, by = ["ns per coordinate", "speed-up"], ["framework", "collective", "bits"]
    save("exchange", exchanges, y, by)
    if rows := report.break_even_rows(exchanges):
        print("\ncompression pays below")
        tables.print_table(rows)
        save("break_even", rows, [], [])
    if iterations:
        print("\niterations of the GAN")
        tables.print_table(
            [report.milliseconds(row, _ITERATIONS) for row in iterations]
        )
        y = ["seconds whole", "speed-up", "allowed / whole"]
        save("gan", iterations, y, ["bits"])


def main(argv: list[str]) -> None:
    """Checks what is needed, measures, and cleans up."""
    arguments.output_folder(_OUTPUT.value, argv)
    plan = check_flags()
    try:
        namespaces.check_possible()
    except namespaces.NotPossible as error:
        raise SystemExit(f"nothing was measured: {error}") from error
    for name in namespaces.sweep():
        print(f"removed {name}, which a killed run had left")
    print(report.machine(os.cpu_count() or 1, os.getloadavg()[0]), flush=True)
    try:
        with namespaces.terminated_as_interrupted():
            run(plan)
    except KeyboardInterrupt:
        raise SystemExit("interrupted; the namespaces are removed") from None


if __name__ == "__main__":
    app.run(main)
