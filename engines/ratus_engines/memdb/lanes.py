"""The lanes of a topic by one label, in the orders in which they take turns (`ratus.core.turns`).

A lane stands, for each priority of its tasks, in one of two orders: *ready* where a task of that priority is
due, by the number of its active tasks and then by when it was served; *sleeping* where none is, by when the
first falls due. A lane that a rate or a hold closes and that has a due task stands among the *closed* ones
instead, by when it reopens. One that is closed until a place becomes free stands nowhere. So the next lane is
the first of the ready ones of the highest priority, however many lanes and tasks there are.

A lane is taken out of these orders before its tasks or times change (`Lanes.touch`) and put back after the
change as a whole (`Lanes.settle`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence

from msgspec import Struct

from ratus.core import turns
from ratus.core.labels import first_value
from ratus.core.limits import MAX_PRIORITY
from ratus.core.records import PENDING, LaneInfo, TaskRecord
from ratus.core.transitions import has_expired
from ratus.core.turns import Closing, PerLabel
from ratus_engines.memdb.labels import labels_of
from ratus_engines.memdb.limits import NO_TIMES, TimesOfTopic
from ratus_engines.memdb.ordered import ByCreation, ByTime
from ratus_engines.memdb.pending import PendingTasks, Random

# Sleeping and closed lanes that a claim looks at in one step: about a millisecond of work.
WOKEN = 256

# Lanes, or tasks that lanes are made of, that are looked at before other requests run: a few milliseconds.
SLICE = 256

ALL = 1 << 62
"""Larger than every ``sequence``."""


EXPIRED = MAX_PRIORITY + 1
"""The priority of an ordered lane whose first task has expired: it is archived before any turn is decided."""


class OneByOne:
    """The pending tasks of an ordered lane, in order of creation. Only the first can be claimed."""

    __slots__ = ("_later", "_tasks")

    def __init__(self) -> None:
        self._tasks: ByCreation[TaskRecord] = ByCreation()
        self._later: set[int] = set()  # the `sequence` of tasks that were not due when they were added

    def add(self, task: TaskRecord, now: int) -> None:
        self._tasks.add(task)
        if task.scheduled > now:
            self._later.add(task.sequence)

    def remove(self, task: TaskRecord) -> None:
        self._tasks.remove(task)
        self._later.discard(task.sequence)

    def head(self) -> TaskRecord | None:
        """The task before which no other may be claimed, due or not."""
        return self._tasks.first()

    def waits_until(self, now: int) -> int | None:
        """When the first task falls due that has not expired; ``None``: it is due, or there is none."""
        after = None
        while tasks := self._tasks.after(after, 1):
            if not has_expired(tasks[0], now):
                return None if self._is_due(tasks[0], now) else tasks[0].scheduled
            after = tasks[0].sequence
        return None

    def _is_due(self, task: TaskRecord, now: int) -> bool:
        return task.scheduled <= now or task.sequence not in self._later

    def places(self, now: int) -> list[tuple[int, int | None]]:
        """As `PendingTasks.places`, of the first task; and under `EXPIRED` when that expires."""
        head = self._tasks.first()
        if head is None:
            return []
        if has_expired(head, now):
            return [(EXPIRED, None)]
        found = [(head.priority, None if self._is_due(head, now) else head.scheduled)]
        if head.expires is not None:
            found.append((EXPIRED, head.expires))
        return found

    def priorities(self, now: int) -> list[int]:
        """The priority of the first task, if it is due."""
        return [priority for priority, time in self.places(now) if time is None]

    def head_of(self, priority: int, now: int) -> TaskRecord | None:
        """The first task, if it is due and has this priority."""
        head = self._tasks.first()
        return head if head is not None and priority in self.priorities(now) else None

    def first(self, priority: int, order: str, count: int, now: int, random: Random) -> list[TaskRecord]:
        """The same as a list: of an ordered lane there is only one to be chosen."""
        head = self.head_of(priority, now)
        return [] if head is None else [head]


class Lane(Struct, gc=False):
    """The pending and active tasks of a topic with one value of a label.

    ``sequence`` grows with each time that the lane is served. ``places`` says where the lane stands in the
    orders of its `Lanes`: the order, the priority and the number under which it stands there. It is ``None``
    while the lane is taken out of them.
    """

    value: str | None
    sequence: int
    line: PendingTasks | OneByOne
    pending: int = 0
    active: int = 0
    places: tuple[tuple[int, int, int], ...] | None = None


_READY, _SLEEPING, _CLOSED = 0, 1, 2


class Lanes:
    """All lanes of a topic by one label.

    ``bound`` are the limits of each lane, ``None`` where the topic has none by this label. ``times`` are
    those of the topic. ``number`` gives a larger number each time. ``served`` has numbers from a snapshot
    for lanes that are made of its tasks. ``previous`` are lanes that these replace as they are built.
    """

    __slots__ = (
        "_changed",
        "_closed",
        "_number",
        "_previous",
        "_priorities",
        "_ready",
        "_sleeping",
        "_times",
        "_wakes",
        "bound",
        "built_to",
        "by_value",
        "label",
        "served",
    )

    def __init__(
        self,
        label: str,
        bound: PerLabel | None,
        times: TimesOfTopic,
        number: Callable[[], int],
        previous: Lanes | None = None,
    ) -> None:
        self.label = label
        self.bound = bound
        self.by_value: dict[str | None, Lane] = {}
        self.built_to = 0  # the tasks up to this `sequence` have been put into lanes
        self.served: dict[str | None, int] = {}
        self._times = times
        self._number = number
        self._previous = previous
        self._ready: dict[int, ByTime[Lane]] = {}
        self._sleeping: dict[int, ByTime[Lane]] = {}
        self._closed: ByTime[Lane] = ByTime()
        self._priorities: list[int] = []  # those that have had a task, the larger ones first
        self._wakes = ALL  # no lane is to be looked at again for its time's sake before this time
        self._changed: list[Lane] = []  # lanes that are taken out of the orders

    @property
    def is_built(self) -> bool:
        """Whether all tasks are in their lanes. Until then claims go in line."""
        return self.built_to == ALL

    @property
    def is_ordered(self) -> bool:
        """Whether the tasks of a lane are claimed one after the other."""
        return self.bound is not None and self.bound.ordered

    # ---- changes -------------------------------------------------------------------------------------

    def attach(self, task: TaskRecord, now: int) -> None:
        """Put a pending or active task into its lane."""
        if task.sequence <= self.built_to:
            self._put(self._lane(first_value(labels_of(task), self.label)), task, now)

    def _put(self, lane: Lane, task: TaskRecord, now: int) -> None:
        self.touch(lane)
        if task.state == PENDING:
            lane.line.add(task, now)
            lane.pending += 1
        else:
            lane.active += 1

    def detach(self, task: TaskRecord) -> None:
        """Take a pending or active task out of its lane, with its members as they were when it was put in."""
        if task.sequence > self.built_to:
            return
        lane = self.by_value[first_value(labels_of(task), self.label)]
        self.touch(lane)
        if task.state == PENDING:
            lane.line.remove(task)
            lane.pending -= 1
        else:
            lane.active -= 1

    def claim(self, task: TaskRecord, number: int, now: int) -> None:
        """A pending task has just become active; its lane has been served last."""
        lane = self.by_value.get(first_value(labels_of(task), self.label))
        if lane is None or task.sequence > self.built_to:
            self.serve(task, number)
            return
        places = lane.places
        assert places is not None, "it stands in the orders"
        self._take_out(lane)
        lane.line.remove(task)
        lane.pending -= 1
        lane.active += 1
        lane.sequence = number
        if self.bound is None and len(places) == 1 and places[0][0] == _READY:
            priority = places[0][1]
            if lane.line.head_of(priority, now) is not None:  # the usual case: it stays where it was
                self._ready[priority].add(lane.active, lane)
                lane.places = ((_READY, priority, lane.active),)
                return
        self._place(lane, now)

    def serve(self, task: TaskRecord, number: int) -> None:
        """Note that a task is about to be claimed, whatever its state: its lane has been served last."""
        value = first_value(labels_of(task), self.label)
        lane = self.by_value.get(value)
        if lane is not None:
            self.touch(lane)
            lane.sequence = number
        elif self._previous is not None:
            self._previous.serve(task, number)

    def build(self, tasks: Sequence[TaskRecord], pending: PendingTasks) -> None:
        """Put the next `SLICE` tasks, in order of creation, into lanes; fewer: these are the last.

        ``pending`` is the line of the topic, which knows of each task whether it was due when it was added.
        """
        for task in tasks:
            value = first_value(labels_of(task), self.label)
            was_due = task.state == PENDING and pending.was_due(task)
            self._put(self._lane(value, task.sequence), task, task.scheduled - (not was_due))
            self.built_to = task.sequence
        if len(tasks) < SLICE:
            self.built_to = ALL
            self._previous = None

    def look_again(self, now: Callable[[], int]) -> Iterator[None]:
        """Look at all lanes again, in slices, since their limits or times have changed."""
        values = list(self.by_value)
        for start in range(0, len(values), SLICE):
            self.again(values[start : start + SLICE], now())
            yield

    def _lane(self, value: str | None, first: int = 0) -> Lane:
        """The lane of this value. A new one was served at ``first``, which is 0 for just now."""
        lane = self.by_value.get(value)
        if lane is None:
            if self.served:
                first = self.served.pop(value, 0) or first
            if self._previous is not None:
                first = self._previous._give_up(value) or first
            ordered = self.is_ordered and value is not None
            lane = Lane(value, first or self._number(), OneByOne() if ordered else PendingTasks())
            self.by_value[value] = lane
            self._changed.append(lane)
        return lane

    def _give_up(self, value: str | None) -> int:
        """Remove a lane that another replaces. Returns when it was served, 0 where there is none."""
        lane = self.by_value.pop(value, None)
        if lane is None:
            return 0
        self.touch(lane)
        self._changed.clear()
        return lane.sequence

    # ---- orders --------------------------------------------------------------------------------------

    def touch(self, lane: Lane) -> None:
        """Take a lane out of the orders, before anything about it changes."""
        if lane.places is not None:
            self._take_out(lane)
            lane.places = None
            self._changed.append(lane)

    def _take_out(self, lane: Lane) -> None:
        assert lane.places is not None, "it stands in the orders"
        for kind, priority, key in lane.places:
            if kind == _READY:
                self._ready[priority].discard(key, lane)
            elif kind == _SLEEPING:
                self._sleeping[priority].discard(key, lane)
            else:
                self._closed.discard(key, lane)

    def settle(self, now: int) -> None:
        """Put lanes that have changed back into the orders, and forget those without tasks."""
        for lane in self._changed:
            if lane.pending or lane.active:
                self._place(lane, now)
            else:
                del self.by_value[lane.value]
        self._changed.clear()

    def _place(self, lane: Lane, now: int) -> None:
        closing = None if self.bound is None else self.closing_of(lane, now)
        if closing is not None and closing.reopens is None:
            lane.places = ()  # it is looked at again when one of its tasks changes
            return
        found = lane.line.places(now)
        if closing is None and len(found) == 1 and found[0][1] is None:  # the usual case
            priority = found[0][0]
            if priority in self._ready:
                self._ready[priority].add(lane.active, lane)
                lane.places = ((_READY, priority, lane.active),)
                return
        places: list[tuple[int, int, int]] = []
        for priority, time in found:
            if priority not in self._ready:
                self._ready[priority], self._sleeping[priority] = ByTime(), ByTime()
                self._priorities = sorted(self._ready, reverse=True)
            if time is not None:
                self._sleeping[priority].add(time, lane)
                self._wakes = min(self._wakes, time)
                places.append((_SLEEPING, priority, time))
            elif closing is None or closing.reopens is None:
                self._ready[priority].add(lane.active, lane)
                places.append((_READY, priority, lane.active))
            elif not any(kind == _CLOSED for kind, _, _ in places):
                self._closed.add(closing.reopens, lane)
                self._wakes = min(self._wakes, closing.reopens)
                places.append((_CLOSED, 0, closing.reopens))
        lane.places = tuple(places)

    def _wake(self, order: ByTime[Lane], now: int, most: int) -> int:
        """Look at up to ``most`` lanes of an order again whose time has come. Returns how many there were."""
        count = 0
        while count < most and (lane := order.first_until(now)) is not None:
            self._place_again(lane, now)
            count += 1
        return count

    def _place_again(self, lane: Lane, now: int) -> None:
        self.touch(lane)
        self.settle(now)

    def again(self, values: Iterable[str | None], now: int) -> None:
        """Look at these lanes again, since limits or times have changed."""
        for value in values:
            if (lane := self.by_value.get(value)) is not None:
                self._place_again(lane, now)

    # ---- claims --------------------------------------------------------------------------------------

    def closing_of(self, lane: Lane, now: int, waits: int | None = None) -> Closing | None:
        """Why nothing may be claimed of a lane; ``None``: it is open.

        ``waits`` as in `turns.closing_of_lane`. A claim leaves it out, since a lane whose first task is not
        due is not among the ready ones.
        """
        bound = self.bound
        if bound is None:
            return None
        of_label = self._times.by_label.get(self.label)
        times = NO_TIMES if of_label is None else of_label.get(lane.value, NO_TIMES)
        if not bound.ordered:
            return turns.closing(bound, lane.active, times.allowed, times.held, now)
        return turns.closing_of_lane(bound, lane.value, lane.active, waits, times.allowed, times.held, now)

    def next_head(self, now: int) -> TaskRecord | None:
        """The first task in line of the lane whose turn it is, as `next_turn` finds it.

        ``None`` where that takes more than a look at the first lane.
        """
        if self._wakes > now:
            for priority in self._priorities:
                lane = self._ready[priority].first()
                if lane is not None:
                    if self.bound is not None and self.closing_of(lane, now) is not None:
                        return None
                    return lane.line.head_of(priority, now)
        return None

    def next_turn(self, chosen: str, count: int, now: int, random: Random) -> list[TaskRecord] | None:
        """Up to ``count`` due tasks, of one priority, in the order chosen, of the lane whose turn it is.

        Empty where no lane is open and has a due task. ``None``: more lanes have to be looked at; other
        requests should run before the next call.
        """
        left, bound = WOKEN, self.bound
        if self._wakes <= now:
            for order in (self._closed, *(self._sleeping[priority] for priority in self._priorities)):
                left -= self._wake(order, now, left)
            if left > 0:
                self._wakes = self._next_wake()
        for priority in self._priorities:
            ready = self._ready[priority]
            while (lane := ready.first()) is not None:
                if bound is None or self.closing_of(lane, now) is None:
                    tasks = lane.line.first(priority, chosen, count, now, random)
                    if tasks:
                        return tasks
                if left <= 0:
                    return None
                # The limits have changed, or the clock was set back.
                self._place_again(lane, now)
                left -= 1
        return [] if left > 0 else None

    def _next_wake(self) -> int:
        times = [order.first_time() for order in (self._closed, *self._sleeping.values())]
        return min((time for time in times if time is not None), default=ALL)

    def first_closed(self) -> Lane | None:
        """Of the lanes with due tasks that a rate or a hold closes, the first to reopen."""
        return self._closed.first()

    def next_due(self, now: int) -> int | None:
        """When a claim may find a lane that is open and has a due task."""
        times = [time for order in self._sleeping.values() if (time := order.first_time()) is not None]
        if any(self._ready.values()):
            times.append(now)
        if (time := self._closed.first_time()) is not None:
            times.append(time)
        return min(times, default=None)

    def next_due_of(self, lane: Lane, now: int) -> int | None:
        """When a claim may get a task of this lane."""
        closing = self.closing_of(lane, now)
        times = [now if time is None else time for _, time in lane.line.places(now)]
        if not times or (closing is not None and closing.reopens is None):
            return None
        return min(times) if closing is None else max(min(times), closing.reopens or 0)

    def standing(self, value: Hashable) -> tuple[int, int]:
        """A lane's active tasks, and when it was served: what turns are decided by."""
        assert value is None or isinstance(value, str), "values of labels are texts"
        lane = self.by_value[value]
        return lane.active, lane.sequence

    def info(self, value: str | None, now: int) -> LaneInfo:
        """What is known of a lane, which may have no tasks."""
        lane = self.by_value.get(value)
        if lane is None:
            lane = Lane(value, 0, PendingTasks())
        waits = lane.line.waits_until(now) if isinstance(lane.line, OneByOne) else None
        return LaneInfo(value, lane.active, lane.pending, self.closing_of(lane, now, waits))
