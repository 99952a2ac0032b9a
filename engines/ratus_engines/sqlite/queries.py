"""What readers look up. Each function gets a connection with a read transaction and takes a few milliseconds
at most; what may take longer is asked for in slices."""

from __future__ import annotations

import sqlite3

from msgspec import Struct

from ratus.core.kinds import Kind
from ratus.core.members import FILTERS, State
from ratus.core.records import (
    MAX_PAGE_BYTES,
    PENDING,
    Members,
    Record,
    TaskQuery,
    TaskRecord,
    TopicInfo,
)
from ratus_engines.sqlite import statements
from ratus_engines.sqlite.rows import task_of

# Tasks that a filter looks at before others get their turn.
SLICE = 2_000

# Topics that a chore looks at before others get their turn.
TOPICS_SLICE = 500

# Topics that are surveyed before others get their turn: a millisecond or two of work.
SURVEYED = 32

# So many due tasks of a priority may be counted anew for each request. More are counted once, and kept.
COUNTED = 2_000


def get(connection: sqlite3.Connection, task_id: str) -> TaskRecord | None:
    """The task with this id."""
    row = connection.execute(_BY_ID, (task_id,)).fetchone()
    return None if row is None else task_of(row)


_BY_ID = statements.tasks("tasks.id = ?")


# ---- topics --------------------------------------------------------------------------------------


def get_topic(connection: sqlite3.Connection, name: str, now: int, patient: bool) -> TopicInfo | None:
    """What is known of a topic. Raises `Uncounted` if too many of its due tasks had to be counted for that,
    unless the caller is ``patient``."""
    row = connection.execute(
        "SELECT topic, pending, active, completed, archived, paused, due, due_until FROM topics "
        "WHERE name = ?",
        (name,),
    ).fetchone()
    if row is None:
        return None
    topic, *counts, paused, due, until = row
    oldest = None
    if counts[PENDING]:
        # The clock may have stepped back behind the time up to which the number is kept.
        span = (topic, min(until, now), max(until, now))
        (soon,) = connection.execute(statements.SOON_DUE, (*span, COUNTED)).fetchone()
        if soon is not None and not patient:
            raise Uncounted
        (counted,) = connection.execute(statements.COUNT_DUE, span).fetchone()
        due += counted if now >= until else -counted
        (oldest,) = connection.execute(statements.FIRST_SCHEDULED, (topic,)).fetchone()
        early, first_early = connection.execute(statements.EARLY_DUE, (topic, now)).fetchone()
        due += early
        if oldest is not None and oldest > now:
            oldest = first_early
    return TopicInfo(name, tuple(counts), due, oldest, paused != 0)


class Uncounted(Exception):
    """Many tasks of a topic have fallen due since they were counted."""


def survey_slice(
    connection: sqlite3.Connection, after: int, now: int
) -> list[tuple[int, str, TopicInfo | None]]:
    """Some topics behind a number: number, name and what is known of each, or ``None`` where that takes
    patience. Empty at the end."""
    rows = connection.execute(
        "SELECT topic, name FROM topics WHERE topic > ? ORDER BY topic LIMIT ?", (after, SURVEYED)
    ).fetchall()
    return [(number, name, _get_quickly(connection, name, now)) for number, name in rows]


def _get_quickly(connection: sqlite3.Connection, name: str, now: int) -> TopicInfo | None:
    try:
        return get_topic(connection, name, now, patient=False)
    except Uncounted:
        return None


def newest(connection: sqlite3.Connection) -> int:
    """When the task that came last was accepted, or 0: the clock said that much once."""
    row = connection.execute("SELECT produced FROM tasks ORDER BY sequence DESC LIMIT 1").fetchone()
    return 0 if row is None else int(row[0])


def list_topics(connection: sqlite3.Connection, limit: int, offset: int) -> list[str]:
    """Names of topics in order of creation."""
    rows = connection.execute("SELECT name FROM topics ORDER BY topic LIMIT ? OFFSET ?", (limit, offset))
    return [name for (name,) in rows]


def next_due(connection: sqlite3.Connection, name: str) -> int | None:
    """When next a claim in this topic may succeed."""
    row = connection.execute("SELECT topic FROM topics WHERE name = ? AND NOT paused", (name,)).fetchone()
    if row is None:
        return None
    (scheduled,) = connection.execute(statements.FIRST_SCHEDULED, row).fetchone()
    (deadline,) = connection.execute(statements.FIRST_DEADLINE, row).fetchone()
    return min((time for time in (scheduled, deadline) if time is not None), default=None)


def _topics_with(condition: str, time: str, index: str) -> str:
    """Numbers of topics after one (1) that have a task that fulfils the condition, whether or not its time
    has come (2), and whether it has; one step down the index from one topic to the next."""
    of = f"FROM tasks INDEXED BY {index} WHERE {condition}"
    return f"""
    WITH RECURSIVE found (topic) AS (
        SELECT min(topic) {of} AND topic > ?1
        UNION ALL
        SELECT (SELECT min(tasks.topic) {of} AND tasks.topic > found.topic) FROM found
        WHERE found.topic IS NOT NULL LIMIT {TOPICS_SLICE}
    )
    SELECT topic, (SELECT min({time}) {of} AND tasks.topic = found.topic) <= ?2
    FROM found WHERE topic IS NOT NULL"""


_LAPSED = _topics_with("state = 1", "deadline", "tasks_active")
_EXPIRED = _topics_with("state = 0 AND expires IS NOT NULL", "expires", "tasks_expiring")


