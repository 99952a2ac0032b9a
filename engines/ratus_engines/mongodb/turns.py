"""Claims in turns and under limits: which task comes next, and its claim.

A claim looks at a bounded number of lanes: those of the deciding label that are open and were served longest
ago. With at most `LANES` of them that is exact; where there are more, and none of those that are looked at
has a due task, the first due tasks in line decide. Lanes are looked into in the order in which their turn is,
so that as a rule the first one is the only one.

Then the places are taken, the topic's and the lane's, both or none, and the task is claimed by its id. Where
another server was faster, all is looked at again.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Hashable, Mapping, Sequence

from msgspec import Struct, structs

from ratus.core import turns
from ratus.core.errors import RatusError
from ratus.core.labels import first_value
from ratus.core.records import ACTIVE, MAX_PAGE_BYTES, PENDING, TaskRecord
from ratus.core.selection import Selection, Where
from ratus.core.turns import FIRST_TASKS, WHERE_TASKS, Bound, Closing, Limits, PerLabel, Reason
from ratus_engines.mongodb import indexes, labels
from ratus_engines.mongodb.building import Building
from ratus_engines.mongodb.changes import ATTEMPTS, busy
from ratus_engines.mongodb.claim_statements import ClaimStatements
from ratus_engines.mongodb.deployment import LIMIT, Deployment, background
from ratus_engines.mongodb.documents import WITHOUT_VALUES, Document, record
from ratus_engines.mongodb.due import Due
from ratus_engines.mongodb.lanes import Lane, Lanes, Place, Taken, counts_places, is_building, is_ordered
from ratus_engines.mongodb.orphaned_claims import OrphanedClaims
from ratus_engines.mongodb.topics import Topics
from ratus_engines.mongodb.uses import Use, Uses

logger = logging.getLogger("ratus.engines.mongodb")

LANES = 64
"""Lanes that a claim looks at, at most."""

# How many lanes are looked into together, one time after the other.
_STEPS = (1, 3, 12, LANES)

# Seconds after which a claim that finds no place looks again whether each of them is really taken.
_REPAIRED = 5.0

# Seconds, for each try, within which a claim that came too late begins anew.
_APART = 0.002

_BY_PLACES = (Reason.CONCURRENCY, Reason.ORDERED)

Standing = tuple[int, int]
"""A value's active tasks and when it was served."""


class _Request(Struct, gc=False):
    """One claim in one topic."""

    topic: str
    use: Use
    limits: Limits | None
    selection: Selection
    now: int
    condition: Document
    """For tasks that are due, whatever their labels."""

    @property
    def per(self) -> PerLabel | None:
        return None if self.limits is None else self.limits.per

    @property
    def where(self) -> Where | None:
        return self.selection.where

    def matching(self, *, key: str | None = None, priority: int | None = None) -> Document:
        """The condition for due tasks that match, with this key and priority."""
        found = dict(self.condition)
        if priority is not None:
            found["priority"] = priority
        wanted: list[Document] = [] if key is None else [{labels.FIELD: key}]
        if self.where is not None:
            wanted.append({labels.FIELD: labels.matching(self.where)})
        if len(wanted) == 1:
            found |= wanted[0]
        elif wanted:
            found["$and"] = wanted
        return found


class _Choice(Struct, gc=False):
    """The task that comes next, and its lane, if turns or limits are by a label."""

    task: TaskRecord
    lane: Lane | None = None


