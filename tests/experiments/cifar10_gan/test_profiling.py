"""Traces of iterations, and that a step asks the host for nothing."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.cifar10_gan import run as runs
from experiments.cifar10_gan import train
from experiments.cifar10_gan.parsing import parse_range
from tests.lib.tiny_runs import TINY, preparing_once


@pytest.fixture(scope="module", autouse=True)
def _prepare_once(tmp_path_factory):
    with preparing_once(tmp_path_factory.mktemp("cache")):
        yield


@pytest.mark.parametrize("asked", ["2-3", "3-9"])
def test_a_trace_is_written_also_where_the_run_ends_before(tmp_path, asked):
    workdir = train.train(
        dataclasses.replace(TINY, workdir=str(tmp_path / "run"), profile=asked)
    )
    traces = list((workdir / "profile").rglob("*.xplane.pb"))
    assert len(traces) == 1
    assert traces[0].stat().st_size > 0


def test_a_step_transfers_nothing_that_is_not_asked_for(tmp_path, monkeypatch):
    with jax.transfer_guard("disallow"), pytest.raises(Exception, match="transfer"):
        jnp.sin(np.ones(3))  # the guard guards here, too

    create = runs.steps.create_step

    def create_guarded(*arguments):
        step = create(*arguments)
        calls = []

        def guarded(*inputs):
            calls.append(inputs[1])
            # the first call compiles, with constants of the program
            with jax.transfer_guard("disallow" if len(calls) > 1 else "allow"):
                return step(*inputs)

        return guarded

    monkeypatch.setattr(runs.steps, "create_step", create_guarded)
    train.train(dataclasses.replace(TINY, workdir=str(tmp_path / "run")))


def test_ranges():
    assert parse_range("profile", " 2 - 5 ") == (2, 5)
    assert parse_range("profile", "") is None
    for text in ("5", "a-b", "0-3", "-3"):
        with pytest.raises(ValueError, match="two iterations with a dash"):
            parse_range("profile", text)
    with pytest.raises(ValueError, match="must not end before it starts"):
        parse_range("profile", "5-3")
