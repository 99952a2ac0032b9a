"""What each route does: read, one engine call, write. Handlers do not call handlers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

from ratus.api import docs, openapi, serializing
from ratus.api.call import VARY, Answer, Call, ClientGone
from ratus.api.cursors import make_cursor
from ratus.api.parsing import Poll, Reader
from ratus.core.clock import SECOND, Clock
from ratus.core.errors import Conflict, NotFound, RatusError, ServiceUnavailable
from ratus.core.records import ACTIVE, Claim, TaskQuery, TaskRecord, TopicInfo
from ratus.engine import LARGE_BATCH, Engine
from ratus.metrics import CONTENT_TYPE, Metrics
from ratus.runtime.long_polls import WaitingRoom, Want

# Tasks of a batch that are counted and written at a time: one millisecond or two.
_SLICE = LARGE_BATCH


class Handlers:
    """The operations of ``ratus.api.routes`` by name."""

    def __init__(
        self,
        *,
        engine: Engine,
        room: WaitingRoom,
        reader: Reader,
        metrics: Metrics,
        clock: Clock,
        version: str,
        scrape: Callable[[], AsyncIterator[bytes]],
    ) -> None:
        self._engine = engine
        self._room = room
        self._read = reader
        self._metrics = metrics
        self._clock = clock
        self._version = version
        self._scrape = scrape
        self.draining = False
        """Whether the server is stopping; `/readyz` says so."""

    async def opened(self, operation: str, body: bytes) -> bytes:
        """A large body, read in slices; see `Reader.opened`."""
        return await self._read.opened(operation, body)

    # ---- topics ------------------------------------------------------------------------------------

    async def list_topics(self, call: Call) -> Answer:
        limit, offset = self._read.page(call.query)
        return Answer(200, serializing.topics(await self._engine.list_topics(limit, offset)))

    async def delete_topics(self, call: Call) -> Answer:
        return Answer(200, serializing.deleted(await self._engine.delete_topics()))

    async def get_topic(self, call: Call) -> Answer:
        return await self._topic(call)

    async def patch_topic(self, call: Call) -> Answer:
        paused = self._read.paused(call.body, call.topic)
        if paused is not None:
            await self._engine.set_paused(call.topic, paused)
        return await self._topic(call, known=paused is not None)

    async def _topic(self, call: Call, *, known: bool = False) -> Answer:
        info = await self._engine.get_topic(call.topic, call.now)
        if info is None:
            if known:  # it was resumed and has no task: what was asked for is done
                return Answer(200, serializing.topic(TopicInfo(call.topic)))
            raise NotFound()
        self._metrics.admit_topic(info.name)
        return Answer(200, serializing.topic(info))

    async def delete_topic(self, call: Call) -> Answer:
        return Answer(200, serializing.deleted(await self._engine.delete_topic(call.topic)))

    # ---- tasks -------------------------------------------------------------------------------------

    async def list_tasks(self, call: Call) -> Answer:
        page = await self._engine.list_tasks(self._read.task_query(call.query, call.topic))
        if page.tasks:
            self._metrics.admit_topic(call.topic)
        cursor = None
        if page.next is not None and "after" in call.query:
            cursor = make_cursor(page.next, call.topic)
        return Answer(200, serializing.tasks(page.tasks, cursor))

    async def insert_tasks(self, call: Call) -> Answer:
        tasks = await self._read.tasks(call.body, call.topic, call.now)
        created = await self._engine.insert(tasks, call.now)
        await self._count_produced([task for task, new in zip(tasks, created, strict=True) if new])
        count = sum(created)
        return Answer(201 if count else 200, serializing.updated(count, 0))

    async def upsert_tasks(self, call: Call) -> Answer:
        tasks = await self._read.tasks(call.body, call.topic, call.now)
        created = await self._engine.upsert(tasks, call.now)
        await self._count_produced(tasks)
        count = sum(created)
        return Answer(201 if count else 200, serializing.updated(count, len(created) - count))

    async def patch_tasks(self, call: Call) -> Answer:
        commits = await self._read.commits(call.body, call.now)
        results = await self._engine.commit(commits, call.now)
        ids = [commit.id for commit in commits]
        answer, count = serializing.Committed(), self._count_committed
        for start in range(0, len(results), _SLICE):
            some = results[start : start + _SLICE]
            for result in some:
                if not isinstance(result, RatusError):
                    count(result)
            answer.add(ids[start : start + _SLICE], some)
            if len(results) > _SLICE:
                await asyncio.sleep(0)
        return Answer(200, answer.body())

    async def delete_tasks(self, call: Call) -> Answer:
        return Answer(200, serializing.deleted(await self._engine.delete_tasks(call.topic)))

    async def get_task(self, call: Call) -> Answer:
        wait = self._read.wait(call.query)
        if wait:
            until = self._clock.monotonic() + wait
            task = await self._room.wait_settled(call.task_id, until, call.connection.watch)
        else:
            task = await self._engine.get(call.task_id)
        if task is None:
            raise NotFound()
        self._metrics.admit_topic(task.topic)
        return Answer(200, serializing.task(task))

    async def insert_task(self, call: Call) -> Answer:
        task = self._read.task(call.body, call.topic, call.task_id, call.now)
        (created,) = await self._engine.insert([task], call.now)
        if not created:
            raise Conflict("a task with the same ID already exists")
        self._metrics.produced(task.topic, task.producer)
        return Answer(201, serializing.updated(1, 0))

    async def upsert_task(self, call: Call) -> Answer:
        task = self._read.task(call.body, call.topic, call.task_id, call.now)
        (created,) = await self._engine.upsert([task], call.now)
        self._metrics.produced(task.topic, task.producer)
        return Answer(201, serializing.updated(1, 0)) if created else Answer(200, serializing.updated(0, 1))

    async def patch_task(self, call: Call) -> Answer:
        commit = self._read.commit(call.body, call.task_id, call.now)
        (result,) = await self._engine.commit([commit], call.now)
        if isinstance(result, RatusError):
            raise result
        self._count_committed(result)
        return Answer(200, serializing.task(result))

    async def delete_task(self, call: Call) -> Answer:
        return Answer(200, serializing.deleted(await self._engine.delete_task(call.task_id)))

    # ---- promises ----------------------------------------------------------------------------------

    async def list_promises(self, call: Call) -> Answer:
        limit, offset = self._read.page(call.query)
        page = await self._engine.list_tasks(TaskQuery(call.topic, limit, offset, state=ACTIVE))
        if page.tasks:
            self._metrics.admit_topic(call.topic)
        return Answer(200, serializing.promises(page.tasks))

    async def poll(self, call: Call) -> Answer:
        poll = self._read.poll(call.body, call.query, call.topic, "", call.now)
        if poll.task_id:
            return await self._claim_one(call, poll, force=False)
        return await self._claim_due(call, poll)

    async def poll_topics(self, call: Call) -> Answer:
        return await self._claim_due(call, self._read.poll(call.body, call.query, None, "", call.now))

    async def delete_promises(self, call: Call) -> Answer:
        return Answer(200, serializing.deleted(await self._engine.release_topic(call.topic, call.now)))

    async def get_promise(self, call: Call) -> Answer:
        task = await self._engine.get(call.task_id)
        if task is None or task.state != ACTIVE:
            raise NotFound()
        self._metrics.admit_topic(task.topic)
        return Answer(200, serializing.promise(task))

    async def insert_promise(self, call: Call) -> Answer:
        poll = self._read.poll(call.body, call.query, call.topic, call.task_id, call.now)
        return await self._claim_one(call, poll, force=False)

    async def upsert_promise(self, call: Call) -> Answer:
        poll = self._read.poll(call.body, call.query, call.topic, call.task_id, call.now)
        return await self._claim_one(call, poll, force=True)

    async def extend_promise(self, call: Call) -> Answer:
        extension = self._read.extension(call.body, call.query, call.task_id, call.now)
        task = await self._engine.extend(call.task_id, extension.nonce, extension.deadline, call.now)
        return Answer(200, serializing.promise(task))

    async def delete_promise(self, call: Call) -> Answer:
        nonce = call.query.text("nonce")
        released = await self._engine.release(call.task_id, call.now, nonce)
        if nonce and not released:
            task = await self._engine.get(call.task_id)
            if task is not None and task.nonce != nonce:
                raise Conflict("the task may have been modified by others")
        return Answer(200, serializing.deleted(released))

    async def _claim_due(self, call: Call, poll: Poll) -> Answer:
        """Claim what is due, or wait for it. Who waits stands behind those who waited before."""
        if call.connection.gone:
            raise ClientGone()
        tasks: list[TaskRecord] = []
        until = self._clock.monotonic() + poll.wait if poll.wait else 0
        if not poll.wait or self._room.is_empty(poll.topics):
            claim = Claim(poll.topics, poll.deadline_at(call.now), poll.consumer, poll.limit or 1)
            tasks = await self._engine.claim(claim, call.now)
        if not tasks and poll.wait and not call.connection.pressed:
            want = Want(poll.topics, poll.consumer, poll.limit or 1, poll.timeout, poll.deadline)
            tasks = await self._room.wait(want, until, call.connection.watch)
        if not tasks:
            raise NotFound()
        for task in tasks:
            self._count_consumed(task)
        body = serializing.task(tasks[0]) if poll.limit is None else serializing.tasks(tasks)
        return Answer(200, body, claimed=tuple(tasks))

    async def _claim_one(self, call: Call, poll: Poll, *, force: bool) -> Answer:
        if call.connection.gone:
            raise ClientGone()
        claim = Claim(poll.topics, poll.deadline_at(call.now), poll.consumer)
        task = await self._engine.claim_task(poll.task_id, claim, call.now, force=force)
        self._count_consumed(task)
        return Answer(200, serializing.task(task), claimed=(task,))

    # ---- what is counted ---------------------------------------------------------------------------

    async def _count_produced(self, tasks: Sequence[TaskRecord]) -> None:
        produced = self._metrics.produced
        for start in range(0, len(tasks), _SLICE):
            for task in tasks[start : start + _SLICE]:
                produced(task.topic, task.producer)
            if len(tasks) > _SLICE:
                await asyncio.sleep(0)

    def _count_consumed(self, task: TaskRecord) -> None:
        assert task.consumed is not None, "a claimed task has the time of its claim"
        delay = (task.consumed - task.scheduled) / SECOND
        self._metrics.consumed(task.topic, task.producer, task.consumer, delay)

    def _count_committed(self, task: TaskRecord) -> None:
        consumed, committed = task.consumed, task.committed
        execution = None
        if consumed is not None and committed is not None:
            execution = (committed - consumed) / SECOND
        self._metrics.committed(task.topic, task.producer, task.consumer, execution)

    # ---- operation ---------------------------------------------------------------------------------

    async def get_liveness(self, call: Call) -> Answer:
        return Answer(200)

    async def get_health(self, call: Call) -> Answer:
        return Answer(200)

    async def get_readiness(self, call: Call) -> Answer:
        if self.draining:
            raise ServiceUnavailable("the server is stopping")
        health = await self._engine.health()
        if not health.ready:
            raise ServiceUnavailable(health.detail)
        return Answer(200, serializing.health(health.detail))

    async def get_metrics(self, call: Call) -> Answer:
        return Answer(200, content_type=CONTENT_TYPE.encode(), stream=self._scrape())

    # ---- documentation -----------------------------------------------------------------------------

    async def get_docs(self, call: Call) -> Answer:
        return _document(call, *docs.page(gzip=call.takes_gzip))

    async def get_asset(self, call: Call) -> Answer:
        # The first time, reading and compressing more than a megabyte takes a moment.
        found = await asyncio.to_thread(docs.asset, call.name, gzip=call.takes_gzip)
        if found is None:
            raise NotFound()
        return _document(call, *found)

    async def get_openapi_json(self, call: Call) -> Answer:
        return Answer(200, openapi.json_document(self._version))

    async def get_openapi_yaml(self, call: Call) -> Answer:
        return Answer(
            200, openapi.yaml_document(self._version), content_type=b"application/yaml; charset=utf-8"
        )


_DOCUMENT_HEADERS = (
    *((name.lower().encode(), value.encode()) for name, value in docs.HEADERS.items()),
    VARY,
)


def _document(call: Call, body: bytes, content_type: str) -> Answer:
    return Answer(200, body, content_type.encode(), _DOCUMENT_HEADERS, compressed=call.takes_gzip)
