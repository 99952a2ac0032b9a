"""Pending tasks in the order of claiming: of a topic, of a label's value, of a lane."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import attrgetter

from ratus.core.records import TaskRecord
from ratus.core.times import MAX_TIME
from ratus_engines.memdb.ordered import ByTime

Random = Callable[[], float]

in_line = attrgetter("scheduled", "sequence")
"""The order of tasks of one priority."""


def _in_queue(task: TaskRecord) -> tuple[int, int, int]:
    return -task.priority, task.scheduled, task.sequence


class PendingTasks:
    """Pending tasks in the order of claiming: priority, then ``scheduled``, then creation.

    Each priority has an order of its own, so that tasks which are not due cannot stand before those which
    are: a claim looks at the heads of at most 19 priorities, whatever lies behind them. Tasks that were
    due when they were added are kept apart from later ones: they stay due even if the clock steps back.
    """

    __slots__ = ("_levels", "_order")

    def __init__(self) -> None:
        self._levels: dict[int, tuple[ByTime[TaskRecord], ByTime[TaskRecord]]] = {}
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

    def head_of(self, priority: int, now: int) -> TaskRecord | None:
        """The task of a priority to be claimed next, or ``None`` when none is due."""
        level = self._levels.get(priority)
        if level is None:
            return None
        first, other = level[0].first(), level[1].first()
        if other is None or other.scheduled > now:
            return first
        return other if first is None or in_line(other) < in_line(first) else first

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

    def next_after(self, now: int) -> int | None:
        """The earliest ``scheduled`` of the tasks that are not due, or ``None`` without one."""
        times = [later.first_after(now) for _, later in self._levels.values()]
        return min((time for time in times if time is not None), default=None)

    def was_due(self, task: TaskRecord) -> bool:
        """Whether a task of this line was due when it was added."""
        return self._levels[task.priority][0].has(task.scheduled, task)

    # ---- in another order, or several at once --------------------------------------------------------

    def priorities(self, now: int) -> list[int]:
        """The priorities of the tasks that are due, the highest first."""
        return [priority for priority, time in self.places(now) if time is None]

    def places(self, now: int) -> list[tuple[int, int | None]]:
        """Each priority with the time at which its first task falls due; ``None``: it is due already."""
        found: list[tuple[int, int | None]] = []
        for priority in self._order:
            due, later = self._levels[priority]
            if due.first() is not None:
                found.append((priority, None))
            elif (task := later.first()) is not None:
                found.append((priority, None if task.scheduled <= now else task.scheduled))
        return found

    def first(self, priority: int, order: str, count: int, now: int, random: Random) -> list[TaskRecord]:
        """Up to ``count`` due tasks of a priority in one of the orders of a `Selection`."""
        if order == "due" and count == 1:  # the usual case
            head = self.head_of(priority, now)
            return [] if head is None else [head]
        level = self._levels.get(priority)
        if level is None:
            return []
        due, later = level
        if order == "due":
            found = due.head(count, MAX_TIME)
            ripe = later.head(count, now)
            if found and ripe:
                return sorted(found + ripe, key=in_line)[:count]
        elif order == "newest":
            found = due.tail(count, MAX_TIME)
            ripe = later.tail(count, now)
            if found and ripe:
                return sorted(found + ripe, key=in_line, reverse=True)[:count]
        else:
            found = due.sample(count, MAX_TIME, random)
            ripe = later.sample(count, now, random)
            if found and ripe:
                return _mixed(found, ripe, random)[:count]
        return found or ripe


def _mixed(some: list[TaskRecord], others: list[TaskRecord], random: Random) -> list[TaskRecord]:
    """Two lists as one; which comes first is left to chance."""
    return some + others if random() < 0.5 else others + some


def first_of(
    lines: Iterable[PendingTasks], order: str, count: int, now: int, random: Random
) -> list[TaskRecord]:
    """Up to ``count`` due tasks of several lines in the order of claiming; each once."""
    if order == "due" and count == 1:  # the usual case
        heads = [head for line in lines if (head := line.head(now)) is not None]
        return heads if len(heads) <= 1 else [min(heads, key=_in_queue)]
    by_priority: dict[int, list[PendingTasks]] = {}
    for line in lines:
        for priority in line.priorities(now):
            by_priority.setdefault(priority, []).append(line)
    found: list[TaskRecord] = []
    for priority in sorted(by_priority, reverse=True):
        missing = count - len(found)
        parts = [line.first(priority, order, missing, now, random) for line in by_priority[priority]]
        tasks = parts[0]
        if len(parts) > 1:
            # A task with several of the values stands in several lines.
            tasks = list({task.sequence: task for part in parts for task in part}.values())
            if order == "random":
                at = int(random() * len(tasks))
                tasks = tasks[at:] + tasks[:at]
            else:
                tasks.sort(key=in_line, reverse=order == "newest")
        found += tasks[:missing]
        if len(found) == count:
            break
    return found
