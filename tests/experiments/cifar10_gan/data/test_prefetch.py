"""Batches made ahead are the same ones, at the position of what was consumed."""

import gc
import signal
import subprocess
import sys
import threading
import time
import traceback

import numpy as np
import pytest

from experiments.cifar10_gan.data.batches import Batches
from experiments.cifar10_gan.data.prefetch import Prefetched
from experiments.common.processes import ROOT

PICTURES = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), np.uint8)


def make():
    return Batches(PICTURES, batch_size=3, workers=2, seed=7, draws=2)


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "prefetch"]


def wait_until(what):
    deadline = time.monotonic() + 20
    while not what():
        assert time.monotonic() < deadline, "did not happen within 20 s"
        time.sleep(0.005)


@pytest.fixture(autouse=True)
def no_thread_is_left():
    assert not threads()
    # what other tests have left, programs by the thousand, takes seconds to go through
    gc.collect(0)
    gc.freeze()
    yield
    gc.collect()
    gc.unfreeze()
    wait_until(lambda: not threads())


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_the_same_batches_and_positions(depth):
    plain = make()
    with Prefetched(make(), depth=depth) as prefetched:
        assert prefetched.state() == plain.state()
        for iteration in range(7):  # four epochs and a bit
            expected = next(plain)
            assert np.array_equal(next(prefetched), expected), iteration
            assert prefetched.state() == plain.state(), "that of what was consumed"


def test_works_ahead_by_depth_and_no_more():
    placed = []

    def place(batch):
        placed.append(batch)
        return len(placed)

    with Prefetched(make(), depth=2, place=place) as prefetched:
        assert not threads(), "no thread before the first batch is asked for"
        for consumed in (1, 2, 3):
            assert next(prefetched) == consumed
            wait_until(lambda: len(placed) == consumed + 2)  # noqa: B023
        time.sleep(0.05)
        assert len(placed) == 5
    plain = make()
    assert all(np.array_equal(batch, next(plain)) for batch in placed)


def test_resumes_from_any_position():
    plain, states, batches = make(), [], []
    for _ in range(6):
        states.append(plain.state())
        batches.append(next(plain))
    with Prefetched(make()) as prefetched:
        for start in (3, 0, 5, 4):  # forwards and backwards, amid what is made ahead
            prefetched.restore(states[start])
            assert prefetched.state() == states[start]
            assert np.array_equal(next(prefetched), batches[start]), start
        with pytest.raises(ValueError, match="state must have seed 7"):
            prefetched.restore({**states[0], "seed": 8})
        assert prefetched.state() == states[5], "a refused position changes nothing"
        assert np.array_equal(next(prefetched), batches[5])
        prefetched.state()["epoch"] = 99
        assert prefetched.state() == plain.state(), "a copy was handed out"


def test_close_puts_the_batches_where_consumption_stopped():
    batches, plain = make(), make()
    prefetched = Prefetched(batches, depth=4)
    for _ in range(2):
        next(prefetched), next(plain)
    prefetched.close()
    prefetched.close()
    assert not threads()
    assert batches.state() == plain.state()
    assert np.array_equal(next(prefetched), next(plain)), "and it may go on"
    prefetched.close()


def fails_at(count):
    """A function of batches that fails once, at its call number `count`."""
    calls = []

    def place_that_fails(batch):
        calls.append(None)
        if len(calls) == count:
            raise OSError("the device is gone")
        return batch

    return place_that_fails


def test_an_error_reaches_the_consumer_when_its_batch_is_due():
    plain = make()
    prefetched = Prefetched(make(), depth=3, place=fails_at(3))
    for _ in range(2):
        assert np.array_equal(next(prefetched), next(plain))
    with pytest.raises(OSError, match="the device is gone") as caught:
        next(prefetched)
    frames = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert frames[-1] == "place_that_fails", f"the thread's traceback, got {frames}"
    assert not threads()
    assert prefetched.state() == plain.state(), "the position did not move"
    assert np.array_equal(next(prefetched), next(plain)), "the same batch once more"
    prefetched.close()


def test_collected_with_its_thread():
    prefetched = Prefetched(make())
    next(prefetched)
    assert len(threads()) == 1
    del prefetched
    wait_until(lambda: not threads())


def test_collected_in_a_cycle_by_its_own_thread():
    """The garbage collector may run its finalizer in the thread that it is to end."""
    collect = threading.Event()

    def place(batch):
        if collect.is_set():
            gc.collect()
        return batch

    gc.disable()
    try:
        prefetched = Prefetched(make(), depth=1, place=place)
        next(prefetched)
        next(prefetched)
        cycle = [prefetched]
        cycle.append(cycle)
        producer = prefetched._producer
        del prefetched, cycle
        collect.set()
        producer.take()  # makes room: the thread places one more, and collects
        wait_until(lambda: not threads())
    finally:
        gc.enable()


def test_an_interrupt_leaves_no_thread():
    def interrupted():
        with Prefetched(make()) as prefetched:
            next(prefetched)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not threads()


def test_an_interrupted_close_is_made_up_for(monkeypatch):
    plain, prefetched = make(), Prefetched(make())
    assert np.array_equal(next(prefetched), next(plain))

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "join", interrupt)
        with pytest.raises(KeyboardInterrupt):
            prefetched.close()
    stopped = prefetched._producer
    assert np.array_equal(next(prefetched), next(plain))
    assert prefetched._producer is not stopped, "a thread that ends makes no more"
    prefetched.close()


def test_an_interrupted_next_loses_no_batch():
    plain, prefetched = make(), Prefetched(make())
    assert np.array_equal(next(prefetched), next(plain))
    producer = prefetched._producer
    take = producer.take

    def interrupt():
        take()
        raise KeyboardInterrupt

    producer.take = interrupt
    with pytest.raises(KeyboardInterrupt):
        next(prefetched)
    assert not threads()
    assert prefetched.state() == plain.state()
    assert np.array_equal(next(prefetched), next(plain))
    prefetched.close()


PROGRAM = """
import signal

# a parent in the background, as on CI machines, may hand on that it is ignored
signal.signal(signal.SIGINT, signal.default_int_handler)
import sys, time
import numpy as np
from experiments.cifar10_gan.data.batches import Batches
from experiments.cifar10_gan.data.prefetch import Prefetched

def place(batch):
    time.sleep(0.2)
    return batch

batches = Batches(np.zeros((9, 32, 32, 3), np.uint8), batch_size=3)
prefetched = Prefetched(batches, place=place)
next(prefetched)
print("first", flush=True)
while sys.argv[1] == "wait":
    next(prefetched)
"""


def test_a_program_ends_though_nothing_was_closed():
    """At its end, and at an interrupt (Ctrl-C) while it waits for a batch."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, what],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for what in ("end", "wait")
    ]
    try:
        assert processes[1].stdout.readline() == "first\n"
        processes[1].send_signal(signal.SIGINT)
        ended, interrupted = [process.communicate(timeout=20) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert processes[0].returncode == 0, ended
    assert ended == ("first\n", "")
    assert processes[1].returncode == -signal.SIGINT, interrupted
    assert interrupted[1].rstrip().endswith("KeyboardInterrupt")
    assert interrupted[1].count("Traceback") == 1, interrupted[1]


def test_depth():
    with pytest.raises(ValueError, match="depth must be at least 1, got 0"):
        Prefetched(make(), depth=0)
