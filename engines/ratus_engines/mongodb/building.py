"""Letting labels come into use in a topic: its lanes are made of the tasks that are there, in slices.

First every server is made to know, so that what they store and change from then on is in the lanes. Then the
tasks are walked over. What has been begun stands in the topic's document, so that a chore of any server goes
on with it after a crash.
"""

from __future__ import annotations

import asyncio
import logging
import time
from bisect import bisect_right
from collections.abc import Sequence

from pymongo import ReturnDocument
from pymongo.errors import OperationFailure

from ratus.core.labels import first_value
from ratus.core.records import ACTIVE, PENDING
from ratus_engines.mongodb import indexes
from ratus_engines.mongodb.changes import BATCH
from ratus_engines.mongodb.deployment import Deployment, background, stop
from ratus_engines.mongodb.documents import WITHOUT_VALUES, Document, record
from ratus_engines.mongodb.errors import is_passing, reason
from ratus_engines.mongodb.labels import FIELD
from ratus_engines.mongodb.lanes import INDEXES, Lane, Lanes, mark
from ratus_engines.mongodb.lists import known_topics
from ratus_engines.mongodb.uses import NOTHING, PLACES, Use, Uses

logger = logging.getLogger("ratus.engines.mongodb")

# Tasks that a request waits for while lanes are made of them; where there are more, it goes on without.
_WAITED_FOR = 10_000

# Seconds without progress after which another server goes on with what one has begun.
_STALE = 60.0

# Topics of which lanes and tasks are compared by one call of the chore.
_TOPICS = 20

# Pending tasks may become active and the other way round while they are walked over.
_STATES = (ACTIVE, PENDING, ACTIVE)


class _Walk:
    """The making of lanes of one topic. ``known``: its end is reached, or that it takes long is known."""

    def __init__(self) -> None:
        self.known = asyncio.Event()
        self.error: BaseException | None = None
        self.task: asyncio.Task[None] | None = None


