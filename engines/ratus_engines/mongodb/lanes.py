"""Lanes: turns, places under limits, rates and holds, in a collection beside that of tasks.

| field | of | type |
| --- | --- | --- |
| `_id` | both | topic, and key of the lane (`ratus_engines.mongodb.labels`); empty for the topic as a whole |
| `topic`, `label`, `value` | lanes | string; the lane of the tasks without the label has no value |
| `lives` | lanes | true while a task of it is pending or active; absent otherwise |
| `gone` | lanes | true in those that are kept only for their times |
| `served` | lanes | when its turn was, a number of the order of creation |
| `places` | both | the claims in flight: id and nonce of the task, and when the place was taken |
| `allowed`, `held` | both | times of rate and hold, in microseconds |
| `use`, `labels`, `building`, `keeps` | topics | see `ratus_engines.mongodb.uses` |

Places are a set beside the truth, which is the active tasks. A claim takes its place *before* it is made, by
an update that looks at the number of places, so there are never more claims than places. Everything else (the
end of a claim, a copy that is stored active) is written to the set after the task and before the answer.
Where a server dies in between, a place stays taken that is not; `Lanes.repair` finds it by the active tasks.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct
from pymongo import UpdateOne
from pymongo.errors import BulkWriteError, PyMongoError
from pymongo.operations import IndexModel

from ratus.core import transitions, turns
from ratus.core.errors import RatusError
from ratus.core.labels import first_value
from ratus.core.records import ACTIVE, PENDING, LaneInfo, TaskRecord
from ratus.core.times import MAX_TIME
from ratus.core.turns import Bound, Closing, Limits, PerLabel
from ratus_engines.mongodb import indexes
from ratus_engines.mongodb.deployment import Deployment, background
from ratus_engines.mongodb.documents import WITHOUT_VALUES, Document, conditions, record
from ratus_engines.mongodb.errors import reason
from ratus_engines.mongodb.labels import FIELD, key_in, lane_key
from ratus_engines.mongodb.signals import Signals
from ratus_engines.mongodb.uses import PLACES, Use, Uses

logger = logging.getLogger("ratus.engines.mongodb")

_DUPLICATE = 11000

# Milliseconds after which a place without an active task is given back. Until then a claim may still be made
# for it: a request has 9.5 seconds, its last command may be late, and the clocks of servers differ a little.
GRACE = 15_000

# Lanes of which it is looked up at the same time whether they have tasks.
_AT_ONCE = 16

INDEXES = (
    # Of the lanes of a label, the one that was served longest ago.
    IndexModel(
        [("topic", 1), ("label", 1), ("served", 1)], name="served", partialFilterExpression={"lives": True}
    ),
    IndexModel([("topic", 1), ("label", 1), ("value", 1)], name="values"),
    IndexModel([("use", 1)], name="uses", partialFilterExpression={"use": True}),
    IndexModel([("gone", 1)], name="gone", partialFilterExpression={"gone": True}),
)

Pairs = Sequence[tuple[TaskRecord | None, TaskRecord | None]]
"""Changes of tasks: each as it was before and as it is after, ``None``: it was not or is not there."""

_Name = tuple[str, str, str | None]
"""A lane: its topic, label and value."""

_FIELDS = {
    "topic": 1,
    "label": 1,
    "value": 1,
    "lives": 1,
    "served": 1,
    "allowed": 1,
    "held": 1,
    "places": {"$size": {"$ifNull": ["$places", []]}},
}


class Lane(Struct, gc=False):
    """A lane, or with the label ``""`` a topic as a whole. ``places``: how many are taken."""

    topic: str
    label: str = ""
    value: str | None = None
    lives: bool = False
    served: int = 0
    places: int = 0
    allowed: int = 0
    held: int = 0

    @property
    def id(self) -> Document:
        return {"topic": self.topic, "key": lane_key(self.label, self.value)}


class Place(Struct, frozen=True, gc=False):
    """The place of a claim."""

    task_id: str
    nonce: str

    def fields(self) -> Document:
        return {"task": self.task_id, "nonce": self.nonce}


class Taken(Struct, frozen=True, gc=False):
    """A place that was taken in a lane, and its time of rate before and after, if that was used up."""

    lane: Lane
    place: Place
    allowed: int | None = None


def is_ordered(per: PerLabel | None, value: str | None) -> bool:
    """Whether the lane of this value has its tasks one after the other."""
    return per is not None and per.ordered and value is not None


def counts_places(limits: Limits | None) -> bool:
    """Whether these limits depend on the number of active tasks."""
    if limits is None:
        return False
    per = limits.per
    return limits.concurrency is not None or (
        per is not None and (per.concurrency is not None or per.ordered)
    )


def is_building(limits: Limits | None, use: Use) -> bool:
    """Whether what these limits depend on has not all been made yet."""
    per = None if limits is None else limits.per
    return (per is not None and per.label in use.building) or (
        counts_places(limits) and PLACES in use.building
    )


def _lane(found: Mapping[str, Any]) -> Lane:
    return Lane(
        found["topic"],
        found.get("label", ""),
        found.get("value"),
        bool(found.get("lives")),
        int(found.get("served") or 0),
        int(found.get("places") or 0),
        int(found.get("allowed") or 0),
        int(found.get("held") or 0),
    )


def _has_room(bound: Bound | None, *, ordered: bool) -> Document:
    """The condition for lanes with a place left."""
    most = None if bound is None else bound.concurrency
    if ordered:
        most = 1
    return {} if most is None else {f"places.{most - 1}": {"$exists": False}}


def _is_open(bound: Bound | None, now: int, *, ordered: bool = False) -> Document:
    """The condition for lanes that no limit closes: what `turns.closing` says, for the database."""
    found = {**_has_room(bound, ordered=ordered), "held": {"$not": {"$gt": now}}}
    if bound is not None and bound.rate is not None:
        ahead = (bound.rate.burst - 1) * turns.interval(bound.rate)
        found["allowed"] = {"$not": {"$gt": now + ahead}}
    return found


class Lanes:
    """Reads and writes lanes. ``sequence`` gives numbers in the order of creation."""

    def __init__(
        self, deployment: Deployment, uses: Uses, signals: Signals, sequence: Callable[[], int]
    ) -> None:
        self._deployment = deployment
        self._uses = uses
        self._signals = signals
        self._sequence = sequence
        self.grace = GRACE
        # Topics whose lanes could not be written after a task was.
        self._unsure: set[str] = set()
        self._following: set[asyncio.Task[None]] = set()

    # ---- reading ---------------------------------------------------------------------------------

    async def topic(self, topic: str) -> Lane:
        """The topic as a whole."""
        own = Lane(topic)
        found = await self._deployment.lanes.find_one({"_id": own.id}, _FIELDS)
        return own if found is None else _lane(found)

    async def topics(self) -> dict[str, Lane]:
        """Every topic in use."""
        found = self._deployment.lanes.find({"use": True}, _FIELDS)
        return {lane.topic: lane async for lane in (_lane(each) async for each in found)}

    async def of(self, topic: str, label: str, values: Collection[str | None]) -> dict[str | None, Lane]:
        """The lanes of these values, also where there is no document."""
        lanes = {value: Lane(topic, label, value) for value in values}
        condition = {"_id": {"$in": [lane.id for lane in lanes.values()]}}
        for found in await self._deployment.lanes.find(condition, _FIELDS).to_list():
            lanes[found.get("value")] = _lane(found)
        return lanes

    async def open_lanes(
        self, topic: str, label: str, per: PerLabel | None, now: int, limit: int
    ) -> list[Lane]:
        """Lanes that have tasks and are open, those first that were served longest ago."""
        condition: Document = {"topic": topic, "label": label, "lives": True}
        if per is not None and per.ordered:
            condition["$or"] = [
                {"value": None, **_is_open(per, now)},
                {"value": {"$ne": None}, **_is_open(per, now, ordered=True)},
            ]
        elif per is not None:
            condition |= _is_open(per, now)
        found = self._deployment.lanes.find(condition, _FIELDS, sort=[("served", 1)], limit=limit)
        return [_lane(each) for each in await found.to_list()]

    async def waiting_lanes(self, topic: str, label: str, now: int, limit: int) -> list[Lane]:
        """Lanes that have tasks, and a time of rate or hold that is to come."""
        later = [{"allowed": {"$gt": now}}, {"held": {"$gt": now}}]
        condition = {"topic": topic, "label": label, "lives": True, "$or": later}
        found = self._deployment.lanes.find(condition, _FIELDS, sort=[("served", 1)], limit=limit)
        return [_lane(each) for each in await found.to_list()]

    async def count(self, topic: str) -> int:
        """How many lanes the topic has."""
        condition = {"topic": topic, "lives": True}
        count: int = await self._deployment.lanes.count_documents(condition)
        return count

    async def counts(self) -> dict[str, int]:
        """How many lanes each topic has."""
        pipeline: list[Document] = [
            {"$match": {"topic": {"$gte": ""}, "lives": True}},
            {"$group": {"_id": "$topic", "count": {"$sum": 1}}},
        ]
        cursor = await self._deployment.lanes.aggregate(pipeline)
        return {found["_id"]: int(found["count"]) async for found in cursor}

    async def standing(
        self, topic: str, label: str, values: Collection[str | None], states: Sequence[int] = (ACTIVE,)
    ) -> dict[tuple[str | None, int], int]:
        """How many tasks lanes have, by value and state: those that are there, counted."""
        keys = {lane_key(label, value): value for value in values}
        pipeline: list[Document] = [
            {"$match": {"topic": topic, FIELD: {"$in": list(keys)}, "state": {"$in": list(states)}}},
            {"$unwind": f"${FIELD}"},
            {"$match": {FIELD: {"$in": list(keys)}}},
            {"$group": {"_id": {"key": f"${FIELD}", "state": "$state"}, "count": {"$sum": 1}}},
        ]
        hint = self._deployment.hint(indexes.KEYS)
        options: dict[str, Any] = {"hint": hint} if hint else {}
        cursor = await self._deployment.current.aggregate(pipeline, **options)
        return {
            (keys[found["_id"]["key"]], int(found["_id"]["state"])): int(found["count"])
            for found in await cursor.to_list()
        }

    async def active(self, topic: str, label: str) -> dict[str | None, int]:
        """How many active tasks each lane of a label has, of those that have any."""
        key = f"${FIELD}"
        is_lane = {"$or": [{"$eq": [key, label]}, {"$eq": [{"$indexOfBytes": [key, f"{label}="]}, 0]}]}
        pipeline: list[Document] = [
            {"$match": {"topic": topic, "state": ACTIVE}},
            {"$project": {FIELD: 1, "_id": 0}},
            {"$unwind": key},
            {"$match": {"$expr": is_lane}},
            {"$group": {"_id": key, "count": {"$sum": 1}}},
        ]
        hint = self._deployment.hint(indexes.ACTIVE_TOPIC)
        options: dict[str, Any] = {"hint": hint} if hint else {}
        cursor = await self._deployment.current.aggregate(pipeline, **options)
        counts = {found["_id"]: int(found["count"]) for found in await cursor.to_list()}
        return {None if each == label else each[len(label) + 1 :]: count for each, count in counts.items()}

    async def first_created(self, topic: str, label: str, value: str | None, now: int) -> TaskRecord | None:
        """Of the pending tasks of a lane that have not expired the one that was created first."""
        found = await self._deployment.current.find_one(
            {
                "topic": topic,
                FIELD: lane_key(label, value),
                "state": PENDING,
                "expires": conditions(transitions.claimable(now))["expires"],
            },
            WITHOUT_VALUES,
            sort=[("sequence", 1)],
            hint=self._deployment.hint(indexes.KEY_CREATION),
        )
        return None if found is None else record(found)

    async def closing(self, lane: Lane, per: PerLabel | None, active: int, now: int) -> Closing | None:
        """Why a lane is closed; ``None``: it is open."""
        if per is None or not is_ordered(per, lane.value):
            return turns.closing(per, active, lane.allowed, lane.held, now)
        first = None if active else await self.first_created(lane.topic, lane.label, lane.value, now)
        waits = None if first is None or first.scheduled <= now else first.scheduled
        return turns.closing_of_lane(per, lane.value, active, waits, lane.allowed, lane.held, now)

    # ---- the list --------------------------------------------------------------------------------

    async def page(
        self, topic: str, label: str, per: PerLabel | None, after: str | None, limit: int, now: int
    ) -> list[LaneInfo]:
        """As `ratus.engine.Engine.list_lanes`. ``per``: the limits, if they are per this label."""
        shown: list[Document] = [{"lives": True}]
        if per is not None:
            shown += [{"allowed": {"$gt": now}}, {"held": {"$gt": now}}]
        condition: Document = {"topic": topic, "label": label, "$or": shown}
        infos: list[LaneInfo] = []
        while len(infos) < limit:
            value = {"$type": "string"} if after is None else {"$gt": after}
            found = await self._deployment.lanes.find(
                {**condition, "value": value}, _FIELDS, sort=[("value", 1)], limit=limit
            ).to_list()
            infos += await self._infos([_lane(each) for each in found], per, now)
            if len(found) < limit:
                break
            after = found[-1]["value"]
        if len(infos) < limit:
            last = await self._deployment.lanes.find_one({**condition, "value": None}, _FIELDS)
            infos += await self._infos([] if last is None else [_lane(last)], per, now)
        return infos[:limit]

    async def _infos(self, lanes: Sequence[Lane], per: PerLabel | None, now: int) -> list[LaneInfo]:
        if not lanes:
            return []
        topic, label = lanes[0].topic, lanes[0].label
        counts = await self.standing(topic, label, [lane.value for lane in lanes], (PENDING, ACTIVE))
        infos = []
        for lane in lanes:
            active, pending = counts.get((lane.value, ACTIVE), 0), counts.get((lane.value, PENDING), 0)
            closed = None if per is None else await self.closing(lane, per, active, now)
            if active or pending or closed:
                infos.append(LaneInfo(lane.value, active, pending, closed))
        return infos

    # ---- places ----------------------------------------------------------------------------------

    async def take(
        self, lane: Lane, bound: Bound | None, place: Place, now: int, *, ordered: bool, keeps: bool
    ) -> Taken | None:
        """Take a place, and use up the rate. ``None``: the lane is not as it was read, or is closed."""
        condition: Document = {"_id": lane.id, **_is_open(bound, now, ordered=ordered)}
        changes: Document = {}
        allowed = None
        if bound is not None and bound.rate is not None:
            condition["allowed"] = lane.allowed or {"$in": [None, 0]}
            allowed = turns.claimed(bound.rate, lane.allowed, now)
            changes["$set"] = {"allowed": allowed}
        if keeps:
            changes["$push"] = {"places": _new(place)}
        if not changes:
            changes["$unset"] = {"gone": ""}  # there is nothing to note, but the guard has to hold
        result = await self._deployment.lanes.update_one(condition, changes)
        return Taken(lane, place, allowed) if result.matched_count else None

    async def give_back(self, taken: Sequence[Taken]) -> None:
        """Undo what `take` did, where the claim was not made."""
        operations = []
        for each in taken:
            operations.append(_free(each.lane.id, each.place))
            if each.allowed is not None:
                condition = {"_id": each.lane.id, "allowed": each.allowed}
                operations.append(UpdateOne(condition, {"$set": {"allowed": each.lane.allowed}}))
        await self._write(operations)

    async def bound_rates(self, topic: str, limits: Limits, now: int) -> None:
        """Bring the times of rates back that are further ahead than a burst takes (`turns.bounded`)."""
        bounds: list[tuple[Bound | None, Document]] = [
            (limits, {"_id": Lane(topic).id}),
            (limits.per, {"topic": topic, "label": limits.per.label if limits.per else ""}),
        ]
        for bound, condition in bounds:
            if bound is not None and bound.rate is not None:
                most = turns.bounded(bound.rate, MAX_TIME, now)
                await self._deployment.lanes.update_many(
                    {**condition, "allowed": {"$gt": most}}, {"$set": {"allowed": most}}
                )

    async def use_up(self, lane: Lane, bound: Bound | None, now: int) -> None:
        """Use up the rate by a claim that it cannot hinder."""
        rate = None if bound is None else bound.rate
        while rate is not None:
            [there] = (
                [await self.topic(lane.topic)]
                if not lane.label
                else (await self.of(lane.topic, lane.label, [lane.value])).values()
            )
            result = await self._deployment.lanes.update_one(
                {"_id": lane.id, "allowed": there.allowed or {"$in": [None, 0]}},
                {"$set": {"allowed": turns.claimed(rate, there.allowed, now)}},
            )
            if result.matched_count:
                return

    async def hold(self, task: TaskRecord, per: PerLabel | None, until: int) -> int:
        """Hold the lane of a task, or its topic where limits are not per label. The topic is in use.

        Returns until when it was held before.
        """
        lane = _held_lane(task, per)
        first: Document = {"topic": lane.topic}
        if per is not None:
            first = {**_fields((lane.topic, lane.label, lane.value)), "gone": True}
        before = await self._deployment.lanes.find_one_and_update(
            {"_id": lane.id}, {"$max": {"held": until}, "$setOnInsert": first}, {"held": 1}, upsert=True
        )
        return int((before or {}).get("held") or 0)

    async def end_hold(self, task: TaskRecord, per: PerLabel | None, until: int, before: int) -> None:
        """Undo `hold`, unless there is another hold by now."""
        if until > before:
            condition = {"_id": _held_lane(task, per).id, "held": until}
            await self._deployment.lanes.update_one(condition, {"$set": {"held": before}})

    async def lift_holds(self, topic: str) -> None:
        """End all holds of the topic and of its lanes."""
        await self._deployment.lanes.update_many(
            {"topic": topic, "held": {"$exists": True}}, {"$unset": {"held": ""}}
        )
        await self.signal(topic)

    async def signal(self, topic: str) -> None:
        """Let the waiting requests of every server know that a claim may succeed now."""
        number = self._sequence()
        self._signals.frees(topic, number)
        await self._deployment.lanes.update_one({"_id": Lane(topic).id}, {"$set": {"freed": number}})
        self._signals.available(topic)

    def _signal(self, seat: _Seat) -> int | None:
        """A number by which other servers hear that a place of a topic is free."""
        topic, key, _ = seat
        if key:
            return None
        number = self._sequence()
        self._signals.frees(topic, number)
        return number

    # ---- what follows from changes of tasks ------------------------------------------------------

    async def changed(
        self,
        pairs: Pairs,
        *,
        claims: bool = False,
        marked: Mapping[str, Use] | None = None,
        taken: Sequence[Taken] = (),
    ) -> None:
        """Write to the lanes what follows from changes that were made to tasks.

        ``claims``: each is a claim, which gives its lanes their turn. ``marked``: the topics in use by which
        the tasks were written with all their keys. ``taken``: places that these claims have already.

        Never fails: what cannot be written now is written by `repair`. A caller that is cancelled does not
        wait for the end of it.
        """
        topics = {task.topic for pair in pairs for task in pair if task is not None}
        uses = await self._known()
        if not uses or not uses.keys() & topics:
            return
        following = background(self._changed(pairs, claims, marked or {}, taken))
        self._following.add(following)
        following.add_done_callback(self._following.discard)
        await asyncio.shield(following)

    async def close(self) -> None:
        """Wait until what follows from changes is written."""
        if self._following:
            await asyncio.wait(self._following, timeout=1)

    async def _known(self) -> Mapping[str, Use] | None:
        try:
            return await self._uses.all()
        except (PyMongoError, RatusError) as error:
            logger.debug("the topics in use are not known: %s", reason(error))
            return None

    async def _changed(
        self, pairs: Pairs, claims: bool, marked: Mapping[str, Use], taken: Sequence[Taken]
    ) -> None:
        topics = {task.topic for pair in pairs for task in pair if task is not None}
        try:
            uses = await self._uses.all()
            if uses.keys() & topics:
                with self._deployment.limited():
                    await self._follow(uses, pairs, claims=claims, marked=marked, taken=taken)
        except (PyMongoError, RatusError) as error:
            logger.warning("lanes are not as the tasks are, and will be repaired: %s", reason(error))
            self._unsure |= topics

    async def _follow(
        self,
        uses: Mapping[str, Use],
        pairs: Pairs,
        *,
        claims: bool,
        marked: Mapping[str, Use],
        taken: Sequence[Taken],
    ) -> None:
        operations: list[UpdateOne] = []
        marks: list[UpdateOne] = []
        left: dict[_Name, None] = {}
        freed: dict[str, None] = {}
        has = {(each.lane.topic, lane_key(each.lane.label, each.lane.value)) for each in taken}
        for before, after in pairs:
            lanes_before, lanes_after = _lanes_of(uses, before), _lanes_of(uses, after)
            for name in lanes_after:
                if claims:
                    operations.append(_serve(name, self._sequence()))
                elif name not in lanes_before:
                    operations.append(enter(name, self._sequence()))
                has_key = name[1] in marked[name[0]].labels if name[0] in marked else False
                if name[2] is None and not has_key and name not in lanes_before:
                    assert after is not None
                    marks.append(mark(after, name[1]))
                left.pop(name, None)
            for name in lanes_before:
                if name not in lanes_after:
                    left[name] = None
            seats_before, seats_after = _seats_of(uses, before), _seats_of(uses, after)
            operations += [
                _seat(*seat) for seat in seats_after if seat not in seats_before and seat[:2] not in has
            ]
            ended = [seat for seat in seats_before if seat not in seats_after]
            operations += [_free(_id(*seat[:2]), seat[2], self._signal(seat)) for seat in ended]
            for task, there in ((before, lanes_before), (after, lanes_after)):
                # The head of a lane may have gone, which makes the next one the head.
                if task is not None and (ended or there != lanes_after) and _keeps(uses, task):
                    freed[task.topic] = None
        if marks:
            await self._deployment.tasks.bulk_write(marks, ordered=False)
        slots = asyncio.Semaphore(_AT_ONCE)
        empty: list[_Name] = []

        async def look(name: _Name) -> None:
            async with slots:
                if not await self._has_tasks(name):
                    empty.append(name)

        async def leave(name: _Name) -> None:
            async with slots:
                await self._leave(name)

        await asyncio.gather(self._write(operations), *map(look, left))
        await asyncio.gather(*map(leave, empty))
        for topic in freed:
            self._signals.available(topic)

    async def _write(self, operations: Sequence[UpdateOne]) -> None:
        if not operations:
            return
        try:
            await self._deployment.lanes.bulk_write(list(operations), ordered=True)
        except BulkWriteError as error:
            if any(failure["code"] != _DUPLICATE for failure in error.details["writeErrors"]):
                raise
            if error.details["writeConcernErrors"]:
                raise
            # Another server made a lane at the same moment. All operations may be repeated.
            await self._deployment.lanes.bulk_write(list(operations), ordered=True)

    async def enter(self, entered: Iterable[tuple[_Name, int]], *, lowest: bool = False) -> None:
        """Make lanes, each served at its number, unless they are there. ``lowest``: with the lower number."""
        await self._write([enter(name, number, lowest=lowest) for name, number in entered])

    async def _leave(self, name: _Name) -> None:
        """Forget a lane that has no task any more.

        A task that is stored by another server meanwhile makes the lane anew after it was stored; so it is
        either found here, by the second look, or makes the lane after this has forgotten it.
        """
        lanes = self._deployment.lanes
        there = {"_id": Lane(*name).id}
        before = await lanes.find_one_and_update(there, {"$unset": {"lives": ""}, "$set": {"gone": True}})
        if before is None or not before.get("lives"):
            return
        if await self._has_tasks(name):
            await self.enter([(name, int(before.get("served") or 0))])
        else:
            await lanes.delete_one(
                {**there, "gone": True, "allowed": None, "held": None, "places.0": {"$exists": False}}
            )

    async def _has_tasks(self, name: _Name) -> bool:
        topic, label, value = name
        found = await self._deployment.current.find_one(
            {"topic": topic, FIELD: lane_key(label, value), "state": {"$in": [PENDING, ACTIVE]}},
            {"_id": 1},
            hint=self._deployment.hint(indexes.KEYS),
        )
        return found is not None

    # ---- chores ----------------------------------------------------------------------------------

    async def forget_times(self, now: int) -> None:
        """Delete lanes without tasks whose times have passed."""
        await self._deployment.lanes.delete_many(
            {
                "gone": True,
                "places.0": {"$exists": False},
                "allowed": {"$not": {"$gt": now}},
                "held": {"$not": {"$gt": now}},
            }
        )

    async def forget(self, topic: str | None) -> None:
        """Delete everything that is known of the lanes of a topic, or of all."""
        condition: Document = {"topic": {"$exists": True}} if topic is None else {"topic": topic}
        if (await self._deployment.lanes.delete_many(condition)).deleted_count:
            await self._uses.announce()

    async def forget_unused(self, topic: str, now: int) -> None:
        """Forget a topic without task and setting, unless a rate or a hold of it has not run out."""
        later = [{"allowed": {"$gt": now}}, {"held": {"$gt": now}}, {"places.0": {"$exists": True}}]
        if await self._deployment.lanes.find_one({"topic": topic, "$or": later}, {"_id": 1}) is None:
            await self.forget(topic)

    async def missing(self, names: Mapping[_Name, int]) -> dict[_Name, int]:
        """Those of these lanes that are not there, or are thought to have no task."""
        ids = [Lane(*name).id for name in names]
        condition = {"_id": {"$in": ids}, "lives": True}
        found = await self._deployment.lanes.find(condition, {"topic": 1, "label": 1, "value": 1}).to_list()
        there = {(each["topic"], each["label"], each.get("value")) for each in found}
        return {name: number for name, number in names.items() if name not in there}

    async def repair(self, topic: str) -> bool:
        """Make the places of a topic those of its active tasks. Returns whether any place became free.

        Places that were taken just now are left alone: their claims may be under way.
        """
        self._unsure.discard(topic)
        use = (await self._uses.all()).get(topic)
        if use is None or not use.keeps:
            return False
        condition = {"topic": topic, "places.0": {"$exists": True}}
        documents = await self._deployment.lanes.find(condition, {"places": 1}).to_list()
        active = await self._deployment.current.find(
            {"topic": topic, "state": ACTIVE},
            WITHOUT_VALUES,
            hint=self._deployment.hint(indexes.ACTIVE_TOPIC),
        ).to_list()
        seats = {seat for task in map(record, active) for seat in _seats_of({topic: use}, task)}
        latest = _milliseconds() - self.grace
        there: set[_Seat] = set()
        operations: list[UpdateOne] = []
        freed = 0
        for document in documents:
            key = document["_id"]["key"]
            for fields in document["places"]:
                seat = topic, key, Place(fields["task"], fields["nonce"])
                there.add(seat)
                if seat not in seats and fields["at"] <= latest:
                    operations.append(_free(document["_id"], seat[2]))
                    freed += 1
        operations += [_seat(*seat) for seat in seats - there]
        await self._write(operations)
        if freed:
            logger.info("freed %d places of claims that are over", freed)
            await self.signal(topic)
        return bool(freed)

    @property
    def unsure(self) -> Collection[str]:
        """Topics whose lanes could not be written after a task was."""
        return self._unsure


_Seat = tuple[str, str, Place]
"""A place in a lane: its topic and key."""


def _held_lane(task: TaskRecord, per: PerLabel | None) -> Lane:
    if per is None:
        return Lane(task.topic)
    return Lane(task.topic, per.label, first_value(task.labels, per.label))


def _id(topic: str, key: str) -> Document:
    return {"topic": topic, "key": key}


def _milliseconds() -> int:
    return time.time_ns() // 1_000_000


def _new(place: Place) -> Document:
    return {**place.fields(), "at": _milliseconds()}


def _seat(topic: str, key: str, place: Place) -> UpdateOne:
    """Enter an active task, whatever the limits are. Its lane is there."""
    condition = {"_id": _id(topic, key), "places": {"$not": {"$elemMatch": place.fields()}}}
    return UpdateOne(condition, {"$push": {"places": _new(place)}})


def _free(lane_id: Document, place: Place, number: int | None = None) -> UpdateOne:
    """Free a place. ``number``: signals to other servers that there is one in the topic."""
    changes: Document = {"$pull": {"places": place.fields()}}
    if number is not None:
        changes["$set"] = {"freed": number}
    return UpdateOne({"_id": lane_id}, changes)


def _fields(name: _Name) -> Document:
    topic, label, value = name
    return {"topic": topic, "label": label, **({} if value is None else {"value": value})}


def enter(name: _Name, number: int, *, lowest: bool = False) -> UpdateOne:
    """Make a lane that counts as served at ``number``, unless it is there.

    ``lowest``: one that is there counts as served at the lower number.
    """
    there: Any = {"$min": ["$served", number]} if lowest else "$served"
    literals = {field: {"$literal": text} for field, text in _fields(name).items()}
    served = {"$cond": [{"$eq": ["$lives", True]}, there, number]}
    stages: list[Document] = [{"$set": {**literals, "served": served}}, {"$set": {"lives": True}}]
    stages.append({"$unset": "gone"})
    return UpdateOne({"_id": Lane(*name).id}, stages, upsert=True)


def _serve(name: _Name, number: int) -> UpdateOne:
    """Give a lane its turn."""
    changes = {"$set": {**_fields(name), "served": number, "lives": True}, "$unset": {"gone": ""}}
    return UpdateOne({"_id": Lane(*name).id}, changes, upsert=True)


def mark(task: TaskRecord, label: str) -> UpdateOne:
    """Give a task the key of the lane of those without the label."""
    return UpdateOne({"_id": task.id, "topic": task.topic}, {"$addToSet": {FIELD: label}})


def _keeps(uses: Mapping[str, Use], task: TaskRecord) -> bool:
    use = uses.get(task.topic)
    return use is not None and use.keeps


def _lanes_of(uses: Mapping[str, Use], task: TaskRecord | None) -> list[_Name]:
    """The lanes that a task keeps alive."""
    use = None if task is None else uses.get(task.topic)
    if use is None or task is None or not transitions.stands_in_line(task):
        return []
    return [(task.topic, label, first_value(task.labels, label)) for label in use.labels]


def _seats_of(uses: Mapping[str, Use], task: TaskRecord | None) -> list[_Seat]:
    """The places that a task takes."""
    use = None if task is None else uses.get(task.topic)
    if use is None or task is None or not use.keeps or not transitions.occupies(task):
        return []
    place = Place(task.id, task.nonce)
    keys = ("", *(key_in(task.labels, label) for label in use.labels))
    return [(task.topic, key, place) for key in keys]
