"""Labels and lanes within a write transaction: which tasks have which labels, and the lanes they stand in.

Theory of operation. Every task's labels are rows of the table ``labels``, and those of pending tasks also of
``waiting``, in the order of claiming. A label that is *in use* (see the engine's contract) has lanes, too:
each lane is a row of ``lanes``, its pending tasks are rows of ``lines``. A lane's row says whether a task of
it can be claimed: ``priority`` is the highest of its due tasks, NULL where none is due or the lane is closed;
``wakes`` is when that has to be looked at again because a task falls due or a rate or hold ends. So a claim
finds the next lane by one look into an index, whatever else there is.

A lane is looked at anew (`Lanes.settle`) after each change of it, and where it sleeps, by the first claim
after ``wakes``. What a lane's row says was true at some moment; a claim finds out if it is not true at its
own, since the lane has no task for it then, and looks at the lane again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ratus.core import transitions, turns
from ratus.core.labels import Pair, pairs_of
from ratus.core.records import PENDING, TaskRecord
from ratus.core.turns import Limits, PerLabel, Reason

if TYPE_CHECKING:
    from ratus_engines.sqlite.transaction import Topic, Transaction

SLICE = 500
"""Tasks or lanes that are worked on in one transaction while lanes are built: a few milliseconds of work."""

LABELLED, IN_USE = 1, 2
"""Bits of ``topics.labels``: there were tasks with labels; labels are in use."""

WITHOUT: Final = b""
"""The value, in the database, of the lane of the tasks without the label: it sorts behind all texts."""

BEFORE_ALL: Final = -1
"""Sorts before every value of a lane."""

Value: TypeAlias = str | bytes
"""The value of a lane, `WITHOUT` for that of the tasks without the label."""


def value_of(pairs: Iterable[Pair], name: str) -> Value:
    """The value of the lane in which a task with these labels stands."""
    for pair in pairs:
        if pair[0] == name:
            return pair[1]
    return WITHOUT


class Label:
    """A label of a topic that is in use."""

    __slots__ = ("covered", "lanes", "name", "number", "renewed", "until")

    def __init__(
        self, number: int, name: str, lanes: int, covered: int, until: int, renewed: Value | int | None
    ) -> None:
        self.number = number
        self.name = name
        self.lanes = lanes
        self.covered = covered
        self.until = until
        self.renewed = renewed

    @property
    def built(self) -> bool:
        """Whether all tasks are in lanes, and all lanes know the limits."""
        return self.covered >= self.until and self.renewed is None

    def covers(self, sequence: int) -> bool:
        """Whether the task with this number is in a lane already."""
        return sequence <= self.covered or sequence > self.until


class Lane:
    """A lane, as its row in the database (see the schema) with the changes of this transaction.

    ``stored``: it has a row; ``stale``: it has to be looked at before the next claim.
    """

    __slots__ = (
        "active",
        "allowed",
        "held",
        "label",
        "number",
        "pending",
        "priority",
        "served",
        "shut",
        "stale",
        "stored",
        "topic",
        "value",
        "wakes",
    )

    def __init__(self, topic: Topic, label: Label, number: int, value: Value, *row: Any) -> None:
        self.topic = topic
        self.label = label
        self.number = number
        self.value = value
        self.active: int
        self.pending: int
        self.served: int
        self.allowed: int
        self.held: int
        self.priority: int | None
        self.wakes: int | None
        self.shut: int
        (
            self.active,
            self.pending,
            self.served,
            self.allowed,
            self.held,
            self.priority,
            self.wakes,
            self.shut,
        ) = row
        self.stored = True
        self.stale = False

    @property
    def per(self) -> PerLabel | None:
        """The limits of this lane."""
        return per_of(self.topic.limits, self.label.name)

    @property
    def is_ordered(self) -> bool:
        per = self.per
        return per is not None and per.ordered and self.value != WITHOUT

    def closing(self, now: int) -> turns.Closing | None:
        """Why the lane is closed, apart from a head that is not due in an ordered lane."""
        closed = turns.closing(self.per, self.active, self.allowed, self.held, now)
        if self.active and self.is_ordered and (closed is None or closed.reason is not Reason.CONCURRENCY):
            return turns.Closing(Reason.ORDERED)
        return closed


def per_of(limits: Limits | None, name: str) -> PerLabel | None:
    """The limits of lanes by this label."""
    per = None if limits is None else limits.per
    return per if per is not None and per.label == name else None


class Lanes:
    """The labels and lanes of all topics within one transaction. `settle` writes what changed of lanes."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction
        self._lanes: dict[tuple[int, Value], Lane | None] = {}
        self._by_number: dict[int, Lane] = {}
        self._changed: dict[int, Lane] = {}  # by number: to be written
        self._labels: dict[int, tuple[Topic, Label]] = {}  # by number: to be written
        self._any_times: bool | None = None

    # ---- changes of tasks ------------------------------------------------------------------------

    def pairs(self, topic: Topic, sequence: int) -> Sequence[Pair]:
        """The labels of a task that is stored in this topic."""
        if not topic.labels & LABELLED:
            return ()
        return self._transaction.read(PAIRS, (sequence,))

    def inserted(self, tasks: Iterable[tuple[TaskRecord, Topic]]) -> None:
        """Note new tasks, in this order."""
        labels: list[Sequence[Any]] = []
        waiting: list[Sequence[Any]] = []
        for task, topic in tasks:
            pairs = pairs_of(task.labels)
            if pairs:
                labels += self._label_rows(topic, task.sequence, pairs)
                if task.state == PENDING:
                    waiting += _waiting_rows(topic, task, pairs, 0)
            self._join(topic, task, pairs, 0, task.sequence)
        for row in labels:
            self._transaction.write(_ADD_LABEL, row)
        for row in waiting:
            self._transaction.write(_ADD_WAITING, row)

    def moved(
        self,
        old: TaskRecord,
        old_topic: Topic,
        new: TaskRecord,
        new_topic: Topic,
        pairs: Sequence[Pair] | None,
        early: int,
    ) -> None:
        """Note a change of a task. ``pairs``: the new labels, where the task was replaced."""
        if old.state == new.state != PENDING and pairs is None and old_topic is new_topic:
            return
        before = self.pairs(old_topic, old.sequence)
        after = before if pairs is None else pairs
        write = self._transaction.write
        if old_topic is not new_topic or before != list(after):
            if before:
                write(_REMOVE_LABELS, (old.sequence,))
            for row in self._label_rows(new_topic, old.sequence, after):
                write(_ADD_LABEL, row)
        left = self._leave(old_topic, before, old)
        if new.state == PENDING:
            for row in _waiting_rows(new_topic, new, after, early):
                write(_ADD_WAITING, row)
        self._join(new_topic, new, after, early, None)
        self._forget_empty(left)

    def deleted(self, topic: Topic, sequence: int, state: int, priority: int, scheduled: int) -> None:
        """Note that a task is deleted."""
        pairs = self.pairs(topic, sequence)
        if pairs:
            self._transaction.write(_REMOVE_LABELS, (sequence,))
        task = TaskRecord("", "", 0, scheduled, state=state, priority=priority, sequence=sequence)
        self._forget_empty(self._leave(topic, pairs, task))

    def marked_early(self, topic: Topic, sequence: int, priority: int, scheduled: int, early: int) -> None:
        """Note that a pending task is due whatever the clock says (1), or no longer (0)."""
        write = self._transaction.write
        pairs = self.pairs(topic, sequence)
        place = (priority, 1 - early, scheduled, sequence)
        for name, value in pairs:
            write(_MARK_WAITING, (early, topic.number, name, value, *place))
        for label in self.in_use(topic).values():
            lane = self.lane(topic, label, value_of(pairs, label.name)) if label.covers(sequence) else None
            if lane is not None:
                write(_MARK_LINE, (early, lane.number, *place))
                self._touch(lane, stale=True)

    def _label_rows(self, topic: Topic, sequence: int, pairs: Sequence[Pair]) -> list[Sequence[Any]]:
        if pairs and not topic.labels & LABELLED:
            topic.labels |= LABELLED
            topic.changed = topic.marked = True
        return [(sequence, place, topic.number, *pair) for place, pair in enumerate(pairs)]

    def _leave(self, topic: Topic, pairs: Sequence[Pair], task: TaskRecord) -> list[Lane]:
        """Take a task out of its lanes, which are returned, and of ``waiting``."""
        transaction = self._transaction
        place = (task.priority, task.scheduled, task.sequence)
        if task.state == PENDING and pairs:
            remove = _REMOVE_WAITING_EARLY if transaction.has_early else _REMOVE_WAITING
            for pair in pairs:
                transaction.write(remove, (topic.number, *pair, *place))
        left: list[Lane] = []
        if not transitions.stands_in_line(task):
            return left
        for label in self.in_use(topic).values():
            if not label.covers(task.sequence):
                continue
            lane = self.lane(topic, label, value_of(pairs, label.name))
            assert lane is not None, "a pending or active task that is covered stands in a lane"
            if task.state == PENDING:
                lane.pending -= 1
                remove = _REMOVE_LINE_EARLY if transaction.has_early else _REMOVE_LINE
                transaction.write(remove, (lane.number, *place))
                first = lane.priority is None or lane.is_ordered or task.priority >= lane.priority
                self._touch(lane, stale=first)
            else:
                lane.active -= 1
                self._touch(lane, stale=lane.per is not None)
            left.append(lane)
        return left

    def _join(
        self, topic: Topic, task: TaskRecord, pairs: Sequence[Pair], early: int, number: int | None
    ) -> None:
        """Put a task into its lanes. A new lane counts as served at ``number``, ``None``: a new number."""
        if not topic.labels & IN_USE or not transitions.stands_in_line(task):
            return
        for label in self.in_use(topic).values():
            if label.covers(task.sequence):
                self._join_lane(topic, label, value_of(pairs, label.name), task, early, number)

    def _join_lane(
        self, topic: Topic, label: Label, value: Value, task: TaskRecord, early: int, number: int | None
    ) -> Lane:
        lane = self.lane(topic, label, value) or self._new_lane(topic, label, value, number)
        if task.state == PENDING:
            lane.pending += 1
            row = (lane.number, task.priority, early, task.scheduled, task.sequence)
            self._transaction.write(_ADD_LINE, row)
            first = lane.priority is None or lane.is_ordered or task.priority > lane.priority
            self._touch(lane, stale=first)
        else:
            lane.active += 1
            self._touch(lane, stale=lane.per is not None)
        return lane

    # ---- lanes -----------------------------------------------------------------------------------

    def lane(self, topic: Topic, label: Label, value: Value) -> Lane | None:
        """The lane of a label with this value, where there is one."""
        key = (label.number, value)
        if key not in self._lanes:
            rows = self._transaction.peek(LANE, key)
            self._lanes[key] = None
            if rows:
                self._add(Lane(topic, label, rows[0][0], value, *rows[0][2:]))
        return self._lanes[key]

    def of_row(self, topic: Topic, label: Label, row: Sequence[Any]) -> Lane:
        """The lane of a row that was found otherwise; with what this transaction has changed of it."""
        lane = self._by_number.get(row[0])
        return lane or self._add(Lane(topic, label, *row))

    def _add(self, lane: Lane) -> Lane:
        self._lanes[lane.label.number, lane.value] = lane
        self._by_number[lane.number] = lane
        return lane

    def _new_lane(self, topic: Topic, label: Label, value: Value, number: int | None) -> Lane:
        fresh = self._transaction.next_number()
        lane = Lane(
            topic, label, fresh, value, 0, 0, fresh if number is None else number, 0, 0, None, None, 0
        )
        lane.allowed, lane.held = self.take_times(topic.name, label.name, value)
        lane.stored = False
        lane.stale = True
        label.lanes += 1
        self._labels[label.number] = (topic, label)
        return self._add(lane)

    def _touch(self, lane: Lane, *, stale: bool) -> None:
        lane.stale |= stale
        self._changed[lane.number] = lane

    def _forget_empty(self, lanes: Iterable[Lane]) -> None:
        for lane in lanes:
            if lane.pending or lane.active or self._lanes[lane.label.number, lane.value] is not lane:
                continue
            self._lanes[lane.label.number, lane.value] = None
            del self._by_number[lane.number]
            self._changed.pop(lane.number, None)
            if lane.stored:
                self._transaction.write("DELETE FROM lanes WHERE lane = ?", (lane.number,))
            self.put_times(lane.topic.name, lane.label.name, lane.value, lane.allowed, lane.held)
            lane.label.lanes -= 1
            self._labels[lane.label.number] = (lane.topic, lane.label)

    def settle(self, now: int) -> None:
        """Look at every lane that changed, and write what is known of them, so that queries find it."""
        changed, self._changed = self._changed, {}
        for lane in changed.values():
            if lane.stale:
                self.look_at(lane, now)
            counts = (lane.active, lane.pending, lane.served, lane.allowed, lane.held)
            state = (*counts, lane.priority, lane.wakes, lane.shut)
            if lane.stored:
                self._transaction.write(_STORE_LANE, (*state, lane.number))
            else:
                lane.stored = True
                self._transaction.write(_NEW_LANE, (lane.number, lane.label.number, lane.value, *state))

    def finish(self, now: int) -> None:
        """Write all that is left. To be called once, last."""
        self.settle(now)
        for topic, label in self._labels.values():
            values = (label.lanes, label.covered, label.until, label.renewed, label.built, label.number)
            self._transaction.write(_STORE_LABEL, values)
            if not label.built:
                self._transaction.notifications.building.add(topic.name)

    def look_at(self, lane: Lane, now: int) -> None:
        """Find out whether a task of the lane can be claimed, and when to look again."""
        lane.stale = False
        lane.priority = lane.wakes = None
        lane.shut = 0
        if not lane.pending:
            return
        closed = lane.closing(now)
        if closed is not None and closed.reopens is None:
            return
        lane.priority, lane.wakes = self._first_of(lane, now)
        if closed is not None and lane.priority is not None:
            lane.priority, lane.wakes, lane.shut = None, closed.reopens, 1

    def _first_of(self, lane: Lane, now: int) -> tuple[int | None, int | None]:
        """The highest priority of the lane's due tasks, and when that may become another."""
        if lane.is_ordered:
            ((_, priority, early, scheduled, expires),) = self._transaction.read(
                FIRST_CREATED, (lane.number,)
            )
            # An expired head counts as due: the claim that finds it archives it, and the next one comes.
            due = 0 if early else scheduled if expires is None else min(scheduled, expires)
            return (priority, None) if due <= now else (None, due)
        wakes: int | None = None
        rows = self._transaction.read(_FIRST_IN_LINE, (lane.number,))
        while rows:
            ((priority, early, scheduled),) = rows
            if early or scheduled <= now:
                return priority, wakes
            wakes = scheduled if wakes is None else min(wakes, scheduled)
            rows = self._transaction.read(_NEXT_IN_LINE, (lane.number, priority))
        return None, wakes

    def look_again(self, lane: Lane) -> None:
        """Let the next `settle` look at a lane that has not changed."""
        self._touch(lane, stale=True)

    def wake(self, topic: Topic, label: Label, now: int, most: int) -> int:
        """Look at up to ``most`` lanes that have to be looked at by ``now``. Returns how many there were."""
        rows = self._transaction.read(_SLEEPING, (label.number, now, most))
        for row in rows:
            self._touch(self.of_row(topic, label, row), stale=True)
        if rows:
            self.settle(now)
        return len(rows)

    # ---- limits ----------------------------------------------------------------------------------

    def claimed(self, topic: Topic, sequence: int, now: int) -> None:
        """Note that this task was claimed, after its change: its lanes are served, and rates count it."""
        limits = topic.limits
        if limits is not None and limits.rate is not None:
            topic.allowed = turns.claimed(limits.rate, topic.allowed, now)
            topic.changed = topic.marked = True
        if not topic.labels & IN_USE:
            return
        pairs = self.pairs(topic, sequence)
        for label in self.in_use(topic).values():
            per = per_of(limits, label.name)
            rate = None if per is None else per.rate
            value = value_of(pairs, label.name)
            lane = self.lane(topic, label, value)
            if lane is not None:
                if label.covers(sequence):
                    lane.served = self._transaction.next_number()
                if rate is not None:
                    lane.allowed = turns.claimed(rate, lane.allowed, now)
                self._touch(lane, stale=rate is not None)
            elif rate is not None:
                allowed, held = self.take_times(topic.name, label.name, value)
                allowed = turns.claimed(rate, allowed, now)
                self.put_times(topic.name, label.name, value, allowed, held)

    def hold(self, topic: Topic, sequence: int, until: int) -> None:
        """Hand out nothing more, until this time, of what this task was claimed from."""
        per = None if topic.limits is None else topic.limits.per
        if per is None:
            if until > topic.held:
                topic.held = until
                topic.changed = topic.marked = True
            return
        label = self.in_use(topic)[per.label]
        value = value_of(self.pairs(topic, sequence), per.label)
        lane = self.lane(topic, label, value)
        if lane is not None:
            lane.held = max(lane.held, until)
            self._touch(lane, stale=True)
        else:
            allowed, held = self.take_times(topic.name, per.label, value)
            self.put_times(topic.name, per.label, value, allowed, max(held, until))

    def bound_rates(self, after: int, now: int, most: int) -> int | None:
        """After the clock was set back: let no rate close a lane for longer than a burst takes.

        Looks at up to ``most`` lanes with numbers behind one.
        Returns the number behind which the next slice begins, or ``None`` at the end.
        """
        transaction = self._transaction
        rows = transaction.read(_LANES_OF_ANY, (after, most))
        for name, label, *row in rows:
            topic = transaction.topic(name)
            lane = self.of_row(topic, self.in_use(topic)[label], row)
            per = lane.per
            if per is not None and per.rate is not None and lane.allowed > now:
                lane.allowed = turns.bounded(per.rate, lane.allowed, now)
                self._touch(lane, stale=True)
                topic.changed = True
                transaction.make_available(topic)
        return rows[-1][2] if len(rows) == most else None

    def lift_holds(self, topic: Topic, most: int) -> int:
        """End holds of lanes of a topic, up to ``most``. Returns how many."""
        lifted = 0
        for label in self.in_use(topic).values():
            rows = self._transaction.read(_HELD, (label.number, most - lifted))
            for row in rows:
                lane = self.of_row(topic, label, row)
                lane.held = 0
                self._touch(lane, stale=True)
            lifted += len(rows)
        return lifted

    def take_times(self, topic: str, label: str, value: Value) -> tuple[int, int]:
        """The times of rate and hold that are remembered of a lane or topic; from now on they are not."""
        if self._any_times is None:
            self._any_times = bool(self._transaction.peek(_ANY_TIMES))
        if self._any_times:
            rows = self._transaction.read(_TIMES, (topic, label, value))
            if rows:
                self._transaction.write(_REMOVE_TIMES, (topic, label, value))
                return rows[0][0], rows[0][1]
        return 0, 0

    def put_times(self, topic: str, label: str, value: Value, allowed: int, held: int) -> None:
        """Remember times of rate and hold of a lane or topic that has no row, unless they have passed."""
        ends = max(allowed, held)
        if ends > self._transaction.now:
            self._any_times = True
            self._transaction.write(_ADD_TIMES, (topic, label, value, allowed, held, ends))

    # ---- labels in use ---------------------------------------------------------------------------

    def in_use(self, topic: Topic) -> dict[str, Label]:
        """The topic's labels in use, by name."""
        if topic.in_use is None:
            topic.in_use = {}
            if topic.labels & IN_USE:
                for row in self._transaction.peek(_IN_USE, (topic.number,)):
                    label = Label(*row)
                    topic.in_use[label.name] = label
        return topic.in_use

    def use(self, topic: Topic, name: str) -> Label:
        """Take a label of a topic (which has a row) into use, unless it is. It may have to be built yet."""
        labels = self.in_use(topic)
        label = labels.get(name)
        if label is None:
            number = self._transaction.next_number()
            label = labels[name] = Label(number, name, 0, 0, number, None)
            self._labels[number] = (topic, label)
            self._transaction.write(_NEW_LABEL, (number, topic.number, name, number))
            topic.labels |= IN_USE
            topic.changed = topic.marked = True
            self.build(topic, label)
        elif not label.built:
            self._transaction.notifications.building.add(topic.name)
        return label

    def renew(self, topic: Topic, label: Label) -> None:
        """The limits of the lanes by this label have changed: look at each. It may have to be built yet."""
        label.renewed = BEFORE_ALL
        self.build(topic, label)

    def build(self, topic: Topic, label: Label) -> None:
        """Do a slice of what is left to be built."""
        self._labels[label.number] = (topic, label)
        left = self._cover(topic, label)
        if left and label.renewed is not None:
            rows = self._transaction.read(_LANES_BEHIND, (label.number, label.renewed, left))
            for row in rows:
                self._touch(self.of_row(topic, label, row), stale=True)
            label.renewed = rows[-1][1] if len(rows) == left else None
        if label.built:
            self._transaction.make_available(topic)

    def _cover(self, topic: Topic, label: Label) -> int:
        """Put a slice of tasks into lanes. Returns how much of the slice is left."""
        if label.covered >= label.until:
            return SLICE
        transaction = self._transaction
        rows = transaction.read(_STANDING, (topic.number, label.covered, label.until, SLICE))
        for (sequence,) in rows:
            ((state, priority, scheduled, value, early),) = transaction.read(_STANDS, (label.name, sequence))
            task = TaskRecord("", "", 0, scheduled, state=state, priority=priority, sequence=sequence)
            value = WITHOUT if value is None else value
            lane = self._join_lane(topic, label, value, task, 0 if early is None else 1, sequence)
            # A task that came meanwhile may have made the lane; tasks come in order, so this counts once.
            lane.served = min(lane.served, sequence) if lane.served > label.until else lane.served
        label.covered = rows[-1][0] if len(rows) == SLICE else label.until
        return SLICE - len(rows)


