"""Requests that wait, each on a connection of its own."""

from __future__ import annotations

import json
import time
from collections import deque
from typing import Any

from tests.servers import Answer, Api, Client, request_bytes


class Waiter:
    """A connection with requests whose answers are read when the test asks for them."""

    def __init__(self, port: int) -> None:
        self._client = Client(port)
        # The connection is in use by now, so that what is sent is read as soon as it comes.
        assert self._client.get(b"/livez").status == 200
        self._methods: deque[str] = deque()

    def send(self, method: str, target: str, body: Any = None) -> None:
        """Send a request, maybe behind another one."""
        self._methods.append(method)
        self._client.send(request_bytes(method, target, None if body is None else json.dumps(body).encode()))

    def answer(self) -> Answer:
        """Its answer, as soon as it comes."""
        return self._client.answer(self._methods.popleft())

    def rest(self) -> bytes:
        """Everything that comes until the server closes the connection."""
        return self._client.rest()

    def is_waiting(self) -> bool:
        """Whether no answer has come yet."""
        self._client.sock.setblocking(False)
        try:
            self._client.sock.recv(1)
        except BlockingIOError:
            return True
        finally:
            self._client.sock.settimeout(10)
        raise AssertionError("it is answered already")

    def close(self) -> None:
        self._client.sock.close()

    def half_close(self) -> None:
        self._client.half_close()

    def reset(self) -> None:
        self._client.reset()


class Waiters:
    """Requests that wait at one server; their connections are closed with the block."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._made: list[Waiter] = []

    def __enter__(self) -> Waiters:
        return self

    def __exit__(self, *exception: object) -> None:
        for waiter in self._made:
            waiter.close()

    def request(self, method: str, target: str, body: Any = None) -> Waiter:
        """Any request."""
        waiter = Waiter(self.port)
        self._made.append(waiter)
        waiter.send(method, target, body)
        settle(self.port)
        return waiter

    def poll(self, topic: str, wait: str = "20s", **members: Any) -> Waiter:
        """A poll that waits."""
        return self.request("POST", f"/v1/topics/{topic}/promises?wait={wait}", members or None)


def settle(port: int) -> None:
    """Return when the server has dealt with everything that was sent to it before."""
    with Api(port) as api:
        for _ in range(2):
            assert api.get("/livez").status == 200


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._started = time.perf_counter()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._started
