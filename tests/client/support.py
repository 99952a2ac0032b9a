"""What the tests of the clients share: one face for both of them, and servers that answer as told."""

from __future__ import annotations

import asyncio
import inspect
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

from ratus import AsyncClient, AsyncDelivery, Client
from ratus.calls.retrying import Backoff

PATIENCE = 120.0
"""Seconds that a test waits for what should happen at once."""

BOTH = ("sync", "async")


class _OnLoop:
    """An object of the asynchronous client, used as its twin: its coroutines are run to their end."""

    def __init__(self, target: Any, run: Callable[[Any], Any]) -> None:
        self._target = target
        self._run = run

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        if not callable(value):
            return value

        def call(*args: Any, **kwargs: Any) -> Any:
            return self._seen(value(*args, **kwargs))

        return call

    def _seen(self, value: Any) -> Any:
        if inspect.isawaitable(value):
            value = self._run(value)
        if inspect.isasyncgen(value):
            return iter(self._run(_collect(value)))
        if value is self._target:
            return self
        if isinstance(value, AsyncDelivery):
            return DeliveryOnLoop(value, self._run)
        if type(value) is list:
            return [self._seen(each) for each in value]
        return value


class DeliveryOnLoop(_OnLoop):
    """An `AsyncDelivery` as a `Delivery`."""

    def __enter__(self) -> DeliveryOnLoop:
        self._run(self._target.__aenter__())
        return self

    def __exit__(self, *error: Any) -> Any:
        return self._run(self._target.__aexit__(*error))


class ClientOnLoop(_OnLoop):
    """An `AsyncClient` as a `Client`, on an event loop in a thread of its own."""

    def __init__(self, url: str | None = None, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        # Handlers run in threads here, so that they may block as those of the synchronous client do.
        self._loop.set_default_executor(ThreadPoolExecutor(64))
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        super().__init__(AsyncClient(url, **options), self._until_done)

    def _until_done(self, awaitable: Any) -> Any:
        async def wait() -> Any:
            return await awaitable

        return asyncio.run_coroutine_threadsafe(wait(), self._loop).result()

    def subscribe(self, topics: Any, handler: Callable[[Any], Any], **options: Any) -> None:
        async def handle(delivery: AsyncDelivery) -> None:
            await asyncio.to_thread(handler, DeliveryOnLoop(delivery, self._run))

        self._run(self._target.subscribe(topics, handle, signals=False, **options))

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._target.stop)

    def close(self) -> None:
        self._run(self._target.close())

    def __enter__(self) -> ClientOnLoop:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()
        self._run(self._loop.shutdown_default_executor())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _collect(items: Any) -> list[Any]:
    return [item async for item in items]


def connect(kind: str, url: str, **options: Any) -> Any:
    """A client of this kind, without the pauses between its attempts unless they are asked for."""
    pauses = options.pop("pauses", False)
    client: Any = Client(url, **options) if kind == "sync" else ClientOnLoop(url, **options)
    if not pauses:
        inner = client if kind == "sync" else client._target
        inner._backoff = Backoff(random=lambda: 2.0)  # half of a pause is left to chance: here, all of it
    return client


class InBackground:
    """Runs a call in a thread; `join` returns its value or raises its error."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self._value: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._value = self._call()
        except BaseException as error:
            self._error = error

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def join(self, timeout: float = PATIENCE) -> Any:
        self._thread.join(timeout)
        assert not self._thread.is_alive(), "it did not end in time"
        if self._error is not None:
            raise self._error
        return self._value


def answer(status: int, body: bytes = b"", *headers: str) -> bytes:
    """An answer as it travels."""
    lines = [f"HTTP/1.1 {status} Whatever", f"content-length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


Script = Iterable[bytes | None]


class ScriptedServer:
    """Answers each request with the next bytes of a script, whatever was asked.

    `None` in the script, and its end, close the connection without an answer. `requests` has what was asked.
    """

    def __init__(self, script: Script, *, close_after: bool = False) -> None:
        self._script = iter(script)
        self._close_after = close_after
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.requests: list[bytes] = []
        self.connections = 0
        port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        # A blocked accept is not woken by closing its socket.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(PATIENCE)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            for request in _read_requests(connection):
                with self._lock:
                    self.requests.append(request)
                    data = next(self._script, None)
                if data is None:
                    return
                connection.sendall(data)
                if self._close_after:
                    return


def _read_requests(connection: socket.socket) -> Iterator[bytes]:
    data = b""
    while True:
        while b"\r\n\r\n" not in data:
            received = connection.recv(65536)
            if not received:
                return
            data += received
        head, _, rest = data.partition(b"\r\n\r\n")
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        while len(rest) < length:
            rest += connection.recv(65536)
        yield head + b"\r\n\r\n" + rest[:length]
        data = rest[length:]
