"""From a request to an answer: route, token, body, handler, error, bytes. The one place where errors of any
kind become answers, and where every request is measured."""

from __future__ import annotations

import asyncio
import gzip
import logging
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import Receive, Scope, Send

from ratus.api import serializing
from ratus.api.auth import Tokens
from ratus.api.call import VARY, Call, ClientDisconnected, Response, connection_of, takes_gzip
from ratus.api.failed_tokens import FailedTokens
from ratus.api.handlers import Handlers
from ratus.api.large import SMALL, is_large
from ratus.api.origins import READING, is_foreign
from ratus.api.query import NO_QUERY, Query, decode_segment
from ratus.api.readers import check_length
from ratus.api.router import Match, Router
from ratus.api.routes import ROUTES
from ratus.core.clock import SECOND, Clock
from ratus.core.errors import (
    BadRequest,
    Closed,
    Forbidden,
    InternalError,
    MethodNotAllowed,
    Overloaded,
    PayloadTooLarge,
    RatusError,
    Unauthorized,
    UnknownToken,
)
from ratus.core.log_fields import fields
from ratus.metrics import Metrics
from ratus.server.connection import Connection
from ratus.server.error_responses import retry_after

logger = logging.getLogger("ratus")
access_log = logging.getLogger("ratus.access")

# The operations whose answers may be of many megabytes.
_LISTS = ("list_tasks", "list_promises")

_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})

# Bytes. Below this an answer fits into a packet or two, and compressing it costs more than it saves.
_GZIP_FROM = 1400
# From here on compressing takes long enough to delay other requests, so it is done in a thread.
_GZIP_IN_THREAD_FROM = 64 * 1024
# From here on making a list takes long enough to delay other requests, when many are made at once.
_LARGE = _GZIP_IN_THREAD_FROM
# The fastest level makes JSON a quarter of its size already.
_GZIP_LEVEL = 1

_PREFLIGHT = b"access-control-request-method"  # the header that makes OPTIONS a preflight request
_CORS_MAX_AGE = 12 * 3600  # seconds a browser may remember the answer to a preflight request


