"""taskiq on Redis: the list broker, its fastest, on uvloop; no results, no parsing of parameters."""

# mypy: ignore-errors - runs in a virtualenv of its own, with a library that is not installed here

import asyncio
import sys

from counting import REDIS_PORT, TASKS, count
from taskiq_redis import ListQueueBroker

broker = ListQueueBroker(f"redis://127.0.0.1:{REDIS_PORT}/0")


@broker.task
async def noop():
    count()


async def push():
    await broker.startup()
    for first in range(0, TASKS, 100):
        await asyncio.gather(*(noop.kiq() for _ in range(first, min(first + 100, TASKS))))
    await broker.shutdown()


if __name__ == "__main__" and sys.argv[1:] == ["push"]:
    asyncio.run(push())