class Turns:
    """Claims in turns and under limits."""

    def __init__(
        self,
        deployment: Deployment,
        *,
        topics: Topics,
        uses: Uses,
        lanes: Lanes,
        building: Building,
        steps: ClaimStatements,
        lost: OrphanedClaims,
        nonces: Callable[[], str],
        due: Due,
    ) -> None:
        self._deployment = deployment
        self._topics = topics
        self._uses = uses
        self._lanes = lanes
        self._building = building
        self._steps = steps
        self._lost = lost
        self._nonces = nonces
        self._due = due
        self._repaired: dict[str, float] = {}
        # By topic, the latest time before the clock was set back for which rates were looked at.
        self._bounded: dict[str, int] = {}

    async def take(
        self,
        topic: str,
        limits: Limits | None,
        selection: Selection,
        now: int,
        claimed: list[TaskRecord],
    ) -> Closing | None:
        """Claim due tasks. Returns why there are not more, if that is a limit."""
        names = turns.names_in_turn(None if limits is None else limits.per, selection.prefer)
        keeps = counts_places(limits)
        if limits is not None or not (await self._uses.of(topic)).covers(names, keeps=keeps):
            # What nothing is known of gets no lanes by a poll of any name.
            if limits is None and not await self._has_tasks(topic):
                return None
            await self._building.use(topic, names, keeps=keeps)
        if limits is not None and self._due.is_back(now) and self._bounded.get(topic) != self._due.latest:
            # The clock was set back: rates would stay ahead of it for as long.
            await self._lanes.bound_rates(topic, limits, now)
            self._bounded[topic] = self._due.latest
        request = _Request(
            topic, await self._uses.of(topic), limits, selection, now, self._due.condition(topic, now)
        )
        size = sum(task.weight() for task in claimed)
        async with self._topics.lock(topic):
            while len(claimed) < selection.limit and size < MAX_PAGE_BYTES:
                found = await self._one(request)
                if not isinstance(found, TaskRecord):
                    return found
                self._topics.note(topic, deadline=found.deadline)
                claimed.append(found)
                size += found.weight()
        return None

    async def next_due(
        self, topic: str, limits: Limits | None, now: int, where: Where | None, scheduled: Sequence[int]
    ) -> int | None:
        """When a claim may succeed next, as far as limits let it; ``None``: there is nothing to wait for.

        ``scheduled``: when the tasks that match fall due, the first one and the first after now.
        """
        if not scheduled:
            return None
        own = await self._lanes.topic(topic)
        closing = turns.closing(limits, own.places, own.allowed, own.held, now)
        if closing is not None:
            return None if closing.reopens is None else max(closing.reopens, scheduled[0])
        request = _Request(
            topic,
            await self._uses.of(topic),
            limits,
            Selection((topic,), where=where),
            now,
            self._due.condition(topic, now),
        )
        if request.per is None:
            return scheduled[0]
        times = [time for time in scheduled if time > now]
        if len(times) < len(scheduled):
            choice = await self._choose(request)
            if isinstance(choice, _Choice):
                return scheduled[0]
            waiting = await self._lanes.waiting_lanes(topic, request.per.label, now, LANES)
            times += [
                closed.reopens
                for lane in waiting
                if (closed := turns.closing(request.per, 0, lane.allowed, lane.held, now)) and closed.reopens
            ]
        return min(times, default=None)

    async def _has_tasks(self, topic: str) -> bool:
        hint = self._deployment.hint(indexes.LISTS)
        return await self._deployment.current.find_one({"topic": topic}, {"_id": 1}, hint=hint) is not None

    # ---- one claim -------------------------------------------------------------------------------

    async def _one(self, request: _Request) -> TaskRecord | Closing | None:
        """Claim the next task. Returns it, or why a limit lets none be claimed; ``None``: none is due."""
        limits, now = request.limits, request.now
        if is_building(limits, request.use):
            return Closing(Reason.BUILDING) if await self._first(request.matching()) else None
        for attempt in range(ATTEMPTS):
            # Two servers that do the same at the same time must not go on in step, with one of them always
            # too late.
            if attempt:
                await asyncio.sleep(random.uniform(0, attempt * _APART))
            # All that does not depend on one another is read at the same time.
            own, choice = await asyncio.gather(self._lanes.topic(request.topic), self._choose(request))
            closing = turns.closing(limits, own.places, own.allowed, own.held, now)
            if choice is not None and closing is not None:
                choice = closing
            lacks_places = isinstance(choice, Closing) and choice.reason in _BY_PLACES
            if lacks_places and await self._repair(request.topic):
                continue
            if not isinstance(choice, _Choice):
                return choice
            task = await self._claim(request, own, choice)
            if task is not None:
                return task
        raise busy()

    async def _repair(self, topic: str) -> bool:
        """Look, unless that was done lately, whether places are taken that are not. Returns whether so."""
        at = time.monotonic()
        if at - self._repaired.get(topic, -_REPAIRED) < _REPAIRED:
            return False
        if len(self._repaired) > 10_000:
            self._repaired.clear()
        self._repaired[topic] = at
        return await self._lanes.repair(topic)

    async def _claim(self, request: _Request, own: Lane, choice: _Choice) -> TaskRecord | None:
        """Take the places and claim the task. ``None``: something has changed meanwhile."""
        limits, per, use, now = request.limits, request.per, request.use, request.now
        task = choice.task
        nonce = self._nonces()
        place = Place(task.id, nonce)
        taken: list[Taken] = []
        started = time.monotonic()
        sent = False
        claimed = None
        try:
            bounds: list[tuple[Lane, Bound, bool]] = []
            if limits is not None and (limits.concurrency is not None or limits.rate is not None):
                bounds.append((own, limits, False))
            if per is not None and choice.lane is not None:
                bounds.append((choice.lane, per, is_ordered(per, choice.lane.value)))
            for lane, bound, ordered in bounds:
                # Where the answer is lost, the place may have been taken all the same.
                taken.append(Taken(lane, place))
                mine = await self._lanes.take(lane, bound, place, now, ordered=ordered, keeps=use.keeps)
                if mine is None:
                    del taken[-1]
                    return None
                taken[-1] = mine
            if time.monotonic() - started > LIMIT:
                return None  # the process stood still, so the places may have been freed again
            sent = True
            claimed = await self._steps.by_id(request.condition, task.id, request.selection, now, nonce)
            sent = False
        finally:
            if claimed is None and not sent and taken:
                # Also where the caller was cancelled. A claim that may have been made keeps its places.
                await asyncio.shield(background(self._give_back(taken)))
        if claimed is not None:
            try:
                await self._lanes.changed([(_as_pending(claimed), claimed)], claims=True, taken=taken)
            except BaseException:
                self._lost.give_back([nonce], task_id=claimed.id)  # the caller was cancelled
                raise
        return claimed

    async def _give_back(self, taken: Sequence[Taken]) -> None:
        try:
            with self._deployment.limited():
                await self._lanes.give_back(taken)
        except RatusError as error:
            logger.debug("places that were not used are freed later: %s", error.detail)

    # ---- which one -------------------------------------------------------------------------------

    async def _choose(self, request: _Request) -> _Choice | Closing | None:
        """The task that comes next, or why a limit closes all that are due; ``None``: none is due."""
        names = [
            name
            for name in turns.names_in_turn(request.per, request.selection.prefer)
            if name in request.use.labels and name not in request.use.building
        ]
        if not names:
            task = await self._within(request, None, None, ())
            return None if task is None else _Choice(task)
        if request.where is not None:
            return await self._among(request, names, await self._first_matching(request, names[0]))
        return await self._among_lanes(request, names)

    async def _among_lanes(self, request: _Request, names: Sequence[str]) -> _Choice | Closing | None:
        """Choose among the lanes of a label."""
        label, per = names[0], request.per
        lanes, top, counts = await asyncio.gather(
            self._lanes.open_lanes(request.topic, label, per, request.now, LANES),
            self._first(request.matching()),
            self._counts(request, label),
        )
        if top is None:
            return None
        active = {lane.value: lane.places if counts is None else counts.get(lane.value, 0) for lane in lanes}
        lanes.sort(key=lambda lane: (active[lane.value], lane.served))
        best: _Choice | None = None
        done = 0
        for step in _STEPS:
            part = lanes[done : done + step]
            done += step
            heads = await asyncio.gather(*(self._head(request, lane) for lane in part))
            for lane, head in zip(part, heads, strict=True):
                if head is not None and (best is None or head.priority > best.task.priority):
                    best = _Choice(head, lane)
            if best is not None and best.task.priority >= top.priority:
                break  # no task that is due has a higher one, and this lane's turn is first
        known = any(lane.value == first_value(top.labels, label) for lane in lanes)
        if best is None and (len(lanes) == LANES or not known):
            # More lanes than are looked at; or a crash has left a task without its lane.
            found = await self._among(request, names, await self._first_matching(request, label))
            if isinstance(found, _Choice):
                return found
        if best is None:
            return await self._why(request)
        return await self._in_lane(request, best, names)

    async def _head(self, request: _Request, lane: Lane) -> TaskRecord | None:
        """The due task of a lane that may be claimed first."""
        if is_ordered(request.per, lane.value):
            first = await self._lanes.first_created(request.topic, lane.label, lane.value, request.now)
            return first if first is not None and await self._is_due(first, request) else None
        return await self._first(request.matching(key=labels.lane_key(lane.label, lane.value)))

    async def _is_due(self, task: TaskRecord, request: _Request) -> bool:
        if task.scheduled <= request.now:
            return True
        # Where the clock was set back it may be due all the same.
        condition = {**request.condition, "_id": task.id}
        return self._due.is_back(request.now) and bool(
            await self._deployment.current.find_one(condition, {"_id": 1}, hint="_id_")
        )

    async def _counts(self, request: _Request, label: str) -> dict[str | None, int] | None:
        """How many tasks of each lane are active; ``None``: as many as places are taken."""
        return None if request.use.keeps else await self._lanes.active(request.topic, label)

    async def _active(self, request: _Request, label: str, lanes: Sequence[Lane]) -> dict[str | None, int]:
        """How many tasks of each lane are active."""
        if request.use.keeps:
            return {lane.value: lane.places for lane in lanes}
        counts = await self._lanes.standing(request.topic, label, [lane.value for lane in lanes])
        return {lane.value: counts.get((lane.value, ACTIVE), 0) for lane in lanes}

    async def _first_matching(self, request: _Request, label: str) -> list[TaskRecord]:
        """Due tasks that match, in line: of each value that is asked for the first, or the first of all."""
        where = request.where
        if where is None or where.label != label:
            return await self._some(request.matching(), indexes.CLAIM_ORDER, WHERE_TASKS)
        lines = await asyncio.gather(
            *(
                self._some(
                    {**request.condition, labels.FIELD: f"{label}{sign}{value}"}, indexes.CLAIM_ORDER, most
                )
                for value in where.values
                # A further value is not that of the lane, so it may be in several lanes.
                for sign, most in (("=", 1), ("+", FIRST_TASKS))
            )
        )
        tasks = {task.id: task for line in lines for task in line}
        return sorted(tasks.values(), key=lambda task: (-task.priority, task.scheduled, task.sequence))

    async def _among(
        self, request: _Request, names: Sequence[str], tasks: Sequence[TaskRecord]
    ) -> _Choice | Closing | None:
        """Choose among the lanes of these due tasks, which are in line."""
        label, per = names[0], request.per
        heads: dict[str | None, TaskRecord] = {}
        for task in tasks:
            heads.setdefault(first_value(task.labels, label), task)
        if not heads:
            return None
        lanes = await self._lanes.of(request.topic, label, list(heads))
        for value, lane in lanes.items():
            if not lane.lives:
                lane.served, lane.lives = heads[value].sequence, True
                await self._lanes.enter([((request.topic, label, value), lane.served)])
        active = await self._active(request, label, list(lanes.values()))
        closings: list[Closing] = []
        choices: list[_Choice] = []
        for value in list(heads)[: LANES if per is not None and per.ordered else None]:
            lane = lanes[value]
            if per is not None:
                closing = await self._lanes.closing(lane, per, active[value], request.now)
                if closing is not None:
                    closings.append(closing)
                    continue
            head: TaskRecord | None = heads[value]
            if is_ordered(per, value):
                head = await self._head(request, lane)
                if head is not None and request.where is not None and not request.where.matches(head):
                    head = None
            if head is not None:
                choices.append(_Choice(head, lane))
        if not choices:
            return _first_to_reopen(closings)
        highest = max(choice.task.priority for choice in choices)
        best = min(
            (choice for choice in choices if choice.task.priority == highest),
            key=lambda choice: _standing(choice, active),
        )
        return await self._in_lane(request, best, names)

    async def _in_lane(self, request: _Request, choice: _Choice, names: Sequence[str]) -> _Choice | None:
        """The task of the chosen lane that comes next."""
        lane, head = choice.lane, choice.task
        assert lane is not None
        if is_ordered(request.per, lane.value) or (request.selection.order == "due" and len(names) == 1):
            return choice
        task = await self._within(request, labels.lane_key(lane.label, lane.value), head.priority, names[1:])
        return None if task is None else _Choice(task, lane)

    async def _within(
        self, request: _Request, key: str | None, priority: int | None, names: Sequence[str]
    ) -> TaskRecord | None:
        """The next task with this key and priority, in the order wanted, in turns by the further names."""
        if priority is None:
            first = await self._first(request.matching(key=key))
            if first is None or request.selection.order == "due":
                return first
            priority = first.priority
        condition = request.matching(key=key, priority=priority)
        order = indexes.NEWEST_FIRST if request.selection.order == "newest" else indexes.DUE_FIRST
        is_random = request.selection.order == "random"
        tasks = await self._some(condition, order, FIRST_TASKS if names or is_random else 1)
        for name in names:
            values = {task.id: first_value(task.labels, name) for task in tasks}
            lanes = await self._lanes.of(request.topic, name, set(values.values()))
            active = await self._active(request, name, list(lanes.values()))
            standing: dict[Hashable, Standing] = {
                value: (active[value], lane.served) for value, lane in lanes.items()
            }
            tasks = _next_turn(tasks, values, standing)
        if not tasks:
            return None
        return random.choice(tasks) if is_random else tasks[0]

    async def _why(self, request: _Request) -> Closing | None:
        """Why lanes with due tasks are closed, if they are."""
        per = request.per
        if per is None:
            return None
        lanes = await self._lanes.waiting_lanes(request.topic, per.label, request.now, LANES)
        active = await self._active(request, per.label, lanes)
        closings = [
            Closing(Reason.ORDERED if per.concurrency is None and per.ordered else Reason.CONCURRENCY)
        ]
        for lane in lanes:
            key = labels.lane_key(per.label, lane.value)
            closing = await self._lanes.closing(lane, per, active[lane.value], request.now)
            if closing is not None and await self._first(request.matching(key=key)) is not None:
                closings.append(closing)
        return _first_to_reopen(closings)

    # ---- look-ups --------------------------------------------------------------------------------

    async def _first(self, condition: Document) -> TaskRecord | None:
        found = await self._some(condition, indexes.CLAIM_ORDER, 1)
        return found[0] if found else None

    async def _some(
        self, condition: Document, order: Sequence[tuple[str, int]], limit: int
    ) -> list[TaskRecord]:
        is_by_key = labels.FIELD in condition or "$and" in condition
        index = indexes.KEY_CLAIMS if is_by_key else indexes.CLAIMS
        found = self._deployment.current.find(
            condition, WITHOUT_VALUES, sort=order, limit=limit, hint=self._deployment.hint(index)
        )
        return [record(each) for each in await found.to_list()]


def _next_turn(
    tasks: Sequence[TaskRecord],
    values: Mapping[str, str | None],
    standing: Mapping[Hashable, Standing],
) -> list[TaskRecord]:
    """`turns.next_turn`; ``values``: those of the tasks by their ids."""
    return turns.next_turn(tasks, lambda task: values[task.id], standing.__getitem__)


def _standing(choice: _Choice, active: dict[str | None, int]) -> Standing:
    assert choice.lane is not None
    return active[choice.lane.value], choice.lane.served


def _first_to_reopen(closings: Sequence[Closing]) -> Closing | None:
    """Of these the rate or hold that ends first; if there is none, any."""
    timed = [each for each in closings if turns.retry_at(each) is not None]
    if timed:
        return min(timed, key=lambda each: each.reopens or 0)
    return closings[0] if closings else None


def _as_pending(task: TaskRecord) -> TaskRecord:
    """The task as it was before it was claimed, as far as lanes are concerned."""
    return structs.replace(task, state=PENDING, nonce="")