def _waiting_rows(topic: Topic, task: TaskRecord, pairs: Sequence[Pair], early: int) -> list[Sequence[Any]]:
    firsts: dict[str, None] = {}
    rows: list[Sequence[Any]] = []
    for name, value in pairs:
        place = (task.priority, early, task.scheduled, task.sequence)
        rows.append((topic.number, name, value, *place, name not in firsts))
        firsts[name] = None
    return rows


PAIRS = "SELECT name, value FROM labels WHERE sequence = ? ORDER BY place"
_ADD_LABEL = "INSERT INTO labels VALUES (?, ?, ?, ?, ?)"
_REMOVE_LABELS = "DELETE FROM labels WHERE sequence = ?"

_ADD_WAITING = "INSERT INTO waiting VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_OF_WAITING = "topic = ? AND name = ? AND value = ? AND priority = ?"
_REMOVE_WAITING = f"DELETE FROM waiting WHERE {_OF_WAITING} AND early = 0 AND scheduled = ? AND sequence = ?"
_REMOVE_WAITING_EARLY = (
    f"DELETE FROM waiting WHERE {_OF_WAITING} AND early IN (0, 1) AND scheduled = ? AND sequence = ?"
)
_MARK_WAITING = (
    f"UPDATE waiting SET early = ? WHERE {_OF_WAITING} AND early = ? AND scheduled = ? AND sequence = ?"
)

