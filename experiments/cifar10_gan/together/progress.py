"""Where a process is in a run, and who of several is late."""

import collections
import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

PATIENCE = 10
"""How many times the limit set-up, compiling and scoring may take."""
PATIENT = frozenset({"set-up", "compile", "score", "finish"})
STEP, WAITING = "step", "waiting"
"""Phases of an iteration on the devices, and of a process that the others keep."""


class Place(NamedTuple):
    """Where a process is.

    Attributes:
        phase: set-up, data, compile, step (compute and exchange), report, score, save,
            finish, or waiting for the others.
        iteration: in which.
        handed: the last iteration that was handed to the devices.
        done: the last one that is finished.
        idle: seconds since anything of this changed.
        limit: how long it may be idle.
    """

    phase: str
    iteration: int
    handed: int
    done: int
    idle: float
    limit: float

    @property
    def late(self) -> float:
        """Seconds beyond its limit."""
        return self.idle - self.limit


class Progress:
    """Where this process is; told by the main thread, looked at by another."""

    def __init__(self, timeout: float) -> None:
        """Begins with the set-up."""
        self._timeout = timeout
        self._phase, self._iteration, self._waits = "set-up", 0, False
        self._handed = self._done = 0
        self._changed = time.monotonic()
        self._running: collections.deque[tuple[int, Any]] = collections.deque()

    def enter(self, phase: str, iteration: int | None = None) -> None:
        """The main thread does something else from now on."""
        self._phase = phase
        if iteration is not None:
            self._iteration = iteration
        self._changed = time.monotonic()

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """The others may take as long as the phase may in which this one waits."""
        self._waits, self._changed = True, time.monotonic()
        try:
            yield
        finally:
            self._waits, self._changed = False, time.monotonic()

    def hand(self, iteration: int, result: Any) -> None:
        """An iteration runs on the devices; it is done when the result is there."""
        self._handed = iteration
        self._running.append((iteration, result))

    def look(self) -> Place:
        """Where this process is now."""
        while self._running and _is_there(self._running[0][1]):
            self._done, _ = self._running.popleft()
            self._changed = time.monotonic()
        phase, patient = self._phase, self._phase in PATIENT
        if phase == "data" and self._running:
            phase = STEP  # the main thread is ahead of the devices
        return Place(
            WAITING if self._waits else phase,
            self._iteration,
            self._handed,
            self._done,
            time.monotonic() - self._changed,
            self._timeout * (PATIENCE if patient else 1),
        )


def _is_there(result: Any) -> bool:
    try:
        return result.is_ready()
    except Exception:  # of the iteration: the main thread raises it
        return True


def missing(places: Mapping[int, Place]) -> list[int]:
    """Who keeps the others; nobody where all have come to the same exchange."""
    if any(place.phase == WAITING for place in places.values()):
        return [p for p, place in places.items() if place.phase != WAITING]
    next_one = max(place.done for place in places.values()) + 1
    return [p for p, place in places.items() if place.handed < next_one]


def stuck(places: Mapping[int, Place], silent: Mapping[int, float]) -> str:
    """Who has not arrived, and where all are, in words.

    Args:
        places: of all processes, as each last said.
        silent: seconds since each has said anything.
    """
    gone = {p: seconds for p, seconds in silent.items() if seconds > 3}
    absent = {*gone, *missing(places)}
    others_wait = bool(absent) and len(absent) < len(places)
    words = []
    for process in sorted(absent) or sorted(places):
        words.append(_described(process, places[process], gone.get(process)))
    if not absent:
        return (
            "all have entered the exchange, so one still computes or the network does "
            f"not carry it: {'; '.join(words)}"
        )
    text = f"not arrived: {'; '.join(words)}"
    if others_wait:
        rest = sorted(set(places) - absent)
        in_step = places[rest[0]].phase == STEP
        what = "in the exchange" if in_step else "for them"
        text += f"; {', '.join(map(str, rest))} wait {what}"
    return text


def _described(process: int, place: Place, silent: float | None) -> str:
    phase = place.phase
    iteration = place.done + 1 if phase == STEP else place.iteration
    phase = "compute or exchange" if phase == STEP else phase
    where = f"process {process}, iteration {iteration}, {phase}"
    if silent is not None:
        return f"{where}, silent for {silent:.0f} s (frozen, or cut off)"
    return f"{where} for {place.idle:.0f} s"
