"""The worker of the asynchronous client: handlers as tasks of asyncio.

What `threads` does in threads is done here by tasks of one event loop: one claims, one commits in batches,
one keeps claims, and each delivery is handled in a task of its own. `_held` means the same here as there.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import signal
import threading
import time
from collections import deque
from collections.abc import Awaitable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, Final

from ratus.client import requests
from ratus.client.async_transport import AsyncInterrupt
from ratus.client.delivery import AsyncDelivery
from ratus.client.inputs import DurationLike, Topics
from ratus.client.retrying import Attempts, Repeat
from ratus.client.worker import log
from ratus.client.worker.commits import BACKLOG, Outcome, is_hopeless, note_failure, outcome_of
from ratus.client.worker.coroutine_commits import CoroutineCommitter
from ratus.client.worker.handlers import check_coroutine_handler, refuse_unrun
from ratus.client.worker.keeping import due_for_extension, is_overdue, put_off, tick_seconds
from ratus.client.worker.options import DEFAULT_PREFETCH, AsyncHandler, Options
from ratus.client.worker.pace import BATCH, Pace
from ratus.client.worker.threads import EMPTY_PAUSE, FINISH_SECONDS, INTERRUPT_SECONDS
from ratus.errors import BadRequest, Conflict, NotFound, RatusError

if TYPE_CHECKING:
    from ratus.client.async_client import AsyncClient

EXTENSIONS: Final = 16
"""Claims that are extended at once."""

CANCEL_SECONDS: Final = 1.0
"""How long cancelled handlers may take to clean up."""

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class AsyncWorker:
    """Runs a coroutine on the tasks of one topic, or of several by preference; see `Worker`.

    The arguments are those of `Worker`. A handler that is still running after the grace period is cancelled,
    and its task released. Cancelling `run` itself does that at once.
    """

    def __init__(
        self,
        client: AsyncClient,
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
        self._ready: deque[AsyncDelivery] = deque()
        self._held: dict[str, AsyncDelivery] = {}
        self._running: dict[asyncio.Task[None], AsyncDelivery] = {}
        self._committer = CoroutineCommitter(client, on_progress=self._wake_poller, on_hopeless=self._give_up)
        self._hungry = asyncio.Event()
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
        with self._signals():
            self._committer.start()
            poller = asyncio.create_task(self._guard(self._poll()), name="ratus-poll")
            keeper = asyncio.create_task(self._guard(self._keep()), name="ratus-keep")
            grace = 0.0
            try:
                await self._stopping.wait()
                grace = self._options.grace
            finally:
                await self._drain(poller, keeper, grace)
        if self._error is not None:
            raise self._error

    # ---- stopping ----------------------------------------------------------------------------------

    async def _drain(self, poller: asyncio.Task[None], keeper: asyncio.Task[None], grace: float) -> None:
        until = time.monotonic() + grace
        self._stopping.set()
        self._hungry.set()
        self._interrupt.begin()
        await asyncio.wait({poller}, timeout=INTERRUPT_SECONDS)
        self._interrupt.cut()
        await poller
        while self._ready:
            self._release(self._ready.popleft())
        await self._finish_handlers(until)
        keeper.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeper
        await self._committer.finish(FINISH_SECONDS)

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
        for task, delivery in list(self._running.items()):
            if self._release(delivery):
                log.warning("task %r did not finish in time and is released", delivery.id)
                delivery._lost = True
            task.cancel()
        if self._running:
            await asyncio.wait(set(self._running), timeout=CANCEL_SECONDS)

    def _release(self, delivery: AsyncDelivery) -> bool:
        """Give a claim back, unless its fate is decided."""
        if self._held.pop(delivery.nonce, None) is None:
            return False
        self._committer.put(Outcome(delivery, delivery._release_item()))
        return True

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        if not self._with_signals or threading.current_thread() is not threading.main_thread():
            yield
            return
        assert self._loop is not None
        before = {number: signal.getsignal(number) for number in _SIGNALS}
        for number in _SIGNALS:
            self._loop.add_signal_handler(number, self._on_signal)
        try:
            yield
        finally:
            for number, handler in before.items():
                self._loop.remove_signal_handler(number)
                signal.signal(number, handler)

    def _on_signal(self) -> None:
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
                self._hungry.clear()
                await self._hungry.wait()
                continue
            asked = time.monotonic()
            try:
                deliveries = await self._claim(want)
            except RatusError as error:
                if self._stopping.is_set():
                    return
                if isinstance(error, BadRequest) and want > 1:
                    # The server may have been told to hand out fewer at once.
                    self._batch = want // 2
                    continue
                if is_hopeless(error):
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
            elif time.monotonic() - asked < self._options.wait / 2 or not self._options.wait:
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
        if not self._hungry.is_set() and (self._stopping.is_set() or self._wanted()):
            self._hungry.set()

    async def _claim(self, limit: int) -> list[AsyncDelivery]:
        options = self._options
        request = requests.poll(
            options.topics,
            limit=limit,
            consumer=self._consumer,
            timeout=options.timeout,
            deadline=None,
            wait=options.wait or None,
            repeat=Repeat.NEVER,
        )
        claims = await self._client._call(request, interrupt=self._interrupt)
        return [AsyncDelivery(self._client, claim, options.timeout, options.timeout) for claim in claims]

    # ---- running -----------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Begin as many handlers as there is room for."""
        assert self._loop is not None
        while self._ready and len(self._running) < self._options.concurrency and not self._stopping.is_set():
            delivery = self._ready.popleft()
            self._running[self._loop.create_task(self._handle(delivery))] = delivery

    async def _handle(self, delivery: AsyncDelivery) -> None:
        task = asyncio.current_task()
        assert task is not None
        begun = time.perf_counter()
        try:
            await self._run(delivery)
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and task.cancelling():
                self._release(delivery)
            else:
                note_failure(delivery, error)
        self._pace.record(time.perf_counter() - begun)
        if self._held.pop(delivery.nonce, None) is not None and not delivery._settled and not delivery._lost:
            self._committer.put(outcome_of(delivery))
        del self._running[task]
        self._begin()
        if not self._running:
            self._idle.set()
        self._wake_poller()

    async def _run(self, delivery: AsyncDelivery) -> None:
        """Run the handler. Raises what it raises, and `TypeError` where nothing was run."""
        work = self._handler(delivery)
        if not isinstance(work, Awaitable) and not inspect.isawaitable(work):
            refuse_unrun(work)
            raise TypeError("the handler of an AsyncClient must be a coroutine function (async def)")
        returned = await work
        if returned is not None:
            refuse_unrun(returned)

    # ---- keeping -----------------------------------------------------------------------------------

    async def _keep(self) -> None:
        slots = asyncio.Semaphore(EXTENSIONS)
        while True:
            await asyncio.sleep(tick_seconds(self._options.timeout))
            now = time.monotonic()
            while self._ready and is_overdue(self._ready[0], now):
                self._pace.stall()
                self._release(self._ready.popleft())
            due = due_for_extension(self._held.values(), self._options.timeout, now)
            await asyncio.gather(*(self._extend(delivery, slots) for delivery in due))

    async def _extend(self, delivery: AsyncDelivery, slots: asyncio.Semaphore) -> None:
        async with slots:
            if delivery.nonce not in self._held:
                return
            request = delivery._extend_request(self._options.timeout, None)
            try:
                promise = await self._client._call(request, Attempts(Repeat.NEVER, 0, self._client._backoff))
            except (Conflict, NotFound) as error:
                # It may have been committed while this was on its way.
                if delivery.nonce in self._held and not delivery._settled:
                    delivery._lost = True
                    log.warning("the claim of task %r was lost: %s", delivery.id, error)
            except RatusError as error:
                put_off(delivery, self._options.timeout)
                log.warning("the claim of task %r could not be extended: %s", delivery.id, error)
            else:
                delivery._extended(promise)
