"""Strict settings for all tests, and eight simulated devices, before JAX starts."""

import tests.lib.before_jax  # noqa: F401, I001  # first, since JAX imports NumPy

import collections
import gc
import os

import jax
import pytest

from tests.lib.helpers import compiling_plainly, xla_flags

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_numpy_rank_promotion", "raise")
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["XLA_FLAGS"] = xla_flags(plain=False)
gc.set_threshold(50_000)  # JAX keeps millions of objects: look through them less often


QUICK_ROWS = 2  # of a table, where its test is marked `quick`


@pytest.fixture
def compiled_plainly():
    """XLA compiles a test's programs with fewer optimizations, in a third of the time.

    For contracts that do not depend on how a program is compiled. What is claimed of
    bits and roundings is tested as users run it.
    """
    with compiling_plainly():
        yield


@pytest.fixture(autouse=True)
def _as_marked(request):
    """Rows of a table cannot use fixtures: they are marked `plainly`."""
    if request.node.get_closest_marker("plainly"):
        request.getfixturevalue("compiled_plainly")


def pytest_collection_modifyitems(config, items):
    """Examples in docstrings cannot be marked where they are: all are quick.

    Of a table whose test or module is marked, two rows are.
    """
    for item in items:
        if isinstance(item, pytest.DoctestItem):
            item.add_marker(pytest.mark.quick)
    if config.getoption("markexpr") != "quick":
        return
    rows = collections.Counter()
    others = []
    for item in items:
        if hasattr(item, "callspec") and item.get_closest_marker("quick"):
            rows[item.parent.nodeid, item.originalname] += 1
            if rows[item.parent.nodeid, item.originalname] > QUICK_ROWS:
                others.append(item)
    config.hook.pytest_deselected(items=others)
    gone = set(others)
    items[:] = [item for item in items if item not in gone]


@pytest.hookimpl(optionalhook=True)  # pytest-xdist's, without which all else works
def pytest_xdist_make_scheduler(config, log):
    """Neighbouring tests go to one worker, which compiles what they share once."""
    if config.getvalue("dist") != "load":  # somebody asked for another one
        return None
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log)
