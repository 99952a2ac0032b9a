"""The worker of the synchronous client: handlers in threads.

    the calling thread   waits for an order to stop, then drains
    one thread           claims, with one long poll at a time however many handlers are idle
    `concurrency` threads   run handlers
    one thread           commits in batches (`thread_commits`)
    one thread           has claims extended (`thread_extensions`), gives back those that no handler gets to

`_held` has every claim that is neither committed nor released yet, by nonce. Only the thread that removes a
claim from it commits or releases it, so a handler that returns at the moment it is abandoned is committed or
released, and never both.
"""

from __future__ import annotations

import contextlib
import contextvars
import threading
import time
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Final

from ratus.calls import requests
from ratus.calls.bounds import is_wait_refused, shorter_wait
from ratus.calls.delivery import Delivery
from ratus.calls.inputs import DurationLike, Topics
from ratus.calls.retrying import Attempts, Repeat
from ratus.calls.sync_calls import SyncCalls
from ratus.calls.sync_connections import Interrupt
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
from ratus.worker.forks import generation, leave_child
from ratus.worker.handlers import check_handler, refuse_unrun
from ratus.worker.keeping import (
    due_for_extension,
    extension_seconds,
    is_overdue,
    put_off,
    tick_seconds,
)
from ratus.worker.options import DEFAULT_PREFETCH, Handler, Options
from ratus.worker.pace import BATCH, Pace
from ratus.worker.signals import listen
from ratus.worker.thread_commits import ThreadCommitter
from ratus.worker.thread_extensions import ExtensionThreads

INTERRUPT_SECONDS: Final = 1.0
"""How long the answer to an interrupted poll is waited for; it comes at once, unless the network is slow."""

FINISH_SECONDS: Final = 5.0
"""How long the last commits may take after the grace period."""

EMPTY_PAUSE: Final = 0.5
"""Seconds between polls where the server does not wait, or was not asked to."""

_STOP: Final = "stop"
_IDLE: Final = "idle"
_COMMITTED: Final = "committed"
_HARMLESS: Final = (_STOP, _IDLE, _COMMITTED)


