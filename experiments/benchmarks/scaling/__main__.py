"""Which strategy when: a cost model fitted to measured exchanges, and taken further.

    python -m experiments.benchmarks.scaling [--measurements=network_exchange.csv]
        [--held_out=100mbit:4] [--table_bits=4] [--table_exponent=25]
        [--links=1:3e-5,100:5e-6] [--output=FOLDER]

Reads what `python -m experiments.benchmarks.network` measured; measures nothing.

Fit: seconds = latency * messages + bytes / (efficiency * rate) + encode * coordinates
encoded + decode * coordinates decoded, all at least 0, of least relative errors over
whole exchanges and their measured parts; unlimited links have a bandwidth of their own.
"link" is that, as `qgenx.Link` has it. "collectives" besides lets each collective have
its own efficiency, and two phases take seconds a coordinate between them: it says how
much of the error is gloo's and what a `Link` leaves out. Each configuration is then
predicted by a fit without it.

Projection: of K workers, each with a link of the rate named times the efficiency. By
strategy: exact (a ring all-reduce), all_gather and reduce_scatter at b bits, which are
flat: all goes over these links; and from two hosts on "exact, hosts" (reduce-scatter
inside a host, all-reduce between, all-gather inside) and hierarchical. Fewer workers
have hosts of their own. Additions of the exact ones cost nothing, nor does what a
`Link` leaves out. Latencies are those of --links, a message's, of which a phase has one
for every other worker: a library with trees is faster at many workers and few bytes. A
codec is "fitted" (of the machine that measured), or "assumed": that of a device whose
memory's bandwidth is all that counts, which nobody measured. An iteration is its
compute and one exchange (optimistic, dual averaging) or two (dual extrapolation,
extra-gradient).

FOLDER gets scaling_fit.csv and scaling_projection.csv, and a PNG of each.
"""

import math
import pathlib

import jax
from absl import app, flags

from experiments.benchmarks.scaling import fit as fitting
from experiments.benchmarks.scaling import projection
from experiments.benchmarks.scaling.projection import Codec, Network, Plan, Row
from experiments.common import arguments, figures, tables
from qgenx_jax import Link

_MEASUREMENTS = flags.DEFINE_string(
    "measurements",
    str(pathlib.Path(__file__).parents[1] / "results" / "network_exchange.csv"),
    "network_exchange.csv of the benchmark network",
)
_HOLD = flags.DEFINE_enum(
    "hold", "configuration", list(fitting.HOLD), "what is left out of a fit together"
)
_HELD_OUT = flags.DEFINE_string(
    "held_out", "100mbit:4", "a configuration to show first, rate:bits"
)
_LIMIT = flags.DEFINE_float("limit", 15.0, "percent that errors are to stay within", 0)
_LINKS = flags.DEFINE_list(
    "links",
    ["1:3e-5", "10:3e-5", "25:1e-5", "100:5e-6", "400:3e-6"],
    "Gbit/s:seconds of latency, of the links projected to",
)
_EFFICIENCY = flags.DEFINE_float(
    "efficiency", None, "share of a rate that is reached; as fitted by default", 0.01, 1
)
_FAST = flags.DEFINE_float("fast", 3e11, "bytes/s of a link inside a host", 1)
_FAST_LATENCY = flags.DEFINE_float("fast_latency", 2e-6, "its seconds a message", 0)
_PER_HOST = flags.DEFINE_integer("per_host", 8, "workers of a host", 1)
_MOST = flags.DEFINE_integer("most_workers", 4096, "K = 2, 4, 8, ... up to this", 2)
_EXPONENTS = flags.DEFINE_list(
    "exponents", ["16", "20", "25", "28"], "sizes are 2 to these powers"
)
_BITS = flags.DEFINE_list("bits", ["8", "4", "2"], "per coordinate, 1 to 8")
_CODECS = flags.DEFINE_list("codecs", ["fitted", "assumed"], "of fitted, assumed")
_MEMORY = flags.DEFINE_float("memory", 3e12, "bytes/s of the assumed codec's memory", 1)
_ENCODE = flags.DEFINE_float("encode", None, "seconds a coordinate, for the assumed", 0)
_DECODE = flags.DEFINE_float("decode", None, "seconds a coordinate, for the assumed", 0)
_COMPUTE = flags.DEFINE_float("compute", 0.0, "seconds of an iteration's compute", 0)
_TABLE_BITS = flags.DEFINE_integer("table_bits", 4, "of the table on the screen")
_TABLE_EXPONENT = flags.DEFINE_integer("table_exponent", 25, "of that table")
_OUTPUT = flags.DEFINE_string("output", "", "folder for CSV and PNG; empty: none")

