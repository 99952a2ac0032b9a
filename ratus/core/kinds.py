"""Record kinds: what an engine keeps beside tasks, small records that are read and replaced whole.

A kind has a name, a table of members (in `ratus.core.members`) and a struct that holds them, typed by hand
(in `ratus.core.records`). An engine keeps the records of all kinds in one way and knows none of them by its
name, but for `TOPIC_SETTINGS`, which claims depend on. How to add a kind is in CONTRIBUTING.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Generic

import msgspec

from ratus.core.errors import Conflict
from ratus.core.members import SCHEDULE, TOPIC, VALUE, Integer, Member, Object, Stored, Text
from ratus.core.records import (
    Members,
    ScheduleEdit,
    ScheduleRecord,
    TopicSettings,
    ValueRecord,
    ValueWrite,
)


class Kind(Generic[Members]):
    """A kind of record: ``name`` (lower-case letters, ``_`` between words), ``table`` and ``struct``.

    No member is named ``version``: engines keep the version of the record beside the members.
    """

    def __init__(self, name: str, table: tuple[Member, ...], struct: type[Members]) -> None:
        self.name = name
        self.table = table
        self.struct = struct
        self._readers = {member.name: _reader(member) for member in table}

    def __repr__(self) -> str:
        return f"Kind({self.name!r})"

    def to_json(self, members: Members) -> bytes:
        """The members as one JSON object, without those at their default; for engines that keep text."""
        values: dict[str, Any] = {}
        for member in self.table:
            value = getattr(members, member.name)
            if value != member.default:
                is_text = member.type.stored is Stored.JSON
                values[member.name] = msgspec.Raw(value) if is_text else value
        return _encode(values)

    def from_json(self, text: bytes | str) -> Members:
        """The members from a text that `to_json` made. Unknown members, of a newer version, are ignored."""
        found = _decode(text)
        return self.struct(
            **{name: read(found[name]) for name, read in self._readers.items() if name in found}
        )


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def _reader(member: Member) -> Callable[[Any], Any]:
    if member.type.stored is Stored.JSON:
        return bytes
    if isinstance(member.type, Object):
        return msgspec.json.Decoder(member.type.record).decode
    return msgspec.json.decode


def check_version(version: int, expected: int | None) -> None:
    """Raise `Conflict` unless a record of this version (0: there is none) may be replaced or deleted.

    ``expected`` is the version that the caller has read, 0 for none, ``None`` for whatever there is.
    """
    if expected is not None and version != expected:
        raise overtaken()


def overtaken() -> Conflict:
    """The error for a record that is not of the version that the caller has read."""
    return Conflict("the record was changed meanwhile: read it again")


TOPIC_SETTINGS: Final = Kind("topics", tuple(member for member in TOPIC if member.given), TopicSettings)
"""The settings of a topic, under its name. A topic at the defaults has no record."""

VALUES: Final = Kind("values", VALUE, ValueRecord)
"""Values that clients share, each under its name."""

VALUE_WRITES: Final = Kind("value_writes", (Member("name", Text(), default=""), *VALUE), ValueWrite)
"""One record: the last change of any value, which decides before the value itself is stored."""

SCHEDULES: Final = Kind("schedules", SCHEDULE, ScheduleRecord)
"""Schedules, each under its name."""

SCHEDULE_EDITS: Final = Kind(
    "schedule_edits",
    (Member("number", Integer(), default=0), Member("name", Text(), default="")),
    ScheduleEdit,
)
"""One record: which schedule was edited last, so that servers need not read all of them."""

KINDS: Final = (TOPIC_SETTINGS, VALUES, VALUE_WRITES, SCHEDULES, SCHEDULE_EDITS)
"""Every kind."""
