"""The JSON errors that the server gives without asking the application."""

from __future__ import annotations

import json

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from ratus.core.errors import Overloaded, RatusError


def error_body(error: RatusError) -> bytes:
    """``{"error": {"code": …, "message": …}}``."""
    return json.dumps({"error": {"code": error.status, "message": error.message}}).encode()


def error_headers(body: bytes) -> list[tuple[bytes, bytes]]:
    """The headers that go with ``body``."""
    return [
        (b"content-type", b"application/json; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
    ]


def retry_after(error: RatusError) -> tuple[tuple[bytes, bytes], ...]:
    """The header ``Retry-After`` of an `Overloaded`, which passes by itself; empty for other errors."""
    return ((b"retry-after", b"%d" % error.retry_after),) if isinstance(error, Overloaded) else ()


def last_answer(error: RatusError, date_line: bytes) -> bytes:
    """A whole response that carries ``error`` and announces the end of the connection."""
    body = error_body(error)
    headers = [*error_headers(body), *retry_after(error)]
    fields = b"".join(b"%b: %b\r\n" % header for header in headers)
    return b"".join((STATUS_LINE[error.status], date_line, fields, b"connection: close\r\n\r\n", body))
