"""Processes on the nodes of emulated links, which do jobs that the parent sends.

Jobs and results are lines of JSON in pipes, so that nothing but what is measured
crosses the links. All nodes get each job at once, and the parent waits for all.
"""

import contextlib
import ctypes
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from experiments.benchmarks.network.links import Links
from experiments.common.processes import environment

_NEW_HOST_NAME = 0x04000000  # CLONE_NEWUTS
_END_WITH_PARENT = 1  # PR_SET_PDEATHSIG

Handlers = Mapping[str, Callable[..., Any]]


class WorkerFailed(RuntimeError):
    """Raised where a process on a node failed, ended or is silent."""


class Fleet:
    """A process on each node; as a context manager, ended with it."""

    def __init__(self, links: Links, module: str, **facts: Any) -> None:
        """Nothing runs yet.

        Args:
            links: the nodes.
            module: to be run as a program; it gets one argument, JSON with `nodes`,
                `node`, `address` (of node 0), `host` (its own) and the facts.
            facts: of this run.
        """
        self._links, self._module, self._facts = links, module, facts
        self._processes: list[subprocess.Popen[str]] = []
        self._logs: list[Any] = []

    def __enter__(self) -> "Fleet":
        """Starts all processes."""
        try:
            for node in range(self._links.nodes):
                self._start(node)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Ends all processes."""
        self.close()

    def ask(self, job: str, *, timeout: float = 300, **arguments: Any) -> list[Any]:
        """The results of a job that all nodes do together.

        Raises:
            WorkerFailed: if one fails, ends, or needs longer, with what it printed.
        """
        line = json.dumps({"job": job, **arguments}) + "\n"
        for node, process in enumerate(self._processes):
            assert process.stdin is not None
            try:
                process.stdin.write(line)
                process.stdin.flush()
            except BrokenPipeError:
                raise self._failed(node, f"ended before the job {job!r}") from None
        deadline = time.monotonic() + timeout
        return [
            self._answer(node, job, deadline) for node in range(len(self._processes))
        ]

    def close(self) -> None:
        """Ends all processes, and waits for them."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    # of a job that it did not read
                    with contextlib.suppress(BrokenPipeError):
                        stream.close()
        for log in self._logs:
            log.close()
        self._processes, self._logs = [], []

    def _start(self, node: int) -> None:
        facts = {
            "nodes": self._links.nodes,
            "node": node,
            "address": self._links.address(0),
            "host": self._links.host(node),
            **self._facts,
        }
        log = tempfile.TemporaryFile("w+")  # noqa: SIM115, of as long a life as the process
        self._logs.append(log)
        command = [sys.executable, "-m", self._module, json.dumps(facts)]
        self._processes.append(
            subprocess.Popen(
                self._links.command(node, *command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment(),
                start_new_session=True,  # an interrupt from the keyboard is ours alone
            )
        )

    def _answer(self, node: int, job: str, deadline: float) -> Any:
        stream = self._processes[node].stdout
        assert stream is not None
        left = max(deadline - time.monotonic(), 0)
        if not select.select([stream], [], [], left)[0]:
            raise self._failed(node, f"is silent on the job {job!r}")
        line = stream.readline()
        if not line:
            raise self._failed(node, f"ended at the job {job!r}")
        answer = json.loads(line)
        if "error" in answer:
            raise self._failed(node, f"failed at {job!r}:\n{answer['error']}")
        return answer["result"]

    def _failed(self, node: int, what: str) -> WorkerFailed:
        log = self._logs[node]
        log.seek(0)
        return WorkerFailed(f"node {node} {what}\n{log.read()[-2000:]}")


def serve(handlers: Handlers) -> None:
    """Does jobs until the parent closes the pipe; on the side of a node.

    Args:
        handlers: by job; each takes the job's arguments and returns what JSON can say.
    """
    answers = _own_output()
    for line in sys.stdin:
        arguments = json.loads(line)
        try:
            answer = {"result": handlers[arguments.pop("job")](**arguments)}
        except Exception:
            answer = {"error": traceback.format_exc()}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def settle(name: str) -> None:
    """Makes this process that of a node; to be called first.

    It has a host name of its own, by which gloo finds its address, and the kernel kills
    it when the parent is gone, however that ended.

    Raises:
        OSError: if the kernel does not let it; the machine's name stays as it is.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_END_WITH_PARENT, signal.SIGKILL, 0, 0, 0)
    if libc.unshare(_NEW_HOST_NAME) != 0:
        raise OSError(ctypes.get_errno(), "no host name of its own for a process")
    socket.sethostname(name)


def _own_output() -> TextIO:
    """The pipe to the parent; what libraries print goes to standard error instead."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers
