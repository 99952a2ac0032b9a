"""What the engine has in memory, and the one way to change it: an atomic step."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import TypeAlias

from msgspec import structs

from ratus.core import transitions, turns
from ratus.core.kinds import TOPIC_SETTINGS
from ratus.core.labels import first_value
from ratus.core.records import PENDING, TaskRecord, TopicSettings
from ratus.core.transitions import Change, Event
from ratus.core.turns import Limits
from ratus_engine_journal.journal import LabelLine, LaneLine, Line, RecordLine

Key: TypeAlias = tuple[str, str | None, str | None]
"""A lane: its topic, label and value. Without a label, the topic as a whole."""


class State:
    """What the lines of the journal say, and what is known beside them of the time.

    A line is taken in in the same way at the start and when it has just been written.
    """

    def __init__(self, now: int) -> None:
        self.tasks: dict[str, TaskRecord] = {}  # in order of creation
        self.records: dict[tuple[str, str], RecordLine] = {}  # by the name of their kind and their id
        self.settings: dict[str, TopicSettings] = {}  # as the records say
        self.in_use: set[tuple[str, str]] = set()  # topics with the labels by which they have lanes
        self.lanes: dict[Key, LaneLine] = {}  # those of which there is something to keep
        self.sequence = 0  # the last number that was given to a task, to a turn or to a version of a record
        # Tasks that were due when they became pending: they stay due when the clock is set back.
        self.due: set[str] = set()
        self.now = self.latest = now

    def take(self, line: Line) -> None:
        """Take in a line of the journal."""
        numbers = [self.sequence, line.last]
        if line.put is not None:
            self.tasks[line.put.id] = line.put
            numbers.append(line.put.sequence)
        elif line.gone is not None:
            self.tasks.pop(line.gone, None)
        elif line.record is not None:
            self._take_record(line.record)
            numbers.append(line.record.version)
        elif line.label is not None:
            label = (line.label.topic, line.label.name)
            (self.in_use.add if line.label.in_use else self.in_use.discard)(label)
        elif line.lane is not None:
            key = (line.lane.topic, line.lane.label, line.lane.value)
            self.lanes[key] = line.lane
            if line.lane == LaneLine(*key):
                del self.lanes[key]
            numbers.append(line.lane.served)
        self.sequence = max(numbers)

    def _take_record(self, line: RecordLine) -> None:
        if line.members is None:
            self.records.pop((line.kind, line.id), None)
        else:
            self.records[line.kind, line.id] = line
        if line.kind == TOPIC_SETTINGS.name:
            self.settings.pop(line.id, None)
            if line.members is not None:
                self.settings[line.id] = TOPIC_SETTINGS.from_json(line.members)

    def lines(self) -> Iterator[Line]:
        """The lines of a journal that says all this."""
        yield Line(last=self.sequence)
        for task in self.tasks.values():
            yield Line(put=task)
        for record in self.records.values():
            yield Line(record=record)
        for topic, name in self.in_use:
            yield Line(label=LabelLine(topic, name))
        for lane in self.lanes.values():
            yield Line(lane=lane)

    def forget_lanes(self, now: int) -> None:
        """Forget lanes that there are no more, and whose times have passed."""
        for key, lane in list(self.lanes.items()):
            if not lane.served and max(lane.allowed, lane.held) <= now:
                del self.lanes[key]

    def settings_of(self, topic: str) -> TopicSettings:
        return self.settings.get(topic, TopicSettings())

    def limits(self, topic: str) -> Limits | None:
        return self.settings_of(topic).limits


class Step:
    """One atomic step. What it changes is kept here, and seen here alone, until the engine takes it.

    What only reads is a step as well, which the engine does not take.
    """

    def __init__(self, state: State, now: int) -> None:
        self.state = state
        self.now = now
        self.tasks: dict[str, TaskRecord | None] = {}  # what changes, by id; ``None``: it is gone
        self.records: list[RecordLine] = []
        self.labels: list[LabelLine] = []
        self.lanes: dict[Key, LaneLine] = {}
        self.sequence = state.sequence
        self.due: dict[str, bool] = {}
        self.events: list[tuple[str, tuple[Event, ...]]] = []

    def lines(self) -> list[Line]:
        """What the journal has to say of the step."""
        return [
            *(Line(gone=task_id) if task is None else Line(put=task) for task_id, task in self.tasks.items()),
            *(Line(record=record) for record in self.records),
            *(Line(label=label) for label in self.labels),
            *(Line(lane=lane) for lane in self.lanes.values()),
        ]

    def number(self) -> int:
        """A number that is larger than all before."""
        self.sequence += 1
        return self.sequence

    # ---- tasks -----------------------------------------------------------------------------------

    def get(self, task_id: str) -> TaskRecord | None:
        return self.tasks[task_id] if task_id in self.tasks else self.state.tasks.get(task_id)

    def of(self, topic: str, *states: int) -> list[TaskRecord]:
        """The tasks of a topic (in these states), in order of creation."""
        # Better: an index by topic and state, in the order of claiming.
        tasks = ({**self.state.tasks, **self.tasks} if self.tasks else self.state.tasks).values()
        return [
            task
            for task in tasks
            if task is not None and task.topic == topic and (not states or task.state in states)
        ]

    def has_topic(self, topic: str) -> bool:
        """Whether a topic has a task or a setting."""
        return topic in self.state.settings or bool(self.of(topic))

    def is_due(self, task: TaskRecord) -> bool:
        if task.state != PENDING:
            return False
        return task.scheduled <= self.now or self.due.get(task.id, task.id in self.state.due)

    def put(self, task: TaskRecord) -> None:
        """Store a task, in place of the one that has its id."""
        old = self.get(task.id)
        again = (
            # The clock may have been set back since it was due.
            old is not None
            and task.scheduled == old.scheduled
            and transitions.was_due(task, max(self.now, self.state.latest))
        )
        self.tasks[task.id] = task
        self.due[task.id] = task.state == PENDING and (task.scheduled <= self.now or again)
        self._settle(task.topic)
        if old is not None and old.topic != task.topic:
            self._settle(old.topic)

    def change(self, task: TaskRecord, change: Change) -> TaskRecord:
        """Carry a change out on a copy of the task, which is what the task is from now on."""
        if change.hold:
            self._hold(task, change.hold)
        task = copy.copy(task)
        transitions.apply(task, change)
        self.put(task)
        if change.events:
            self.events.append((task.topic, change.events))
        return task

    def delete(self, task: TaskRecord) -> None:
        self.tasks[task.id] = None
        self.due[task.id] = False
        self._settle(task.topic)

    def forget(self, topic: str) -> None:
        """Delete the settings of a topic, and what is kept of its lanes."""
        if topic in self.state.settings:
            self.records.append(RecordLine(TOPIC_SETTINGS.name, topic))
        self.labels += [LabelLine(topic, label, in_use=False) for label in self.labels_in_use(topic)]
        self.lanes |= {key: LaneLine(*key) for key in self.state.lanes if key[0] == topic}

    # ---- lanes -----------------------------------------------------------------------------------

    def lane(self, key: Key) -> LaneLine:
        return self.lanes.get(key) or self.state.lanes.get(key) or LaneLine(*key)

    def lanes_of(self, topic: str, label: str) -> list[LaneLine]:
        """The lanes of a topic by a label, and those that are no more but of which times are kept."""
        # Better: a dict for each topic and label.
        lanes = {**self.state.lanes, **self.lanes}.values()
        return [lane for lane in lanes if (lane.topic, lane.label) == (topic, label)]

    def set_lane(self, key: Key, **members: int) -> None:
        """Set some of ``served``, ``allowed`` and ``held``."""
        self.lanes[key] = structs.replace(self.lane(key), **members)

    def labels_in_use(self, topic: str) -> list[str]:
        """The labels by which a topic has lanes."""
        names = {name for of, name in self.state.in_use if of == topic}
        for line in self.labels:
            if line.topic == topic:
                (names.add if line.in_use else names.discard)(line.name)
        return sorted(names)

    def use(self, topic: str, label: str) -> None:
        """Let a label come into use. Its lanes were served when their first tasks came in."""
        if label in self.labels_in_use(topic):
            return
        self.labels.append(LabelLine(topic, label))
        for task in filter(transitions.stands_in_line, self.of(topic)):
            key = (topic, label, first_value(task.labels, label))
            if not self.lane(key).served:
                self.set_lane(key, served=task.sequence)

    def _settle(self, topic: str) -> None:
        """Make the lanes that tasks have come to, and forget those that tasks have left."""
        # Better: keep the numbers of tasks of each lane, and look only at the lanes of the task that changed.
        for label in self.labels_in_use(topic):
            tasks = filter(transitions.stands_in_line, self.of(topic))
            values = {first_value(task.labels, label): None for task in tasks}
            for lane in self.lanes_of(topic, label):
                if lane.served and lane.value not in values:
                    self.set_lane((topic, label, lane.value), served=0)
            for value in values:
                if not self.lane((topic, label, value)).served:
                    self.set_lane((topic, label, value), served=self.number())

    def count_claim(self, task: TaskRecord) -> None:
        """A task has been claimed: that uses up rates, and was the turn of its lanes."""
        topic, limits = task.topic, self.state.limits(task.topic)
        if limits is not None:
            self._use_up((topic, None, None), limits)
            if limits.per is not None:
                self._use_up(
                    (topic, limits.per.label, first_value(task.labels, limits.per.label)), limits.per
                )
        for label in self.labels_in_use(topic):
            self.set_lane((topic, label, first_value(task.labels, label)), served=self.number())

    def _use_up(self, key: Key, bound: turns.Bound) -> None:
        if bound.rate is not None:
            self.set_lane(key, allowed=turns.claimed(bound.rate, self.lane(key).allowed, self.now))

    def bound_rates(self) -> None:
        """After the clock was set back: let no rate close anything for longer than a burst takes."""
        for (topic, label, value), lane in {**self.state.lanes, **self.lanes}.items():
            limits = self.state.limits(topic)
            bound = limits if label is None or limits is None else limits.per
            if bound is not None and bound.rate is not None:
                allowed = turns.bounded(bound.rate, lane.allowed, self.now)
                if allowed != lane.allowed:
                    self.set_lane((topic, label, value), allowed=allowed)

    def _hold(self, task: TaskRecord, until: int) -> None:
        limits = self.state.limits(task.topic)
        key: Key = (task.topic, None, None)
        if limits is not None and limits.per is not None:
            key = (task.topic, limits.per.label, first_value(task.labels, limits.per.label))
        self.set_lane(key, held=max(self.lane(key).held, until))
