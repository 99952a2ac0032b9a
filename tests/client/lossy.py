"""Proxies before a real server: they lose its answers, or answer in its place."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

from tests.client.support import ScriptedServer


class Forwarding(ScriptedServer):
    """Hands each request on. `replace` says what comes back in place of the server's answer.

    `replace` takes the number of the request (0 is the first) and the answer; `None` closes the connection.
    """

    def __init__(
        self, url: str, replace: Callable[[int, bytes], bytes | None], *, close_after: bool = False
    ) -> None:
        host, _, port = url.removeprefix("http://").rpartition(":")
        self._behind = (host, int(port))
        self._replace = replace
        super().__init__(self._answers(), close_after=close_after)

    def _answers(self) -> Iterator[bytes | None]:
        number = 0
        while True:
            own = self.own_answer(number)
            if own is not None:
                yield own
                number += 1
                continue
            try:
                answer = self._replace(number, self._forward(self.requests[-1]))
            except OSError:  # the server has ended, and with it the test
                answer = None
            yield answer
            number += 1

    def _forward(self, request: bytes) -> bytes:
        """Send a request to the server; its answer."""
        with socket.create_connection(self._behind) as behind:
            behind.sendall(request.replace(b"\r\n", b"\r\nconnection: close\r\n", 1))
            data = b""
            while received := behind.recv(65536):
                data += received
        return data

    def own_answer(self, number: int) -> bytes | None:
        """What the proxy answers itself, without asking the server; `None` where it hands the request on."""
        return None


class Cutting(Forwarding):
    """Loses the answers at these places (0 is the first)."""

    def __init__(self, url: str, *lost: int) -> None:
        super().__init__(url, lambda number, data: None if number in lost else data)


class Deploying(Forwarding):
    """Answers requests itself, as proxies do while what is behind them is replaced: the first, or `left`."""

    def __init__(self, url: str, own: bytes, count: int = 3) -> None:
        self.left = count
        self._own = own
        super().__init__(url, lambda number, data: data)

    def own_answer(self, number: int) -> bytes | None:
        self.left -= 1
        return self._own if self.left >= 0 else None