_ROW_COLUMNS = ["rate", "bits", "collective", "measured ms", "predicted ms", "error %"]


def check_flags() -> Plan:
    """The flags, checked before anything is fitted.

    Raises:
        app.UsageError: for one that cannot be.
    """
    bits = arguments.whole_numbers("bits", _BITS.value, 1, 8)
    exponents = arguments.whole_numbers("exponents", _EXPONENTS.value, 0, 40)
    shown = _TABLE_BITS.value, _TABLE_EXPONENT.value
    if shown[0] not in bits or shown[1] not in exponents:
        raise app.UsageError(
            "--table_bits and --table_exponent must be of --bits and --exponents, got "
            f"{shown[0]} and {shown[1]}; list them there, too"
        )
    codecs = arguments.names("codecs", _CODECS.value, ("fitted", "assumed"))
    workers = [2**i for i in range(1, _MOST.value.bit_length())]
    return Plan(create_networks(), exponents, bits, workers, codecs)


def create_networks() -> list[Network]:
    """The links of --links.

    Raises:
        app.UsageError: for one that is none.
    """
    fast = Link(_FAST_LATENCY.value, _FAST.value, 0, 0)
    found = []
    for item in _LINKS.value:
        rate, _, latency = item.partition(":")
        try:
            gigabits, seconds = float(rate), float(latency)
        except ValueError:
            gigabits = seconds = math.nan
        if not (0 < gigabits < math.inf and 0 <= seconds < math.inf):
            raise app.UsageError(
                f"--links must list Gbit/s:seconds, got {item!r}; write for instance "
                "--links=10:3e-5,100:5e-6"
            )
        found.append(Network(1e9 * gigabits, seconds, 1.0, _PER_HOST.value, fast))
    if not found:
        raise app.UsageError(
            "--links must list at least one link, got none; write for instance "
            "--links=10:3e-5"
        )
    return found


def create_codecs(unknowns: fitting.Amounts, plan: Plan) -> list[Codec]:
    """The codecs of --codecs."""
    assumed = projection.bandwidth_bound(plan.bits, _MEMORY.value)
    encode, decode = _ENCODE.value, _DECODE.value
    if encode is not None:
        assumed = assumed._replace(encode=dict.fromkeys(plan.bits, encode))
    if decode is not None:
        assumed = assumed._replace(decode=dict.fromkeys(plan.bits, decode))
    if encode is not None or decode is not None:
        assumed = assumed._replace(name="assumed by flags")
    fitted = [unknowns.get(name, 0.0) for name in (fitting.ENCODE, fitting.DECODE)]
    known = {
        "fitted": Codec("fitted", *(dict.fromkeys(plan.bits, x) for x in fitted)),
        "assumed": assumed,
    }
    return [known[name] for name in plan.codecs]


def show_fit(measured: list[dict[str, str]]) -> tuple[fitting.Amounts, list[Row]]:
    """Fits both models, with tables of their errors.

    Returns:
        The unknowns of "link", and the predictions of what was left out.
    """
    numbers: dict[str, fitting.Amounts] = {}
    rows: list[Row] = []
    for model in fitting.MODELS:
        seen = fitting.observations(measured, model)
        numbers[model] = fitting.fit(seen)
        print(f"model {model!r}, fitted to {len(seen)} observations", flush=True)
        tables.print_table(
            [{"unknown": name, "fitted": x} for name, x in numbers[model].items()]
        )
        rows += fitting.held_out(seen, _HOLD.value, model)
    rate, _, bits = _HELD_OUT.value.partition(":")
    first = [row for row in rows if (row["rate"], row["bits"]) == (rate, bits)]
    if not first and _HELD_OUT.present:
        known = sorted({f"{row['rate']}:{row['bits']}" for row in rows})
        raise app.UsageError(
            f"--held_out must be a configuration of the measurements, one of "
            f"{', '.join(known)}, got {_HELD_OUT.value!r}"
        )
    if first:
        print(f"\n{rate} at {bits} bits, predicted without that {_HOLD.value}")
        columns = ("model", *_ROW_COLUMNS)
        tables.print_table([{name: row[name] for name in columns} for row in first])
    for model in fitting.MODELS:
        own = [row for row in rows if row["model"] == model]
        print(f"\neach {_HOLD.value} predicted without it, model {model!r}")
        tables.print_table([{name: row[name] for name in _ROW_COLUMNS} for row in own])
    print()
    tables.print_table(
        [
            fitting.summary([r for r in rows if r["model"] == model], _LIMIT.value)
            for model in fitting.MODELS
        ]
    )
    for model, unknowns in numbers.items():
        right, of = fitting.choices(measured, unknowns, model)
        print(f"{model!r} says which collective was faster in {right} of {of} pairs")
    return numbers["link"], rows


