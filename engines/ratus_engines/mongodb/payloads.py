"""Payloads and results: JSON text as BSON values, and back, so that a Go Ratus can read them too.

Strings, structure, the order of members, 64-bit integers and doubles are the same on both sides: such a value
is plain. Any other is stored as the JSON text itself, as it was sent, in binary data of a subtype of its own
(`TEXT_SUBTYPE`). That is a value

- that BSON cannot hold as it was sent: an object in which a name stands twice, a name with a NUL, the integer
  ``-0`` (BSON would lose its sign);
- in which a name has U+E000 (a character that Unicode leaves to private use): version 0.1 wrote escapes that
  begin with it, and those are still read;
- whose conversion would hold the event loop: a list or an object with more in it than `MOST_VALUES`,
  `MOST_ESCAPES` or `MOST_STRUCTURE`. A string is quick, however long it is.

No client can make such binary data by JSON, neither here nor with a Go Ratus, so it is trusted to be JSON and
returned as it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import bson
import msgspec
from bson.binary import Binary
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.datetime_ms import DatetimeMS
from bson.raw_bson import RawBSONDocument

from ratus.core.errors import BadRequest
from ratus.core.quoting import quoted
from ratus.core.times import MAX_TIME, MIN_TIME, format_time

MIN_INTEGER, MAX_INTEGER = -(2**63), 2**63 - 1

TEXT_SUBTYPE = 0xE0
"""The BSON subtype of binary data that is a JSON text: one of those that BSON leaves to its users."""

MOST_VALUES = 10_000
"""Values in a plain list or object at most, itself included. Each takes up to a microsecond each way."""

MOST_ESCAPES = 50_000
"""Backslashes in a plain list or object at most. Each takes up to 0.2 microseconds."""

MOST_STRUCTURE = 256 * 1024
"""Bytes of a plain list or object outside of strings at most: digits and white space, above all."""

MOST_BYTES = 1024 * 1024
"""Bytes of a plain list or object at most. Each takes up to ten nanoseconds.