class Worker:
    """Runs a handler on the tasks of one topic, or of several in order of preference, until it is stopped.

    - `concurrency`: how many handlers run at a time, each in a thread.
    - `timeout`: how long a claim holds. It is extended by itself while the handler runs, so this is how soon
      the tasks of a worker that died are run by another.
    - `wait`: how long one poll waits for a task; bounded by the server (60 s by default).
    - `grace`: how long running handlers may take to finish when the worker stops; then their tasks are
      released, and their `Delivery.lost` becomes true.
    - `prefetch`: how many tasks are claimed ahead at most. How many really are follows from how long handlers
      take: about as many as are begun within a tenth of a second.
    - `consumer`: under which name tasks are claimed; by default the client's.
    - `signals`: drain on SIGTERM and Ctrl-C; a second one ends the grace period, another one the wait for
      outcomes that cannot be sent. Only in the main thread.

    A handler that returns commits its delivery, with what it has set. One that raises has failed: the
    exception goes into the task's `error`, and the retry policy decides. The worker lives on either way.
    While the server is away it asks again, less and less often; it comes back by itself.
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
        signals: bool = True,
    ) -> None:
        check_handler(handler)
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
        self._ready: deque[Delivery] = deque()
        self._held: dict[str, Delivery] = {}
        self._busy: list[Delivery | None] = [None] * concurrency
        self._committer = ThreadCommitter(
            client,
            on_progress=self._wake_poller,
            on_fatal=self._give_up,
            on_end=lambda: self._orders.put(_COMMITTED),
        )
        self._extensions = ExtensionThreads(self._extend_guarded)
        # What happened, for the calling thread. A SimpleQueue, since a signal handler may put into it.
        self._orders: SimpleQueue[str | BaseException] = SimpleQueue()
        self._work = threading.Condition()
        self._handlers_end = False
        self._alive = 0
        self._demand = threading.Event()
        self._poller_sleeps = False
        self._low = 0
        self._stopping = threading.Event()
        self._drained = threading.Event()
        self._interrupt = Interrupt()
        self._started = False
        self._generation = generation()

    def stop(self) -> None:
        """Drain, then have `run` return. Returns at once; from any thread, a handler's included."""
        self._orders.put(_STOP)

    def run(self) -> None:
        """Work until stopped; only once. Raises the server's error when going on is of no use."""
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
        self._alive = len(handlers)
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
        # A second signal ends it as well, and so does an error after which nothing can be committed.
        self._wait_while(lambda: self._alive > 0, until, lambda order: order not in _HARMLESS)
        self._abandon()
        self._drained.set()
        self._extensions.end(INTERRUPT_SECONDS)
        keeper.join(INTERRUPT_SECONDS)
        with contextlib.suppress(Empty):
            while True:  # the signals up to here ended the grace period, if anything
                self._orders.get_nowait()
        self._committer.finish()
        until = time.monotonic() + FINISH_SECONDS
        # One more signal ends this as well.
        self._wait_while(
            lambda: self._committer.alive,
            until,
            lambda order: isinstance(order, str) and order not in _HARMLESS,
        )
        self._committer.give_up(INTERRUPT_SECONDS)

    def _wait_while(
        self,
        busy: Callable[[], bool],
        until: float,
        is_end: Callable[[str | BaseException], bool],
    ) -> None:
        """Return when it is no longer busy, at that time, or by an order that is an end."""
        with contextlib.suppress(Empty):
            while busy() and not is_end(self._orders.get(timeout=max(0.0, until - time.monotonic()))):
                pass

    def _end_handlers(self) -> None:
        """Nothing more is begun."""
        with self._work:
            self._handlers_end = True
            self._work.notify_all()
        with contextlib.suppress(IndexError):
            while True:
                self._release(self._ready.popleft())

    def _abandon(self) -> None:
        """Release the claims of handlers that still run; the handler sees it by `Delivery.lost`."""
        for delivery in list(self._held.values()):
            if self._release(delivery):
                log.warning("task %r did not finish in time and is released", delivery.id)
                delivery._lost = True

    def _release(self, delivery: Delivery) -> bool:
        """Give a claim back, unless its fate is decided."""
        if self._held.pop(delivery.nonce, None) is None:
            return False
        self._committer.put(Outcome(delivery, delivery._release_item()))
        return True

    def _signals(self) -> contextlib.AbstractContextManager[None]:
        return listen(self._orders.put) if self._with_signals else contextlib.nullcontext()

    def _give_up(self, error: BaseException) -> None:
        self._orders.put(error)

    def _guard(self, work: Callable[[], None]) -> None:
        """Run what keeps the worker going; should it break, the worker ends instead of standing still."""
        try:
            work()
        except BaseException as error:
            self._give_up(error)

    # ---- claiming ----------------------------------------------------------------------------------

    def _poll(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            want = self._wanted()
            if not want:
                self._sleep_until_demand()
                continue
            asked = time.monotonic()
            try:
                deliveries = self._claim(want)
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
                self._stopping.wait(self._client._backoff.pause(failures))
                continue
            if failures:
                log.info("claiming tasks again")
                failures = 0
            if deliveries:
                self._hand_out(deliveries)
            elif time.monotonic() - asked < self._wait / 2 or not self._wait:
                self._stopping.wait(EMPTY_PAUSE)

    def _wanted(self) -> int:
        if len(self._committer) >= BACKLOG:
            return 0
        running = sum(delivery is not None for delivery in self._busy)
        return min(self._pace.wanted(running, len(self._ready)), self._batch)

    def _sleep_until_demand(self) -> None:
        self._low = self._pace.ahead // 2
        self._demand.clear()
        self._poller_sleeps = True
        # A handler may have finished just before it could see that we sleep.
        if not self._wanted() and not self._stopping.is_set():
            self._demand.wait()
        self._poller_sleeps = False

    def _wake_poller(self) -> None:
        if self._poller_sleeps:
            self._demand.set()

    def _claim(self, limit: int) -> list[Delivery]:
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
        claims = self._client._call(request, interrupt=self._interrupt)
        return [Delivery(self._client, claim, options.timeout, options.timeout) for claim in claims]

    def _hand_out(self, deliveries: list[Delivery]) -> None:
        self._held.update({delivery.nonce: delivery for delivery in deliveries})
        self._ready.extend(deliveries)
        with self._work:
            self._work.notify(len(deliveries))

    # ---- running -----------------------------------------------------------------------------------

    def _handle_all(self, slot: int, context: contextvars.Context) -> None:
        while True:
            try:
                self._serve(slot, context)
                break
            except BaseException as error:
                # What a handler raises is a failure of its task; this came between two lines of the worker,
                # such as an exception that another thread set.
                self._fail_slot(slot, error)
        with self._work:
            self._alive -= 1
            if not self._alive:
                self._orders.put(_IDLE)

    def _serve(self, slot: int, context: contextvars.Context) -> None:
        """Run handlers until no more are to be begun."""
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
            if self._poller_sleeps and len(ready) <= self._low:
                self._demand.set()

    def _handle(self, delivery: Delivery) -> None:
        begun = time.monotonic()
        if delivery._lost or begun >= delivery._expires:
            # This process stood still: another consumer may have the task by now.
            self._pass_over(delivery)
            return
        try:
            returned = self._handler(delivery)
            leave_child(self._generation)
            if returned is not None:
                refuse_unrun(returned)
        except BaseException as error:
            leave_child(self._generation, error)
            # Not even an exit ends the worker: only a signal and `stop` do.
            note_failure(delivery, error)
        self._pace.record(time.monotonic() - begun)
        self._settle(delivery)

    def _pass_over(self, delivery: Delivery) -> None:
        log.warning("task %r in %r is not begun: its claim has lapsed", delivery.id, delivery.topic)
        self._release(delivery)

    def _settle(self, delivery: Delivery) -> None:
        """Commit what has become of a delivery, unless its fate is decided."""
        if self._held.pop(delivery.nonce, None) is None or delivery._settled:
            return
        if delivery._lost:
            note_given_up(delivery)
        else:
            self._committer.put(outcome_of(delivery))

    def _fail_slot(self, slot: int, error: BaseException) -> None:
        delivery, self._busy[slot] = self._busy[slot], None
        if delivery is not None and delivery.nonce in self._held:
            note_failure(delivery, error)
            self._settle(delivery)

    # ---- keeping -----------------------------------------------------------------------------------

    def _keep(self) -> None:
        while not self._drained.wait(tick_seconds(self._options.timeout)):
            now = time.monotonic()
            self._give_back_overdue(now)
            for delivery in due_for_extension(list(self._held.values()), self._options.timeout, now):
                self._extensions.begin(delivery)

    def _give_back_overdue(self, now: float) -> None:
        with contextlib.suppress(IndexError):
            while True:
                delivery = self._ready.popleft()
                if not is_overdue(delivery, now):
                    self._ready.appendleft(delivery)
                    return
                self._pace.stall()
                self._release(delivery)

    def _extend_guarded(self, delivery: Delivery, interrupt: Interrupt) -> None:
        self._guard(lambda: self._extend(delivery, interrupt))

    def _extend(self, delivery: Delivery, interrupt: Interrupt) -> None:
        client, timeout = self._client, self._options.timeout
        begun = time.monotonic()
        request = delivery._extend_request(timeout, None)
        attempts = Attempts(Repeat.NEVER, 0, client._backoff)
        patience = extension_seconds(delivery, timeout, begun, client._request_seconds)
        try:
            promise = client._call(request, attempts, interrupt, patience)
        except (Conflict, NotFound) as error:
            # It may have been committed while this was on its way.
            if delivery.nonce in self._held and not delivery._settled:
                delivery._lost = True
                log.warning("the claim of task %r was lost: %s", delivery.id, error)
        except RatusError as error:
            if self._drained.is_set():
                return
            if client._closed:
                self._give_up(error)
            put_off(delivery, timeout)
            log.warning("the claim of task %r could not be extended: %s", delivery.id, error)
        else:
            delivery._extended(promise, begun, timeout)
