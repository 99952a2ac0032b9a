"""The head of a request: how large it is, and what it is without an upgrade."""

from __future__ import annotations

from ratus.errors import HeadersTooLarge
from ratus.server.guards import Guards

Headers = list[tuple[bytes, bytes]]


def head_size(target: bytes, headers: Headers) -> int:
    """What ``Guards.header_bytes`` bounds: the target, and each header with its punctuation."""
    return len(target) + sum(len(name) + len(value) + 4 for name, value in headers)


def too_large(guards: Guards) -> HeadersTooLarge:
    """The error for a head over the limits."""
    return HeadersTooLarge(f"at most {guards.header_bytes} bytes and {guards.header_count} fields are taken")


def without_upgrade(method: bytes, target: bytes, version: str, headers: Headers) -> bytes:
    """The bytes of a head that asks for no upgrade, but is otherwise the same."""
    lines = [b"%b %b HTTP/%b\r\n" % (method, target, version.encode("ascii"))]
    lines += [b"%b: %b\r\n" % header for header in headers if header[0] != b"upgrade"]
    return b"".join((*lines, b"\r\n"))
