"""A request as handlers see it, and what they answer."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from msgspec import Struct

from ratus.api.query import Query
from ratus.core.records import TaskRecord
from ratus.server.connection import Connection

VARY = (b"vary", b"Accept-Encoding")
"""The header of every answer that is compressed for clients that accept gzip; the plain one has it, too."""

_ZERO = re.compile(rb"\s*q=0(\.0*)?\s*")

JSON = b"application/json; charset=utf-8"


class ClientDisconnected(Exception):
    """The client disconnected before it was answered: no answer is sent."""


class Response(Struct):
    """An answer. ``claimed``: tasks that are released if the client has disconnected before it is sent.

    ``stream`` takes the place of ``body`` where the text is too large to be put together at once.
    ``compressed``: the body is gzipped already.
    """

    status: int
    body: bytes = b""
    content_type: bytes = JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()
    claimed: tuple[TaskRecord, ...] = ()
    stream: AsyncIterator[bytes] | None = None
    compressed: bool = False


class Call(Struct, kw_only=True, frozen=True):
    """One request: the path's variables decoded, the clock read once, the body whole.

    ``now`` is in microseconds since the epoch. A variable that the path does not have is empty.
    """

    topic: str
    task_id: str
    name: str
    query: Query
    body: bytes
    now: int
    headers: Mapping[bytes, bytes]
    connection: Connection

    @property
    def takes_gzip(self) -> bool:
        """Whether the client accepts a gzipped answer."""
        return takes_gzip(self.headers.get(b"accept-encoding"))


def takes_gzip(accept: bytes | None) -> bool:
    """Whether an ``Accept-Encoding`` header accepts gzip, by name or by ``*``, which stands for all codings
    that the header does not name. A weight of 0 (``gzip;q=0``) refuses.
    """
    if accept is None:
        return False
    others = False
    for coding in accept.lower().split(b","):
        name, _, weight = coding.partition(b";")
        name = name.strip()
        if name == b"gzip":
            return _ZERO.fullmatch(weight) is None
        if name == b"*":
            others = _ZERO.fullmatch(weight) is None
    return others


class Unwatched:
    """The connection where an ASGI server says nothing of its peer, which never counts as disconnected."""

    disconnected = False
    pipelined = False

    def whole_body(self) -> bytes | None:
        """None: every body has to be received."""
        return None

    def answer(self, status: int, content_type: bytes, body: bytes) -> bool:
        """False: every answer has to be sent."""
        return False

    def check_answers(self) -> None:
        """Do nothing: how much other clients leave unread is not known."""

    def watch(self, callback: Callable[[], None] | None) -> None:
        """Do nothing: ``callback`` is never called."""


def connection_of(scope: Mapping[str, Any]) -> Connection:
    """The peer of a request; see `ratus.server.connection`."""
    connection: Connection = scope.get("ratus.connection") or Unwatched()
    return connection
