"""From a claimed task to its outcome: finds the function, calls it, and sets on the delivery what follows.

The workers of `ratus.worker` then commit the delivery. What becomes of a task:

- It names a function that this app does not have: given back for a while, since another worker may have it.
- Its arguments do not fit: archived with the reason, since they will not fit the next time either.
- The function returns: completed, with its result.
- It raises: failed, and its retry policy decides; or archived, where `give_up_on` or `retry_on` say so.
- It calls `retry` or `give_up` of its execution: as that says.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from types import TracebackType
from typing import Any, Final, Protocol

import msgspec

from ratus.app.encoding import Misfit, read_call
from ratus.app.execution import Decision, Execution, GiveUp, RetryAfter, running
from ratus.app.functions import TaskFunction
from ratus.app.pool import ThreadPool
from ratus.app.surrounding import Surrounding
from ratus.calls.delivery import BaseDelivery
from ratus.worker import log
from ratus.worker.commits import note_failure
from ratus.worker.handlers import refuse_unrun

UNKNOWN_SECONDS: Final = 30.0
"""Seconds until a task of an unknown name is handed out again: while a deployment goes on, to a newer
worker."""


class Observer(Protocol):
    """Is notified of what a worker does."""

    def unknown(self, name: str) -> None:
        """A task was given back, since there is no function of its name."""

    def misfit(self, name: str) -> None:
        """A task was archived, since its payload does not fit the function."""

    def begun(self, execution: Execution) -> None:
        """A function is about to be called."""

    def ended(self, execution: Execution, seconds: float, delivery: BaseDelivery, *, failed: bool) -> None:
        """A function has ended, and the delivery has what is to be committed."""


class Processes(Protocol):
    """Runs tasks in processes; see `ratus.app.processes`."""

    def run(self, delivery: BaseDelivery, time_limit: float | None) -> bool:
        """Run a claimed task, and set on the delivery what is to be committed. Returns whether it failed."""


class Runner:
    """Runs the tasks of one app. Threads may share it."""

    def __init__(
        self,
        functions: Mapping[str, TaskFunction[..., Any, Any]],
        middleware: Sequence[Surrounding] = (),
        *,
        observer: Observer | None = None,
        threads: ThreadPool | None = None,
        processes: Processes | None = None,
    ) -> None:
        self._functions = functions
        self._middleware = tuple(each.enter for each in middleware if not each.is_async)
        self._async_middleware = tuple(each.enter for each in middleware if each.is_async)
        self._observer = observer
        self._threads = threads
        self._processes = processes
        self._unknown: set[str] = set()

    # ---- in a thread -------------------------------------------------------------------------------

    def run(self, delivery: BaseDelivery) -> None:
        """Run the plain function of a claimed task, and set on the delivery what is to be committed.

        Does not raise what the function raised.
        """
        found = self._find(delivery)
        if found is None:
            return
        function, execution = found
        begun = self._begin(execution)
        if function.handling.in_process and self._processes is not None:
            failed = self._processes.run(delivery, function.handling.time_limit)
            self._end(execution, delivery, begun, failed=failed)
            return
        token = running.set(execution)
        try:
            self._succeed(function, execution, delivery, self._call(function, execution))
        except BaseException as error:
            self._fail(function, execution, delivery, error, begun)
        else:
            self._end(execution, delivery, begun, failed=False)
        finally:
            running.reset(token)

    def _call(self, function: TaskFunction[..., Any, Any], execution: Execution) -> Any:
        if not self._middleware:
            return function.function(*execution.args, **execution.kwargs)
        with ExitStack() as stack:
            for enter in self._middleware:
                stack.enter_context(enter(execution))
            return function.function(*execution.args, **execution.kwargs)
        return None  # a middleware has caught what the function raised

    # ---- on an event loop --------------------------------------------------------------------------

    async def run_async(self, delivery: BaseDelivery) -> None:
        """As `run`, for coroutine functions too; plain functions are called in a thread.

        Raises `asyncio.CancelledError` when it is cancelled.
        """
        found = self._find(delivery)
        if found is None:
            return
        function, execution = found
        begun = self._begin(execution)
        if function.handling.in_process and self._processes is not None:
            assert self._threads is not None, "a runner for event loops has threads"
            processes, limit = self._processes, function.handling.time_limit
            failed = await self._threads.run(lambda: processes.run(delivery, limit))
            self._end(execution, delivery, begun, failed=failed)
            return
        token = running.set(execution)
        try:
            self._succeed(function, execution, delivery, await self._call_async(function, execution))
        except BaseException as error:
            self._fail(function, execution, delivery, error, begun)
        else:
            self._end(execution, delivery, begun, failed=False)
        finally:
            running.reset(token)

    async def _call_async(self, function: TaskFunction[..., Any, Any], execution: Execution) -> Any:
        if not self._async_middleware:
            return await self._call_below(function, execution)
        async with AsyncExitStack() as stack:
            for enter in self._async_middleware:
                await stack.enter_async_context(enter(execution))
            return await self._call_below(function, execution)
        return None  # a middleware has caught what the function raised

    async def _call_below(self, function: TaskFunction[..., Any, Any], execution: Execution) -> Any:
        """Call the function within the plain middleware."""
        if not function.is_coroutine:
            assert self._threads is not None, "a runner for event loops has threads"
            return await self._threads.run(lambda: self._call(function, execution))
        with ExitStack() as stack:
            for enter in self._middleware:
                stack.enter_context(enter(execution))
            return await _within(
                function.handling.time_limit, function.function(*execution.args, **execution.kwargs)
            )
        return None  # a middleware has caught what the function raised

    # ---- what both have in common ------------------------------------------------------------------

    def _find(self, delivery: BaseDelivery) -> tuple[TaskFunction[..., Any, Any], Execution] | None:
        """The function of a task, and its execution; `None` if the delivery is decided without a call."""
        name = ""
        try:
            call = read_call(delivery._claimed.payload)
            name = call.task
            function = self._functions.get(name)
            if function is None:
                self._give_back(delivery, name)
                return None
            args, kwargs = function._signature().arguments(call)
        except Misfit as misfit:
            log.warning("task %r in %r is archived: %s", delivery.id, delivery.topic, misfit)
            delivery.fail(str(misfit)).archive()
            if self._observer is not None:
                self._observer.misfit(name)
            return None
        return function, Execution(delivery, name, args, kwargs)

    def _give_back(self, delivery: BaseDelivery, name: str) -> None:
        if name not in self._unknown:
            self._unknown.add(name)
            log.warning(
                "no task function is called %r here: its tasks in %r are given back for %g s",
                name,
                delivery.topic,
                UNKNOWN_SECONDS,
            )
        delivery.retry(UNKNOWN_SECONDS)
        if self._observer is not None:
            self._observer.unknown(name)

    def _begin(self, execution: Execution) -> float:
        if self._observer is None:
            return 0.0
        self._observer.begun(execution)
        return time.monotonic()

    def _end(self, execution: Execution, delivery: BaseDelivery, begun: float, *, failed: bool) -> None:
        if self._observer is not None:
            self._observer.ended(execution, time.monotonic() - begun, delivery, failed=failed)

    def _succeed(
        self,
        function: TaskFunction[..., Any, Any],
        execution: Execution,
        delivery: BaseDelivery,
        returned: Any,
    ) -> None:
        if returned is not None:
            refuse_unrun(returned)
            data = function._signature().dump_result(returned)
            if data != b"null":  # which would leave the result as it is: absent
                delivery._set("result", msgspec.Raw(data))
        if function.handling.on_success is not None:
            _call_hook(function.handling.on_success, execution, returned)

    def _fail(
        self,
        function: TaskFunction[..., Any, Any],
        execution: Execution,
        delivery: BaseDelivery,
        error: BaseException,
        begun: float,
    ) -> None:
        """Set what follows from an exception. Raises it if the event loop has cancelled the execution."""
        if isinstance(error, asyncio.CancelledError):
            self._end(execution, delivery, begun, failed=True)
            raise error
        error.__traceback__ = _without_our_frames(error.__traceback__)
        handling = function.handling
        counts = True
        delivery.reset()
        if isinstance(error, RetryAfter):
            counts = error.counts
            if counts:
                delivery.fail(_reason(error))
            else:
                delivery.abstain()
            if error.delay is not None:
                delivery.set_defer(error.delay)
            log.info("task %r in %r is to be run again: %s", delivery.id, delivery.topic, error.reason)
        elif isinstance(error, GiveUp):
            delivery.fail(_reason(error)).archive()
            log.warning("task %r in %r gives up: %s", delivery.id, delivery.topic, error.reason)
        elif handling.is_final(error):
            delivery.fail(error).archive()
            log.warning("task %r in %r failed and is archived", delivery.id, delivery.topic, error=error)
        else:
            note_failure(delivery, error)
        if counts and handling.on_failure is not None:
            _call_hook(handling.on_failure, execution, error)
        self._end(execution, delivery, begun, failed=counts)


async def _within(seconds: float | None, work: Awaitable[Any]) -> Any:
    """The result of `work`. Raises `TimeoutError` if it is not there within the time limit."""
    if seconds is None:
        return await work
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            return await work
    except TimeoutError:
        if limit.expired():
            raise TimeoutError(f"the time limit of {seconds:g} s is over") from None
        raise


def _call_hook(hook: Callable[[Execution, Any], Any], execution: Execution, value: Any) -> None:
    """Call a hook, whose own failure changes nothing for the task."""
    try:
        hook(execution, value)
    except Exception as error:
        log.warning("a hook of task %r raised an exception", execution.id, error=error)


def _reason(error: Decision) -> str | BaseException:
    """What goes into the task's `error`: the reason; and where an exception led to it, its traceback."""
    return error if error.__context__ is not None else error.reason


def _without_our_frames(trace: TracebackType | None) -> TracebackType | None:
    """A traceback that begins with the frames of the program."""
    first = trace
    while first is not None and str(first.tb_frame.f_globals.get("__name__", "")).startswith("ratus.app."):
        first = first.tb_next
    return trace if first is None else first