def topics_lapsed(connection: sqlite3.Connection, after: int, now: int) -> list[tuple[int, int]]:
    """Some topics after this number with active tasks, and whether one has lapsed; empty at the end."""
    return connection.execute(_LAPSED, (after, now)).fetchall()


def topics_expired(connection: sqlite3.Connection, after: int, now: int) -> list[tuple[int, int]]:
    """Some topics after this number with tasks that can expire, and whether one has; empty at the end."""
    return connection.execute(_EXPIRED, (after, now)).fetchall()


# ---- records -------------------------------------------------------------------------------------


def get_record(connection: sqlite3.Connection, kind: Kind[Members], record_id: str) -> Record[Members] | None:
    """The record of this kind with this id."""
    row = connection.execute(
        "SELECT id, version, members FROM records WHERE kind = ? AND id = ?", (kind.name, record_id)
    ).fetchone()
    return None if row is None else _record(kind, row)


def list_records(
    connection: sqlite3.Connection, kind: Kind[Members], after: str, limit: int
) -> list[Record[Members]]:
    """Records of this kind behind an id, in order of their ids."""
    rows = connection.execute(
        "SELECT id, version, members FROM records WHERE kind = ? AND id > ? ORDER BY id LIMIT ?",
        (kind.name, after, limit),
    )
    return [_record(kind, row) for row in rows]


def _record(kind: Kind[Members], row: tuple[str, int, str]) -> Record[Members]:
    record_id, version, text = row
    return Record(record_id, version, kind.from_json(text))


# ---- lists ---------------------------------------------------------------------------------------


class Slice(Struct, frozen=True):
    """Part of a list. ``last``: behind which number to go on; ``skipped``: so many of the offset are done
    with; ``size``: about how many bytes the tasks take; ``more``: there may be something behind."""

    tasks: list[TaskRecord]
    last: int
    skipped: int
    size: int
    more: bool
    full: bool


_OF_STATE = (
    "SELECT sequence FROM tasks INDEXED BY tasks_listed WHERE topic = ?1 AND state = {} AND sequence > ?2"
)
# All states of a topic: four walks along the index, merged.
_OF_TOPIC = " UNION ALL ".join(_OF_STATE.format(state) for state in range(4))
_CANDIDATES = {
    state: f"{_OF_TOPIC if state is None else _OF_STATE.format(state)} ORDER BY sequence LIMIT ?3"
    for state in (None, 0, 1, 2, 3)
}
# The state is the index's; every other filter is a parameter behind those of the candidates.
_FILTERS = tuple(member.name for member in FILTERS if not isinstance(member.type, State))
_MATCHES = " AND ".join(f"(?{at} IS NULL OR {name} = ?{at})" for at, name in enumerate(_FILTERS, 4))
_FILTERED = {
    state: f"""SELECT tasks.sequence, {_MATCHES}
    FROM ({candidates}) AS candidates CROSS JOIN tasks ON tasks.sequence = candidates.sequence
    ORDER BY candidates.sequence"""
    for state, candidates in _CANDIDATES.items()
}
_BY_NUMBER = statements.tasks("tasks.sequence = ?")


def list_slice(
    connection: sqlite3.Connection, query: TaskQuery, after: int, skip: int, limit: int, room: int | None
) -> Slice:
    """Tasks of a topic behind a number: up to ``limit``, after skipping some, as far as there is ``room``.

    ``room`` is in bytes; ``None``: the first task has room whatever it takes.
    """
    filters = [getattr(query, name) for name in _FILTERS]
    filtered = any(value is not None for value in filters)
    count = SLICE if filtered else min(skip + limit, SLICE)
    row = connection.execute("SELECT topic FROM topics WHERE name = ?", (query.topic,)).fetchone()
    if row is None:
        return Slice([], after, 0, 0, more=False, full=False)
    values = (row[0], after, count + 1)
    if filtered:
        candidates = connection.execute(_FILTERED[query.state], (*values, *filters)).fetchall()
    else:
        candidates = [(number, 1) for (number,) in connection.execute(_CANDIDATES[query.state], values)]
    more = len(candidates) > count
    del candidates[count:]
    tasks: list[TaskRecord] = []
    size = skipped = 0
    for at, (number, matches) in enumerate(candidates, 1):
        if not matches:
            after = number
            continue
        if skipped < skip:
            skipped += 1
            after = number
            continue
        task = task_of(connection.execute(_BY_NUMBER, (number,)).fetchone())
        size += task.weight()
        if size > (MAX_PAGE_BYTES if room is None else room) and (tasks or room is not None):
            return Slice(tasks, after, skipped, size, more=True, full=True)
        tasks.append(task)
        after = number
        if len(tasks) == limit:
            more = more or at < len(candidates)
            return Slice(tasks, after, skipped, size, more=more, full=True)
    return Slice(tasks, after, skipped, size, more=more, full=False)


# ---- what other processes did ----------------------------------------------------------------------


def news(connection: sqlite3.Connection, version: int, since: int) -> tuple[int, list[tuple[str, int]]]:
    """The file's version, and, unless it is the one given, topics in which something became available after
    a number of ``counters.arrived``, each with its own number, in order."""
    (found,) = connection.execute("PRAGMA data_version").fetchone()
    if found == version:
        return version, []
    rows = connection.execute("SELECT name, arrived FROM topics WHERE arrived > ? ORDER BY arrived", (since,))
    return found, rows.fetchall()


def last_arrived(connection: sqlite3.Connection) -> int:
    """The number of ``counters.arrived``."""
    (found,) = connection.execute("SELECT arrived FROM counters").fetchone()
    assert isinstance(found, int)
    return found
