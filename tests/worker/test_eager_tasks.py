"""Handlers on an event loop whose tasks run their first step while they are made."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest

from ratus import AsyncClient, Client, Task, TaskState
from ratus.testing import RatusServer
from tests.client.support import PATIENCE


def emulated_factory(loop: Any, coroutine: Coroutine[Any, Any, Any], **options: Any) -> Any:
    """`asyncio.eager_task_factory` for Pythons that lack it: the first step is run at once."""
    steps: list[Any] = []
    real = loop.call_soon
    loop.call_soon = lambda step, *_, **__: steps.append(step)
    try:
        # The task in Python's own code: that in C cannot be stepped from outside.
        task = asyncio.tasks._PyTask(coroutine, loop=loop)  # type: ignore[attr-defined]
    finally:
        loop.call_soon = real
    running = asyncio.current_task(loop)
    if running is not None:
        asyncio.tasks._leave_task(loop, running)
    try:
        (step,) = steps
        step()
    finally:
        if running is not None:
            asyncio.tasks._enter_task(loop, running)
    return task


FACTORIES = [getattr(asyncio, "eager_task_factory", emulated_factory)]  # Python's own from 3.12 on


@pytest.fixture
def observer(live: RatusServer) -> Iterator[Client]:
    with Client(live.url) as made:
        yield made


@pytest.mark.parametrize("factory", FACTORIES)
@pytest.mark.parametrize("concurrency", [1, 3])
def test_handlers_that_never_suspend_do_not_stand_still(
    live: RatusServer, observer: Client, factory: Any, concurrency: int
) -> None:
    observer.insert_tasks((Task(id=str(number)) for number in range(2_000)), topic="t")
    handled: list[str] = []

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(factory)
        async with AsyncClient(live.url) as client:

            async def handle(delivery: Any) -> None:
                handled.append(delivery.id)
                if delivery.id == "5":
                    raise ValueError("at once")
                if len(handled) >= 2_000:
                    client.stop()

            work = client.subscribe("t", handle, concurrency=concurrency, signals=False)
            await asyncio.wait_for(work, PATIENCE)

    asyncio.run(main())
    assert sorted(handled, key=int) == [str(number) for number in range(2_000)]
    states = observer.get_topic("t").states
    assert states is not None
    assert (states.completed, states.active) == (1_999, 0)


@pytest.mark.parametrize("factory", FACTORIES)
def test_handlers_that_suspend_sometimes_are_bounded_extended_and_drained(
    live: RatusServer, observer: Client, factory: Any
) -> None:
    observer.insert_tasks((Task(id=f"{number:03}") for number in range(200)), topic="t")
    running = highest = 0
    extended: list[bool] = []
    begun = asyncio.Event()

    async def handle(delivery: Any) -> None:
        nonlocal running, highest
        running += 1
        highest = max(highest, running)
        if delivery.id == "100":
            first = delivery.deadline
            while delivery.deadline == first:
                await asyncio.sleep(0.01)
            extended.append(delivery.lost)
        elif delivery.id == "199":
            begun.set()
            await asyncio.sleep(3_600)
        elif int(delivery.id) % 2:
            await asyncio.sleep(0)
        running -= 1

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(factory)
        async with AsyncClient(live.url) as client:
            work = client.subscribe("t", handle, concurrency=4, timeout="900ms", grace="50ms", signals=False)
            worker = asyncio.create_task(work)
            await begun.wait()
            assert (await client.wait_for_task("100", PATIENCE)).state is TaskState.COMPLETED
            client.stop()
            await asyncio.wait_for(worker, PATIENCE)

    asyncio.run(main())
    assert highest <= 4
    assert extended == [False]
    assert observer.get_task("199").state is TaskState.PENDING
