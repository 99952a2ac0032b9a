"""The MongoDB engine: the methods of the engine contract, by means of the other modules of this package."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence

from msgspec import structs

from ratus.core import transitions
from ratus.core.errors import Conflict, NotFound, RatusError, ServiceUnavailable
from ratus.core.kinds import TOPIC_SETTINGS, Kind
from ratus.core.labels import first_value
from ratus.core.records import (
    ACTIVE,
    PENDING,
    CommitRecord,
    LaneInfo,
    Members,
    Record,
    TaskPage,
    TaskQuery,
    TaskRecord,
    TopicInfo,
    TopicSettings,
)
from ratus.core.selection import Selection, Where
from ratus.core.transitions import Change, ClaimById, RetryDefaults
from ratus.core.turns import Reason
from ratus.engine import Engine, Health, Traits
from ratus_engines.mongodb import lists, surveys
from ratus_engines.mongodb.building import Building
from ratus_engines.mongodb.bulk_operations import BulkOperations
from ratus_engines.mongodb.change_stream import Watcher
from ratus_engines.mongodb.changes import ATTEMPTS, Changes, busy
from ratus_engines.mongodb.claim_statements import ClaimStatements
from ratus_engines.mongodb.claims import Claims
from ratus_engines.mongodb.commits import Commits
from ratus_engines.mongodb.counts import Counts
from ratus_engines.mongodb.deployment import Deployment
from ratus_engines.mongodb.documents import record
from ratus_engines.mongodb.due import Due
from ratus_engines.mongodb.errors import may_have_happened
from ratus_engines.mongodb.fallbacks import Fallbacks
from ratus_engines.mongodb.holds import Holds
from ratus_engines.mongodb.inserts import Inserts, Sequence64
from ratus_engines.mongodb.lanes import Lane, Lanes, counts_places
from ratus_engines.mongodb.orphaned_claims import OrphanedClaims
from ratus_engines.mongodb.records import Records
from ratus_engines.mongodb.signals import Signals
from ratus_engines.mongodb.topics import Topics
from ratus_engines.mongodb.turns import Turns
from ratus_engines.mongodb.uses import NOTHING, Uses


class MongodbEngine(Engine):
    """Keeps tasks in a collection of MongoDB, which other servers (in Go, too) may use at the same time.

    ``retention`` is in microseconds. ``create_indexes``: make indexes that are missing. ``fallback``: where a
    sharded deployment refuses an atomic operation, carry it out in two steps. ``atomic_poll``: try the atomic
    operation for polls. Raises `ValueError` for a URI or a name that cannot be used.
    """

    traits = Traits(name="mongodb", durable=True, shared=True, precision=1_000)

    def __init__(
        self,
        uri: str = "mongodb://127.0.0.1:27017",
        *,
        database: str = "ratus",
        collection: str = "tasks",
        retention: int = 72 * 3_600 * 1_000_000,
        create_indexes: bool = True,
        fallback: bool = True,
        atomic_poll: bool = True,
        retry: RetryDefaults | None = None,
        random: Callable[[], float] | None = None,
        nonces: Callable[[], str] | None = None,
    ) -> None:
        super().__init__(retry=retry, nonces=nonces, **({"random": random} if random else {}))
        self._deployment = deployment = Deployment(
            uri,
            database=database,
            collection=collection,
            retention=retention,
            create_indexes=create_indexes,
        )
        self._open = False
        self._signals = signals = Signals(lambda: self.listener)
        self.fallbacks = Fallbacks(automatic=fallback, atomic_poll=atomic_poll)
        self._due = due = Due()
        self._changes = changes = Changes(deployment, self.fallbacks, lambda: self.observer, due)
        sequence = Sequence64()
        self._records = Records(deployment, sequence)
        self._topics = Topics(deployment, self._records)
        self._counts = Counts(deployment, due)
        self._uses = uses = Uses(deployment)
        self._lanes = lanes = Lanes(deployment, uses, signals, sequence)
        self._building = Building(deployment, uses, lanes, create_indexes=create_indexes)
        self._holds = Holds(self._topics, self._building, lanes)
        self._bulk = BulkOperations(
            deployment, changes, signals, retry=self.retry, random=self.random, uses=uses, lanes=lanes
        )
        self._commits = Commits(
            deployment,
            changes,
            signals,
            retry=self.retry,
            random=self.random,
            uses=uses,
            lanes=lanes,
            holds=self._holds,
        )
        self._inserts = Inserts(deployment, self.fallbacks, signals, self._topics, sequence, uses, lanes)
        self._lost = OrphanedClaims(deployment, changes, signals, lanes)
        self._watcher = Watcher(deployment, signals, uses)
        steps = ClaimStatements(
            deployment,
            topics=self._topics,
            lost=self._lost,
            fallbacks=self.fallbacks,
            nonces=self.nonces,
            due=due,
        )
        self._turns = Turns(
            deployment,
            topics=self._topics,
            uses=uses,
            lanes=lanes,
            building=self._building,
            steps=steps,
            lost=self._lost,
            nonces=self.nonces,
            due=due,
        )
        self._claims = Claims(
            deployment,
            topics=self._topics,
            bulk=self._bulk,
            steps=steps,
            lost=self._lost,
            due=due,
            uses=uses,
            turns=self._turns,
            refused=self._refused,
        )

    # ---- life ------------------------------------------------------------------------------------

    async def open(self, now: int) -> None:
        self._deployment.open()
        self._watcher.open()
        self._open = True

    async def close(self, now: int) -> None:
        was_open, self._open = self._open, False
        if was_open:
            await self._watcher.close()
            await self._lanes.close()
            await self._building.close()
            await self._uses.close()
            await self._topics.close()
            await self._counts.close()
            await self._lost.close()
            await self._deployment.close()

    async def health(self) -> Health:
        if not self._open:
            return Health(False, "the MongoDB engine is not open")
        return await self._deployment.health()

    async def _ready(self, now: int = 0) -> None:
        """Wait until requests can be served; ``now`` is the time of the request, where it has one."""
        self._due.note(now)
        if not self._open:
            raise ServiceUnavailable("the MongoDB engine is not open")
        await self._deployment.prepared()

    # ---- tasks -----------------------------------------------------------------------------------

    async def insert(self, tasks: Sequence[TaskRecord], now: int) -> list[bool]:
        await self._ready(now)
        return await self._inserts.insert(tasks, now) if tasks else []

    async def upsert(self, tasks: Sequence[TaskRecord], now: int) -> list[bool]:
        await self._ready(now)
        return await self._inserts.upsert(tasks, now) if tasks else []

    async def get(self, task_id: str) -> TaskRecord | None:
        await self._ready()
        with self._deployment.limited():
            found = await self._deployment.tasks.find_one({"_id": task_id})
        return None if found is None else record(found)

    async def list_tasks(self, query: TaskQuery) -> TaskPage:
        await self._ready()
        with self._deployment.limited():
            return await lists.page(self._deployment, query)

    async def delete_task(self, task_id: str) -> bool:
        await self._ready()
        with self._deployment.limited():
            if await self._uses.all():
                task = await self._changes.delete(task_id)
                if task is None:
                    return False
                await self._lanes.changed([(task, None)])
            elif not (await self._deployment.tasks.delete_one({"_id": task_id})).deleted_count:
                return False
        self._signals.deleted([task_id])
        return True

    async def delete_tasks(self, topic: str) -> int:
        await self._ready()
        return await self._bulk.delete(topic)

    async def commit(self, commits: Sequence[CommitRecord], now: int) -> list[TaskRecord | RatusError]:
        await self._ready(now)
        answers = await self._commits.commit(commits, now)
        for answer in answers:
            if isinstance(answer, TaskRecord):
                self._note(answer)
        return answers

    # ---- claims ----------------------------------------------------------------------------------

    async def claim(self, selection: Selection, now: int) -> list[TaskRecord]:
        await self._ready(now)
        tasks: list[TaskRecord] = []
        try:
            with self._deployment.limited():
                tasks = await self._claims.claim(selection, now)
        except BaseException:
            for task in tasks:  # the caller was cancelled at the last moment
                self._lost.give_back([task.nonce], task_id=task.id)
            raise
        return tasks

    async def claim_task(self, task_id: str, selection: Selection, now: int, *, force: bool) -> TaskRecord:
        await self._ready(now)
        command = ClaimById(self.nonces(), selection.deadline_at(now), selection.consumer, force)
        try:
            with self._deployment.limited():
                task = await self._claim_by_id(task_id, command, now)
        except BaseException as error:
            if isinstance(error, ServiceUnavailable) or may_have_happened(error):
                self._lost.give_back([command.nonce], task_id=task_id)
            raise
        self._note(task)
        self._signals.notify([task])
        return task

    async def _claim_by_id(self, task_id: str, command: ClaimById, now: int) -> TaskRecord:
        change: Change | None = None
        before: TaskRecord | None = None

        def decide(task: TaskRecord) -> Change:
            nonlocal change, before
            before = task
            change = transitions.decide(task, command, now, self.retry, self.random)
            return change

        try:
            task = None
            if not command.force:
                change = transitions.claim(
                    consumer=command.consumer, nonce=command.nonce, deadline=command.deadline, now=now
                )
                task = await self._changes.change("claim", task_id, change)
            if task is None:
                task = await self._changes.decide("claim", task_id, decide)
        except Exception as error:
            if not may_have_happened(error):
                raise
            task = await self._changes.confirm("claim", task_id, {"nonce": command.nonce})
            if task is None:
                raise
            if change is not None:
                self._changes.count(task.topic, change)
        if task is None:
            raise NotFound
        if before is None:
            before = structs.replace(task, state=PENDING, nonce="")
        await self._lanes.changed([(before, task)], claims=True)
        await self._use_up(task, now)
        return task

    async def _use_up(self, task: TaskRecord, now: int) -> None:
        """Count a claim by id against the rates of its topic and lane."""
        if task.topic not in await self._uses.all():
            return
        limits = await self._topics.limits(task.topic, now)
        if limits is not None:
            await self._lanes.use_up(Lane(task.topic), limits, now)
            if (per := limits.per) is not None:
                lane = Lane(task.topic, per.label, first_value(task.labels, per.label))
                await self._lanes.use_up(lane, per, now)

    async def extend(self, task_id: str, nonce: str, deadline: int, now: int) -> TaskRecord:
        await self._ready(now)
        with self._deployment.limited():
            change = transitions.extend(nonce=nonce, deadline=deadline)
            task = await self._changes.change("extend", task_id, change)
            if task is None:
                raise transitions.refusal(await self._changes.read(task_id, whole=False), change)
        self._note(task)
        self._signals.notify([task])
        return task

    async def release(
        self, task_id: str, now: int, nonce: str | None = None, hold: int | None = None
    ) -> bool:
        await self._ready(now)
        with self._deployment.limited():
            if hold is not None:
                nonce, task = await self._release_with_hold(task_id, now, nonce, now + hold)
            elif nonce:
                task = await self._changes.change("release", task_id, transitions.release(nonce))
            else:
                nonce, task = await self._release_any(task_id, nonce)
            if task is not None:
                await self._lanes.changed([(structs.replace(task, state=ACTIVE, nonce=nonce or ""), task)])
        if task is None:
            return False
        self._signals.notify([task])
        return True

    async def _release_any(self, task_id: str, nonce: str | None) -> tuple[str, TaskRecord | None]:
        """Release a task whatever its nonce. Returns the nonce that it had, where that matters to lanes."""
        if not await self._uses.all():
            return "", await self._changes.change("release", task_id, transitions.release(nonce))
        for _ in range(ATTEMPTS):
            there = await self._changes.read(task_id, whole=False)
            if there is None or not transitions.holds(there, transitions.release(nonce)):
                return "", None
            change = transitions.release(there.nonce)
            if (task := await self._changes.change("release", task_id, change)) is not None:
                return there.nonce, task
        raise busy()

    async def _release_with_hold(
        self, task_id: str, now: int, nonce: str | None, until: int
    ) -> tuple[str, TaskRecord | None]:
        there = await self._changes.read(task_id, whole=False)
        if there is None or not transitions.holds(there, transitions.release(nonce)):
            return "", None
        try:
            async with self._holds.held(there, now, until):
                change = transitions.release(there.nonce, until)
                if (task := await self._changes.change("release", task_id, change)) is None:
                    raise Conflict("the task was changed meanwhile")
        except Conflict:
            return "", None
        return there.nonce, task

    async def release_topic(self, topic: str, now: int) -> int:
        await self._ready()
        return await self._bulk.release(topic)

    async def next_due(self, topic: str, now: int, where: Where | None = None) -> int | None:
        await self._ready(now)
        with self._deployment.limited():
            settings, deadline, uses = await asyncio.gather(
                self._topics.settings(topic), self._topics.first_deadline(topic), self._uses.all()
            )
            if settings.paused:
                return None
            limited = settings.limits is not None or topic in uses
            scheduled = [await self._topics.first_scheduled(topic, where=where)]
            if limited and scheduled[0] is not None and scheduled[0] <= now:
                scheduled.append(await self._topics.first_scheduled(topic, where=where, after=now))
            times = [time for time in scheduled if time is not None]
            due = min(times, default=None)
            if limited:
                due = await self._turns.next_due(topic, settings.limits, now, where, times)
        return min((time for time in (due, deadline) if time is not None), default=None)

    def follows(self) -> bool:
        return self._signals.following

    def _note(self, task: TaskRecord) -> None:
        """Note the task's deadline and expiry, which may be earlier than those known of its topic."""
        self._topics.note(task.topic, deadline=task.deadline, expiry=task.expires)

    # ---- topics ----------------------------------------------------------------------------------

    async def list_topics(self, limit: int, offset: int) -> list[str]:
        await self._ready()
        with self._deployment.limited():
            return await lists.topics(self._deployment, limit, offset)

    async def known_topics(self, names: Collection[str]) -> set[str]:
        await self._ready()
        with self._deployment.limited():
            return await lists.known_topics(self._deployment, names)

    async def get_topic(self, topic: str, now: int) -> TopicInfo | None:
        await self._ready(now)
        with self._deployment.limited():
            settings, uses = await asyncio.gather(self._topics.settings(topic), self._uses.all())
            own, lanes = Lane(topic), 0
            if topic in uses:
                own, lanes = await asyncio.gather(self._lanes.topic(topic), self._lanes.count(topic))
            return await self._counts.info(topic, settings, own, uses.get(topic, NOTHING), lanes, now)

    async def survey(self, now: int, visit: Callable[[TopicInfo], None]) -> None:
        await self._ready(now)
        await surveys.survey(
            self._deployment, self._records, self._lanes, await self._uses.all(), self._due, now, visit
        )

    async def delete_topic(self, topic: str) -> int:
        await self.put_record(TOPIC_SETTINGS, topic, None)
        count = await self._bulk.delete(topic)
        with self._deployment.limited():
            await self._lanes.forget(topic)
        return count

    async def delete_topics(self) -> int:
        await self._ready()
        with self._deployment.limited():
            await self._topics.drop_settings()
        count = await self._bulk.delete()
        with self._deployment.limited():
            await self._lanes.forget(None)
        return count

    # ---- lanes -----------------------------------------------------------------------------------

    async def list_lanes(
        self, topic: str, label: str, after: str | None, limit: int, now: int
    ) -> list[LaneInfo]:
        await self._ready(now)
        with self._deployment.limited():
            if not await lists.known_topics(self._deployment, [topic]):
                return []
            await self._building.use(topic, (label,))
            limits = (await self._topics.settings(topic)).limits
            per = limits.per if limits is not None and limits.per is not None else None
            if per is not None and per.label != label:
                per = None
            return await self._lanes.page(topic, label, per, after, limit, now)

    async def lift_holds(self, topic: str, now: int) -> None:
        await self._ready(now)
        with self._deployment.limited():
            await self._lanes.lift_holds(topic)

    def _refused(self, topic: str, reason: Reason) -> None:
        if self.observer is not None:
            self.observer.refused(topic, reason)

    # ---- records ---------------------------------------------------------------------------------

    async def get_record(self, kind: Kind[Members], record_id: str) -> Record[Members] | None:
        await self._ready()
        with self._deployment.limited():
            return await self._records.get(kind, record_id)

    async def put_record(
        self, kind: Kind[Members], record_id: str, members: Members | None, expected: int | None = None
    ) -> int:
        await self._ready()
        with self._deployment.limited():
            version, changed = 0, True
            if kind is TOPIC_SETTINGS and isinstance(members, TopicSettings) and members.limits is not None:
                # Every server has to keep what the limits depend on before any goes by them.
                per = members.limits.per
                names = () if per is None else (per.label,)
                await self._building.use(record_id, names, keeps=counts_places(members.limits))
            if members is None:
                changed = await self._records.delete(kind, record_id, expected)
            else:
                version = await self._records.put(kind, record_id, members, expected)
            if changed and kind is TOPIC_SETTINGS:
                await self._topics.settings_changed(record_id)
            if changed and kind is TOPIC_SETTINGS:
                await self._lanes.signal(record_id)
        return version

    async def list_records(self, kind: Kind[Members], after: str, limit: int) -> list[Record[Members]]:
        await self._ready()
        with self._deployment.limited():
            return await self._records.after(kind, after, limit)

    # ---- chores ----------------------------------------------------------------------------------

    async def recover(self, now: int) -> int:
        await self._ready(now)
        return await self._bulk.lapse(now)

    async def expire(self, now: int) -> int:
        await self._ready(now)
        return await self._bulk.expire(now)

    async def purge(self, before: int) -> int:
        await self._ready()
        return await self._bulk.purge(before)

    async def maintain(self, now: int) -> None:
        await self._ready(now)
        await self._bulk.adopt(now)
        await self._building.maintain(now)
        if self._due.is_back(now):
            await self._forget_the_latest_time(now)

    async def _forget_the_latest_time(self, now: int) -> None:
        """After the clock was set back: go by it alone once no task is due only because it was before."""
        tasks, hint = self._deployment.current, self._deployment.hint
        with self._deployment.limited():
            for condition, index in self._due.kept(now):
                if await tasks.find_one(condition, {"_id": 1}, hint=hint(index)) is not None:
                    return
        self._due.forget(now)
