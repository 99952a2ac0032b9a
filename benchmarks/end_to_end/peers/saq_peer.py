"""SAQ on Redis: a hundred jobs at a time, nothing kept of those that are done."""

# It runs in a virtualenv of its own, with a library that is not installed here.
# mypy: ignore-errors

import asyncio

from counting import REDIS_PORT, TASKS, count
from saq import Queue

queue = Queue.from_url(f"redis://127.0.0.1:{REDIS_PORT}/0")


async def noop(ctx):
    count()


settings = {"queue": queue, "functions": [noop], "concurrency": 100}


async def push_all():
    await queue.connect()
    for first in range(0, TASKS, 100):
        jobs = (queue.enqueue("noop", ttl=-1) for _ in range(first, min(first + 100, TASKS)))
        await asyncio.gather(*jobs)
    await queue.disconnect()


def push():
    asyncio.run(push_all())
