"""Payloads and results: JSON text as BSON values, and back, so that a Go Ratus can read them too.

Strings, structure, the order of members, 64-bit integers and doubles are the same on both sides. What BSON or
the driver cannot hold in the name of a member is written with an escape (a character that Unicode leaves to
private use) and read back exactly: a NUL, the escape itself, and a name that stands twice in one object. A
program that knows nothing of it sees a strange name and nothing else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import bson
import msgspec
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.datetime_ms import DatetimeMS
from bson.raw_bson import RawBSONDocument

from ratus.errors import BadRequest
from ratus.quoting import quoted
from ratus.times import MAX_TIME, MIN_TIME, format_time

MIN_INTEGER, MAX_INTEGER = -(2**63), 2**63 - 1

_ESCAPE = "\ue000"
_NUL = _ESCAPE + "0"
_ITSELF = _ESCAPE + "1"
_AGAIN = _ESCAPE + "2"  # once for each time that the name stood there before

# How a name that needs an escape may look in JSON text. Values with these take the careful way, too.
_UNUSUAL = (b"\\u0000", _ESCAPE.encode(), b"\\ue000", b"\\uE000")
_ESCAPED = _ESCAPE.encode()
_UNESCAPE = re.compile(f"{_ESCAPE}(.)", re.DOTALL)
_MEANINGS = {"0": "\0", "1": _ESCAPE, "2": ""}

# Fewer digits fit into 64 bits whatever they are.
_LONG_INTEGER = re.compile(rb"[0-9]{19}")

_PLAIN: CodecOptions[dict[str, Any]] = CodecOptions(
    datetime_conversion=DatetimeConversion.DATETIME_MS, unicode_decode_error_handler="replace"
)

_decode = msgspec.json.Decoder().decode


# ---- JSON to BSON --------------------------------------------------------------------------------


def to_bson(data: bytes, member: str) -> Any:
    """The value of a valid JSON text as the driver takes it.

    Raises `BadRequest` naming the place in ``member`` for an integer beyond 64 bits.
    """
    if any(unusual in data for unusual in _UNUSUAL):
        value = json.loads(data, object_pairs_hook=_escaped)
    else:
        value = _decode(data)
        # A name that stood twice is gone now, and its quotes with it.
        if b'"' in data and data.count(b'"') != _encode(value).count(b'"'):
            value = json.loads(data, object_pairs_hook=_escaped)
    if _LONG_INTEGER.search(data):
        _check_integers(value, member)
    return value


def _escaped(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, value in pairs:
        safe = name.replace(_ESCAPE, _ITSELF).replace("\0", _NUL)
        while safe in members:
            safe += _AGAIN
        members[safe] = value
    return members


def _check_integers(value: Any, place: str) -> None:
    if isinstance(value, dict):
        for name, inner in value.items():
            _check_integers(inner, f"{place}.{name}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            _check_integers(inner, f"{place}.{number}")
    elif isinstance(value, int) and not MIN_INTEGER <= value <= MAX_INTEGER:
        raise BadRequest(
            f"{quoted(place)}: MongoDB holds integers of 64 bits and this one is longer; send it as a string"
        )


# ---- BSON to JSON --------------------------------------------------------------------------------


def to_json(value: Any) -> bytes:
    """The JSON text of a value as it comes from a `RawBSONDocument`.

    Types that JSON does not know (another program wrote them) become texts.
    """
    return _encode(value)


def _foreign(value: Any) -> Any:
    """What msgspec does not know by itself: documents within documents, and the types of BSON."""
    if isinstance(value, RawBSONDocument):
        return msgspec.Raw(_document(value))
    if isinstance(value, int):
        return int(value)  # a 64-bit integer
    if isinstance(value, DatetimeMS):
        time = int(value) * 1_000
        return format_time(time) if MIN_TIME <= time <= MAX_TIME else str(int(value))
    return str(value)


_encode = msgspec.json.Encoder(enc_hook=_foreign).encode


def _document(document: RawBSONDocument) -> bytes:
    raw = document.raw
    # The driver turns an object with $ref and $id into a reference and forgets the order of its members.
    if _ESCAPED in raw or (b"$ref\0" in raw and b"$id\0" in raw):
        return _careful(document)
    return _encode(bson.decode(raw, _PLAIN))


def _careful(document: Mapping[str, Any]) -> bytes:
    members = (_encode(_unescaped(name)) + b":" + _encode(value) for name, value in document.items())
    return b"{" + b",".join(members) + b"}"


def _unescaped(name: str) -> str:
    if _ESCAPE not in name:
        return name
    return _UNESCAPE.sub(lambda match: _MEANINGS.get(match[1], match[0]), name)
