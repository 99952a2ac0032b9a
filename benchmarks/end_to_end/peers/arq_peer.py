"""arq on Redis: no results kept, a hundred jobs at a time, long reads of the queue."""

# It runs in a virtualenv of its own, with a library that is not installed here.
# mypy: ignore-errors

import asyncio

from arq import create_pool
from arq.connections import RedisSettings
from counting import REDIS_PORT, TASKS, count

SETTINGS = RedisSettings(host="127.0.0.1", port=REDIS_PORT)


async def noop(ctx):
    count()


class WorkerSettings:
    functions = [noop]  # noqa: RUF012 - arq's own way of saying it
    redis_settings = SETTINGS
    max_jobs = 100
    queue_read_limit = 1_000
    poll_delay = 0.01
    keep_result = 0
    health_check_interval = 3_600


async def push_all():
    pool = await create_pool(SETTINGS)
    for first in range(0, TASKS, 100):
        await asyncio.gather(*(pool.enqueue_job("noop") for _ in range(first, min(first + 100, TASKS))))


def push():
    asyncio.run(push_all())
