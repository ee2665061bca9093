"""Messages between two processes: JSON, one a line, over TCP."""

import contextlib
import ipaddress
import json
import socket
import struct
import threading
import time
from typing import Any

_LONGEST = 1 << 26  # bytes of a message; a stranger could send without end
_UNREAD = 5  # seconds that a message waits for room, where the other does not read


class Wire:
    """One end of a connection; any thread may send, one receives."""

    def __init__(self, connection: socket.socket) -> None:
        """Takes the connection over."""
        if connection.family in (socket.AF_INET, socket.AF_INET6):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # else one that does not read holds up all that is said to the others
        limit = struct.pack("ll", _UNREAD, 0)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        self._socket = connection
        self._lines = connection.makefile("rb")
        self._sending = threading.Lock()

    def send(self, **message: Any) -> bool:
        """Sends a message; False where the connection is gone."""
        line = json.dumps(message).encode() + b"\n"
        try:
            with self._sending:
                self._socket.sendall(line)
        except OSError:
            with contextlib.suppress(OSError):  # a part of a message may have gone
                self._socket.shutdown(socket.SHUT_RDWR)
            return False
        return True

    def receive(self) -> dict[str, Any] | None:
        """The next message; None where there is none any more, or none of ours."""
        try:
            line = self._lines.readline(_LONGEST)
            message = json.loads(line)
        except (OSError, ValueError):
            return None
        return message if isinstance(message, dict) else None

    def is_gone(self) -> bool:
        """Whether the other end has closed, where nobody receives from it yet."""
        try:
            flags = socket.MSG_PEEK | socket.MSG_DONTWAIT
            return not self._socket.recv(1, flags)
        except BlockingIOError:  # it is there, and silent
            return False
        except OSError:
            return True

    def limit(self, seconds: float | None) -> None:
        """How long `receive` waits; None: without end."""
        self._socket.settimeout(seconds)

    def close(self) -> None:
        """Ends the connection, also for a `receive` in another thread."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._lines.close()
        self._socket.close()


def split(address: str) -> tuple[str, int]:
    """Host and port.

    Raises:
        ValueError: if it has not the two.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError(
            f"coordinator must be host:port, got {address!r}; pass the address at "
            "which process 0 can be reached, for instance 10.0.0.1:1234"
        )
    return host.strip("[]"), int(port)


def own_address(address: str) -> str | None:
    """The address, where it is one of this machine that can be listened at alone.

    None for a name: that may stand for another address here than elsewhere, and for an
    address that is translated on the way.
    """
    host, _ = split(address)
    try:
        if host != "localhost":
            ipaddress.ip_address(host)
        _bound(host, 0).close()
    except (ValueError, OSError):
        return None
    return address


def listen(address: str) -> socket.socket:
    """Listens at an address, or at all of this machine: `own_address`.

    Raises:
        ValueError: if another program does so already.
    """
    host, port = split(address)
    try:
        if own_address(address) is not None:
            listening = _bound(host, port)
        elif socket.has_dualstack_ipv6():
            listening = socket.create_server(
                ("", port), family=socket.AF_INET6, dualstack_ipv6=True
            )
        else:
            listening = _bound("", port)
    except OSError as error:
        raise ValueError(
            f"coordinator must be free for process 0 to listen at, got {address!r} "
            f"({error}); pass another port"
        ) from error
    listening.listen(128)
    return listening


def dial(address: str, until: float) -> Wire | None:
    """Connects, as soon as somebody listens; None where nobody does until a moment."""
    while True:
        left = until - time.monotonic()
        if left <= 0:
            return None
        try:
            connection = socket.create_connection(split(address), timeout=min(left, 5))
        except OSError:  # also a name that is not known yet
            time.sleep(min(0.1, left))
            continue
        connection.settimeout(None)
        # the kernel may choose the very port that is dialled, and answer itself
        if connection.getsockname() == connection.getpeername():
            connection.close()
            continue
        return Wire(connection)


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family)