def show_projection(unknowns: fitting.Amounts, plan: Plan) -> list[Row]:
    """Projects all combinations, with the tables of one size and width."""
    reached = _EFFICIENCY.value
    if reached is None:
        reached = min(fitting.link_of(unknowns, 1.0).bytes_per_second, 1.0)
    networks = [network._replace(efficiency=reached) for network in plan.networks]
    rows: list[Row] = []
    agreement = []
    for codec in create_codecs(unknowns, plan):
        print(f"\nprojecting, codec {codec.name}", flush=True)
        own = [
            row
            for network in networks
            for exponent in plan.exponents
            for bits in plan.bits
            for workers in plan.workers
            for row in projection.rows_of(
                codec, network, 2**exponent, bits, workers, _COMPUTE.value
            )
        ]
        table = [row for row in own if is_shown(row)]
        print(
            f"fastest, and its speed-up over the faster exact one: {_TABLE_BITS.value} "
            f"bits, 2^{_TABLE_EXPONENT.value} coordinates, {100 * reached:.3g} % of "
            "the rate"
        )
        tables.print_table(projection.when(table))
        print("\nfastest quantized one, and at how many Gbit/s it beats an exact one")
        tables.print_table(projection.break_even(table))
        print("\nfastest of those that know of no hosts, and its speed-up over exact")
        flat = (projection.EXACT, *projection.FLAT)
        tables.print_table(projection.when(table, "speed-up over exact", flat))
        print(
            f"\nmilliseconds of an iteration by the fastest, of {projection.ONE} and "
            f"of two, with {1e3 * _COMPUTE.value:g} ms of compute"
        )
        tables.print_table(projection.iterations(table))
        for calls in (projection.ONE, projection.TWO) if _COMPUTE.value else ():
            print(f"\nspeed-up of iterations of {calls}")
            tables.print_table(projection.when(table, f"speed-up, {calls}"))
        agreement.append(projection.chosen(own, networks, codec))
        rows += own
    print("\nall_gather or reduce_scatter: what collective=link and 'auto' choose")
    tables.print_table(agreement)
    return rows


def is_shown(row: Row) -> bool:
    """Whether a row is of the width and the size of tables and figures."""
    size = 2**_TABLE_EXPONENT.value
    return (row["bits"], row["coordinates"]) == (_TABLE_BITS.value, size)


def main(argv: list[str]) -> None:
    """Fits, predicts, projects."""
    arguments.output_folder(_OUTPUT.value, argv)
    plan = check_flags()
    jax.config.update(
        "jax_platforms", "cpu"
    )  # which counts bytes, and computes nothing
    file = pathlib.Path(_MEASUREMENTS.value)
    if not file.is_file():
        raise app.UsageError(
            f"--measurements must be a file, got {str(file)!r}; python -m "
            "experiments.benchmarks.network --output=FOLDER writes network_exchange.csv"
        )
    try:
        unknowns, predictions = show_fit(tables.read_csv(file))
        rows = show_projection(unknowns, plan)
    except ValueError as error:
        raise app.UsageError(str(error)) from error
    if not _OUTPUT.value:
        return
    folder = pathlib.Path(_OUTPUT.value)
    tables.write_csv(predictions, folder / "scaling_fit.csv")
    figures.write_figure(
        predictions,
        folder / "scaling_fit.png",
        x="measured ms",
        y=["error %"],
        by=["model", "collective"],
        log="x",
    )
    tables.write_csv(rows, folder / "scaling_projection.csv")
    shown = [row for row in rows if row["fastest"] and is_shown(row)]
    figures.write_figure(
        shown,
        folder / "scaling_projection.png",
        x="workers",
        y=["speed-up", "seconds"],
        by=["codec", "Gbit/s"],
    )
    names = ", ".join(f"scaling_{x}" for x in ("fit.csv", "fit.png"))
    print(f"\nwritten to {folder}: {names}, scaling_projection.csv and .png")


if __name__ == "__main__":
    app.run(main)
