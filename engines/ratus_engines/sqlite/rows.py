"""How a task lies in a row of the table ``tasks``, and how it comes back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from ratus.core.kinds import Kind
from ratus.core.members import KEPT, RARE, Member, Object, Stored
from ratus.core.records import Rare, TaskRecord

MEMBERS = TaskRecord.__struct_fields__
"""The members of a task in the order of the record, which is the order of every row here."""

_TOPIC = MEMBERS.index("topic")

COLUMNS = ", ".join("topics.name" if name == "topic" else f"tasks.{name}" for name in MEMBERS)
"""What to select from ``tasks JOIN topics`` for `task_of`."""


def _is_bare(name: str) -> bool:
    return name != "rare" and KEPT[name].type.stored is not Stored.JSON


BARE_COLUMNS = ", ".join(
    column if _is_bare(name) else "NULL" for name, column in zip(MEMBERS, COLUMNS.split(", "), strict=True)
)
"""The same without what may be large, payload and result above all, and without rare members, which stand
behind those: for tasks that are changed and not handed out."""

_encode = msgspec.json.Encoder().encode

# ---- conversions -----------------------------------------------------------------------------------
# A column holds what the record holds, but for these: truth as 0 and 1, an object as JSON text, and the rare
# members together as one object, so that a new one needs no column.


def _object_reader(member: Member) -> Callable[[str | bytes], Any]:
    assert isinstance(member.type, Object)
    return msgspec.json.Decoder(member.type.record).decode


def _object_text(value: Any) -> str:
    return _encode(value).decode()


_RARE = Kind("rare", tuple(RARE.values()), Rare)


def _read_rare(text: str) -> Rare:
    """What a newer version wrote beside is not looked at. It stays in the file until the task is replaced."""
    return _RARE.from_json(text)


def _rare_text(rare: Rare) -> str:
    return _RARE.to_json(rare).decode()


def _conversions() -> Iterator[tuple[int, str, Callable[[Any], Any], Callable[[Any], Any]]]:
    """By index and name of a column, how it is read and written."""
    for at, name in enumerate(MEMBERS):
        if name == "rare":
            yield at, name, _read_rare, _rare_text
        elif KEPT[name].type.stored is Stored.OBJECT:
            yield at, name, _object_reader(KEPT[name]), _object_text
        elif KEPT[name].type.stored is Stored.BOOLEAN:
            yield at, name, bool, int


_CONVERSIONS = tuple(_conversions())


def task_of(row: Sequence[Any]) -> TaskRecord:
    """The task of a row of `COLUMNS`."""
    task = TaskRecord(*row)
    for at, name, read, _ in _CONVERSIONS:
        if (value := row[at]) is not None:
            setattr(task, name, read(value))
    return task


def row_of(task: TaskRecord, topic: int) -> list[Any]:
    """The row of a task: the values of `MEMBERS`, with the number of its topic."""
    row = list(msgspec.structs.astuple(task))
    row[_TOPIC] = topic
    for at, _, _, write in _CONVERSIONS:
        if (value := row[at]) is not None:
            row[at] = write(value)
    return row


# ---- inserting -----------------------------------------------------------------------------------

# What a producer gives to an ordinary new task. The other columns have their defaults then, and binding 8
# values instead of 21 saves a third of the time.
_ORDINARY = ("id", "topic", "produced", "scheduled", "producer", "payload", "priority", "sequence")
_AT = [MEMBERS.index(name) for name in _ORDINARY]
_REST = [index for index in range(len(MEMBERS)) if index not in _AT]
_DEFAULTS = [list(msgspec.structs.astuple(TaskRecord("", "", 0, 0)))[index] for index in _REST]

# Rows of one statement. SQLite runs a statement without the interpreter's lock, so that the event loop goes
# on meanwhile; longer ones bring nothing more.
_SIZES = (64, 32, 16, 8, 4, 2, 1)


def inserts(tasks: Sequence[TaskRecord], topics: Sequence[int]) -> list[tuple[str, list[Any]]]:
    """Statements that insert tasks in this order, each into the topic of that number, but for known ids."""
    rows = [row_of(task, topic) for task, topic in zip(tasks, topics, strict=True)]
    names: Sequence[str] = MEMBERS
    if all([row[index] for index in _REST] == _DEFAULTS for row in rows):
        names = _ORDINARY
        rows = [[row[index] for index in _AT] for row in rows]
    statements = []
    at = 0
    for size in _SIZES:
        while len(rows) - at >= size:
            values = [value for row in rows[at : at + size] for value in row]
            statements.append((_insert(names, size), values))
            at += size
    return statements


def _insert(names: Sequence[str], count: int) -> str:
    statement = _INSERTS.get((len(names), count))
    if statement is None:
        row = f"({', '.join('?' * len(names))})"
        statement = _INSERTS[len(names), count] = (
            f"INSERT INTO tasks ({', '.join(names)}) VALUES {', '.join([row] * count)} "
            "ON CONFLICT (id) DO NOTHING"
        )
    return statement


_INSERTS: dict[tuple[int, int], str] = {}

REPLACE = f"UPDATE tasks SET {', '.join(f'{name} = ?' for name in MEMBERS[:-1])} WHERE sequence = ?"
"""Replaces a task whole, given its row."""

assert MEMBERS[-1] == "sequence", "the row of a task ends in what REPLACE looks for"
