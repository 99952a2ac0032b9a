"""One write transaction: what it knows of topics, and the few ways in which it changes tasks.

The counts of topics and the last numbers given are read under the lock and written once, at the end, however
many operations share the transaction. Nothing is kept from one transaction to the next: other processes write
to the file, too.
"""

from __future__ import annotations

import copy
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

from ratus.core import transitions
from ratus.core.kinds import TOPIC_SETTINGS, Kind
from ratus.core.records import ACTIVE, PENDING, Members, TaskRecord, TopicSettings
from ratus.core.transitions import Change
from ratus_engines.sqlite import statements
from ratus_engines.sqlite.notifications import Notifications
from ratus_engines.sqlite.rows import COLUMNS, REPLACE, inserts, row_of, task_of

# Ids that one statement looks for: shorter lists are filled up, so that few statements have to be prepared.
_LIST_SIZES = (1, 8, 64)


class Clock:
    """The time of the last operation, and the latest of all, which is later where the clock was set back."""

    __slots__ = ("latest", "now")

    def __init__(self) -> None:
        self.now = self.latest = 0

    def see(self, now: int) -> None:
        """Note the time of an operation, in microseconds."""
        self.now = now
        self.latest = max(self.latest, now)


class Topic:
    """A topic within a transaction. ``number`` is 0 while it has no row."""

    __slots__ = ("arrived", "changed", "counts", "due", "due_until", "name", "number", "paused")

    def __init__(self, name: str) -> None:
        self.name = name
        self.number = 0
        self.paused = False
        self.counts = [0, 0, 0, 0]
        self.due = 0
        self.due_until = 0
        self.arrived = False
        self.changed = False

    def add(self, state: int, scheduled: int, by: int = 1) -> None:
        """Count a task in (or out, by -1)."""
        self.changed = True
        self.counts[state] += by
        if state == PENDING and scheduled <= self.due_until:
            self.due += by


