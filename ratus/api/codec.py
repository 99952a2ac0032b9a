"""JSON as it comes in: strict, fast, and with payloads kept as the bytes they were sent as.

A body is taken apart one level at a time into members whose values stay raw bytes; each member that means
something is then read by the reader of its kind. So a payload is checked but never rebuilt: its numbers,
its strings and the order of its members come back as they were sent.

What is refused, always as `BadRequest` before anything is changed: malformed JSON, anything behind it,
invalid UTF-8, lone surrogates, NaN, numbers that are no finite double, integers of more than 4,300 digits,
nesting beyond 170 levels, and a name that stands twice in one of our own objects.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from typing import Any

import msgspec

from ratus.durations import parse_duration, quoted
from ratus.errors import BadRequest
from ratus.times import parse_time

MAX_DEPTH = 170
MAX_DIGITS = 4300

Members = dict[str, msgspec.Raw]

_ANY = msgspec.json.Decoder()
_MEMBERS = msgspec.json.Decoder(Members)
_ITEMS = msgspec.json.Decoder(list[Members | None])
_TEXT = msgspec.json.Decoder(str)
_TEXTS = msgspec.json.Decoder(list[str])
_INTEGER = msgspec.json.Decoder(int)
_NUMBER = msgspec.json.Decoder(float)
_BOOLEAN = msgspec.json.Decoder(bool)

_NULL = b"null"
_QUOTE = b'"'
_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")

# The decoder counts the sign of an integer as a digit. So the longest negative ones are checked without it:
# where a value may begin, the text is as valid with it as without.
_LONG_MINUS = re.compile(rb"(?<![^\s\[:,])-(?=[0-9]{%d}(?![0-9]))" % MAX_DIGITS)


def _decode(decoder: msgspec.json.Decoder[Any], data: bytes | msgspec.Raw, where: str = "") -> Any:
    try:
        return decoder.decode(data)
    except UnicodeDecodeError:
        problem = "invalid UTF-8"
    except RecursionError:
        problem = f"nested deeper than {MAX_DEPTH} levels"
    except msgspec.ValidationError as error:
        # Our members have their name in `where`; the path that msgspec adds would be that of a part.
        problem = str(error).partition(" - at")[0].replace("`", "").replace("Expected", "expected")
    except (msgspec.DecodeError, ValueError) as error:
        problem = str(error)
    raise BadRequest(f"{where}: {problem}" if where else problem) from None


def read_object(body: bytes) -> Members | None:
    """The members of the object that is the whole body; ``None`` for an empty body or ``null``."""
    body = body.strip(b" \t\r\n")
    if not body or body == _NULL:
        return None
    if not body.isascii():
        # Values that nobody reads (of unknown members) would not be looked at otherwise.
        try:
            body.decode()
        except UnicodeDecodeError as error:
            raise BadRequest(f"invalid UTF-8 at byte {error.start}") from None
    members: Members = _decode(_MEMBERS, body)
    _check_names(body, members, "")
    return members


def read_items(body: bytes) -> list[Members]:
    """The members of each object in the list ``data`` of the body; empty when there is none."""
    members = read_object(body)
    data = raw_of(members, "data") if members else None
    if data is None:
        return []
    items: list[Members | None] = _decode(_ITEMS, data, "data")
    if None in items:
        raise BadRequest(f"data: item {items.index(None)} is null; give an object")
    if data.count(_QUOTE) != _quotes(*items):  # type: ignore[arg-type]  # no item is None
        for at, pairs in enumerate(_pairs(data)):
            pairs.check_unique(f"data: item {at}: ")
    return items  # type: ignore[return-value]  # no item is None, as was just seen


def _check_names(data: bytes, members: Members, where: str) -> None:
    """Refuse a name that stands twice. Decoding keeps only the last, so what is missing is looked for.

    Each member brings the two quotes of its name and those in its value. What is over belongs to a member
    that was dropped, or to a name with an escaped quote in it: then (and only then) every name is looked at.
    """
    if data.count(_QUOTE) != _quotes(members):
        _pairs(data).check_unique(where)


def _quotes(*objects: Members) -> int:
    """The quotes that these members bring."""
    values = b"".join(itertools.chain.from_iterable(members.values() for members in objects))
    return 2 * sum(map(len, objects)) + values.count(_QUOTE)


def _pairs(data: bytes) -> Any:
    """A valid JSON text with every object as the list of its members."""
    try:
        return json.loads(data, object_pairs_hook=_Pairs)
    except RecursionError:
        raise BadRequest(f"nested deeper than {MAX_DEPTH} levels") from None
    except ValueError as error:  # an integer of too many digits in a member that nobody reads
        raise BadRequest(str(error)) from None


class _Pairs(list[tuple[str, Any]]):
    """The members of an object as they stand in the text."""

    def check_unique(self, where: str) -> None:
        seen: set[str] = set()
        for name, _ in self:
            if name in seen:
                raise BadRequest(f"{where}the name {quoted(name)} stands twice")
            seen.add(name)


# ---- readers of one member ------------------------------------------------------------------------
# Each takes the members and a name, and gives None when the member is absent or null.


def raw_of(members: Members, name: str) -> bytes | None:
    """A member's value as it stands in the text."""
    raw = members.get(name)
    if raw is None:
        return None
    data = bytes(raw)
    return None if data == _NULL else data


