"""Requests that wait, in front of an engine, with a clock that stands still."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any, TypeVar

from ratus_engines.memdb.engine import MemdbEngine

from ratus.core.clock import MINUTE, SECOND
from ratus.core.records import TaskRecord
from ratus.core.selection import Selection, Where
from ratus.engine import Engine, Traits
from ratus.runtime.long_polls import LongPollQueue
from ratus.testing import ManualClock

T = TypeVar("T")


class Peer:
    """The far end of a connection, as the queue watches it."""

    def __init__(self) -> None:
        self.callback: Callable[[], None] | None = None

    def watch(self, callback: Callable[[], None] | None) -> None:
        self.callback = callback

    def go(self) -> None:
        """Hang up, or send the next request behind the one that waits."""
        assert self.callback is not None, "nobody watches"
        self.callback()


class Hall:
    """Long polls in front of an engine, with a clock that stands still."""

    def __init__(self, engine: Engine, clock: ManualClock | None = None) -> None:
        self.engine = engine
        self.clock = clock or ManualClock()
        self.long_polls = LongPollQueue(engine, self.clock)
        self.waits: list[asyncio.Task[Any]] = []

    async def open(self) -> Hall:
        await self.engine.open(self.clock.now())
        return self

    async def settle(self) -> None:
        """Let everything happen that happens without the clock moving on."""
        for _ in range(30):
            await asyncio.sleep(0)

    async def advance(self, microseconds: int) -> None:
        self.clock.advance(microseconds)
        await self.settle()

    async def insert(self, *ids: str, topic: str = "t", later: int = 0, **members: Any) -> None:
        now = self.clock.now()
        tasks = [TaskRecord(name, topic, now, now + later, **members) for name in ids]
        assert all(await self.engine.insert(tasks, now))

    async def claim(self, topic: str = "t", timeout: int = MINUTE) -> TaskRecord:
        """A claim that does not wait."""
        now = self.clock.now()
        (task,) = await self.engine.claim(Selection((topic,), now + timeout), now)
        return copy.copy(task)

    async def state(self, task_id: str) -> int:
        task = await self.engine.get(task_id)
        assert task is not None
        return task.state

    def wait(
        self, *topics: str, wait: int = 10 * SECOND, limit: int = 1, peer: Peer | None = None, **members: Any
    ) -> asyncio.Task[list[str]]:
        """A request that waits; its task gives the ids that it got."""
        selection = Selection(topics or ("t",), **{"limit": limit, "timeout": MINUTE, **members})

        async def ids() -> list[str]:
            tasks = await self.long_polls.wait(
                selection, self.clock.monotonic() + wait, (peer or Peer()).watch
            )
            return [task.id for task in tasks]

        return self._started(ids())

    def wait_settled(
        self, task_id: str, wait: int = 10 * SECOND, peer: Peer | None = None
    ) -> asyncio.Task[int | None]:
        """A request that waits for a task to be done; its task gives the state at the end."""

        async def state() -> int | None:
            task = await self.long_polls.wait_settled(
                task_id, self.clock.monotonic() + wait, (peer or Peer()).watch
            )
            return None if task is None else task.state

        return self._started(state())

    def _started(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self.waits.append(task)
        return task

    async def assert_empty(self) -> None:
        """Nobody waits any more, and nothing is left of those who did."""
        await self.settle()
        assert all(wait.done() for wait in self.waits)
        assert len(self.long_polls) == 0
        assert self.clock.pending() == 0


class Slow(MemdbEngine):
    """Lets others in before and after each step, as an engine does that asks a database."""

    traits = Traits(name="slow", durable=False, shared=False)

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.draw = Random(seed)

    async def _pause(self) -> None:
        for _ in range(self.draw.randrange(4)):
            await asyncio.sleep(0)

    async def claim(self, selection: Selection, now: int) -> list[TaskRecord]:
        await self._pause()
        tasks = [copy.copy(task) for task in await super().claim(selection, now)]
        await self._pause()
        return tasks

    async def next_due(self, topic: str, now: int, where: Where | None = None) -> int | None:
        await self._pause()
        due = await super().next_due(topic, now, where)
        await self._pause()
        return due

    async def release(
        self, task_id: str, now: int, nonce: str | None = None, hold: int | None = None
    ) -> bool:
        await self._pause()
        done = await super().release(task_id, now, nonce, hold)
        await self._pause()
        return done

    async def get(self, task_id: str) -> TaskRecord | None:
        await self._pause()
        task = copy.copy(await super().get(task_id))
        await self._pause()
        return task
