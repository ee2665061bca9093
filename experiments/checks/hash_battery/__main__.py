"""A battery of statistical tests for the source of the bits that decide roundings.

    python -m experiments.checks.hash_battery --log2=26 --seed=0

draws 2^log2 numbers for each test from `coordinates`, prints a table and exits with 1
if a statistic is 5 standard deviations or more from what independent, uniform bits
give. A test with many statistics (lags, pairs of streams, pairs of bits) has a row for
their sum and one for the worst of them, whose p value counts how many they are; z is
the normal deviate of that p value. A row alone is a false alarm once in 1.7 million.

- values: chi-square of bytes and of all 2^16 values along one stream, which are
  drawn without replacement from the 2^32 words of a bijection; gaps and collisions.
- pairs: chi-square of the table of two bytes at distance `LAGS`, given its margins.
- serial: correlations of values, and of "below a threshold", which a rounding sees,
  along a stream and across two workers, at every distance (by an FFT) and at `LAGS`.
- streams: the same at equal positions of the streams of one exchange and the next
  (steps, parts, workers, chunks, phases), of the keys of successive seeds, and of keys
  that share one of their two words.
- keys: one position over many keys, as one coordinate sees it while training goes on.
- avalanche: one bit of the position, of the key, or of the two words that are drawn
  from it flips each bit of the result with probability 1/2; the joint distribution of
  the flips, and the second word, are held to less (see `avalanche`).
- k_slope: the variance of the mean of K workers' roundings of one vector falls as 1/K.
"""

import argparse
import sys
import time

import jax

from experiments.checks.hash_battery.avalanche import avalanche
from experiments.checks.hash_battery.draws import coordinates
from experiments.checks.hash_battery.k_slope import k_slope
from experiments.checks.hash_battery.streams import keys, pairs, serial, streams, values

ALL = (values, pairs, serial, streams, keys, avalanche, k_slope)
TESTS = {test.__name__: test for test in ALL}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        "experiments.checks.hash_battery", description=__doc__
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--log2", type=int, default=26, help="of the draws, 18 to 28")
    parser.add_argument("--seed", type=int, default=0, help="of the keys, 0")
    parser.add_argument("--tests", nargs="+", choices=TESTS, default=list(TESTS))
    options = parser.parse_args()
    if not 18 <= options.log2 <= 28:
        parser.error(f"--log2 must be from 18 to 28, got {options.log2}")
    key, rows = jax.random.key(options.seed), []
    print(f"{'test':<52}{'statistic':>13}{'expected':>13}{'':>14}{'z':>8}")
    for name in options.tests:
        start = time.monotonic()
        for row in TESTS[name](coordinates, key, 2**options.log2):
            rows.append(row)
            numbers = f"{row.statistic:>13.6g}{row.expected:>13.6g}{row.spread:>14}"
            verdict = "" if row.ok else "  FAILS"
            print(f"{row.test:<52}{numbers}{row.z:>8.2f}{verdict}", flush=True)
        print(f"# {name}: {time.monotonic() - start:.0f} s", file=sys.stderr)
    failed = sum(not row.ok for row in rows)
    print(f"{len(rows)} rows of 2^{options.log2} draws, {failed} beyond 5 sigma")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
