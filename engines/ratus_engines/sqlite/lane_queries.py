"""The queries of the reader thread that know of lanes: lists of them, and when a claim may succeed next."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

from ratus.core import turns
from ratus.core.records import LaneInfo
from ratus.core.selection import Where
from ratus.core.turns import WHERE_TASKS, Closing, Limits, PerLabel
from ratus_engines.sqlite import statements
from ratus_engines.sqlite.choosing import OF_VALUE, Line, Lines
from ratus_engines.sqlite.lanes import BEFORE_ALL, IN_USE, LANE, PAIRS, WITHOUT, Value, per_of, value_of
from ratus_engines.sqlite.rows import limits_of


def next_due(connection: sqlite3.Connection, name: str, now: int, where: Where | None) -> int | None:
    """The earliest time at which a claim in this topic may succeed; ``None``: paused, or without a task.

    It may be too early, but then something will have changed at that time.
    """
    row = connection.execute(_TOPIC, (name,)).fetchone()
    if row is None:
        return None
    topic, active, labels, text, allowed, held = row
    limits = None if text is None else limits_of(text)
    (deadline,) = connection.execute(statements.FIRST_DEADLINE, (topic,)).fetchone()
    closed = None
    if limits is not None or held:
        closed = turns.closing(limits, active, allowed, held, now)
    if closed is not None and closed.reopens is None:
        return None if deadline is None else int(deadline)
    per = None if limits is None else limits.per
    if per is not None and labels & IN_USE:
        first = _first_of_lanes(connection, topic, name, per, now, where)
    else:
        first = _first_scheduled(connection, topic, where)
    if first is not None and closed is not None and closed.reopens is not None:
        is_early = connection.execute(_ANY_EARLY, (topic,)).fetchone() is not None
        first = closed.reopens if is_early else max(first, closed.reopens)
    return min((time for time in (first, deadline) if time is not None), default=None)


def _first_scheduled(connection: sqlite3.Connection, topic: int, where: Where | None) -> int | None:
    """The earliest ``scheduled`` of the pending tasks that match."""
    if where is None:
        (first,) = connection.execute(statements.FIRST_SCHEDULED, (topic,)).fetchone()
        return None if first is None else int(first)
    firsts = (
        connection.execute(FIRST_WAITING, (topic, where.label, value)).fetchone()[0] for value in where.values
    )
    return min((first for first in firsts if first is not None), default=None)


def _first_of_lanes(
    connection: sqlite3.Connection, topic: int, name: str, per: PerLabel, now: int, where: Where | None
) -> int | None:
    """When the first task may be claimed of those that match, as far as lanes by the label of ``per`` say."""
    label, built = connection.execute(_IN_USE, (topic, per.label)).fetchone()
    if not built:
        return None  # a notification follows
    if where is None:
        (priority,) = connection.execute(_ANY_READY, (label,)).fetchone()
        if priority is not None:
            return now
        (wakes,) = connection.execute(_FIRST_WAKING, (label,)).fetchone()
        return None if wakes is None else max(now, wakes)
    times: list[int] = []
    reads = _Reads(connection)
    lines = [Line(reads, OF_VALUE, (topic, where.label, value)) for value in dict.fromkeys(where.values)]
    for value in dict.fromkeys(where.values):
        (later,) = connection.execute(FIRST_WAITING_FROM, (topic, where.label, value, now)).fetchone()
        if later is not None:
            times.append(later)
    for _, places in Lines(lines).in_line(now, WHERE_TASKS):
        for _, sequence in places:
            of = value_of(connection.execute(PAIRS, (sequence,)).fetchall(), per.label)
            time = _opens(connection, label, of, per, now)
            if time == now:
                return now
            if time is not None:
                times.append(time)
    return min(times, default=None)


class _Reads:
    """A connection, as lines are read by."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        ((first,),) = connection.execute(statements.ANY_EARLY)
        self.has_early = first is not None

    def read(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        return self._connection.execute(statement, values).fetchall()


def _opens(connection: sqlite3.Connection, label: int, value: Value, per: PerLabel, now: int) -> int | None:
    """When the lane of a due task hands out its next one; ``None``: a notification follows."""
    (_, _, active, _, _, allowed, held, *_) = connection.execute(LANE, (label, value)).fetchone()
    closed = turns.closing(per, active, allowed, held, now)
    if closed is not None:
        return closed.reopens
    if per.ordered and value != WITHOUT:
        head = _head(connection, label, value, now)
        if active or head is None:
            return None
        return max(now, head)
    return now


def _head(connection: sqlite3.Connection, label: int, value: Value, now: int) -> int | None:
    """When the first task by creation of an ordered lane is due, 0 if whatever the clock says."""
    row = connection.execute(HEAD, (label, value, now)).fetchone()
    return None if row is None else 0 if row[1] else int(row[0])


def list_lanes(
    connection: sqlite3.Connection, name: str, label: str, after: str | None, limit: int, now: int
) -> list[LaneInfo] | None:
    """Lanes of a topic behind a value, in order; ``None`` where the label has to be taken into use first."""
    row = connection.execute("SELECT topic, limits FROM topics WHERE name = ?", (name,)).fetchone()
    if row is None:
        return []
    topic, text = row
    in_use = connection.execute(_IN_USE, (topic, label)).fetchone()
    if in_use is None or not in_use[1]:
        return None
    limits: Limits | None = None if text is None else limits_of(text)
    per = per_of(limits, label)
    start: Value | int = BEFORE_ALL if after is None else after
    found: dict[Value, LaneInfo] = {}
    for value, active, pending, allowed, held in connection.execute(_LANES, (in_use[0], start, limit)):
        closed = None
        if per is not None:
            closed = _closing(connection, in_use[0], value, per, active, allowed, held, now)
        found[value] = LaneInfo(None if value == WITHOUT else value, active, pending, closed)
    if per is not None:
        found |= _without_tasks(connection.execute(_TIMES, (name, label, start)), per, limit, now)
    return [found[value] for value in sorted(found, key=_place)][:limit]


def _place(value: Value) -> tuple[bool, bytes]:
    return (True, b"") if isinstance(value, bytes) else (False, value.encode())


def _closing(
    connection: sqlite3.Connection,
    label: int,
    value: Value,
    per: PerLabel,
    active: int,
    allowed: int,
    held: int,
    now: int,
) -> Closing | None:
    head = _head(connection, label, value, now) if per.ordered else None
    waits = None if head is None or head <= now else head
    text = None if isinstance(value, bytes) else value
    return turns.closing_of_lane(per, text, active, waits, allowed, held, now)


def _without_tasks(
    rows: Iterable[Sequence[Any]], per: PerLabel, limit: int, now: int
) -> dict[Value, LaneInfo]:
    """The lanes without tasks that a rate or a hold closes."""
    found: dict[Value, LaneInfo] = {}
    for value, allowed, held in rows:
        closed = turns.closing(per, 0, allowed, held, now)
        if closed is not None:
            found[value] = LaneInfo(None if value == WITHOUT else value, closed=closed)
            if len(found) == limit:
                break
    return found


def unbuilt(connection: sqlite3.Connection) -> list[str]:
    """Topics with lanes that have to be built yet, or some of them."""
    return list(dict.fromkeys(name for (name,) in connection.execute(_UNBUILT)))


_TOPIC = "SELECT topic, active, labels, limits, allowed, held FROM topics WHERE name = ? AND NOT paused"
_IN_USE = "SELECT label, built FROM labels_in_use WHERE topic = ? AND name = ?"
_UNBUILT = (
    "SELECT topics.name FROM labels_in_use INDEXED BY labels_unbuilt JOIN topics USING (topic) "
    "WHERE NOT built LIMIT 1000"
)
_ANY_EARLY = "SELECT sequence FROM early WHERE topic = ? LIMIT 1"
_ANY_READY = "SELECT max(priority) FROM lanes INDEXED BY lanes_ready WHERE label = ? AND priority IS NOT NULL"
_FIRST_WAKING = "SELECT min(wakes) FROM lanes INDEXED BY lanes_sleeping WHERE label = ? AND wakes IS NOT NULL"
_LANES = (
    "SELECT value, active, pending, allowed, held FROM lanes WHERE label = ? AND value > ? "
    "ORDER BY value LIMIT ?"
)
_TIMES = "SELECT value, allowed, held FROM times WHERE topic = ? AND label = ? AND value > ? ORDER BY value"
HEAD = (
    "SELECT lines.scheduled, early FROM lanes CROSS JOIN lines INDEXED BY lines_created USING (lane) "
    "CROSS JOIN tasks ON tasks.sequence = lines.sequence "
    "WHERE label = ? AND value = ? AND (expires IS NULL OR expires > ?) ORDER BY lines.sequence LIMIT 1"
)
"""The first task by creation, that has not expired, of the lane of a label with a value."""

_OF_VALUE = "topic = ?1 AND name = ?2 AND value = ?3"
_LEVELS = f"""
WITH RECURSIVE levels (priority) AS (
    SELECT max(priority) FROM waiting WHERE {_OF_VALUE}
    UNION ALL
    SELECT (
        SELECT max(waiting.priority) FROM waiting WHERE {_OF_VALUE} AND waiting.priority < levels.priority
    )
    FROM levels WHERE levels.priority IS NOT NULL
)"""
_LEVEL = f"FROM waiting WHERE {_OF_VALUE} AND waiting.priority = levels.priority"
FIRST_WAITING = f"""{_LEVELS}
SELECT min((SELECT min(scheduled) {_LEVEL} AND early = early_of))
FROM levels CROSS JOIN (SELECT 0 AS early_of UNION ALL SELECT 1) WHERE priority IS NOT NULL"""
"""The earliest ``scheduled`` of a topic's (1) pending tasks with a value (3) of a label (2), or NULL."""

FIRST_WAITING_FROM = f"""{_LEVELS}
SELECT min((SELECT min(scheduled) {_LEVEL} AND early = 0 AND scheduled > ?4))
FROM levels WHERE priority IS NOT NULL"""
"""The earliest ``scheduled`` behind a time (4) of those of `FIRST_WAITING`, or NULL."""
