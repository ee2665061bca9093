"""Bytes on the wire and decoded values are what they have been since 0dd6525.

Whoever changes them on purpose prints new ones, `python -m experiments.checks.digests`,
and says so in the changelog: payloads of two versions do not mix.
"""

import pytest

from experiments.checks import digests

pytestmark = pytest.mark.usefixtures("compiled_plainly")

PAYLOADS = {
    "payloads uniform": "b6e50b0983572f1c",
    "payloads exponential": "38a72f4ad57ac266",
    "payloads user_levels": "308b9d94ca7947ce",
    "payloads min_max": "97e958605beac543",
    "payloads without zero": "55287dea6e4e4474",
    "payloads signed": "4555ba7c2f42682e",
}
EXCHANGES = {
    "exchange exact": "dd488c6d171016bd",
    "exchange all_gather uniform(4)": "434642508917bf35",
    "exchange all_gather uniform(8, 200)": "f22c08af785b054d",
    "exchange all_gather uniform(1)": "cf5c1d5eb9f44b82",
    "exchange all_gather min_max(2)": "065a6fe8accdd4da",
    "exchange all_gather levels": "462fc6136b233620",
    "exchange all_gather without zero": "b49778d2a00382c2",
    "exchange all_gather signed": "c23bb55364d7b89d",
    "exchange all_gather one bucket": "192f4b73cc5ab2a1",
    "exchange all_gather small": "7a08b0f63d6954f3",
    "exchange all_gather labels": "97c3f8307e26f0ba",
    "exchange reduce_scatter uniform(4)": "348d3c023f5d9ea7",
    "exchange reduce_scatter uniform(8, 200)": "b5783571b244c2b6",
    "exchange reduce_scatter uniform(1)": "114f05d90997d372",
    "exchange reduce_scatter min_max(2)": "ef74969751b6d3b1",
    "exchange reduce_scatter levels": "db22f16add72b322",
    "exchange reduce_scatter without zero": "f17aba639ab75a73",
    "exchange reduce_scatter signed": "787cfc392f2ea19f",
    "exchange reduce_scatter one bucket": "6270ce7786315eaa",
    "exchange reduce_scatter small": "d19352f980652bd5",
    "exchange reduce_scatter labels": "51343fed2879fc88",
    "exchange second": "acabe819cb46f80d",
    "exchange together all_gather uniform": "f642c9bea70bf21e",
    "exchange together all_gather exponential": "393991d41cc817f2",
    "exchange together reduce_scatter uniform": "ac800de45c6dd106",
    "exchange together reduce_scatter exponential": "f4d4b08f0e19b48e",
}
HIERARCHICAL = {
    "hierarchical uniform": "ef75bae471300ad4",
    "hierarchical min_max": "cdd9844a61766461",
}
SAME = "other bytes or values than before: a program moved a bit"


def test_payloads_and_values_of_every_family_width_norm_and_dtype():
    assert digests.payloads() == PAYLOADS, SAME


def test_means_and_own_vectors_by_all_gather_and_reduce_scatter():
    assert digests.exchanges() == EXCHANGES, SAME


def test_means_over_hosts():
    assert digests.hierarchical() == HIERARCHICAL, SAME
