"""Which bucket and scale: the variance of dither over bits, on recorded vectors.

    python -m experiments.levels.buckets [--vectors=FOLDER] [--laws=normal,t3,sparse]
        [--bits=4,3,2] [--rotate] [--output=FOLDER]

Vectors are recorded ones, or draws from laws: normal; Student's t with 3 degrees of
freedom; `sparse`, normal where one of twenty coordinates is not zero; `one`, in each
1024 one other than zero.

For each vector and number of bits a row. `uniform` is E||Q(v) - v||^2 / ||v||^2 of
`uniform(bits)`; the other columns, by bucket size and bits of a scale, are that over
the same of `dithered` with the best bend, divided by 4^(bits more that scales take):
what it is worth for equal bytes; `plain` is that of `uniform(bits)` itself, 1. With
--rotate all of these are `qgenx.rotated`, but for the one that they are compared with,
and bends are fitted to buckets that were turned in NumPy, by other signs.
FOLDER gets buckets.csv.
"""

import numpy as np
from absl import app, flags

import qgenx_jax as qgenx
from experiments.common import arguments, tables
from experiments.levels.vectors import recorded

_VECTORS = flags.DEFINE_string("vectors", "", "folder of recorded vectors, .npz")
_LAWS = flags.DEFINE_list("laws", [], "of normal, t3, sparse, one")
_BITS = flags.DEFINE_list("bits", ["4", "3", "2"], "per coordinate, 1 to 8")
_ROTATE = flags.DEFINE_boolean("rotate", False, "whether buckets are rotated")
_OUTPUT = flags.DEFINE_string("output", "", "folder for buckets.csv")

BUCKETS = ((1024, 32), (512, 16), (256, 16), (128, 16), (64, 16))
"""Sizes, and bits of a scale."""


LAWS = ("normal", "t3", "sparse", "one")


def drawn(law: str, size: int = 2**18) -> np.ndarray:
    """A vector of a law, float32, always the same."""
    rng = np.random.default_rng(LAWS.index(law))
    if law == "t3":
        return rng.standard_t(3, size).astype(np.float32)
    x = rng.normal(size=size)
    if law == "sparse":
        x *= rng.uniform(size=size) < 0.05
    if law == "one":
        x *= np.arange(size) % 1024 == 17
    return x.astype(np.float32)


def rotated(flat: np.ndarray, size: int) -> np.ndarray:
    """Whole buckets of a power of two, times random signs and H / sqrt(size)."""
    rows = flat[: flat.size // size * size].reshape(-1, size).astype(np.float64)
    rows = rows * np.random.default_rng(0).choice([-1.0, 1.0], size)
    half = 1
    while half < size:
        pairs = rows.reshape(-1, size // (2 * half), 2, half)
        low, high = pairs[:, :, 0], pairs[:, :, 1]
        rows = np.stack([low + high, low - high], axis=2).reshape(-1, size)
        half *= 2
    return (rows / np.sqrt(size)).ravel().astype(np.float32)


def row_of(name: str, flat: np.ndarray, bits: int, *, rotate: bool) -> tables.Row:
    """One row of the table."""
    flat = flat[: flat.size // 1024 * 1024]
    energy = float(np.sum(np.square(flat, dtype=np.float64)))
    base = float(np.sum(qgenx.bounds.exact_variance(flat, qgenx.uniform(bits))))
    row: tables.Row = {"vector": name, "bits": bits, "uniform": base / energy}

    def variance(quantizer: qgenx.Quantizer) -> float:
        of = qgenx.rotated(quantizer) if rotate else quantizer
        return float(np.sum(qgenx.bounds.exact_variance(flat, of)))

    def gain(quantizer: qgenx.Quantizer) -> float:
        found = variance(quantizer)
        return base / found if found else np.inf

    row["plain"] = gain(qgenx.uniform(bits))
    for size, scale in BUCKETS:
        x = rotated(flat, size) if rotate else flat
        bend = qgenx.fit_bend(x, bits, bucket_size=size)
        of = {"bucket_size": size, "scale_bits": scale}
        found = gain(qgenx.dithered(bits, bend=bend, **of))
        row[f"{size}, {scale}"] = found / 4 ** (scale / size - 32 / 1024)
    return row


def main(argv: list[str]) -> None:
    """Measures all vectors."""
    folder = arguments.output_folder(_OUTPUT.value, argv)
    bits = arguments.whole_numbers("bits", _BITS.value, 1, 8)
    laws = _LAWS.value and arguments.names("laws", _LAWS.value, LAWS)
    try:
        vectors = {} if laws and not _VECTORS.value else recorded(_VECTORS.value)
    except ValueError as error:
        raise app.UsageError(f"--{error}") from None
    flats = {law: drawn(law) for law in laws}
    for name, leaves in vectors.items():
        flats[name] = np.concatenate([np.ravel(x) for x in leaves.values()])
    rows: list[tables.Row] = []
    for name, flat in flats.items():
        rows += [row_of(name, flat, b, rotate=_ROTATE.value) for b in bits]
    tables.print_table(rows)
    if folder:
        tables.write_csv(rows, folder / "buckets.csv")
        print(f"written to {folder}: buckets.csv")


if __name__ == "__main__":
    arguments.run(main)
