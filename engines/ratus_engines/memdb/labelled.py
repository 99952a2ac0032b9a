"""A topic with labelled tasks, labels in use, limits or holds."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping

from ratus.core import turns
from ratus.core.labels import first_value
from ratus.core.records import ACTIVE, COMPLETED, PENDING, TaskRecord
from ratus.core.selection import Where
from ratus.core.transitions import Change, apply
from ratus.core.turns import WHERE_TASKS, Closing, Limits, PerLabel, Reason
from ratus_engines.memdb.labels import LabelIndex
from ratus_engines.memdb.lanes import SLICE, Lane, Lanes
from ratus_engines.memdb.limits import Times, TimesOfTopic
from ratus_engines.memdb.pending import first_of
from ratus_engines.memdb.snapshot import LaneRow
from ratus_engines.memdb.topics import Topic

# Microseconds by which a claim's time may be before that of the last one: requests that come together are
# read in any order. More means that the clock was set back.
SAME_TIME = 500_000


class LabelledTopic(Topic):
    """A topic that keeps more than the orders of every topic.

    ``index`` has its tasks by their labels, ``lanes`` those of each label in use. ``limits`` are those of its
    settings, ``times`` its times of rates and holds. ``number`` gives a larger number each time.
    """

    __slots__ = (
        "_left",
        "_number",
        "_seen",
        "_within_change",
        "has_times",
        "index",
        "is_bounded",
        "lanes",
        "limits",
        "per",
        "times",
    )

    def __init__(self, topic: Topic, times: TimesOfTopic, number: Callable[[], int]) -> None:
        """Takes over everything that ``topic`` has, which must not be used any more."""
        for name in Topic.__slots__:
            setattr(self, name, getattr(topic, name))
        self.index: LabelIndex = LabelIndex()
        self.lanes: dict[str, Lanes] = {}
        self.limits: Limits | None = None
        self.per: PerLabel | None = None  # the limits of each value of a label
        self.times = times
        self._number = number
        self._seen = 0  # the time of the last claim at which times were kept
        self._within_change = False
        self.is_bounded = False  # the limits close the topic as a whole
        # A task that was detached and whose place may have become free; only while there are limits.
        self._left: TaskRecord | None = None
        self.decide_special()

    def decide_special(self) -> None:
        """Set ``is_special`` and ``has_times``, after ``lanes``, ``limits`` or ``times`` have changed."""
        self.has_times = bool(self.times)
        self.is_special = bool(self.lanes) or self.limits is not None or self.has_times

    # ---- changes -------------------------------------------------------------------------------------

    def attach(self, task: TaskRecord, now: int) -> None:
        super().attach(task, now)
        if task.rare is not None:
            self.index.add(task, now)
        if task.state >= COMPLETED:
            return
        left = self._left
        if left is not None and task.state == ACTIVE and left.labels == task.labels:
            self._left = None  # it has kept its place, or taken one
        for lanes in self.lanes.values():
            lanes.attach(task, now)
            if not self._within_change:
                lanes.settle(now)

    def detach(self, task: TaskRecord) -> bool:
        super().detach(task)
        if task.rare is not None:
            self.index.remove(task)
        if task.state >= COMPLETED or not self.is_special:
            return False
        for lanes in self.lanes.values():
            lanes.detach(task)
        if self.limits is not None and (task.state == ACTIVE or self._is_ordered()):
            self._left = task
        self._within_change = True
        return True

    def _is_ordered(self) -> bool:
        per = self.per
        return per is not None and per.ordered

    def claim(self, task: TaskRecord, change: Change, number: int, now: int) -> None:
        """Make a change that makes a pending task active, and count it; in one step, since it is usual.

        ``number`` is larger than all before.
        """
        Topic.detach(self, task)  # faster than by `super`
        if task.rare is not None and task.rare.labels is not None:
            self.index.claim(task, task.rare.labels)
        apply(task, change)
        Topic.attach(self, task, now)
        if self.limits is not None:
            self._use_up_rates(task, self.limits, now)
        for lanes in self.lanes.values():
            lanes.claim(task, number, now)

    def settle(self, now: int) -> bool:
        """A change as a whole was made, after `detach`. Returns whether it may have made a place free."""
        for lanes in self.lanes.values():
            lanes.settle(now)
        self._within_change = False
        left, self._left = self._left, None
        return left is not None

    def serve(self, task: TaskRecord, now: int) -> None:
        """Count a claim of a task in any state that is about to be made, as `claim` counts others."""
        if self.lanes:
            number = self._number()
            for lanes in self.lanes.values():
                lanes.serve(task, number)
        if self.limits is not None:
            self._use_up_rates(task, self.limits, now)

    def _use_up_rates(self, task: TaskRecord, limits: Limits, now: int) -> None:
        self._seen = now
        if limits.rate is not None:
            self.has_times = True
            times = self.times.of(None)
            self.times.put(None, Times(turns.claimed(limits.rate, times.allowed, now), times.held))
        per = limits.per
        if per is not None and per.rate is not None:
            self.has_times = True
            key = (per.label, first_value(task.labels, per.label))
            times = self.times.of(key)
            self.times.put(key, Times(turns.claimed(per.rate, times.allowed, now), times.held))

    def hold(self, task: TaskRecord, until: int, now: int) -> None:
        """Hand out nothing more of the lane of a task, or where limits are not per label of the topic."""
        key = None if self.per is None else (self.per.label, first_value(task.labels, self.per.label))
        times = self.times.of(key)
        if until > times.held:
            self.times.put(key, Times(times.allowed, until))
            self.decide_special()
            if key is not None:
                self.lanes[key[0]].again((key[1],), now)

    # ---- labels in use -------------------------------------------------------------------------------

    def use(self, label: str) -> Lanes | None:
        """Let a label come into use. Returns its lanes if these have to be built (`building`)."""
        if label in self.lanes:
            return None
        per = self.per
        bound = per if per is not None and per.label == label else None
        self.lanes[label] = lanes = Lanes(label, bound, self.times, self._number)
        self.is_special = True
        return lanes

    def set_limits(self, limits: Limits | None) -> tuple[list[Lanes], list[Lanes]]:
        """Replace the limits. Returns the lanes to be built, and those to be looked at again."""
        old, self.limits = self.per, limits
        self.per = None if limits is None else limits.per
        self.is_bounded = limits is not None and (limits.concurrency, limits.rate) != (None, None)
        build: list[Lanes] = []
        again: list[Lanes] = []
        if old is not None and (self.per is None or self.per.label != old.label):
            self._bound(self.lanes[old.label], None, build, again)
        if (per := self.per) is not None:
            if (lanes := self.use(per.label)) is not None:
                build.append(lanes)
            else:
                self._bound(self.lanes[per.label], per, build, again)
        self.decide_special()
        return build, again

    def _bound(self, lanes: Lanes, bound: PerLabel | None, build: list[Lanes], again: list[Lanes]) -> None:
        """Set the limits of lanes in use."""
        if lanes.is_ordered != (bound is not None and bound.ordered):
            # Their tasks stand in another order, so all of them are made anew.
            new = Lanes(lanes.label, bound, self.times, self._number, previous=lanes)
            self.lanes[lanes.label] = new
            build.append(new)
        elif lanes.bound != bound:
            lanes.bound = bound
            again.append(lanes)

    def building(self, lanes: Lanes, now: Callable[[], int]) -> Iterator[None]:
        """Put the tasks that there are into new lanes, in slices. ``now`` gives the time."""
        while self.lanes.get(lanes.label) is lanes and not lanes.is_built:
            parts = [self.by_state[state].after(lanes.built_to, SLICE) for state in (PENDING, ACTIVE)]
            tasks = sorted(itertools.chain.from_iterable(parts), key=lambda task: task.sequence)[:SLICE]
            lanes.build(tasks, self.pending)
            lanes.settle(now())
            yield

    def forget(self) -> None:
        """The topic was deleted: labels come out of use, but for that of its limits, and times are gone."""
        self.lanes = {label: lanes for label, lanes in self.lanes.items() if lanes.bound is not None}
        self.times.clear()
        self.decide_special()

    def forget_times(self, now: int) -> bool:
        """Forget times that have passed, of very many a part. Returns whether more have passed.

        If the clock was set back since the last claim, rates close nothing for longer than a burst takes.
        """
        if now < self._seen - SAME_TIME:
            self._bound_rates(now)
        self._seen = now
        more = self.times.forget(now)
        if not self.times:
            self.decide_special()
        return more

    def _bound_rates(self, now: int) -> None:
        limits = self.limits
        if limits is None:
            return
        changed = []
        for key in list(self.times.keys()):
            times = self.times.of(key)
            per = limits.per
            if key is not None and (per is None or key[0] != per.label):
                continue
            rate = limits.rate if key is None or per is None else per.rate
            if rate is None:
                continue
            allowed = turns.bounded(rate, times.allowed, now)
            if allowed != times.allowed:
                self.times.put(key, Times(allowed, times.held))
                changed.append(key)
        for key in changed:
            if key is not None:
                self.lanes[key[0]].again((key[1],), now)

    # ---- snapshots -----------------------------------------------------------------------------------

    def load_lane(self, label: str | None, value: str | None, served: int, times: Times) -> None:
        """Store what a snapshot has of a lane, before its tasks are loaded; without a label, of the topic."""
        if times != Times():
            self.times.put(None if label is None else (label, value), times)
            self.decide_special()
        if label is not None and served and label in self.lanes:
            self.lanes[label].served[value] = served

    def end_loading(self) -> None:
        """All tasks have been loaded."""
        for lanes in self.lanes.values():
            lanes.served.clear()

    def count_lanes(self) -> int:
        return sum(len(lanes.by_value) for lanes in self.lanes.values())

    # ---- what is open --------------------------------------------------------------------------------

    @property
    def may_close(self) -> bool:
        """Whether limits or a hold may close the topic as a whole: `closing` is not asked in vain."""
        return self.is_bounded or self.has_times or self.paused

    def closing(self, now: int) -> Closing | None:
        if self.paused:
            return Closing(Reason.PAUSED)
        if self.is_bounded or self.has_times:
            times = self.times.of_topic()
            active = len(self.by_state[ACTIVE])
            closing = turns.closing(self.limits, active, times.allowed, times.held, now)
            if closing is not None:
                return closing
        if self.per is not None and not self.lanes[self.per.label].is_built:
            return Closing(Reason.BUILDING)
        return None

    def _next_pending(self, now: int, where: Where | None) -> int | None:
        closing = self.closing(now)
        if closing is not None and closing.reopens is None:
            return None
        lines = [self.pending] if where is None else self.index.pending(where.label, where.values)
        if self.per is None:
            times = [time for line in lines if (time := line.next_due()) is not None]
        else:
            lanes = self.lanes[self.per.label]
            if where is None:
                found = [lanes.next_due(now)]
            else:
                found = [line.next_after(now) for line in lines]
                found += [lanes.next_due_of(lane, now) for lane in self._lanes_of(lanes, where, now)]
            times = [time for time in found if time is not None]
        if not times:
            return None
        return min(times) if closing is None else max(min(times), closing.reopens or 0)

    def _lanes_of(self, lanes: Lanes, where: Where, now: int) -> list[Lane]:
        """The lanes of the tasks that match and are due; of a very large number those of the first."""
        lines = self.index.pending(where.label, where.values)
        values: dict[str | None, None] = {}
        if where.label == lanes.label:
            values = dict.fromkeys(where.values)
        if where.label != lanes.label or self.index.has_arrays(where.label):
            for task in first_of(lines, "due", WHERE_TASKS, now, _none):
                values[first_value(task.labels, lanes.label)] = None
        return [lane for value in values if (lane := lanes.by_value.get(value)) is not None]


def lane_rows(
    topic: str, lanes: Mapping[str, Lanes], times: TimesOfTopic, most: int
) -> Iterator[list[LaneRow]]:
    """What is known of the lanes of a topic, and of its times, in slices of ``most`` rows.

    Each is as it is when its slice is asked for.
    """
    for name, of_label in lanes.items():
        values = list(of_label.by_value)
        for start in range(0, len(values), most):
            rows: list[LaneRow] = []
            for value in values[start : start + most]:
                if (lane := of_label.by_value.get(value)) is not None:
                    kept = times.of((name, value))
                    rows.append((topic, name, value, lane.sequence, kept.allowed, kept.held))
            yield rows
    keys = list(times.keys())
    for start in range(0, len(keys), most):
        rows = []
        for key in keys[start : start + most]:
            kept = times.of(key)
            label, value = key or (None, None)
            if label is None or label not in lanes or value not in lanes[label].by_value:
                rows.append((topic, label, value, 0, kept.allowed, kept.held))
        yield rows


def _none() -> float:
    return 0.0
