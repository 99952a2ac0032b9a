"""SQL statements that several modules need, and their common parts.

In descriptions, numbers in parentheses are those of a statement's parameters.

SQLite uses a partial index only for a statement that spells out the index's condition (``state = 0``). With
``INDEXED BY``, a statement that cannot use the index fails, in the tests, rather than scan the table.
"""

from __future__ import annotations

from ratus_engines.sqlite.rows import BARE_COLUMNS, COLUMNS


def tasks(where: str, index: str = "") -> str:
    """A statement that selects tasks, as rows for `rows.task_of`."""
    return _select(COLUMNS, where, index)


def bare_tasks(where: str, index: str = "") -> str:
    """Like `tasks`, but without payloads and results, of which there may be gigabytes."""
    return _select(BARE_COLUMNS, where, index)


def places(where: str, index: str = "") -> str:
    """A statement whose rows are the arguments of `Transaction.delete`. It does not read payloads."""
    return _select("sequence, id, topics.name, state, scheduled, priority", where, index)


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
"""When a priority first has more than so many (4) tasks of `COUNT_DUE`, or NULL if none ever has."""

FIRST_DEADLINE = "SELECT min(deadline) FROM tasks INDEXED BY tasks_active WHERE state = 1 AND topic = ?"
"""The earliest deadline of a topic's active tasks, or NULL."""

LAPSED = bare_tasks(
    "state = 1 AND tasks.topic = ? AND deadline <= ? ORDER BY deadline, sequence LIMIT ?", "tasks_active"
)
"""The active tasks of a topic whose deadline has come, earliest first."""

# A task was due when it became pending if its `scheduled` is not after one of the moments at which that may
# have been: when it was accepted, claimed (and given back, or lapsed) or committed.
_WAS_DUE = "scheduled <= max(produced, coalesce(consumed, produced), coalesce(committed, produced))"

KEEP_DUE = f"""
INSERT OR IGNORE INTO early
SELECT sequence, topic, priority, scheduled FROM tasks INDEXED BY tasks_pending
WHERE state = 0 AND topic = ?1 AND priority = ?2 AND scheduled > ?3 AND scheduled <= ?4 AND {_WAS_DUE}"""
"""Keep those tasks due that were due when they became pending: of a topic (1) and a priority (2), scheduled
after a time (3) and up to another (4)."""

KEPT = (
    "SELECT sequence, scheduled FROM early WHERE topic = ?1 AND priority = ?2 AND scheduled > ?3 "
    "AND scheduled <= ?4"
)
"""The tasks that `KEEP_DUE` keeps due, of those already kept as well."""

STAY_DUE = (
    "INSERT OR IGNORE INTO early SELECT sequence, topic, priority, scheduled FROM tasks WHERE sequence = ?"
)
"""Keep the task with this number due."""

NEXT_PENDING = """
SELECT topic, priority, scheduled FROM tasks INDEXED BY tasks_pending
WHERE state = 0 AND (topic, priority, scheduled) > (?1, ?2, ?3) ORDER BY topic, priority, scheduled LIMIT 1"""
"""The next pending task behind a topic (1), a priority (2) and a time (3), in the order of the index."""

PENDING_FROM = """
SELECT scheduled FROM tasks INDEXED BY tasks_pending
WHERE state = 0 AND topic = ?1 AND priority = ?2 AND scheduled > ?3 AND scheduled <= ?4
ORDER BY scheduled LIMIT 1 OFFSET ?5"""
"""The ``scheduled`` of the pending task behind so many (5) others, of those of a topic (1) and a priority (2)
that are scheduled after a time (3) and up to another (4)."""

EARLY_DUE = "SELECT count(*), min(scheduled) FROM early WHERE topic = ? AND scheduled > ?"
"""How many tasks of a topic are due although they are scheduled after a time, and the first such time."""

ANY_EARLY = "SELECT min(sequence) FROM early"
"""A task that is kept due, or NULL: no clock was set back, or all such tasks have been claimed since."""

EARLY = f"""
SELECT {COLUMNS} FROM early CROSS JOIN tasks ON tasks.sequence = early.sequence
CROSS JOIN topics ON topics.topic = early.topic
WHERE early.topic = ? AND early.priority = ? AND early.scheduled > ?
ORDER BY early.scheduled, early.sequence LIMIT ?"""
"""Tasks of a topic and a priority that are due although they are scheduled after a time, up to a limit."""
