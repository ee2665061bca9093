"""What measured errors, bytes and copies say of an exchange, without a mesh."""

import math
import re
from typing import NamedTuple

import numpy as np

SIGMAS = 5.0
"""Standard errors that a statistic may be off by; one in three million is by chance."""
NOTHING = 1e-9
"""A squared error, relative to the vectors', that rounding of float32 explains."""


class Verdict(NamedTuple):
    """What one check found.

    Attributes:
        name: of the check.
        ok: whether it holds; None where it does not apply.
        text: the numbers, in words.
    """

    name: str
    ok: bool | None
    text: str


def unbiased(errors: np.ndarray, scale: float) -> Verdict:
    """Whether errors of independent draws have the mean 0.

    Of draws s != t the products <e_s, e_t> have the mean ||b||^2, with b the bias, and
    are uncorrelated where b = 0, whatever the law of an error is: their mean over pairs
    is compared with its standard error.

    Args:
        errors: (T, d), mean less exact mean, of T draws by keys of their own.
        scale: ||exact mean||^2.
    """
    draws = len(errors)
    gram = errors.astype(np.float64) @ errors.T.astype(np.float64)
    pairs = gram[np.triu_indices(draws, 1)]
    bias = float(pairs.mean())
    if abs(pairs).max() <= NOTHING * scale:
        return Verdict("unbiased", True, "no error at all")
    sigma = float(pairs.std() / math.sqrt(pairs.size))
    z = bias / sigma if sigma > 0 else math.inf * np.sign(bias)
    ok = z < SIGMAS or bias <= NOTHING * scale
    text = f"||bias||^2 is {z:.1f} standard errors above 0, of {draws} draws; below "
    return Verdict("unbiased", bool(ok), f"{text}{SIGMAS:.0f} is wanted")


def apart(products: np.ndarray) -> Verdict:
    """Whether workers with equal vectors round by bits of their own.

    Args:
        products: (T,), of T draws sum_{j != k} <e_j, e_k> / ((K - 1) sum_k ||e_k||^2):
            1 where all round alike, 0 on average where independently, less where they
            round together.
    """
    mean, sigma = products.mean(), products.std() / math.sqrt(len(products))
    ok = mean <= SIGMAS * max(sigma, 1e-3)
    text = f"errors of workers with equal vectors have a correlation of {mean:+.3f}"
    return Verdict("streams apart", bool(ok), f"{text}; 1 where all use the same bits")


def replicas(prints: np.ndarray) -> Verdict:
    """Whether all workers have the same means.

    Args:
        prints: (T, K), a fingerprint of each worker's mean at each draw.
    """
    differ = np.flatnonzero((prints != prints[:, :1]).any(axis=1))
    if not differ.size:
        text = (
            f"{prints.shape[1]} workers, {prints.shape[0]} means, all equal bit for bit"
        )
        return Verdict("replicas identical", True, text)
    odd = np.flatnonzero(prints[differ[0]] != prints[differ[0], 0]).tolist()
    text = f"at {differ.size} of {len(prints)} exchanges workers {odd} differ from 0"
    return Verdict("replicas identical", False, text)


_COLLECTIVE = re.compile(
    r"= (?P<result>.*?) (?P<op>all-gather|all-reduce|reduce-scatter|all-to-all|"
    r"collective-permute)(?P<start>-start)?\("
)
_ARRAY = re.compile(r"(?P<kind>pred|[a-z]+)(?P<bits>\d*)[a-z0-9]*\[(?P<shape>[\d,]*)\]")


class Moved(NamedTuple):
    """A collective of a compiled program.

    Attributes:
        op: as XLA names it.
        kind: "f" of a float, "u" of unsigned whole numbers, and so on.
        n_bytes: that one device receives from others.
    """

    op: str
    kind: str
    n_bytes: int


def moved(program: str, workers: int) -> list[Moved]:
    """The collectives in a program's text, over K workers."""
    share = {
        "all-gather": lambda n: n * (workers - 1) // workers,
        "all-to-all": lambda n: n * (workers - 1) // workers,
        "all-reduce": lambda n: 2 * n * (workers - 1) // workers,
        "reduce-scatter": lambda n: n * (workers - 1),
        "collective-permute": lambda n: n,
    }
    found = []
    for match in _COLLECTIVE.finditer(program):
        arrays = []
        for array in _ARRAY.finditer(match["result"]):
            count = math.prod(int(n) for n in array["shape"].split(",") if n)
            bits = int(array["bits"] or 8)
            arrays.append((count * bits // 8, array["kind"]))
        if not arrays:
            continue
        # what is started has its operand beside its result
        sizes = [size for size, _ in arrays]
        total = max(sizes) if match["start"] else sum(sizes)
        kind = max(arrays)[1]
        found.append(Moved(match["op"], kind[0], share[match["op"]](total)))
    return found


def as_predicted(found: list[Moved], predicted: int, most_floats: float) -> Verdict:
    """Whether a program moves the bytes that `Traffic` counts, and no floats instead.

    Args:
        found: the program's collectives.
        predicted: `Traffic.received_bytes`.
        most_floats: bytes of floats that may travel: any, of an exact exchange; else
            none, or those of the statistics that levels are fitted to, not counted.
    """
    floats = sum(one.n_bytes for one in found if one.kind in "fb")
    others = sum(one.n_bytes for one in found) - floats
    total = others + floats if math.isinf(most_floats) else others
    text = f"{predicted:,} received by each, {total:,} in the compiled program"
    if floats and not math.isinf(most_floats):
        what = "to fit levels" if floats <= most_floats else "which nothing explains"
        text += f", and {floats:,} of floats, {what}"
    # a share of a buffer is rounded down once for each collective
    ok = abs(total - predicted) <= len(found) and floats <= most_floats
    return Verdict("bytes as predicted", bool(ok and found), text)