_ADD_LINE = "INSERT INTO lines VALUES (?, ?, ?, ?, ?)"
_REMOVE_LINE = (
    "DELETE FROM lines WHERE lane = ? AND priority = ? AND early = 0 AND scheduled = ? AND sequence = ?"
)
_REMOVE_LINE_EARLY = (
    "DELETE FROM lines WHERE lane = ? AND priority = ? AND early IN (0, 1) AND scheduled = ? AND sequence = ?"
)
_MARK_LINE = (
    "UPDATE lines SET early = ? "
    "WHERE lane = ? AND priority = ? AND early = ? AND scheduled = ? AND sequence = ?"
)
_FIRST_IN_LINE = (
    "SELECT priority, early, scheduled FROM lines WHERE lane = ? "
    "ORDER BY priority DESC, early DESC, scheduled, sequence LIMIT 1"
)
_NEXT_IN_LINE = (
    "SELECT priority, early, scheduled FROM lines WHERE lane = ? AND priority < ? "
    "ORDER BY priority DESC, early DESC, scheduled, sequence LIMIT 1"
)
FIRST_CREATED = (
    "SELECT lines.sequence, lines.priority, early, lines.scheduled, expires "
    "FROM lines INDEXED BY lines_created CROSS JOIN tasks ON tasks.sequence = lines.sequence "
    "WHERE lane = ? ORDER BY lines.sequence LIMIT 1"
)
"""The first task of a lane by creation."""

