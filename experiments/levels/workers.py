"""What the mean of K workers errs by: rounding, levels, buckets and scales together.

    python -m experiments.levels.workers [--workers=3,8] [--bits=4,3,2] [--size=65536]
        [--vectors=FOLDER] [--output=FOLDER]

Vectors of K workers, normal or Student's t with 3 degrees of freedom, unlike or all
equal; or recorded ones, by `--record_vectors` of the GAN program or `--record` of the
transformer, for as many workers as there are. Errors are exact, by
`bounds.mean_variance`: E ||mean Q(v_k) - mean v_k||^2 over mean ||v_k||^2; levels are
fitted to the first worker's vector. For each a row:

    uniform     `uniform(bits)` with independent rounding: the paper's quantizer
    correlated  its error over that of `uniform(bits)` in an exchange
    adaptive    over that of `adaptive(bits)`, all 2^bits levels, in an exchange
    narrow      the same in buckets of 128 with scales of 16 bits, 0.094 bits more
    dithered    over that of `dithered(bits)` in an exchange
    best        over that of `best(bits)`, 0.031 bits more
    narrow x, best x
                those over 4^(the bits more): what they are worth for equal bytes

FOLDER gets workers.csv.
"""

import dataclasses
from collections.abc import Iterator

import jax
import numpy as np
from absl import app, flags

import qgenx_jax as qgenx
from experiments.common import arguments, tables
from experiments.levels.vectors import of_workers

_WORKERS = flags.DEFINE_list("workers", ["3", "8"], "K, each")
_BITS = flags.DEFINE_list("bits", ["4", "3", "2"], "per coordinate, 2 to 8")
_SIZE = flags.DEFINE_integer("size", 2**16, "coordinates of a vector", lower_bound=256)
_VECTORS = flags.DEFINE_string("vectors", "", "folder of recorded vectors, .npz")
_OUTPUT = flags.DEFINE_string("output", "", "folder for workers.csv")

LAWS = ("normal", "t3")


def drawn(law: str, workers: int, size: int, *, equal: bool) -> np.ndarray:
    """Vectors (K, size), float32, always the same."""
    rng = np.random.default_rng(workers)
    shape = (1 if equal else workers, size)
    x = rng.normal(size=shape) if law == "normal" else rng.standard_t(3, shape)
    return np.broadcast_to(x.astype(np.float32), (workers, size))


def fitted(vector: np.ndarray, own: qgenx.Quantizer) -> qgenx.Quantizer:
    """What a quantizer that is fitted becomes for a vector."""
    one = qgenx.exchange(None, own)
    _, state = jax.jit(one.mean)(vector, one.init())
    levels = tuple(map(float, state.levels["all"]))
    return dataclasses.replace(own, levels=levels, refresh=None)


def row_of(name: str, x: np.ndarray, bits: int) -> tables.Row:
    """One row of the table, for the vectors (K, d) of a name."""
    workers, size = x.shape
    energy = float(np.mean(np.sum(np.square(x, dtype=np.float64), axis=1)))

    def error(quantizer: qgenx.Quantizer, rounding: str = "correlated") -> float:
        found = qgenx.bounds.mean_variance(x, quantizer, rounding=rounding)
        return float(np.sum(found)) / energy

    plain = qgenx.uniform(bits)
    best = qgenx.best(bits)
    narrow = qgenx.adaptive(bits, bucket_size=128, scale_bits=16)
    base = error(plain, "independent")

    def gain(quantizer: qgenx.Quantizer) -> float:
        return base / error(fitted(x[0], quantizer))

    def for_equal_bytes(quantizer: qgenx.Quantizer) -> float:
        return 4 ** (8 * (plain.n_bytes(size) - quantizer.n_bytes(size)) / size)

    of_narrow, of_best = gain(narrow), gain(best)
    return {
        "vectors": name,
        "K": workers,
        "bits": bits,
        "uniform": base,
        "correlated": base / error(plain),
        "adaptive": gain(qgenx.adaptive(bits)),
        "narrow": of_narrow,
        "dithered": gain(qgenx.dithered(bits)),
        "best": of_best,
        "narrow x": of_narrow * for_equal_bytes(narrow),
        "best x": of_best * for_equal_bytes(best),
    }


def _sources(workers: list[int]) -> Iterator[tuple[str, list[np.ndarray]]]:
    """Names, and the vectors (K, d) of each."""
    if _VECTORS.value:
        for flag in (_WORKERS, _SIZE):
            if flag.present:
                raise app.UsageError(
                    f"--{flag.name} must be left out with --vectors, which have theirs"
                )
        for name, x in of_workers(_VECTORS.value).items():
            yield name, [x]
        return
    for law in LAWS:
        for equal in (False, True):
            each = [drawn(law, k, _SIZE.value, equal=equal) for k in workers]
            yield f"{law}, {'equal' if equal else 'unlike'}", each


def main(argv: list[str]) -> None:
    """Measures all combinations."""
    folder = arguments.output_folder(_OUTPUT.value, argv)
    workers = arguments.whole_numbers("workers", _WORKERS.value, 1, 256)
    bits = arguments.whole_numbers("bits", _BITS.value, 2, 8)
    rows: list[tables.Row] = []
    for name, vectors in _sources(workers):
        found = [row_of(name, x, b) for x in vectors for b in bits]
        tables.print_table(found)
        print(flush=True)
        rows += found
    if folder:
        tables.write_csv(rows, folder / "workers.csv")
        print(f"written to {folder}: workers.csv")


if __name__ == "__main__":
    arguments.run(main)
