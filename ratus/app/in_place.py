"""`App(eager=True)`: a push runs the function in place, and the job is done when it returns."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from ratus.app.background import Settled
from ratus.app.connection import Connection
from ratus.app.functions import TaskFunction
from ratus.app.pool import ThreadPool
from ratus.app.runner import Runner
from ratus.app.surrounding import Surrounding
from ratus.calls.claims import Claimed
from ratus.calls.delivery import BaseDelivery
from ratus.calls.inputs import DurationLike
from ratus.core.errors import NotFound
from ratus.core.models import Task, TaskState

_KEPT: Final = 10_000
"""Tasks whose outcome is kept, the latest."""

_FOR_THE_SERVER: Final = ("defer", "ttl")
"""Members that say when a task is run, which here is at once."""

_logger: Final = logging.getLogger("ratus.app")


class InPlaceConnection(Connection):
    """Runs each task where it is inserted, as often as its `retry` allows, without the delays.

    Arguments and results make the trip through JSON. A task without `max_attempts` is run once.
    """

    def __init__(
        self,
        functions: Mapping[str, TaskFunction[..., Any, Any]],
        middleware: Sequence[Surrounding],
        lifespans: Sequence[Surrounding],
    ) -> None:
        self._functions = functions
        self._middleware = middleware
        self._lifespans = lifespans
        self._stack: ExitStack | None = None
        self._tasks: dict[str, Task] = {}

    def insert(self, items: Iterable[bytes]) -> None:
        for members in self._new(items):
            self._keep(self._run(members))

    async def insert_async(self, items: Iterable[bytes]) -> None:
        threads = ThreadPool(1)
        try:
            for members in self._new(items):
                runner = Runner(self._functions, self._middleware, threads=threads)
                while True:
                    delivery = _claim(members)
                    await runner.run_async(delivery)
                    if (task := _settled(members, delivery)) is not None:
                        break
                self._keep(task)
        finally:
            threads.close()

    def get(self, task_id: str) -> Task:
        try:
            return self._tasks[task_id]
        except KeyError:
            raise NotFound("this app runs its tasks in place, and has run none with this id") from None

    async def get_async(self, task_id: str) -> Task:
        return self.get(task_id)

    def wait(self, task_id: str, timeout: DurationLike | None) -> Task:
        return self.get(task_id)

    def watch(self, task_id: str, settled: Settled) -> Callable[[], None]:
        try:
            settled(self.get(task_id))
        except NotFound as error:
            settled(error)
        return lambda: None

    def cancel(self, task_id: str) -> bool:
        self.get(task_id)
        return False

    async def cancel_async(self, task_id: str) -> bool:
        return self.cancel(task_id)

    def call_back(self, function: Callable[[], Any]) -> None:
        try:
            function()
        except Exception:
            _logger.exception("a callback of a job raised an exception")

    def now(self) -> datetime:
        return datetime.now(UTC)

    def close(self) -> None:
        stack, self._stack = self._stack, None
        if stack is not None:
            stack.close()

    def let_go(self) -> None:
        self.close()

    def _new(self, items: Iterable[bytes]) -> Iterable[dict[str, Any]]:
        """The tasks whose ids do not exist yet, as plain values."""
        if self._stack is None:
            self._stack = ExitStack()
            for lifespan in self._lifespans:
                if not lifespan.is_async:
                    self._stack.enter_context(lifespan.enter())
        for item in items:
            members = json.loads(item)
            if members["_id"] not in self._tasks:
                yield {name: value for name, value in members.items() if name not in _FOR_THE_SERVER}

    def _run(self, members: dict[str, Any]) -> Task:
        function = self._functions.get(members["payload"]["task"])
        needs_loop = (function is not None and function.is_coroutine) or any(
            each.is_async for each in self._middleware
        )
        while True:
            delivery = _claim(members)
            if needs_loop:
                _on_a_loop(lambda: self._run_async(delivery))  # noqa: B023 - called before the next one is made
            else:
                Runner(self._functions, self._middleware).run(delivery)
            if (task := _settled(members, delivery)) is not None:
                return task

    async def _run_async(self, delivery: BaseDelivery) -> None:
        threads = ThreadPool(1)
        try:
            await Runner(self._functions, self._middleware, threads=threads).run_async(delivery)
        finally:
            threads.close()

    def _keep(self, task: Task) -> None:
        self._tasks[task.id] = task
        if len(self._tasks) > _KEPT:
            self._tasks.pop(next(iter(self._tasks)), None)


def _on_a_loop(make: Callable[[], Any]) -> None:
    """Run a coroutine to its end, also where an event loop runs already: then in a thread, while it waits."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(make())
        return
    thread = threading.Thread(target=lambda: asyncio.run(make()), name="ratus-in-place")
    thread.start()
    thread.join()


def _claim(members: dict[str, Any]) -> BaseDelivery:
    members["attempts"] = members.get("attempts", 0) + 1
    claimed = Claimed(
        id=members["_id"],
        topic=members["topic"],
        state=int(TaskState.ACTIVE),
        attempts=members["attempts"],
        payload=msgspec.Raw(msgspec.json.encode(members["payload"])),
    )
    return BaseDelivery(claimed, math.inf, None)


def _settled(members: dict[str, Any], delivery: BaseDelivery) -> Task | None:
    """The task after an attempt; `None` if there is to be another one."""
    changes: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(delivery._changes or {}))
    state = changes.get("state")
    if state is None and "error" not in changes:
        return Task.model_validate(members | changes | {"state": int(TaskState.COMPLETED)})
    if state != TaskState.ARCHIVED:
        if members["attempts"] < (members.get("retry") or {}).get("max_attempts", 1):
            return None
        changes |= {"outcome": "failed", "error": changes.get("error", "it asked to be run again")}
    changes.pop("defer", None)
    return Task.model_validate(members | changes | {"state": int(TaskState.ARCHIVED)})