At all these limits together a value takes twenty milliseconds, and a commit may have two: payload and result.
"""

MOST_ADDED = 16 * MOST_VALUES
"""Bytes that a value takes more as BSON than as JSON, at the most: `[0.0,0.0]` takes 11 for each."""

# Bytes up to which a value cannot have more than `MOST_VALUES`: each takes two, with its comma or bracket.
_SHORT = 2 * MOST_VALUES

_ESCAPE = "\ue000"
_ESCAPED = _ESCAPE.encode()
_FIRST_OF_ESCAPED = _ESCAPED[:1]  # a search for one byte is ten times as fast as for three

# How a name that is not plain may look in JSON text.
_UNUSUAL = re.compile(rb"\\u(?:0000|[eE]000)")

# Bytes of a text that may have unusual names up to which it is parsed to find out: some ten milliseconds. A
# longer one is stored as a text, whatever is in it.
_CLOSELY = 256 * 1024

_BACKSLASH, _ESCAPED_BACKSLASH = b"\\", rb"\\"
_QUOTE, _ESCAPED_QUOTE, _QUOTE_BY_NUMBER = b'"', rb"\"", rb"\u0022"

# Outside of strings: a zero with a sign, without a point and an exponent.
_NEGATIVE_ZERO = re.compile(rb"-0(?<![eE]-0)(?![0-9.eE])")

# What may be an integer over 64 bits, or a number like 1e300, each of which takes msgspec ten microseconds.
# For the search, each digit is replaced by a zero.
_AS_ZEROS = bytes.maketrans(b"123456789E", b"000000000e")
_LONG_DIGITS = b"0" * 19
_HARD_NUMBERS = (_LONG_DIGITS, b"e000", b"e+000", b"e-000")
_LONG_INTEGER = re.compile(rb"(?<![0-9.eE+-])-?[0-9]{19,}(?![0-9.eE])")
_MOST_DIGITS = 19

_decode = msgspec.json.Decoder().decode


# ---- JSON to BSON --------------------------------------------------------------------------------


def to_bson(data: bytes, member: str) -> Any:
    """The value of a valid JSON text as the driver takes it.

    Raises `BadRequest` naming the place in ``member`` for an integer beyond 64 bits. A value that takes long
    to convert is not looked at for that, and keeps such an integer.
    """
    if data[:1] == _QUOTE:
        return _decode(data)
    # The text in which numbers are looked for: without strings, or a short value as it is. Strings are taken
    # out of that only where something was found.
    outside = data if len(data) <= _SHORT else _cheap_outside(data)
    if outside is None:
        return _as_text(data)
    decode: Callable[[bytes], Any] = _decode
    zeros = outside.translate(_AS_ZEROS)
    if any(number in zeros for number in _HARD_NUMBERS):
        decode = json.loads
        if _LONG_DIGITS in zeros:
            outside = _outside_strings(outside)
            _check_integers(data, outside, member)
    if b"-0" in outside and _NEGATIVE_ZERO.search(outside):
        outside = _outside_strings(outside)
        if _NEGATIVE_ZERO.search(outside):
            return _as_text(data)
    if _may_have_unusual_names(data) and not _has_plain_names(data):
        return _as_text(data)
    value = decode(data)
    # Where a name stood twice, one of its members is gone from the value, so there are fewer quotes.
    if b"{" in outside and _quotes(data) != _encode(value).count(_QUOTE):
        return _as_text(data)
    return value


def _as_text(data: bytes) -> Binary:
    return Binary(data, TEXT_SUBTYPE)


def _cheap_outside(data: bytes) -> bytes | None:
    """`_outside_strings` of a list or an object, or ``None`` where the value takes long to convert."""
    if len(data) > MOST_BYTES or data.count(_BACKSLASH) > MOST_ESCAPES:
        return None
    quotes = data.count(_QUOTE)
    if quotes > 2 * MOST_VALUES and quotes - data.count(_ESCAPED_QUOTE) > 2 * MOST_VALUES:
        return None
    outside = _outside_strings(data)
    if len(outside) > MOST_STRUCTURE:
        return None
    values = len(outside) - len(outside.translate(None, b",[{")) + 1
    return outside if values <= MOST_VALUES else None


def _quotes(data: bytes) -> int:
    """The quotes of a JSON text in which every quote within a string is written as ``\\"``."""
    if _BACKSLASH in data and _QUOTE_BY_NUMBER in data:
        data = data.replace(_ESCAPED_BACKSLASH, b"").replace(_QUOTE_BY_NUMBER, _ESCAPED_QUOTE)
    return data.count(_QUOTE)


def _outside_strings(data: bytes) -> bytes:
    """A JSON text with an empty string for each string."""
    # Between an opening and a closing quote everything is text; an escaped quote opens and closes nothing.
    if _BACKSLASH in data:
        data = data.replace(_ESCAPED_BACKSLASH, b"").replace(_ESCAPED_QUOTE, b"")
    return b'""'.join(data.split(_QUOTE)[::2])


def _may_have_unusual_names(data: bytes) -> bool:
    """Whether a NUL or U+E000 is anywhere in a JSON text, in a name or not."""
    return (_FIRST_OF_ESCAPED in data and _ESCAPED in data) or (
        _BACKSLASH in data and b"\\u" in data and _UNUSUAL.search(data) is not None
    )


def _has_plain_names(data: bytes) -> bool:
    """Whether it is certain that no name has a NUL or U+E000."""
    plain = len(data) <= _CLOSELY

    def look(pairs: list[tuple[str, Any]]) -> None:
        nonlocal plain
        names = "".join([name for name, _ in pairs])
        if "\0" in names or _ESCAPE in names:
            plain = False

    if plain:
        json.loads(data, object_pairs_hook=look)
    return plain