_LANE = "lane, value, active, pending, served, allowed, held, priority, wakes, shut"
LANE = f"SELECT {_LANE} FROM lanes WHERE label = ? AND value = ?"
"""The lane of a label with a value."""
_NEW_LANE = "INSERT INTO lanes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_STORE_LANE = (
    "UPDATE lanes SET active = ?, pending = ?, served = ?, allowed = ?, held = ?, priority = ?, wakes = ?, "
    "shut = ? WHERE lane = ?"
)
_SLEEPING = (
    f"SELECT {_LANE} FROM lanes INDEXED BY lanes_sleeping WHERE label = ? AND wakes IS NOT NULL "
    "AND wakes <= ? ORDER BY wakes LIMIT ?"
)
READY = (
    f"SELECT {_LANE} FROM lanes INDEXED BY lanes_ready WHERE label = ? AND priority IS NOT NULL "
    "ORDER BY priority DESC, active, served LIMIT 1"
)
"""The lane of a label whose turn it is."""
SHUT = f"SELECT {_LANE} FROM lanes INDEXED BY lanes_shut WHERE label = ? AND shut ORDER BY wakes LIMIT 1"
"""The lane of a label that reopens first of those with a due task that a rate or a hold closes."""
_HELD = f"SELECT {_LANE} FROM lanes INDEXED BY lanes_held WHERE label = ? AND held > 0 LIMIT ?"
_LANES_OF_ANY = (
    "SELECT topics.name, labels_in_use.name, lane, value, lanes.active, lanes.pending, served, "
    "lanes.allowed, lanes.held, priority, wakes, shut "
    "FROM lanes CROSS JOIN labels_in_use USING (label) CROSS JOIN topics USING (topic) "
    "WHERE lane > ? ORDER BY lane LIMIT ?"
)
_LANES_BEHIND = f"SELECT {_LANE} FROM lanes WHERE label = ? AND value > ? ORDER BY value LIMIT ?"