class Api:
    """The ASGI application.

    ``give_back`` releases claims whose answer could not be sent. At most ``lists_at_once`` lists are made
    at the same time. ``tokens`` may be replaced while requests are served.
    """

    def __init__(
        self,
        handlers: Handlers,
        *,
        metrics: Metrics,
        clock: Clock,
        tokens: Tokens,
        give_back: Callable[[tuple[Any, ...]], Awaitable[None]],
        max_body_size: int,
        cors_origins: tuple[str, ...],
        log_requests: bool = False,
        lists_at_once: int = 1,
    ) -> None:
        self.tokens = tokens
        self._metrics = metrics
        self._clock = clock
        self._give_back = give_back
        self._max_body_size = max_body_size
        self._log_requests = log_requests
        self._opened = handlers.opened
        self._failed_tokens = FailedTokens()
        self._cors_origins = cors_origins
        self._router = Router(ROUTES)
        self._handlers = {route.operation: handlers.operation(route.operation) for route in ROUTES}
        turns = asyncio.Semaphore(lists_at_once)
        for operation in _LISTS:
            self._handlers[operation] = _in_turn(self._handlers[operation], turns)
        self._cors: CORSMiddleware | None = None
        if cors_origins:
            self._cors = CORSMiddleware(
                self._serve_cross_origin,
                allow_origins=cors_origins,
                allow_methods=("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"),
                allow_headers=("Authorization",),
                max_age=_CORS_MAX_AGE,
            )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise NotImplementedError(f"this application speaks http, not {scope['type']}")
        headers = _headers_of(scope)
        if b"origin" in headers or b"sec-fetch-site" in headers:
            await self._serve_page(scope, receive, send, headers)
        else:
            await self._serve(scope, receive, send, headers, plain=True)

    async def _serve_page(
        self, scope: Scope, receive: Receive, send: Send, headers: Mapping[bytes, bytes]
    ) -> None:
        """Answer a request that a browser sends for a page. Only such requests pay for CORS."""
        method: str = scope["method"]
        if not self.tokens and method not in READING and is_foreign(headers, self._cors_origins):
            await self._refuse_page(scope, send)
        elif self._cors is None or b"origin" not in headers:
            await self._serve(scope, receive, send, headers, plain=True)
        elif method == "OPTIONS" and _PREFLIGHT in headers:
            await self._serve_preflight(self._cors, scope, send)
        else:
            await self._cors(scope, receive, send)

    async def _refuse_page(self, scope: Scope, send: Send) -> None:
        """Refuse to let a page of another origin change something."""
        started = time.perf_counter()
        problem = Forbidden(
            "a page of another origin may change nothing on a server without tokens; --cors-origins lets "
            "origins in"
        )
        answer = _refusal(problem, scope["method"])
        await _send(answer, scope["method"], _headers_of(scope), send, connection_of(scope))
        self._note(scope, None, "other", answer.status, started)

    async def _serve_cross_origin(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that the CORS middleware passes on; it adds headers to the answer."""
        await self._serve(scope, receive, send, _headers_of(scope), plain=False)

    async def _serve(
        self, scope: Scope, receive: Receive, send: Send, headers: Mapping[bytes, bytes], *, plain: bool
    ) -> None:
        """Answer a request. ``plain``: ``send`` is the server's own, no middleware has wrapped it."""
        started = time.perf_counter()
        method: str = scope["method"]
        connection = connection_of(scope)
        endpoint, topic = "other", None
        try:
            match = self._match(method, scope["raw_path"], headers)
            endpoint = match.endpoint
            topic = check_length(decode_segment(match.topic), "topic")
            task_id = check_length(decode_segment(match.id), "task ID") if match.id else ""
            name = decode_segment(match.name) if match.name else ""
            query = Query(scope["query_string"]) if scope["query_string"] else NO_QUERY
            body = b""
            if method in _WITH_BODY:
                # Nearly all bodies have come already, and to receive them as ASGI messages costs more.
                whole = connection.whole_body()
                body = await self._body(headers, receive) if whole is None else whole
                if len(body) > self._max_body_size:
                    raise self._too_large()
            if len(body) > SMALL and is_large(body):
                body = await self._opened(match.route.operation, body)
            call = Call(
                topic=topic,
                task_id=task_id,
                name=name,
                query=query,
                body=body,
                now=self._clock.now(),
                headers=headers,
                connection=connection,
            )
            answer = await self._handlers[match.route.operation](call)
        except UnknownToken as error:
            answer = _refusal(error, method)
            if not await self._failed_tokens.delay((scope.get("client") or ("",))[0]):
                answer.headers += ((b"connection", b"close"),)
        except Closed as error:
            answer = _refusal(error, method)
            seconds = max(1, -((self._clock.now() - error.reopens) // SECOND))
            answer.headers += ((b"retry-after", b"%d" % seconds),)
        except RatusError as error:
            answer = _refusal(error, method)
        except ClientDisconnected:
            return
        except Exception:
            logger.exception("answering %s %r failed", method, scope["raw_path"])
            answer = _refusal(InternalError("the server's log says more"), method)
        if not (plain and _answer_at_once(answer, connection)) and not await _send(
            answer, method, headers, send, connection
        ):
            await self._give_back(answer.claimed)
            return
        self._note(scope, topic, endpoint, answer.status, started)

    async def _serve_preflight(self, cors: CORSMiddleware, scope: Scope, send: Send) -> None:
        """Answer a browser that asks what a page of another origin may send. The CORS middleware decides; a
        refusal has the form of the API's errors."""
        started = time.perf_counter()
        response = cors.preflight_response(Headers(scope=scope))
        headers = tuple(each for each in response.raw_headers if not each[0].startswith(b"content-"))
        if response.status_code < 400:
            answer = Response(204, headers=headers)
        else:
            refused = bytes(response.body).decode().removeprefix("Disallowed CORS ")
            problem = BadRequest(
                f"a page of this origin may not send such a request, for its {refused}; --cors-origins lets "
                "origins in, this answer's headers have the methods and headers that are allowed"
            )
            answer = Response(problem.status, serializing.error(problem), headers=headers)
        await _send(answer, scope["method"], _headers_of(scope), send, connection_of(scope))
        self._note(scope, None, "other", answer.status, started)

    def _note(self, scope: Scope, topic: str | None, endpoint: str, status: int, started: float) -> None:
        """Measure a request that has been answered, and log it if requests are logged."""
        seconds = time.perf_counter() - started
        self._metrics.observe_request(topic or None, scope["method"], endpoint, status, seconds)
        if self._log_requests:
            access_log.info(
                "%s %s %d",
                scope["method"],
                scope["raw_path"].decode("ascii", "backslashreplace"),
                status,
                extra=fields(client=(scope.get("client") or ("",))[0], seconds=round(seconds, 6)),
            )

    def note_refused(self, status: int, client: str) -> None:
        """Count a request that could not be read, and log it if requests are logged."""
        self._metrics.observe_request(None, "other", "other", status, 0.0)
        if self._log_requests:
            access_log.info("unreadable request %d", status, extra=fields(client=client, seconds=0.0))

    def _match(self, method: str, path: bytes, headers: Mapping[bytes, bytes]) -> Match:
        """The route, once the token may use it. A client without a token does not learn which routes there
        are."""
        try:
            match = self._router.match(method, path)
        except RatusError as error:
            if self.tokens and method != "OPTIONS" and not self._is_open(path, error):
                self.tokens.check(headers.get(b"authorization"), None)
            raise
        if self.tokens and match.route.scopes:
            self.tokens.check(headers.get(b"authorization"), match.route.scopes)
        return match

    def _is_open(self, path: bytes, error: RatusError) -> bool:
        """Whether a path that was asked with a wrong method may be asked without a token."""
        return (
            isinstance(error, MethodNotAllowed)
            and "GET" in error.allowed
            and not self._router.match("GET", path).route.scopes
        )

    async def _body(self, headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
        """The body, received message by message. If its Content-Length is too large, it is refused before any
        of it is received."""
        length = headers.get(b"content-length")
        if length is not None and int(length) > self._max_body_size:
            raise self._too_large()
        message = await receive()
        body: bytes = message.get("body", b"")
        if message.get("more_body"):
            parts, size = [body], len(body)
            while message.get("more_body"):
                message = await receive()
                part = message.get("body", b"")
                size += len(part)
                if size > self._max_body_size:
                    raise self._too_large()
                parts.append(part)
            body = b"".join(parts)
        if message["type"] == "http.disconnect":
            raise ClientDisconnected()
        return body

    def _too_large(self) -> PayloadTooLarge:
        return PayloadTooLarge(f"the body is over {self._max_body_size} bytes; send less at a time")


def _in_turn(
    handler: Callable[[Call], Awaitable[Response]], turns: asyncio.Semaphore
) -> Callable[[Call], Awaitable[Response]]:
    """The handler, made to take turns: few of its answers are made at a time, in memory and in threads.

    After a large answer the next call has its turn in a later turn of the event loop, so that other requests
    are answered in between.
    """

    async def take_turn(call: Call) -> Response:
        async with turns:
            call.connection.check_answers()
            answer = await handler(call)
            if len(answer.body) < _LARGE:
                return answer
            if not call.takes_gzip:
                # Let the event loop run before the next call has its turn.
                await asyncio.sleep(0)
            else:
                packed = await asyncio.to_thread(gzip.compress, answer.body, _GZIP_LEVEL, mtime=0)
                answer = Response(
                    answer.status, packed, answer.content_type, (*answer.headers, VARY), compressed=True
                )
        return answer

    return take_turn


def _headers_of(scope: Scope) -> Mapping[bytes, bytes]:
    """The headers by name; this project's server puts them into the scope, another ASGI server does not."""
    return scope.get("ratus.headers") or dict(scope["headers"])


def _refusal(error: RatusError, method: str) -> Response:
    headers: tuple[tuple[bytes, bytes], ...] = ()
    if isinstance(error, MethodNotAllowed):
        headers = ((b"allow", ", ".join(error.allowed).encode()),)
        if method == "OPTIONS":
            return Response(204, headers=headers)
    elif isinstance(error, Unauthorized):
        headers = ((b"www-authenticate", b"Bearer"),)
    elif isinstance(error, Overloaded):
        headers = retry_after(error)
    return Response(error.status, serializing.error(error), headers=headers)


def _answer_at_once(answer: Response, connection: Connection) -> bool:
    """Write a short answer without ASGI messages, which cost as much as the rest. False: `_send` it."""
    body = answer.body
    if not body or len(body) >= _GZIP_FROM or answer.headers or answer.compressed:
        return False
    if answer.claimed and connection.disconnected:
        return False
    return connection.answer(answer.status, answer.content_type, body)


async def _send(
    answer: Response, method: str, headers: Mapping[bytes, bytes], send: Send, connection: Connection
) -> bool:
    """Send an answer. False: it holds claims but the client is gone, so it was not sent."""
    sent = list(answer.headers)
    if answer.stream is not None:
        await _send_stream(answer, answer.stream, method, headers, send)
        return True
    body = answer.body
    if answer.compressed:
        sent.append(_GZIPPED)
    elif len(body) >= _GZIP_FROM and VARY not in sent:
        sent.append(VARY)
        if takes_gzip(headers.get(b"accept-encoding")):
            if len(body) < _GZIP_IN_THREAD_FROM:
                body = gzip.compress(body, _GZIP_LEVEL, mtime=0)
            else:
                body = await asyncio.to_thread(gzip.compress, body, _GZIP_LEVEL, mtime=0)
            sent.append(_GZIPPED)
    if answer.status != 204:
        if body:
            sent.append((b"content-type", answer.content_type))
        sent.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": answer.status, "headers": sent})
    # The client may have disconnected during compression, or while earlier answers waited to be read. The
    # server holds the head back until the body comes, so from here on the answer is written without a pause.
    if answer.claimed and connection.disconnected:
        return False
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})
    return True


async def _send_stream(
    answer: Response, stream: AsyncIterator[bytes], method: str, headers: Mapping[bytes, bytes], send: Send
) -> None:
    """Send a text piece by piece, compressed on the way."""
    sent = [*answer.headers, (b"content-type", answer.content_type), VARY]
    packer = None
    if takes_gzip(headers.get(b"accept-encoding")):
        packer = zlib.compressobj(_GZIP_LEVEL, wbits=31)  # 31: with a gzip header
        sent.append(_GZIPPED)
    await send({"type": "http.response.start", "status": answer.status, "headers": sent})
    if method != "HEAD":
        async for piece in stream:
            body = piece if packer is None else packer.compress(piece)
            if body:
                await send({"type": "http.response.body", "body": body, "more_body": True})
    await send({"type": "http.response.body", "body": packer.flush() if packer and method != "HEAD" else b""})


_GZIPPED = (b"content-encoding", b"gzip")
