"""The tasks of one topic, in every order that the engine needs."""

from __future__ import annotations

from ratus.core.records import ACTIVE, COMPLETED, PENDING, TaskRecord, TopicInfo
from ratus.core.selection import Where
from ratus.core.turns import Closing, Limits, Reason
from ratus_engines.memdb.labels import LabelIndex
from ratus_engines.memdb.ordered import ByCreation, ByTime
from ratus_engines.memdb.pending import PendingTasks


class Topic:
    """One topic: its tasks by state in order of creation, and by what the chores and claims look for.

    One with labelled tasks, labels in use, limits or holds is a `LabelledTopic`, so that another pays for
    nothing of these. ``is_special``: claims have to regard labels in use, limits or holds.
    """

    __slots__ = ("_committed", "by_state", "deadlines", "expiries", "is_special", "name", "paused", "pending")

    index: LabelIndex | None = None
    limits: Limits | None = None

    def __init__(self, name: str, committed: ByTime[TaskRecord]) -> None:
        """``committed`` is the order of the completed tasks of all topics, by the time of their commit."""
        self.name = name
        self._committed = committed
        self.paused = False
        self.is_special = False
        self.by_state: tuple[ByCreation[TaskRecord], ...] = tuple(ByCreation() for _ in range(4))
        self.pending = PendingTasks()
        self.deadlines: ByTime[TaskRecord] = ByTime()
        self.expiries: ByTime[TaskRecord] = ByTime()

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

    def detach(self, task: TaskRecord) -> bool:
        """Remove a task from these orders. Its members must be as they were when it was attached.

        Returns whether `LabelledTopic.settle` is to be called once the change as a whole has been made.
        """
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
        return False

    def next_due(self, now: int, where: Where | None) -> int | None:
        """The earliest time at which a claim may succeed, as `Engine.next_due` says."""
        if self.paused:
            return None
        pending = self._next_pending(now, where)
        task = self.deadlines.first()
        if task is None or task.deadline is None:
            return pending
        return task.deadline if pending is None else min(pending, task.deadline)

    def _next_pending(self, now: int, where: Where | None) -> int | None:
        """When a pending task (that matches) may be claimed; ``None``: a notification will say so."""
        return self.pending.next_due() if where is None else None

    def closing(self, now: int) -> Closing | None:
        """Why the topic as a whole hands out nothing; ``None``: it is open."""
        return Closing(Reason.PAUSED) if self.paused else None

    def info(self, now: int) -> TopicInfo:
        """What the API answers about the topic."""
        due, oldest = self.pending.due(now)
        pending, active, completed, archived = map(len, self.by_state)
        counts = (pending, active, completed, archived)
        closed = self.closing(now)
        return TopicInfo(self.name, counts, due, oldest, self.paused, self.limits, closed, self.count_lanes())

    def count_lanes(self) -> int:
        """The number of lanes, of all labels in use together."""
        return 0