class Transaction:
    """A transaction that the caller begins, finishes (see `finish`) and commits.

    ``notifications`` are for the listener and the observer, once it is committed.
    """

    def __init__(self, connection: sqlite3.Connection, clock: Clock) -> None:
        self._connection = connection
        self._clock = clock
        self._topics: dict[str, Topic] = {}
        self._numbers: list[int] | None = None  # last and arrived of the table counters
        self._counted = False  # whether they changed
        self._early: bool | None = None
        self._run: list[Sequence[Any]] = []
        self._run_statement = ""
        self.notifications = Notifications()

    # ---- statements ------------------------------------------------------------------------------

    def read(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        """All rows of a statement, which sees what this transaction has written."""
        self._flush()
        return self._connection.execute(statement, values).fetchall()

    def rows(self, statement: str, values: Sequence[Any]) -> Iterable[Any]:
        """Like `read`, row by row. The caller must not write before it has taken the last row it needs."""
        self._flush()
        return self._connection.execute(statement, values)

    def _write(self, statement: str, values: Sequence[Any]) -> None:
        """Queue a write: equal statements that follow each other are executed together (see `_flush`)."""
        if statement != self._run_statement:
            self._flush()
            self._run_statement = statement
        self._run.append(values)

    def _flush(self) -> None:
        run, self._run = self._run, []
        if run:
            self._connection.executemany(self._run_statement, run)

    def finish(self) -> None:
        """Write the counts and numbers. To be called once, before the commit."""
        for topic in self._topics.values():
            if topic.changed:
                self._store(topic)
        self._flush()
        if self._counted:
            self._connection.execute("UPDATE counters SET last = ?, arrived = ?", self._counters())

    # ---- numbers ---------------------------------------------------------------------------------

    def _counters(self) -> list[int]:
        if self._numbers is None:
            self._numbers = list(self._connection.execute("SELECT last, arrived FROM counters").fetchone())
        return self._numbers

    @property
    def last(self) -> int:
        """The number that was given last."""
        return self._counters()[0]

    def touch(self) -> None:
        """Skip a number, so that there is something to write: SQLite writes nothing where nothing changes."""
        self._next()

    def _next(self, count: int = 1) -> int:
        """Give out ``count`` new numbers. Returns the first."""
        numbers = self._counters()
        first = numbers[0] + 1
        numbers[0] += count
        self._counted = True
        return first

    # ---- topics ----------------------------------------------------------------------------------

    def topic(self, name: str) -> Topic:
        """The topic; one without a row has number 0 and no tasks."""
        topic = self._topics.get(name)
        if topic is None:
            topic = self._topics[name] = Topic(name)
            row = self._connection.execute(_TOPIC, (name,)).fetchone()
            if row is not None:
                topic.number, paused, *topic.counts, topic.due, topic.due_until = row
                topic.paused = paused != 0
        return topic

    def keep(self, topic: Topic) -> Topic:
        """Give the topic a row if it has none. `finish` deletes it unless it has a task or is paused then."""
        if not topic.number:
            topic.number = self._next()
            topic.changed = True
            self._write(_NEW_TOPIC, (topic.number, topic.name))
        return topic

    def _pause(self, topic: Topic, paused: bool) -> None:
        if topic.paused != paused:
            topic.paused = paused
            topic.changed = True
            if paused:
                self.keep(topic)
            else:
                self._make_available(topic)

    def count_due(self, topic: Topic, until: int, more: int) -> None:
        """From now on, ``due`` counts the tasks up to ``until``, which are ``more`` than before."""
        topic.due_until = until
        topic.due += more
        topic.changed = True

    def _store(self, topic: Topic) -> None:
        if not topic.paused and not any(topic.counts):
            self._write("DELETE FROM topics WHERE topic = ?", (topic.number,))
            return
        values = [topic.paused, *topic.counts, topic.due, topic.due_until]
        # ``arrived`` has an index, so it is written only where something has become available.
        if topic.arrived:
            numbers = self._counters()
            numbers[1] += 1
            self._counted = True
            self._write(_STORE_ARRIVED, [*values, numbers[1], topic.number])
        else:
            self._write(_STORE, [*values, topic.number])

    # ---- records ---------------------------------------------------------------------------------

    def put_record(self, kind: Kind[Members], record_id: str, members: Members | None) -> int:
        """Store a record, or delete it if ``members`` is ``None``. Returns its version, or 0 if deleted."""
        version = 0
        if members is None:
            self._write("DELETE FROM records WHERE kind = ? AND id = ?", (kind.name, record_id))
        else:
            version = self._next()
            text = kind.to_json(members).decode()
            self._write(
                "INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?)", (kind.name, record_id, version, text)
            )
        if kind is TOPIC_SETTINGS:
            self._pause(self.topic(record_id), isinstance(members, TopicSettings) and members.paused)
        return version

    # ---- tasks -----------------------------------------------------------------------------------

    def load(self, ids: Iterable[str]) -> dict[str, TaskRecord]:
        """The tasks with these ids, by id."""
        wanted = list(dict.fromkeys(ids))
        found: dict[str, TaskRecord] = {}
        at = 0
        while at < len(wanted):
            some = wanted[at : at + _LIST_SIZES[-1]]
            at += len(some)
            size = next(size for size in _LIST_SIZES if size >= len(some))
            some += some[-1:] * (size - len(some))
            for row in self.read(_BY_IDS[size], some):
                task = task_of(row)
                found[task.id] = task
        return found

    def insert(self, tasks: Sequence[TaskRecord]) -> list[bool]:
        """Store the tasks in this order, except those whose id is known. Returns true for each stored."""
        topics = [self.keep(self.topic(task.topic)) for task in tasks]
        first = self._next(len(tasks))
        for number, task in enumerate(tasks, first):
            task.sequence = number
        self._flush()
        stored = 0
        for statement, values in inserts(tasks, [topic.number for topic in topics]):
            stored += self._connection.execute(statement, values).rowcount
        created = [True] * len(tasks)
        if stored < len(tasks):
            span = (first, first + len(tasks) - 1)
            there = {number for (number,) in self.read(_NUMBERS_BETWEEN, span)}
            created = [task.sequence in there for task in tasks]
        for task, topic, new in zip(tasks, topics, created, strict=True):
            if new:
                topic.add(task.state, task.scheduled)
                self._notify(task, topic, None)
        return created

    def replace(self, old: TaskRecord, new: TaskRecord) -> None:
        """Replace a task as a whole. The new one gets the ``sequence`` of the old one."""
        new.sequence = old.sequence
        self._move(old, new)
        self._write(REPLACE, row_of(new, self.topic(new.topic).number))

    def change(self, task: TaskRecord, change: Change) -> TaskRecord:
        """Carry out a change whose guard holds. Returns the task with it.

        That is a new record: the old one may be part of the answer to another caller.
        """
        new = copy.copy(task)
        transitions.apply(new, change)
        self._move(task, new)
        if change.events:
            self.notifications.events.append((new.topic, change.events))
        members = change.set
        names = tuple(members) if not change.attempts else (*members, "attempts")
        values = list(members.values())
        if change.attempts:
            values.append(new.attempts)
        if "topic" in members:
            values[names.index("topic")] = self.topic(new.topic).number
        values.append(new.sequence)
        statement = _UPDATES.get(names)
        if statement is None:
            sets = ", ".join(f"{name} = ?" for name in names)
            statement = _UPDATES[names] = f"UPDATE tasks SET {sets} WHERE sequence = ?"
        self._write(statement, values)
        if (
            new.state == PENDING
            and new.scheduled > self._clock.now
            and "scheduled" not in members
            and transitions.was_due(new, self._clock.latest)
        ):
            self._early = True
            self._write(statements.STAY_DUE, (new.sequence,))
        return new

    @property
    def has_early(self) -> bool:
        """Whether there are tasks that are due only because they were due before the clock was set back."""
        if self._early is None:
            ((first,),) = self.read(statements.ANY_EARLY)
            self._early = first is not None
        return self._early

    def keep_due(self, topic: int, priority: int, after: int, until: int) -> None:
        """Keep tasks due that were when they became pending, if scheduled after a time and up to another."""
        self._flush()
        kept = self._connection.execute(statements.KEEP_DUE, (topic, priority, after, until)).rowcount
        if kept:
            self._early = True
            ((name,),) = self.read("SELECT name FROM topics WHERE topic = ?", (topic,))
            found = self.topic(name)
            found.changed = True
            self._make_available(found)

    def forget_early(self, sequences: Iterable[Sequence[Any]]) -> None:
        """Delete the rows of ``early`` with these numbers: their tasks are due by the clock again."""
        for values in sequences:
            self._write("DELETE FROM early WHERE sequence = ?", values)

    def _forget_early(self, sequence: int, state: int) -> None:
        """Delete the row of ``early`` of a task that is changed or deleted, if it was pending."""
        if state == PENDING and self.has_early:
            self._write("DELETE FROM early WHERE sequence = ?", (sequence,))

    def delete(self, sequence: int, task_id: str, topic: str, state: int, scheduled: int) -> None:
        self._forget_early(sequence, state)
        self.topic(topic).add(state, scheduled, -1)
        self.notifications.settled.append(task_id)
        self._write("DELETE FROM tasks WHERE sequence = ?", (sequence,))

    def _move(self, old: TaskRecord, new: TaskRecord) -> None:
        self._forget_early(old.sequence, old.state)
        topic = self.topic(old.topic)
        topic.add(old.state, old.scheduled, -1)
        before = _may_be_claimed(old)
        if new.topic != old.topic:
            topic = self.keep(self.topic(new.topic))
            before = None
        topic.add(new.state, new.scheduled)
        self._notify(new, topic, before)

    def _notify(self, task: TaskRecord, topic: Topic, before: int | None) -> None:
        """Add the notification of a changed task. Before, it could be claimed from ``before`` on, if ever."""
        if task.state == PENDING:
            self._make_available(topic)
        elif task.state != ACTIVE:
            self.notifications.settled.append(task.id)
        else:
            assert task.deadline is not None, "an active task has a deadline"
            if before is None or task.deadline < before:
                self._make_available(topic)

    def _make_available(self, topic: Topic) -> None:
        topic.arrived = True
        self.notifications.available[topic.name] = None


def _may_be_claimed(task: TaskRecord) -> int | None:
    """From when on a task can be claimed if nothing else happens; ``None``: never."""
    if task.state == PENDING:
        return task.scheduled
    return task.deadline if task.state == ACTIVE else None


_TOPIC = (
    "SELECT topic, paused, pending, active, completed, archived, due, due_until FROM topics WHERE name = ?"
)
_NEW_TOPIC = "INSERT INTO topics VALUES (?, ?, 0, 0, 0, 0, 0, 0, 0, 0)"
_SETS = "paused = ?, pending = ?, active = ?, completed = ?, archived = ?, due = ?, due_until = ?"
_STORE = f"UPDATE topics SET {_SETS} WHERE topic = ?"
_STORE_ARRIVED = f"UPDATE topics SET {_SETS}, arrived = ? WHERE topic = ?"
_BY_IDS = {
    size: f"SELECT {COLUMNS} FROM tasks JOIN topics USING (topic) WHERE tasks.id IN ({', '.join('?' * size)})"
    for size in _LIST_SIZES
}
_NUMBERS_BETWEEN = "SELECT sequence FROM tasks WHERE sequence BETWEEN ? AND ?"
_UPDATES: dict[tuple[str, ...], str] = {}
