"""Why the codec takes as long as it does: its stages, each beside the ones before.

    python -m experiments.benchmarks.codec.profile [--exponents=22] [--bits=8,4]
        [--families=uniform] [--bucket=1024] [--payloads=3] [--threads=2]
        [--output=FOLDER]

Programs made of the codec's own functions, on vectors of 2^exponent float32:

    x+1, row sums   floors: a pass that reads and writes, and one that only reads
    hash alone      random bits for all coordinates, a byte of each stored
    measure         each bucket's maximum or extremes, norm and step
    + rounding      and codes, by one word in place of random ones, a byte each
    + hash          and random bits
    + packing       and codes packed
    encode          and packed codes and norms put into records: the encoder
    middle          decode K payloads, average them, encode the mean; over its floor
    unpack          the decoder's codes, a byte each
    decode          and their values: the decoder, one payload; over its floor
    average         the same of K payloads, and their mean; over its floor

"adds" is what a program takes more than the one that does a thing less: `average` than
`decode`, `middle` than `encode`. It is negative where a program stores less, as packed
codes are. "of whole" is of `encode`, and of `decode` for decoders and their floors.
GB/s are of the bytes moved, arguments and results once each. Flops (of whole numbers
too) and bytes accessed are from XLA's analysis of the program, per coordinate. It
counts what is stored between loops and read again, in caches or not, and the whole of
an array of which a loop reads a part. "best" is of the fastest round.

All are compiled and called in turn, each once untimed before it is timed. FOLDER gets
codec_profile.csv, after every quantizer, and codec_profile.png.
"""

import dataclasses
import functools

import jax
from absl import app, flags

import qgenx_jax as qgenx
from experiments.benchmarks.codec import calls as codec_calls
from experiments.benchmarks.codec import profile_table, stages
from experiments.benchmarks.codec.profile_table import Row
from experiments.common import arguments, tables, timing

_EXPONENTS = flags.DEFINE_list(
    "exponents", ["22"], "sizes are 2 to these powers, 10 to 26"
)
_BITS = flags.DEFINE_list("bits", ["8", "4"], "per coordinate, 1 to 8")
_FAMILIES = flags.DEFINE_list(
    "families", ["uniform"], f"of {', '.join(codec_calls.FAMILIES)}"
)
_BUCKET = flags.DEFINE_integer(
    "bucket", 1024, "coordinates of a bucket, which divide the sizes", 8
)
_PAYLOADS = flags.DEFINE_integer("payloads", 3, "K, payloads that are averaged", 1)
_ROUNDS = flags.DEFINE_integer("rounds", 15, "of each program", 1)
_THREADS = flags.DEFINE_integer("threads", 0, "0: all cores", 0)
_OUTPUT = flags.DEFINE_string(
    "output", "", "folder for codec_profile.csv and codec_profile.png"
)

_LEAST = 2e-3  # seconds of a program in a round, by several calls if need be


def measure(quantizer: qgenx.Quantizer, size: int) -> list[Row]:
    """The rows of a quantizer, in the order of its programs."""
    x = jax.random.normal(jax.random.key(0), (size,))
    programs = stages.programs(quantizer, x, _PAYLOADS.value)
    compiled = {name: program.compile() for name, program in programs.items()}
    calls: codec_calls.Calls = {
        name: functools.partial(compiled[name], *program.arguments)
        for name, program in programs.items()
    }
    seconds = timing.rounds_side_by_side(calls, _ROUNDS.value, least=_LEAST, warm=True)
    facts = {
        name: profile_table.facts_of(program) for name, program in compiled.items()
    }
    family = codec_calls.name_of(quantizer)
    names = {"family": family, "bits": quantizer.bits, "size": size}
    names |= {"bucket": quantizer.bucket_size, "payloads": _PAYLOADS.value}
    return [names | row for row in profile_table.columns(seconds, facts, size)]


def main(argv: list[str]) -> None:
    """Measures all combinations."""
    folder = arguments.output_folder(_OUTPUT.value, argv)
    cases = codec_calls.cases(_FAMILIES.value, _BITS.value, _EXPONENTS.value)
    bucket, least = _BUCKET.value, min(2 ** case[-1] for case in cases)
    if least % bucket:
        raise app.UsageError(
            f"--bucket must divide all sizes, of which the least is {least}, got "
            f"{bucket}; take a power of two up to it"
        )
    threads = timing.keep_to_cores(_THREADS.value)
    device = jax.devices()[0].device_kind
    print(f"{threads} threads; jax {jax.__version__} on {device}", flush=True)
    rows: list[Row] = []
    for where, quantizer, exponent in codec_calls.quantizers(cases):
        print(f"\n{where} in buckets of {bucket}", flush=True)
        quantizer = dataclasses.replace(quantizer, bucket_size=bucket)
        found = measure(quantizer, 2**exponent)
        profile_table.show(found)
        rows += found
        if folder:
            tables.write_csv(rows, folder / "codec_profile.csv")
    if folder:
        profile_table.draw(rows, folder / "codec_profile.png")
        print(f"\nwritten to {folder}: codec_profile.csv, codec_profile.png")


if __name__ == "__main__":
    arguments.run(main)
