"""The asynchronous client: `Client` with coroutines, method by method."""

# ruff: noqa: ASYNC109 - a `timeout` here is how long a claim holds; the server keeps it, not the event loop

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self

from ratus.calls import requests, steps
from ratus.calls.async_calls import AsyncCalls
from ratus.calls.base import DEFAULT_RETRIES
from ratus.calls.claims import Claimed
from ratus.calls.delivery import AsyncDelivery, lease_of
from ratus.calls.inputs import DurationLike, LabelValue, Order, TimeLike, Topics, choice_members
from ratus.calls.requests import BATCH_ITEMS
from ratus.calls.responses import LanePage, SchedulePage, TaskPage, ValuePage
from ratus.calls.transport import AsyncTransport
from ratus.core.models import (
    Commit,
    CommitItem,
    CommitResult,
    Lane,
    Limits,
    Preview,
    Promise,
    Schedule,
    Task,
    TaskState,
    Topic,
    Updated,
    Value,
)
from ratus.worker.coroutines import AsyncWorker
from ratus.worker.options import DEFAULT_PREFETCH, AsyncHandler


class AsyncClient(AsyncCalls):
    """A client of one Ratus server for asyncio: `Client`, with methods to be awaited.

    The arguments are those of `Client`. It may be made outside of an event loop, and be used on one event
    loop at a time. At most 100 requests are in flight at once, beside those that wait for a task; further
    ones queue.
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
        transport: AsyncTransport | None = None,
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
            transport=transport,
        )
        self._workers: set[AsyncWorker] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # ---- topics ------------------------------------------------------------------------------------

    async def list_topics(
        self, *, limit: int | None = None, offset: int | None = None, details: bool = False
    ) -> list[Topic]:
        """A page of the topics, by default the first ten. See also `iter_topics`.

        Only their names, or with `details` all that `get_topic` says of them.
        """
        return await self._call(requests.list_topics(limit, offset, details=details))

    async def iter_topics(self, *, page_size: int = 100, details: bool = False) -> AsyncIterator[Topic]:
        """All topics, fetched page by page; only their names, or with `details` all that `get_topic` says.

        A topic that begins or ends meanwhile may shift the others, so that one is given twice or not at all.
        Raises `BadRequest` after as many topics as the server lets a list skip (10,000 by default).
        """
        offset: int | None = 0
        while offset is not None:
            page, offset = await self._run(
                steps.page_of_topics(offset, page_size, self._bounds, details=details)
            )
            for topic in page:
                yield topic

    async def get_topic(self, topic: str) -> Topic:
        """One topic: how many tasks it has in which state, how many are due, whether it is closed.

        Raises `NotFound` when it has neither tasks nor a setting.
        """
        return await self._call(requests.get_topic(topic))

    async def patch_topic(
        self,
        topic: str,
        *,
        paused: bool | None = None,
        limits: Limits | None = None,
        lift_holds: bool = False,
    ) -> Topic:
        """Change what a topic hands out, all in one step; return the topic as it is then.

        `paused`: pause it (it then hands out nothing), or let it go on. `limits` replace its limits as a
        whole; an empty `Limits()` takes them away. `lift_holds`: end all holds. What is not given stays.
        """
        request = requests.patch_topic(topic, paused=paused, limits=limits, lift_holds=lift_holds)
        return await self._call(request)

    async def set_limits(self, topic: str, limits: Limits | None) -> Topic:
        """Replace the limits of a topic as a whole, or take them away; return the topic as it is then.

        Claims that were made stay as they are. The topic need not have tasks yet.
        """
        return await self._call(requests.patch_topic(topic, limits=Limits() if limits is None else limits))

    async def list_lanes(
        self, topic: str, label: str | None = None, *, limit: int | None = None, after: str | None = None
    ) -> LanePage:
        """A page of the values of a label that a topic's tasks have, by default the first ten, by value.

        Each has how many of its tasks are active and pending, and why it is closed, if it is. Without a
        `label` it is that of the topic's limits per label; raises `BadRequest` where it has none. `after`
        takes the `next` of the page before. See also `iter_lanes`.
        """
        return await self._call(requests.list_lanes(topic, label, limit=limit, after=after))

    async def iter_lanes(
        self, topic: str, label: str | None = None, *, page_size: int = 100
    ) -> AsyncIterator[Lane]:
        """All values of a label that a topic's tasks have, fetched page by page; as by `list_lanes`."""
        after = ""
        while True:
            page = await self._run(steps.page_of_lanes(topic, label, after, page_size, self._bounds))
            for lane in page:
                yield lane
            if not (after := page.next):
                return

    async def delete_topic(self, topic: str) -> int:
        """Delete a topic: its tasks and its setting. Returns how many tasks that were."""
        return await self._call(requests.delete_topic(topic))

    async def delete_topics(self) -> int:
        """Delete everything. Returns how many tasks that were."""
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
        labels: Mapping[str, LabelValue] | None = None,
    ) -> TaskPage:
        """A page of a topic's tasks in order of creation, by default the first ten.

        `after` lists by cursor: `""` for the first page, then the `next` of the page before; no task that
        stays is skipped. `state`, `outcome`, `producer` and `consumer` leave out the tasks that have another
        one, `labels` those that do not have all of these. See also `iter_tasks`.
        """
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
                labels=labels,
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
        labels: Mapping[str, LabelValue] | None = None,
        page_size: int = 100,
    ) -> AsyncIterator[Task]:
        """All tasks of a topic in order of creation, fetched page by page; filtered as by `list_tasks`."""
        after = ""
        while True:
            page = await self._run(
                steps.page_of_tasks(
                    topic,
                    after,
                    page_size,
                    self._bounds,
                    state=state,
                    outcome=outcome,
                    producer=producer,
                    consumer=consumer,
                    labels=labels,
                )
            )
            for task in page:
                yield task
            if not (after := page.next):
                return

    async def insert_tasks(
        self, tasks: Iterable[Task], *, topic: str | None = None, batch_size: int = BATCH_ITEMS
    ) -> Updated:
        """Insert many tasks, ignoring those whose id exists. Returns how many are new.

        `topic` is for the tasks that have none of their own. Tasks are sent in batches of at most
        `batch_size` tasks and about 1 MiB, so there may be any number, from a generator too. When the call
        raises an error, earlier batches are inserted. After a lost answer a batch is sent again, and what the
        first attempt had inserted then does not count as new.
        """
        return await self._run(steps.write_tasks("POST", tasks, topic, batch_size, self._bounds))

    async def upsert_tasks(
        self, tasks: Iterable[Task], *, topic: str | None = None, batch_size: int = BATCH_ITEMS
    ) -> Updated:
        """Insert or replace many tasks, else as `insert_tasks`. Returns how many are new and replaced."""
        return await self._run(steps.write_tasks("PUT", tasks, topic, batch_size, self._bounds))

    async def patch_tasks(
        self, commits: Iterable[CommitItem], *, batch_size: int = BATCH_ITEMS
    ) -> list[CommitResult]:
        """Commit many tasks, of any topics. Each commit succeeds or fails alone; the results are in order."""
        return await self._run(steps.patch_tasks(commits, batch_size, self._bounds))

    async def delete_tasks(self, topic: str) -> int:
        """Delete all tasks of a topic. Returns how many that were."""
        return await self._call(requests.delete_tasks(topic))

    async def get_task(self, task_id: str, *, wait: DurationLike | None = None) -> Task:
        """One task. With `wait`, as soon as it is completed or archived, or as it is when the wait ends.

        The server bounds the wait (60 s by default); that of `wait_for_task` has no bound. Raises `NotFound`.
        """
        return await self._call(requests.get_task(task_id, wait))

    async def wait_for_task(
        self, task_id: str, wait: DurationLike | None = None, *, check: bool = False
    ) -> Task:
        """The task once it is completed or archived; as it is when the wait ends, if one was given.

        The `state` of the task says which it was. With `check`, only a completed task is returned: raises
        `TaskFailed` when it was archived, `TimeoutError` when the wait ended before. Raises `NotFound` when
        there is no such task.
        """
        return await self._run(steps.wait_for_task(task_id, wait, self._bounds, check=check))

    async def insert_task(self, task: Task) -> Updated:
        """Insert a task. Raises `Conflict` when its id exists, in whatever topic."""
        return await self._call(requests.write_task("POST", task))

    async def upsert_task(self, task: Task) -> Updated:
        """Insert a task, or replace the one with its id, whatever its state."""
        return await self._call(requests.write_task("PUT", task))

    async def patch_task(self, task_id: str, commit: Commit | None = None) -> Task:
        """Commit a task; return the task as it is then. A commit without a nonce is forced.

        Raises `Conflict` when the nonce is not the task's, and `NotFound`.
        """
        return await self._call(requests.patch_task(task_id, commit))

    async def delete_task(self, task_id: str) -> int:
        """Delete a task, whatever its state. Returns 1, or 0 when there was none."""
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
        order: Order | None = None,
        where: Mapping[str, LabelValue] | None = None,
        prefer: str | Sequence[str] | None = None,
    ) -> AsyncDelivery | None:
        """Claim the next task that is due; return `None` when there is none.

        Of several topics, one is only claimed from while no topic before it has a task that is due. The claim
        lapses after `timeout` (10 minutes by default) or at the `deadline`. `wait` is how long to wait for a
        task, bounded by the server (60 s by default).

        Within a priority, the next task is the one with the earliest `scheduled`; with the `order` "newest"
        that with the latest, with "random" any. `where` narrows the tasks to those with a label, such as
        `{"region": ["eu", "us"]}`. `prefer` has the values of a label, or of up to three, take turns.
        """
        found = await self.poll_many(
            topics,
            1,
            timeout=timeout,
            deadline=deadline,
            wait=wait,
            consumer=consumer,
            order=order,
            where=where,
            prefer=prefer,
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
        order: Order | None = None,
        where: Mapping[str, LabelValue] | None = None,
        prefer: str | Sequence[str] | None = None,
    ) -> list[AsyncDelivery]:
        """Claim up to `limit` tasks that are due; an empty list when there are none. Otherwise as `poll`.

        With `wait` it returns as soon as a task is due, even if there are fewer than `limit`.
        """
        name = self._consumer if consumer is None else consumer
        choice = choice_members(order, where, prefer)
        request = requests.poll(
            topics, limit=limit, consumer=name, timeout=timeout, deadline=deadline, wait=wait, choice=choice
        )
        return [self._deliver(claimed, timeout, deadline) for claimed in await self._call(request)]

    async def list_promises(
        self, topic: str, *, limit: int | None = None, offset: int | None = None
    ) -> list[Promise]:
        """A page of the running claims of a topic, by default the first ten."""
        return await self._call(requests.list_promises(topic, limit, offset))

    async def delete_promises(self, topic: str) -> int:
        """Release all claims of a topic. Returns how many that were."""
        return await self._call(requests.delete_promises(topic))

    async def get_promise(self, task_id: str) -> Promise:
        """The running claim of a task. Raises `NotFound` when it is not claimed."""
        return await self._call(requests.get_promise(task_id))

    async def insert_promise(
        self,
        task_id: str,
        *,
        timeout: DurationLike | None = None,
        deadline: TimeLike | None = None,
        consumer: str | None = None,
    ) -> AsyncDelivery:
        """Claim the task with this id, even before it is due.

        Raises `Conflict` when the task is not pending, and `NotFound`.
        """
        return await self._claim("POST", task_id, timeout, deadline, consumer)

    async def upsert_promise(
        self,
        task_id: str,
        *,
        timeout: DurationLike | None = None,
        deadline: TimeLike | None = None,
        consumer: str | None = None,
    ) -> AsyncDelivery:
        """Claim the task with this id, whatever its state, even from another consumer. Raises `NotFound`."""
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
        """Move the deadline of a claim: `timeout` from now (10 minutes by default), or to `deadline`.

        Raises `Conflict` when the task is not claimed under this nonce (without one, the extension is
        forced), and `NotFound`.
        """
        return await self._call(requests.extend_promise(task_id, nonce, timeout, deadline))

    async def delete_promise(self, task_id: str, *, nonce: str = "", hold: DurationLike | None = None) -> int:
        """Release the claim of a task: with a nonce only the claim that has it, without one any claim.

        `hold`, only with a nonce: for so long nothing more is handed out of what the task was claimed from,
        see `Delivery.hold`.

        Returns 1, or 0 when there was no claim to release. Raises `Conflict` when a nonce is given and the
        task has another one, or none.
        """
        return await self._call(requests.delete_promise(task_id, nonce, hold))

    # ---- values ------------------------------------------------------------------------------------

    async def list_values(
        self, prefix: str = "", *, limit: int | None = None, after: str | None = None
    ) -> ValuePage:
        """A page of the values whose names begin with `prefix`, by name, by default the first ten.

        `after` is the `next` of the page before. See also `iter_values`.
        """
        return await self._call(requests.list_values(prefix, limit, after))

    async def iter_values(self, prefix: str = "", *, page_size: int = 100) -> AsyncIterator[Value]:
        """All values whose names begin with `prefix`, by name, fetched page by page."""
        after = ""
        while True:
            page = await self._run(steps.page_of_values(prefix, after, page_size, self._bounds))
            for value in page:
                yield value
            if not (after := page.next):
                return

    async def get_value(self, name: str) -> Value:
        """A value, with its revision. Raises `NotFound` where there is none."""
        return await self._call(requests.get_value(name))

    async def set_value(self, name: str, value: Any, *, if_revision: int | None = None) -> Value:
        """Set a value to any JSON of up to 64 KiB; return it with its new revision.

        `if_revision`: only if it has this revision, 0: only if there is none. Otherwise raises `Conflict` and
        changes nothing: read it again, and repeat.
        """
        return await self._call(requests.set_value(name, value, if_revision))

    async def delete_value(self, name: str, *, if_revision: int | None = None) -> int:
        """Delete a value, `if_revision` as for `set_value`. Returns 1, or 0 when there was none."""
        return await self._call(requests.delete_value(name, if_revision))

    async def watch_values(
        self, names: str | Iterable[str] | None = None, *, prefix: str | None = None, since: int = 0
    ) -> AsyncIterator[Value]:
        """The values of these names (at most 100) or of a prefix: as they are, then each change, for ever.

        Of several changes of one value in quick succession only the last may be given, but that always. A
        deletion is a change to a `Value` that is `deleted`. `since` leaves out what has no larger revision,
        for a program that goes on where it stopped. While the server is away, it is asked until it is back.
        """
        watched = steps.WatchedValues(names, prefix, since)
        while True:
            for value in await self._run(steps.changed_values(watched, self._bounds)):
                watched.seen(value)
                yield value

    # ---- schedules ---------------------------------------------------------------------------------

    async def list_schedules(self, *, limit: int | None = None, after: str | None = None) -> SchedulePage:
        """A page of the schedules, by name, by default the first ten.

        `after` is the `next` of the page before. See also `iter_schedules`.
        """
        return await self._call(requests.list_schedules(limit, after))

    async def iter_schedules(self, *, page_size: int = 100) -> AsyncIterator[Schedule]:
        """All schedules, by name, fetched page by page."""
        after = ""
        while True:
            page = await self._run(steps.page_of_schedules(after, page_size, self._bounds))
            for schedule in page:
                yield schedule
            if not (after := page.next):
                return

    async def get_schedule(self, name: str) -> Schedule:
        """A schedule, with its next tick and its last task. Raises `NotFound`."""
        return await self._call(requests.get_schedule(name))

    async def put_schedule(self, schedule: Schedule) -> Schedule:
        """Make a schedule, or replace the one of its name; return it as it is then.

        The same again changes nothing. Its next tick comes after now: the past is never fired.
        """
        return await self._call(requests.put_schedule(schedule))

    async def patch_schedule(self, name: str, **changes: Any) -> Schedule:
        """Change members of a schedule, by their names on the wire, such as `paused=True`.

        `None` takes a member away. Raises `NotFound`.
        """
        return await self._call(requests.patch_schedule(name, changes))

    async def delete_schedule(self, name: str) -> int:
        """Delete a schedule; its tasks stay. Returns 1, or 0 when there was none."""
        return await self._call(requests.delete_schedule(name))

    async def run_schedule(self, name: str) -> str:
        """Make a task of a schedule now, paused or not. Returns its id. Raises `NotFound`."""
        return await self._call(requests.run_schedule(name))

    async def preview_schedule(self, schedule: Schedule) -> Preview:
        """The next five ticks of a schedule, and its expression in words; nothing is changed."""
        return await self._call(requests.preview_schedule(schedule))

    # ---- operation ---------------------------------------------------------------------------------

    async def get_liveness(self) -> None:
        """Return when the server is up. Raises `RatusError` when it is not; never repeated."""
        await self._call(requests.get_liveness())

    async def get_readiness(self) -> None:
        """Return when the server can serve. Raises `ServiceUnavailable` or `TransportError`; not repeated."""
        await self._call(requests.get_readiness())

    async def get_metrics(self) -> str:
        """The server's metrics, in the text format of Prometheus."""
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
        order: Order | None = None,
        where: Mapping[str, LabelValue] | None = None,
        prefer: str | Sequence[str] | None = None,
        signals: bool = True,
    ) -> None:
        """Work on the tasks of one topic, or of several by preference, until stopped; see `AsyncWorker`.

        Returns after `stop`, SIGTERM or Ctrl-C, once the worker has drained. Raises the server's error when
        the worker cannot go on, such as `Unauthorized`.
        """
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
            order=order,
            where=where,
            prefer=prefer,
            signals=signals,
        )
        self._workers.add(worker)
        try:
            await worker.run()
        finally:
            self._workers.discard(worker)

    def stop(self) -> None:
        """Have every `subscribe` of this client drain and return.

        Returns at once, and may be called from any thread, a handler's included.
        """
        for worker in list(self._workers):
            worker.stop()

    # ---- underneath --------------------------------------------------------------------------------

    def _deliver(
        self, claimed: Claimed, timeout: DurationLike | None, deadline: TimeLike | None
    ) -> AsyncDelivery:
        return AsyncDelivery(self, claimed, lease_of(claimed, timeout, deadline), timeout)
