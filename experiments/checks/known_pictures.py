"""Whether scores tell good pictures from bad ones: on sets whose order is known.

    python -m experiments.checks.known_pictures --source=cifar10

Each row is a set of pictures, scored against the test split: other real pictures,
those with noise of 5, 10, 20 and 40 levels, blurred once and twice, real pictures cut
into halves and joined wrongly, ten pictures again and again, and two sets of noise:
with the mean and covariance of real pictures, and with each pixel's mean and deviation
alone. A score that is to be trusted has the real pictures first, and each of the others
further away the worse it is.
"""

from absl import app, flags

from experiments.cifar10_gan.data.pictures import to_signed
from experiments.cifar10_gan.data.sources import load_pictures
from experiments.cifar10_gan.reporting.score import sliced_wasserstein
from experiments.common.tables import print_table, write_csv
from experiments.scores.judge import TITLES, Judge
from experiments.scores.known import known_sets, out_of_order

_SOURCE = flags.DEFINE_string("source", "cifar10", "of pictures, as of the GAN")
_SIZE = flags.DEFINE_integer(
    "size", 10_000, "pictures in a set, at most", lower_bound=2
)
_OUTPUT = flags.DEFINE_string("output", "", "a CSV file; empty: none")


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
