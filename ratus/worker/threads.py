"""The worker of the synchronous client: handlers in threads.

the thread that calls `run`   waits until the worker has to stop, then drains it
one thread                    claims, with one long poll at a time however many handlers are idle
`concurrency` threads         run handlers
one thread                    commits in batches (`thread_commits`)
one thread                    looks after claims: has them extended (`thread_extensions`), and releases those
                              that no handler was begun for in time

To drain is: claim nothing more, let running handlers finish within the grace period, release what is left,
send the last commits. `base` has what this worker shares with the asynchronous one of `coroutines`.
"""

from __future__ import annotations

import contextlib
import contextvars
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from queue import Empty, SimpleQueue
from typing import Final

from ratus.calls.claims import Claimed
from ratus.calls.delivery import Delivery
from ratus.calls.inputs import DurationLike, LabelValue, Order, Topics
from ratus.calls.sync_calls import SyncCalls
from ratus.calls.sync_connections import Interrupt
from ratus.core.errors import RatusError
from ratus.worker.base import FINISH_SECONDS, INTERRUPT_SECONDS, BaseWorker
from ratus.worker.commits import note_failure
from ratus.worker.forks import generation, leave_child
from ratus.worker.handlers import check_handler, refuse_unrun
from ratus.worker.keeping import due_for_extension, tick_seconds
from ratus.worker.options import DEFAULT_PREFETCH, Handler, Options
from ratus.worker.signals import listen
from ratus.worker.thread_commits import ThreadCommitter
from ratus.worker.thread_extensions import ExtensionThreads

# What the calling thread takes from `_orders`, beside names of signals and errors that end the worker: `stop`
# was called; the last handler thread has ended; the committer has ended.
_STOP: Final = "stop"
_IDLE: Final = "idle"
_COMMITTED: Final = "committed"
_CUTS_NO_WAIT: Final = (_STOP, _IDLE, _COMMITTED)
"""Orders that do not end a wait early while the worker stops; a signal or an error does."""