_ANY_TIMES = "SELECT ends FROM times ORDER BY ends LIMIT 1"
_TIMES = "SELECT allowed, held FROM times WHERE topic = ? AND label = ? AND value = ?"
_REMOVE_TIMES = "DELETE FROM times WHERE topic = ? AND label = ? AND value = ?"
_ADD_TIMES = "INSERT OR REPLACE INTO times VALUES (?, ?, ?, ?, ?, ?)"

_IN_USE = "SELECT label, name, lanes, covered, until, renewed FROM labels_in_use WHERE topic = ?"
_NEW_LABEL = "INSERT INTO labels_in_use VALUES (?, ?, ?, 0, 0, ?, NULL, 0)"
_STORE_LABEL = (
    "UPDATE labels_in_use SET lanes = ?, covered = ?, until = ?, renewed = ?, built = ? WHERE label = ?"
)
_OF_STATE = (
    "SELECT sequence FROM tasks INDEXED BY tasks_listed "
    "WHERE topic = ?1 AND state = {} AND sequence > ?2 AND sequence <= ?3"
)
_STANDING = f"{_OF_STATE.format(0)} UNION ALL {_OF_STATE.format(1)} ORDER BY sequence LIMIT ?4"
_STANDS = (
    "SELECT state, priority, scheduled, "
    "(SELECT value FROM labels WHERE labels.sequence = tasks.sequence AND name = ?1 ORDER BY place LIMIT 1), "
    "(SELECT sequence FROM early WHERE early.sequence = tasks.sequence) "
    "FROM tasks WHERE sequence = ?2"
)
