"""Statements that several modules need, and what they have in common.

A partial index serves only a statement that spells its condition out (``state = 0``). ``INDEXED BY`` makes a
statement fail, in the tests, rather than scan.
"""

from __future__ import annotations

from ratus_engines.sqlite.rows import BARE_COLUMNS, COLUMNS


def tasks(where: str, index: str = "") -> str:
    """A statement whose rows `rows.task_of` understands."""
    return _select(COLUMNS, where, index)


def bare_tasks(where: str, index: str = "") -> str:
    """Like `tasks`, but without payloads and results, of which there may be gigabytes."""
    return _select(BARE_COLUMNS, where, index)


def places(where: str, index: str = "") -> str:
    """A statement whose rows `Transaction.delete` takes. It does not read payloads."""
    return _select("sequence, id, topics.name, state, scheduled", where, index)


def _select(columns: str, where: str, index: str) -> str:
    indexed = f" INDEXED BY {index}" if index else ""
    return f"SELECT {columns} FROM tasks{indexed} JOIN topics USING (topic) WHERE {where}"


# The priorities of a topic (?1) that have a pending task: each is one step down the index from the last.
_LEVELS = """
WITH RECURSIVE levels (priority) AS (
    SELECT max(priority) FROM tasks INDEXED BY tasks_pending WHERE state = 0 AND topic = ?1
    UNION ALL
    SELECT (
        SELECT max(tasks.priority) FROM tasks INDEXED BY tasks_pending
        WHERE state = 0 AND topic = ?1 AND tasks.priority < levels.priority
    ) FROM levels WHERE levels.priority IS NOT NULL
)"""

FIRST_SCHEDULED = f"""{_LEVELS}
SELECT min((
    SELECT min(scheduled) FROM tasks INDEXED BY tasks_pending
    WHERE state = 0 AND topic = ?1 AND tasks.priority = levels.priority
)) FROM levels WHERE priority IS NOT NULL"""
"""The earliest ``scheduled`` of a topic's (1) pending tasks, or NULL."""

_FALLING_DUE = """tasks INDEXED BY tasks_pending
    WHERE state = 0 AND topic = ?1 AND tasks.priority = levels.priority
    AND scheduled > ?2 AND scheduled <= ?3"""

COUNT_DUE = f"""{_LEVELS}
SELECT coalesce(sum((SELECT count(*) FROM {_FALLING_DUE})), 0) FROM levels WHERE priority IS NOT NULL"""
"""How many of a topic's (1) pending tasks are scheduled after a time (2) and up to another (3)."""

SOON_DUE = f"""{_LEVELS}
SELECT min((SELECT scheduled FROM {_FALLING_DUE} ORDER BY scheduled LIMIT 1 OFFSET ?4))
FROM levels WHERE priority IS NOT NULL"""
"""The first time by which so many (4) or more of these have fallen due, or NULL if there are fewer."""

FIRST_DEADLINE = "SELECT min(deadline) FROM tasks INDEXED BY tasks_active WHERE state = 1 AND topic = ?"
"""The earliest deadline of a topic's active tasks, or NULL."""

LAPSED = bare_tasks(
    "state = 1 AND tasks.topic = ? AND deadline <= ? ORDER BY deadline, sequence LIMIT ?", "tasks_active"
)
"""The active tasks of a topic whose deadline has come, earliest first."""