class Building:
    """Lets labels come into use."""

    def __init__(self, deployment: Deployment, uses: Uses, lanes: Lanes, *, create_indexes: bool) -> None:
        self._deployment = deployment
        self._uses = uses
        self._lanes = lanes
        self._create_indexes = create_indexes
        self._lock = asyncio.Lock()
        self._walks: dict[str, _Walk] = {}
        # Where the comparison of lanes with tasks has come to: the topic, and in each the task.
        self._last = ""
        self._cursors: dict[str, str] = {}

    async def close(self) -> None:
        for walk in list(self._walks.values()):
            await stop(walk.task)

    async def use(self, topic: str, labels: Sequence[str] = (), *, keeps: bool = False) -> None:
        """Let labels come into use, and with ``keeps`` the places of active tasks be kept."""
        wanted = tuple(dict.fromkeys(labels))
        all_uses = await self._uses.all()
        use = all_uses.get(topic)
        if use is not None and use.covers(wanted, keeps=keeps):
            return
        async with self._lock:
            use = (await self._uses.all()).get(topic)
            if use is not None and use.covers(wanted, keeps=keeps):
                return
            await self._make_indexes()
            new = [label for label in wanted if use is None or label not in use.labels]
            building = [*new, *([PLACES] if keeps and (use is None or not use.keeps) else [])]
            changes: Document = {"$set": {"topic": topic, "use": True, "beat": time.time()}}
            if PLACES in building:
                changes["$set"]["keeps"] = True
            if building:
                changes["$addToSet"] = {"building": {"$each": building}}
            if new:
                changes["$addToSet"]["labels"] = {"$each": new}
            await self._deployment.lanes.update_one({"_id": Lane(topic).id}, changes, upsert=True)
            await self._uses.announce()
        if building:
            await self._build(topic)

    async def _make_indexes(self) -> None:
        if not self._create_indexes:
            return
        self._create_indexes = False
        try:
            await self._deployment.lanes.create_indexes(list(INDEXES))
        except OperationFailure as error:
            if is_passing(error):
                self._create_indexes = True
                raise
            logger.warning("cannot make the indexes of lanes, and limits are slow: %s", reason(error))

    async def _build(self, topic: str) -> None:
        """Make lanes, and wait for that unless it takes long."""
        walk = self._walks.get(topic)
        if walk is None:
            walk = self._walks[topic] = _Walk()
            walk.task = background(self._make(topic, walk))
        await walk.known.wait()
        if walk.error is not None:
            raise walk.error

    async def _make(self, topic: str, walk: _Walk) -> None:
        try:
            while await self._walk(topic, walk):
                pass  # another label came into use meanwhile
        except Exception as error:  # the request gets it; a chore begins anew
            walk.error = error
            if walk.known.is_set():
                logger.warning("the lanes of a topic are not made yet: %s", reason(error))
        finally:
            del self._walks[topic]
            walk.known.set()

    async def _walk(self, topic: str, walk: _Walk) -> bool:
        """Make the lanes that are to be made. Returns whether there are others now."""
        own = {"_id": Lane(topic).id}
        with self._deployment.limited():
            found = await self._deployment.lanes.find_one(own, {"building": 1})
        building = (found or {}).get("building") or []
        labels = [label for label in building if label != PLACES]
        count = 0
        for state in _STATES if labels else ():
            after: str | None = None
            while True:
                with self._deployment.limited():
                    after, number = await self._slice(topic, labels, state, after, lowest=True)
                    await self._deployment.lanes.update_one(own, {"$set": {"beat": time.time()}})
                count += number
                if after is None:
                    break
                if count >= _WAITED_FOR:
                    walk.known.set()
                await asyncio.sleep(0)
        with self._deployment.limited():
            await self._lanes.repair(topic)
            left = await self._deployment.lanes.find_one_and_update(
                own,
                {"$pullAll": {"building": building}},
                {"building": 1},
                return_document=ReturnDocument.AFTER,
            )
            await self._uses.announce(wait=False)
        if walk.known.is_set():
            await self._signal(topic)
        return bool((left or {}).get("building"))

    async def _signal(self, topic: str) -> None:
        with self._deployment.limited():
            await self._lanes.signal(topic)

    async def _slice(
        self, topic: str, labels: Sequence[str], state: int, after: str | None, *, lowest: bool
    ) -> tuple[str | None, int]:
        """Make the lanes of the next tasks. Returns the last id, ``None`` at the end, and their number.

        ``lowest``: a lane counts as served when the first of its tasks came in, also where it is there.
        """
        condition: Document = {"topic": topic, "state": state}
        if after is not None:
            condition["_id"] = {"$gt": after}
        found = await self._deployment.current.find(
            condition,
            WITHOUT_VALUES,
            sort=[("_id", 1)],
            limit=BATCH,
            hint=self._deployment.hint(indexes.LISTS),
        ).to_list()
        first: dict[tuple[str, str, str | None], int] = {}
        marks = []
        for document in found:
            task = record(document)
            keys = document.get(FIELD) or ()
            for label in labels:
                value = first_value(task.labels, label)
                name = topic, label, value
                first[name] = min(first.get(name, task.sequence), task.sequence)
                if value is None and label not in keys:
                    marks.append(mark(task, label))
        if marks:
            await self._deployment.tasks.bulk_write(marks, ordered=False)
        if not lowest:
            first = await self._lanes.missing(first)
        await self._lanes.enter(first.items(), lowest=lowest)
        return (found[-1]["_id"] if len(found) == BATCH else None), len(found)

    # ---- chores ----------------------------------------------------------------------------------

    async def maintain(self, now: int) -> None:
        """Go on with what a crash has left, and look whether lanes are as tasks are, some at a time."""
        uses = dict(await self._uses.all())
        for topic, use in uses.items():
            if use.building and topic not in self._walks and await self._is_stale(topic):
                await self._build(topic)
        topics = sorted(uses)
        start = bisect_right(topics, self._last)
        turn = (topics[start:] + topics[:start])[:_TOPICS]
        self._last = turn[-1] if turn else ""
        for topic in {*turn, *self._lanes.unsure}:
            with self._deployment.limited():
                await self._lanes.repair(topic)
                await self._compare(topic, uses.get(topic, NOTHING), now)
        with self._deployment.limited():
            await self._lanes.forget_times(now)

    async def _compare(self, topic: str, use: Use, now: int) -> None:
        """Make lanes that the next tasks of a topic do not have; forget a topic of which nothing is left."""
        if use.labels and not use.building:
            after, count = await self._slice(
                topic, use.labels, PENDING, self._cursors.pop(topic, None), lowest=False
            )
            if after is not None:
                self._cursors[topic] = after
            if count:
                return
        if not await known_topics(self._deployment, [topic]):
            await self._lanes.forget_unused(topic, now)

    async def _is_stale(self, topic: str) -> bool:
        with self._deployment.limited():
            found = await self._deployment.lanes.find_one({"_id": Lane(topic).id}, {"beat": 1})
        return found is not None and time.time() - found.get("beat", 0) > _STALE
