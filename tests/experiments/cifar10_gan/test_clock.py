"""The training clock, on a time that the test sets."""

import pytest

from experiments.cifar10_gan import clock as clocks
from experiments.cifar10_gan.clock import Clock


@pytest.fixture
def now(monkeypatch):
    time = [100.0]
    monkeypatch.setattr(clocks.time, "monotonic", lambda: time[0])
    return time


def stretch(clock, now, iterations, seconds, **kind):
    clock.start()
    for _ in range(iterations):
        clock.count()
    now[0] += seconds
    clock.stop(**kind)


def test_compiling_counts_as_long_as_the_iterations_after_it(now):
    clock = Clock()
    stretch(clock, now, 1, 30.0, compiled=True)
    assert clock.training == 0
    stretch(clock, now, 4, 2.0)
    assert clock.training == pytest.approx(2.5), "5 iterations of 0.5 s"
    stretch(clock, now, 4, 2.0)
    assert clock.training == pytest.approx(4.5)
    assert clock.in_all == pytest.approx(34.0)


def test_what_lies_between_stretches_is_not_training(now):
    clock = Clock(training=10.0, in_all=20.0)
    stretch(clock, now, 2, 1.0)
    now[0] += 7.0  # a score
    stretch(clock, now, 2, 1.0)
    assert (clock.training, clock.in_all) == pytest.approx((12.0, 29.0))


def test_a_stretch_without_iterations_is_none(now):
    clock = Clock()
    stretch(clock, now, 0, 3.0)
    clock.stop()
    assert (clock.training, clock.in_all) == pytest.approx((0.0, 3.0))


def test_a_checkpoint_keeps_all_of_it(now):
    clock = Clock()
    now[0] += 50.0  # setting up
    clock.begin()
    stretch(clock, now, 1, 30.0, compiled=True)
    now[0] += 7.0  # a score before the checkpoint
    facts = clock.facts()
    assert facts == {"seconds": 0.0, "seconds_in_all": 37.0, "untimed": 1}
    resumed = Clock(*facts.values())
    stretch(resumed, now, 2, 1.0)
    assert (resumed.training, resumed.in_all) == pytest.approx((1.5, 38.0))
