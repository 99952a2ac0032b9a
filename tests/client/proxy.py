"""A TCP proxy that misbehaves: it drops, delays and cuts connections, as its random numbers say."""

from __future__ import annotations

import random
import socket
import threading
import time
from contextlib import suppress
from typing import Final

PIECE: Final = 65_536
LONGEST_DELAY: Final = 0.05
"""Seconds; long enough to shuffle what happens at once, short enough for a test."""


class Proxy:
    """Stands between clients and a server. Of a thousand pieces that pass, `troubles` meet with one."""

    def __init__(self, url: str, *, seed: int, troubles: int) -> None:
        host, _, port = url.removeprefix("http://").rpartition(":")
        self._behind = (host, int(port))
        self._random = random.Random(seed)
        self._troubles = troubles
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._sockets: set[socket.socket] = set()
        self.counts = dict.fromkeys(("refused", "cut", "delayed", "answers lost", "swallowed"), 0)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._start(self._accept)

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *error: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in list(self._sockets):
            self._end(each)
        for thread in self._threads:
            thread.join(10)

    def _start(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)  # type: ignore[arg-type]  # a method
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._happens("refused"):
                client.close()
                continue
            try:
                server = socket.create_connection(self._behind)
            except OSError:
                client.close()
                continue
            self._sockets |= {client, server}
            self._start(self._pass_on, client, server, "cut")
            self._start(self._pass_on, server, client, "answers lost")

    def _pass_on(self, source: socket.socket, target: socket.socket, trouble: str) -> None:
        while True:
            try:
                data = source.recv(PIECE)
            except OSError:
                data = b""
            if not data:
                # A client that closes its half is to be noticed by the server, and the other way round.
                with suppress(OSError):
                    target.shutdown(socket.SHUT_WR)
                return
            if self._happens("delayed"):
                time.sleep(self._random.random() * LONGEST_DELAY)
            if self._happens("swallowed", rarely=True):
                return  # the connection stays open, and nothing comes through any more
            if self._happens(trouble):
                with suppress(OSError):
                    target.sendall(data[: self._random.randrange(len(data))])
                self._end(source)
                self._end(target)
                return
            try:
                target.sendall(data)
            except OSError:
                self._end(source)
                return

    def _happens(self, trouble: str, *, rarely: bool = False) -> bool:
        if self._random.randrange(20_000 if rarely else 1_000) >= self._troubles:
            return False
        self.counts[trouble] += 1
        return True

    def _end(self, connection: socket.socket) -> None:
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()
        self._sockets.discard(connection)
