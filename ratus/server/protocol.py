"""The HTTP/1.1 protocol of a connection: uvicorn's on httptools, with limits.

What uvicorn leaves out and this adds: limits of time and size on everything a client sends, JSON errors,
targets split by our own rules, answers to clients that pipeline or half-close, and a notification to the
application when its peer disconnects.

A connection *reads* one request at a time (``_receiving``, until its body is complete) and *answers* one at a
time (``_current``). Requests pipelined behind the current one wait in ``_waiting``, what follows them waits
unparsed in ``_unparsed``, and reading is paused.
``deadline`` is the moment by which the connection must have made its next step; the sweep calls ``expire``
when it has passed.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable
from typing import NoReturn

import httptools
from uvicorn.config import Config

from ratus.core.errors import BadRequest, InternalError, RatusError, RequestTimeout
from ratus.server.error_responses import last_answer
from ratus.server.heads import ambiguity, head_size, too_large
from ratus.server.parsing import ParsingProtocol
from ratus.server.request_response_cycle import RequestResponseCycle
from ratus.server.state import ServingState
from ratus.server.target import split_target

logger = logging.getLogger("ratus")

NEVER = math.inf

# Bytes. One read of 250 KiB can hold 14,000 minimal requests, which would become 35 MiB of objects. It is
# parsed in pieces, and no further than to a request that has to wait for the one before it: a piece can hold
# 57 requests at the most. Most requests are shorter than this.
PIECE = 1024

# ``_head_size`` of a head that began in the chunk being parsed: its size is not known before the chunk ends.
FRESH = -1


class _Refused(Exception):
    """Raised in a callback of the parser, to leave the parser; the error to be answered is in ``_fault``.

    The connection must not keep this exception: its traceback refers to the frames that it passed, and these
    refer to the connection.
    """


class HTTPProtocol(ParsingProtocol):
    """One connection of a client, a ``Connection`` to the application."""

    def __init__(self, config: Config, state: ServingState, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(config, state, loop)
        self.state = state
        self.disconnected = False
        self.pipelined = False
        self.deadline = NEVER
        self._limits = state.limits
        self._watcher: Callable[[], None] | None = None
        self._current: RequestResponseCycle | None = None
        # The current request until it is begun, which is done when what was read has been parsed.
        self._fresh: RequestResponseCycle | None = None
        self._waiting: deque[RequestResponseCycle] = deque()
        # What was read behind the waiting requests. After a read there is such only while a request waits.
        self._unparsed: bytes | memoryview = b""
        # The error that a parser callback found, and the one to be answered once the requests before it are.
        self._fault: RatusError | None = None
        self._refusal: RatusError | None = None
        # Of a connection beyond the limits: the answer to its first request if that is no probe.
        self._unless_probe: RatusError | None = None
        # Bytes of the head that is being read, or within a body those since its last content.
        self._head_size = FRESH
        self._progress = False
        self._expects_continue = False
        # The last Host that was looked at: a client sends the same one with every request.
        self._host: bytes | None = b""
        self._first = True
        # Answers that are held until what can be read now has been read.
        self._unwritten = b""
        # The end of the connection.
        self._half_closed = False
        self._closing = False
        self._lingering = False
        self._discarded = 0
        self._unsent = 0
        self._counted_unsent = 0
        self._address = ""
        self._draining = False

    # The transport calls

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as the base
        """Called by asyncio: set the deadline of the first request's headers, or refuse the connection."""
        super().connection_made(transport)
        self._new_parser()
        self.deadline = self.loop.time() + self._limits.header_seconds
        self._address = self.client[0] if self.client else ""
        refusal = self.state.load.connect(self._address, len(self.connections))
        if refusal is not None:
            if self.state.load.begin_probe():
                self._unless_probe = refusal
                # Probes send their request at once, and few connections may wait for one.
                self.deadline = self.loop.time() + self._limits.linger_seconds
            else:
                self._answer_last(refusal)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio once the connection is closed: end the request in work, and drop what is held for
        it."""
        self.connections.discard(self)
        self.state.load.disconnect(self._address)
        if self._unless_probe is not None:
            self._unless_probe = None
            self.state.load.end_probe()
        self._count_unsent(0)
        self.disconnected = self._closing = True
        self._unwritten = b""
        self._drop_unread()
        if self._current is not None:
            self._current.disconnect()
            self._alert()
        self.flow.resume_writing()
        # The parser and its callbacks refer to each other.
        self.parser = None  # type: ignore[assignment]  # as in the base
        if self._current is None:
            self._let_go()
        self.state.settled()

    def _let_go(self) -> None:
        """Break the reference cycles of a connection that is lost and has no request in work.

        They would wait for the garbage collector, which looks at old objects only rarely.
        """
        self.transport = None  # type: ignore[assignment]  # nothing is written any more
        self.flow = None  # type: ignore[assignment]  # and no request waits to write

    def eof_received(self) -> bool:  # type: ignore[override]  # the base only says None, asyncio takes both
        """Called by asyncio when the peer has closed or half-closed the connection.

        It counts as disconnected; the request in work may still be answered.
        """
        self.disconnected = self._half_closed = True
        if self._closing or self._current is None:
            self.close()
            return False
        self._current.wake()
        self._alert()
        # TLS cannot be half-closed.
        return self.scheme == "http"

    def data_received(self, data: bytes) -> None:
        """Called by asyncio: parse ``data``, then begin the request that was read unless it has to wait."""
        if self._closing or self._refusal is not None:
            self._discard(len(data))
            return
        if self._waiting:
            # Reading is paused, but TLS had decrypted more already.
            self._unparsed = b"".join((self._unparsed, data))
        elif len(data) <= PIECE:
            self._parse(data)
        else:
            self._unparsed = memoryview(data)
            self._parse_on()
        fresh = self._fresh
        if fresh is not None:
            self._fresh = None
            fresh.begin(self.app)

    def _parse_on(self) -> None:
        """Parse ``_unparsed``, up to a request that has to wait for the one before it."""
        rest, position = memoryview(self._unparsed), 0
        self._unparsed = b""
        while position < len(rest) and not (self._waiting or self._closing or self._refusal is not None):
            # The missing bytes of a body cannot hold another request, so they may be parsed as one piece.
            end = position + max(PIECE, self.missing())
            self._parse(rest[position:end])
            position = end
        if self._waiting and self._refusal is None:
            self._unparsed = rest[position:]

    def _parse(self, data: bytes | memoryview) -> None:
        """Parse a part of what was read, then check the limits of a head or a body that is not complete."""
        try:
            self._feed_part(data)
        except httptools.HttpParserError as error:
            self._refuse(self._diagnose(error))
            return
        if self._head_open:
            self._measure_head()
        elif self._receiving is not None:
            self._measure_body()

    def pause_writing(self) -> None:
        """Called by asyncio: the peer is slow to read. It has ``body_seconds`` to make progress."""
        super().pause_writing()
        self._unsent = self.transport.get_write_buffer_size()
        self._count_unsent(self._unsent)
        self.deadline = self.loop.time() + self._limits.body_seconds

    def _count_unsent(self, size: int) -> None:
        """Count ``size`` bytes as not read by the peer, in place of what this connection counted before.

        Called only where writing is paused, or a connection is slow to close: small buffers are not counted.
        """
        self.state.load.unread_bytes += size - self._counted_unsent
        self._counted_unsent = size

    def resume_writing(self) -> None:
        """Called by asyncio: the peer has read most of what was written."""
        super().resume_writing()
        self._count_unsent(0)
        if not self._closing:
            self._set_deadline()

    # The parser calls

    def on_message_begin(self) -> None:
        """Called by the parser at the first byte of a request."""
        self._expects_continue = False
        self._head_open = True
        self._head_size = FRESH

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser with a header, or with a trailer, which is ignored."""
        if not self._head_open:
            return
        if len(self.headers) >= self._limits.header_count:
            self._fail(too_large(self._limits))
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self._expects_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Called by the parser: the head is complete. Make the request the current one, or queue it."""
        method = self.parser.get_method().decode("ascii")
        if method == "CONNECT":
            self._fail(BadRequest("CONNECT opens tunnels, which this server does not"))
        limit = self._limits.header_bytes
        counted = self._head_size != FRESH or self._chunk_size > limit
        if counted and head_size(self.url, self.headers) > limit:
            self._fail(too_large(self._limits))
        if self.parser.should_upgrade():
            # No other protocol is supported. The parser raises HttpParserUpgrade next, and `feed` parses the
            # request again as plain HTTP/1.1.
            return
        version = self.parser.get_http_version()
        if version not in ("1.1", "1.0"):
            self._fail(BadRequest(f"HTTP/{version} is not spoken here, use HTTP/1.1"))
        headers = self.headers
        names = dict(headers)
        host = names.get(b"host")
        if host != self._host or len(names) != len(headers) or b"transfer-encoding" in names:
            ambiguous = ambiguity(version, headers)
            if ambiguous is not None:
                self._fail(ambiguous)
            self._host = host
        try:
            raw_path, path, query = split_target(method, self.url)
        except BadRequest as error:
            self._fail(error)
        if self._unless_probe is not None and (method != "GET" or raw_path not in self._limits.probes):
            self._fail(self._unless_probe)
        cycle = RequestResponseCycle(
            self,
            {
                "type": "http",
                "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
                "http_version": version,
                "server": self.server,
                "client": self.client,
                "scheme": self.scheme,
                "root_path": "",
                "method": method,
                "path": path,
                "raw_path": raw_path,
                "query_string": query,
                "headers": headers,
                "ratus.connection": self,
                "ratus.headers": names,
            },
            keep_alive=version == "1.1" and self.parser.should_keep_alive() and self._unless_probe is None,
            expects_continue=self._expects_continue and version == "1.1",
        )
        # An idle connection must not keep the head of its last request in memory.
        self.url, self.headers = b"", []
        self._head_open = False
        self._head_size = 0
        self._progress = True
        if self._current is None:
            self._take(cycle)
            self._fresh = cycle
        else:
            self.flow.pause_reading()
            self._waiting.append(cycle)
            self._note_pipelined()
        self._receiving = cycle

    def on_body(self, body: bytes) -> None:
        """Called by the parser with a part of the body."""
        if self._receiving is not None:
            self._progress = True
            if self._receiving.feed(body):
                self.flow.pause_reading()

    def on_message_complete(self) -> None:
        """Called by the parser: the request is complete."""
        receiving = self._receiving
        if receiving is not None:
            receiving.more_body = False
            receiving.wake()
            self._receiving = None
            if receiving is self._current and not self.flow.write_paused:
                self.deadline = NEVER

    def _fail(self, error: RatusError) -> NoReturn:
        """Leave the parser: the request will be answered with ``error``."""
        self._fault = error.with_traceback(None)
        raise _Refused

    def _diagnose(self, error: httptools.HttpParserError) -> RatusError:
        """The answer to what stopped the parser."""
        if self._fault is not None:
            fault, self._fault = self._fault, None
            return fault
        if isinstance(error, httptools.HttpParserCallbackError):
            logger.error("a request could not be read because of a defect", exc_info=error)
            return InternalError()
        return BadRequest(f"malformed HTTP: {error}")

    # Sizes and times of what comes in

    def _measure_head(self) -> None:
        """Check the size of a head that is not complete at the end of a chunk.

        The parser may hold a part of it that no callback has seen yet, so further chunks are counted whole.
        """
        if self._head_size != FRESH:
            self._head_size += self._chunk_size
        else:
            self._head_size = head_size(self.url, self.headers)
            if self._current is None and not self._first:
                self._set_deadline()
        if self._head_size > self._limits.header_bytes:
            self._refuse(too_large(self._limits))

    def _measure_body(self) -> None:
        """Check the size and the pace of a body that is not complete at the end of a chunk.

        Trailers and chunk extensions are no progress; together they are bounded like a head.
        """
        if not self._progress:
            self._head_size += self._chunk_size
            if self._head_size > self._limits.header_bytes:
                self._refuse(too_large(self._limits))
            return
        self._progress = False
        self._head_size = 0
        receiving = self._receiving
        if receiving is not None and receiving is self._current:
            now = self.loop.time()
            refusal = self.state.load.add_body(receiving.hold(now))
            if refusal is not None:
                self._refuse(refusal)
            elif self._limits.body_rate and receiving.too_slow(now, self._limits):
                self._refuse(
                    RequestTimeout(f"the body came at less than {self._limits.body_rate} bytes a second")
                )
            else:
                self._set_deadline()

    def _set_deadline(self) -> None:
        """Set the deadline of what the client has to do next, counted from now."""
        if self.flow.write_paused:
            # The client has to read first, whatever it sends: `pause_writing` has set the deadline of that.
            return
        now = self.loop.time()
        if self._current is None:
            self.deadline = now + (
                self._limits.header_seconds if self._head_open else self._limits.idle_seconds
            )
        elif self._receiving is not self._current:
            self.deadline = NEVER
        elif self._draining:
            self.deadline = min(self.deadline, now + self._limits.body_seconds)
        else:
            self.deadline = now + self._limits.body_seconds

    def expire(self, now: float) -> None:
        """Called by the sweep when the deadline has passed: end what is too slow, or set a new deadline."""
        limits = self._limits
        if self._lingering:
            self.close()
        elif self._closing or self.flow.write_paused:
            unsent = self.transport.get_write_buffer_size()
            if unsent >= self._unsent or self._draining:
                self.abort()
            else:
                self._unsent = unsent
                self._count_unsent(unsent)
                self.deadline = now + limits.body_seconds
        elif self._current is not None:
            if self.flow.read_paused:
                # The application is slow to read, not the client to send.
                self.deadline = now + limits.body_seconds
            else:
                self._refuse(RequestTimeout(f"the body stood still for {limits.body_seconds:g} s"))
        elif self._head_open or self._first:
            self._refuse(RequestTimeout(f"the headers were not complete within {limits.header_seconds:g} s"))
        else:
            self.close()

    # Requests in work

    def _take(self, cycle: RequestResponseCycle) -> None:
        """Make ``cycle`` the current request. The caller has to begin it before anything else happens."""
        self._first = False
        self._current = cycle
        if not self.flow.write_paused:
            self.deadline = NEVER
        self.state.cycles.add(cycle)

    def resume_body(self) -> None:
        """Resume reading, since the application waits for more of the body."""
        if self.flow.read_paused and not self.pipelined:
            self.flow.resume_reading()
            self._set_deadline()

    def answered(self, cycle: RequestResponseCycle) -> None:
        """The answer of ``cycle`` has been written: go on with the next request, or end the connection."""
        self._current = None
        self._watcher = None
        if self._closing:
            return
        if not cycle.keep_alive or self._draining:
            self._finish()
        elif self._waiting:
            following = self._waiting.popleft()
            self._take(following)
            following.begin_later(self.app)
            if self._unparsed and not self._waiting:
                self._parse_on()
                if self._closing:
                    return
            self.pipelined = bool(self._waiting) or self._refusal is not None
            if not self.pipelined:
                self.flow.resume_reading()
            self._set_deadline()
        elif self._refusal is not None:
            self._answer_last(self._refusal)
        elif self.disconnected:
            self.close()
        else:
            if self.flow.read_paused:
                self.flow.resume_reading()
            self._set_deadline()

    def ended(self, cycle: RequestResponseCycle) -> None:
        """The application has returned from ``cycle``."""
        self.state.cycles.discard(cycle)
        if cycle.held:
            self.state.load.body_bytes -= cycle.held
        if cycle is self._current:  # it was not answered, and the connection is at its end
            self._current = None
            if self.parser is None:
                self._let_go()
        self.state.settled()

    def answer(self, status: int, content_type: bytes, body: bytes) -> bool:
        """See ``Connection.answer``."""
        return self._current is not None and self._current.answer(status, content_type, body)

    def check_answers(self) -> None:
        """See ``Connection.check_answers``."""
        self.state.load.check_answers()

    def whole_body(self) -> bytes | None:
        """See ``Connection.whole_body``."""
        return None if self._current is None else self._current.whole_body()

    def watch(self, callback: Callable[[], None] | None) -> None:
        """See ``Connection.watch``."""
        self._watcher = callback
        if self.disconnected or self.pipelined:
            self._alert()

    def _note_pipelined(self) -> None:
        self.pipelined = True
        self._alert()

    def _alert(self) -> None:
        if self._watcher is not None:
            self.loop.call_soon(self._call_watcher)

    def _call_watcher(self) -> None:
        if self._watcher is not None:
            watcher, self._watcher = self._watcher, None
            watcher()

    # Writing

    def write_soon(self, answer: bytes) -> None:
        """Write a whole answer together with those of other connections, or at once where there are none.

        The answers of one turn of the loop go out one right after the other. A client that waits for several
        is woken once and not for each, which would cost more than a simple request does. While turns have
        but one answer each, waiting for the end of the turn would only delay it.
        """
        if self._unwritten:
            self._unwritten += answer
        elif self.state.unbatched:
            self.state.unbatched -= 1
            self.transport.write(answer)
        else:
            self._unwritten = answer
            self.state.flush_soon(self)

    def flush(self) -> None:
        """Write what has been answered, before something else is written or the connection is closed."""
        if self._unwritten:
            answers, self._unwritten = self._unwritten, b""
            self.transport.write(answers)

    # The end of the connection

    def _refuse(self, error: RatusError) -> None:
        """Answer ``error`` to the request being read, in its turn, and end the connection."""
        current = self._current
        if current is None:
            self._answer_last(error)
        elif self._receiving is not current:
            # It stands behind the current one, whose answer comes first.
            if self._receiving is not None:
                self._receiving = None
                self._waiting.pop()
            self._refusal = error
            self.flow.pause_reading()
            self._note_pipelined()
        else:
            self.disconnected = True
            self._current = None
            current.disconnect()
            self._alert()
            if current.answering:
                self.abort()
            else:
                self._answer_last(error)

    def _answer_last(self, error: RatusError) -> None:
        """Answer a request that never reached the application, and end the connection."""
        self.state.refused(error.status, self.client[0] if self.client else "")
        self.flush()
        self.transport.write(last_answer(error, self.state.date_line))
        self._linger()

    def _finish(self) -> None:
        """End the connection after its last answer; linger where the client may still be sending."""
        if self._receiving is not None or self._waiting or self._refusal is not None:
            self._linger()
        else:
            self.close()

    def _linger(self) -> None:
        """Let the client read its answer before the connection is closed.

        Closing with bytes of the client unread would reset the connection and might destroy the answer on its
        way.
        """
        if self._half_closed:
            self.close()
            return
        self.flush()
        self._closing = self._lingering = True
        self._drop_unread()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()
        self.deadline = self.loop.time() + self._limits.linger_seconds

    def _drop_unread(self) -> None:
        """Drop what was read of requests that will not be answered any more."""
        self._receiving = None
        self._waiting.clear()
        self._unparsed = b""
        self._fault = self._refusal = None
        self.url = b""
        self.headers = []

    def _discard(self, size: int) -> None:
        self._discarded += size
        if self._discarded > self._limits.linger_bytes:
            self.flow.pause_reading()

    def close(self) -> None:
        """Write what is left to write, then close."""
        if not self.transport.is_closing():
            self.flush()
            self._closing = True
            self._lingering = False
            self._unsent = self.transport.get_write_buffer_size()
            self.deadline = self.loop.time() + self._limits.body_seconds
            self.transport.close()

    def abort(self) -> None:
        """Close without writing what is left."""
        self._unwritten = b""
        self._closing = True
        self.transport.abort()

    def shutdown(self) -> None:
        """The server stops: close the connection, or where a request is in flight, answer that first.

        From then on the client's progress, in sending a body or reading an answer, extends no deadline.
        """
        self._draining = True
        if self._closing:
            return
        if self._current is None and not self._head_open:
            self.close()
