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

from ratus.core import transitions, turns
from ratus.core.kinds import TOPIC_SETTINGS, Kind
from ratus.core.labels import Pair, pairs_of
from ratus.core.records import ACTIVE, PENDING, Members, TaskRecord, TopicSettings
from ratus.core.transitions import Change
from ratus.core.turns import Closing, Limits
from ratus_engines.sqlite import statements
from ratus_engines.sqlite.lanes import Label, Lanes
from ratus_engines.sqlite.notifications import Notifications
from ratus_engines.sqlite.rows import COLUMNS, REPLACE, inserts, limits_of, row_of, task_of, text_of_limits

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
    """A topic within a transaction. ``number`` is 0 while it has no row.

    ``labels``: bits that say whether lanes have to know of its tasks (`ratus_engines.sqlite.lanes`).
    ``marked``: whether labels, limits or times have changed.
    """

    __slots__ = (
        "allowed",
        "arrived",
        "changed",
        "counts",
        "due",
        "due_until",
        "held",
        "in_use",
        "labels",
        "limits",
        "marked",
        "name",
        "number",
        "paused",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.number = 0
        self.paused = False
        self.counts = [0, 0, 0, 0]
        self.due = 0
        self.due_until = 0
        self.arrived = False
        self.changed = False
        self.marked = False
        self.labels = 0
        self.in_use: dict[str, Label] | None = None
        self.limits: Limits | None = None
        self.allowed = 0
        self.held = 0

    def closing(self, now: int) -> Closing | None:
        """Why the topic as a whole hands out nothing; ``None``: it does, unless it is paused."""
        if self.limits is None and not self.held:
            return None
        return turns.closing(self.limits, self.counts[ACTIVE], self.allowed, self.held, now)

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
        self.lanes = Lanes(self)

    # ---- statements ------------------------------------------------------------------------------

    def read(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        """All rows of a statement, which sees what this transaction has written."""
        self._flush()
        return self._connection.execute(statement, values).fetchall()

    def rows(self, statement: str, values: Sequence[Any]) -> Iterable[Any]:
        """Like `read`, row by row. The caller must not write before it has taken the last row it needs."""
        self._flush()
        return self._connection.execute(statement, values)

    def peek(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        """Like `read`, of tables to which nothing is queued: it does not end a queue of equal writes."""
        return self._connection.execute(statement, values).fetchall()

    def write(self, statement: str, values: Sequence[Any]) -> None:
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
        self.lanes.finish(self.now)
        for topic in self._topics.values():
            if topic.changed:
                self._store(topic)
        self._flush()
        if self._counted:
            self._connection.execute("UPDATE counters SET last = ?, arrived = ?", self._counters())

    @property
    def now(self) -> int:
        """The time of the last operation."""
        return self._clock.now

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
        self.next_number()

    def next_number(self, count: int = 1) -> int:
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
                topic.number, paused, *topic.counts, topic.due, topic.due_until = row[:8]
                topic.paused = paused != 0
                topic.labels, limits, topic.allowed, topic.held = row[8:]
                if limits is not None:
                    topic.limits = limits_of(limits)
        return topic

    def keep(self, topic: Topic) -> Topic:
        """Give the topic a row if it has none. `finish` deletes it unless it has a task or is paused then."""
        if not topic.number:
            topic.number = self.next_number()
            topic.changed = True
            self.write(_NEW_TOPIC, (topic.number, topic.name))
            topic.allowed, topic.held = self.lanes.take_times(topic.name, "", "")
            topic.marked |= topic.allowed != 0 or topic.held != 0
        return topic

    def _pause(self, topic: Topic, paused: bool) -> None:
        if topic.paused != paused:
            topic.paused = paused
            topic.changed = True
            if paused:
                self.keep(topic)
            else:
                self.make_available(topic)

    def _limit(self, topic: Topic, limits: Limits | None) -> None:
        """Put limits in force, in place of those that the topic had."""
        if limits == topic.limits:
            return
        before = None if topic.limits is None else topic.limits.per
        topic.limits = limits
        topic.changed = topic.marked = True
        if limits is not None:
            self.keep(topic)
        per = None if limits is None else limits.per
        if per != before:
            old = None if before is None else self.lanes.in_use(topic).get(before.label)
            if old is not None:
                self.lanes.renew(topic, old)
            if per is not None and (before is None or before.label != per.label):
                known = per.label in self.lanes.in_use(topic)
                label = self.lanes.use(topic, per.label)
                if known:
                    self.lanes.renew(topic, label)
        self.make_available(topic)

    def bound_rate(self, topic: Topic, now: int) -> None:
        """After the clock was set back: let the rate not close the topic for longer than a burst takes."""
        rate = None if topic.limits is None else topic.limits.rate
        if rate is not None and topic.allowed > now:
            topic.allowed = turns.bounded(rate, topic.allowed, now)
            topic.changed = topic.marked = True
            self.make_available(topic)

    def lift_holds(self, topic: Topic, most: int) -> int:
        """End the holds of a topic, and up to ``most`` of its lanes. Returns how many lanes that were."""
        if topic.held:
            topic.held = 0
            topic.changed = topic.marked = True
        lifted = self.lanes.lift_holds(topic, most)
        if topic.number:
            topic.changed = True
            self.make_available(topic)
        return lifted

    def count_due(self, topic: Topic, until: int, more: int) -> None:
        """From now on, ``due`` counts the tasks up to ``until``, which are ``more`` than before."""
        topic.due_until = until
        topic.due += more
        topic.changed = True

    def _store(self, topic: Topic) -> None:
        if not topic.paused and topic.limits is None and not any(topic.counts):
            self.write("DELETE FROM topics WHERE topic = ?", (topic.number,))
            if topic.labels:
                self.write("DELETE FROM labels_in_use WHERE topic = ?", (topic.number,))
            self.lanes.put_times(topic.name, "", "", topic.allowed, topic.held)
            return
        if topic.marked:
            limits = None if topic.limits is None else text_of_limits(topic.limits)
            self.write(_MARK, (topic.labels, limits, topic.allowed, topic.held, topic.number))
        values = [topic.paused, *topic.counts, topic.due, topic.due_until]
        # ``arrived`` has an index, so it is written only where something has become available.
        if topic.arrived:
            numbers = self._counters()
            numbers[1] += 1
            self._counted = True
            self.write(_STORE_ARRIVED, [*values, numbers[1], topic.number])
        else:
            self.write(_STORE, [*values, topic.number])

    # ---- records ---------------------------------------------------------------------------------

    def put_record(self, kind: Kind[Members], record_id: str, members: Members | None) -> int:
        """Store a record, or delete it if ``members`` is ``None``. Returns its version, or 0 if deleted."""
        version = 0
        if members is None:
            self.write("DELETE FROM records WHERE kind = ? AND id = ?", (kind.name, record_id))
        else:
            version = self.next_number()
            text = kind.to_json(members).decode()
            self.write(
                "INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?)", (kind.name, record_id, version, text)
            )
        if kind is TOPIC_SETTINGS:
            settings = members if isinstance(members, TopicSettings) else TopicSettings()
            topic = self.topic(record_id)
            self._pause(topic, settings.paused)
            self._limit(topic, settings.limits)
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
        first = self.next_number(len(tasks))
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
        tracked: list[tuple[TaskRecord, Topic]] = []
        for task, topic, new in zip(tasks, topics, created, strict=True):
            if new:
                topic.add(task.state, task.scheduled)
                self._notify(task, topic, None)
                if topic.labels or task.rare is not None:
                    tracked.append((task, topic))
        if tracked:
            self.lanes.inserted(tracked)
        return created

    def replace(self, old: TaskRecord, new: TaskRecord) -> None:
        """Replace a task as a whole. The new one gets the ``sequence`` of the old one."""
        new.sequence = old.sequence
        self._move(old, new, pairs_of(new.labels))
        self.write(REPLACE, row_of(new, self.topic(new.topic).number))

    def change(self, task: TaskRecord, change: Change) -> TaskRecord:
        """Carry out a change whose guard holds. Returns the task with it.

        That is a new record: the old one may be part of the answer to another caller.
        """
        new = copy.copy(task)
        transitions.apply(new, change)
        if change.hold:
            self.lanes.hold(self.topic(task.topic), task.sequence, change.hold)
        members = change.set
        early = (
            new.state == PENDING
            and new.scheduled > self._clock.now
            and "scheduled" not in members
            and transitions.was_due(new, self._clock.latest)
        )
        self._move(task, new, early=early)
        if change.events:
            self.notifications.events.append((new.topic, change.events))
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
        self.write(statement, values)
        if early:
            self._early = True
            self.write(statements.STAY_DUE, (new.sequence,))
        return new

    def claim(self, task: TaskRecord, change: Change, now: int) -> TaskRecord:
        """Carry out a claim: a change that also counts against limits."""
        claimed = self.change(task, change)
        topic = self.topic(task.topic)
        if topic.labels or topic.limits is not None:
            self.lanes.claimed(topic, task.sequence, now)
        return claimed

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
            self.make_available(found)
            if found.labels:
                for sequence, scheduled in self.read(statements.KEPT, (topic, priority, after, until)):
                    self.lanes.marked_early(found, sequence, priority, scheduled, 1)

    def forget_early(self, rows: Iterable[tuple[int, str, int, int]]) -> None:
        """Delete rows of ``early``, as number, topic, priority and time: their tasks are due by the clock."""
        for sequence, name, priority, scheduled in rows:
            topic = self.topic(name)
            if topic.labels:
                self.lanes.marked_early(topic, sequence, priority, scheduled, 0)
            self.write("DELETE FROM early WHERE sequence = ?", (sequence,))

    def _forget_early(self, sequence: int, state: int) -> None:
        """Delete the row of ``early`` of a task that is changed or deleted, if it was pending."""
        if state == PENDING and self.has_early:
            self.write("DELETE FROM early WHERE sequence = ?", (sequence,))

    def delete(
        self, sequence: int, task_id: str, name: str, state: int, scheduled: int, priority: int
    ) -> None:
        topic = self.topic(name)
        if topic.labels:
            self.lanes.deleted(topic, sequence, state, priority, scheduled)
        self._forget_early(sequence, state)
        topic.add(state, scheduled, -1)
        if topic.limits is not None:
            self._notify_freed(topic, state)
        self.notifications.settled.append(task_id)
        self.write("DELETE FROM tasks WHERE sequence = ?", (sequence,))

    def _move(
        self, old: TaskRecord, new: TaskRecord, pairs: Sequence[Pair] | None = None, *, early: bool = False
    ) -> None:
        """Count a changed task elsewhere. ``pairs``: its new labels, where it was replaced."""
        before = _may_be_claimed(old)
        old_topic = topic = self.topic(old.topic)
        if new.topic != old.topic:
            topic = self.keep(self.topic(new.topic))
            before = None
        if old_topic.labels or topic.labels or pairs:
            self.lanes.moved(old, old_topic, new, topic, pairs, early)
        self._forget_early(old.sequence, old.state)
        old_topic.add(old.state, old.scheduled, -1)
        topic.add(new.state, new.scheduled)
        if old_topic.limits is not None and (
            new.state != ACTIVE or topic is not old_topic or pairs is not None
        ):
            self._notify_freed(old_topic, old.state)
        self._notify(new, topic, before)

    def _notify_freed(self, topic: Topic, state: int) -> None:
        """Add the notification that a task in this state has left its place under the topic's limits."""
        limits = topic.limits
        assert limits is not None, "the caller has seen limits"
        per = limits.per
        ordered = per is not None and per.ordered
        is_counted = limits.concurrency is not None or (per is not None and per.concurrency is not None)
        if (state == ACTIVE and is_counted) or (state in (PENDING, ACTIVE) and ordered):
            topic.changed = True
            self.make_available(topic)

    def _notify(self, task: TaskRecord, topic: Topic, before: int | None) -> None:
        """Add the notification of a changed task. Before, it could be claimed from ``before`` on, if ever."""
        if task.state == PENDING:
            self.make_available(topic, task)
        elif task.state != ACTIVE:
            self.notifications.settled.append(task.id)
        else:
            assert task.deadline is not None, "an active task has a deadline"
            if before is None or task.deadline < before:
                self.make_available(topic)

    def make_available(self, topic: Topic, task: TaskRecord | None = None) -> None:
        """Add the notification that a claim may succeed; ``task``: because this task became pending."""
        topic.arrived = True
        self.notifications.add_available(topic.name, task)


def _may_be_claimed(task: TaskRecord) -> int | None:
    """From when on a task can be claimed if nothing else happens; ``None``: never."""
    if task.state == PENDING:
        return task.scheduled
    return task.deadline if task.state == ACTIVE else None


_TOPIC = (
    "SELECT topic, paused, pending, active, completed, archived, due, due_until, "
    "labels, limits, allowed, held FROM topics WHERE name = ?"
)
_NEW_TOPIC = "INSERT INTO topics VALUES (?, ?, 0, 0, 0, 0, 0, 0, 0, 0, 0, NULL, 0, 0)"
_MARK = "UPDATE topics SET labels = ?, limits = ?, allowed = ?, held = ? WHERE topic = ?"
_SETS = "paused = ?, pending = ?, active = ?, completed = ?, archived = ?, due = ?, due_until = ?"
_STORE = f"UPDATE topics SET {_SETS} WHERE topic = ?"
_STORE_ARRIVED = f"UPDATE topics SET {_SETS}, arrived = ? WHERE topic = ?"
_BY_IDS = {
    size: f"SELECT {COLUMNS} FROM tasks JOIN topics USING (topic) WHERE tasks.id IN ({', '.join('?' * size)})"
    for size in _LIST_SIZES
}
_NUMBERS_BETWEEN = "SELECT sequence FROM tasks WHERE sequence BETWEEN ? AND ?"
_UPDATES: dict[tuple[str, ...], str] = {}
