"""Processes that find each other, and agree or do not: in threads, without JAX."""

import concurrent.futures
import dataclasses
import socket
import time

import pytest

from experiments.cifar10_gan.config import Config
from experiments.cifar10_gan.together import meeting, wire
from experiments.cifar10_gan.together.handshake import facts_of
from experiments.cifar10_gan.together.meeting import meet
from experiments.common.processes import free_port

pytestmark = pytest.mark.quick


def met(count, changes=None, facts=None, wait=20):
    """What `meet` gave each process, or raised there; `changes` by process."""
    where = f"127.0.0.1:{free_port()}"
    base = Config(processes=count, coordinator=where, wait_seconds=wait, workers=count)

    def one(number):
        config = dataclasses.replace(base, process=number)
        config = dataclasses.replace(config, **(changes or {}).get(number, {}))
        said = {**facts_of(config), **(facts or {}).get(number, {})}
        try:
            return meet(config, said)
        except (ValueError, TimeoutError) as error:
            return error

    with concurrent.futures.ThreadPoolExecutor(count) as threads:
        return where, list(threads.map(one, range(count)))


def close(*found):
    """Ends all wires of what `meet` gave."""
    for wires in found:
        for one in wires.values():
            one.close()


def test_all_have_a_wire_to_the_first_and_the_port_is_free_again():
    where, wires = met(3)
    assert [sorted(found) for found in wires] == [[1, 2], [0], [0]]
    assert wires[2][0].send(hello=2)
    assert wires[0][2].receive() == {"hello": 2}
    host, port = where.split(":")
    socket.create_server((host, int(port))).close()
    close(*wires)


@pytest.mark.parametrize(
    ("changes", "facts", "said"),
    [
        (
            {1: {"learning_rate_generator": 0.01}},
            {},
            "learning_rate_generator must be the same in all processes, got 0.01 in "
            "process 1 and 0.0002 in process 0",
        ),
        ({2: {"seed": 3}}, {}, "got 3 in process 2 and 0 in process 0"),
        ({1: {"workers": 6}}, {}, "workers must be the same in all processes, got 6"),
        ({1: {"process": 2}}, {}, "process must be another number in each process"),
        ({2: {"process": 0}}, {}, "got 0 in two of them"),
        ({}, {2: {"jax": "0.1"}}, "jax must be the same in all processes, got '0.1'"),
    ],
    ids=["rate", "seed", "workers", "number", "first", "jax"],
)
def test_what_differs_is_named_with_both_values_in_all(changes, facts, said):
    started = time.monotonic()
    _, errors = met(3, changes, facts)
    assert time.monotonic() - started < 5
    for error in errors:
        assert isinstance(error, ValueError), errors
        assert said in str(error)


def test_what_each_may_have_in_its_own_way():
    changes = {1: {"workdir": "/elsewhere", "data_dir": "/there", "wait_seconds": 9}}
    _, wires = met(2, changes)
    assert [sorted(found) for found in wires] == [[1], [0]]
    close(*wires)


def test_strangers_keep_nobody():
    """One says nothing, one speaks HTTP; the process comes after them."""
    where = f"127.0.0.1:{free_port()}"
    config = Config(processes=2, coordinator=where, wait_seconds=20, workers=2)
    host, port = where.split(":")
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        first = threads.submit(meet, config, {})
        strangers = []
        while len(strangers) < 2:
            try:
                strangers.append(socket.create_connection((host, int(port))))
            except OSError:
                time.sleep(0.01)
        strangers[0].sendall(b"GET / HTTP/1.1\r\n\r\n")
        second = threads.submit(meet, dataclasses.replace(config, process=1), {})
        assert sorted(first.result()) == [1]
        assert sorted(second.result()) == [0]
        close(first.result(), second.result())
        for stranger in strangers:
            stranger.close()


def test_those_that_do_not_come_are_named():
    where = f"127.0.0.1:{free_port()}"
    config = Config(processes=3, coordinator=where, wait_seconds=1, workers=3)
    with pytest.raises(TimeoutError, match=r"joined after 1 s.* without 1, 2 so far"):
        meet(config, {})


def test_a_port_in_use_is_refused():
    with socket.create_server(("127.0.0.1", 0)) as other:
        where = f"127.0.0.1:{other.getsockname()[1]}"
        config = Config(processes=2, coordinator=where, wait_seconds=9, workers=2)
        with pytest.raises(ValueError, match="coordinator must be free"):
            meet(config, {})


def test_one_that_is_started_again_takes_its_place():
    """Its first connection is closed; half a greeting of a stranger is not heard."""
    where = f"127.0.0.1:{free_port()}"
    base = Config(processes=3, coordinator=where, wait_seconds=20, workers=3)
    configs = [dataclasses.replace(base, process=number) for number in range(3)]
    with concurrent.futures.ThreadPoolExecutor(3) as threads:
        first = threads.submit(meet, configs[0], facts_of(configs[0]))
        for said in ({}, {"process": 1, "facts": facts_of(configs[1])}):
            gone = wire.dial(where, time.monotonic() + 10)
            assert gone is not None
            gone.send(greeting=meeting._GREETING, **said)
            time.sleep(0.5)
            gone.close()
        others = [threads.submit(meet, c, facts_of(c)) for c in configs[1:]]
        wires = [found.result(30) for found in (first, *others)]
    assert sorted(wires[0]) == [1, 2]
    assert wires[1][0].send(hello=1)
    assert wires[0][1].receive() == {"hello": 1}
    close(*wires)
