"""Threads for plain functions beside an event loop."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeAlias, TypeVar

from ratus.worker.forks import generation, leave_child

T = TypeVar("T")

_Item: TypeAlias = tuple[contextvars.Context, Callable[[], Any], asyncio.Future[Any]]


class ThreadPool:
    """Runs functions in up to `size` threads.

    They are daemons, unlike those of `concurrent.futures`: a function that hangs does not hold up the end of
    the program. To be used on one event loop.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._items: SimpleQueue[_Item | None] = SimpleQueue()
        self._threads = 0
        self._busy = 0
        self._generation = generation()

    async def run(self, function: Callable[[], T]) -> T:
        """Call the function in a thread, within a copy of this context. Raises what it raises.

        When this is cancelled, the thread goes on to the end of the function.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._busy += 1
        if self._busy > self._threads < self._size:
            self._threads += 1
            name = f"ratus-thread-{self._threads}"
            threading.Thread(target=self._work, name=name, daemon=True).start()
        self._items.put((contextvars.copy_context(), function, future))
        return await future

    def close(self) -> None:
        """Have the threads end, each after the function that it runs."""
        for _ in range(self._threads):
            self._items.put(None)

    def _work(self) -> None:
        while (item := self._items.get()) is not None:
            context, function, future = item
            loop = future.get_loop()
            result: Any = None
            failure: BaseException | None = None
            try:
                result = context.run(function)
            except BaseException as error:
                failure = error
            leave_child(self._generation, failure)
            if isinstance(failure, StopIteration):  # which a future does not take
                failure = RuntimeError(f"the function raised {failure!r}")
            with suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(self._settle, future, result, failure)
            del item, context, function, future, result, failure

    def _settle(self, future: asyncio.Future[Any], result: Any, failure: BaseException | None) -> None:
        self._busy -= 1
        if future.done():  # cancelled
            return
        if failure is None:
            future.set_result(result)
        else:
            future.set_exception(failure)
