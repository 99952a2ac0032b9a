"""Tests of programs with an `App`: the real engine with the clock in hand, and tasks run when the test says.

with app.testing() as t:
    job = resize.push(7)
    t.run_all()
    assert job.result() == "/thumbnails/7.png"
    late = resize.options(defer="1h").push(8)
    t.advance("1h")
    t.run_all()
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, ExitStack
from datetime import datetime
from types import TracebackType
from typing import Any, Final, Self

from ratus.app.app import App
from ratus.app.connection import RemoteConnection
from ratus.app.jobs import Job
from ratus.app.pool import ThreadPool
from ratus.app.runner import Runner
from ratus.client import Client, Delivery, DurationLike
from ratus.testing.server import RatusServer

_MOST: Final = 10_000
"""Executions after which `run_all` gives up: tasks that push each other have no end."""

_CLAIM: Final = "24h"
"""How long a claim holds by the server's clock, which a function under test may move."""


class AppTesting:
    """An app on a server of the test's own, while the `with` block runs; made by `App.testing`.

    The server keeps its tasks in memory, and its clock stands still. Functions run when `run_all` or
    `run_next` are called, in the thread of the test, and the lifespans are around the block. `async with` is
    for tests that are coroutines.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self._server = RatusServer()
        self._threads = ThreadPool(1)
        self._runner = Runner(app.functions, app._middleware, threads=self._threads)
        self._loop: asyncio.Runner | None = None
        self._stack = ExitStack()
        self._async_stack = AsyncExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._connect(stack)
            self._loop = stack.enter_context(asyncio.Runner())
            for lifespan in self._app._lifespans:
                if lifespan.is_async:
                    context = lifespan.enter()
                    self._loop.run(context.__aenter__())
                    stack.push(lambda *error, context=context: self._leave(context, error))
                else:
                    stack.enter_context(lifespan.enter())
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            connected = ExitStack()
            stack.enter_context(connected)
            self._connect(connected)
            for lifespan in self._app._lifespans:
                if lifespan.is_async:
                    await stack.enter_async_context(lifespan.enter())
                else:
                    stack.enter_context(lifespan.enter())
            self._async_stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._async_stack.__aexit__(kind, error, trace)

    @property
    def now(self) -> datetime:
        """The time by the server's clock."""
        return self._server.now

    @property
    def client(self) -> Client:
        """A client of the server, to look at what the app has sent."""
        return self._connection.client()

    def advance(self, duration: DurationLike) -> None:
        """Move the clock on. What falls due on the way happens; functions do not run by that."""
        self._server.advance(duration)

    def run_next(self) -> Job[Any] | None:
        """Run the next task that is due, in the order of the server.

        Returns its job, or `None` if no task is due. Raises `RuntimeError` within `async with`.
        """
        if self._loop is None:
            raise RuntimeError("within async with, await arun_next() or arun_all()")
        delivery = self._claim()
        if delivery is None:
            return None
        if self._needs_loop(delivery):
            self._loop.run(self._runner.run_async(delivery))
        else:
            self._runner.run(delivery)
        delivery.commit()
        return self._app.job(delivery.id)

    def run_all(self) -> list[Job[Any]]:
        """Run tasks until none is due, those included that are pushed meanwhile. Returns their jobs in order.

        What a function raises is the failure of its job. Raises `RuntimeError` after 10,000 executions.
        """
        jobs: list[Job[Any]] = []
        while (job := self.run_next()) is not None:
            jobs.append(job)
            _check(jobs)
        return jobs

    async def arun_next(self) -> Job[Any] | None:
        """As `run_next`, on the event loop of the test; plain functions run in a thread."""
        delivery = await asyncio.to_thread(self._claim)
        if delivery is None:
            return None
        await self._runner.run_async(delivery)
        await asyncio.to_thread(delivery.commit)
        return self._app.job(delivery.id)

    async def arun_all(self) -> list[Job[Any]]:
        """As `run_all`, on the event loop of the test."""
        jobs: list[Job[Any]] = []
        while (job := await self.arun_next()) is not None:
            jobs.append(job)
            _check(jobs)
        return jobs

    def _connect(self, stack: ExitStack) -> None:
        self._server.start()
        stack.callback(self._server.stop)
        stack.callback(self._threads.close)
        self._connection = RemoteConnection(self._server.url, "", {}, now=lambda: self._server.now)
        stack.callback(self._connection.close)
        before, self._app._connection = self._app._connection, self._connection
        stack.callback(setattr, self._app, "_connection", before)

    def _leave(self, context: Any, error: tuple[Any, ...]) -> None:
        assert self._loop is not None, "it was entered"
        self._loop.run(context.__aexit__(*error))

    def _claim(self) -> Delivery | None:
        # Tasks may have been pushed into topics that no function names.
        there = {topic.name: None for topic in self.client.iter_topics()}
        topics = list(dict.fromkeys((*self._app.topics, *there)))
        return self.client.poll(topics, timeout=_CLAIM) if topics else None

    def _needs_loop(self, delivery: Delivery) -> bool:
        name = delivery.payload.get("task") if isinstance(delivery.payload, dict) else None
        function = self._app.functions.get(name) if isinstance(name, str) else None
        return (function is not None and function.is_coroutine) or any(
            each.is_async for each in self._app._middleware
        )


def _check(jobs: list[Job[Any]]) -> None:
    if len(jobs) >= _MOST:
        raise RuntimeError(f"after {_MOST:,} executions there still are tasks due: do they push each other?")
