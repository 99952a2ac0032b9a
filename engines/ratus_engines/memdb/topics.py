"""The tasks of one topic, in every order that somebody asks for."""

from __future__ import annotations

from ratus.records import ACTIVE, PENDING, TaskRecord, TopicInfo
from ratus_engines.memdb.ordered import SortedMap

# Keys are a time and, in the low bits, the place in the order of creation: one integer compares faster
# than a tuple and takes half the memory. 40 bits hold a trillion tasks.
SEQUENCE_BITS = 40


def time_key(time: int, sequence: int) -> int:
    """A key that sorts by time, then by creation."""
    return time << SEQUENCE_BITS | sequence


class PendingTasks:
    """Pending tasks in the order of claiming: priority, then ``scheduled``, then creation.

    Each priority has an order of its own, so that tasks which are not due cannot stand before those which
    are: a claim looks at the heads of at most 19 priorities, whatever lies behind them. Tasks that were
    due when they came in are kept apart from later ones: they stay due even if the clock steps back.
    """

    __slots__ = ("_levels", "_order")

    def __init__(self) -> None:
        self._levels: dict[int, tuple[SortedMap[TaskRecord], SortedMap[TaskRecord]]] = {}
        self._order: list[int] = []  # priorities that have had a task, the larger ones first

    def add(self, task: TaskRecord, now: int) -> None:
        level = self._levels.get(task.priority)
        if level is None:
            level = self._levels[task.priority] = (SortedMap(), SortedMap())
            self._order = sorted(self._levels, reverse=True)
        level[task.scheduled > now].add(time_key(task.scheduled, task.sequence), task)

    def remove(self, task: TaskRecord) -> None:
        due, later = self._levels[task.priority]
        key = time_key(task.scheduled, task.sequence)
        try:
            due.remove(key)
        except KeyError:
            later.remove(key)

    def head(self, now: int) -> TaskRecord | None:
        """The task to be claimed next, or ``None`` when none is due."""
        for priority in self._order:
            due, later = self._levels[priority]
            first = due.first()
            other = later.first()
            if other is None or other.scheduled > now:
                if first is not None:
                    return first
            elif first is None or time_key(other.scheduled, other.sequence) < time_key(
                first.scheduled, first.sequence
            ):
                return other
            else:
                return first
        return None

    def next_due(self) -> int | None:
        """The earliest ``scheduled``, or ``None`` without a task. One that is due already may come first."""
        heads = [
            task.scheduled for level in self._levels.values() for part in level if (task := part.first())
        ]
        return min(heads, default=None)

    def due(self, now: int) -> tuple[int, int | None]:
        """How many tasks are due, and the earliest ``scheduled`` among them."""
        count, oldest = 0, None
        last = time_key(now + 1, 0)
        for due, later in self._levels.values():
            ripe = later.rank(last)
            count += len(due) + ripe
            for part in (due, later) if ripe else (due,):
                task = part.first()
                if task is not None and (oldest is None or task.scheduled < oldest):
                    oldest = task.scheduled
        return count, oldest


class Topic:
    """One topic: its tasks by state in order of creation, and by what the chores and claims look for."""

    __slots__ = ("by_state", "deadlines", "expiries", "name", "paused", "pending")

    def __init__(self, name: str) -> None:
        self.name = name
        self.paused = False
        self.by_state: tuple[SortedMap[TaskRecord], ...] = tuple(SortedMap() for _ in range(4))
        self.pending = PendingTasks()
        self.deadlines: SortedMap[TaskRecord] = SortedMap()
        self.expiries: SortedMap[TaskRecord] = SortedMap()

    def __len__(self) -> int:
        return sum(map(len, self.by_state))

    def attach(self, task: TaskRecord, now: int) -> None:
        """Put a task that is not in here under all orders its members call for."""
        state = task.state
        sequence = task.sequence
        self.by_state[state].add(sequence, task)
        if state == PENDING:
            self.pending.add(task, now)
            if task.expires is not None:
                self.expiries.add(time_key(task.expires, sequence), task)
        elif state == ACTIVE:
            assert task.deadline is not None, "an active task has a deadline"
            self.deadlines.add(time_key(task.deadline, sequence), task)

    def detach(self, task: TaskRecord) -> None:
        """Take a task out again. Its members must be as they were when it was attached."""
        state = task.state
        sequence = task.sequence
        self.by_state[state].remove(sequence)
        if state == PENDING:
            self.pending.remove(task)
            if task.expires is not None:
                self.expiries.remove(time_key(task.expires, sequence))
        elif state == ACTIVE:
            assert task.deadline is not None, "an active task has a deadline"
            self.deadlines.remove(time_key(task.deadline, sequence))

    def lapsed(self, now: int) -> TaskRecord | None:
        """The active task whose deadline passed first, or ``None``."""
        task = self.deadlines.first()
        return task if task is not None and task.deadline is not None and task.deadline <= now else None

    def expired(self, now: int) -> TaskRecord | None:
        """The pending task that expired first, or ``None``."""
        task = self.expiries.first()
        return task if task is not None and task.expires is not None and task.expires <= now else None

    def next_due(self) -> int | None:
        """When next a claim may succeed; ``None`` when paused or without pending and active tasks."""
        if self.paused:
            return None
        pending = self.pending.next_due()
        task = self.deadlines.first()
        if task is None or task.deadline is None:
            return pending
        return task.deadline if pending is None else min(pending, task.deadline)

    def info(self, now: int) -> TopicInfo:
        """What the api tells of the topic."""
        due, oldest = self.pending.due(now)
        pending, active, completed, archived = map(len, self.by_state)
        return TopicInfo(self.name, (pending, active, completed, archived), due, oldest, self.paused)
