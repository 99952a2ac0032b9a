"""Limits and turns: which task of a topic may be claimed, and which is claimed next.

`ratus.core.turns` decides what a limit allows and whose turn it is. Here it gets what it asks for, by looking
at all tasks of the topic.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from ratus.core import transitions, turns
from ratus.core.labels import first_value
from ratus.core.records import ACTIVE, PENDING, LaneInfo, TaskRecord
from ratus.core.selection import Selection, Where
from ratus.core.times import MAX_TIME
from ratus.core.turns import Closing, Reason
from ratus_engine_journal.step import Step

_BEHIND = Closing(Reason.ORDERED)
"""Why a due task may not be claimed from a lane that is open: it is not the first."""


class Lanes:
    """The lanes of one topic, as they are within a step."""

    def __init__(self, step: Step, topic: str) -> None:
        self._step = step
        self._topic = topic
        self._limits = step.state.limits(topic)
        self._per = None if self._limits is None else self._limits.per

    # ---- what is closed --------------------------------------------------------------------------

    def closing(self) -> Closing | None:
        """Why limits or a hold close the topic as a whole; ``None``: it is open."""
        lane = self._step.lane((self._topic, None, None))
        active = 0 if self._limits is None else len(self._step.of(self._topic, ACTIVE))
        return turns.closing(self._limits, active, lane.allowed, lane.held, self._step.now)

    def _closing_of(self, value: str | None) -> Closing | None:
        """Why a lane by the label of the limits is closed."""
        # Better: once for each change of a lane, not for each of its tasks in each claim.
        assert self._per is not None, "only such lanes have limits"
        lane = self._step.lane((self._topic, self._per.label, value))
        first = self._first_of(value)
        waits = None if first is None or self._step.is_due(first) else first.scheduled
        active = self._active(self._per.label)[value]
        return turns.closing_of_lane(self._per, value, active, waits, lane.allowed, lane.held, self._step.now)

    def _first_of(self, value: str | None) -> TaskRecord | None:
        """The first pending task of a lane by creation, before which none is claimed where it is ordered."""
        for task in self._step.of(self._topic, PENDING):
            if self._value(task) == value and not transitions.has_expired(task, self._step.now):
                return task
        return None

    def _stands_behind(self, task: TaskRecord) -> TaskRecord | None:
        """The task that has to be done or to expire before a pending one may be claimed, if there is one."""
        if self._per is None or not self._per.ordered or self._value(task) is None:
            return None
        first = self._first_of(self._value(task))
        return None if first is task else first

    def _value(self, task: TaskRecord) -> str | None:
        assert self._per is not None, "only such lanes have limits"
        return first_value(task.labels, self._per.label)

    def _active(self, label: str) -> Counter[str | None]:
        """How many tasks are active of each value of a label."""
        # Better: count them with every change.
        return Counter(first_value(task.labels, label) for task in self._step.of(self._topic, ACTIVE))

    # ---- claims ----------------------------------------------------------------------------------

    def line(self, where: Where | None) -> list[TaskRecord]:
        """The due tasks that match, in line. None of them has expired: the claim has archived those."""
        tasks = [
            task
            for task in self._step.of(self._topic, PENDING)
            if self._step.is_due(task) and (where is None or where.matches(task))
        ]
        return sorted(tasks, key=lambda task: (-task.priority, task.scheduled, task.sequence))

    def next(
        self, line: list[TaskRecord], selection: Selection, random: Callable[[], float]
    ) -> TaskRecord | None:
        """The task of a line that is claimed next; ``None``: limits let none be claimed."""
        tasks = self._open(line)
        tasks = [task for task in tasks if task.priority == tasks[0].priority]
        # Better: look at the first tasks only, as `turns.FIRST_TASKS` and `turns.WHERE_TASKS` permit.
        names = turns.names_in_turn(self._per, selection.prefer)
        if names:
            tasks = self._in_turn(tasks, names[0])
        if selection.order == "newest":
            tasks = sorted(tasks, key=lambda task: (task.scheduled, task.sequence), reverse=True)
        if selection.order == "random":
            at = int(random() * len(tasks))
            tasks = tasks[at:] + tasks[:at]
        for name in names[1:]:
            tasks = self._in_turn(tasks, name)
        return tasks[0] if tasks else None

    def _open(self, line: list[TaskRecord]) -> list[TaskRecord]:
        """The tasks that no limit closes."""
        if self.closing() is not None:
            return []
        if self._per is None:
            return line
        closed = {value: self._closing_of(value) is not None for value in set(map(self._value, line))}
        return [task for task in line if not closed[self._value(task)] and self._stands_behind(task) is None]

    def _in_turn(self, tasks: list[TaskRecord], label: str) -> list[TaskRecord]:
        """The tasks of the lane whose turn it is."""
        active = self._active(label)
        served = {lane.value: lane.served for lane in self._step.lanes_of(self._topic, label)}

        def value_of(task: TaskRecord) -> str | None:
            return first_value(task.labels, label)

        return turns.next_turn(tasks, value_of, lambda value: (active[value], served[value]))

    def refusal(self, line: list[TaskRecord]) -> Closing:
        """Why no task of a line may be claimed; of several reasons that which ends first."""
        closing = self.closing()
        if closing is not None:
            return closing
        closings = [self._closing_of(value) or _BEHIND for value in dict.fromkeys(map(self._value, line))]
        return min(closings, key=lambda each: turns.retry_at(each) or MAX_TIME)

    # ---- what is asked for -----------------------------------------------------------------------

    def next_due(self, where: Where | None) -> int | None:
        """When a pending task that matches may be claimed, unless that is notified before."""
        tasks = [t for t in self._step.of(self._topic, PENDING) if where is None or where.matches(t)]
        return min((time for task in tasks if (time := self._opens(task)) is not None), default=None)

    def _opens(self, task: TaskRecord) -> int | None:
        """When a pending task may be claimed; ``None``: that will be notified."""
        before = self._stands_behind(task)
        if before is not None:
            return before.expires
        closings = [self.closing()]
        if self._per is not None:
            closings.append(self._closing_of(self._value(task)))
        times = [task.scheduled]
        for closing in closings:
            if closing is not None:
                if closing.reopens is None:
                    return None
                times.append(closing.reopens)
        return max(times)

    def infos(self, label: str) -> list[LaneInfo]:
        """All lanes by a label that is in use, and those without tasks that are closed."""
        active = self._active(label)
        pending = Counter(first_value(task.labels, label) for task in self._step.of(self._topic, PENDING))
        is_limited = self._per is not None and self._per.label == label
        lanes = []
        for lane in self._step.lanes_of(self._topic, label):
            closed = self._closing_of(lane.value) if is_limited else None
            if lane.served or closed is not None:
                lanes.append(LaneInfo(lane.value, active[lane.value], pending[lane.value], closed))
        return sorted(lanes, key=lambda lane: (lane.value is None, lane.value or ""))
