"""The worker of the asynchronous client: handlers as tasks of asyncio.

What `threads` does in threads is done here by tasks of one event loop: one claims, one commits in batches,
one keeps claims, and each delivery is handled in a task of its own. `_held` means the same here as there.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import time
from collections import deque
from collections.abc import Coroutine
from types import CoroutineType
from typing import Any, Final

from ratus.calls import requests
from ratus.calls.async_calls import AsyncCalls
from ratus.calls.async_connections import AsyncInterrupt
from ratus.calls.bounds import is_wait_refused, shorter_wait
from ratus.calls.delivery import AsyncDelivery
from ratus.calls.inputs import DurationLike, Topics
from ratus.calls.retrying import Attempts, Repeat
from ratus.core.errors import BadRequest, Conflict, NotFound, RatusError
from ratus.worker import log
from ratus.worker.commits import (
    BACKLOG,
    Outcome,
    is_fatal,
    note_failure,
    note_given_up,
    outcome_of,
)
from ratus.worker.coroutine_commits import CoroutineCommitter
from ratus.worker.forks import generation, leave_child
from ratus.worker.handlers import check_coroutine_handler, refuse_unrun
from ratus.worker.keeping import (
    EXTENSIONS,
    due_for_extension,
    extension_seconds,
    is_overdue,
    put_off,
    tick_seconds,
)
from ratus.worker.options import DEFAULT_PREFETCH, AsyncHandler, Options
from ratus.worker.pace import BATCH, Pace
from ratus.worker.signals import listen
from ratus.worker.threads import EMPTY_PAUSE, FINISH_SECONDS, INTERRUPT_SECONDS

CANCEL_SECONDS: Final = 1.0
"""How long cancelled handlers may take to clean up."""


class AsyncWorker:
    """Runs a coroutine on the tasks of one topic, or of several by preference; see `Worker`.

    The arguments are those of `Worker`. A handler that is still running after the grace period is cancelled,
    and its task released. Cancelling `run` itself does that at once.
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
        signals: bool = True,
    ) -> None:
        check_coroutine_handler(handler)
        self._options = Options.check(
            topics, concurrency=concurrency, timeout=timeout, wait=wait, grace=grace, prefetch=prefetch
        )
        self._client = client
        self._handler = handler
        self._consumer = client.consumer if consumer is None else consumer
        self._with_signals = signals
        self._pace = Pace(concurrency, prefetch)
        self._batch = BATCH
        self._wait = self._options.wait
        self._ready: deque[AsyncDelivery] = deque()
        self._held: dict[str, AsyncDelivery] = {}
        # The task of each handler; `None` while it is being made, which may run the handler already.
        self._running: dict[AsyncDelivery, asyncio.Task[None] | None] = {}
        self._beginning = False
        self._generation = generation()
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
        """Drain, then have `run` return. Returns at once; from any thread, a handler included."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stopping.set)
        else:
            self._stopping.set()

    async def run(self) -> None:
        """Work until stopped; only once. Raises the server's error when going on is of no use."""
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
            poller.cancel()  # it is still connecting
        while self._ready:
            self._release(self._ready.popleft())
        await self._finish_handlers(until)
        keepers = {keeper, *self._extending.values()}
        for each in keepers:
            each.cancel()
        await asyncio.wait(keepers, timeout=INTERRUPT_SECONDS)
        self._hurried.clear()  # it ended the grace period, if anything
        await self._committer.finish(FINISH_SECONDS, self._hurried)

    def _abort(self, poller: asyncio.Task[None], keeper: asyncio.Task[None]) -> None:
        """Leave everything as it is: `run` was cancelled once more."""
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
            if self._release(delivery):
                log.warning("task %r did not finish in time and is released", delivery.id)
                delivery._lost = True
            if task is not None:
                task.cancel()
                tasks.add(task)
        if tasks:
            await asyncio.wait(tasks, timeout=CANCEL_SECONDS)

    def _release(self, delivery: AsyncDelivery) -> bool:
        """Give a claim back, unless its fate is decided."""
        if self._held.pop(delivery.nonce, None) is None:
            return False
        self._committer.put(Outcome(delivery, delivery._release_item()))
        return True

    def _signals(self) -> contextlib.AbstractContextManager[None]:
        return listen(self._on_signal) if self._with_signals else contextlib.nullcontext()

    def _on_signal(self, name: str) -> None:
        """Called between any two lines of the main thread, whatever it runs."""
        assert self._loop is not None
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._obey)

    def _obey(self) -> None:
        """The first signal drains, each further one ends what is waited for: handlers, then commits."""
        if self._stopping.is_set():
            self._hurried.set()
        self._stopping.set()

    def _give_up(self, error: BaseException) -> None:
        self._error = self._error or error
        self._hurried.set()
        self._stopping.set()

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        """Run what keeps the worker going; should it break, the worker ends instead of standing still."""
        try:
            await work
        except Exception as error:
            self._give_up(error)

    # ---- claiming ----------------------------------------------------------------------------------

    async def _poll(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            want = self._wanted()
            if not want:
                self._demand.clear()
                await self._demand.wait()
                continue
            asked = time.monotonic()
            try:
                deliveries = await self._claim(want)
            except RatusError as error:
                if self._stopping.is_set():
                    return
                if is_wait_refused(error) and self._wait:
                    self._wait = shorter_wait(self._wait)
                    continue
                if isinstance(error, BadRequest) and want > 1:
                    # The server may be configured to hand out fewer at once.
                    self._batch = want // 2
                    continue
                if is_fatal(error) or self._client._closed:
                    self._give_up(error)
                    return
                if failures == 0:
                    log.warning("cannot claim tasks, trying again: %s", error)
                failures += 1
                await self._pause(self._client._backoff.pause(failures))
                continue
            if failures:
                log.info("claiming tasks again")
                failures = 0
            if deliveries:
                self._held.update({delivery.nonce: delivery for delivery in deliveries})
                self._ready.extend(deliveries)
                self._begin()
            elif time.monotonic() - asked < self._wait / 2 or not self._wait:
                await self._pause(EMPTY_PAUSE)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    def _wanted(self) -> int:
        if len(self._committer) >= BACKLOG:
            return 0
        return min(self._pace.wanted(len(self._running), len(self._ready)), self._batch)

    def _wake_poller(self) -> None:
        if not self._demand.is_set() and (self._stopping.is_set() or self._wanted()):
            self._demand.set()

    async def _claim(self, limit: int) -> list[AsyncDelivery]:
        options = self._options
        request = requests.poll(
            options.topics,
            limit=limit,
            consumer=self._consumer,
            timeout=options.timeout,
            deadline=None,
            wait=self._wait or None,
            repeat=Repeat.NEVER,
        )
        claims = await self._client._call(request, interrupt=self._interrupt)
        return [AsyncDelivery(self._client, claim, options.timeout, options.timeout) for claim in claims]

    # ---- running -----------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Begin as many handlers as there is room for.

        A task may run its handler while it is made (`asyncio.eager_task_factory`), even to its end: the
        handler's end then finds this going on and leaves the next one to it.
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
        if delivery._lost or begun >= delivery._expires:
            # This process stood still: another consumer may have the task by now.
            log.warning("task %r in %r is not begun: its claim has lapsed", delivery.id, delivery.topic)
            self._release(delivery)
        else:
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

    def _settle(self, delivery: AsyncDelivery) -> None:
        """Commit what has become of a delivery, unless its fate is decided."""
        if self._held.pop(delivery.nonce, None) is None or delivery._settled:
            return
        if delivery._lost:
            note_given_up(delivery)
        else:
            self._committer.put(outcome_of(delivery))

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
            while self._ready and is_overdue(self._ready[0], now):
                self._pace.stall()
                self._release(self._ready.popleft())
            for delivery in due_for_extension(list(self._held.values()), self._options.timeout, now):
                if delivery.nonce not in self._extending and len(self._extending) < EXTENSIONS:
                    self._begin_extension(delivery)

    def _begin_extension(self, delivery: AsyncDelivery) -> None:
        """Extend a claim in a task of its own: one that hangs holds up no other."""
        assert self._loop is not None
        task = self._loop.create_task(self._guard(self._extend(delivery)))
        self._extending[delivery.nonce] = task
        task.add_done_callback(lambda _: self._extending.pop(delivery.nonce, None))

    async def _extend(self, delivery: AsyncDelivery) -> None:
        client, timeout = self._client, self._options.timeout
        begun = time.monotonic()
        request = delivery._extend_request(timeout, None)
        attempts = Attempts(Repeat.NEVER, 0, client._backoff)
        patience = extension_seconds(delivery, timeout, begun, client._request_seconds)
        try:
            promise = await client._call(request, attempts, patience=patience)
        except (Conflict, NotFound) as error:
            # It may have been committed while this was on its way.
            if delivery.nonce in self._held and not delivery._settled:
                delivery._lost = True
                log.warning("the claim of task %r was lost: %s", delivery.id, error)
        except RatusError as error:
            if client._closed:
                self._give_up(error)
            put_off(delivery, timeout)
            log.warning("the claim of task %r could not be extended: %s", delivery.id, error)
        else:
            delivery._extended(promise, begun, timeout)
