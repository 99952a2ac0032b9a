"""Converts tasks to rows of the table ``tasks``, limits to the text in ``topics``, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from ratus.core.kinds import Kind
from ratus.core.members import KEPT, RARE, Member, Object, Stored
from ratus.core.records import Rare, TaskRecord
from ratus.core.turns import Limits

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
"""`COLUMNS`, with NULL for what may be large (payload and result above all) and for the rare members, which
are stored behind those: for tasks that are changed and not returned."""

_encode = msgspec.json.Encoder().encode

# ---- conversions -----------------------------------------------------------------------------------
# A column holds the value in the record, except that booleans are 0 and 1, an object is JSON text, and the
# rare members together are one JSON object, so that a new one needs no column.


def _object_reader(member: Member) -> Callable[[str | bytes], Any]:
    assert isinstance(member.type, Object)
    return msgspec.json.Decoder(member.type.record).decode


def _object_text(value: Any) -> str:
    return _encode(value).decode()


_RARE = Kind("rare", tuple(RARE.values()), Rare)


def _read_rare(text: str) -> Rare:
    """Parse rare members. Those that only a newer version knows are ignored; they stay in the file until the
    task is replaced."""
    return _RARE.from_json(text)


def _rare_text(rare: Rare) -> str:
    return _RARE.to_json(rare).decode()


def _conversions() -> Iterator[tuple[int, str, Callable[[Any], Any], Callable[[Any], Any]]]:
    """For each column that needs a conversion: its index, its name, and how it is read and written."""
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
    """The row of a task: the values of `MEMBERS`, with the topic's number in place of its name."""
    row = list(msgspec.structs.astuple(task))
    row[_TOPIC] = topic
    for at, _, _, write in _CONVERSIONS:
        if (value := row[at]) is not None:
            row[at] = write(value)
    return row


# ---- inserting -----------------------------------------------------------------------------------

# The members that an ordinary new task has. The other columns have their defaults then, and binding 8 values
# instead of all saves a third of the time.
_ORDINARY = ("id", "topic", "produced", "scheduled", "producer", "payload", "priority", "sequence")
_AT = [MEMBERS.index(name) for name in _ORDINARY]
_REST = [index for index in range(len(MEMBERS)) if index not in _AT]
_DEFAULTS = [list(msgspec.structs.astuple(TaskRecord("", "", 0, 0)))[index] for index in _REST]

# Rows of one statement. SQLite runs a statement without the interpreter's lock, so that the event loop goes
# on meanwhile; more rows gain nothing.
_SIZES = (64, 32, 16, 8, 4, 2, 1)


def inserts(tasks: Sequence[TaskRecord], topics: Sequence[int]) -> list[tuple[str, list[Any]]]:
    """Statements and their values that insert tasks in this order, except those whose id is stored already.

    ``topics`` are the numbers of the tasks' topics.
    """
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

# ---- limits --------------------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def limits_of(text: str) -> Limits:
    """Limits from the text of `text_of_limits`."""
    return _decode_limits(text)


def text_of_limits(limits: Limits) -> str:
    """Limits as the text that a topic's row has."""
    return _encode(limits).decode()


_decode_limits = msgspec.json.Decoder(Limits).decode
