"""Handlers of promises: claims, extensions, releases."""

from __future__ import annotations

from ratus.api import serializing
from ratus.api.call import Call, ClientDisconnected, Response
from ratus.api.parsing import Poll, Reader
from ratus.core.clock import SECOND, Clock
from ratus.core.errors import Closed, Conflict, NotFound
from ratus.core.records import ACTIVE, TaskQuery, TaskRecord
from ratus.engine import Engine
from ratus.metrics import Metrics
from ratus.runtime.long_polls import LongPollQueue


class PromiseHandlers:
    """The operations on promises."""

    def __init__(
        self, engine: Engine, reader: Reader, metrics: Metrics, clock: Clock, long_polls: LongPollQueue
    ) -> None:
        self._engine = engine
        self._read = reader
        self._metrics = metrics
        self._clock = clock
        self._long_polls = long_polls

    async def list_promises(self, call: Call) -> Response:
        limit, offset = self._read.page(call.query)
        page = await self._engine.list_tasks(TaskQuery(call.topic, limit, offset, state=ACTIVE))
        if page.tasks:
            self._metrics.admit_topic(call.topic)
        return Response(200, serializing.promises(page.tasks))

    async def poll(self, call: Call) -> Response:
        poll = self._read.poll(call.body, call.query, call.topic, "", call.now)
        if poll.task_id:
            return await self._claim_one(call, poll, force=False)
        return await self._claim_due(call, poll)

    async def poll_topics(self, call: Call) -> Response:
        return await self._claim_due(call, self._read.poll(call.body, call.query, None, "", call.now))

    async def delete_promises(self, call: Call) -> Response:
        return Response(200, serializing.deleted(await self._engine.release_topic(call.topic, call.now)))

    async def get_promise(self, call: Call) -> Response:
        task = await self._engine.get(call.task_id)
        if task is None or task.state != ACTIVE:
            raise NotFound()
        self._metrics.admit_topic(task.topic)
        return Response(200, serializing.promise(task))

    async def insert_promise(self, call: Call) -> Response:
        poll = self._read.poll(call.body, call.query, call.topic, call.task_id, call.now)
        return await self._claim_one(call, poll, force=False)

    async def upsert_promise(self, call: Call) -> Response:
        poll = self._read.poll(call.body, call.query, call.topic, call.task_id, call.now)
        return await self._claim_one(call, poll, force=True)

    async def extend_promise(self, call: Call) -> Response:
        extension = self._read.extension(call.body, call.query, call.task_id, call.now)
        task = await self._engine.extend(call.task_id, extension.nonce, extension.deadline, call.now)
        return Response(200, serializing.promise(task))

    async def delete_promise(self, call: Call) -> Response:
        nonce, hold = self._read.release(call.query)
        released = await self._engine.release(call.task_id, call.now, nonce, hold)
        if nonce and not released:
            task = await self._engine.get(call.task_id)
            if task is not None and task.nonce != nonce:
                raise Conflict("the task may have been modified by others")
        return Response(200, serializing.deleted(released))

    async def _claim_due(self, call: Call, poll: Poll) -> Response:
        """Claim what is due, or wait for it. A request that may wait queues behind those that wait."""
        if call.connection.disconnected:
            raise ClientDisconnected()
        selection = poll.selection
        tasks: list[TaskRecord] = []
        closed: Closed | None = None
        until = self._clock.monotonic() + poll.wait if poll.wait else 0
        if not poll.wait or self._long_polls.is_empty(selection):
            try:
                tasks = await self._engine.claim(selection, call.now)
            except Closed as error:
                if not poll.wait:
                    raise
                closed = error
        if not tasks and poll.wait and not call.connection.pipelined:
            tasks = await self._long_polls.wait(selection, until, call.connection.watch)
        if not tasks:
            if closed is not None and closed.reopens > self._clock.now():
                raise closed
            raise NotFound()
        for task in tasks:
            self._count_consumed(task)
        body = serializing.tasks(tasks) if poll.listed else serializing.task(tasks[0])
        return Response(200, body, claimed=tuple(tasks))

    async def _claim_one(self, call: Call, poll: Poll, *, force: bool) -> Response:
        if call.connection.disconnected:
            raise ClientDisconnected()
        task = await self._engine.claim_task(poll.task_id, poll.selection, call.now, force=force)
        self._count_consumed(task)
        return Response(200, serializing.task(task), claimed=(task,))

    def _count_consumed(self, task: TaskRecord) -> None:
        assert task.consumed is not None, "a claimed task has the time of its claim"
        delay = (task.consumed - task.scheduled) / SECOND
        self._metrics.consumed(task.topic, task.producer, task.consumer, delay)
