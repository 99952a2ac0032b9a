"""How a task lies in a row of the table ``tasks``, and how it comes back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ratus.core.records import RetryPolicy, TaskRecord

MEMBERS = TaskRecord.__struct_fields__
"""The members of a task in the order of the record, which is the order of every row here."""

_TOPIC = MEMBERS.index("topic")
_RETRY = MEMBERS.index("retry")
_IMPLIED = MEMBERS.index("implied")

COLUMNS = ", ".join("topics.name" if name == "topic" else f"tasks.{name}" for name in MEMBERS)
"""What to select from ``tasks JOIN topics`` for `task_of`."""

BARE_COLUMNS = COLUMNS.replace("tasks.payload", "NULL").replace("tasks.result", "NULL")
"""The same without payload and result, for tasks that are changed and not handed out."""

_decode_retry = msgspec.json.Decoder(RetryPolicy).decode
_encode = msgspec.json.Encoder().encode


def task_of(row: Sequence[Any]) -> TaskRecord:
    """The task of a row of `COLUMNS`."""
    task = TaskRecord(*row)
    task.implied = row[_IMPLIED] != 0
    if row[_RETRY] is not None:
        task.retry = _decode_retry(row[_RETRY])
    return task


def row_of(task: TaskRecord, topic: int) -> list[Any]:
    """The row of a task: the values of `MEMBERS`, with the number of its topic."""
    row = list(msgspec.structs.astuple(task))
    row[_TOPIC] = topic
    row[_IMPLIED] = int(task.implied)
    if task.retry is not None:
        row[_RETRY] = _encode(task.retry).decode()
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
