"""Network namespaces that are surely removed again.

Their names say which process made them, so that a process removes its own, and what a
killed one has left.
"""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
from collections.abc import Iterator

PREFIX = "qgenx"
HOSTS = pathlib.Path("/etc/netns")  # `ip netns exec` mounts files here over /etc's


class NotPossible(RuntimeError):
    """Raised where this machine cannot make namespaces, with what is missing."""


def check_possible() -> None:
    """Tries to make a namespace.

    Raises:
        NotPossible: if root, iproute2 or the kernel's permission is missing.
    """
    if os.geteuid() != 0:
        raise NotPossible("network namespaces need root; run it by sudo")
    missing = [name for name in ("ip", "tc") if shutil.which(name) is None]
    if missing:
        raise NotPossible(
            f"{' and '.join(missing)} of iproute2 are not there; install iproute2"
        )
    name = Names().of("try")
    here = ["netns", name]
    try:
        run("ip", "netns", "add", name)
        cable = ["one", *here, "type", "veth", "peer", "name", "two", *here]
        run("ip", "link", "add", *cable)
        bucket = ["tbf", "rate", "1mbit", "burst", "3200", "latency", "1s"]
        run("tc", "-n", name, "qdisc", "add", "dev", "one", "root", *bucket)
    except NotPossible as error:
        raise NotPossible(
            f"this machine permits no network namespaces with veth and tbf: {error}"
        ) from error
    finally:
        _remove(name)


def existing() -> list[str]:
    """All namespaces that this program has made, in any process."""
    listed = run("ip", "netns", "list").split("\n")
    names = {line.split()[0] for line in listed if line}
    if HOSTS.is_dir():
        names |= {folder.name for folder in HOSTS.iterdir()}
    return sorted(name for name in names if _owner(name) is not None)


def sweep() -> list[str]:
    """Removes what runs that were killed have left, and returns the names."""
    left = [name for name in existing() if not _is_running(_owner(name))]
    for name in left:
        _remove(name)
    return left


@contextlib.contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM raises KeyboardInterrupt, so that everything is cleaned up."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Names:
    """Names of this process's namespaces: they say who made them."""

    def of(self, what: str) -> str:
        """The name of one."""
        return f"{PREFIX}-{os.getpid()}-{what}"

    def close(self) -> None:
        """Removes all there are, without being interrupted."""
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = [signal.signal(number, signal.SIG_IGN) for number in numbers]
        try:
            for name in existing():
                if _owner(name) == os.getpid():
                    _remove(name)
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)


def _owner(name: str) -> int | None:
    """The process that made a namespace; None if it is not one of ours."""
    parts = name.split("-")
    if len(parts) == 3 and parts[0] == PREFIX and parts[1].isdigit():
        return int(parts[1])
    return None


def _is_running(process: int | None) -> bool:
    return process is not None and pathlib.Path(f"/proc/{process}").exists()


def _remove(name: str) -> None:
    """Ends the processes in a namespace, and removes it and its files."""
    inside = subprocess.run(
        ["ip", "netns", "pids", name], capture_output=True, text=True, check=False
    ).stdout
    for process in map(int, inside.split()):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)
    shutil.rmtree(HOSTS / name, ignore_errors=True)
    with contextlib.suppress(OSError):
        HOSTS.rmdir()  # only if it is empty


def run(*command: str) -> str:
    """What a command of iproute2 prints.

    Raises:
        NotPossible: if it fails, with what it says.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotPossible(f"`{' '.join(command)}` failed: {done.stderr.strip()}")
    return done.stdout