class Worker(BaseWorker[Delivery]):
    """Runs a handler on the tasks of one topic, or of several in order of preference, until it is stopped.

    - `concurrency`: how many handlers run at a time, each in a thread.
    - `timeout`: how long a claim holds. It is extended by itself while the handler runs, so this is how soon
      the tasks of a worker that died are run by another one.
    - `wait`: how long one poll waits for a task; bounded by the server (60 s by default).
    - `grace`: how long running handlers may take to finish when the worker stops; then their tasks are
      released, and their `Delivery.lost` becomes true.
    - `prefetch`: how many tasks are claimed ahead at most. How many really are follows from how long handlers
      take: about as many as are begun within a tenth of a second.
    - `consumer`: the name under which tasks are claimed; by default the client's.
    - `order`, `where`, `prefer`: which tasks are claimed next, as by `Client.poll`.
    - `signals`: drain on SIGTERM and Ctrl-C; a second one ends the grace period, another one the wait for
      outcomes that cannot be sent. Only in the main thread.

    A handler that returns commits its delivery, with what it has set. One that raises has failed: the
    exception goes into the task's `error`, and the retry policy decides. The worker goes on either way.
    While the server is away the worker polls less and less often; it goes on once the server is back.

    Raises `TypeError` or `ValueError` for arguments that do not fit.
    """

    def __init__(
        self,
        client: SyncCalls,
        topics: Topics,
        handler: Handler,
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
        check_handler(handler)
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
        self._client: SyncCalls = client
        self._handler = handler
        self._with_signals = signals
        # What each handler thread is running, by its number.
        self._busy: list[Delivery | None] = [None] * concurrency
        self._committer = ThreadCommitter(
            client,
            on_progress=self._wake_poller,
            on_fatal=self._give_up,
            on_end=lambda: self._orders.put(_COMMITTED),
        )
        self._extensions = ExtensionThreads(self._extend_in_thread)
        # What happened, for the thread that calls `run`. A SimpleQueue, since a signal handler puts into it:
        # that must take no lock which the interrupted code may hold.
        self._orders: SimpleQueue[str | BaseException] = SimpleQueue()
        # Notified when `_ready` has got deliveries, or handlers are to end.
        self._work = threading.Condition()
        self._handlers_end = False
        self._handlers_alive = 0
        # Set when the sleeping poller should look whether to claim more: once `_ready` is down to
        # `_refill_at`.
        self._demand = threading.Event()
        self._poller_sleeps = False
        self._refill_at = 0
        self._stopping = threading.Event()
        self._drained = threading.Event()
        self._interrupt = Interrupt()
        self._started = False

    def stop(self) -> None:
        """Have the worker drain, after which `run` returns.

        Returns at once, and may be called from any thread, a handler's included.
        """
        self._orders.put(_STOP)

    def run(self) -> None:
        """Work until the worker is stopped and has drained.

        Raises `RuntimeError` when called again, and the error that ended the worker: a `RatusError` that the
        server would answer with again and again (such as `Unauthorized`), or a failure within the worker.
        """
        if self._started:
            raise RuntimeError("a worker runs only once; make another one")
        self._started = True
        self._generation = generation()
        context = contextvars.copy_context()
        poller = threading.Thread(target=self._guard, args=(self._poll,), name="ratus-poll", daemon=True)
        keeper = threading.Thread(target=self._guard, args=(self._keep,), name="ratus-keep", daemon=True)
        handlers = [
            threading.Thread(target=self._handle_all, args=(slot, context), name=f"ratus-{slot}", daemon=True)
            for slot in range(self._options.concurrency)
        ]
        self._handlers_alive = len(handlers)
        order: str | BaseException | None = None
        with self._signals():
            self._committer.start()
            for thread in (*handlers, poller, keeper):
                thread.start()
            try:
                order = self._orders.get()
            finally:
                self._drain(poller, keeper, grace=self._options.grace if order else 0.0)
        if isinstance(order, BaseException):
            raise order

    # ---- stopping ----------------------------------------------------------------------------------

    def _drain(self, poller: threading.Thread, keeper: threading.Thread, *, grace: float) -> None:
        until = time.monotonic() + grace
        self._stopping.set()
        self._demand.set()
        self._interrupt.begin()
        poller.join(INTERRUPT_SECONDS)
        if poller.is_alive():
            self._interrupt.cut()
            # A poll that is still connecting is not sent any more; its thread is not waited for.
            poller.join(INTERRUPT_SECONDS)
        self._end_handlers()
        # The grace period. A second signal ends it early, and so does an error after which nothing can be
        # committed.
        self._wait_while(lambda: self._handlers_alive > 0, until, lambda order: order not in _CUTS_NO_WAIT)
        for delivery in list(self._held.values()):
            self._abandon(delivery)
        self._drained.set()
        self._extensions.end(INTERRUPT_SECONDS)
        keeper.join(INTERRUPT_SECONDS)
        with contextlib.suppress(Empty):
            while True:  # drop signals that came up to here: they were for the grace period
                self._orders.get_nowait()
        self._committer.finish()
        until = time.monotonic() + FINISH_SECONDS
        # One more signal ends the wait for the last commits early.
        self._wait_while(
            lambda: self._committer.alive,
            until,
            lambda order: isinstance(order, str) and order not in _CUTS_NO_WAIT,
        )
        self._committer.give_up(INTERRUPT_SECONDS)

    def _wait_while(
        self,
        busy: Callable[[], bool],
        until: float,
        is_end: Callable[[str | BaseException], bool],
    ) -> None:
        """Return when `busy` says false, at the time `until` (monotonic, in seconds), or with the first order
        for which `is_end` says true."""
        with contextlib.suppress(Empty):
            while busy() and not is_end(self._orders.get(timeout=max(0.0, until - time.monotonic()))):
                pass

    def _end_handlers(self) -> None:
        """Have each handler thread end after the delivery that it is running, and release those not begun."""
        with self._work:
            self._handlers_end = True
            self._work.notify_all()
        self._release_ready()

    def _signals(self) -> contextlib.AbstractContextManager[None]:
        return listen(self._orders.put) if self._with_signals else contextlib.nullcontext()

    @property
    def _commits(self) -> ThreadCommitter:
        return self._committer

    def _is_drained(self) -> bool:
        return self._drained.is_set()

    def _give_up(self, error: BaseException) -> None:
        self._orders.put(error)

    def _guard(self, work: Callable[[], None]) -> None:
        """Run the work of a thread that the worker cannot do without. When it fails the worker ends, instead
        of standing still."""
        try:
            work()
        except BaseException as error:
            self._give_up(error)

    # ---- claiming ----------------------------------------------------------------------------------

    def _poll(self) -> None:
        while not self._stopping.is_set():
            limit = self._wanted()
            if not limit:
                self._sleep_until_demand()
                continue
            begun = time.monotonic()
            try:
                claims = self._client._call(self._claiming.request(limit), interrupt=self._interrupt)
            except RatusError as error:
                if self._stopping.is_set():
                    return
                pause = self._claiming.failed(error, limit)
            else:
                pause = self._claiming.succeeded(len(claims), time.monotonic() - begun)
                self._hand_out(claims)
            if pause:
                self._stopping.wait(pause)

    def _wanted(self) -> int:
        return self._missing(sum(delivery is not None for delivery in self._busy))

    def _sleep_until_demand(self) -> None:
        self._refill_at = self._pace.ahead // 2
        self._demand.clear()
        self._poller_sleeps = True
        # A handler that finished before `_poller_sleeps` was set has not set `_demand`.
        if not self._wanted() and not self._stopping.is_set():
            self._demand.wait()
        self._poller_sleeps = False

    def _wake_poller(self) -> None:
        if self._poller_sleeps:
            self._demand.set()

    def _hand_out(self, claims: list[Claimed]) -> None:
        timeout = self._options.timeout
        self._hold([Delivery(self._client, claimed, timeout, timeout) for claimed in claims])
        with self._work:
            self._work.notify(len(claims))

    # ---- running -----------------------------------------------------------------------------------

    def _handle_all(self, slot: int, context: contextvars.Context) -> None:
        while True:
            try:
                self._serve(slot, context)
                break
            except BaseException as error:
                # `_handle` catches what a handler raises. This error was raised outside of it, such as one
                # that another thread set with `PyThreadState_SetAsyncExc`.
                self._fail_slot(slot, error)
        with self._work:
            self._handlers_alive -= 1
            if not self._handlers_alive:
                self._orders.put(_IDLE)

    def _serve(self, slot: int, context: contextvars.Context) -> None:
        """Run the handler on ready deliveries, one after the other, until `_end_handlers` and none is
        ready."""
        busy, ready = self._busy, self._ready
        while True:
            try:
                delivery = ready.popleft()
            except IndexError:
                with self._work:
                    while not ready and not self._handlers_end:
                        self._work.wait()
                    if not ready:
                        return
                continue
            busy[slot] = delivery
            context.copy().run(self._handle, delivery)
            busy[slot] = None
            if self._poller_sleeps and len(ready) <= self._refill_at:
                self._demand.set()

    def _handle(self, delivery: Delivery) -> None:
        begun = time.monotonic()
        if self._pass_over(delivery, begun):
            return
        try:
            returned = self._handler(delivery)
            leave_child(self._generation)
            if returned is not None:
                refuse_unrun(returned)
        except BaseException as error:
            leave_child(self._generation, error)
            # A handler that calls `sys.exit` has failed as well: only a signal and `stop` end the worker.
            note_failure(delivery, error)
        self._pace.record(time.monotonic() - begun)
        self._settle(delivery)

    def _fail_slot(self, slot: int, error: BaseException) -> None:
        delivery, self._busy[slot] = self._busy[slot], None
        if delivery is not None and delivery.nonce in self._held:
            note_failure(delivery, error)
            self._settle(delivery)

    # ---- keeping -----------------------------------------------------------------------------------

    def _keep(self) -> None:
        while not self._drained.wait(tick_seconds(self._options.timeout)):
            now = time.monotonic()
            self._release_overdue(now)
            for delivery in due_for_extension(list(self._held.values()), self._options.timeout, now):
                self._extensions.begin(delivery)

    def _extend_in_thread(self, delivery: Delivery, interrupt: Interrupt) -> None:
        self._guard(lambda: self._client._run(self._extend(delivery), interrupt))
