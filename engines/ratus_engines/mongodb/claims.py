"""Claiming due tasks of topics, in their order. Before that, a topic's lapsed and expired tasks are handled.

One task is claimed in a single step, together with those of other callers where there are many. For a batch
the first due tasks are looked up, with their sizes, and claimed by their ids.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ratus.core import transitions, turns
from ratus.core.errors import Closed
from ratus.core.records import MAX_PAGE_BYTES, TaskRecord
from ratus.core.selection import Selection
from ratus.core.turns import Closing, Reason
from ratus.engine import CLAIM_CHORES
from ratus_engines.mongodb import indexes, labels
from ratus_engines.mongodb.bulk_operations import BulkOperations
from ratus_engines.mongodb.claim_statements import Aim, ClaimStatements, claim_hint
from ratus_engines.mongodb.combining import Combiner
from ratus_engines.mongodb.deployment import Deployment
from ratus_engines.mongodb.documents import Document, record
from ratus_engines.mongodb.due import Due
from ratus_engines.mongodb.orphaned_claims import OrphanedClaims
from ratus_engines.mongodb.pace import AT_ONCE, Pace
from ratus_engines.mongodb.topics import Topics, View
from ratus_engines.mongodb.turns import Turns
from ratus_engines.mongodb.uses import Uses

# Rounds of a batch: in each, other servers may take the tasks that were looked up.
_ROUNDS = 4


class Claims:
    """Claims due tasks. ``refused`` notifies of a claim that a limit let have none of what is due."""

    def __init__(
        self,
        deployment: Deployment,
        *,
        topics: Topics,
        bulk: BulkOperations,
        steps: ClaimStatements,
        lost: OrphanedClaims,
        due: Due,
        uses: Uses,
        turns: Turns,
        refused: Callable[[str, Reason], None],
    ) -> None:
        self._deployment = deployment
        self._uses = uses
        self._turns = turns
        self._refused = refused
        self._topics = topics
        self._bulk = bulk
        self._steps = steps
        self._lost = lost
        self._due = due
        self._combiner = Combiner(deployment, steps, lost, due)

    async def claim(self, selection: Selection, now: int) -> list[TaskRecord]:
        """Up to ``selection.limit`` due tasks of the topics, in their order.

        Raises `Closed` where a rate or a hold is the reason for which there is none.
        """
        claimed: list[TaskRecord] = []
        reopens: list[int] = []
        try:
            for topic in dict.fromkeys(selection.topics):
                before = len(claimed)
                closing = await self._claim_in(topic, selection, now, claimed)
                if closing is not None and len(claimed) == before:
                    self._refused(topic, closing.reason)
                    if (time := turns.retry_at(closing)) is not None:
                        reopens.append(time)
                if len(claimed) >= selection.limit or _weight(claimed) >= MAX_PAGE_BYTES:
                    break
        except BaseException:
            # The caller gets the error instead of these tasks, so they are released.
            for task in claimed:
                self._lost.give_back([task.nonce], task_id=task.id)
            raise
        if reopens and not claimed:
            raise Closed(min(reopens))
        return claimed

    async def _claim_in(
        self, topic: str, selection: Selection, now: int, claimed: list[TaskRecord]
    ) -> Closing | None:
        """Claim in one topic. Returns why there are not more tasks, if that is a limit."""
        view = self._topics.known(topic, now)
        believed = view is not None
        if view is None or view.deadline <= now or view.expiry <= now:
            view = await self._tend(topic, now)
        before = len(claimed)
        while True:
            closing = None
            if not view.paused:
                closing = await self._take(topic, view, selection, now, claimed)
            if not believed or len(claimed) > before:
                return closing
            # Nothing is due by what was known a moment ago, so the topic is read anew.
            view, believed = await self._tend(topic, now, anew=True), False

    async def _tend(self, topic: str, now: int, *, anew: bool = False) -> View:
        """Take back lapsed claims and archive expired tasks, up to `CLAIM_CHORES` each. Returns the view."""
        async with self._topics.lock(topic):
            view = None if anew else self._topics.known(topic, now)
            if view is None:
                view = await self._topics.read(topic, now)
            if view.paused or (view.deadline > now and view.expiry > now):
                return view
            if view.deadline <= now:
                await self._bulk.lapse(now, topic=topic, most=CLAIM_CHORES)
            # What lapsed may have expired meanwhile.
            await self._bulk.expire(now, topic=topic, most=CLAIM_CHORES)
            return await self._topics.read(topic, now)

    async def _take(
        self, topic: str, view: View, selection: Selection, now: int, claimed: list[TaskRecord]
    ) -> Closing | None:
        if selection.prefer or view.limits is not None or topic in await self._uses.all():
            return await self._turns.take(topic, view.limits, selection, now, claimed)
        await self._take_in_line(topic, view, selection, now, claimed)
        return None

    async def _take_in_line(
        self, topic: str, view: View, selection: Selection, now: int, claimed: list[TaskRecord]
    ) -> None:
        condition = self._due.condition(topic, now)
        if selection.where is not None:
            condition[labels.FIELD] = labels.matching(selection.where)
        count = selection.limit - len(claimed)
        if view.expiry <= now:
            ids = await self._behind_expired(condition, now, count)
            if not ids:
                return
            condition["_id"] = {"$in": ids}
        if selection.order != "due":
            await self._take_in_order(condition, selection, now, claimed)
            return
        tasks: list[TaskRecord] | None = None
        if count > 1:
            async with self._topics.lock(topic):
                tasks = await self._batch(condition, selection, now, count, MAX_PAGE_BYTES - _weight(claimed))
        if tasks is None:
            task = await self._one(condition, selection, now)
            tasks = [] if task is None else [task]
        if tasks:
            # The deadline of a claimed task is cut to milliseconds, as the database has it.
            self._topics.note(topic, deadline=tasks[0].deadline)
            claimed += tasks

    async def _take_in_order(
        self, condition: Document, selection: Selection, now: int, claimed: list[TaskRecord]
    ) -> None:
        """Claim tasks in another order than that in which they are due: one by one."""
        size = _weight(claimed)
        while len(claimed) < selection.limit and size < MAX_PAGE_BYTES:
            task = await self._steps.in_order(condition, selection, now)
            if task is None:
                return
            self._topics.note(task.topic, deadline=task.deadline)
            claimed.append(task)
            size += task.weight()

    async def _behind_expired(self, condition: Document, now: int, count: int) -> list[str]:
        """The ids of due tasks, up to ``count``, where more tasks have expired than one poll archives.

        Only the next `CLAIM_CHORES` tasks are looked at: a query for due ones would walk over all expired.
        """
        tasks = await self._deployment.current.find(
            {name: value for name, value in condition.items() if name != "expires"},
            {"expires": 1},
            sort=indexes.CLAIM_ORDER,
            limit=CLAIM_CHORES,
            hint=claim_hint(self._deployment, condition),
        ).to_list()
        ids = [task.id for task in map(record, tasks) if not transitions.has_expired(task, now)]
        return ids[:count]

    async def _one(self, condition: Document, selection: Selection, now: int) -> TaskRecord | None:
        async def alone() -> TaskRecord | None:
            return await self._steps.one(condition, selection, now)

        if "_id" in condition or labels.FIELD in condition:
            return await alone()
        return await self._combiner.claim(condition["topic"], selection, now, alone)

    async def _batch(
        self, condition: Document, selection: Selection, now: int, count: int, room: int
    ) -> list[TaskRecord] | None:
        """Claim up to ``count`` tasks of ``room`` bytes; ``None`` when others were faster in every round.

        Then the caller claims one task in a single step, where that cannot happen. It holds the topic's lock,
        so that requests of this server do not try to claim the same tasks.
        """
        claimed: list[TaskRecord] = []
        for _ in range(_ROUNDS):
            candidates = self._deployment.current.find(
                condition,
                {"size": {"$bsonSize": "$$ROOT"}},
                sort=indexes.CLAIM_ORDER,
                limit=count - len(claimed),
                batch_size=AT_ONCE,
                hint=claim_hint(self._deployment, condition),
            )
            pace = Pace()
            ids: list[str] = []
            async with candidates:
                async for candidate in candidates:
                    room -= int(candidate["size"])
                    if room < 0 and (ids or claimed):
                        break
                    ids.append(candidate["_id"])
                    await pace.spend(0)
            if ids:
                tasks = await self._steps.several(
                    condition["topic"], [Aim(task_id, selection, now) for task_id in ids]
                )
                claimed += [tasks[task_id] for task_id in ids if task_id in tasks]
            if room < 0 or not ids or len(claimed) == count:
                return claimed
        return claimed or None


def _weight(tasks: Sequence[TaskRecord]) -> int:
    return sum(task.weight() for task in tasks) if tasks else 0
