"""Two threads of an app: one makes the calls of event loops and waits for jobs, one calls back.

The first has an event loop with one client, so that coroutines of any loop, and threads, share its
connections: `await job`, `apush` and callbacks need no client of their own, and nothing to be closed. However
many jobs are waited for, at most `WAITS` requests wait for them; the jobs take turns.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Final, TypeAlias, TypeVar

from ratus.calls.steps import SETTLED, Steps, wait_for_task
from ratus.client import AsyncClient
from ratus.core.errors import RatusError, ServiceUnavailable, TransportError
from ratus.core.models import Task

T = TypeVar("T")

Settled: TypeAlias = Callable[[Task | RatusError], None]
"""Takes a task that is completed or archived, or the error with which the server answered."""

WAITS: Final = 32
"""Requests that wait at once; up to half as many jobs are waited for each by a request of its own."""

_LONG_SECONDS: Final = 20.0
"""Seconds that one request waits while there are requests to spare."""

_ROUND_SECONDS: Final = 2.0
"""Seconds in which every job has its turn, while there are not very many."""

_SHORT_SECONDS: Final = 0.5
"""Seconds of the shortest wait: so many requests a second at most, however many jobs there are."""

_AWAY_SECONDS: Final = 1.0
"""Seconds before a server that is away is asked again, beside the pauses of the client."""

_CLOSE_SECONDS: Final = 5.0
"""Seconds that the threads may take to end."""

_logger: Final = logging.getLogger("ratus.app")


class Background:
    """The threads; each is started when it is first needed, and ends with the program or by `close`."""

    def __init__(self, make_client: Callable[[], AsyncClient]) -> None:
        self._client = make_client()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="ratus-jobs", daemon=True)
        self._thread.start()
        self._calls: SimpleQueue[Callable[[], Any] | None] = SimpleQueue()
        self._caller: threading.Thread | None = None
        self._starting = threading.Lock()
        # On the event loop: who waits for which job, in the order of their turns.
        self._watched: dict[str, list[Settled]] = {}
        self._turns: deque[str] = deque()
        self._waiters: set[asyncio.Task[None]] = set()

    def close(self) -> None:
        """End the threads, after the callbacks that are due already; forget the jobs that are waited for."""
        self.let_go()
        for thread in (self._thread, self._caller):
            if thread is not None and thread is not threading.current_thread():
                thread.join(_CLOSE_SECONDS)

    def let_go(self) -> None:
        """As `close`, without waiting for the threads."""
        with suppress(RuntimeError):  # the loop is closed already
            self._loop.call_soon_threadsafe(self._loop.stop)
        self._calls.put(None)

    async def steps(self, make: Callable[[AsyncClient], Steps[T]]) -> T:
        """Carry out an operation of the client, from whatever event loop. Raises what it raises."""
        client = self._client

        async def work() -> T:
            return await client._run(make(client))

        future: Future[T] = asyncio.run_coroutine_threadsafe(work(), self._loop)
        return await asyncio.wrap_future(future)

    # ---- calling back ------------------------------------------------------------------------------

    def call_back(self, function: Callable[[], Any]) -> None:
        """Call a function of the program in the thread for callbacks; what it raises is logged."""
        with self._starting:
            if self._caller is None:
                self._caller = threading.Thread(target=self._call_all, name="ratus-callbacks", daemon=True)
                self._caller.start()
        self._calls.put(function)

    def _call_all(self) -> None:
        while (function := self._calls.get()) is not None:
            try:
                function()
            except BaseException:
                _logger.exception("a callback of a job raised an exception")
            del function  # which keeps its job, and so the app

    # ---- waiting -----------------------------------------------------------------------------------

    def watch(self, task_id: str, settled: Settled) -> Callable[[], None]:
        """See `Connection.watch`."""
        self._loop.call_soon_threadsafe(self._add, task_id, settled)

        def unwatch() -> None:
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._remove, task_id, settled)

        return unwatch

    def _add(self, task_id: str, settled: Settled) -> None:
        if task_id in self._watched:
            self._watched[task_id].append(settled)
            return
        self._watched[task_id] = [settled]
        self._turns.append(task_id)
        if len(self._waiters) < WAITS:
            waiter = self._loop.create_task(self._wait_in_turn())
            self._waiters.add(waiter)
            waiter.add_done_callback(self._waiters.discard)

    def _remove(self, task_id: str, settled: Settled) -> None:
        watching = self._watched.get(task_id, [])
        if settled in watching:
            watching.remove(settled)
        if not watching:
            self._watched.pop(task_id, None)

    async def _wait_in_turn(self) -> None:
        while self._turns:
            task_id = self._turns.popleft()
            if task_id not in self._watched:
                continue
            found = await self._look(task_id)
            if found is None:
                self._turns.append(task_id)
                continue
            for settled in self._watched.pop(task_id, ()):
                try:
                    settled(found)
                except BaseException:
                    _logger.exception("an outcome could not be passed on")

    async def _look(self, task_id: str) -> Task | RatusError | None:
        """The task if it is settled within its turn, or the server's refusal; `None` otherwise."""
        jobs = len(self._watched)
        seconds = _LONG_SECONDS if jobs <= WAITS // 2 else max(_SHORT_SECONDS, _ROUND_SECONDS * WAITS / jobs)
        try:
            task = await self._client._run(wait_for_task(task_id, seconds, self._client._bounds, check=False))
        except (TransportError, ServiceUnavailable):
            await asyncio.sleep(_AWAY_SECONDS)
            return None
        except RatusError as error:
            return error
        return task if task.state in SETTLED else None

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            waiters = list(self._waiters)
            for waiter in waiters:
                waiter.cancel()
            self._loop.run_until_complete(asyncio.gather(*waiters, return_exceptions=True))
            self._loop.run_until_complete(self._client.close())
        finally:
            self._loop.close()
