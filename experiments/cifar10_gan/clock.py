"""The time that training takes, apart from compiling, scoring and saving.

Steps run behind the program's back, so a stretch of them is timed from one moment at
which all is done to another. An iteration that compiles says nothing about training: it
is taken to last as long as those of the stretch after it.
"""

import time


class Clock:
    """Adds up stretches of iterations.

    Attributes:
        training: seconds of iterations alone.
        in_all: seconds with compiling, scoring and saving, without setting up.
    """

    def __init__(
        self, training: float = 0.0, in_all: float = 0.0, unknown: int = 0
    ) -> None:
        """Goes on from what a checkpoint says: `facts`."""
        self.training = training
        self.in_all = in_all
        self._begun: float | None = None
        self._seen = time.monotonic()
        self._iterations = 0
        self._unknown = unknown  # iterations that compiled, not timed yet

    def begin(self) -> None:
        """What was before is setting up, and counts nowhere."""
        self._seen = time.monotonic()

    def facts(self) -> dict[str, float]:
        """What a checkpoint says of it."""
        self._look()
        return {
            "seconds": self.training,
            "seconds_in_all": self.in_all,
            "untimed": self._unknown,
        }

    def start(self) -> None:
        """A stretch begins: nothing is running."""
        self._look()
        self._begun = self._seen

    def count(self) -> None:
        """One more iteration has been handed to the devices."""
        self._iterations += 1

    def stop(self, *, compiled: bool = False) -> None:
        """The stretch ends: all its iterations are done.

        Args:
            compiled: whether they were compiled in it, so that its time is not theirs.
        """
        self._look()
        begun, self._begun = self._begun, None
        done, self._iterations = self._iterations, 0
        if begun is None or not done:
            return
        if compiled:
            self._unknown += done
            return
        self.training += (self._seen - begun) * (done + self._unknown) / done
        self._unknown = 0

    def _look(self) -> None:
        now = time.monotonic()
        self.in_all += now - self._seen
        self._seen = now
