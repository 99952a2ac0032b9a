"""The worker of the asynchronous client: handlers as tasks of asyncio.

What `threads` does in threads is done here by tasks of one event loop: one claims, one commits in batches,
one keeps claims, and each delivery is handled in a task of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import time
from collections.abc import Coroutine, Mapping, Sequence
from types import CoroutineType
from typing import Any, Final

from ratus.calls.async_calls import AsyncCalls
from ratus.calls.async_connections import AsyncInterrupt
from ratus.calls.claims import Claimed
from ratus.calls.delivery import AsyncDelivery
from ratus.calls.inputs import DurationLike, LabelValue, Order, Topics
from ratus.core.errors import RatusError
from ratus.worker.base import FINISH_SECONDS, INTERRUPT_SECONDS, BaseWorker
from ratus.worker.commits import note_failure
from ratus.worker.coroutine_commits import CoroutineCommitter
from ratus.worker.forks import generation, leave_child
from ratus.worker.handlers import check_coroutine_handler, refuse_unrun
from ratus.worker.keeping import EXTENSIONS, due_for_extension, tick_seconds
from ratus.worker.options import DEFAULT_PREFETCH, AsyncHandler, Options
from ratus.worker.signals import listen

CANCEL_SECONDS: Final = 1.0
"""Seconds that cancelled handlers may take to clean up."""


class AsyncWorker(BaseWorker[AsyncDelivery]):
    """Runs a coroutine on the tasks of one topic, or of several by preference; see `Worker`.

    The arguments are those of `Worker`. A handler that is still running after the grace period is cancelled,
    and its task released. Cancelling `run` itself stops the worker without a grace period.
    """

    def __init__(
        self,
        client: AsyncCalls,
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
        check_coroutine_handler(handler)
        options = Options.check(
            topics,
            concurrency=concurrency,
            timeout=timeout,
            wait=wait,
            grace=grace,
            prefetch=prefetch,
            order=order,
            where=where,
            prefer=prefer,
        )
        super().__init__(client, options, consumer)
        self._client: AsyncCalls = client
        self._handler = handler
        self._with_signals = signals
        # The task of each handler; `None` while the task is being created, see `_begin`.
        self._running: dict[AsyncDelivery, asyncio.Task[None] | None] = {}
        self._beginning = False
        self._extending: dict[str, asyncio.Task[None]] = {}
        self._committer = CoroutineCommitter(client, on_progress=self._wake_poller, on_fatal=self._give_up)
        self._demand = asyncio.Event()
        self._interrupt = AsyncInterrupt()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()
        self._hurried = asyncio.Event()
        self._idle = asyncio.Event()
        self._error: BaseException | None = None

    def stop(self) -> None:
        """Have the worker drain, after which `run` returns.

        Returns at once, and may be called from any thread, a handler's included.
        """
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stopping.set)
        else:
            self._stopping.set()

    async def run(self) -> None:
        """Work until the worker is stopped and has drained.

        Raises `RuntimeError` when called again, and the error that ended the worker: a `RatusError` that the
        server would answer with again and again (such as `Unauthorized`), or a failure within the worker.
        """
        if self._loop is not None:
            raise RuntimeError("a worker runs only once; make another one")
        self._loop = asyncio.get_running_loop()
        self._generation = generation()
        with self._signals():
            self._committer.start()
            poller = asyncio.create_task(self._guard(self._poll()), name="ratus-poll")
            keeper = asyncio.create_task(self._guard(self._keep()), name="ratus-keep")
            grace = 0.0
            try:
                await self._stopping.wait()
                grace = self._options.grace
            finally:
                try:
                    await self._drain(poller, keeper, grace)
                except asyncio.CancelledError:
                    self._abort(poller, keeper)
                    raise
        if self._error is not None:
            raise self._error

    # ---- stopping ----------------------------------------------------------------------------------

    async def _drain(self, poller: asyncio.Task[None], keeper: asyncio.Task[None], grace: float) -> None:
        until = time.monotonic() + grace
        self._stopping.set()
        self._demand.set()
        self._interrupt.begin()
        await asyncio.wait({poller}, timeout=INTERRUPT_SECONDS)
        if not poller.done():
            self._interrupt.cut()
            await asyncio.wait({poller}, timeout=INTERRUPT_SECONDS)
            poller.cancel()  # its request is still connecting
        self._release_ready()
        await self._finish_handlers(until)
        keepers = {keeper, *self._extending.values()}
        for each in keepers:
            each.cancel()
        await asyncio.wait(keepers, timeout=INTERRUPT_SECONDS)
        self._hurried.clear()  # a signal that came up to here was for the grace period
        await self._committer.finish(FINISH_SECONDS, self._hurried)

    def _abort(self, poller: asyncio.Task[None], keeper: asyncio.Task[None]) -> None:
        """Cancel every task without waiting for it: `run` was cancelled again while it drained."""
        for task in (poller, keeper, *self._extending.values(), *self._running.values()):
            if task is not None:
                task.cancel()
        self._committer.give_up()

    async def _finish_handlers(self, until: float) -> None:
        if not self._running:
            return
        self._idle.clear()
        # A second signal ends the grace period, and so does an error after which nothing can be committed.
        waiting = {asyncio.ensure_future(self._idle.wait()), asyncio.ensure_future(self._hurried.wait())}
        try:
            left = max(0.0, until - time.monotonic())
            await asyncio.wait(waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()
        tasks = set()
        for delivery, task in list(self._running.items()):
            self._abandon(delivery)
            if task is not None:
                task.cancel()
                tasks.add(task)
        if tasks:
            await asyncio.wait(tasks, timeout=CANCEL_SECONDS)

    def _signals(self) -> contextlib.AbstractContextManager[None]:
        return listen(self._on_signal) if self._with_signals else contextlib.nullcontext()

    def _on_signal(self, name: str) -> None:
        """Have the event loop obey a signal. Python calls this between any two lines of the main thread."""
        assert self._loop is not None
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._obey)

    def _obey(self) -> None:
        """Drain at the first signal. Each further one ends a wait: for handlers, then for commits."""
        if self._stopping.is_set():
            self._hurried.set()
        self._stopping.set()

    @property
    def _commits(self) -> CoroutineCommitter:
        return self._committer

    def _give_up(self, error: BaseException) -> None:
        self._error = self._error or error
        self._hurried.set()
        self._stopping.set()

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        """Run work that the worker cannot do without. When that fails, the worker ends."""
        try:
            await work
        except Exception as error:
            self._give_up(error)

    # ---- claiming ----------------------------------------------------------------------------------

    async def _poll(self) -> None:
        while not self._stopping.is_set():
            limit = self._wanted()
            if not limit:
                self._demand.clear()
                await self._demand.wait()
                continue
            begun = time.monotonic()
            try:
                claims = await self._client._call(self._claiming.request(limit), interrupt=self._interrupt)
            except RatusError as error:
                if self._stopping.is_set():
                    return
                pause = self._claiming.failed(error, limit)
            else:
                pause = self._claiming.succeeded(len(claims), time.monotonic() - begun)
                self._hand_out(claims)
            if pause:
                await self._pause(pause)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    def _wanted(self) -> int:
        return self._missing(len(self._running))

    def _wake_poller(self) -> None:
        if not self._demand.is_set() and (self._stopping.is_set() or self._wanted()):
            self._demand.set()

    def _hand_out(self, claims: list[Claimed]) -> None:
        timeout = self._options.timeout
        self._hold([AsyncDelivery(self._client, claimed, timeout, timeout) for claimed in claims])
        self._begin()

    # ---- running -----------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Begin as many handlers as there is room for.

        With `asyncio.eager_task_factory` a handler runs while its task is created, perhaps to its end, and
        then calls this method again. The inner call returns at once (`_beginning`), and the outer one begins
        the next handler.
        """
        assert self._loop is not None
        if self._beginning:
            return
        self._beginning = True
        try:
            while (
                self._ready and len(self._running) < self._options.concurrency and not self._stopping.is_set()
            ):
                delivery = self._ready.popleft()
                self._running[delivery] = None
                task = self._loop.create_task(self._handle(delivery))
                if delivery in self._running:
                    self._running[delivery] = task
        finally:
            self._beginning = False

    async def _handle(self, delivery: AsyncDelivery) -> None:
        begun = time.monotonic()
        if not self._pass_over(delivery, begun):
            try:
                await self._run(delivery)
            except BaseException as error:
                leave_child(self._generation, error)
                task = asyncio.current_task()
                if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                    self._release(delivery)
                else:
                    note_failure(delivery, error)
            self._pace.record(time.monotonic() - begun)
            self._settle(delivery)
        del self._running[delivery]
        self._begin()
        if not self._running:
            self._idle.set()
        self._wake_poller()

    async def _run(self, delivery: AsyncDelivery) -> None:
        """Run the handler. Raises what it raises, and `TypeError` where nothing was run."""
        work = self._handler(delivery)
        if type(work) is not CoroutineType and not inspect.isawaitable(work):
            refuse_unrun(work)
            raise TypeError("the handler of an AsyncClient must be a coroutine function (async def)")
        returned = await work
        leave_child(self._generation)
        if returned is not None:
            refuse_unrun(returned)

    # ---- keeping -----------------------------------------------------------------------------------

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(tick_seconds(self._options.timeout))
            now = time.monotonic()
            self._release_overdue(now)
            for delivery in due_for_extension(list(self._held.values()), self._options.timeout, now):
                if delivery.nonce not in self._extending and len(self._extending) < EXTENSIONS:
                    self._begin_extension(delivery)

    def _begin_extension(self, delivery: AsyncDelivery) -> None:
        """Extend a claim in a task of its own, so that a request that hangs holds up no other extension."""
        assert self._loop is not None
        task = self._loop.create_task(self._guard(self._client._run(self._extend(delivery))))
        self._extending[delivery.nonce] = task
        task.add_done_callback(lambda _: self._extending.pop(delivery.nonce, None))
