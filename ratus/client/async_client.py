"""The asynchronous client: `Client` with coroutines, method by method."""

# ruff: noqa: ASYNC109 - a `timeout` here is how long a claim holds; the server keeps it, not the event loop

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Iterable
from types import TracebackType
from typing import Literal, Self

from ratus.calls import requests
from ratus.calls.async_calls import AsyncCalls
from ratus.calls.base import DEFAULT_RETRIES, SETTLED, WAIT_PAUSE, completed
from ratus.calls.claims import Claimed
from ratus.calls.delivery import AsyncDelivery, lease_of
from ratus.calls.inputs import DurationLike, TimeLike, Topics, seconds
from ratus.calls.requests import BATCH_ITEMS
from ratus.calls.responses import TaskPage
from ratus.core.errors import BadRequest
from ratus.core.models import Commit, CommitItem, CommitResult, Promise, Task, TaskState, Topic, Updated
from ratus.worker.coroutines import AsyncWorker
from ratus.worker.options import DEFAULT_PREFETCH, AsyncHandler


class AsyncClient(AsyncCalls):
    """A client of one Ratus server for asyncio: `Client`, with methods to be awaited.

    The arguments are those of `Client`. It may be made anywhere, and used on one event loop at a time. At
    most 100 requests are in flight at once, beside those that wait for a task; more of them queue.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        token: str | None = None,
        consumer: str | None = None,
        request_timeout: DurationLike = "30s",
        connect_timeout: DurationLike = "10s",
        retries: int = DEFAULT_RETRIES,
        compress: bool = False,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(
            url,
            token=token,
            consumer=consumer,
            request_timeout=request_timeout,
            connect_timeout=connect_timeout,
            retries=retries,
            compress=compress,
            tls=tls,
        )
        self._workers: set[AsyncWorker] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # ---- topics ------------------------------------------------------------------------------------

    async def list_topics(self, *, limit: int | None = None, offset: int | None = None) -> list[Topic]:
        """As `Client.list_topics`."""
        return await self._call(requests.list_topics(limit, offset))

    async def iter_topics(self, *, page_size: int = 100) -> AsyncIterator[Topic]:
        """As `Client.iter_topics`, for `async for`."""
        offset = 0
        while True:
            limit = min(page_size, self._bounds.page)
            try:
                page = await self.list_topics(limit=limit, offset=offset)
            except BadRequest as error:
                self._bounds.refused_page(error, limit)
                continue
            for topic in page:
                yield topic
            offset += len(page)
            if not page or len(page) < limit:
                return

    async def get_topic(self, topic: str) -> Topic:
        """As `Client.get_topic`."""
        return await self._call(requests.get_topic(topic))

    async def patch_topic(self, topic: str, *, paused: bool | None = None) -> Topic:
        """As `Client.patch_topic`."""
        return await self._call(requests.patch_topic(topic, paused))

    async def delete_topic(self, topic: str) -> int:
        """As `Client.delete_topic`."""
        return await self._call(requests.delete_topic(topic))

    async def delete_topics(self) -> int:
        """As `Client.delete_topics`."""
        return await self._call(requests.delete_topics())

    # ---- tasks -------------------------------------------------------------------------------------

    async def list_tasks(
        self,
        topic: str,
        *,
        limit: int | None = None,
        offset: int | None = None,
        after: str | None = None,
        state: TaskState | None = None,
        outcome: Literal["failed", "expired"] | None = None,
        producer: str | None = None,
        consumer: str | None = None,
    ) -> TaskPage:
        """As `Client.list_tasks`."""
        return await self._call(
            requests.list_tasks(
                topic,
                limit=limit,
                offset=offset,
                after=after,
                state=state,
                outcome=outcome,
                producer=producer,
                consumer=consumer,
            )
        )

    async def iter_tasks(
        self,
        topic: str,
        *,
        state: TaskState | None = None,
        outcome: Literal["failed", "expired"] | None = None,
        producer: str | None = None,
        consumer: str | None = None,
        page_size: int = 100,
    ) -> AsyncIterator[Task]:
        """As `Client.iter_tasks`, for `async for`."""
        after = ""
        while True:
            limit = min(page_size, self._bounds.page)
            try:
                page = await self.list_tasks(
                    topic,
                    limit=limit,
                    after=after,
                    state=state,
                    outcome=outcome,
                    producer=producer,
                    consumer=consumer,
                )
            except BadRequest as error:
                self._bounds.refused_page(error, limit)
                continue
            for task in page:
                yield task
            if not (after := page.next):
                return

    async def insert_tasks(
        self, tasks: Iterable[Task], *, topic: str | None = None, batch_size: int = BATCH_ITEMS
    ) -> Updated:
        """As `Client.insert_tasks`."""
        return await self._write("POST", tasks, topic, batch_size)

    async def upsert_tasks(
        self, tasks: Iterable[Task], *, topic: str | None = None, batch_size: int = BATCH_ITEMS
    ) -> Updated:
        """As `Client.upsert_tasks`."""
        return await self._write("PUT", tasks, topic, batch_size)

    async def _write(
        self, method: Literal["POST", "PUT"], tasks: Iterable[Task], topic: str | None, batch_size: int
    ) -> Updated:
        created = updated = 0
        for batch in requests.write_tasks(method, tasks, topic, batch_size, self._bounds):
            async for written in self._send(batch):
                created += written.created
                updated += written.updated
        return Updated(created=created, updated=updated)

    async def patch_tasks(
        self, commits: Iterable[CommitItem], *, batch_size: int = BATCH_ITEMS
    ) -> list[CommitResult]:
        """As `Client.patch_tasks`."""
        results: list[CommitResult] = []
        for batch in requests.patch_tasks(commits, batch_size, self._bounds):
            async for some in self._send(batch):
                results += some
        return results

    async def delete_tasks(self, topic: str) -> int:
        """As `Client.delete_tasks`."""
        return await self._call(requests.delete_tasks(topic))

    async def get_task(self, task_id: str, *, wait: DurationLike | None = None) -> Task:
        """As `Client.get_task`."""
        return await self._call(requests.get_task(task_id, wait))

    async def wait_for_task(
        self, task_id: str, wait: DurationLike | None = None, *, check: bool = False
    ) -> Task:
        """As `Client.wait_for_task`."""
        until = None if wait is None else time.monotonic() + seconds(wait, "wait")
        while True:
            begun = time.monotonic()
            longest = self._bounds.wait
            left = longest if until is None else min(longest, max(until - begun, 0.0))
            try:
                task = await self.get_task(task_id, wait=left)
            except BadRequest as error:
                self._bounds.refused_wait(error, left)
                continue
            now = time.monotonic()
            if task.state in SETTLED or (until is not None and now >= until):
                return completed(task) if check else task
            if not left or now - begun < left / 2:
                await asyncio.sleep(WAIT_PAUSE)

    async def insert_task(self, task: Task) -> Updated:
        """As `Client.insert_task`."""
        return await self._call(requests.write_task("POST", task))

    async def upsert_task(self, task: Task) -> Updated:
        """As `Client.upsert_task`."""
        return await self._call(requests.write_task("PUT", task))

    async def patch_task(self, task_id: str, commit: Commit | None = None) -> Task:
        """As `Client.patch_task`."""
        return await self._call(requests.patch_task(task_id, commit))

    async def delete_task(self, task_id: str) -> int:
        """As `Client.delete_task`."""
        return await self._call(requests.delete_task(task_id))

    # ---- promises ----------------------------------------------------------------------------------

    async def poll(
        self,
        topics: Topics,
        *,
        timeout: DurationLike | None = None,
        deadline: TimeLike | None = None,
        wait: DurationLike | None = None,
        consumer: str | None = None,
    ) -> AsyncDelivery | None:
        """As `Client.poll`."""
        found = await self.poll_many(
            topics, 1, timeout=timeout, deadline=deadline, wait=wait, consumer=consumer
        )
        return found[0] if found else None

    async def poll_many(
        self,
        topics: Topics,
        limit: int,
        *,
        timeout: DurationLike | None = None,
        deadline: TimeLike | None = None,
        wait: DurationLike | None = None,
        consumer: str | None = None,
    ) -> list[AsyncDelivery]:
        """As `Client.poll_many`."""
        name = self._consumer if consumer is None else consumer
        request = requests.poll(
            topics, limit=limit, consumer=name, timeout=timeout, deadline=deadline, wait=wait
        )
        return [self._deliver(claimed, timeout, deadline) for claimed in await self._call(request)]

    async def list_promises(
        self, topic: str, *, limit: int | None = None, offset: int | None = None
    ) -> list[Promise]:
        """As `Client.list_promises`."""
        return await self._call(requests.list_promises(topic, limit, offset))

    async def delete_promises(self, topic: str) -> int:
        """As `Client.delete_promises`."""
        return await self._call(requests.delete_promises(topic))

    async def get_promise(self, task_id: str) -> Promise:
        """As `Client.get_promise`."""
        return await self._call(requests.get_promise(task_id))

    async def insert_promise(
        self,
        task_id: str,
        *,
        timeout: DurationLike | None = None,
        deadline: TimeLike | None = None,
        consumer: str | None = None,
    ) -> AsyncDelivery:
        """As `Client.insert_promise`."""
        return await self._claim("POST", task_id, timeout, deadline, consumer)

    async def upsert_promise(
        self,
        task_id: str,
        *,
        timeout: DurationLike | None = None,
        deadline: TimeLike | None = None,
        consumer: str | None = None,
    ) -> AsyncDelivery:
        """As `Client.upsert_promise`."""
        return await self._claim("PUT", task_id, timeout, deadline, consumer)

    async def _claim(
        self,
        method: Literal["POST", "PUT"],
        task_id: str,
        timeout: DurationLike | None,
        deadline: TimeLike | None,
        consumer: str | None,
    ) -> AsyncDelivery:
        name = self._consumer if consumer is None else consumer
        claimed = await self._call(requests.claim_task(method, task_id, name, timeout, deadline))
        return self._deliver(claimed, timeout, deadline)

    async def extend_promise(
        self,
        task_id: str,
        *,
        nonce: str = "",
        timeout: DurationLike | None = None,
        deadline: TimeLike | None = None,
    ) -> Promise:
        """As `Client.extend_promise`."""
        return await self._call(requests.extend_promise(task_id, nonce, timeout, deadline))

    async def delete_promise(self, task_id: str, *, nonce: str = "") -> int:
        """As `Client.delete_promise`."""
        return await self._call(requests.delete_promise(task_id, nonce))

    # ---- operation ---------------------------------------------------------------------------------

    async def get_liveness(self) -> None:
        """As `Client.get_liveness`."""
        await self._call(requests.get_liveness())

    async def get_readiness(self) -> None:
        """As `Client.get_readiness`."""
        await self._call(requests.get_readiness())

    async def get_metrics(self) -> str:
        """As `Client.get_metrics`."""
        return await self._call(requests.get_metrics())

    # ---- working -----------------------------------------------------------------------------------

    async def subscribe(
        self,
        topics: Topics,
        handler: AsyncHandler,
        *,
        concurrency: int = 1,
        timeout: DurationLike = "60s",
        wait: DurationLike = "20s",
        grace: DurationLike = "30s",
        prefetch: int = DEFAULT_PREFETCH,
        consumer: str | None = None,
        signals: bool = True,
    ) -> None:
        """As `Client.subscribe`."""
        worker = AsyncWorker(
            self,
            topics,
            handler,
            concurrency=concurrency,
            timeout=timeout,
            wait=wait,
            grace=grace,
            prefetch=prefetch,
            consumer=consumer,
            signals=signals,
        )
        self._workers.add(worker)
        try:
            await worker.run()
        finally:
            self._workers.discard(worker)

    def stop(self) -> None:
        """As `Client.stop`."""
        for worker in list(self._workers):
            worker.stop()

    # ---- underneath --------------------------------------------------------------------------------

    def _deliver(
        self, claimed: Claimed, timeout: DurationLike | None, deadline: TimeLike | None
    ) -> AsyncDelivery:
        return AsyncDelivery(self, claimed, lease_of(claimed, timeout, deadline), timeout)
