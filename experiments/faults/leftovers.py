"""What a run may leave behind that it should not: processes, ports, files."""

import pathlib
from collections.abc import Iterable


def processes(workdir: pathlib.Path) -> list[int]:
    """Ids of processes that have a folder in their command line."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes().split(b"\0")
        except OSError:  # it has ended meanwhile
            continue
        if f"--workdir={workdir}".encode() in words:
            found.append(int(path.name))
    return found


def ports(addresses: Iterable[str]) -> list[str]:
    """Those of addresses host:port at which somebody of this machine listens."""
    listening = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        path = pathlib.Path(table)
        for line in path.read_text().split("\n")[1:] if path.exists() else ():
            words = line.split()
            if words and words[3] == "0A":  # LISTEN
                listening.add(int(words[1].rpartition(":")[2], 16))
    return [x for x in addresses if int(x.rpartition(":")[2]) in listening]


def files(workdir: pathlib.Path, like: pathlib.Path) -> list[str]:
    """Files that one run's folder has and another's has not.

    Names of checkpoints' data, which have digits drawn at random, count by their
    folder.
    """

    def names(folder: pathlib.Path) -> set[str]:
        paths = (path.relative_to(folder) for path in folder.rglob("*"))
        kept = [path for path in paths if (folder / path).is_file()]
        return {
            str(path.parent if "checkpoints" in path.parts else path) for path in kept
        }

    return sorted(names(workdir) - names(like))


def temporary(folder: pathlib.Path) -> list[str]:
    """What lies in a folder for temporary files."""
    return sorted(path.name for path in folder.iterdir())


def shared_memory() -> set[str]:
    """What lies in the machine's shared memory."""
    folder = pathlib.Path("/dev/shm")
    return {path.name for path in folder.iterdir()} if folder.exists() else set()
