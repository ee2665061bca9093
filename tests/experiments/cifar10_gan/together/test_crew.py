"""Three processes of a run as threads: what they exchange, and who is lost or late."""

import contextlib
import functools
import json
import socket
import threading
import time

import pytest

from experiments.cifar10_gan.together import wire
from experiments.cifar10_gan.together.crew import LOST, Crew
from experiments.cifar10_gan.together.wire import Wire

pytestmark = pytest.mark.quick


@contextlib.contextmanager
def crews(timeout=30.0, started=(0, 1, 2)):
    """Those of three processes; the wires of one that is not started are silent."""
    pairs = {k: socket.socketpair() for k in (1, 2)}
    wires = {k: tuple(Wire(end) for end in pair) for k, pair in pairs.items()}
    crew = [Crew(0, 3, timeout, {k: pair[0] for k, pair in wires.items()})]
    crew += [Crew(k, 3, timeout, {0: wires[k][1]}) for k in (1, 2)]
    for number in started:
        crew[number].start()
    try:
        yield crew, {k: pair[1] for k, pair in wires.items()}
    finally:
        for one in crew:
            one.close()
            one.fail("the test is over", 0)  # ends its threads
        for pair in wires.values():
            for wire in pair:
                wire.close()


def in_all(crew, action):
    """What an action gave each of them, at the same time."""
    found = {}

    def act(one):
        found[one.process] = action(one)

    threads = [threading.Thread(target=act, args=(one,)) for one in crew]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return [found[number] for number in range(3)]


def asked(one, call):
    return one.exchange("x", [one.process, call])


def test_all_get_everyones_value_in_order_many_times():
    with crews() as (crew, _):
        for call in range(50):
            values = in_all(crew, functools.partial(asked, call=call))
            assert values == [[[0, call], [1, call], [2, call]]] * 3


def test_questions_that_differ_end_the_run():
    with crews() as (crew, _):
        for one in crew:
            name = "a row" if one.process < 2 else "a checkpoint"
            ask = threading.Thread(target=one.exchange, args=(name, 0), daemon=True)
            ask.start()
        for one in crew:
            reason = one.reason(10)
            assert reason is not None
            assert reason.process == 2
            assert "a checkpoint, where process 0 is at a row" in reason.what


@pytest.mark.parametrize("first", [0, 2])
def test_the_first_failure_stays_and_all_know_it(first):
    with crews() as (crew, _):
        crew[first].fail("failed: OSError: the disk", 1)
        reasons = [one.reason(10) for one in crew]
        crew[1].fail("lost another one", LOST)
        assert reasons == [(first, "failed: OSError: the disk", 1)] * 3
        assert crew[1].reason(0) == reasons[0]


@pytest.mark.parametrize("gone", [0, 1])
def test_one_that_is_gone_is_named_at_once(gone):
    with crews() as (crew, ends):
        started = time.monotonic()
        for wire in ends.values() if gone == 0 else [ends[1]]:
            wire.close()  # process 0 has the other end of all
        for one in crew:
            if one.process != gone:
                reason = one.reason(10)
                assert reason is not None
                # to process 0 both are gone, where it is cut off from both
                assert gone == 0 or reason.process == 1
                assert "is gone without a word" in reason.what
                assert reason.code == LOST
        assert time.monotonic() - started < 2


def test_one_that_has_come_to_its_end_is_not_missed():
    with crews() as (crew, ends):
        crew[1].close()
        time.sleep(0.2)
        ends[1].close()
        assert crew[0].reason(0.5) is None
        assert crew[2].reason(0) is None


@pytest.mark.parametrize("frozen", [0, 1])
def test_one_that_is_silent_is_named_in_time(frozen):
    alive = [number for number in range(3) if number != frozen]
    with crews(timeout=2.0, started=alive) as (crew, _):
        started = time.monotonic()
        for number in alive:
            reason = crew[number].reason(10)
            assert reason is not None
            assert reason.process == frozen
            assert "silent for" in reason.what
            assert "--timeout=2" in reason.what
            assert reason.code == LOST
        assert 1.5 < time.monotonic() - started < 4


def test_one_that_is_stuck_is_named_with_its_phase():
    with crews(timeout=2.0) as (crew, _):
        for one in crew:
            one.progress.enter("step" if one.process != 1 else "data", 8)
            if one.process != 1:
                one.progress.hand(8, Never())
        reasons = [one.reason(10) for one in crew]
        assert len(set(reasons)) == 1
        assert reasons[0] is not None
        what = reasons[0].what
        assert "not arrived: process 1, iteration 8, data for 2 s" in what, what
        assert "0, 2 wait in the exchange" in what


class Never:
    """What is never ready."""

    @staticmethod
    def is_ready():
        return False


@pytest.mark.parametrize("asking", [0, 2])
def test_all_stop_after_one_iteration(asking):
    """However far apart they are, and with the question at any moment."""
    with crews() as (crew, _):

        def loop(one):
            for iteration in range(1, 10_000):
                if one.process == asking and iteration == 40:
                    one.ask_to_stop()
                    one.ask_to_stop()  # changes nothing
                if one.stops(iteration):
                    return iteration
                one.exchange("a step", iteration)
            return None

        stopped = in_all(crew, loop)
        assert len(set(stopped)) == 1
        assert 40 <= stopped[0] <= 60


def test_asked_before_the_first_iteration_they_stop_after_it():
    with crews() as (crew, _):
        crew[1].ask_to_stop()
        time.sleep(0.3)
        assert in_all(crew, lambda one: one.stops(51)) == [True] * 3


def test_what_is_no_message_ends_a_wire():
    here, there = socket.socketpair()
    wire = Wire(here)
    there.sendall(json.dumps({"a": 1}).encode() + b"\n")
    assert wire.receive() == {"a": 1}
    there.sendall(b"GET / HTTP/1.1\r\n")
    assert wire.receive() is None
    there.close()
    wire.close()
    assert not wire.send(a=1)


def test_one_that_does_not_read_does_not_hold_up_what_is_sent(monkeypatch):
    monkeypatch.setattr(wire, "_UNREAD", 1)
    mine, its = socket.socketpair()
    end = wire.Wire(mine)
    assert not end.send(much="x" * 10_000_000), "nobody read it"
    assert end.receive() is None
    its.close()
    end.close()
