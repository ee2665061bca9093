"""How long the codec takes, beside what no codec can be faster than, and beside peers.

    python -m experiments.benchmarks.codec [--exponents=22] [--bits=8,4,2]
        [--families=uniform] [--payloads=3] [--threads=2] [--output=FOLDER]

On vectors of 2^exponent float32, in milliseconds and as ratios:

    encode    over `x + 1`, a copy, and QSGD in NumPy and PyTorch (the extra ``peers``),
              of the same bits and buckets of 1024, for uniform, dithered and best
    error     E ||Q(x) - x||^2 / ||x||^2 of a normal vector, and that of QSGD over it
    together  encode by random bits that K workers share, over encode by bits of its own
    decode    one payload, over reading it and writing a float32 vector, the floor
    average   K payloads, decoded, over reading them and writing a float32 vector
    middle    the middle of reduce_scatter: average K payloads and encode the mean, over
              reading them and writing one

`encode` and `average` are also put over those of `uniform` of the same bits. All are
compiled and called in turn, each once untimed before it is timed. Ratios are given of
medians over the rounds, and of minima ("best"), which others on a shared machine
disturb least. FOLDER gets codec.csv, after every row, and codec.png.
"""

import jax
from absl import flags

import qgenx_jax as qgenx
from experiments.benchmarks.codec import calls as codec_calls
from experiments.benchmarks.codec import errors, table
from experiments.benchmarks.codec.table import Row
from experiments.common import arguments, figures, tables, timing

_EXPONENTS = flags.DEFINE_list(
    "exponents", ["22"], "sizes are 2 to these powers, 10 to 26; 10..26 are all"
)
_BITS = flags.DEFINE_list("bits", ["8", "4", "2"], "per coordinate, 1 to 8")
_FAMILIES = flags.DEFINE_list(
    "families", ["uniform"], f"of {', '.join(codec_calls.FAMILIES)}"
)
_PAYLOADS = flags.DEFINE_integer("payloads", 3, "K, payloads that are averaged", 1)
_ROUNDS = flags.DEFINE_integer("rounds", 15, "of each function", 1)
_THREADS = flags.DEFINE_integer("threads", 0, "of all sides; 0: all cores", 0)
_BUDGET = flags.DEFINE_float(
    "budget", 5, "seconds, after which a slow function is left out of further rounds", 0
)
_OUTPUT = flags.DEFINE_string("output", "", "folder for codec.csv and codec.png")

_PEERS_BUCKET = 1024
_LEAST = 2e-3  # seconds of a function in a round, by several calls if need be


def measure(quantizer: qgenx.Quantizer, size: int) -> Row:
    """A row of the table."""
    family, bits = codec_calls.name_of(quantizer), quantizer.bits
    x = jax.random.normal(jax.random.key(0), (size,))
    calls: codec_calls.Calls = {**codec_calls.bounds(x)}
    calls |= codec_calls.codec(quantizer, x, _PAYLOADS.value)
    calls |= codec_calls.beside(quantizer, x, _PAYLOADS.value)
    row: Row = {"family": family, "bits": bits, "size": size}
    row["payloads"] = _PAYLOADS.value
    row["bits per coordinate"] = 8 * quantizer.n_bytes(size) / size
    row["error"] = errors.error_of(quantizer, x)
    row["QSGD error / error"] = ""
    if family in codec_calls.BESIDE_PEERS and bits in codec_calls.PEER_BITS:
        calls |= codec_calls.peers(x, bits, _PEERS_BUCKET)
        error = errors.error_of_peers(x, bits, _PEERS_BUCKET)
        row["QSGD error / error"] = error / row["error"]
    seconds = timing.rounds_side_by_side(
        calls, _ROUNDS.value, budget=_BUDGET.value, least=_LEAST, warm=True
    )
    return row | table.columns(seconds, size)


def main(argv: list[str]) -> None:
    """Measures all combinations."""
    folder = arguments.output_folder(_OUTPUT.value, argv)
    cases = codec_calls.cases(_FAMILIES.value, _BITS.value, _EXPONENTS.value)
    threads = timing.keep_to_cores(_THREADS.value)
    device = jax.devices()[0].device_kind
    print(f"{threads} threads; jax {jax.__version__} on {device}", flush=True)
    if codec_calls.HAS_TORCH:
        codec_calls.keep_torch_to(threads)
    else:
        print("PyTorch is not installed: no such column; pip install '.[peers]'")
    rows: list[Row] = []
    for where, quantizer, exponent in codec_calls.quantizers(cases):
        row = measure(quantizer, 2**exponent)
        print(f"{where}: encode / x+1 is {row['encode / x+1']:.3g}", flush=True)
        rows.append(row)
        if folder:
            tables.write_csv(rows, folder / "codec.csv")
    table.show(rows)
    if folder:
        figures.write_figure(
            rows,
            folder / "codec.png",
            x="size",
            y=["encode / x+1", "average / floor", "middle / floor", "encode GB/s"],
            by=["family", "bits"],
        )
        print(f"\nwritten to {folder}: codec.csv, codec.png")


if __name__ == "__main__":
    arguments.run(main)
