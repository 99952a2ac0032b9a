"""JSON as it comes in: strict, fast, and with payloads kept as the bytes they were sent as.

A body is taken apart one level at a time into members whose values stay raw bytes; each member that means
something is then read by the reader of its kind. So a payload is checked but never rebuilt: its numbers,
its strings and the order of its members come back as they were sent.

What is refused, always as `BadRequest` before anything is changed: malformed JSON, anything behind it,
invalid UTF-8, lone surrogates, NaN, numbers that are no finite double, integers of more than 4,300 digits,
nesting beyond 170 levels, and a name that stands twice in an object of the API (not within a payload).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

import msgspec

from ratus.api.walking import MAX_DEPTH, MAX_DIGITS
from ratus.core.durations import parse_duration
from ratus.core.errors import BadRequest, PayloadTooLarge
from ratus.core.quoting import quoted
from ratus.core.times import parse_time

_LONGEST_SEARCH = 256 * 1024
"""How many bytes a text may have in which the member with a lone surrogate is looked for."""

Members = dict[str, Any]
"""The members of an object by name. A value is a `msgspec.Raw`: what stands in the text. In an `Opened` body
it may have been read already: a payload or result is bytes then, an object its own members."""


class Opened(bytes):
    """A large body that has been checked and taken apart in slices; see `ratus.api.large`."""

    members: Members
    items: list[Members]

    def __new__(cls, body: bytes, members: Members, items: list[Members]) -> Opened:
        opened = super().__new__(cls, body)
        opened.members, opened.items = members, items
        return opened


class _Name:
    """A member's name that is equal to no other, so that a name that stands twice is kept twice."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


class Fenced(msgspec.Struct, gc=False):
    """The id of a task to be committed, and the nonce of its claim."""

    id: str = msgspec.field(name="_id")
    nonce: str


class _Nonce(msgspec.Struct, gc=False):
    nonce: str


# The quotes in a `_Nonce` and in a `Fenced`: two around each name and each text.
_NONCE_QUOTES = 4
_FENCED_QUOTES = 8


def _name(kind: type, text: str) -> _Name:
    return _Name(text)


_ANY = msgspec.json.Decoder()
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ITEMS = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])
_RAWS = msgspec.json.Decoder(list[msgspec.Raw])
_NAMES = msgspec.json.Decoder(dict[_Name, msgspec.Raw], dec_hook=_name)
_ITEM_NAMES = msgspec.json.Decoder(list[dict[_Name, msgspec.Raw]], dec_hook=_name)
_FENCED = msgspec.json.Decoder(list[Fenced])
_NONCE = msgspec.json.Decoder(_Nonce)
_TEXT = msgspec.json.Decoder(str)
_TEXTS = msgspec.json.Decoder(list[str])
_INTEGER = msgspec.json.Decoder(int)
_NUMBER = msgspec.json.Decoder(float)
_BOOLEAN = msgspec.json.Decoder(bool)

_NULL = b"null"
_QUOTE = b'"'
_ESCAPED_BACKSLASH = rb"\\"

# Brackets as steps of nesting: +1 and -1 as signed bytes.
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")

# The decoder counts the sign of an integer as a digit. So the sign of a negative integer of `MAX_DIGITS`
# digits is removed for the check: where a value may begin, the text is as valid without the sign as with it.
_LONG_MINUS = re.compile(rb"(?<![^\s\[:,])-(?=[0-9]{%d}(?![0-9]))" % MAX_DIGITS)

_PAIR = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")

# The decoder's message about a value of a wrong type.
_MISMATCH = re.compile(r"Expected `(\w+)`, got `(\w+)`(?: - at `\$\[(\d+)\]`)?")
_KINDS = {"object": "an object", "array": "a list", "str": "a text", "bool": "true or false", "null": "null"}
_EXPECTED = _KINDS | {"int": "an integer", "float": "a number"}
_GIVEN = _KINDS | {"int": "a number", "float": "a number"}


def _decode(decoder: msgspec.json.Decoder[Any], data: bytes | msgspec.Raw, where: str = "") -> Any:
    try:
        return decoder.decode(data)
    except UnicodeDecodeError:
        problem = "invalid UTF-8"
    except RecursionError:
        problem = f"nested deeper than {MAX_DEPTH} levels"
    except msgspec.ValidationError as error:
        problem = _mismatch(str(error))
    except (msgspec.DecodeError, ValueError) as error:
        # In a long text a lone surrogate is not looked for: that takes much longer than reading it.
        found = _lone_surrogate(bytes(data)) if len(bytes(data)) <= _LONGEST_SEARCH else None
        problem = found or str(error)
    raise BadRequest(f"{where}: {problem}" if where else problem) from None


