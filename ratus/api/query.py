"""The query string and path segments, decoded strictly, and only when a handler asks for them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import unquote_to_bytes

from ratus.core.errors import BadRequest
from ratus.core.quoting import quoted

_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)


def decode_segment(raw: bytes) -> str:
    """A segment of the path, percent-decoded; ``+`` is a plus. Raises `BadRequest` for a malformed escape or
    what is not UTF-8."""
    if b"%" not in raw and raw.isascii():  # nearly all segments
        return raw.decode()
    if _BAD_ESCAPE.search(raw):
        raise BadRequest("the path has a % that is not followed by two hexadecimal digits; write %25")
    return _utf8(unquote_to_bytes(raw), "the path")


def _utf8(raw: bytes, where: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise BadRequest(f"{where} is not UTF-8 once percent-decoded") from None


def _decoded(raw: bytes, name: str) -> str:
    """The value of a parameter. Raises `BadRequest`, which names the parameter."""
    if b"%" in raw or b"+" in raw:
        if _BAD_ESCAPE.search(raw):
            raise BadRequest(f"{name}: a % is not followed by two hexadecimal digits; write %25")
        raw = unquote_to_bytes(raw.replace(b"+", b" "))
    return _utf8(raw, name)


class Query:
    """Parameters by name: the first of a name counts, an empty value counts as absent."""

    __slots__ = ("_query", "_raw")

    def __init__(self, query: bytes) -> None:
        self._query = query
        self._raw: dict[bytes, bytes] = {}
        for name, value in self._pairs():
            self._raw.setdefault(name, value)

    def _pairs(self) -> Iterator[tuple[bytes, bytes]]:
        """Each parameter, in order: its name, decoded, and its value as it was sent."""
        for pair in self._query.split(b"&") if self._query else ():
            name, _, value = pair.partition(b"=")
            if b"%" in name or b"+" in name:
                name = unquote_to_bytes(name.replace(b"+", b" "))
            yield name, value

    def __bool__(self) -> bool:
        return bool(self._raw)

    def __contains__(self, name: str) -> bool:
        return name.encode() in self._raw

    def text(self, name: str) -> str | None:
        """A parameter's text, or ``None``. Raises `BadRequest` as `decode_segment` does."""
        if not self._raw:
            return None
        raw = self._raw.get(name.encode())
        return _decoded(raw, name) if raw else None

    def names(self) -> list[str]:
        """The names of the parameters. Raises `BadRequest` for one that is not UTF-8."""
        return [_utf8(name, "the name of a parameter") for name in self._raw]

    def beginning(self, prefix: str) -> dict[str, list[str]]:
        """The values of the parameters whose names begin with ``prefix``, by what follows it.

        Other than `text`, all values of a name count, and an empty one is a value. Raises `BadRequest`.
        """
        start = prefix.encode()
        found: dict[str, list[str]] = {}
        if any(name.startswith(start) for name in self._raw):
            for raw_name, value in self._pairs():
                if raw_name.startswith(start):
                    name = _utf8(raw_name, "the name of a parameter")
                    found.setdefault(name.removeprefix(prefix), []).append(_decoded(value, name))
        return found

    def integer(self, name: str) -> int | None:
        """A parameter as a decimal integer of up to 18 digits, or ``None``. Raises `BadRequest`."""
        text = self.text(name)
        if text is None:
            return None
        if not _INTEGER.fullmatch(text):
            raise BadRequest(f"{name}: {quoted(text)} is not an integer")
        return int(text)


NO_QUERY = Query(b"")


def flag(query: Query, name: str) -> bool:
    """A parameter that is ``true`` or ``false``; without it, false. Raises `BadRequest` for anything else."""
    text = query.text(name)
    if text not in (None, "true", "false"):
        raise BadRequest(f"{name}: {quoted(text)} is neither true nor false")
    return text == "true"
