"""Jobs: what a push returns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextlib import suppress
from datetime import datetime
from typing import Any, Generic, Literal, Protocol, TypeAlias, TypeVar

from ratus.app.connection import Connection, is_cancelled
from ratus.calls.inputs import DurationLike
from ratus.calls.steps import SETTLED
from ratus.core.errors import JobCancelled, JobExpired, JobFailed, RatusError, TaskFailed
from ratus.core.models import Task, TaskState

R = TypeVar("R")

JobStatus: TypeAlias = Literal[
    "scheduled", "pending", "retrying", "active", "completed", "failed", "expired", "cancelled"
]
"""How a job is: not due yet, waiting for a worker, waiting for another attempt, being executed; or done."""


class Home(Protocol):
    """What jobs and functions need of their app."""

    _connection: Connection

    def _load_result(self, task: Task) -> Any:
        """The result of a completed task, as the hint of its function has it."""


class Job(Generic[R]):
    """A call that was pushed: its id, how it is, and what comes of it.

    `await job` is the result, as `job.result()` returns it to a thread.
    """

    __slots__ = ("_app", "_settled", "id")

    def __init__(self, app: Home, task_id: str) -> None:
        self._app = app
        self._settled: Task | RatusError | None = None
        self.id = task_id
        """The id of the task."""

    def __repr__(self) -> str:
        return f"<Job {self.id!r}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Job) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    @property
    def task(self) -> Task:
        """The task as it is now. Raises `NotFound` when there is none: it was deleted, or purged."""
        if isinstance(self._settled, Task):
            return self._settled
        return self._noted(self._app._connection.get(self.id))

    @property
    def status(self) -> JobStatus:
        """How the job is now. Raises `NotFound` when there is none."""
        return status_of(self.task, self._app._connection.now())

    async def astatus(self) -> JobStatus:
        """As `status`, for coroutines."""
        connection = self._app._connection
        if isinstance(self._settled, Task):
            return status_of(self._settled, connection.now())
        return status_of(self._noted(await connection.get_async(self.id)), connection.now())

    def result(self, timeout: DurationLike | None = None) -> R:
        """What the function returned; waits for at most `timeout`, without one for as long as it takes.

        Raises `JobFailed` with the traceback in the worker, `JobCancelled`, `JobExpired`, `TimeoutError` when
        the time is up, and `NotFound` when there is no such task any more.
        """
        if self._settled is None:
            self._noted(self._app._connection.wait(self.id, timeout))
        return self._outcome(timeout)

    def __await__(self) -> Generator[Any, None, R]:
        return self._result_async().__await__()

    def cancel(self) -> bool:
        """Cancel the job. Returns whether it is cancelled: not if it is done already.

        A function that runs finds `current().lost` true, and a coroutine is cancelled, once its worker has
        noticed: when it next extends its claim. Raises `NotFound` when there is no such task.
        """
        return self._app._connection.cancel(self.id)

    async def acancel(self) -> bool:
        """As `cancel`, for coroutines."""
        return await self._app._connection.cancel_async(self.id)

    def add_done_callback(self, callback: Callable[[Job[R]], Any]) -> None:
        """Call `callback` with this job once it is done, in a thread of this process that calls back.

        It is called exactly once, for as long as this process lives and the app is not closed. An exception
        of it is logged.
        """
        connection = self._app._connection

        def settled(found: Task | RatusError) -> None:
            self._settled = found
            connection.call_back(lambda: callback(self))

        if self._settled is None:
            connection.watch(self.id, settled)
        else:
            connection.call_back(lambda: callback(self))

    async def _result_async(self) -> R:
        if self._settled is None:
            loop = asyncio.get_running_loop()
            future: asyncio.Future[Task | RatusError] = loop.create_future()

            def settle(found: Task | RatusError) -> None:
                if not future.done():
                    future.set_result(found)

            def settled(found: Task | RatusError) -> None:
                with suppress(RuntimeError):  # the loop was closed meanwhile
                    loop.call_soon_threadsafe(settle, found)

            unwatch = self._app._connection.watch(self.id, settled)
            try:
                self._settled = await future
            except asyncio.CancelledError:
                unwatch()
                raise
        return self._outcome(None)

    def _noted(self, task: Task) -> Task:
        if task.state in SETTLED:
            self._settled = task
        return task

    def _outcome(self, timeout: DurationLike | None) -> R:
        found = self._settled
        if found is None:
            raise TimeoutError(f"the job {self.id!r} is not done after {timeout}")
        if isinstance(found, RatusError):
            raise found
        if found.state is TaskState.COMPLETED:
            result: R = self._app._load_result(found)
            return result
        raise failure_of(found)


def status_of(task: Task, now: datetime) -> JobStatus:
    """How a job is, by its task and the time."""
    if task.state is TaskState.ACTIVE:
        return "active"
    if task.state is TaskState.COMPLETED:
        return "completed"
    if task.state is TaskState.PENDING:
        if task.attempts:
            return "retrying"
        return "scheduled" if task.scheduled is not None and task.scheduled > now else "pending"
    if task.outcome == "expired":
        return "expired"
    return "cancelled" if is_cancelled(task) else "failed"


def failure_of(task: Task) -> TaskFailed:
    """The error for a task that is archived."""
    name = task.payload.get("task") if isinstance(task.payload, dict) else None
    what = f"{task.id!r} ({name})" if isinstance(name, str) else repr(task.id)
    if task.outcome == "expired":
        return JobExpired(f"{what}: no worker began with it in time", task)
    if is_cancelled(task):
        return JobCancelled(what, task)
    reason = task.error.partition("\n")[0] or "it was archived"
    error = JobFailed(f"{what}: {reason}", task)
    if error.traceback:
        error.add_note(f"In the worker:\n{error.traceback}")
    return error
