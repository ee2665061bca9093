"""`check_exchange` finds nothing in good exchanges, and what is put into bad ones."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

import qgenx_jax as qgenx
from qgenx_jax._codec import bits
from qgenx_jax._exchange import exchange as exchange_file
from qgenx_jax._exchange.exchange import Exchange
from qgenx_jax._workers import collectives
from tests.lib.helpers import AXIS, mesh_of

pytestmark = pytest.mark.plainly
WORKERS = 3
NAMES = ["unbiased", "replicas identical", "streams apart", "bytes as predicted"]

GOOD = {
    "uniform": qgenx.exchange(AXIS, qgenx.uniform(4)),
    "independent": qgenx.exchange(AXIS, qgenx.uniform(2), rounding="independent"),
    "two phases": qgenx.exchange(AXIS, qgenx.best(4), collective="reduce_scatter"),
    "rotated": qgenx.exchange(AXIS, qgenx.rotated(qgenx.uniform(2))),
    "exact": qgenx.exchange(AXIS, None),
}


@pytest.mark.parametrize("name", GOOD)
def test_good_exchanges_pass(name):
    report = qgenx.check_exchange(GOOD[name], mesh_of(WORKERS), times=False)
    assert report.ok, str(report)
    assert [verdict.name for verdict in report.verdicts] == NAMES
    assert ("FAILED" in str(report)) is False


def test_a_tree_with_exact_leaves_and_a_mean():
    mean = qgenx.quantized_mean(AXIS, qgenx.uniform(4), collective="all_gather")
    like = {"kernel": jnp.zeros((64, 64), jnp.bfloat16), "bias": jnp.zeros(64)}
    report = qgenx.check_exchange(mean, mesh_of(WORKERS), like=like, times=False)
    assert report.ok, str(report)


def test_a_mean_as_it_stands():
    """Small leaves are exact by default: what is checked and timed is a matrix."""
    mean = qgenx.quantized_mean(AXIS, qgenx.uniform(4))
    report = qgenx.check_exchange(mean, mesh_of(2), draws=4)
    assert report.ok, str(report)
    assert len(report.times) == 3


def test_one_worker_alone():
    report = qgenx.check_exchange(qgenx.exchange(None, qgenx.uniform(4)), times=False)
    assert report.ok
    assert [verdict.ok for verdict in report.verdicts] == [True, True, None, None]


def found_in(exchange, which):
    report = qgenx.check_exchange(exchange, mesh_of(WORKERS), times=False)
    failed = [verdict.name for verdict in report.verdicts if verdict.ok is False]
    assert which in failed, str(report)
    assert not report.ok
    with pytest.raises(RuntimeError, match="does not do what it is to"):
        report.raise_if_failed()
    return failed


def fresh(**settings):
    """Of another bucket size than any other test's: nothing compiled is found again."""
    return qgenx.exchange(AXIS, qgenx.uniform(4, bucket_size=1000), **settings)


def test_biased_rounding_is_found(monkeypatch):
    """Always down: the random bits are all the largest."""
    full = lambda key, index: jnp.full(index.shape, 0xFFFFFFFF, jnp.uint32)  # noqa: E731
    monkeypatch.setattr(bits, "counter_words", full)
    jax.clear_caches()
    found_in(fresh(rounding="independent"), "unbiased")
    jax.clear_caches()


def test_a_stream_that_workers_share_is_found(monkeypatch):
    def shared(key, parts, vectors, axis_name, rounding):
        return [jax.random.fold_in(key, i) for i, _ in enumerate(parts)]

    monkeypatch.setattr(exchange_file, "streams_of", shared)
    assert found_in(fresh(), "streams apart") == ["streams apart"]


class ByFloats(Exchange):
    """What is rounded travels as floats, by an all-reduce."""

    def mean(self, tree, state, *, weight=None):
        (_, own, _), state = self.send(tree, state)
        total = collectives.all_reduce(own, self.axis_name)
        return jax.tree.map(lambda x: x / WORKERS, total), state


def test_floats_on_the_wire_are_found():
    good = fresh()
    fields = {f.name: getattr(good, f.name) for f in dataclasses.fields(good)}
    assert found_in(ByFloats(**fields), "bytes as predicted") == ["bytes as predicted"]


class Drifting(Exchange):
    """The mean is off by a little on the last worker."""

    def send(self, tree, state, *, scalar=None):
        (mean, own, scalars), state = super().send(tree, state, scalar=scalar)
        is_last = jax.lax.axis_index(self.axis_name) == WORKERS - 1
        off = jax.tree.map(lambda x: x * jnp.where(is_last, 1 + 2.0**-22, 1), mean)
        return (off, own, scalars), state


def test_replicas_that_differ_are_found():
    good = fresh()
    fields = {f.name: getattr(good, f.name) for f in dataclasses.fields(good)}
    assert found_in(Drifting(**fields), "replicas identical") == ["replicas identical"]


def test_times_are_in_the_report():
    report = qgenx.check_exchange(GOOD["uniform"], mesh_of(2), draws=4)
    assert [row.coordinates for row in report.times] == [2**14, 2**18, 2**22]
    assert report.pays in (True, False)
    assert "compression " in str(report)


@pytest.mark.quick
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"exchange": qgenx.uniform(4)}, "exchange must be of type Exchange"),
        ({"draws": 1}, "draws must be a whole number of at least 4"),
        ({"mesh": None}, "mesh must be given for workers along 'data'"),
        ({"like": jnp.zeros(3, int)}, "like"),
        ({"mesh": jax.make_mesh((1,), ("rows",))}, "must be an axis of the mesh"),
    ],
)
def test_bad_arguments(change, message):
    given = {"exchange": GOOD["uniform"], "mesh": mesh_of(2), **change}
    with pytest.raises(ValueError, match=message):
        qgenx.check_exchange(given.pop("exchange"), given.pop("mesh"), **given)
