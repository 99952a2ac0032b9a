"""One request and its answer: the ASGI side of a connection."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Generator, Iterable
from functools import partial
from types import coroutine
from typing import TYPE_CHECKING, Any, Protocol

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from ratus.core.errors import InternalError, RatusError
from ratus.server.error_responses import error_body, error_headers

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Scope

    from ratus.server.connection_limits import ConnectionLimits
    from ratus.server.state import ServingState

logger = logging.getLogger("ratus")

# Bytes. A body of up to this size is joined with its head, and both are written at once; a larger one is not
# worth the copy.
JOIN_LIMIT = 16_384

# What has been done of the answer. The head is held back until the first part of the body, so that both
# travel together and a failure in between can still be answered properly.
NOTHING, HELD, SENT, COMPLETE = range(4)


class CycleConnection(Protocol):
    """What a request asks of its connection; `ratus.server.protocol.HTTPProtocol` is one."""

    state: ServingState
    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    flow: FlowControl
    disconnected: bool

    def resume_body(self) -> None:
        """The application waits for more of the body."""

    def write_soon(self, answer: bytes) -> None:
        """Write a whole answer, together with others if there are any."""

    def flush(self) -> None:
        """Write what has been answered before."""

    def answered(self, cycle: RequestResponseCycle) -> None:
        """The answer has been written."""

    def ended(self, cycle: RequestResponseCycle) -> None:
        """The application has returned."""

    def close(self) -> None:
        """Write what is left to write, then close."""

    def abort(self) -> None:
        """Close without writing what is left."""


class RequestResponseCycle:
    """Runs the application for one request: feeds it the body, writes what it sends."""

    __slots__ = (
        "_arrived",
        "_body",
        "_bodyless",
        "_chunked",
        "_connection",
        "_end_delivered",
        "_expects_continue",
        "_head",
        "_http10",
        "_received",
        "_remaining",
        "_scope",
        "_since",
        "_stage",
        "_task",
        "disconnected",
        "held",
        "keep_alive",
        "more_body",
    )

    def __init__(
        self, connection: CycleConnection, scope: Scope, *, keep_alive: bool, expects_continue: bool
    ) -> None:
        self._connection = connection
        self._scope = scope
        self._expects_continue = expects_continue
        # The part that the application has not received; a bytearray where it came in several pieces.
        self._body: bytes | bytearray = b""
        self._received = 0
        self._since: float | None = None
        # Bytes of the body that are counted as held for this request.
        self.held = 0
        self._end_delivered = False
        self._arrived: asyncio.Event | None = None
        self._stage = NOTHING
        self._head = b""
        self._http10 = scope["http_version"] == "1.0"
        self._bodyless = scope["method"] == "HEAD"
        self._chunked = False
        self._remaining: int | None = None
        self.keep_alive = keep_alive
        # The request's body is not complete yet.
        self.more_body = True
        # The client does not read the answer any more; what the application sends is dropped.
        self.disconnected = False
        # Kept here because the loop itself holds tasks only weakly.
        self._task: asyncio.Task[None] | None = None

    # What the connection reports

    def feed(self, data: bytes) -> bool:
        """Take a part of the body. True: more is held now than should be, so the caller stops reading."""
        body = self._body
        if not body:
            body = data
        elif isinstance(body, bytearray):
            body += data
        else:
            body = bytearray(body) + data
        self._body = body
        self._received += len(data)
        if self._arrived is not None:
            self._arrived.set()
        return len(body) > HIGH_WATER_LIMIT

    def whole_body(self) -> bytes | None:
        """See ``Connection.whole_body``: what ``receive`` does in a message."""
        if self.more_body or self._end_delivered or self.disconnected or self._stage != NOTHING:
            return None
        self._end_delivered = True
        body, self._body = self._body, b""
        return bytes(body)

    def missing(self) -> int:
        """How many bytes of the body are still to come; 0 for a request without ``Content-Length``."""
        for name, value in self._scope["headers"]:
            if name == b"content-length":
                return int(value) - self._received
        return 0

    def hold(self, now: float) -> int:
        """Count what has come of a body that is not complete. Returns how many bytes are new."""
        if self._since is None:
            self._since = now
        more = self._received - self.held
        self.held = self._received
        return more

    def too_slow(self, now: float, limits: ConnectionLimits) -> bool:
        """Whether the body comes at less than ``body_rate``; judged once ``body_seconds`` have passed."""
        seconds = 0.0 if self._since is None else now - self._since
        return seconds > limits.body_seconds and self._received < limits.body_rate * seconds

    def wake(self) -> None:
        """Wake ``receive``, since something has changed that it may be waiting for."""
        if self._arrived is not None:
            self._arrived.set()

    def disconnect(self) -> None:
        """The connection is lost to this request: from now on what the application sends is dropped."""
        self.disconnected = True
        self.wake()

    @property
    def answering(self) -> bool:
        """A part of the answer has been written."""
        return self._stage >= SENT

    # Running the application

    def begin(self, app: ASGIApp) -> None:
        """Run ``app`` on this request, now or from the loop's next turn on.

        A request of an eager method runs at once and up to its first pause, and only what is left becomes a
        task. Most have no pause, and making tasks of them would be a tenth of what they cost.

        Each request runs in a copy of the server's context, the eager part included: a context variable that
        is set in one request is not seen in another.
        """
        state = self._connection.state
        if self._scope["method"] not in state.eager:
            self.begin_later(app)
            return
        running = self._run(app)
        context = state.context.copy()
        try:
            awaited = context.run(running.send, None)
        except StopIteration:
            return
        self._task = self._connection.loop.create_task(_finish(running, awaited), context=context)

    def begin_later(self, app: ASGIApp) -> None:
        """Run ``app`` on this request as a task, from the loop's next turn on."""
        connection = self._connection
        context = connection.state.context.copy()
        self._task = connection.loop.create_task(self._run(app), context=context)

    async def _run(self, app: ASGIApp) -> None:
        """Run ``app`` and see to it that the request is answered or its connection ended."""
        connection = self._connection
        try:
            await app(self._scope, self.receive, self.send)
            if self._stage != COMPLETE and not self.disconnected and not connection.disconnected:
                logger.error("the application did not complete its answer to %s", self._describe())
        except Exception:
            # A body cut off by its sender is no defect, and clients must not be able to fill the log with it.
            level = logging.DEBUG if self.disconnected or connection.disconnected else logging.ERROR
            logger.log(level, "the application failed on %s", self._describe(), exc_info=True)
        finally:
            if self._stage != COMPLETE and not self.disconnected:
                if self.answering:
                    connection.abort()
                elif connection.disconnected:
                    connection.close()
                else:
                    self._answer_error(InternalError())
            self._task = None
            connection.ended(self)

    def _describe(self) -> str:
        # The query is left out: what clients put there does not belong in the log.
        return f"{self._scope['method']} {self._scope['raw_path'].decode('ascii')}"

    def _answer_error(self, error: RatusError) -> None:
        body = error_body(error)
        self._start(error.status, error_headers(body))
        self._write(body, more=False)

    # The ASGI interface

    async def receive(self) -> Message:
        """The next part of the body; ``http.disconnect`` after the answer or once the peer disconnected."""
        connection = self._connection
        if self._expects_continue:
            self._expects_continue = False
            if self._stage == NOTHING and self.more_body and not self.disconnected:
                connection.flush()
                connection.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while True:
            if self.disconnected or self._stage == COMPLETE:
                return {"type": "http.disconnect"}
            if self._body or not (self.more_body or self._end_delivered):
                body = bytes(self._body)
                self._body = b""
                self._end_delivered = not self.more_body
                return {"type": "http.request", "body": body, "more_body": self.more_body}
            if connection.disconnected:
                return {"type": "http.disconnect"}
            if self.more_body:
                connection.resume_body()
            if self._arrived is None:
                self._arrived = asyncio.Event()
            self._arrived.clear()
            await self._arrived.wait()

    async def send(self, message: Message) -> None:
        """Write a part of the answer; does nothing once the connection is lost.

        Raises RuntimeError for messages out of order, for headers with line breaks, and for a body that is
        not as long as its ``content-length``.
        """
        if self.disconnected:
            return
        flow = self._connection.flow
        if flow.write_paused:
            await flow.drain()
            if self.disconnected:
                return
        kind = message["type"]
        if self._stage == NOTHING:
            if kind != "http.response.start":
                raise RuntimeError(f"expected http.response.start, got {kind}")
            self._start(message["status"], message.get("headers", ()))
        elif self._stage == COMPLETE:
            raise RuntimeError(f"{kind} sent after the answer was complete")
        else:
            if kind != "http.response.body":
                raise RuntimeError(f"expected http.response.body, got {kind}")
            self._write(message.get("body", b""), more=message.get("more_body", False))

    def answer(self, status: int, content_type: bytes, body: bytes) -> bool:
        """See ``Connection.answer``: what ``send`` does with two messages and any headers."""
        connection = self._connection
        if self._stage != NOTHING or self.disconnected or self._bodyless or connection.flow.write_paused:
            return False
        state = connection.state
        self.keep_alive = self.keep_alive and not self.more_body and not state.draining
        self._stage = COMPLETE
        connection.write_soon(
            b"%b%bcontent-type: %b\r\ncontent-length: %d\r\n%b\r\n%b"
            % (
                STATUS_LINE[status],
                state.date_line,
                content_type,
                len(body),
                b"" if self.keep_alive else b"connection: close\r\n",
                body,
            )
        )
        if self._arrived is not None:
            self._arrived.set()
        connection.answered(self)
        return True

    # Writing

    def _start(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Build the head and hold it."""
        state = self._connection.state
        length: int | None = None
        keep_alive = self.keep_alive and not state.draining
        parts = [STATUS_LINE[status], state.date_line]
        lines = 2
        for name, value in headers:
            name = name.lower()
            if name == b"connection":
                keep_alive = keep_alive and b"close" not in value.lower()
                continue
            if name == b"transfer-encoding":
                # How the body is framed is decided here: by its length, else in chunks.
                continue
            if name == b"content-length":
                length = int(value)
            parts += (name, b": ", value, b"\r\n")
            lines += 1
        # While the request's body is still arriving, the next bytes are not the start of another request.
        if self.more_body:
            keep_alive = False
        chunked = length is None and not self._bodyless and status not in (204, 304)
        if chunked and self._http10:
            # HTTP/1.0 knows no chunks: its connections are never kept, and their end is the end of the body.
            chunked = False
        elif chunked:
            parts.append(b"transfer-encoding: chunked\r\n")
            lines += 1
        elif length is None:
            length = 0
        if not keep_alive:
            parts.append(b"connection: close\r\n")
            lines += 1
        head = b"".join(parts)
        # A line break in a name or value would begin another header, or an answer that the application did
        # not give.
        if head.count(b"\n") != lines or head.count(b"\r") != lines or b"\0" in head:
            raise RuntimeError("a response header holds a line break or a NUL")
        self._head = head + b"\r\n"
        self._remaining = length
        self._chunked = chunked
        self.keep_alive = keep_alive
        self._stage = HELD

    def _write(self, body: Any, *, more: bool) -> None:
        """Write a part of the body, and before the first the head."""
        if self._bodyless:
            body = b""
        elif self._remaining is not None:
            self._remaining -= len(body)
            if self._remaining < 0 or (self._remaining and not more):
                # With the head still held nothing has been written, and a proper answer can replace this one.
                self._stage = NOTHING if self._stage == HELD else self._stage
                raise RuntimeError("the answer's body is not as long as its content-length")
        elif self._chunked:
            body = b"".join((b"%x\r\n" % len(body), body, b"\r\n")) if body else b""
            if not more:
                body += b"0\r\n\r\n"
        connection = self._connection
        held, self._stage = self._stage == HELD, SENT
        if held and not more and len(body) <= JOIN_LIMIT:  # the usual case
            connection.write_soon(self._head + body)
        else:
            connection.flush()
            if held:
                connection.transport.writelines((self._head, body))
            else:
                connection.transport.write(body)
        if not more:
            self._stage = COMPLETE
            self.wake()
            connection.answered(self)


async def _finish(running: Coroutine[Any, Any, None], awaited: Any) -> None:
    """The rest of a coroutine, as a coroutine: since Python 3.12 a task takes no generator."""
    await _rest(running, awaited)


@coroutine
def _rest(running: Coroutine[Any, Any, None], awaited: Any) -> Generator[Any, None, None]:
    """Run the rest of a coroutine that has begun and now waits for ``awaited``."""
    while True:
        try:
            yield awaited
        except BaseException as error:
            resume = partial(running.throw, error)
        else:
            resume = partial(running.send, None)
        try:
            awaited = resume()
        except StopIteration:
            return
