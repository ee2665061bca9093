"""SIGTERM and interrupts from the keyboard: they stop a run, patiently.

Python's own handlers run in the main thread, between two of its steps: not while that
waits within JAX. So a thread hears of signals, too, by the wakeup file.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from experiments.cifar10_gan.together.leaving import crew, end_anyway

NUMBERS = (signal.SIGTERM, signal.SIGINT)
LAST_SIGTERM = 3
"""The one that ends at once: launchers send two, one to the group, one to each."""
PATIENCE = 5.0
"""Seconds after which another interrupt ends at once: the first has been seen."""


@contextlib.contextmanager
def stop_on_signals() -> Iterator[list[int]]:
    """Collects SIGTERM and interrupts from the keyboard in a list.

    A second SIGTERM changes nothing; the third, or a second interrupt 5 s after the
    first, ends the process at once, for a run that is stuck.
    """
    received: list[int] = []
    before = {number: signal.getsignal(number) for number in NUMBERS}

    def receive(number: int, _: Any) -> None:
        received.append(number)

    for number in NUMBERS:
        signal.signal(number, receive)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    woken = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    thread = threading.Thread(target=_follow, args=(reader,), daemon=True)
    thread.start()
    try:
        yield received
    finally:
        signal.set_wakeup_fd(woken)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(writer)
        thread.join()
        os.close(reader)


def _follow(reader: int) -> None:
    counts = dict.fromkeys(NUMBERS, 0)
    first = 0.0
    while number := os.read(reader, 1):
        number = number[0]
        if number not in counts:
            continue
        counts[number] += 1
        members = crew()
        if members is not None:
            members.ask_to_stop()
        if number == signal.SIGTERM and counts[number] >= LAST_SIGTERM:
            _end(number)
        if number == signal.SIGINT:
            if counts[number] == 1:
                first = time.monotonic()
            elif time.monotonic() - first >= PATIENCE:
                _end(number)


def _end(number: int) -> None:
    """As the signal would have; the others hear of it by this process's wire."""
    code = 128 + number
    members = crew()
    if members is not None:
        members.fail(f"was ended by another {signal.Signals(number).name}", code)
    end_anyway(code)
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    if members is not None:
        members.wait_until_told(1.5)
    os._exit(code)
