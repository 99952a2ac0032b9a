"""Handlers of tasks: inserts, commits, lists."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from ratus.api import serializing
from ratus.api.call import Call, Response
from ratus.api.cursors import make_cursor
from ratus.api.parsing import Reader
from ratus.api.trace_headers import trace_of
from ratus.core.clock import SECOND, Clock
from ratus.core.errors import Conflict, NotFound, RatusError
from ratus.core.records import TaskRecord
from ratus.engine import LARGE_BATCH, Engine
from ratus.metrics import Metrics
from ratus.runtime.long_polls import LongPollQueue

# Tasks of a batch that are counted and written at a time: one millisecond or two.
_SLICE = LARGE_BATCH


class TaskHandlers:
    """The operations on tasks."""

    def __init__(
        self, engine: Engine, reader: Reader, metrics: Metrics, clock: Clock, long_polls: LongPollQueue
    ) -> None:
        self._engine = engine
        self._read = reader
        self._metrics = metrics
        self._clock = clock
        self._long_polls = long_polls
        self._trace_headers = reader.settings.trace_headers

    async def list_tasks(self, call: Call) -> Response:
        page = await self._engine.list_tasks(self._read.task_query(call.query, call.topic))
        if page.tasks:
            self._metrics.admit_topic(call.topic)
        cursor = None
        if page.next is not None and "after" in call.query:
            cursor = make_cursor(page.next, call.topic)
        return Response(200, serializing.tasks(page.tasks, cursor))

    async def insert_tasks(self, call: Call) -> Response:
        tasks = await self._read.tasks(call.body, call.topic, call.now)
        if self._trace_headers:
            await self._trace(tasks, call)
        created = await self._engine.insert(tasks, call.now)
        await self._count_produced([task for task, new in zip(tasks, created, strict=True) if new])
        count = sum(created)
        return Response(201 if count else 200, serializing.updated(count, 0))

    async def upsert_tasks(self, call: Call) -> Response:
        tasks = await self._read.tasks(call.body, call.topic, call.now)
        if self._trace_headers:
            await self._trace(tasks, call)
        created = await self._engine.upsert(tasks, call.now)
        await self._count_produced(tasks)
        count = sum(created)
        return Response(201 if count else 200, serializing.updated(count, len(created) - count))

    async def _trace(self, tasks: Sequence[TaskRecord], call: Call) -> None:
        """Give tasks the trace context of the request, but for those that have one of their own."""
        rare = trace_of(call.headers)
        if rare is None:
            return
        for start in range(0, len(tasks), _SLICE):
            for task in tasks[start : start + _SLICE]:
                if task.rare is None:
                    task.rare = rare
                elif task.trace is None:
                    task.trace = rare.trace
            if len(tasks) > _SLICE:
                await asyncio.sleep(0)

    async def patch_tasks(self, call: Call) -> Response:
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
        return Response(200, answer.body())

    async def delete_tasks(self, call: Call) -> Response:
        return Response(200, serializing.deleted(await self._engine.delete_tasks(call.topic)))

    async def get_task(self, call: Call) -> Response:
        wait = self._read.wait(call.query)
        if wait:
            until = self._clock.monotonic() + wait
            task = await self._long_polls.wait_settled(call.task_id, until, call.connection.watch)
        else:
            task = await self._engine.get(call.task_id)
        if task is None:
            raise NotFound()
        self._metrics.admit_topic(task.topic)
        return Response(200, serializing.task(task))

    async def insert_task(self, call: Call) -> Response:
        task = self._read.task(call.body, call.topic, call.task_id, call.now)
        if self._trace_headers:
            await self._trace([task], call)
        (created,) = await self._engine.insert([task], call.now)
        if not created:
            raise Conflict("a task with the same ID already exists")
        self._metrics.produced(task.topic, task.producer)
        return Response(201, serializing.updated(1, 0))

    async def upsert_task(self, call: Call) -> Response:
        task = self._read.task(call.body, call.topic, call.task_id, call.now)
        if self._trace_headers:
            await self._trace([task], call)
        (created,) = await self._engine.upsert([task], call.now)
        self._metrics.produced(task.topic, task.producer)
        return (
            Response(201, serializing.updated(1, 0)) if created else Response(200, serializing.updated(0, 1))
        )

    async def patch_task(self, call: Call) -> Response:
        commit = self._read.commit(call.body, call.task_id, call.now)
        (result,) = await self._engine.commit([commit], call.now)
        if isinstance(result, RatusError):
            raise result
        self._count_committed(result)
        return Response(200, serializing.task(result))

    async def delete_task(self, call: Call) -> Response:
        return Response(200, serializing.deleted(await self._engine.delete_task(call.task_id)))

    async def _count_produced(self, tasks: Sequence[TaskRecord]) -> None:
        produced = self._metrics.produced
        for start in range(0, len(tasks), _SLICE):
            for task in tasks[start : start + _SLICE]:
                produced(task.topic, task.producer)
            if len(tasks) > _SLICE:
                await asyncio.sleep(0)

    def _count_committed(self, task: TaskRecord) -> None:
        consumed, committed = task.consumed, task.committed
        execution = None
        if consumed is not None and committed is not None:
            execution = (committed - consumed) / SECOND
        self._metrics.committed(task.topic, task.producer, task.consumer, execution)
