"""The file on codes of recorded vectors: rows for groups, levels in use, resuming."""

import types

import jax.numpy as jnp
import numpy as np
import pytest

import qgenx_jax as qgenx
from experiments.cifar10_gan.reporting.codes import COLUMNS, CodesLog
from experiments.common.codes import code_bits
from experiments.common.tables import read_csv
from tests.lib.helpers import compiling_plainly

pytestmark = pytest.mark.quick


@pytest.fixture(autouse=True)
def _cheaply():
    with compiling_plainly():
        yield


RNG = np.random.default_rng(0)
VECTOR = {
    "bias": RNG.normal(size=40).astype(np.float32),
    "kernel": RNG.standard_t(3, size=(64, 64)).astype(np.float32),
    "out": RNG.normal(size=(16, 16)).astype(np.float32),
}
LEVELS = np.asarray([0.05, 0.2, 0.5, 1.0], np.float32)


def run_of(iteration, kernel):
    each = {"kernel": kernel, "out": qgenx.uniform(4), "exact": None}
    labels = {"bias": "exact", "kernel": "kernel", "out": "out"}
    exchange = qgenx.exchange("workers", each, labels=labels)
    state = exchange.init()
    return types.SimpleNamespace(
        iteration=iteration,
        method=types.SimpleNamespace(exchange=exchange),
        training=types.SimpleNamespace(state=("moments", state)),
    )


def test_groups_have_rows_by_the_levels_of_the_state(tmp_path):
    run = run_of(7, qgenx.adaptive(3))
    run.training.state[1].levels["kernel"] = jnp.asarray(LEVELS)
    with CodesLog(tmp_path / "codes.csv", resume_at=None) as log:
        log.record(run, VECTOR)
    rows = read_csv(tmp_path / "codes.csv")
    assert [tuple(row.values())[:5] for row in rows] == [
        ("7", "kernel", "levels_without_zero", "4096", "3.0"),
        ("7", "out", "uniform", "256", "4.0"),
    ]
    assert tuple(rows[0]) == COLUMNS
    by_hand = qgenx.user_levels(list(map(float, LEVELS)), zero=False)
    kernel = jnp.ravel(VECTOR["kernel"])
    expected = code_bits(kernel, by_hand)
    other = code_bits(kernel, qgenx.adaptive(3))
    for name in ("entropy", "huffman", "bound"):
        found = float(rows[0][name])
        # levels of a quantizer are on a grid of 2^-12, those of a state as they are
        assert found == pytest.approx(getattr(expected, name) / 4096, rel=2e-3), name
        assert abs(found - getattr(other, name) / 4096) > 0.1, "levels of the start"


def test_nothing_is_written_where_nothing_is_quantized(tmp_path):
    run = run_of(0, None)
    run.method.exchange = qgenx.exchange("workers", None)
    with CodesLog(tmp_path / "codes.csv", resume_at=None) as log:
        log.record(run, VECTOR)
    assert not (tmp_path / "codes.csv").exists()


def test_a_resumed_run_counts_no_vector_twice(tmp_path):
    path, quantizer = tmp_path / "codes.csv", qgenx.uniform(3)
    with CodesLog(path, resume_at=None) as log:
        for iteration in (1, 5, 9):
            log.record(run_of(iteration, quantizer), VECTOR)
    with CodesLog(path, resume_at=4) as log:
        log.record(run_of(5, quantizer), VECTOR)
    assert [row["iteration"] for row in read_csv(path)] == ["1", "1", "5", "5"]
