"""The head of a request: how large it is, whether it is unambiguous, and what it is without an upgrade."""

from __future__ import annotations

import re

from ratus.core.errors import BadRequest, HeadersTooLarge, NotSupported, RatusError
from ratus.server.connection_limits import ConnectionLimits

Headers = list[tuple[bytes, bytes]]


def head_size(target: bytes, headers: Headers) -> int:
    """What ``ConnectionLimits.header_bytes`` bounds: the target, and each header with its punctuation."""
    return len(target) + sum(len(name) + len(value) + 4 for name, value in headers)


def too_large(limits: ConnectionLimits) -> HeadersTooLarge:
    """The error for a head over the limits."""
    return HeadersTooLarge(f"at most {limits.header_bytes} bytes and {limits.header_count} fields are taken")


# Fields that another server on the way may read differently when they come twice. The parser itself refuses a
# second Content-Length, and Content-Length beside Transfer-Encoding.
_SINGLE = frozenset((b"host", b"authorization", b"origin", b"sec-fetch-site"))

# A name or an address, and perhaps a port; empty where the target has no authority (RFC 9110, 7.2).
_HOST = re.compile(rb"(?:\[[0-9A-Fa-fv.:]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(?::[0-9]*)?")


def ambiguity(version: str, headers: Headers) -> RatusError | None:
    """Why a request with this head cannot be taken, as RFC 9112 (3.2 and 6.1) demands, or None."""
    names = [name for name, _ in headers if name in _SINGLE]
    for name in _SINGLE:
        if names.count(name) > 1:
            return BadRequest(f"the header {name.decode('ascii')} comes twice")
    host = next((value for name, value in headers if name == b"host"), None)
    if host is None:
        if version != "1.0":
            return BadRequest(f"HTTP/{version} needs the header Host")
    elif not _HOST.fullmatch(host):
        return BadRequest("the header Host must be a name or an address, and perhaps a port")
    return _wrong_coding(version, headers)


def _wrong_coding(version: str, headers: Headers) -> RatusError | None:
    """The error for a ``Transfer-Encoding`` that this server does not take, or None."""
    values = [value for name, value in headers if name == b"transfer-encoding"]
    if not values:
        return None
    if version == "1.0":
        return BadRequest("HTTP/1.0 knows no Transfer-Encoding; send a Content-Length")
    codings = [coding.strip(b" \t").lower() for coding in b",".join(values).split(b",")]
    if codings == [b"chunked"]:
        return None
    if codings[-1] != b"chunked" or codings.count(b"chunked") > 1:
        return BadRequest("the last transfer coding must be chunked, once")
    return NotSupported("the only transfer coding that is known here is chunked")


def without_upgrade(method: bytes, target: bytes, version: str, headers: Headers) -> bytes:
    """The bytes of a head that asks for no upgrade, but is otherwise the same."""
    lines = [b"%b %b HTTP/%b\r\n" % (method, target, version.encode("ascii"))]
    lines += [b"%b: %b\r\n" % header for header in headers if header[0] != b"upgrade"]
    return b"".join((*lines, b"\r\n"))
