"""taskiq on Redis: the list broker, its fastest, on uvloop; no results, no parsing of parameters."""

# It runs in a virtualenv of its own, with a library that is not installed here.
# mypy: ignore-errors

import asyncio

from counting import REDIS_PORT, TASKS, count
from taskiq_redis import ListQueueBroker

broker = ListQueueBroker(f"redis://127.0.0.1:{REDIS_PORT}/0")


@broker.task
async def noop():
    count()


async def push_all():
    await broker.startup()
    for first in range(0, TASKS, 100):
        await asyncio.gather(*(noop.kiq() for _ in range(first, min(first + 100, TASKS))))
    await broker.shutdown()


def push():
    asyncio.run(push_all())
