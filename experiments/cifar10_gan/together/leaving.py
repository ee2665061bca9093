"""How a process ends: with all the others, at once, and saying why.

As Python ends, JAX waits for all processes, and aborts where one does not come. So a
process that has failed leaves without that, after the others know.
"""

import contextlib
import ctypes
import os
import re
import sys
import threading
import time
import traceback
from collections.abc import Iterator

from experiments.cifar10_gan.together.crew import LOST, Crew, Reason

FAILED, INTERRUPTED = 1, 130
"""Exit codes: of all processes, where one has failed, or was interrupted twice."""
_OF_THE_CONNECTION = re.compile(
    r"gloo|nccl|UNAVAILABLE|heartbeat|coordination service"
    r"|connection (reset|closed|refused)|broken pipe|socket closed",
    re.IGNORECASE,
)
_ITS_OWN_WORDS = 0.3
"""Seconds that the main thread has for an error of its own, or JAX for its words."""
_KNOWN = 1.0
"""Seconds until a process that is gone is known, to one whose collective it broke."""
_TOLD = 1.5
"""Seconds for the others to hear of a failure."""
_current: Crew | None = None


class AnotherProcessFailed(RuntimeError):
    """Raised where a process has nothing wrong but cannot go on without another."""

    def __init__(self, reason: Reason) -> None:
        """Says which, and why."""
        super().__init__(f"process {reason.process} {reason.what}")
        self.reason = reason


def crew() -> Crew | None:
    """The processes of this run; None where this one is alone."""
    return _current


@contextlib.contextmanager
def as_one(members: Crew | None) -> Iterator[None]:
    """Ends all processes where one ends by an error inside; None: there is only one."""
    global _current
    if members is None:
        yield
        return
    _current = members
    leaving = _Leaving(members)
    members.start()
    threading.Thread(target=leaving.follow, daemon=True).start()
    leaving.instead_of_aborting()
    try:
        yield
        members.progress.enter("finish")
    except SystemExit:  # after a signal, which stops all
        members.close()
        raise
    except BaseException as error:
        leaving.by(error)
    members.close()


def described(error: BaseException) -> str:
    """An error in a line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:600]}"


def code_of(error: BaseException) -> int:
    """The exit code of an error."""
    return INTERRUPTED if isinstance(error, KeyboardInterrupt) else FAILED


def end_anyway(code: int) -> threading.Timer:
    """Ends this process soon, also where nobody reads what it has to say."""
    late = threading.Timer(_TOLD + 2, os._exit, (code,))
    late.daemon = True
    late.start()
    return late


class _Leaving:
    """The end of this process; of the threads that want it, one gets it."""

    def __init__(self, members: Crew) -> None:
        self._crew = members
        self._taken = threading.Lock()

    def by(self, error: BaseException) -> None:
        """Ends this process by an error of its main thread."""
        members = self._crew
        if isinstance(error, AnotherProcessFailed):
            self._after(members.fail(*error.reason[1:], error.reason.process))
        own = isinstance(error, (ValueError, ImportError, FloatingPointError))
        # JAX raises ValueError too, which begins with a status, as "UNKNOWN: "
        of_jax = re.match(r"[A-Z_]+: ", str(error)) is not None
        if (of_jax or not own) and _OF_THE_CONNECTION.search(str(error)):
            reason = members.reason(_KNOWN)
            if reason is None:
                what = f"has lost another process ({described(error)})"
                reason = members.fail(what, LOST)
            self._after(reason)
        self._take(code_of(error))
        members.fail(f"failed: {described(error)}", code_of(error))
        if own:
            print(described(error), file=sys.stderr)
        else:
            traceback.print_exception(error)
        self._end(code_of(error))

    def follow(self) -> None:
        """Ends this process where another one has ended the run; waits for that."""
        reason = self._crew.reason()
        assert reason is not None
        time.sleep(_ITS_OWN_WORDS)
        self._after(reason)

    def instead_of_aborting(self) -> None:
        """JAX aborts where process 0 is gone: that waits for what says so better."""

        def wait(_: int) -> None:
            time.sleep(_ITS_OWN_WORDS + _TOLD)

        if hasattr(ctypes.CDLL(None), "signal"):
            self._handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(wait)
            ctypes.CDLL(None).signal(6, self._handler)  # SIGABRT, in its own thread

    def _after(self, reason: Reason) -> None:
        self._take(reason.code)
        members = self._crew
        if reason.process == 0 and reason.code == LOST:
            time.sleep(_ITS_OWN_WORDS)  # JAX says much of it, which should be above
        who = f"process {members.process} of {members.processes}"
        if reason.process == members.process:
            text = f"{who} {reason.what}"
        else:
            text = f"{who} ends: process {reason.process} {reason.what}"
        if reason.code == LOST:
            text += "; start all processes again with --resume"
        print(f"{text} (exit code {reason.code})", file=sys.stderr)
        self._end(reason.code)

    def _take(self, code: int) -> None:
        if not self._taken.acquire(blocking=False):
            threading.Event().wait()  # another thread ends this process
        self._late = end_anyway(code)

    def _end(self, code: int) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        self._crew.wait_until_told(_TOLD)
        self._late.cancel()
        os._exit(code)