def _mismatch(message: str) -> str:
    """The decoder's message about the type or the size of a value, in words of JSON instead of Python's."""
    found = _MISMATCH.match(message)
    if found is None:  # the path in the message is left out: it has no names
        limit = f"more than {MAX_DIGITS} digits" if message.startswith("Integer") else "beyond a double"
        return f"a number is out of range ({limit}); give a smaller one, or a text"
    expected, given, item = found.groups()
    if (expected, given) == ("int", "float"):
        given_words = "one with a point or an exponent"
    else:
        given_words = _GIVEN[given]
    where = f"item {item}: " if item else ""
    return f"{where}expected {_EXPECTED[expected]}, got {given_words}"


def _lone_surrogate(data: bytes) -> str | None:
    """The message about a lone surrogate, with the member that has it; ``None`` if there is none in the text.

    If the text is malformed in another way as well, the message is about that. In the name of the member as
    it is shown, two underscores stand for a backslash.
    """
    # Lone surrogates are marked with an escaped backslash. For that, underscores replace all other escaped
    # backslashes, and the surrogates that are pairs.
    plain = _PAIR.sub(b"_" * 12, data.replace(_ESCAPED_BACKSLASH, b"__"))
    marked, count = _SURROGATE.subn(_ESCAPED_BACKSLASH * 2 + b"____", plain)
    if not count:
        return None
    try:
        members = _MEMBERS.decode(marked)
        where = _marked_member(members)
        if where == "data: ":
            for at, item in enumerate(_RAWS.decode(members["data"])):
                if _ESCAPED_BACKSLASH in bytes(item):
                    where = f"data: item {at}: {_marked_member(_MEMBERS.decode(item))}"
                    break
    except msgspec.ValidationError:  # neither an object nor a batch of objects
        where = ""
    except msgspec.DecodeError as error:
        return str(error)
    return f"{where}lone surrogate, which is no character; leave it out or send the pair"


def _marked_member(members: Members) -> str:
    """The member with the mark of `_lone_surrogate`, as the beginning of a message."""
    for name, raw in members.items():
        if _ESCAPED_BACKSLASH in bytes(raw):
            return f"{quoted(name)[1:-1]}: "
    return "the name of a member: "


def read_object(body: bytes) -> Members | None:
    """The members of the object that is the whole body; ``None`` for an empty body or ``null``."""
    if isinstance(body, Opened):
        return body.members
    body = body.strip(b" \t\r\n")
    if not body or body == _NULL:
        return None
    if not body.isascii():
        # The values of unknown members are skipped when decoding, so their UTF-8 would not be checked.
        try:
            body.decode()
        except UnicodeDecodeError as error:
            raise BadRequest(f"invalid UTF-8 at byte {error.start}") from None
    members: Members = _decode(_MEMBERS, body)
    _check_names(body, members, "")
    return members


def read_items(body: bytes, most: int) -> list[Members]:
    """The members of each object in the list ``data`` of the body; empty when there is none.

    Raises `PayloadTooLarge` for more than ``most``, before they are taken apart.
    """
    if isinstance(body, Opened):
        return body.items
    members = read_object(body)
    data = raw_of(members, "data") if members else None
    if data is None:
        return []
    if data.count(b"{") > most:  # there may be too many, and a million small ones take long to take apart
        count = len(_decode(_RAWS, data, "data"))
        if count > most:
            raise PayloadTooLarge(f"a batch may hold {most} items, not {count}; send several")
    return items_of(data)


def items_of(data: bytes, first: int = 0) -> list[Members]:
    """The members of each object in a list; ``first`` is the index of the first in the body's ``data``."""
    items: list[Members] = _decode(_ITEMS, data, "data")
    values = itertools.chain.from_iterable(members.values() for members in items)
    if data.count(_QUOTE) != _quotes(sum(map(len, items)), values):
        for at, names in enumerate(_ITEM_NAMES.decode(data), first):
            _check_unique(names, f"data: item {at}: ")
    return items


def read_fenced(body: bytes, most: int) -> list[Fenced] | None:
    """The objects in the list ``data`` of the body where each is an id and a nonce and nothing else, as in
    most batches of commits; ``None`` for any other body, which `read_items` reads or refuses."""
    if isinstance(body, Opened):
        return None
    members = read_object(body)
    data = raw_of(members, "data") if members else None
    if data is None or b"\\" in data or data.count(b"{") > most:
        return None
    try:
        items: list[Fenced] = _FENCED.decode(data)
    except Exception:  # `read_items` says what is wrong with it, if anything is
        return None
    # Two quotes around each name and each text. Another member, or a name that stands twice, brings more.
    return items if data.count(_QUOTE) == _FENCED_QUOTES * len(items) else None


