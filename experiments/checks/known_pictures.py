"""Whether scores tell good pictures from bad ones: on sets whose order is known.

    python -m experiments.checks.known_pictures --source=cifar10

Each row is a set of pictures, scored against the test split: other real pictures,
those with noise of 5, 10, 20 and 40 levels, blurred once and twice, real pictures cut
into halves and joined wrongly, ten pictures again and again, and two sets of noise:
with the mean and covariance of real pictures, and with each pixel's mean and deviation
alone. A score that is to be trusted has the real pictures first, and each of the others
further away the worse it is.
"""

import itertools
from collections.abc import Iterator

import numpy as np
from absl import app, flags

from experiments.cifar10_gan.data.pictures import to_signed
from experiments.cifar10_gan.data.sources import load_pictures
from experiments.cifar10_gan.reporting.score import sliced_wasserstein
from experiments.common.tables import print_table, write_csv
from experiments.scores.judge import TITLES, Judge

_SOURCE = flags.DEFINE_string("source", "cifar10", "of pictures, as of the GAN")
_SIZE = flags.DEFINE_integer(
    "size", 10_000, "pictures in a set, at most", lower_bound=2
)
_OUTPUT = flags.DEFINE_string("output", "", "a CSV file; empty: none")

ORDERED = (
    ("real", "noise 5", "noise 10", "noise 20", "noise 40"),
    ("real", "blurred", "blurred twice"),
    ("real", "noise 5", "noise of the covariance", "noise of each pixel"),
    ("real", "wrong halves", "noise of the covariance"),
    ("real", "ten pictures"),
)
"""Sets of which each is worse than the one before."""


def known_sets(real: np.ndarray, *, seed: int = 0) -> Iterator[tuple[str, np.ndarray]]:
    """Sets of known worth, made of real pictures: names, and uint8 as `real`."""
    rng = np.random.default_rng(seed)
    yield "real", real
    for deviation in (5, 10, 20, 40):
        noise = deviation * rng.standard_normal(real.shape, np.float32)
        yield f"noise {deviation}", _rounded(real + noise)
    once = blurred(real)
    yield "blurred", once
    yield "blurred twice", blurred(once)
    half = real.shape[1] // 2
    yield (
        "wrong halves",
        np.concatenate([real[:, :half], np.roll(real, 1, 0)[:, half:]], 1),
    )
    yield "ten pictures", real[rng.integers(0, 10, len(real))]
    flat = real.reshape(len(real), -1).astype(np.float64)
    mean = flat.mean(axis=0)
    normal = rng.standard_normal(flat.shape)
    values, vectors = np.linalg.eigh(np.cov(flat.T))
    root = vectors * np.sqrt(np.maximum(values, 0))
    yield (
        "noise of the covariance",
        _rounded(mean + normal @ root.T).reshape(real.shape),
    )
    yield (
        "noise of each pixel",
        _rounded(mean + normal * flat.std(0)).reshape(real.shape),
    )


def blurred(pictures: np.ndarray) -> np.ndarray:
    """Each pixel the mean of the 3 x 3 around it, the edges repeated."""
    height, width = pictures.shape[1:3]
    wide = np.pad(
        pictures.astype(np.float32), [(0, 0), (1, 1), (1, 1), (0, 0)], mode="edge"
    )
    shifts = [
        wide[:, i : i + height, j : j + width] for i in range(3) for j in range(3)
    ]
    return _rounded(sum(shifts[1:], shifts[0]) / 9)


def out_of_order(values: dict[str, float]) -> list[str]:
    """Where a score has a set no worse than one that is better, in words."""
    return [
        f"{worse} ({values[worse]:.3g}) is not behind {better} ({values[better]:.3g})"
        for names in ORDERED
        for better, worse in itertools.pairwise(names)
        if not values[worse] > values[better]
    ]


def _rounded(values: np.ndarray) -> np.ndarray:
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


def main(argv: list[str]) -> None:
    """Prints the table, and what each score has out of order."""
    del argv
    test = load_pictures(_SOURCE.value, "test")[: _SIZE.value]
    train = load_pictures(_SOURCE.value)[: _SIZE.value]
    judge = Judge(test, ("frechet", "kid"))
    count = min(len(test), len(train))
    rows = []
    for name, pictures in known_sets(train):
        sliced = sliced_wasserstein(
            to_signed(pictures[:count]), to_signed(test[:count])
        )
        row = {"pictures": name, "sliced Wasserstein": sliced}
        values = judge.scores(pictures)
        row |= {title: values[key] for key, title in TITLES.items() if key in values}
        rows.append(row)
        print(f"{name}: done", flush=True)
    print()
    print_table(rows)
    if _OUTPUT.value:
        write_csv(rows, _OUTPUT.value)
    for title in list(rows[0])[1:]:
        wrong = out_of_order({row["pictures"]: row[title] for row in rows})
        print(f"\n{title}: " + ("; ".join(wrong) or "all in order"))


if __name__ == "__main__":
    app.run(main)
