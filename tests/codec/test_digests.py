"""Bytes on the wire and decoded values are what they have been since 0dd6525.

`python -m experiments.checks.digests` compares all that are stored; of them these are
some, in which any two of family, width, norm, dtype and size meet where so few can.
Whoever changes them on purpose prints new ones, and says so in the changelog: payloads
of two versions do not mix.
"""

import pytest

from experiments.checks import digests

pytestmark = pytest.mark.usefixtures("compiled_plainly")

SOME = (
    2,
    10,
    13,
    24,
    25,
    27,
    33,
    36,
    48,
    51,
    56,
    57,
    59,
    63,
    69,
    75,
    76,
    81,
    83,
    86,
    88,
    91,
    96,
    98,
    101,
)
PAYLOADS = {
    "payloads uniform": "805443153b6ddb9e",
    "payloads exponential": "43e44e0cd4e863ad",
    "payloads user_levels": "628ddd3cabe60625",
    "payloads min_max": "b6d309821e2eb3e1",
    "payloads without zero": "bfa50151f7be7b3d",
    "payloads signed": "fe99193f14014b02",
    "payloads range": "6216dd675021d27e",
    "payloads dithered": "dfc0ee184d43ff00",
    "payloads rotated": "cf933dbd36a0970e",
}
EXCHANGES = (
    "exact",
    "all_gather one bucket",
    "all_gather signed",
    "all_gather range",
    "all_gather labels",
    "all_gather rotated",
    "reduce_scatter dithered",
    "reduce_scatter uniform(8, 200)",
    "reduce_scatter without zero",
    "reduce_scatter small",
    "second",
    "together all_gather uniform",
    "together reduce_scatter exponential",
)
SAME = "other bytes or values than before: a program moved a bit"


def test_payloads_and_values_of_every_family_width_norm_and_dtype():
    assert digests.payloads(SOME) == PAYLOADS, SAME


def test_means_and_own_vectors_by_all_gather_and_reduce_scatter():
    stored = {
        f"exchange {name}": digests.STORED[f"exchange {name}"] for name in EXCHANGES
    }
    assert digests.exchanges(EXCHANGES) == stored, SAME


def test_means_over_hosts():
    found = digests.hierarchical()
    assert found == {name: digests.STORED[name] for name in found}, SAME
    assert len(found) == 2
