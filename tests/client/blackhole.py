"""A TCP proxy that can swallow: connections stay open, and nothing comes through any more."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Final

_PIECE: Final = 65_536


class Blackhole:
    """Stands between clients and a server, and passes everything on until it is set to swallow."""

    def __init__(self, url: str) -> None:
        host, _, port = url.removeprefix("http://").rpartition(":")
        self._behind = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._swallowed: set[socket.socket] = set()
        self._all = False
        self.connections = 0
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Blackhole:
        return self

    def __exit__(self, *error: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for each in self._sockets:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def swallow_existing(self) -> None:
        """Swallow what passes through the connections that there are; new ones work."""
        with self._lock:
            self._swallowed |= self._sockets

    def swallow_all(self) -> None:
        """Swallow what passes through every connection, new ones included."""
        self._all = True
        self.swallow_existing()

    def recover(self) -> None:
        """Let new connections through again."""
        self._all = False

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._behind)
            with self._lock:
                self.connections += 1
                self._sockets |= {client, server}
                if self._all:
                    self._swallowed |= {client, server}
            for source, target in ((client, server), (server, client)):
                threading.Thread(target=self._pass_on, args=(source, target), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(_PIECE):
                if source not in self._swallowed:
                    target.sendall(data)
        if source not in self._swallowed:
            with suppress(OSError):
                target.shutdown(socket.SHUT_WR)
        with self._lock:
            self._sockets.discard(source)
        # Both directions read from the one and write to the other: the last to end closes.
        if target not in self._sockets:
            source.close()
            target.close()
