"""The processes of a run find each other, and compare what they are to do.

Before JAX starts: its own start waits for the processes it was promised, and aborts
where two have one number.
"""

import contextlib
import queue
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

from experiments.cifar10_gan.config import Config
from experiments.cifar10_gan.together import wire
from experiments.cifar10_gan.together.handshake import difference

_GREETING = "qgenx 1"
_HELLO_SECONDS = 5.0
"""What connects says who it is at once, or is no process of a run."""
_LATE_SECONDS = 10.0
"""For processes that come after the run was refused, to be told so."""


def meet(config: Config, facts: Mapping[str, Any]) -> dict[int, wire.Wire]:
    """Waits for all processes, whose facts must be alike.

    Returns:
        In process 0 a wire to each of the others, in those one to process 0.

    Raises:
        ValueError: in all processes, for the first fact that differs, with both values;
            for a number that two have.
        TimeoutError: if they have not come after `wait_seconds`.
    """
    until = time.monotonic() + config.wait_seconds
    where = config.coordinator
    what = f"all {config.processes} processes to join at {where}"
    if config.process != 0:
        what = f"process 0 at {where}, and for all {config.processes} to join"
    print(
        f"process {config.process} waits for {what}, for {config.wait_seconds} s at "
        "most (--wait_seconds)",
        file=sys.stderr,
        flush=True,
    )
    if config.process:
        return {0: _join(config, facts, until, what)}
    return _gather(config, facts, until)


def _too_late(config: Config, what: str) -> TimeoutError:
    return TimeoutError(
        f"processes must have joined after {config.wait_seconds} s, process "
        f"{config.process} still waits for {what}; start all of them, check "
        "--coordinator, --processes and --process, or raise --wait_seconds"
    )


def _join(
    config: Config, facts: Mapping[str, Any], until: float, what: str
) -> wire.Wire:
    while True:
        found = wire.dial(config.coordinator, until)
        if found is None:
            raise _too_late(config, what)
        found.send(greeting=_GREETING, process=config.process, facts=dict(facts))
        found.limit(max(until - time.monotonic(), 0.1))
        answer = found.receive()
        if answer == {"agreed": _GREETING}:
            found.limit(None)
            return found
        found.close()
        if answer is not None and "refused" in answer:
            raise ValueError(str(answer["refused"]))
        time.sleep(0.1)  # another program, or an earlier run that is ending


def _gather(
    config: Config, facts: Mapping[str, Any], until: float
) -> dict[int, wire.Wire]:
    came: queue.Queue[tuple[wire.Wire, Any, Any]] = queue.Queue()
    joined: dict[int, wire.Wire] = {}
    try:
        listening = wire.listen(config.coordinator)
    except ValueError as error:
        raise _another_first(config, facts) or error from error
    with _accepting(listening, came):
        while len(joined) < config.processes - 1:
            try:
                there, process, said = came.get(
                    timeout=max(until - time.monotonic(), 0)
                )
            except queue.Empty:
                missing = sorted({*range(1, config.processes)} - {*joined})
                listed = ", ".join(map(str, missing))
                what = f"all {config.processes} processes to join at "
                what += f"{config.coordinator}, without {listed} so far"
                raise _too_late(config, what) from None
            if process in joined and joined[process].is_gone():
                joined.pop(process).close()  # it was started again
            wrong = _wrong(config, facts, joined, process, said)
            if wrong is not None:
                _refuse(wrong, [*joined.values(), there], came, config)
                raise ValueError(wrong)
            joined[process] = there
    for there in joined.values():
        there.send(agreed=_GREETING)
    return joined


def _another_first(config: Config, facts: Mapping[str, Any]) -> ValueError | None:
    """What another process 0 of this run answers, where it has the port."""
    found = wire.dial(config.coordinator, time.monotonic() + 1)
    if found is None:
        return None
    found.send(greeting=_GREETING, process=0, facts=dict(facts))
    found.limit(_HELLO_SECONDS)
    answer = found.receive() or {}
    found.close()
    return ValueError(str(answer["refused"])) if "refused" in answer else None


@contextlib.contextmanager
def _accepting(listening: socket.socket, came: queue.Queue) -> Iterator[None]:
    """Hears who connects; the port is free again afterwards, for JAX."""
    done = threading.Event()
    listening.settimeout(0.1)

    def accept() -> None:
        while not done.is_set():
            try:
                connection, _ = listening.accept()
            except OSError:  # nobody yet, or one that is gone already
                continue
            # of its own: a stranger that says nothing keeps nobody
            threading.Thread(target=_hear, args=(connection, came), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        listening.close()


def _hear(connection: socket.socket, came: queue.Queue) -> None:
    there = wire.Wire(connection)
    there.limit(_HELLO_SECONDS)
    said = there.receive()
    said = said or {}
    number, facts = said.get("process"), said.get("facts")
    ours = isinstance(number, int) and isinstance(facts, dict)
    if said.get("greeting") != _GREETING or not ours:
        return there.close()
    there.limit(None)
    came.put((there, number, facts))


def _wrong(
    config: Config,
    facts: Mapping[str, Any],
    joined: Mapping[int, wire.Wire],
    process: Any,
    said: Any,
) -> str | None:
    """What is wrong with a process that has come, or None."""
    found = difference(facts, said, process)  # where their numbers differ, says why
    if found is not None:
        return found
    if process in joined or process == 0:
        missing = sorted({*range(1, config.processes)} - {*joined})
        return (
            f"process must be another number in each process, got {process} in two of "
            f"them; {missing[0]} is free so far"
        )
    return None


def _refuse(
    wrong: str, there: list[wire.Wire], came: queue.Queue, config: Config
) -> None:
    until = time.monotonic() + _LATE_SECONDS
    for number in range(config.processes - 1):
        try:
            left = max(until - time.monotonic(), 0)
            one = there[number] if number < len(there) else came.get(timeout=left)[0]
        except queue.Empty:
            return
        one.send(refused=wrong)
        one.close()