def _reader(decoder: msgspec.json.Decoder[Any]) -> Callable[[Members, str], Any]:
    decode = decoder.decode

    def read(members: Members, name: str) -> Any:
        raw = members.get(name)
        if raw is None:
            return None
        try:
            return decode(raw)
        except Exception:  # it is null, or else the way round says what is wrong with it
            data = raw_of(members, name)
            return None if data is None else _decode(decoder, data, name)

    return read


text_of: Callable[[Members, str], str | None] = _reader(_TEXT)
texts_of: Callable[[Members, str], list[str] | None] = _reader(_TEXTS)
integer_of: Callable[[Members, str], int | None] = _reader(_INTEGER)
number_of: Callable[[Members, str], float | None] = _reader(_NUMBER)
boolean_of: Callable[[Members, str], bool | None] = _reader(_BOOLEAN)


def object_of(members: Members, name: str) -> Members | None:
    """The members of an object within one of ours."""
    data = raw_of(members, name)
    if data is None:
        return None
    inner: Members = _decode(_MEMBERS, data, name)
    _check_names(data, inner, f"{name}: ")
    return inner


def value_of(members: Members, name: str) -> bytes | None:
    """Any JSON value (a payload, a result) as the bytes it was sent as, after it was checked."""
    data = raw_of(members, name)
    if data is None:
        return None
    _decode(_ANY, _LONG_MINUS.sub(b"", data) if len(data) > MAX_DIGITS else data, name)
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH and _depth(data) > MAX_DEPTH:
        raise BadRequest(f"{name}: nested deeper than {MAX_DEPTH} levels")
    return data


def _depth(data: bytes) -> int:
    """The levels of nesting in a valid JSON text; brackets within strings do not count."""
    deepest = depth = 0
    # Between an opening and a closing quote everything is text; an escaped quote opens and closes nothing.
    outside = data.replace(rb"\\", b"").replace(rb"\"", b"").split(_QUOTE)[::2]
    for byte in b"".join(outside).translate(None, _NO_BRACKETS):
        if byte in b"[{":
            depth += 1
            if depth > deepest:
                deepest = depth
        else:
            depth -= 1
    return deepest


def time_of(members: Members, name: str) -> int | None:
    """A time as microseconds since the epoch."""
    text = text_of(members, name)
    return None if text is None else time_from(text, name)


def duration_of(members: Members, name: str) -> int | None:
    """A duration as microseconds; an empty text counts as absent."""
    text = text_of(members, name)
    return duration_from(text, name) if text else None


def time_from(text: str, name: str) -> int:
    try:
        return parse_time(text)
    except ValueError as error:
        raise BadRequest(f"{name}: {error}") from None


def duration_from(text: str, name: str) -> int:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise BadRequest(f"{name}: {error}") from None
