"""Large bodies: checked and taken apart in slices, so that none of them holds the event loop.

`ratus.api.codec` reads a small body with one call of a decoder, which takes the longer the larger the body
is. Here a `Walk` passes over the text, and only short pieces of it are decoded. The rules are the same. The
result is an `Opened` body, which the readers of `codec` take like any other.
"""

from __future__ import annotations

import asyncio
import codecs
from collections.abc import Callable, Collection
from typing import Final, TypeVar

import msgspec

from ratus.api import codec
from ratus.api.codec import Members, Opened
from ratus.api.strict import OnlyThese, unknown_member
from ratus.api.walking import AHEAD, JSON, PAYLOAD, SMALL_ITEMS, STEP, Walk, Work
from ratus.core.errors import BadRequest, PayloadTooLarge
from ratus.core.limits import MAX_TOPICS
from ratus.core.members import TASK, VALUE, Json, Object, wire_names

SMALL: Final = 8 * 1024
"""A body of up to this many bytes is read at once, whatever it holds: at most about fifteen milliseconds."""
_LARGE = 32 * 1024
"""A body of more bytes is read in slices. Usual bodies of this size take less than a millisecond at once."""
_COSTLY = 1000
"""A body of a size in between is read in slices if it has more letters ``e`` than this. Each may be that of
an exponent, and the decoder takes up to ten microseconds for a number with one."""

VALUES: Final = tuple(
    dict.fromkeys(member.wire for member in (*TASK, *VALUE) if isinstance(member.type, Json))
)
"""The members that are any JSON and come back as they were sent."""

_OBJECTS: Final = {
    member.wire: wire_names(member.type.members) for member in TASK if isinstance(member.type, Object)
}
"""The members that are objects of the API, with the names of the members that are read of each."""

_OBJECT, _OBJECT_END, _LIST, _LIST_END, _QUOTE, _COMMA, _COLON = b'{}[]",:'
_KINDS = {
    _OBJECT: "an object",
    _LIST: "a list",
    _QUOTE: "a text",
    ord("t"): "true or false",
    ord("f"): "true or false",
    ord("n"): "null",
}

# How many sets hold the names of a large object; an object is large with more names than this.
_SETS = 64

T = TypeVar("T")


