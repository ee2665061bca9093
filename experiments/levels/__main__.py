"""What levels, norms, buckets and plans are worth: one table, one figure, one CSV.

    python -m experiments.levels [--vectors=FOLDER] [--laws=network] [--bits=2,3,4]
        [--norms=inf] [--buckets=1024] [--output=FOLDER]

For each vector (draws from laws; recorded ones, by `--record_vectors` of the GAN
program) and each setting a row for each method:

    error       E||Q(v) - v||^2 / ||v||^2 of one worker, exactly
    gain        error of `uniform` in the same setting over that of the method
    predicted   what the fitted levels promised for this vector, over the error
    bits        per coordinate, norms included
    entropy, huffman, bound
                bits per coordinate of the codes alone: their entropy, a stream that is
                made, and the most that the theorem allows for one

`adaptive` takes the way of training: statistics, gather and solver inside one jitted
exchange. `optimal` is dynamic programming on the host. `planned` is a plan for the very
vector, `planned once`, of later recorded vectors, one for the first. FOLDER gets
levels.csv and levels.png.
"""

import math

import jax
from absl import app, flags

from experiments.common import arguments, figures, tables
from experiments.levels import measure, methods, vectors

_VECTORS = flags.DEFINE_string("vectors", "", "folder of recorded vectors, .npz")
_SMALL = flags.DEFINE_boolean(
    "small", False, "whether recorded leaves that `small_leaves` keeps exact count, too"
)
_LAWS = flags.DEFINE_list("laws", ["network"], f"of {', '.join(vectors.LAWS)}, or none")
_BITS = flags.DEFINE_list("bits", ["2", "3", "4"], "per coordinate, 1 to 8")
_NORMS = flags.DEFINE_list("norms", ["inf"], "of inf, 2, 1")
_BUCKETS = flags.DEFINE_list("buckets", ["1024"], "sizes of buckets; 0 for one bucket")
_METHODS = flags.DEFINE_list(
    "methods", [], f"of {', '.join(map(repr, methods.NAMES))}; all if left out"
)
_OUTPUT = flags.DEFINE_string("output", "", "folder for levels.csv and levels.png")

NORMS = {"inf": math.inf, "2": 2, "1": 1}


def rows_of(
    name_of: str, source: vectors.Source, of: methods.Setting, only: list[str]
) -> list[tables.Row]:
    """A row for each method."""
    rows: list[tables.Row] = []
    base = None
    for name in methods.NAMES:
        wanted = not only or name in (*only, "uniform")
        if not wanted:
            continue
        exchange = methods.exchange(name, of, source.vector, source.first)
        if exchange is None:
            continue
        found = measure.measure(exchange, source.vector)
        base = found["error"] if name == "uniform" else base
        assert base is not None  # uniform comes first
        predicted = found["predicted"]
        rows.append(
            {
                "vector": name_of,
                "bits": of.bits,
                "norm": "inf" if of.norm == math.inf else of.norm,
                "bucket": of.bucket_size or 0,
                "method": name,
                "error": found["error"],
                "gain": base / found["error"] if found["error"] else "",
                "predicted": predicted / found["error"]
                if predicted and found["error"]
                else "",
                "bits/coord": found["bits"],
                "entropy": found["entropy"],
                "huffman": found["huffman"],
                "bound": found["bound"],
            }
        )
    return rows


def main(argv: list[str]) -> None:
    """Measures all combinations."""
    folder = arguments.output_folder(_OUTPUT.value, argv)
    bits = arguments.whole_numbers("bits", _BITS.value, 1, 8)
    buckets = arguments.whole_numbers("buckets", _BUCKETS.value, 0, 2**30)
    norms = arguments.names("norms", _NORMS.value, tuple(NORMS))
    only = _METHODS.value
    only = only and arguments.names("methods", only, methods.NAMES)
    laws = _LAWS.value
    laws = [] if laws == ["none"] else arguments.names("laws", laws, vectors.LAWS)
    try:
        sources = vectors.sources(laws, _VECTORS.value, small=_SMALL.value)
    except ValueError as error:
        raise app.UsageError(str(error)) from None
    print(f"jax {jax.__version__} on {jax.devices()[0].device_kind}", flush=True)
    rows: list[tables.Row] = []
    for name, source in sources.items():
        for norm in norms:
            for size in buckets:
                for b in bits:
                    of = methods.Setting(b, NORMS[norm], size or None)
                    found = rows_of(name, source, of, only)
                    tables.print_table(found)
                    print(flush=True)
                    rows += found
                    if folder:
                        tables.write_csv(rows, folder / "levels.csv")
    if folder:
        figures.write_figure(
            rows, folder / "levels.png", x="bits/coord", y=["error"],
            by=["vector", "method"], log="y",
        )  # fmt: skip
        print(f"written to {folder}: levels.csv, levels.png")


if __name__ == "__main__":
    arguments.run(main)
