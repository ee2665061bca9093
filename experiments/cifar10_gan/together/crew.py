"""What the processes of a run tell each other while it goes on.

Each has a wire to process 0, which passes on. A process that is gone closes its wire;
one that is frozen, or cut off, is silent.
"""

import threading
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from experiments.cifar10_gan.together import progress as progresses
from experiments.cifar10_gan.together.wire import Wire

LOST = 75
"""Exit code where a process is gone or late: EX_TEMPFAIL, start all again, resume."""
_BEAT = 0.25  # seconds between two signs of life
_MARGIN = (
    0.75  # seconds beyond its limit that a process leaves the verdict to process 0
)


class Reason(NamedTuple):
    """Why a run ends before its end.

    Attributes:
        process: that was the first to fail.
        what: it did, in words that go on after "process 1".
        code: by which all processes end.
    """

    process: int
    what: str
    code: int


class Crew:
    """This process among those of its run.

    Attributes:
        process: its number.
        processes: how many there are.
        progress: where it is.
    """

    def __init__(
        self, process: int, processes: int, timeout: float, wires: Mapping[int, Wire]
    ) -> None:
        """Takes over the wires of a meeting; `start` begins to listen."""
        self.process, self.processes, self.timeout = process, processes, timeout
        self.progress = progresses.Progress(timeout)
        self._wires = dict(wires)
        self._changed = threading.Condition()
        self._reason: Reason | None = None
        self._told = False  # process 0 knows the reason, and passes it on
        self._ended: set[int] = set()  # whose wires are closed
        self._closing: set[int] = set()  # who has come to its end
        self._heard = dict.fromkeys(wires, time.monotonic())
        self._places: dict[int, progresses.Place] = {}
        self._calls = 0  # of exchange
        self._votes: dict[int, dict[int, Any]] = {}
        self._results: dict[int, list] = {}
        self._at: dict[int, int] = {}  # iterations at which all have paused
        self._last, self._paused = -1, False
        self._asked, self._stop_at = False, None

    def start(self) -> None:
        """Listens to the others, and tells them that this process is there."""
        for process, wire in self._wires.items():
            self._begin(self._listen, process, wire)
        self._begin(self._beat)

    @staticmethod
    def _begin(action: Any, *arguments: Any) -> None:
        threading.Thread(target=action, args=arguments, daemon=True).start()

    # How it ends

    def fail(self, what: str, code: int, process: int | None = None) -> Reason:
        """Tells all that the run ends; the first reason stays.

        Returns:
            The reason that stays.
        """
        reason = Reason(self.process if process is None else process, what, code)
        with self._changed:
            if self._reason is not None:
                return self._reason
            self._reason = reason
            self._changed.notify_all()
        self._tell(failed=reason)
        return reason

    def reason(self, seconds: float | None = None) -> Reason | None:
        """Why the run ends, as soon as that is known; None where it does not."""
        with self._changed:
            self._changed.wait_for(lambda: self._reason is not None, seconds)
            return self._reason

    def close(self) -> None:
        """This process has come to its end: that it goes then is no failure."""
        self._closing.add(self.process)
        self._tell(closing=True)

    def wait_until_told(self, seconds: float) -> None:
        """Until the others know the reason; they may then be gone.

        What is on its way when a process ends may be lost with it. The one that is the
        reason is not waited for: it may be frozen.
        """
        everyone = set(self._wires) - {self._reason.process if self._reason else -1}
        with self._changed:
            self._changed.wait_for(
                lambda: self._told or self._ended >= everyone, seconds
            )

    # What is decided together

    def exchange(self, name: str, value: Any) -> list:
        """Everyone's value, in the order of processes; all of them call it alike.

        Args:
            name: of the question, which must be the same in all.
            value: that JSON can hold.
        """
        with self.progress.waiting():
            number, self._calls = self._calls, self._calls + 1
            if self.process:
                self._tell(vote=[number, name, value])
            else:
                self._count(0, [number, name, value])
            with self._changed:
                self._changed.wait_for(lambda: number in self._results)
                return self._results.pop(number)

    def _count(self, process: int, vote: list) -> None:
        number, *said = vote
        with self._changed:
            votes = self._votes.setdefault(number, {})
            votes[process] = said
            if len(votes) < self.processes:
                return
            votes = [votes[p] for p in range(self.processes)]
        names = [name for name, _ in votes]
        for p, name in enumerate(names):
            if name != names[0]:
                what = f"is at another place: {name}, where process 0 is at {names[0]}"
                self.fail(what, 1, p)
                return
        self._result(number, [value for _, value in votes])

    def _result(self, number: int, values: list) -> None:
        if self.process == 0:
            self._tell(result=[number, values])
        with self._changed:
            self._results[number] = values
            self._changed.notify_all()

    def ask_to_stop(self) -> None:
        """All processes shall stop, after one and the same iteration."""
        if self.process:
            self._tell(stop=True)
            return
        with self._changed:
            if self._asked:
                return
            self._asked = True
        self._tell(pause=True)
        self._pause()

    def stops(self, iteration: int) -> bool:
        """Whether the run stops after an iteration: the same answer in all processes.

        Costs nothing as long as nobody asks. Then all wait here until they know how far
        each of them is: they stop one iteration after the one that is farthest.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._paused)
            self._last = iteration
            return self._stop_at is not None and iteration >= self._stop_at

    def _pause(self) -> None:
        with self._changed:
            self._paused = True
            last = self._last
        if self.process:
            self._tell(paused=last)
        else:
            self._note(0, last)

    def _note(self, process: int, last: int) -> None:
        with self._changed:
            self._at[process] = last
            if len(self._at) < self.processes:
                return
        stop_at = max(self._at.values()) + 1
        self._tell(stop_at=stop_at)
        self._go_on(stop_at)

    def _go_on(self, stop_at: int) -> None:
        with self._changed:
            self._stop_at, self._paused = stop_at, False
            self._changed.notify_all()

    # Threads

    def _tell(self, **message: Any) -> None:
        for wire in self._wires.values():
            wire.send(**message)

    def _listen(self, process: int, wire: Wire) -> None:
        while (message := wire.receive()) is not None:
            self._heard[process] = time.monotonic()
            for kind, value in message.items():
                self._hear(process, kind, value)
        if process not in self._closing:
            self.fail(
                "is gone without a word: killed, or its machine is", LOST, process
            )
        with self._changed:
            self._ended.add(process)
            self._changed.notify_all()

    def _hear(self, process: int, kind: str, value: Any) -> None:
        if kind == "place":
            self._places[process] = progresses.Place(*value)
        elif kind == "failed":
            first, what, code = value
            self._told = self.process != 0
            self.fail(what, code, first)
            with self._changed:
                self._changed.notify_all()
        elif kind == "closing":
            self._closing.add(process)
        elif kind == "vote":
            self._count(process, value)
        elif kind == "result":
            self._result(*value)
        elif kind == "stop":
            self.ask_to_stop()
        elif kind == "pause":
            self._pause()
        elif kind == "paused":
            self._note(process, value)
        elif kind == "stop_at":
            self._go_on(value)

    def _beat(self) -> None:
        while self._reason is None:
            place = self._places[self.process] = self.progress.look()
            if self.process:
                self._tell(place=place)
            else:
                self._tell(alive=True)
            self._judge(time.monotonic())
            time.sleep(_BEAT)

    def _judge(self, now: float) -> None:
        """Ends the run where this process, or one that it hears, is late or silent."""
        silent = {p: now - moment for p, moment in self._heard.items()}
        silent = {p: s for p, s in silent.items() if p not in self._closing}
        for process, seconds in silent.items():
            if seconds > self.timeout:
                where = ""
                if process in self._places:
                    place = self._places[process]
                    where = f", last seen in iteration {place.iteration}, {place.phase}"
                what = (
                    f"has been silent for {seconds:.0f} s (--timeout={self.timeout:g})"
                    f"{where}: it is frozen, or cut off"
                )
                self.fail(what, LOST, process)
                return
        places = {p: x for p, x in self._places.items() if p not in self._closing}
        if self.process:
            places = {p: x for p, x in places.items() if p == self.process}
        late = [
            p for p, x in places.items() if x.late > (_MARGIN if self.process else 0)
        ]
        if not late:
            return
        place = places[late[0]]
        if self.process:
            told = f"it is in iteration {place.iteration}, {place.phase}"
        else:
            told = progresses.stuck(places, silent)
        what = (
            f"has seen nothing move for {place.idle:.0f} s, iteration {place.done + 1} "
            f"is not done (--timeout={self.timeout:g}); {told}"
        )
        self.fail(what, LOST)
