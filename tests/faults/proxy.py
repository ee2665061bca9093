"""A network between one process and process 0, which a test can cut."""

import contextlib
import socket
import struct
import threading
import time


class Proxy:
    """Forwards connections to `target`, (host, port), until it is cut."""

    def __init__(self):
        self.target, self.is_silent = None, False
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._connections = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self):
        return f"127.0.0.1:{self._listening.getsockname()[1]}"

    def silence(self):
        """Nothing goes through any more, and nobody is told: a cable that is out."""
        self.is_silent = True

    def reset(self):
        """All connections are reset: a router that has started again."""
        self._listening.close()
        at_once = struct.pack("ii", 1, 0)
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
                connection.shutdown(socket.SHUT_RD)  # wakes who reads
                connection.close()

    def close(self):
        self.reset()

    def _accept(self):
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(self.target)
            except OSError:  # process 0 does not listen yet
                near.close()
                continue
            self._connections += [near, far]
            for pair in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                while self.is_silent:
                    time.sleep(0.05)
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