class Turns:
    """Shares the event loop among large bodies: at each turn one slice of one of them, in order."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def take(self, work: Work[T]) -> T:
        """Do the work, a slice at a time, and return its result."""
        while True:
            async with self._lock:
                try:
                    next(work)
                except StopIteration as done:
                    result: T = done.value
                    return result
                await asyncio.sleep(0)


def is_large(body: bytes) -> bool:
    """Whether reading a body at once could take long."""
    size = len(body)
    return size > _LARGE or (size > SMALL and body.count(b"e") + body.count(b"E") > _COSTLY)


def opened(body: bytes, wanted: Collection[str], most: int | None = None) -> Work[bytes]:
    """A body, checked and taken apart, with the ``wanted`` members of its object. If ``most`` is given, they
    are those of each object in its ``data``, which may hold ``most`` objects.

    A body that is small without the white space around it is returned without that, and not checked.
    """
    body = body.strip(b" \t\r\n")
    yield
    if len(body) <= SMALL:
        return body
    yield from _check_utf8(body)
    walk = Walk(body)
    items: list[Members] = []
    if body[0] != _OBJECT:
        yield from walk.value(JSON)
        raise _mismatch("an object", body[0])
    if most is None:
        members = yield from _members(walk, wanted)
    else:
        members = yield from _members(walk, (), lambda first: _batch(walk, wanted, most, items, first))
    if walk.at < len(body):
        walk.malformed("the end")
    return Opened(body, members, items)


def _mismatch(expected: str, first: int) -> BadRequest:
    """The refusal of a value of another kind, which begins with this byte."""
    return BadRequest(f"expected {expected}, got {_KINDS.get(first, 'a number')}")


def _check_utf8(body: bytes) -> Work[None]:
    if body.isascii():
        return
    decoder = codecs.getincrementaldecoder("utf-8")()
    piece = 64 * 1024
    for at in range(0, len(body), piece):
        pending = len(decoder.getstate()[0])
        try:
            decoder.decode(body[at : at + piece], final=at + piece >= len(body))
        except UnicodeDecodeError as error:
            raise BadRequest(f"invalid UTF-8 at byte {at - pending + error.start}") from None
        yield


def _members(
    walk: Walk, wanted: Collection[str], batch: Callable[[int], Work[None]] | None = None
) -> Work[Members]:
    """Pass an object, from its opening bracket, and return its ``wanted`` members. ``batch`` passes its
    ``data``, and takes the first byte of that."""
    names = _Names()
    try:
        members = yield from _named_members(walk, names, wanted, batch)
    except BadRequest:
        yield from names.clear()
        raise
    yield from names.clear()
    return members


def _named_members(
    walk: Walk, names: _Names, wanted: Collection[str], batch: Callable[[int], Work[None]] | None
) -> Work[Members]:
    """As `_members`; each name is added to ``names``."""
    data = walk.data
    members: Members = {}
    walk.at += 1
    if (yield from walk.peek()) == _OBJECT_END:
        walk.at += 1
        return members
    while True:
        if (yield from walk.peek()) != _QUOTE:
            walk.malformed("the name of a member")
        start = walk.at
        yield from walk.string()
        name = codec.name_from(data[start : walk.at])
        if names.has(name):
            codec.refuse_twice(name)
        if (yield from walk.peek()) != _COLON:
            walk.malformed("a colon")
        walk.at += 1
        first = yield from walk.peek()
        if batch is not None and name == "data":
            yield from batch(first)
        elif name not in wanted:
            if isinstance(wanted, OnlyThese):
                raise unknown_member(name, wanted)
            yield from walk.value(JSON)
        else:
            try:
                yield from _member(walk, members, name, first)
            except BadRequest as error:
                raise BadRequest(f"{name}: {error.detail}") from None
        yield from walk.spend(4 * STEP)
        if (yield from _has_ended(walk, _OBJECT_END)):
            return members


class _Names:
    """The names of an object's members. There may be half a million, and a set of so many takes long to grow
    and to be freed, so they are kept in many sets, which are made when they are needed."""

    __slots__ = ("_first", "_more")

    def __init__(self) -> None:
        self._first: set[str] = set()
        self._more: list[set[str]] = []

    def has(self, name: str) -> bool:
        """Whether the name was there before; from now on it is."""
        names = self._first
        if self._more:
            names = self._more[hash(name) % _SETS]
        elif len(names) == _SETS:
            self._more = [set() for _ in range(_SETS)]
            for each in names:
                self._more[hash(each) % _SETS].add(each)
            names = self._more[hash(name) % _SETS]
        count = len(names)
        names.add(name)
        return len(names) == count

    def clear(self) -> Work[None]:
        """Free the sets, one at a time."""
        while self._more:
            self._more.pop()
            yield


def _has_ended(walk: Walk, end: int) -> Work[bool]:
    """Pass the end of a list or object behind one of its values (true), or the comma before the next."""
    following = yield from walk.peek()
    if following not in (end, _COMMA):
        walk.malformed("a comma or the end of the list or object")
    walk.at += 1
    return following == end


def _member(walk: Walk, members: Members, name: str, first: int) -> Work[None]:
    """Pass a member's value and keep it."""
    data, start = walk.data, walk.at
    if name in VALUES:
        yield from walk.value(PAYLOAD)
        members[name] = data[start : walk.at]
    elif name in _OBJECTS and first == _OBJECT:
        members[name] = yield from _members(walk, _OBJECTS[name])
    else:
        if name == "topics" and first == _LIST:
            yield from _check_topics(walk)
        else:
            yield from walk.value(JSON)
        members[name] = msgspec.Raw(data[start : walk.at])


def _check_topics(walk: Walk) -> Work[None]:
    """Pass a list. Raises `BadRequest` if it is longer than a list of topics may be."""
    count = 0
    walk.at += 1
    if (yield from walk.peek()) == _LIST_END:
        walk.at += 1
        return
    while True:
        yield from walk.value(JSON)
        count += 1
        if count > MAX_TOPICS:
            raise BadRequest(f"at most {MAX_TOPICS}, not more")
        if (yield from _has_ended(walk, _LIST_END)):
            return


def _batch(walk: Walk, wanted: Collection[str], most: int, items: list[Members], first: int) -> Work[None]:
    """Pass the objects of a batch and add the members of each to ``items``. The batch may be null."""
    data, start = walk.data, walk.at
    if first != _LIST:
        yield from walk.value(JSON)
        if data[start : walk.at] != b"null":
            raise BadRequest(f"data: {_mismatch('a list', first).detail}")
        return
    walk.at += 1
    if (yield from walk.peek()) == _LIST_END:
        walk.at += 1
        return
    while True:
        at = walk.at
        found = SMALL_ITEMS.match(data, at, at + AHEAD)
        if found is not None and found.end() > at:
            # The expression has checked these items, values included; only their members are to be read.
            walk.at = found.end()
            pieces = codec.items_of(b"[" + data[at : walk.at - 1] + b"]", len(items))
            for members in pieces:
                for name in VALUES:
                    if name in members:
                        members[name] = bytes(members[name])
            items += pieces
            yield from walk.spend(3 * (walk.at - at) + STEP * len(pieces))
            _check_count(items, most)
        first = yield from walk.peek()
        try:
            if first == _OBJECT:
                items.append((yield from _members(walk, wanted)))
            else:
                yield from walk.value(JSON)
                raise _mismatch("an object", first)
        except BadRequest as error:
            raise BadRequest(f"data: item {len(items)}: {error.detail}") from None
        _check_count(items, most)
        if (yield from _has_ended(walk, _LIST_END)):
            return


def _check_count(items: list[Members], most: int) -> None:
    if len(items) > most:
        raise PayloadTooLarge(f"a batch may hold {most} items, and this one holds more; send several")
