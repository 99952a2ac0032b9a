"""How a member of a request is read: one reader for each type of the table of members.

A reader takes the members of an object and a name, and gives the value as records hold it, or ``None`` where
the member is absent or null. It raises `BadRequest` naming the member.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import singledispatch
from typing import Any

import msgspec

from ratus.api import codec
from ratus.api.codec import Members
from ratus.api.query import Query
from ratus.api.strict import unknown_member
from ratus.core import labels
from ratus.core import members as table
from ratus.core.durations import format_duration
from ratus.core.errors import BadRequest
from ratus.core.limits import MAX_NAME_BYTES
from ratus.core.members import Member, Type
from ratus.core.quoting import quoted
from ratus.core.selection import MAX_WHERE_VALUES, Where
from ratus.core.transitions import shorten_error

MemberReader = Callable[[Members, str], Any]
FilterReader = Callable[[Query, str], Any]

# This many characters never take more than `MAX_NAME_BYTES` in UTF-8.
_SURELY_SHORT = MAX_NAME_BYTES // 4


def check_name(name: str, what: str) -> str:
    """Return an id or a topic: any Unicode text of 1 to 1,024 bytes. Raises `BadRequest`, which begins with
    ``what``."""
    if 0 < len(name) <= _SURELY_SHORT:  # nearly all names, without a further call
        return name
    if not name:
        raise BadRequest(f"{what} must not be empty")
    return check_length(name, what)


def check_length(name: str, what: str) -> str:
    """Return an id or a topic of a path: as `check_name`, but it may be empty."""
    if len(name) > _SURELY_SHORT and len(name.encode()) > MAX_NAME_BYTES:
        raise BadRequest(f"{what} must not be longer than {MAX_NAME_BYTES} bytes")
    return name


@singledispatch
def reader_of(kind: Type) -> MemberReader:
    """The reader of a member of this type. Raises `NotImplementedError` for a type that no request has."""
    raise NotImplementedError(f"requests have no members of the type {type(kind).__name__}")


@reader_of.register
def _(kind: table.Text) -> MemberReader:
    return codec.text_of


@reader_of.register
def _(kind: table.CutText) -> MemberReader:
    def read(members: Members, name: str) -> str | None:
        text = codec.text_of(members, name)
        return None if text is None else shorten_error(text)

    return read


@reader_of.register
def _(kind: table.Name) -> MemberReader:
    def read(members: Members, name: str) -> str | None:
        text: str | None = codec.text_of(members, name)
        return check_name(text, name) if text else None

    return read


@reader_of.register
def _(kind: table.Choice) -> MemberReader:
    def read(members: Members, name: str) -> str | None:
        text: str | None = codec.text_of(members, name)
        if text is not None and text not in kind.values and (text or not kind.or_empty):
            raise BadRequest(f"{name}: {quoted(text)} is unknown; use {one_of(kind.values)}")
        return text or None

    return read


def one_of(values: tuple[str, ...]) -> str:
    """The values of a choice as part of a message: ``a, b or c``."""
    return " or ".join((", ".join(values[:-1]), values[-1]))


@reader_of.register
def _(kind: table.Integer) -> MemberReader:
    low, high = kind.low, kind.high

    def read(members: Members, name: str) -> int | None:
        value = codec.integer_of(members, name)
        if value is not None and ((low is not None and value < low) or (high is not None and value > high)):
            raise BadRequest(f"{name}: {_shown(value)} is not from {low} to {high}")
        return value

    return read if low is not None and high is not None else codec.integer_of


@reader_of.register
def _(kind: table.State) -> MemberReader:
    def read(members: Members, name: str) -> int | None:
        state = codec.integer_of(members, name)
        if state is not None and not kind.low <= state <= kind.high:
            raise BadRequest(f"{name}: {_shown(state)} is unknown; {STATES}")
        return state

    return read


STATES = "use 0 (pending), 1 (active), 2 (completed) or 3 (archived)"
"""The part of a message that lists the states."""


def _shown(value: int) -> str:
    """A number for a message; a client may send one of thousands of digits."""
    return str(value) if abs(value) < 10**18 else "this number"


@reader_of.register
def _(kind: table.Number) -> MemberReader:
    def read(members: Members, name: str) -> float | None:
        value = codec.number_of(members, name)
        if value is not None and not kind.low <= value <= kind.high:
            raise BadRequest(f"{name}: it must be from {kind.low} to {kind.high}")
        return value

    return read


@reader_of.register
def _(kind: table.Boolean) -> MemberReader:
    return codec.boolean_of


@reader_of.register
def _(kind: table.Time) -> MemberReader:
    return codec.time_of


@reader_of.register
def _(kind: table.Duration) -> MemberReader:
    def read(members: Members, name: str) -> int | None:
        duration = codec.duration_of(members, name)
        if duration is not None:
            check_duration(kind, duration, name)
        return duration

    return read


def check_duration(kind: table.Duration, duration: int, name: str) -> None:
    """Raise `BadRequest` for a duration that is shorter or longer than its type allows."""
    if kind.least is not None and duration < kind.least:
        raise BadRequest(f"{name}: it must {'be longer than 0s' if kind.least else 'not be negative'}")
    if kind.most is not None and duration > kind.most:
        raise BadRequest(f"{name}: it must not be longer than {format_duration(kind.most)}")


@reader_of.register
def _(kind: table.Json) -> MemberReader:
    return codec.value_of


@reader_of.register
def _(kind: table.Object) -> MemberReader:
    inner = readers(kind.members)
    needed = [member.wire for member in kind.members if member.always]

    def read(members: Members, name: str) -> Any:
        found = codec.object_of(members, name)
        if found is None:
            return None
        values: dict[str, Any] = {}
        try:
            for member_name in found:
                if (each := inner.get(member_name)) is not None:
                    value = each[0](found, member_name)
                    if value is not None or not kind.strict:
                        values[each[1]] = value
                elif kind.strict:
                    raise unknown_member(member_name, inner)
            if kind.strict:
                for missing in (each for each in needed if inner[each][1] not in values):
                    raise BadRequest(f"{missing} is missing; give {' and '.join(needed)}")
            record = kind.record(**values)
            if kind.check is not None:
                kind.check(record)
        except BadRequest as error:
            raise BadRequest(f"{name}: {error.detail}") from None
        except ValueError as error:
            raise BadRequest(f"{name}: {error}") from None
        return record

    return read


_LONGEST_LABELS = 32 * 1024
"""Bytes of labels in a request: what they can take where each character is escaped, and some spaces."""


def _labels_in(members: Members, name: str) -> dict[str, Any] | None:
    """An object of labels, whose values were not checked; ``None`` where it is absent, null or empty."""
    raw = codec.raw_of(members, name)
    if raw is None:
        return None
    if len(raw) > _LONGEST_LABELS:  # checked before the object is taken apart
        raise BadRequest(f"{name}: it takes {len(raw)} bytes, more than {_LONGEST_LABELS}")
    if not codec.object_of(members, name):  # raises for a name that stands twice
        return None
    found: dict[str, Any] = codec.any_of(members, name)
    return found


@reader_of.register
def _(kind: table.Labels) -> MemberReader:
    def read(members: Members, name: str) -> bytes | None:
        found = _labels_in(members, name)
        if found is None:
            return None
        try:
            labels.check(found)
        except ValueError as error:
            raise BadRequest(f"{name}: {error}") from None
        return msgspec.json.encode(found)

    return read


@reader_of.register
def _(kind: table.OneLabel) -> MemberReader:
    def read(members: Members, name: str) -> Where | None:
        if codec.raw_of(members, name) is None:
            return None
        found = _labels_in(members, name) or {}
        return where_of(
            {label: value if isinstance(value, list) else [value] for label, value in found.items()}, name
        )

    return read


def where_of(wanted: Mapping[str, Sequence[object]], name: str) -> Where:
    """What ``where`` says: the values of one label of which a task has to have one. Raises `BadRequest`."""
    if len(wanted) != 1:
        given = f"{len(wanted)} are given" if wanted else "none is given"
        raise BadRequest(f'{name}: name one label, such as {{"region": ["eu", "us"]}}; {given}')
    ((label, values),) = wanted.items()
    try:
        labels.check_name(label)
        texts = labels.texts_of(values)
    except ValueError as error:
        raise BadRequest(f"{name}: {error}") from None
    if not 1 <= len(texts) <= MAX_WHERE_VALUES:
        raise BadRequest(f"{name}: {label}: give 1 to {MAX_WHERE_VALUES} values, not {len(texts)}")
    return Where(label, texts)


@reader_of.register
def _(kind: table.LabelNames) -> MemberReader:
    def read(members: Members, name: str) -> tuple[str, ...] | None:
        raw = codec.raw_of(members, name)
        if raw is None:
            return None
        if raw.startswith(b"["):
            return label_names(codec.texts_of(members, name) or [], kind.most, name)
        return label_names([codec.text_of(members, name) or ""], kind.most, name)

    return read


def label_names(given: Iterable[str], most: int, name: str) -> tuple[str, ...]:
    """Names of labels, each once, and ``most`` of them. Raises `BadRequest`, which begins with ``name``."""
    names = tuple(dict.fromkeys(given))
    if not 1 <= len(names) <= most:
        raise BadRequest(f"{name}: name 1 to {most} labels, not {len(names)}")
    for each in names:
        check_label(each, name)
    return names


def check_label(label: str, name: str) -> str:
    """Return the name of a label. Raises `BadRequest`, which begins with ``name``, for what is none."""
    try:
        labels.check_name(label)
    except ValueError as error:
        raise BadRequest(f"{name}: {error}") from None
    return label


@reader_of.register
def _(kind: table.LabelName) -> MemberReader:
    def read(members: Members, name: str) -> str | None:
        text: str | None = codec.text_of(members, name)
        return None if text is None else check_label(text, name)

    return read


@reader_of.register
def _(kind: table.Texts) -> MemberReader:
    def read(members: Members, name: str) -> bytes | None:
        raw = codec.raw_of(members, name)
        if raw is None:
            return None
        if len(raw) > kind.most_bytes:  # checked before the object is taken apart
            raise BadRequest(f"{name}: it takes {len(raw)} bytes, more than {kind.most_bytes}")
        found = codec.object_of(members, name) or {}
        try:
            texts = {each: text for each in found if (text := codec.text_of(found, each)) is not None}
            kind.check(texts)
        except BadRequest as error:
            raise BadRequest(f"{name}: {error.detail}") from None
        except ValueError as error:
            raise BadRequest(f"{name}: {error}") from None
        return msgspec.json.encode(texts) if texts else None

    return read


def readers(
    members: tuple[Member, ...], without: frozenset[str] = frozenset()
) -> dict[str, tuple[MemberReader, str]]:
    """By the name on the wire, the reader of a member and the name of the record's member that it becomes."""
    return {
        member.wire: (reader_of(member.type), member.name)
        for member in members
        if member.given and member.name not in without
    }


# ---- filters of lists -----------------------------------------------------------------------------


@singledispatch
def filter_of(kind: Type) -> FilterReader:
    """The reader of a filter: which value a member of this type must have, from the query of a list. Raises
    `NotImplementedError` for a type that lists are not filtered by."""
    raise NotImplementedError(f"lists are not narrowed by members of the type {type(kind).__name__}")


@filter_of.register
def _(kind: table.Text) -> FilterReader:
    return Query.text


@filter_of.register
def _(kind: table.Choice) -> FilterReader:
    def read(query: Query, name: str) -> str | None:
        text = query.text(name)
        if text is not None and text not in kind.values:
            raise BadRequest(f"{name}: use {one_of(kind.values)}")
        return text

    return read


@filter_of.register
def _(kind: table.State) -> FilterReader:
    def read(query: Query, name: str) -> int | None:
        state = query.integer(name)
        if state is not None and not kind.low <= state <= kind.high:
            raise BadRequest(f"{name}: {STATES}")
        return state

    return read
