"""Claims per second of the mongodb engine beside the bare driver, on one MongoDB.

    python -m benchmarks.mongodb_claims [URI]

Without a URI a mongod is started, as for the tests. The peer is what a Ratus in Go sends: pymongo's
`find_one_and_update` in the order of `scheduled` with a hint, on the same collection with the same concerns.
It knows no priorities, takes no lapsed claims back and hands out the tasks of paused topics. Both take turns,
a round each; the ratio is the median of the rounds' ratios.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import uvloop
from pymongo import ReturnDocument
from ratus_engines.mongodb.engine import MongodbEngine

from benchmarks.table import show
from ratus.records import Claim, TaskRecord

CONSUMERS = (1, 16, 64)
ROUNDS = 40
# Claims in a round: long enough to be measured, short enough for what disturbs a shared machine to hit both.
CLAIMS = 300
BATCH = 1_000
MINUTE = 60_000_000

DATABASE = "ratus_benchmark"

Operation = Callable[[], Awaitable[None]]


async def fill(engine: MongodbEngine, count: int) -> None:
    """So many due tasks."""
    now = time.time_ns() // 1000
    for start in range(0, count, BATCH):
        tasks = [
            TaskRecord(f"{n:08}", "t", now, now - 60 * MINUTE + n * 1000, payload=b'{"n":1}')
            for n in range(start, start + BATCH)
        ]
        await engine.insert(tasks, now)


async def rate(operation: Operation, consumers: int) -> float:
    """Operations per second."""
    left = iter(range(CLAIMS))

    async def consume() -> None:
        for _ in left:
            await operation()

    started = time.perf_counter()
    await asyncio.gather(*(consume() for _ in range(consumers)))
    return CLAIMS / (time.perf_counter() - started)


async def measure(uri: str) -> list[dict[str, Any]]:
    """A row for each number of consumers."""
    engine = MongodbEngine(uri, database=DATABASE)
    client = engine._deployment.client
    await client.drop_database(DATABASE)
    await engine.open(0)
    tasks = client[DATABASE]["tasks"]

    async def ours() -> None:
        now = time.time_ns() // 1000
        assert await engine.claim(Claim(("t",), now + 10 * MINUTE, "consumer"), now)

    async def theirs() -> None:
        now = datetime.now(UTC)
        claim = {
            "state": 1,
            "nonce": engine.nonces(),
            "consumer": "consumer",
            "consumed": now,
            "deadline": now + timedelta(minutes=10),
        }
        assert await tasks.find_one_and_update(
            {"state": 0, "topic": "t", "scheduled": {"$lte": now}},
            {"$set": claim},
            sort=[("scheduled", 1)],
            hint="topic_1_scheduled_1",
            return_document=ReturnDocument.AFTER,
        )

    rows = []
    for consumers in CONSUMERS:
        await engine.delete_topics()
        await fill(engine, -(-2 * (ROUNDS + 1) * CLAIMS // BATCH) * BATCH)
        for operation in (ours, theirs):  # connections are made, code is warm
            await rate(operation, consumers)
        rounds = [(await rate(ours, consumers), await rate(theirs, consumers)) for _ in range(ROUNDS)]
        rows.append(
            {
                "consumers": consumers,
                "engine claims/s": statistics.median(ours for ours, _ in rounds),
                "driver claims/s": statistics.median(theirs for _, theirs in rounds),
                "ratio": statistics.median(ours / theirs for ours, theirs in rounds),
            }
        )
    await client.drop_database(DATABASE)
    await engine.close(0)
    return rows


def main() -> None:
    """See the module's text."""
    from tests.engines.mongodb import servers

    uri = sys.argv[1] if len(sys.argv) > 1 else servers.shared_uri()
    if uri is None:
        sys.exit(servers.ABSENT)
    show("mongodb claims", uvloop.run(measure(uri)))


if __name__ == "__main__":
    main()
