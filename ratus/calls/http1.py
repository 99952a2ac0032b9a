"""HTTP/1.1 without any input or output: requests become bytes, bytes become responses.

The parser is httptools (llhttp), which the server uses as well; this module is what is around it.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Final

import httptools

from ratus.calls.address import Address
from ratus.core.errors import TransportError

# The argument by which zlib expects a gzip header.
_GZIP_WINDOW: Final = 31


@dataclass(frozen=True, slots=True)
class Response:
    """A response: status, body, and the values of the headers `Allow` and `Location`, empty if absent."""

    status: int
    body: bytes
    allow: str = ""
    location: str = ""


class Requests:
    """Writes requests to one server; the headers that all of them have are encoded once."""

    def __init__(self, address: Address, *, token: str, agent: str, compress: bool) -> None:
        self.headers = {"user-agent": agent}
        """The headers of every request, except `host`, `content-type` and `content-length`."""
        if token:
            if not token.isascii() or not token.isprintable() or " " in token:
                raise ValueError("the token holds characters that no token has")
            self.headers["authorization"] = f"Bearer {token}"
        if compress:
            self.headers["accept-encoding"] = "gzip"
        lines = {"host": address.authority} | self.headers
        self._prefix = address.prefix.encode("ascii")
        self._common = "".join(f"{name}: {value}\r\n" for name, value in lines.items()).encode("ascii")

    def write(self, method: str, target: str, body: bytes) -> bytes:
        """The bytes of a request. `target` is percent-encoded already and begins with a slash."""
        head = b"%b %b%b HTTP/1.1\r\n%b" % (
            method.encode("ascii"),
            self._prefix,
            target.encode("ascii"),
            self._common,
        )
        if body or method not in ("GET", "DELETE"):
            framing = b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
            return head + framing + body
        return head + b"\r\n"


class ResponseReader:
    """Puts one response together from the bytes of a connection, in pieces of any size."""

    __slots__ = (
        "_allow",
        "_encoding",
        "_framed",
        "_headed",
        "_location",
        "_parser",
        "_parts",
        "complete",
        "reusable",
    )

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._parts: list[bytes] = []
        self._encoding = b""
        self._allow = b""
        self._location = b""
        self._headed = False
        self._framed = False
        self.complete = False
        self.reusable = False
        """Whether the connection may carry another request; known once the answer is complete."""

    def feed(self, data: bytes) -> bool:
        """Parse bytes; whether the response is complete. Raises `TransportError` for what is not HTTP."""
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self.complete:
                hint = "; it speaks TLS: does its URL begin with https://?" if _is_tls(data) else ""
                raise TransportError(f"the answer is not HTTP/1.1: {error}{hint}") from None
            # The answer is whole; what follows it was not asked for.
            self.reusable = False
        return self.complete

    def end(self) -> bool:
        """The connection has ended, which completes a response without a length; whether it is complete."""
        if self._headed and not self._framed:
            self.complete = True
        return self.complete

    def response(self) -> Response:
        """The complete answer. Raises `TransportError` when its body cannot be unpacked."""
        body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        if self._encoding == b"gzip":
            try:
                body = zlib.decompress(body, _GZIP_WINDOW)
            except zlib.error as error:
                raise TransportError(f"the answer cannot be unpacked: {error}") from None
        elif self._encoding not in (b"", b"identity"):
            raise TransportError(f"the answer has the encoding {self._encoding.decode('latin-1')}, unasked")
        return Response(self._status(), body, self._allow.decode("latin-1"), self._location.decode("latin-1"))

    def _status(self) -> int:
        status: int = self._parser.get_status_code()
        return status

    # Called by the parser

    def on_message_begin(self) -> None:
        """The start of a response. After a second one to a request the connection is not used again."""
        if self.complete:
            self.reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note a header, if it is one of those that matter here."""
        name = name.lower()
        if name in (b"content-length", b"transfer-encoding"):
            self._framed = True
        elif name == b"content-encoding":
            self._encoding = value.strip().lower()
        elif name == b"allow":
            self._allow = value
        elif name == b"location":
            self._location = value

    def on_headers_complete(self) -> None:
        """The end of the headers."""
        self._headed = self._status() >= 200

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        if not self.complete:
            self._parts.append(body)

    def on_message_complete(self) -> None:
        """The end of a response, or of an interim one (1xx) that the response follows."""
        if self._status() < 200:
            self._framed = False
        elif not self.complete:
            self.complete = True
            self.reusable = self._parser.should_keep_alive()


def _is_tls(data: bytes) -> bool:
    """Whether this is a TLS alert, which a TLS server sends when it receives plain text."""
    return data[:2] == b"\x15\x03"
