"""Requests that wait: for a task to claim, or for a task to be done.

`LongPollQueue` keeps the waiting polls of each topic in order of arrival, those with another ``where`` in a
queue of their own, so that no poll stands before one that can use a task which it cannot. It claims for the
first one of a queue when the engine signals that a task of the topic became available, or at the time at
which the next task falls due or a limit opens again (`Engine.next_due`). Unless other servers may change the
data without a signal, the engine is not asked in between: a thousand idle polls cost nothing.

How long a request waits is measured by the monotonic clock: setting the machine's clock makes no wait longer
or shorter. When a task falls due is a matter of the wall clock; `LongPollQueue.clock_stepped` is called when
that clock was set.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Coroutine, Iterable
from contextvars import Context
from functools import partial
from typing import Any, TypeAlias

from ratus.core.clock import SECOND, Clock, Timer
from ratus.core.errors import Closed, RatusError, ServiceUnavailable
from ratus.core.records import ARCHIVED, COMPLETED, TaskRecord
from ratus.core.selection import Selection, Where
from ratus.engine import Engine

logger = logging.getLogger("ratus")

# Microseconds until the next try where a claim came back empty although the engine said that a task was due
# (tasks had expired, or the clock was set).
_PAUSE = SECOND // 20
# Microseconds between two tries where other servers may change the data without a signal.
_SHARED_PAUSE = SECOND // 2
# Queues that are looked at in a row before other tasks of the event loop run.
_QUEUES_AT_ONCE = 64
# Waiters of a queue that are served, or claims that are released, at the same time, at the most.
_WAITERS_AT_ONCE = 64


Key: TypeAlias = tuple[str, Where | None]
"""A queue of waiting polls: their topic, and which of its tasks they can use."""


class _Waiter:
    """A request that waits for a task to claim.

    ``busy``: a claim for it is under way. ``closed``: why its last claim was refused, if that was a limit.
    """

    __slots__ = ("busy", "closed", "future", "keys", "missed", "rank", "selection")

    def __init__(self, selection: Selection) -> None:
        self.selection = selection
        self.keys = [(topic, selection.where) for topic in selection.topics]
        self.rank = {key: rank for rank, key in enumerate(self.keys)}
        self.future: asyncio.Future[list[TaskRecord]] = asyncio.get_running_loop().create_future()
        self.busy = False
        self.missed: set[Key] = set()  # queues to serve after the claim that kept it busy
        self.closed: Closed | None = None

    def end(self) -> None:
        """End the wait without a task."""
        if not self.future.done():
            self.future.set_result([])


class LongPollQueue:
    """The requests that wait, and the claims that are made for them. It is the engine's `Listener`."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._queues: dict[Key, dict[_Waiter, None]] = {}
        self._of_topic: dict[str, dict[Key, None]] = {}  # the queues of each topic, the oldest first
        # Queues for which `_serve` is running; true when tasks became available again meanwhile.
        self._serving: dict[Key, bool] = {}
        self._timers: dict[Key, Timer] = {}
        # Alarms that end a wait before the deadline of its selection, a time of the wall clock.
        self._deadlines: set[_Alarm] = set()
        # By task id, the futures of the requests that wait for the task to be done.
        self._settling: dict[str, set[asyncio.Future[None]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self._follows = False  # whether the engine notifies us of what other servers make available
        # Where the engine answers without waiting, one claim after the other is as quick, and costs less.
        self._at_once = 1 if engine.traits.immediate else _WAITERS_AT_ONCE
        self.polls = 0
        """How many requests wait for a task to claim."""
        self.result_waiters = 0
        """How many requests wait for a task to be done."""
        engine.listener = self

    def __len__(self) -> int:
        """How many requests wait."""
        waiters = {waiter for queue in self._queues.values() for waiter in queue}
        return len(waiters) + sum(map(len, self._settling.values()))

    def is_empty(self, selection: Selection) -> bool:
        """Whether no request waits that such a selection would have to queue behind."""
        queues, where = self._queues, selection.where
        return not queues or not any((topic, where) in queues for topic in selection.topics)

    def close(self) -> None:
        """End all waits with `ServiceUnavailable`; no request can wait any more.

        The engine may still be claiming for a request whose wait has ended: see `join`.
        """
        self._closed = True
        for key in list(self._timers):
            self._cancel_timer(key)
        for queue in list(self._queues.values()):
            for waiter in queue:
                if not waiter.future.done():
                    waiter.future.set_exception(_stopping())
        for futures in list(self._settling.values()):
            for future in futures:
                if not future.done():
                    future.set_exception(_stopping())

    async def join(self) -> None:
        """After `close`: wait until every claim that was under way is answered or given back.

        To be awaited before the engine is closed, or such a claim stays active until its deadline.
        """
        while self._tasks:
            await asyncio.wait(self._tasks)

    def clock_stepped(self) -> None:
        """The wall clock was set: end the waits whose deadline has come, and look again at the queues that
        have a timer, so that each gets a new one."""
        for alarm in list(self._deadlines):
            alarm.look()
        if self._timers:
            self._start(self._look_at_all(list(self._timers)))

    async def _look_at_all(self, keys: list[Key]) -> None:
        for count, key in enumerate(keys, 1):
            self._wake(key)
            if count % _QUEUES_AT_ONCE == 0:
                await asyncio.sleep(0)

    # ---- notifications from the engine -------------------------------------------------------------

    def available(self, topic: str, task: TaskRecord | None = None) -> None:
        """A claim in the topic may succeed now (`Listener.available`): try it for the requests that wait and
        that can use the task."""
        if topic in self._of_topic:
            for key in self._of_topic[topic]:
                if task is None or key[1] is None or key[1].matches(task):
                    self._wake(key)

    def settled(self, task_id: str) -> None:
        """A task was completed, archived or deleted: wake the requests that wait for it."""
        for future in self._settling.get(task_id, ()):
            if not future.done():
                future.set_result(None)

    def missed(self) -> None:
        """Other servers may have changed anything without a signal: look again at every task and topic that
        requests wait for."""
        for futures in list(self._settling.values()):
            for future in futures:
                _finish(future)
        for key in list(self._queues):
            self._wake(key)

    # ---- waiting for a task to claim ---------------------------------------------------------------

    async def wait(
        self, selection: Selection, until: int, watch: Callable[[Callable[[], None] | None], None]
    ) -> list[TaskRecord]:
        """Claim as soon as something is due. Empty when the time is over, or ``watch`` has called back.

        ``until`` is a time of the monotonic clock, in microseconds (`Clock.monotonic`). If the selection has
        a deadline, which is a time of the wall clock, the wait ends before it, too: a claim must not lapse
        before it is made. ``watch`` is the `Connection.watch` of the request: it calls back when the client
        has disconnected or pipelined another request. Raises `Closed` where the wait ended without a task and
        a limit is why, `ServiceUnavailable` when the server stops, and a `RatusError` that the claim raises.
        """
        if self._closed:
            raise _stopping()
        waiter = _Waiter(selection)
        if not self._queues:
            self._follows = self._engine.watch(True)
        first = []
        for key in waiter.keys:
            queue = self._queues.get(key)
            if queue is None:
                queue = self._queues[key] = {}
                self._of_topic.setdefault(key[0], {})[key] = None
                first.append(key)
            queue[waiter] = None
        self._start(self._receive(waiter, first))
        clock = self._clock
        alarm = _Alarm(clock.monotonic, clock.call_at_monotonic, until, waiter.end)
        deadline = None
        if selection.deadline is not None:
            deadline = _Alarm(clock.now, clock.call_at, selection.deadline - 1, waiter.end)
            self._deadlines.add(deadline)
        watch(waiter.end)
        self.polls += 1
        try:
            tasks = await waiter.future
            if not tasks and waiter.closed is not None and waiter.closed.reopens > clock.now():
                raise waiter.closed
            return tasks
        except asyncio.CancelledError:
            if waiter.future.done() and not waiter.future.cancelled() and not waiter.future.exception():
                await self.give_back(waiter.future.result())
            raise
        finally:
            self.polls -= 1
            watch(None)
            alarm.cancel()
            if deadline is not None:
                deadline.cancel()
                self._deadlines.discard(deadline)
            self._leave(waiter)

    async def give_back(self, tasks: Iterable[TaskRecord]) -> None:
        """Release claims that never reached their consumer. A task that was claimed again is left alone.

        Each claim is released by itself, so a failure does not keep the others from being released. Those
        that fail are tried once more at the end. If that fails, too, it is logged, and they lapse at their
        deadline.
        """
        claims = [(task.id, task.nonce) for task in tasks]
        for last in (False, True):
            failed = []
            for start in range(0, len(claims), self._at_once):
                some = claims[start : start + self._at_once]
                errors = await asyncio.gather(*map(self._release, some))
                failed += [claim for claim, error in zip(some, errors, strict=True) if error is not None]
                if last and (error := next(filter(None, errors), None)) is not None:
                    logger.warning("claims that no consumer got could not be released: %s", error)
            if not failed:
                return
            claims = failed

    async def _release(self, claim: tuple[str, str]) -> Exception | None:
        """Release the claim of a task under a nonce; return the error if that fails."""
        task_id, nonce = claim
        try:
            await self._engine.release(task_id, self._clock.now(), nonce)
        except Exception as error:
            return error
        return None

    def _leave(self, waiter: _Waiter) -> None:
        for key in waiter.keys:
            queue = self._queues.get(key)
            if queue is not None:
                queue.pop(waiter, None)
                if not queue:
                    self._remove(key)

    def _remove(self, key: Key) -> None:
        """Remove a queue in which nothing waits any more."""
        del self._queues[key]
        self._cancel_timer(key)
        keys = self._of_topic[key[0]]
        del keys[key]
        if not keys:
            del self._of_topic[key[0]]
            if not self._queues:
                self._engine.watch(False)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        # The work is for all requests that wait, so it must not inherit the context variables of one of them.
        task = asyncio.get_running_loop().create_task(work, context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _receive(self, waiter: _Waiter, keys: list[Key]) -> None:
        """Claim once for a request that has just arrived, in the queues where no other request waits; then
        set the timers of these queues."""
        looked = self._clock.now()
        try:
            done = bool(keys) and await self._claim_for(waiter, keys)
            for count, key in enumerate(keys, 1):
                if done:
                    self._wake(key)  # for requests that arrived behind this one and have not tried yet
                elif key not in self._serving and key not in self._timers:
                    await self._look_again(key, looked)
                if count % _QUEUES_AT_ONCE == 0:
                    await asyncio.sleep(0)
        except Exception:
            logger.exception("looking for tasks for a request that waits failed; trying again")
            for key in keys:
                self._arm_after(key, SECOND)

    def _wake(self, key: Key) -> None:
        """Serve a queue, if requests wait in it."""
        if key not in self._queues or self._closed:
            return
        if key in self._serving:
            self._serving[key] = True
        else:
            self._serving[key] = False
            self._start(self._serve(key))

    async def _serve(self, key: Key) -> None:
        """Claim for the waiters of a queue in their order, until nothing is due.

        Mostly a single task has come, and only the first waiter is served. As long as claims succeed, each
        step serves twice as many waiters at the same time as the one before (`_at_once` at the most): an
        engine that asks a database takes little longer for many claims than for one.
        """
        found = 0
        try:
            while key in self._queues:
                self._serving[key] = False
                looked = self._clock.now()
                if await self._serve_first(key, max(1, found)):
                    found = min(2 * found or 1, self._at_once)
                    continue
                found = 0
                if not self._serving[key] and not await self._look_again(key, looked):
                    break
        except Exception:
            # Without another try the waiters would wait until their time is over.
            logger.exception("serving the requests that wait for tasks failed; trying again")
            self._arm_after(key, SECOND)
        finally:
            if self._serving.pop(key):
                self._wake(key)

    async def _look_again(self, key: Key, looked: int) -> bool:
        """Set the timer for when the next task falls due.

        True, without a timer, if a task fell due since the time ``looked``: the queue is to be served again.
        """
        due, pause = await self._next_due(key)
        now = self._clock.now()
        if key not in self._queues or self._closed:
            return False
        if due is not None and looked < due <= now:
            self._wake(key)
            return True
        if due is not None and due <= now:
            due, pause = None, _PAUSE
        if due is not None and (pause is None or due - now < pause):
            self._arm(key, due)
        elif pause is not None:
            self._arm_after(key, pause)
        return False

    async def _serve_first(self, key: Key, count: int) -> bool:
        """Claim for the first ``count`` waiters of a queue; whether all of them are done with, so that it is
        worth going on."""
        first = list(itertools.islice(self._queues.get(key, ()), count))
        if first and first[0].busy:
            # Another topic of this waiter is being served. No other waiter may overtake it meanwhile.
            first[0].missed.add(key)
            return False
        claims = [
            self._claim_for(waiter, self._keys_of(waiter, key))
            for waiter in itertools.takewhile(lambda waiter: not waiter.busy, first)
        ]
        if len(claims) > 1:
            return all(await asyncio.gather(*claims))
        return await claims[0] if claims else False

    def _keys_of(self, waiter: _Waiter, key: Key) -> list[Key]:
        """Where to claim for a waiter when a queue is served, in the waiter's order of preference: in that
        one, and in others that are being served at the same time and in which the waiter is the first."""
        keys = [
            other
            for other in self._serving
            if other in waiter.rank and (other == key or self._first(other) is waiter)
        ]
        return sorted(keys, key=waiter.rank.__getitem__)

    def _first(self, key: Key) -> _Waiter | None:
        return next(iter(self._queues.get(key, ())), None)

    def _claim_for(self, waiter: _Waiter, keys: Iterable[Key]) -> Coroutine[Any, Any, bool]:
        """Mark the waiter as busy, and return the claim to be awaited: in the topics of these queues. Its
        result is whether the waiter is done with."""
        waiter.busy = True
        return self._claim(waiter, tuple(topic for topic, _ in keys))

    async def _claim(self, waiter: _Waiter, topics: tuple[str, ...]) -> bool:
        now = self._clock.now()
        if waiter.selection.deadline is not None and waiter.selection.deadline <= now:
            waiter.end()  # the clock was set: the claim would have lapsed before it is made
        waiter.closed = None  # what closed an earlier claim may be over, or of another topic
        try:
            tasks = (
                [] if waiter.future.done() else await self._engine.claim(waiter.selection.among(topics), now)
            )
        except Closed as error:
            tasks, waiter.closed = [], error
        except RatusError as error:
            if not waiter.future.done():
                waiter.future.set_exception(error)
            self._leave(waiter)
            return True
        finally:
            waiter.busy = False
            missed, waiter.missed = waiter.missed, set()
            for key in missed:
                self._wake(key)
        if tasks or waiter.future.done():
            self._leave(waiter)
        if waiter.future.done():  # the wait ended while the engine was at work
            await self.give_back(tasks)
            return True
        if tasks:
            waiter.future.set_result(tasks)
        return bool(tasks)

    async def _next_due(self, key: Key) -> tuple[int | None, int | None]:
        """When to look again if no notification comes first: at a time of the wall clock, and after a pause
        in microseconds, whichever comes first. Either may be ``None``."""
        try:
            due = await self._engine.next_due(key[0], self._clock.now(), key[1])
        except ServiceUnavailable:
            return None, SECOND
        return due, _SHARED_PAUSE if self._engine.traits.shared and not self._follows else None

    def _arm(self, key: Key, when: int) -> None:
        """Look again at a time of the wall clock."""
        self._cancel_timer(key)
        self._timers[key] = self._clock.call_at(when, partial(self._ring, key))

    def _arm_after(self, key: Key, pause: int) -> None:
        """Look again after a pause in microseconds, even if the wall clock is set meanwhile."""
        self._cancel_timer(key)
        if not self._closed:
            when = self._clock.monotonic() + pause
            self._timers[key] = self._clock.call_at_monotonic(when, partial(self._ring, key))

    def _ring(self, key: Key) -> None:
        self._timers.pop(key, None)
        self._wake(key)

    def _cancel_timer(self, key: Key) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()

    # ---- waiting for a task to be done -------------------------------------------------------------

    async def wait_settled(
        self, task_id: str, until: int, watch: Callable[[Callable[[], None] | None], None]
    ) -> TaskRecord | None:
        """The task once it is completed or archived, or as it is when the time is over.

        ``until`` and ``watch`` are as in `wait`. ``None`` when there is no such task (any more). Raises
        `ServiceUnavailable` when the server stops.
        """
        over = False

        def end() -> None:
            nonlocal over
            over = True
            if not future.done():
                future.set_result(None)

        looked = False
        future = self._expect(task_id)
        clock = self._clock
        alarm = _Alarm(clock.monotonic, clock.call_at_monotonic, until, end)
        timer: Timer | None = None
        watch(end)
        self.result_waiters += 1
        try:
            while True:
                if self._closed:
                    raise _stopping()
                task = await self._engine.get(task_id)
                if task is None or task.state in (COMPLETED, ARCHIVED) or over:
                    return task
                # Without notifications the task is read again after a pause. So is a task that is not done
                # although a notification came: it was read from a copy of the data that lags behind.
                if self._engine.traits.shared and (looked or not self._engine.follows()):
                    if timer is not None:
                        timer.cancel()
                    when = clock.monotonic() + _SHARED_PAUSE
                    timer = clock.call_at_monotonic(when, partial(_finish, future))
                looked = True
                await future
                self._forget(task_id, future)
                future = self._expect(task_id)
        finally:
            self.result_waiters -= 1
            watch(None)
            alarm.cancel()
            if timer is not None:
                timer.cancel()
            self._forget(task_id, future)

    def _expect(self, task_id: str) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._settling.setdefault(task_id, set()).add(future)
        return future

    def _forget(self, task_id: str, future: asyncio.Future[None]) -> None:
        futures = self._settling.get(task_id)
        if futures is not None:
            futures.discard(future)
            if not futures:
                del self._settling[task_id]


class _Alarm:
    """Calls ``callback`` once, when the clock that ``read`` reads has reached ``when``.

    ``call_at`` sets a timer by that clock. A timer may come early: then the alarm sets another one.
    """

    __slots__ = ("_call_at", "_callback", "_read", "_timer", "_when")

    def __init__(
        self,
        read: Callable[[], int],
        call_at: Callable[[int, Callable[[], None]], Timer],
        when: int,
        callback: Callable[[], None],
    ) -> None:
        self._read, self._call_at, self._when, self._callback = read, call_at, when, callback
        self._timer = call_at(when, self._ring)

    def _ring(self) -> None:
        if self._read() < self._when:
            self._timer = self._call_at(self._when, self._ring)
        else:
            self._callback()

    def look(self) -> None:
        """The clock may have been set: call back if the time has come, else set a new timer."""
        self._timer.cancel()
        self._ring()

    def cancel(self) -> None:
        self._timer.cancel()


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _stopping() -> ServiceUnavailable:
    return ServiceUnavailable("the server is stopping; ask again")
