"""A thread that carries out jobs for the event loop: those that wait, as one group.

The jobs of one turn of the event loop are handed to the thread together, at the end of the turn, and the jobs
of one group are answered together: one wake-up in each direction, however many callers there are.

Whatever fails in the thread, every caller gets an answer, and the thread goes on. After an unforeseen error
it pauses, longer after each that follows, and it logs only one of them in `_LOG_INTERVAL`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

from ratus.core.errors import ServiceUnavailable
from ratus_engines.sqlite.errors import as_answer
from ratus_engines.sqlite.notifications import Notifications

logger = logging.getLogger("ratus.sqlite")

# Tasks that one group may touch, about 20 ms of work. Jobs beyond that wait for the next group, so that a
# small request never waits for all the large ones.
GROUP_WEIGHT = 2_000

# Seconds of pause after an unforeseen error; each one that follows doubles it, up to the longest.
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.01, 0.5

# Seconds between two records of such errors in the log.
_LOG_INTERVAL = 10.0


class Job:
    """A job for the thread, which puts the result, or the exception to be raised, into ``answer``.

    ``weight`` is about how many tasks the job touches. With ``order`` 0, ``work`` is called for this job
    alone; with a larger one, it is called once with the arguments of all jobs of that order. ``undo`` is
    called on the event loop with the result, if the caller was cancelled meanwhile.
    """

    __slots__ = ("answer", "arguments", "future", "order", "undo", "weight", "work")

    def __init__(
        self,
        work: Callable[..., Any],
        arguments: tuple[Any, ...],
        future: asyncio.Future[Any],
        *,
        weight: int = 1,
        order: int = 0,
        undo: Callable[[Any], None] | None = None,
    ) -> None:
        self.work = work
        self.arguments = arguments
        self.future = future
        self.weight = weight
        self.order = order
        self.undo = undo
        self.answer: Any = None


class Worker(ABC):
    """The thread and its queue of jobs. A subclass says how they are done, by its abstract methods."""

    def __init__(self, name: str) -> None:
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)
        self._queue: SimpleQueue[list[Job] | None] = SimpleQueue()
        self._backlog: deque[Job] = deque()  # used by the thread only
        self._taken: list[Job] = []  # used by the thread only
        self._stopping = False  # used by the thread only
        self._undone = False  # whether `undo` was called since this was set to false
        self._turn: list[Job] = []  # jobs submitted in this turn of the event loop
        self._loop: asyncio.AbstractEventLoop
        self._started: asyncio.Future[None]
        self._is_open = False
        self._pause = 0.0  # used by the thread only
        self._logged_at: float | None = None  # used by the thread only
        self._unlogged = 0  # used by the thread only

    # ---- on the event loop -------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the thread and wait for its `begin`. Raises what that raised."""
        self._loop = asyncio.get_running_loop()
        self._started = self._loop.create_future()
        self._thread.start()
        try:
            await self._started
        except asyncio.CancelledError:
            self._queue.put(None)
            raise
        self._is_open = True

    async def stop(self) -> None:
        """Finish the submitted jobs, then end the thread. From now on `submit` raises."""
        if self._is_open:
            self._is_open = False
            await self._finish()
            self._queue.put(None)
            await asyncio.to_thread(self._thread.join)

    async def _finish(self) -> None:
        """Wait until all submitted jobs are answered, and so are those by which they were undone."""
        while True:
            self._undone = False
            last = self._submit(_nothing, ())
            with contextlib.suppress(Exception):
                await last
            if not self._undone:
                return

    def submit(
        self,
        work: Callable[..., Any],
        arguments: tuple[Any, ...],
        *,
        weight: int = 1,
        order: int = 0,
        undo: Callable[[Any], None] | None = None,
    ) -> asyncio.Future[Any]:
        """Submit a `Job`; the future gets its answer. Raises `ServiceUnavailable` unless the thread runs."""
        if not self._is_open:
            raise ServiceUnavailable("the database is not open")
        return self._submit(work, arguments, weight=weight, order=order, undo=undo)

    def undo(self, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        """Submit work that undoes a job. To be called by the ``undo`` of a `Job`, also while stopping."""
        self._undone = True
        self._submit(work, arguments).add_done_callback(_log_undo)

    def _submit(
        self,
        work: Callable[..., Any],
        arguments: tuple[Any, ...],
        *,
        weight: int = 1,
        order: int = 0,
        undo: Callable[[Any], None] | None = None,
    ) -> asyncio.Future[Any]:
        future = self._loop.create_future()
        if not self._turn:
            self._loop.call_soon(self._hand_over)
        self._turn.append(Job(work, arguments, future, weight=weight, order=order, undo=undo))
        return future

    def _hand_over(self) -> None:
        turn, self._turn = self._turn, []
        if turn:
            self._queue.put(turn)

    @abstractmethod
    def notify(self, notifications: Notifications) -> None:
        """Notify the listener and the observer of what a group of jobs did."""

    def _deliver(self, jobs: list[Job], notifications: Notifications) -> None:
        for job in jobs:
            answer, future = job.answer, job.future
            if future.done():  # cancelled
                if job.undo is not None and not isinstance(answer, BaseException):
                    job.undo(answer)
            elif isinstance(answer, StopIteration):  # a future refuses it
                future.set_exception(RuntimeError(f"the thread {self._thread.name} failed: {answer!r}"))
            elif isinstance(answer, BaseException):
                future.set_exception(answer)
            else:
                future.set_result(answer)
        self.notify(notifications)

    # ---- in the thread -----------------------------------------------------------------------------

    @abstractmethod
    def begin(self) -> None:
        """Called once, first. What it raises is raised by `start`, and the thread ends."""

    @abstractmethod
    def work(self) -> None:
        """Called again and again while jobs wait: `take` some, do them, and `answer` them."""

    @abstractmethod
    def end(self) -> None:
        """Called once, last, unless `begin` failed."""

    def waiting(self) -> int:
        """How many jobs wait."""
        self._fetch()
        return len(self._backlog)

    def take(self, most: int | None = None) -> list[Job]:
        """Take waiting jobs, in the order of arrival, and drop those whose callers were cancelled.

        Up to ``most`` jobs, dropped ones included; without ``most``, as many as `GROUP_WEIGHT` allows.
        """
        self._fetch()
        jobs = self._taken = []
        weight = 0
        while self._backlog:
            job = self._backlog[0]
            if (jobs and weight + job.weight > GROUP_WEIGHT) if most is None else most == 0:
                break
            self._backlog.popleft()
            if most is not None:
                most -= 1
            if not job.future.done():
                jobs.append(job)
                weight += job.weight
        return jobs

    def answer(self, jobs: list[Job], notifications: Notifications | None = None) -> None:
        """Pass the jobs' answers to their callers, then call `notify`: both on the event loop."""
        self._taken = []
        if jobs:
            self._call(self._deliver, jobs, notifications or Notifications())

    def _main(self) -> None:
        try:
            self.begin()
        except BaseException as error:
            self._call(_settle, self._started, error)
            return
        self._call(_settle, self._started, None)
        while self._backlog or self._wait():
            try:
                self.work()
                self._pause = 0.0
            except BaseException as error:
                # A defect. Every caller gets the error, and the thread goes on: the next write may succeed.
                self._log(error)
                jobs = self._taken or self.take(self.waiting())
                for job in jobs:
                    job.answer = as_answer(error)
                self.answer(jobs)
                self._pause = min(2 * self._pause or _SHORTEST_PAUSE, _LONGEST_PAUSE)
                time.sleep(self._pause)
        try:
            self.end()
        except Exception:
            logger.exception("the thread %s did not end cleanly", self._thread.name)

    def _log(self, error: BaseException) -> None:
        now = time.monotonic()
        if self._logged_at is not None and now - self._logged_at < _LOG_INTERVAL:
            self._unlogged += 1
            return
        logger.critical(
            "the thread %s failed%s",
            self._thread.name,
            f", and {self._unlogged} more times since this was logged last" if self._unlogged else "",
            exc_info=error,
        )
        self._logged_at, self._unlogged = now, 0

    def _wait(self) -> bool:
        """Wait for jobs. False when the thread has to stop and none is left."""
        if not self._stopping:
            self._accept(self._queue.get())
        self._fetch()
        return bool(self._backlog)

    def _fetch(self) -> None:
        try:
            while True:
                self._accept(self._queue.get_nowait())
        except Empty:
            return

    def _accept(self, turn: list[Job] | None) -> None:
        if turn is None:
            self._stopping = True
        else:
            self._backlog += turn

    def _call(self, function: Callable[..., None], *arguments: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            logger.debug("the event loop is closed; no caller is left to be answered")


def _nothing(*arguments: Any) -> None:
    """The work of a job that marks a place in the queue: it is answered after all jobs before it."""


def _log_undo(future: asyncio.Future[Any]) -> None:
    if not future.cancelled() and future.exception() is not None:
        logger.warning("a claim whose caller was gone stays until its deadline: %s", future.exception())


def _settle(future: asyncio.Future[None], error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
