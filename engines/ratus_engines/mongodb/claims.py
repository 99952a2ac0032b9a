"""Claiming what is due in a topic: one task in one atomic step, or many in three.

One: `findAndModify` in the order of claiming. Where the deployment refuses that, the first due task is looked
up and claimed by its id if it is still due; who was too late looks again.

Many: the first due tasks are looked up, each is claimed by its id under a nonce of its own in one bulk write,
and those that carry our nonces are read back: they are ours, whatever happened on the way.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from pymongo import ReturnDocument, UpdateOne
from pymongo.errors import PyMongoError

from ratus import transitions
from ratus.engine import CLAIM_CHORES
from ratus.records import MAX_PAGE_BYTES, PENDING, Claim, TaskRecord
from ratus_engines.mongodb import indexes
from ratus_engines.mongodb.changes import ATTEMPTS, busy
from ratus_engines.mongodb.deployment import Deployment
from ratus_engines.mongodb.documents import Document, date, record, update
from ratus_engines.mongodb.errors import may_have_happened
from ratus_engines.mongodb.fallbacks import POLL, Fallbacks
from ratus_engines.mongodb.lost import LostClaims
from ratus_engines.mongodb.sweeps import Sweeps
from ratus_engines.mongodb.topics import Topics, View

# Rounds of a batch in which others took some of the tasks that were looked up.
_ROUNDS = 8


class Claims:
    """Claims due tasks. ``nonces`` makes a nonce; the rest is what it works with."""

    def __init__(
        self,
        deployment: Deployment,
        *,
        topics: Topics,
        sweeps: Sweeps,
        lost: LostClaims,
        fallbacks: Fallbacks,
        nonces: Callable[[], str],
    ) -> None:
        self._deployment = deployment
        self._topics = topics
        self._sweeps = sweeps
        self._lost = lost
        self._fallbacks = fallbacks
        self._nonces = nonces

    async def claim(self, claim: Claim, now: int) -> list[TaskRecord]:
        """Up to ``claim.limit`` due tasks of the topics, in their order."""
        claimed: list[TaskRecord] = []
        try:
            for topic in dict.fromkeys(claim.topics):
                await self._claim_in(topic, claim, now, claimed)
                if len(claimed) >= claim.limit or _weight(claimed) >= MAX_PAGE_BYTES:
                    break
        except BaseException:
            # Whoever asked is told of the error and not of these.
            for task in claimed:
                self._lost.give_back([task.nonce], task_id=task.id)
            raise
        return claimed

    async def _claim_in(self, topic: str, claim: Claim, now: int, claimed: list[TaskRecord]) -> None:
        view = self._topics.known(topic, now)
        believed = view is not None
        if view is None or view.deadline <= now or view.expiry <= now:
            view = await self._tend(topic, now)
        before = len(claimed)
        while True:
            if not view.paused:
                await self._take(topic, view, claim, now, claimed)
            if not believed or len(claimed) > before:
                return
            # Nothing is due as far as was known a moment ago: is it so?
            view, believed = await self._tend(topic, now, anew=True), False

    async def _tend(self, topic: str, now: int, *, anew: bool = False) -> View:
        """Take lapsed claims back and archive expired tasks, up to a number; what is known then."""
        async with self._topics.lock(topic):
            view = None if anew else self._topics.known(topic, now)
            if view is None:
                view = await self._topics.read(topic, now)
            if view.paused or (view.deadline > now and view.expiry > now):
                return view
            if view.deadline <= now:
                await self._sweeps.lapse(now, topic=topic, most=CLAIM_CHORES)
            # What lapsed may have expired meanwhile.
            await self._sweeps.expire(now, topic=topic, most=CLAIM_CHORES)
            return await self._topics.read(topic, now)

    async def _take(self, topic: str, view: View, claim: Claim, now: int, claimed: list[TaskRecord]) -> None:
        due = _due(topic, now)
        count = claim.limit - len(claimed)
        if view.expiry <= now:
            ids = await self._behind_expired(due, now, count)
            if not ids:
                return
            due["_id"] = {"$in": ids}
        if count > 1:
            async with self._topics.lock(topic):
                tasks = await self._batch(due, claim, now, count, MAX_PAGE_BYTES - _weight(claimed))
        else:
            async with self._topics.slots(topic):
                task = await self._one(due, claim, now)
            tasks = [] if task is None else [task]
        if tasks:
            # Cut to what a date holds, as the database has it.
            self._topics.note(topic, deadline=tasks[0].deadline)
            claimed += tasks

    async def _behind_expired(self, due: Document, now: int, count: int) -> list[str]:
        """More tasks have expired than one poll archives: the ids of those due among as many of the next.

        A query for them would walk over all that expired.
        """
        tasks = await self._deployment.current.find(
            {name: value for name, value in due.items() if name != "expires"},
            {"expires": 1},
            sort=indexes.CLAIM_ORDER,
            limit=CLAIM_CHORES,
            hint=self._deployment.hint(indexes.CLAIMS),
        ).to_list()
        ids = [task.id for task in map(record, tasks) if task.expires is None or task.expires > now]
        return ids[:count]

    # ---- one -------------------------------------------------------------------------------------

    async def _one(self, due: Document, claim: Claim, now: int) -> TaskRecord | None:
        hint = "_id_" if "_id" in due else self._deployment.hint(indexes.CLAIMS)

        async def atomic(nonce: str) -> TaskRecord | None:
            found = await self._deployment.tasks.find_one_and_update(
                due,
                _update(claim, nonce, now),
                sort=indexes.CLAIM_ORDER,
                return_document=ReturnDocument.AFTER,
                hint=hint,
            )
            return None if found is None else record(found)

        async def optimistic(nonce: str) -> TaskRecord | None:
            async with self._topics.lock(due["topic"]):
                return await self._one_optimistically(due, claim, now, nonce)

        async def claim_under(nonce: str) -> TaskRecord | None:
            return await self._fallbacks.run(POLL, lambda: atomic(nonce), lambda: optimistic(nonce))

        return await self._found_again(due["topic"], claim_under)

    async def _found_again(self, topic: str, claim_under: Callable[[str], Any]) -> TaskRecord | None:
        """Claim under a new nonce; when the answer is lost, look for the claim before making another one."""
        for last in (False, True):
            nonce = self._nonces()
            try:
                task: TaskRecord | None = await claim_under(nonce)
                return task
            except BaseException as error:
                if not may_have_happened(error):
                    raise
                if last or not isinstance(error, Exception):
                    self._lost.give_back([nonce], topic=topic)
                    raise
                found = await self._look(topic, [nonce])
                if found:
                    return found[0]
                # It may come late.
                self._lost.give_back([nonce], topic=topic)
        raise AssertionError("the second try returns or raises")

    async def _look(self, topic: str, nonces: Sequence[str]) -> list[TaskRecord]:
        try:
            return await self._lost.find(topic, nonces)
        except BaseException:
            self._lost.give_back(nonces, topic=topic)
            raise

    async def _one_optimistically(
        self, due: Document, claim: Claim, now: int, nonce: str
    ) -> TaskRecord | None:
        for attempt in range(ATTEMPTS):
            # Whoever was too late looks a little further, at random, or all would go for the same one again.
            candidates = await self._deployment.current.find(
                due,
                {"nonce": 1},
                sort=indexes.CLAIM_ORDER,
                limit=attempt + 1,
                hint="_id_" if "_id" in due else self._deployment.hint(indexes.CLAIMS),
            ).to_list()
            if not candidates:
                return None
            candidate = random.choice(candidates)
            found = await self._deployment.tasks.find_one_and_update(
                {**due, "_id": candidate["_id"], "nonce": candidate.get("nonce")},
                _update(claim, nonce, now),
                return_document=ReturnDocument.AFTER,
                hint="_id_",
            )
            if found is not None:
                return record(found)
        raise busy()

    # ---- many ------------------------------------------------------------------------------------

    async def _batch(self, due: Document, claim: Claim, now: int, count: int, room: int) -> list[TaskRecord]:
        claimed: list[TaskRecord] = []
        for _ in range(_ROUNDS):
            candidates = await self._deployment.current.find(
                due,
                {"size": {"$bsonSize": "$$ROOT"}},
                sort=indexes.CLAIM_ORDER,
                limit=count - len(claimed),
                hint="_id_" if "_id" in due else self._deployment.hint(indexes.CLAIMS),
            ).to_list()
            ids: list[str] = []
            for candidate in candidates:
                room -= int(candidate["size"])
                if room < 0 and (ids or claimed):
                    break
                ids.append(candidate["_id"])
            if ids:
                claimed += await self._claim_all(ids, due, claim, now)
            if room < 0 or not candidates or len(claimed) == count:
                return claimed
        if not claimed:
            raise busy()
        return claimed

    async def _claim_all(self, ids: Sequence[str], due: Document, claim: Claim, now: int) -> list[TaskRecord]:
        """Claim these if they are still due; those that are ours then."""
        nonces = {self._nonces(): task_id for task_id in ids}
        requests = [
            UpdateOne({**due, "_id": task_id}, _update(claim, nonce, now))
            for nonce, task_id in nonces.items()
        ]
        topic = due["topic"]
        try:
            await self._deployment.tasks.bulk_write(requests, ordered=False)
        except BaseException as error:
            if not isinstance(error, PyMongoError) or not may_have_happened(error):
                self._lost.give_back(nonces, topic=topic)
                raise
            tasks = await self._look(topic, list(nonces))
            self._lost.give_back(nonces.keys() - {task.nonce for task in tasks}, topic=topic)
        else:
            try:
                found = await self._deployment.current.find({"_id": {"$in": list(ids)}}).to_list()
            except BaseException:
                self._lost.give_back(nonces, topic=topic)
                raise
            tasks = [task for task in map(record, found) if task.nonce in nonces]
        order = {task_id: number for number, task_id in enumerate(ids)}
        return sorted(tasks, key=lambda task: order[task.id])


def _due(topic: str, now: int) -> Document:
    """What may be claimed in a topic."""
    return {
        "topic": topic,
        "state": PENDING,
        "scheduled": {"$lte": date(now)},
        "expires": {"$not": {"$lte": date(now)}},
    }


def _update(claim: Claim, nonce: str, now: int) -> Document:
    changes = update(
        transitions.claim(consumer=claim.consumer, nonce=nonce, deadline=claim.deadline, now=now)
    )
    assert isinstance(changes, dict), "a claim adds an attempt"
    return changes


def _weight(tasks: Sequence[TaskRecord]) -> int:
    return sum(task.weight() for task in tasks) if tasks else 0
