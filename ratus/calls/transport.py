"""Where a program gives a client its own way to send requests, in place of the client's connections."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from ratus.calls.address import Address
from ratus.calls.http1 import Response
from ratus.calls.requests import Request
from ratus.calls.retrying import ClientClosed
from ratus.core.errors import TransportError

LONGEST_WAIT: Final = 1.0
"""Seconds that a worker lets one poll wait over a program's transport. Such a poll cannot be ended before its
response, and a worker that stops must not be handed tasks that it does not run."""


@dataclass(frozen=True, slots=True)
class HTTPRequest:
    """A request, as a transport sends it.

    - `method`: such as `"POST"`.
    - `url`: the whole URL; `target`: its path and query, percent-encoded, beginning with a slash.
    - `headers`: names in small letters; the token is in `authorization`. `host`, `content-length` and
      whatever else its connection needs are added by the transport.
    - `body`: JSON, or empty.
    - `timeout`: seconds within which the whole response must be there.
    """

    method: str
    url: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    timeout: float


@dataclass(frozen=True, slots=True)
class HTTPResponse:
    """A response, as a transport returns it.

    - `status`: such as `200`. Every status is returned, whatever it is, and redirects are not followed.
    - `headers`: with names in any case. Only `allow` and `location` are read.
    - `body`: whole, after any content coding such as gzip is undone.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


class Transport(Protocol):
    """Sends the requests of a `Client` that was made with `transport=`. Several threads call it at once.

    The client adds the token, repeats requests and sizes batches; the transport sends each request once.
    """

    def send(self, request: HTTPRequest) -> HTTPResponse:
        """Send one request and return its response.

        Raises `TransportError` when there is no response: with `sent=False` where the request surely did not
        reach the server, so that the client may repeat every call. An `OSError` counts as a `TransportError`
        of a request that may have been carried out. Any other exception is a defect and ends the call.
        """
        ...

    def close(self) -> None:
        """Release what the transport holds. The client was closed: `send` is not called any more."""
        ...


class AsyncTransport(Protocol):
    """Sends the requests of an `AsyncClient` that was made with `transport=`.

    The client adds the token, repeats requests and sizes batches; the transport sends each request once. At
    most 100 are sent at once, beside those that wait for a task. One that takes longer than its `timeout` is
    cancelled.
    """

    async def send(self, request: HTTPRequest) -> HTTPResponse:
        """Send one request and return its response.

        Raises `TransportError` when there is no response: with `sent=False` where the request surely did not
        reach the server, so that the client may repeat every call. An `OSError` counts as a `TransportError`
        of a request that may have been carried out. Any other exception is a defect and ends the call.
        """
        ...

    async def close(self) -> None:
        """Release what the transport holds. The client was closed: `send` is not called any more."""
        ...


class _GivenBase:
    """What `GivenTransport` and `GivenAsyncTransport` have in common."""

    def __init__(self, address: Address, headers: Mapping[str, str]) -> None:
        self._address = address
        self._headers = dict(headers)
        self._json_headers = self._headers | {"content-type": "application/json"}
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether `close` was called: every request fails from then on."""
        return self._closed

    def _request(self, request: Request[Any], seconds: float, *, is_interrupted: bool) -> HTTPRequest:
        if self._closed:
            raise ClientClosed
        if is_interrupted:
            raise TransportError("interrupted", sent=False)
        has_body = request.body or request.method not in ("GET", "DELETE")
        target = self._address.prefix + request.target
        return HTTPRequest(
            request.method,
            f"{self._address.origin}{target}",
            target,
            self._json_headers if has_body else self._headers,
            request.body,
            seconds,
        )


class GivenTransport(_GivenBase):
    """Sends a client's requests over a program's `Transport`. Raises `TypeError` for what is none."""

    def __init__(self, transport: Transport, address: Address, headers: Mapping[str, str]) -> None:
        super().__init__(address, headers)
        _check(transport, "Transport")
        if inspect.iscoroutinefunction(transport.send):
            raise TypeError("transport: its send is a coroutine function; give it to an AsyncClient")
        self._transport = transport

    def close(self) -> None:
        """Close the transport, once."""
        if not self._closed:
            self._closed = True
            self._transport.close()

    def exchange(self, request: Request[Any], seconds: float, *, is_interrupted: bool) -> Response:
        """Send a request; return its response. Raises `TransportError`, and `TypeError` for what is none."""
        given = self._request(request, seconds, is_interrupted=is_interrupted)
        try:
            return _response(self._transport.send(given))
        except OSError as error:
            raise _failed(error) from error


class GivenAsyncTransport(_GivenBase):
    """Sends a client's requests over a program's `AsyncTransport`. Raises `TypeError` for what is none."""

    def __init__(self, transport: AsyncTransport, address: Address, headers: Mapping[str, str]) -> None:
        super().__init__(address, headers)
        _check(transport, "AsyncTransport")
        self._transport = transport

    async def close(self) -> None:
        """Close the transport, once."""
        if not self._closed:
            self._closed = True
            await _awaited(self._transport.close, "close")

    async def exchange(self, request: Request[Any], seconds: float, *, is_interrupted: bool) -> Response:
        """As `GivenTransport.exchange`."""
        given = self._request(request, seconds, is_interrupted=is_interrupted)
        try:
            async with asyncio.timeout(seconds) as limit:
                return _response(await _awaited(self._transport.send, "send", given))
        except OSError as error:  # a TimeoutError is one
            if limit.expired():
                raise TransportError(f"no whole answer from {self._address} within {seconds:g} s") from None
            raise _failed(error) from error


def _check(transport: object, kind: str) -> None:
    if isinstance(transport, type):
        raise TypeError(f"transport: give an object, not the class {transport.__name__}")
    for name in ("send", "close"):
        if not callable(getattr(transport, name, None)):
            raise TypeError(
                f"transport: a {kind} has the methods send(request) and close(); "
                f"a {type(transport).__name__} has no {name}"
            )


async def _awaited(function: Callable[..., Awaitable[Any]], name: str, *arguments: object) -> Any:
    result = function(*arguments)
    if not inspect.isawaitable(result):
        raise TypeError(
            f"transport: the {name} of an AsyncTransport is a coroutine function (async def); "
            f"this one returned a {type(result).__name__}"
        )
    return await result


def _response(returned: object) -> Response:
    if not isinstance(returned, HTTPResponse):
        if inspect.iscoroutine(returned):
            returned.close()  # one that is not awaited warns
        raise TypeError(f"transport: send must return an HTTPResponse, not a {type(returned).__name__}")
    headers = {name.lower(): value for name, value in returned.headers.items()}
    return Response(returned.status, returned.body, headers.get("allow", ""), headers.get("location", ""))


def _failed(error: OSError) -> TransportError:
    return TransportError(f"the transport failed: {error or type(error).__name__}")
