"""What synchronous and asynchronous calls have in common: settings, requests as bytes, responses read."""

from __future__ import annotations

import socket
import ssl
from abc import ABC, abstractmethod
from typing import Final, TypeVar

from ratus import __version__
from ratus.calls import responses
from ratus.calls.address import Address, token_of, url_of
from ratus.calls.bounds import Bounds
from ratus.calls.http1 import Requests, Response
from ratus.calls.inputs import DurationLike, seconds
from ratus.calls.requests import Request
from ratus.calls.retrying import Attempts, Backoff
from ratus.core.errors import Conflict, NotFound, RatusError

T = TypeVar("T")

DEFAULT_RETRIES: Final = 5
"""Repetitions of a call at most. Their pauses add up to two or three seconds: the restart of a server."""

_MAYBE_DONE: Final = "an earlier attempt of this call lost its answer and may have been carried out"


class BaseCalls(ABC):
    """The settings of a client, and how its requests are written and repeated."""

    def __init__(
        self,
        url: str | None,
        *,
        token: str | None,
        consumer: str | None,
        request_timeout: DurationLike,
        connect_timeout: DurationLike,
        retries: int,
        compress: bool,
        tls: ssl.SSLContext | None,
        transport: object | None,
    ) -> None:
        if transport is not None and (compress or tls is not None):
            name = "compress" if compress else "tls"
            raise ValueError(f"{name}: where a transport is given, that is a setting of the transport")
        self._address = Address.parse(url_of(url))
        self._requests = Requests(
            self._address, token=token_of(token), agent=f"ratus-python/{__version__}", compress=compress
        )
        self._consumer = socket.gethostname() if consumer is None else consumer
        self._request_seconds = _positive(request_timeout, "request_timeout")
        self._connect_seconds = _positive(connect_timeout, "connect_timeout")
        if retries < 0:
            raise ValueError(f"retries: none is the least there can be, not {retries}")
        if tls is not None and not self._address.secure:
            raise ValueError("tls: the URL says http; with a TLS context it should begin with https")
        self._retries = retries
        self._backoff = Backoff()
        self._bounds = Bounds()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._address}>"

    @property
    def url(self) -> str:
        """The address of the server."""
        return str(self._address)

    @property
    def consumer(self) -> str:
        """The name under which tasks are claimed where a call gives no other."""
        return self._consumer

    @property
    @abstractmethod
    def _closed(self) -> bool:
        """Whether `close` was called: every call fails from then on."""

    @property
    @abstractmethod
    def _interruptible(self) -> bool:
        """Whether an interrupt can end a request that waits, without losing a task that is on its way."""

    def _attempts(self, request: Request[T]) -> Attempts:
        return Attempts(request.repeat, self._retries, self._backoff)

    def _bytes(self, request: Request[T]) -> bytes:
        return self._requests.write(request.method, request.target, request.body)

    def _seconds(self, request: Request[T]) -> float:
        """Seconds that the whole response may take."""
        return self._request_seconds + request.wait


def conclude(request: Request[T], response: Response) -> T:
    """The value of a response. Raises the error that an unsuccessful response stands for."""
    if 200 <= response.status < 300:
        return request.read(response.body)
    error = responses.error_of(response)
    if request.absent is not None and isinstance(error, NotFound):
        return request.absent()
    raise error


def note_lost_attempt(error: RatusError, attempts: Attempts) -> None:
    """Add to the refusal of a repeated call that an earlier attempt may have been carried out."""
    if attempts.lost and isinstance(error, Conflict | NotFound):
        error.detail = f"{error.detail}; {_MAYBE_DONE}" if error.detail else _MAYBE_DONE


def _positive(value: DurationLike, name: str) -> float:
    if (number := seconds(value, name)) <= 0:
        raise ValueError(f"{name}: it must be longer than 0s")
    return number
