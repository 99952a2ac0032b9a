"""The queries of the reader thread.

Each function gets a connection in a read transaction and takes a few milliseconds at most; a query that may
take longer is made in slices.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from msgspec import Struct

from ratus.core.kinds import Kind
from ratus.core.labels import Pair
from ratus.core.members import FILTERS, State
from ratus.core.records import (
    ACTIVE,
    MAX_PAGE_BYTES,
    PENDING,
    Members,
    Record,
    TaskQuery,
    TaskRecord,
    TopicInfo,
)
from ratus.core.turns import Closing, Limits, Reason, closing
from ratus_engines.sqlite import statements
from ratus_engines.sqlite.lanes import IN_USE
from ratus_engines.sqlite.rows import limits_of, task_of

# Tasks that a filter looks at before other queries run.
SLICE = 2_000

# Topics that a chore looks at before other queries run.
TOPICS_SLICE = 500

# Topics that a survey visits before other queries run: a millisecond or two of work.
SURVEYED = 32

# Tasks of one priority that have fallen due since the last count and are counted for each request, at most.
# Where there are more, the writer counts them once and stores their number.
COUNTED = 2_000


def get(connection: sqlite3.Connection, task_id: str) -> TaskRecord | None:
    """The task with this id, or ``None``."""
    row = connection.execute(_BY_ID, (task_id,)).fetchone()
    return None if row is None else task_of(row)


_BY_ID = statements.tasks("tasks.id = ?")


# ---- topics --------------------------------------------------------------------------------------


def get_topic(connection: sqlite3.Connection, name: str, now: int, patient: bool) -> TopicInfo | None:
    """The numbers of a topic at time ``now``, or ``None`` where there is no such topic.

    Raises `Uncounted` if more than `COUNTED` tasks of a priority have to be counted, unless ``patient``.
    """
    row = connection.execute(
        "SELECT topic, pending, active, completed, archived, paused, due, due_until, labels, limits, "
        "allowed, held FROM topics WHERE name = ?",
        (name,),
    ).fetchone()
    if row is None:
        return None
    topic, *counts, paused, due, until, labels, text, allowed, held = row
    oldest = None
    if counts[PENDING]:
        # ``due`` was counted up to ``until``, which is after now where the clock has stepped back since.
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
    limits = None if text is None else limits_of(text)
    lanes, built = _lanes(connection, topic, limits) if labels & IN_USE else (0, True)
    closed = None if built else Closing(Reason.BUILDING)
    if limits is not None or held:
        closed = closing(limits, counts[ACTIVE], allowed, held, now) or closed
    if paused:
        closed = Closing(Reason.PAUSED)
    return TopicInfo(name, tuple(counts), due, oldest, paused != 0, limits, closed, lanes)


def _lanes(connection: sqlite3.Connection, topic: int, limits: Limits | None) -> tuple[int, bool]:
    """How many lanes a topic has, and whether those that have limits are built."""
    per = None if limits is None or limits.per is None else limits.per.label
    rows = connection.execute(
        "SELECT lanes, name, built FROM labels_in_use WHERE topic = ?", (topic,)
    ).fetchall()
    return sum(lanes for lanes, _, _ in rows), all(built for _, name, built in rows if name == per)


class Uncounted(Exception):
    """Many tasks of a topic have fallen due since they were counted."""


def survey_slice(
    connection: sqlite3.Connection, after: int, now: int
) -> list[tuple[int, str, TopicInfo | None]]:
    """The next topics behind a number, as number, name and `get_topic` of each. Empty at the end.

    The last is ``None`` for a topic that is `Uncounted`.
    """
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
    """The time at which the newest task was accepted, or 0 without one: the clock has been there before."""
    row = connection.execute("SELECT produced FROM tasks ORDER BY sequence DESC LIMIT 1").fetchone()
    return 0 if row is None else int(row[0])


def list_topics(connection: sqlite3.Connection, limit: int, offset: int) -> list[str]:
    """Names of topics in order of creation."""
    rows = connection.execute("SELECT name FROM topics ORDER BY topic LIMIT ? OFFSET ?", (limit, offset))
    return [name for (name,) in rows]


def _topics_with(condition: str, time: str, index: str) -> str:
    """A statement for the topics behind a number (1) that have a task which meets the condition.

    For each, its number, and whether the earliest ``time`` of these tasks has come (2). From one topic to the
    next is one step down the index.
    """
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
    """The record of this kind with this id, or ``None``."""
    row = connection.execute(
        "SELECT id, version, members FROM records WHERE kind = ? AND id = ?", (kind.name, record_id)
    ).fetchone()
    return None if row is None else _record(kind, row)


def list_records(
    connection: sqlite3.Connection, kind: Kind[Members], after: str, limit: int
) -> list[Record[Members]]:
    """Up to ``limit`` records of this kind behind an id, in order of their ids."""
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
    """Part of a list of tasks.

    ``last``: the number behind which the next part begins; ``skipped``: how many tasks were skipped for the
    offset; ``size``: about how many bytes the tasks take; ``more``: there may be tasks behind this part;
    ``full``: the limit of tasks or bytes was reached.
    """

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
# The index finds the state; every other filter is a parameter behind those of the candidates.
_FILTERS = tuple(member.name for member in FILTERS if not isinstance(member.type, State))


def _matches(names: Sequence[str], first: int) -> str:
    """Whether a task passes these filters, whose values are the parameters from one on."""
    return " AND ".join(f"(?{at} IS NULL OR {name} = ?{at})" for at, name in enumerate(names, first))


_FILTERED = {
    state: f"""SELECT tasks.sequence, {_matches(_FILTERS, 4)}
    FROM ({candidates}) AS candidates CROSS JOIN tasks ON tasks.sequence = candidates.sequence
    ORDER BY candidates.sequence"""
    for state, candidates in _CANDIDATES.items()
}
_FILTERED_BY_NUMBER = f"SELECT sequence, {_matches((*_FILTERS, 'state'), 2)} FROM tasks WHERE sequence = ?1"
_BY_NUMBER = statements.tasks("tasks.sequence = ?")


def list_slice(
    connection: sqlite3.Connection, query: TaskQuery, after: int, skip: int, limit: int, room: int | None
) -> Slice:
    """Up to ``limit`` tasks of a topic behind the number ``after``, once ``skip`` tasks were skipped.

    They take ``room`` bytes at most; ``None``: those of a page, in which the first task always has room.
    """
    filters = [getattr(query, name) for name in _FILTERS]
    filtered = any(value is not None for value in filters)
    if query.labels:
        filters.append(query.state)
        filtered = filtered or query.state is not None
    count = SLICE if filtered else min(skip + limit, SLICE)
    row = connection.execute("SELECT topic FROM topics WHERE name = ?", (query.topic,)).fetchone()
    if row is None:
        return Slice([], after, 0, 0, more=False, full=False)
    values = (row[0], after, count + 1)
    if query.labels:
        candidates, more = _labelled(connection, row[0], query.labels, after, count)
        if filtered:
            candidates = [
                connection.execute(_FILTERED_BY_NUMBER, (number, *filters)).fetchone()
                if matches
                else (number, 0)
                for number, matches in candidates
            ]
    elif filtered:
        candidates = connection.execute(_FILTERED[query.state], (*values, *filters)).fetchall()
    else:
        candidates = [(number, 1) for (number,) in connection.execute(_CANDIDATES[query.state], values)]
    if not query.labels:
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


def _labelled(
    connection: sqlite3.Connection, topic: int, pairs: Sequence[Pair], after: int, count: int
) -> tuple[list[tuple[int, int]], bool]:
    """Numbers, behind one, of tasks that have all of these labels, and whether there may be more.

    Up to ``count``, or as many as can be found in so many steps. Each step goes to the first task with one
    label that is not before the last one found with another: so it takes about as many steps as there are
    tasks with the rarest label.
    """
    found: list[tuple[int, int]] = []
    if len(pairs) == 1:
        rows = connection.execute(_LABELLED, (topic, *pairs[0], after + 1, count + 1)).fetchall()
        return [(number, 1) for (number,) in rows[:count]], len(rows) > count
    number, agreed, at = after + 1, 0, 0
    for _ in range(count * len(pairs)):
        row = connection.execute(_LABELLED, (topic, *pairs[at], number, 1)).fetchone()
        if row is None:
            return found, False
        agreed = agreed + 1 if row[0] == number else 1
        number, at = row[0], (at + 1) % len(pairs)
        if agreed >= len(pairs):
            found.append((number, 1))
            number, agreed = number + 1, 0
    # What was not found before this number does not have to be looked for again.
    return [*found, (number - 1, 0)] if not found or found[-1][0] < number - 1 else found, True


_LABELLED = (
    "SELECT sequence FROM labels WHERE topic = ? AND name = ? AND value = ? AND sequence >= ? "
    "ORDER BY sequence LIMIT ?"
)


# ---- what other processes did ----------------------------------------------------------------------


def news(connection: sqlite3.Connection, version: int, since: int) -> tuple[int, list[tuple[str, int]]]:
    """The version of the file, and the topics in which something became available since.

    These are the topics whose ``arrived`` is larger than ``since``, each with that number, in its order.
    Where the version is still ``version``, no other connection has written, and no topic is given.
    """
    (found,) = connection.execute("PRAGMA data_version").fetchone()
    if found == version:
        return version, []
    rows = connection.execute("SELECT name, arrived FROM topics WHERE arrived > ? ORDER BY arrived", (since,))
    return found, rows.fetchall()


def last_arrived(connection: sqlite3.Connection) -> int:
    """The number in ``counters.arrived``: the last one that a topic has got."""
    (found,) = connection.execute("SELECT arrived FROM counters").fetchone()
    assert isinstance(found, int)
    return found
