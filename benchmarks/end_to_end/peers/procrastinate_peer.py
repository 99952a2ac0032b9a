"""Procrastinate on PostgreSQL: deferred in batches, thirty jobs at a time, finished ones deleted."""

# It runs in a virtualenv of its own, with a library that is not installed here.
# mypy: ignore-errors

import asyncio
import os

import procrastinate
from counting import TASKS, count

CONCURRENCY = 30

app = procrastinate.App(
    connector=procrastinate.PsycopgConnector(
        conninfo=f"host=127.0.0.1 port={os.environ['BENCH_PORT']} user=benchmark dbname=ratus_benchmark",
        max_size=CONCURRENCY + 2,
    )
)


@app.task(name="noop", queue="bench")
async def noop():
    count()


async def push_all():
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        for first in range(0, TASKS, 1_000):
            await noop.batch_defer_async(*({} for _ in range(first, min(first + 1_000, TASKS))))


def push():
    asyncio.run(push_all())


async def work_all():
    async with app.open_async():
        await app.run_worker_async(queues=["bench"], concurrency=CONCURRENCY, delete_jobs="always")


def work():
    asyncio.run(work_all())
