"""Which handlers are taken: a call that runs nothing is refused, not completed."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from typing import Any
from unittest.mock import AsyncMock, MagicMock

import pytest

from ratus import AsyncClient, AsyncWorker, Client, Retry, Task, TaskState, Worker
from ratus.testing import RatusServer
from tests.client.support import PATIENCE, InBackground

RAN: list[str] = []


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    RAN.clear()


async def coroutine_function(delivery: Any) -> None:
    RAN.append(delivery.id)


def plain_function(delivery: Any) -> None:
    RAN.append(delivery.id)


def generator_function(delivery: Any) -> Iterator[int]:
    RAN.append(delivery.id)
    yield 1


async def async_generator_function(delivery: Any) -> AsyncIterator[int]:
    RAN.append(delivery.id)
    yield 1


class Coroutines:
    async def __call__(self, delivery: Any) -> None:
        RAN.append(delivery.id)

    async def method(self, delivery: Any) -> None:
        RAN.append(delivery.id)

    @staticmethod
    async def static(delivery: Any) -> None:
        RAN.append(delivery.id)

    @classmethod
    async def of_class(cls, delivery: Any) -> None:
        RAN.append(delivery.id)


class BoundLate:
    async def _call(self, given: str, delivery: Any) -> None:
        RAN.append(delivery.id)

    __call__ = functools.partialmethod(_call, "given")


class Decorator:
    """An object that stands for a function, as some decorators leave it."""

    def __init__(self, function: Any) -> None:
        functools.update_wrapper(self, function)
        self._function = function

    def __call__(self, delivery: Any) -> Any:
        return self._function(delivery)


class Plain:
    def __call__(self, delivery: Any) -> None:
        RAN.append(delivery.id)

    def method(self, delivery: Any) -> None:
        RAN.append(delivery.id)


class Generators:
    def __call__(self, delivery: Any) -> Iterator[int]:
        RAN.append(delivery.id)
        yield 1


@functools.wraps(coroutine_function)
def wrapped(delivery: Any) -> Any:
    return coroutine_function(delivery)


def annotated(delivery: Any) -> Coroutine[Any, Any, None]:
    return coroutine_function(delivery)


COROUTINES: dict[str, Any] = {
    "function": coroutine_function,
    "partial": functools.partial(coroutine_function),
    "partial of a partial of a method": functools.partial(functools.partial(Coroutines().method)),
    "object": Coroutines(),
    "partial of an object": functools.partial(Coroutines()),
    "method": Coroutines().method,
    "static method": Coroutines.static,
    "class method": Coroutines.of_class,
    "partial method": BoundLate(),
    "mock": AsyncMock(),
}
GENERATORS: dict[str, Any] = {
    "function": generator_function,
    "partial": functools.partial(generator_function),
    "object": Generators(),
    "asynchronous": async_generator_function,
    "partial asynchronous": functools.partial(async_generator_function),
}
PLAIN: dict[str, Any] = {
    "function": plain_function,
    "partial": functools.partial(plain_function),
    "object": Plain(),
    "method": Plain().method,
    "builtin": print,
    "method of a builtin": [].append,
    "wrapper": functools.partial(print).__call__,
    "class": Plain,
    "mock": MagicMock(),
}
NO_FUNCTIONS: dict[str, Any] = {"nothing": None, "text": "handle", "coroutine": 3}


def named(handlers: dict[str, Any]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("handler", handlers.values(), ids=handlers)


# ---- refused before anything is claimed -------------------------------------------------------------


@named({**COROUTINES, **{f"generator {name}": each for name, each in GENERATORS.items()}, **NO_FUNCTIONS})
def test_a_client_refuses_what_it_cannot_run(handler: Any) -> None:
    with Client("http://127.0.0.1:1") as client:
        with pytest.raises(TypeError, match=r"the handler of a Client must be a plain function \(def\)"):
            client.subscribe("t", handler)
        with pytest.raises(TypeError, match=r"the handler of a Client"):
            Worker(client, "t", handler)
    assert RAN == []


@named({**PLAIN, **{f"generator {name}": each for name, each in GENERATORS.items()}, **NO_FUNCTIONS})
def test_an_asynchronous_client_refuses_what_it_cannot_await(handler: Any) -> None:
    async def main() -> None:
        async with AsyncClient("http://127.0.0.1:1") as client:
            with pytest.raises(TypeError, match=r"must be a coroutine function \(async def\)"):
                await client.subscribe("t", handler)
            with pytest.raises(TypeError, match=r"must be a coroutine function"):
                AsyncWorker(client, "t", handler)

    asyncio.run(main())
    assert RAN == []


@named(PLAIN)
def test_a_client_takes_plain_functions(handler: Any) -> None:
    with Client("http://127.0.0.1:1") as client:
        Worker(client, "t", handler)


@named(
    {
        **COROUTINES,
        "wrapped": wrapped,
        "decorated": Decorator(coroutine_function),
        "annotated": annotated,
        "lambda": lambda each: wrapped(each),
    }
)
def test_an_asynchronous_client_takes_what_returns_coroutines(handler: Any) -> None:
    AsyncWorker(AsyncClient("http://127.0.0.1:1"), "t", handler)


# ---- what a handler returns -------------------------------------------------------------------------


def run_in_threads(live: RatusServer, handler: Callable[[Any], Any]) -> Task:
    with Client(live.url) as client, Client(live.url) as observer:
        observer.upsert_task(Task(id="1", topic="t", retry=Retry(max_attempts=1)))
        worker = InBackground(lambda: client.subscribe("t", handler))
        task = observer.wait_for_task("1", PATIENCE)
        client.stop()
        worker.join()
    return task


def run_on_loop(live: RatusServer, handler: Callable[[Any], Any]) -> Task:
    async def main() -> Task:
        async with AsyncClient(live.url) as client:
            await client.upsert_task(Task(id="1", topic="t", retry=Retry(max_attempts=1)))
            worker = asyncio.create_task(client.subscribe("t", handler, signals=False))
            task = await client.wait_for_task("1", PATIENCE)
            client.stop()
            await worker
        return task

    return asyncio.run(main())


def call(make: Callable[[Any], Any], delivery: Any) -> Any:
    return make(delivery)


def give(value: Any, delivery: Any) -> Any:
    return value


class Waits:
    def __await__(self) -> Iterator[None]:
        RAN.append("awaited")
        yield


UNRUN: dict[str, Callable[[Any], Any]] = {
    "coroutine": coroutine_function,
    "generator": generator_function,
    "asynchronous generator": async_generator_function,
    "awaitable": lambda _: Waits(),
}


def test_work_that_was_only_returned_fails_the_task(live: RatusServer) -> None:
    for make in UNRUN.values():
        task = run_in_threads(live, functools.partial(call, make))
        assert (task.state, task.outcome) == (TaskState.ARCHIVED, "failed")
        assert "TypeError: the handler returned a" in task.error
        assert "which nothing runs" in task.error
    assert RAN == []


def test_a_coroutine_that_only_returns_its_work_fails_the_task(live: RatusServer) -> None:
    for make in UNRUN.values():

        async def handle(delivery: Any, make: Any = make) -> Any:
            return make(delivery)

        task = run_on_loop(live, handle)
        assert (task.state, task.outcome) == (TaskState.ARCHIVED, "failed")
        assert "which nothing runs" in task.error
    assert RAN == []


def test_other_values_are_of_no_matter(live: RatusServer) -> None:
    for returned in (None, 0, "done", [1]):

        async def handle(delivery: Any, returned: Any = returned) -> Any:
            return returned

        assert run_in_threads(live, functools.partial(give, returned)).state is TaskState.COMPLETED
        assert run_on_loop(live, handle).state is TaskState.COMPLETED


def test_what_returns_a_coroutine_is_run(live: RatusServer) -> None:
    for handler in (lambda delivery: coroutine_function(delivery), wrapped, Coroutines(), BoundLate()):
        assert run_on_loop(live, handler).state is TaskState.COMPLETED
    assert RAN == ["1"] * 4


def test_a_lambda_that_returns_nothing_to_await_fails_the_task(live: RatusServer) -> None:
    makes: list[Callable[[Any], Any]] = []
    for make in (generator_function, functools.partial(give, 1)):
        makes.append(make)
        task = run_on_loop(live, lambda delivery: call(makes[-1], delivery))
        assert (task.state, task.outcome) == (TaskState.ARCHIVED, "failed")
        assert "TypeError" in task.error


def test_a_future_is_awaited(live: RatusServer) -> None:
    def begin(delivery: Any) -> Awaitable[None]:
        return asyncio.ensure_future(coroutine_function(delivery))

    assert not inspect.iscoroutinefunction(begin)
    assert run_on_loop(live, begin).state is TaskState.COMPLETED
    assert RAN == ["1"]
