"""The tasks of one topic, in every order that the engine needs."""

from __future__ import annotations

from ratus.core.records import ACTIVE, COMPLETED, PENDING, TaskRecord, TopicInfo
from ratus_engines.memdb.ordered import ByCreation, ByTime


class PendingTasks:
    """Pending tasks in the order of claiming: priority, then ``scheduled``, then creation.

    Each priority has an order of its own, so that tasks which are not due cannot stand before those which
    are: a claim looks at the heads of at most 19 priorities, whatever lies behind them. Tasks that were
    due when they were added are kept apart from later ones: they stay due even if the clock steps back.
    """

    __slots__ = ("_levels", "_order")

    def __init__(self) -> None:
        self._levels: dict[int, tuple[ByTime, ByTime]] = {}
        self._order: list[int] = []  # priorities that have had a task, the larger ones first

    def add(self, task: TaskRecord, now: int) -> None:
        level = self._levels.get(task.priority)
        if level is None:
            level = self._levels[task.priority] = (ByTime(), ByTime())
            self._order = sorted(self._levels, reverse=True)
        level[task.scheduled > now].add(task.scheduled, task)

    def remove(self, task: TaskRecord) -> None:
        due, later = self._levels[task.priority]
        if not due.discard(task.scheduled, task):
            later.remove(task.scheduled, task)

    def head(self, now: int) -> TaskRecord | None:
        """The task to be claimed next, or ``None`` when none is due."""
        for priority in self._order:
            due, later = self._levels[priority]
            first = due.first()
            other = later.first()
            if other is None or other.scheduled > now:
                if first is not None:
                    return first
            elif first is None or (other.scheduled, other.sequence) < (first.scheduled, first.sequence):
                return other
            else:
                return first
        return None

    def next_due(self) -> int | None:
        """The earliest ``scheduled``, which may have been reached already, or ``None`` without a task."""
        heads = [
            task.scheduled for level in self._levels.values() for part in level if (task := part.first())
        ]
        return min(heads, default=None)

    def due(self, now: int) -> tuple[int, int | None]:
        """How many tasks are due, and the earliest ``scheduled`` among them."""
        count, oldest = 0, None
        for due, later in self._levels.values():
            ripe = later.until(now)
            count += len(due) + ripe
            for part in (due, later) if ripe else (due,):
                task = part.first()
                if task is not None and (oldest is None or task.scheduled < oldest):
                    oldest = task.scheduled
        return count, oldest


class Topic:
    """One topic: its tasks by state in order of creation, and by what the chores and claims look for."""

    __slots__ = ("_committed", "by_state", "deadlines", "expiries", "name", "paused", "pending")

    def __init__(self, name: str, committed: ByTime) -> None:
        """``committed`` is the order of the completed tasks of all topics, by the time of their commit."""
        self.name = name
        self._committed = committed
        self.paused = False
        self.by_state: tuple[ByCreation, ...] = tuple(ByCreation() for _ in range(4))
        self.pending = PendingTasks()
        self.deadlines = ByTime()
        self.expiries = ByTime()

    def __len__(self) -> int:
        return sum(map(len, self.by_state))

    def attach(self, task: TaskRecord, now: int) -> None:
        """Add a task that is not in this topic yet to every order in which its state has a place."""
        state = task.state
        self.by_state[state].add(task)
        if state == PENDING:
            self.pending.add(task, now)
            if task.expires is not None:
                self.expiries.add(task.expires, task)
        elif state == ACTIVE:
            assert task.deadline is not None, "an active task has a deadline"
            self.deadlines.add(task.deadline, task)
        elif state == COMPLETED:
            assert task.committed is not None, "a completed task has the time of its commit"
            self._committed.add(task.committed, task)

    def detach(self, task: TaskRecord) -> None:
        """Remove a task from these orders. Its members must be as they were when it was attached."""
        state = task.state
        self.by_state[state].remove(task)
        if state == PENDING:
            self.pending.remove(task)
            if task.expires is not None:
                self.expiries.remove(task.expires, task)
        elif state == ACTIVE:
            assert task.deadline is not None, "an active task has a deadline"
            self.deadlines.remove(task.deadline, task)
        elif state == COMPLETED:
            assert task.committed is not None, "a completed task has the time of its commit"
            self._committed.remove(task.committed, task)

    def next_due(self) -> int | None:
        """The earliest time at which a claim may succeed; ``None`` when paused or without such a task."""
        if self.paused:
            return None
        pending = self.pending.next_due()
        task = self.deadlines.first()
        if task is None or task.deadline is None:
            return pending
        return task.deadline if pending is None else min(pending, task.deadline)

    def info(self, now: int) -> TopicInfo:
        """What the API answers about the topic."""
        due, oldest = self.pending.due(now)
        pending, active, completed, archived = map(len, self.by_state)
        return TopicInfo(self.name, (pending, active, completed, archived), due, oldest, self.paused)