def read_nonce(body: bytes) -> str | None:
    """The nonce in a body that has nothing else, as most commits are; ``None`` for any other body, which
    `read_object` reads or refuses."""
    if body.count(_QUOTE) != _NONCE_QUOTES or b"\\" in body:
        return None
    try:
        nonce: str = _NONCE.decode(body).nonce
    except Exception:  # `read_object` says what is wrong with it, if anything is
        return None
    return nonce


def _check_names(data: bytes, members: Members, where: str) -> None:
    """Refuse a name that stands twice. Decoding keeps only the last, so the quotes in the text are counted.

    Each member brings the two quotes of its name and those in its value. Further quotes belong to a member
    that was dropped, or to a name with an escaped quote in it: then (and only then) every name is looked at.
    """
    if data.count(_QUOTE) != _quotes(len(members), members.values()):
        _check_unique(_NAMES.decode(data), where)


def _quotes(count: int, values: Iterable[msgspec.Raw]) -> int:
    """How many quotes ``count`` members with these values bring."""
    return 2 * count + b"".join(values).count(_QUOTE)


def _check_unique(names: Iterable[_Name], where: str) -> None:
    texts = [name.text for name in names]
    if len(set(texts)) == len(texts):
        return
    seen: set[str] = set()
    for text in texts:
        if text in seen:
            refuse_twice(text, where)
        seen.add(text)


def refuse_twice(name: str, where: str = "") -> NoReturn:
    """Refuse an object for a name that stands twice in it."""
    raise BadRequest(f"{where}the name {quoted(name)} stands twice")


def name_from(data: bytes) -> str:
    """A member's name, from its text with the quotes."""
    name: str = _decode(_TEXT, data, "the name of a member")
    return name


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
        except Exception:  # it is null, or else `_decode` says what is wrong with it
            data = raw_of(members, name)
            return None if data is None else _decode(decoder, data, name)

    return read


text_of: Callable[[Members, str], str | None] = _reader(_TEXT)
texts_of: Callable[[Members, str], list[str] | None] = _reader(_TEXTS)
integer_of: Callable[[Members, str], int | None] = _reader(_INTEGER)
number_of: Callable[[Members, str], float | None] = _reader(_NUMBER)
any_of: Callable[[Members, str], Any] = _reader(_ANY)
boolean_of: Callable[[Members, str], bool | None] = _reader(_BOOLEAN)


def object_of(members: Members, name: str) -> Members | None:
    """The members of an object that is the value of a member."""
    found = members.get(name)
    if isinstance(found, dict):  # it was taken apart in slices
        return found
    data = raw_of(members, name)
    if data is None:
        return None
    inner: Members = _decode(_MEMBERS, data, name)
    _check_names(data, inner, f"{name}: ")
    return inner


def value_of(members: Members, name: str) -> bytes | None:
    """Any JSON value (a payload, a result) as the bytes it was sent as, after it was checked."""
    raw = members.get(name)
    if raw is None:
        return None
    data = bytes(raw)
    if data == _NULL:
        return None
    if type(raw) is bytes:  # it was checked in slices
        return data
    # The values in a payload are built only here, since the decoder checks numbers no other way; the result
    # is dropped. 4 MiB of `{},` take 0.2 s, a million numbers or texts 0.1 s.
    _decode(_ANY, _LONG_MINUS.sub(b"", data) if len(data) > MAX_DIGITS else data, name)
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH and _depth(data) > MAX_DEPTH:
        raise BadRequest(f"{name}: nested deeper than {MAX_DEPTH} levels")
    return data


def _depth(data: bytes) -> int:
    """The levels of nesting in a valid JSON text; brackets within strings do not count."""
    # Between an opening and a closing quote everything is text; an escaped quote opens and closes nothing.
    outside = data.replace(_ESCAPED_BACKSLASH, b"").replace(rb"\"", b"").split(_QUOTE)[::2]
    steps = b"".join(outside).translate(_STEPS, _NO_BRACKETS)
    return max(itertools.accumulate(memoryview(steps).cast("b")), default=0)


def time_of(members: Members, name: str) -> int | None:
    """A time as microseconds since the epoch."""
    text = text_of(members, name)
    return None if text is None else time_from(text, name)


def duration_of(members: Members, name: str) -> int | None:
    """A duration as microseconds; an empty text counts as absent."""
    text = text_of(members, name)
    return duration_from(text, name) if text else None


def time_from(text: str, name: str) -> int:
    """A time as microseconds since the epoch. Raises `BadRequest`, which begins with ``name``."""
    try:
        return parse_time(text)
    except ValueError as error:
        raise BadRequest(f"{name}: {error}") from None


def duration_from(text: str, name: str) -> int:
    """A duration as microseconds. Raises `BadRequest`, which begins with ``name``."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise BadRequest(f"{name}: {error}") from None
