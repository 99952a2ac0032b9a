"""Which task a claim gets next, where it chooses or the topic has labels in use, limits or holds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from ratus.core import turns
from ratus.core.labels import first_value
from ratus.core.records import TaskRecord
from ratus.core.selection import Selection
from ratus.core.transitions import has_expired
from ratus.core.turns import FIRST_TASKS, WHERE_TASKS, Closing, Reason
from ratus_engines.memdb.labelled import LabelledTopic
from ratus_engines.memdb.lanes import Lane, Lanes, OneByOne
from ratus_engines.memdb.pending import Random, first_of, in_line
from ratus_engines.memdb.topics import Topic


class Choice:
    """The choice of one claim in one topic. The labels that it prefers are in use.

    ``unfinished``: no task was found, but more lanes have to be looked at first. ``looked`` counts the tasks
    that were looked at because of ``where``.
    """

    __slots__ = ("_closings", "_names", "_only", "_random", "_selection", "_topic", "looked", "unfinished")

    def __init__(self, topic: Topic, selection: Selection, now: int, random: Random) -> None:
        self._topic = topic
        self._selection = selection
        self._random = random
        self._closings: Sequence[Closing] = ()  # of lanes with due tasks that match
        self._names: tuple[str, ...] = ()
        self._only: Lanes | None = None  # the lanes of the only name, where nothing else is chosen
        self.unfinished = False
        self.looked = 0
        if isinstance(topic, LabelledTopic) and topic.is_special:
            if topic.has_times:
                topic.forget_times(now)
            names = selection.prefer
            if topic.per is not None:
                names = turns.names_in_turn(topic.per, names) if names else (topic.per.label,)
            for at, name in enumerate(names):
                if not topic.lanes[name].is_built:
                    names = names[:at]  # until they are built, tasks go in line
                    break
            self._names = names
            if len(names) == 1 and selection.where is None and selection.order == "due":
                self._only = topic.lanes[names[0]]

    def next(self, now: int) -> TaskRecord | None:
        """The task to be claimed next. One that has expired is to be archived first, and asked again."""
        topic = self._topic
        if not isinstance(topic, LabelledTopic) or not topic.is_special:
            return _first(self._in_line(now, 1))
        if self._only is not None and not topic.may_close:  # the usual case
            task = self._only.next_head(now)
            if task is not None:
                return task
        if topic.closing(now) is None:
            tasks = self._in_turn(topic, now) if self._names else self._in_line(now, 1)
            if tasks or self.unfinished:
                return _first(tasks)
        # What a limit closes does not keep expired tasks from being archived.
        task = _first(self._in_line(now, 1))
        return task if task is not None and has_expired(task, now) else self._expired_in_closed(topic, now)

    def _in_line(self, now: int, count: int) -> list[TaskRecord]:
        """The first due tasks that match, in the order chosen."""
        topic, where, order = self._topic, self._selection.where, self._selection.order
        if where is None:
            return first_of((topic.pending,), order, count, now, self._random)
        if topic.index is None:
            return []
        lines = topic.index.pending(where.label, where.values)
        return first_of(lines, order, count, now, self._random)

    def _in_turn(self, topic: LabelledTopic, now: int) -> list[TaskRecord]:
        """The tasks of those whose turn it is, by every name, in the order chosen."""
        names = self._names
        lanes = topic.lanes[names[0]]
        count = 1 if len(names) == 1 else FIRST_TASKS
        if self._selection.where is None:
            found = lanes.next_turn(self._selection.order, count, now, self._random)
            if found is None:
                self.unfinished = True
                return []
            tasks = found
        else:
            tasks = self._matching(topic, lanes, count, now)
        for name in names[1:]:
            tasks = turns.next_turn(tasks, partial(_value, name), topic.lanes[name].standing)
        return tasks

    def _matching(self, topic: LabelledTopic, lanes: Lanes, count: int, now: int) -> list[TaskRecord]:
        """Up to ``count`` due tasks that match of the lane whose turn it is among theirs."""
        where = self._selection.where
        assert where is not None, "without it, all tasks match"
        self._closings = found_closed = list[Closing]()
        own: tuple[str | None, ...] = where.values if where.label == lanes.label else ()
        # By turn: the lane, with its tasks where not all of them match.
        found: dict[tuple[int, int, int], tuple[Lane, list[TaskRecord] | None]] = {}
        for value in own:
            lane = lanes.by_value.get(value)
            if lane is not None and (priorities := lane.line.priorities(now)):
                closing = lanes.closing_of(lane, now)
                if closing is None:
                    found[-priorities[0], lane.active, lane.sequence] = lane, None
                    continue
                (head,) = lane.line.first(priorities[0], "due", 1, now, self._random)
                if has_expired(head, now):
                    return [head]
                found_closed.append(closing)
        if not own or topic.index.has_arrays(where.label):
            lines = topic.index.pending(where.label, where.values)
            sample = first_of(lines, "due", WHERE_TASKS, now, self._random)
            self.looked += len(sample)
            closings: dict[str | None, Closing | None] = {}
            for task in sample:
                value = first_value(task.labels, lanes.label)
                if value in own:
                    continue
                lane = lanes.by_value[value]
                if value not in closings:
                    closings[value] = lanes.closing_of(lane, now)
                if (closing := closings[value]) is not None:
                    if not has_expired(task, now):
                        found_closed.append(closing)
                    continue
                if isinstance(lane.line, OneByOne) and (first := lane.line.head()) is not task:
                    if first is not None and has_expired(first, now):
                        return [first]
                    continue
                key = (-task.priority, lane.active, lane.sequence)
                _, matching = found.setdefault(key, (lane, []))
                assert matching is not None, "the lane is not one whose tasks all match"
                matching.append(task)
        if not found:
            return []
        key = min(found)
        lane, tasks = found[key]
        order = self._selection.order
        if tasks is None:
            return lane.line.first(-key[0], order, count, now, self._random)
        if order == "newest":
            tasks.sort(key=in_line, reverse=True)
        elif order == "random":
            at = int(self._random() * len(tasks))
            tasks = tasks[at:] + tasks[:at]
        return tasks[:count]

    # ---- refusals ------------------------------------------------------------------------------------

    def _expired_in_closed(self, topic: LabelledTopic, now: int) -> TaskRecord | None:
        """An expired task that stands first in the closed lane that reopens first, if there is one."""
        if not self._names or self._selection.where is not None or topic.per is None:
            return None
        lane = topic.lanes[self._names[0]].first_closed()
        if lane is not None:
            for priority in lane.line.priorities(now):
                for task in lane.line.first(priority, "due", 1, now, self._random):
                    return task if has_expired(task, now) else None
        return None

    def refusal(self, now: int) -> Closing | None:
        """Why a due task that matches was not handed out; ``None``: there is none.

        Where a rate or a hold is the reason for some, that which ends first.
        """
        topic = self._topic
        if not isinstance(topic, LabelledTopic) or not topic.is_special:
            return None
        head = _first(self._in_line(now, 1))
        if head is None:
            return None
        closing = topic.closing(now)
        if closing is not None or topic.per is None:
            return closing
        lanes = topic.lanes[topic.per.label]
        if self._selection.where is None:
            lane = lanes.first_closed()
            closings = [] if lane is None else [lanes.closing_of(lane, now)]
        else:
            closings = list(self._closings)
        timed = [closing for closing in closings if closing is not None and closing.reopens is not None]
        if timed:
            return min(timed, key=lambda closing: closing.reopens or 0)
        of_head = lanes.info(first_value(head.labels, lanes.label), now).closed
        return Closing(Reason.ORDERED if of_head is None else of_head.reason)


def _value(name: str, task: TaskRecord) -> str | None:
    return first_value(task.labels, name)


def _first(tasks: list[TaskRecord]) -> TaskRecord | None:
    return tasks[0] if tasks else None
