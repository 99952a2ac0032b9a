"""Connections of the asynchronous client: an asyncio protocol, kept and used again."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from typing import cast

from ratus.calls.address import Address
from ratus.calls.connecting import Addresses
from ratus.calls.http1 import Response, ResponseReader
from ratus.calls.retrying import ClientClosed
from ratus.calls.sync_connections import IDLE_SECONDS, MAX_IDLE, reason
from ratus.core.errors import TransportError


class AsyncInterrupt:
    """Ends one waiting request, in such a way that no task is lost on the way; see `Interrupt`."""

    def __init__(self) -> None:
        self._connection: _Connection | None = None
        self.begun = False

    def begin(self) -> None:
        """Ask the server to end the request. Its response, which may hold claimed tasks, can still come."""
        self.begun = True
        if self._connection is not None:
            self._connection.half_close()

    def cut(self) -> None:
        """End the connection: the request fails without its response."""
        self.begun = True
        if self._connection is not None:
            self._connection.close()

    def attach(self, connection: _Connection) -> None:
        """Note the connection of the request. Raises `TransportError` if the interrupt has begun already."""
        if self.begun:
            raise TransportError("interrupted", sent=False)
        self._connection = connection

    def detach(self) -> None:
        """Note that the request has ended."""
        self._connection = None


class AsyncConnections:
    """Sends requests to one server and waits for their answers, on one event loop at a time."""

    def __init__(self, address: Address, *, tls: ssl.SSLContext | None, connect_seconds: float) -> None:
        self._address = address
        self._tls = (tls or ssl.create_default_context()) if address.secure else None
        self._connect_seconds = connect_seconds
        self._addresses = Addresses(address.host, address.port)
        self._idle: deque[_Connection] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    async def close(self) -> None:
        """Close the idle connections now, and those in use when their responses have arrived."""
        self._closed = True
        if self._loop is asyncio.get_running_loop():
            self._drop_idle()
            # The event loop closes a transport in its next turn; a loop that ends before that complains.
            await asyncio.sleep(0)
        self._idle = deque()

    @property
    def closed(self) -> bool:
        """Whether `close` was called: every request fails from then on."""
        return self._closed

    async def exchange(
        self,
        data: bytes,
        seconds: float,
        interrupt: AsyncInterrupt | None = None,
        connect_seconds: float | None = None,
    ) -> Response:
        """Send a request and return its answer, which must be whole within `seconds`.

        A connection must be made within `connect_seconds`, or the client's own limit. Raises
        `TransportError`, and nothing else but the cancellation of its task.
        """
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            # Connections belong to the loop they were made on, which may be closed by now.
            self._loop = loop
            self._idle = deque()
        connection = await self._take(connect_seconds)
        try:
            if interrupt is not None:
                interrupt.attach(connection)
            response, reusable = await connection.exchange(data, seconds)
        except BaseException as error:
            connection.close()
            if isinstance(error, TransportError):
                # Whatever broke this connection may have broken the idle ones as well.
                self._drop_idle()
            raise
        finally:
            if interrupt is not None:
                interrupt.detach()
        if reusable and not self._closed and not (interrupt is not None and interrupt.begun):
            connection.idle_since = asyncio.get_running_loop().time()
            self._idle.append(connection)
            if len(self._idle) > MAX_IDLE:
                self._idle.popleft().close()
        else:
            connection.close()
        return response

    def _drop_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()

    async def _take(self, connect_seconds: float | None) -> _Connection:
        if self._closed:
            raise ClientClosed
        limit = self._connect_seconds
        if connect_seconds is not None:
            limit = min(limit, connect_seconds)
        loop = asyncio.get_running_loop()
        oldest = loop.time() - IDLE_SECONDS
        while self._idle:
            connection = self._idle.pop()
            if connection.usable and connection.idle_since >= oldest:
                return connection
            connection.close()
        address = self._address
        try:
            async with asyncio.timeout(limit):
                _, connection = await loop.create_connection(
                    lambda: _Connection(address, loop),
                    sock=await self._addresses.connect_async(loop, limit),
                    ssl=self._tls,
                    server_hostname=address.host if self._tls is not None else None,
                )
        except TimeoutError:
            raise TransportError(f"cannot connect to {address} within {limit:g} s", sent=False) from None
        except (OSError, ValueError) as error:  # a name that cannot be encoded is a ValueError
            raise TransportError(f"cannot connect to {address}: {reason(error)}", sent=False) from error
        return connection


class _Connection(asyncio.Protocol):
    """One connection to the server."""

    def __init__(self, address: Address, loop: asyncio.AbstractEventLoop) -> None:
        self.idle_since = 0.0
        self.usable = True
        """Whether the connection is open, and no bytes have come that no request asked for."""
        self._address = address
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._reader: ResponseReader | None = None
        self._answered: asyncio.Future[None] | None = None

    async def exchange(self, data: bytes, seconds: float) -> tuple[Response, bool]:
        """Send a request; return its response, and whether the connection can be used again."""
        if self._transport is None or not self.usable:
            raise TransportError(f"lost the connection to {self._address}", sent=False)
        reader = self._reader = ResponseReader()
        answered = self._answered = self._loop.create_future()
        alarm = self._loop.call_later(seconds, self._give_up, seconds)
        try:
            self._transport.write(data)
            await answered
        finally:
            alarm.cancel()
            self._reader = self._answered = None
        return reader.response(), reader.reusable and self.usable

    def half_close(self) -> None:
        """Close the sending half of the connection; with TLS, which has no halves, the whole."""
        if self._transport is None or self._transport.is_closing():
            return
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()

    def close(self) -> None:
        """Abort the connection; a request that waits for its response fails."""
        self.usable = False
        if self._transport is not None:
            self._transport.abort()

    def _give_up(self, seconds: float) -> None:
        self._fail(TransportError(f"no whole answer from {self._address} within {seconds:g} s"))

    def _fail(self, error: TransportError) -> None:
        self.usable = False
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(error)

    # Called by the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is open."""
        # uvloop's transports are not instances of asyncio's classes.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Read bytes of a response. Bytes that no request asked for make the connection unusable."""
        if self._reader is None or self._reader.complete:
            self.usable = False
            return
        try:
            complete = self._reader.feed(data)
        except TransportError as error:
            self._fail(error)
            return
        if complete and self._answered is not None and not self._answered.done():
            self._answered.set_result(None)

    def eof_received(self) -> None:
        """The server sends nothing more."""
        self.usable = False
        if self._reader is None or self._answered is None or self._answered.done():
            return
        if self._reader.end():
            self._answered.set_result(None)
        else:
            self._fail(TransportError(f"{self._address} ended the connection before its whole answer came"))

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed."""
        if exc is not None:
            self._fail(TransportError(f"lost the connection to {self._address}: {reason(exc)}"))
        self.eof_received()