def _check_integers(data: bytes, outside: bytes, member: str) -> None:
    for found in _LONG_INTEGER.finditer(outside):
        digits = found[0].lstrip(b"-")
        if len(digits) > _MOST_DIGITS or not MIN_INTEGER <= int(found[0]) <= MAX_INTEGER:
            place = _long_integer(json.loads(data), member) if len(data) <= _CLOSELY else None
            raise BadRequest(
                f"{quoted(place or member)}: MongoDB holds integers of 64 bits and this one is longer; "
                "send it as a string"
            )


def _long_integer(value: Any, place: str) -> str | None:
    """The place of the first integer beyond 64 bits."""
    inner: Any = ()
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list):
        inner = enumerate(value)
    elif isinstance(value, int) and not MIN_INTEGER <= value <= MAX_INTEGER:
        return place
    for name, each in inner:
        if (found := _long_integer(each, f"{place}.{name}")) is not None:
            return found
    return None


# ---- BSON to JSON --------------------------------------------------------------------------------


class _Members(dict[str, Any]):
    """An object that the driver does not take for a reference to a document.

    The driver looks for $ref and $id in each object that it has decoded. Where it finds both it makes a
    `bson.dbref.DBRef`, which loses the order of the members and is no JSON. In this class it finds neither.
    """

    __slots__ = ()

    def __getitem__(self, name: str) -> Any:
        raise KeyError(name)

    def __contains__(self, name: object) -> bool:
        return False


class _EscapedMembers(_Members):
    """`_Members` for objects whose names may have the escapes of version 0.1."""

    __slots__ = ()

    def __setitem__(self, name: str, value: Any) -> None:
        if _ESCAPE in name:
            name = _Name(_UNESCAPE.sub(lambda match: _MEANINGS.get(match[1], match[0]), name))
        super().__setitem__(name, value)


class _Name(str):
    """A name that is equal to no other, so that an object can have it twice."""

    __slots__ = ()
    __eq__ = object.__eq__
    __hash__ = object.__hash__


# What the escapes of version 0.1 mean. The last one made a repeated name unique: it was added once for each
# time that the name stood in the object before.
_MEANINGS = {"0": "\0", "1": _ESCAPE, "2": ""}
_UNESCAPE = re.compile(f"{_ESCAPE}(.)", re.DOTALL)

_PLAIN: CodecOptions[dict[str, Any]] = CodecOptions(
    datetime_conversion=DatetimeConversion.DATETIME_MS, unicode_decode_error_handler="replace"
)
_CAREFUL = _PLAIN.with_options(document_class=_Members)
_ESCAPES = _PLAIN.with_options(document_class=_EscapedMembers)


def decoded(document: RawBSONDocument) -> dict[str, Any]:
    """The members of a document, for `to_json`. The caller may look at them with ``get`` only."""
    # For a document of 4 KiB and more, ``raw`` is a memoryview, which cannot be searched.
    raw = bytes(document.raw)
    if _FIRST_OF_ESCAPED in raw and _ESCAPED in raw:
        return bson.decode(raw, _ESCAPES)
    return bson.decode(raw, _CAREFUL if b"$" in raw and b"$ref\0" in raw else _PLAIN)


def to_json(value: Any) -> bytes:
    """The JSON text of a value in a `decoded` document.

    Types that JSON does not know (another program wrote them) become strings.
    """
    if isinstance(value, RawBSONDocument):
        value = decoded(value)
    if isinstance(value, Binary) and value.subtype == TEXT_SUBTYPE:
        return bytes(value)
    return _encode(value)


def _foreign(value: Any) -> Any:
    """What msgspec does not know by itself: documents within documents, and the types of BSON."""
    if isinstance(value, RawBSONDocument):
        return decoded(value)
    if isinstance(value, int):
        return int(value)  # a 64-bit integer
    if isinstance(value, bytes):
        # Binary data of any subtype becomes base64. Where it is a JSON text, another program put it there.
        return bytes(value)
    if isinstance(value, DatetimeMS):
        time = int(value) * 1_000
        return format_time(time) if MIN_TIME <= time <= MAX_TIME else str(int(value))
    return str(value)


_encode = msgspec.json.Encoder(enc_hook=_foreign).encode
