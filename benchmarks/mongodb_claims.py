"""Claims per second of the mongodb engine beside the bare driver, on one MongoDB.

    python -m benchmarks.mongodb_claims URI          in the database ratus_benchmark of a deployment of yours

The peer is what a Ratus in Go sends: pymongo's `find_one_and_update` in the order of `scheduled` with a
hint, on the same collection with the same concerns. It knows no priorities, takes no lapsed claims back and
hands out the tasks of paused topics. Both take turns, a round each; the ratio is the median of the rounds'
ratios.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from benchmarks import processes, services
from benchmarks.benchmark import Rows, Scale, Tables
from benchmarks.processes import SERVER_CORE
from benchmarks.progress import step
from benchmarks.statistic import median
from benchmarks.table import show
from ratus.core.records import TaskRecord
from ratus.core.selection import Selection

if TYPE_CHECKING:
    from ratus_engines.mongodb.engine import MongodbEngine

CONSUMERS = (1, 16, 64)
BATCH = 1_000
MINUTE = 60_000_000
DATABASE = "ratus_benchmark"

Operation = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    rounds: int
    claims: int
    """In a round: long enough to be measured, short enough for what disturbs a shared machine to hit both."""


SIZES = {Scale.SMOKE: Sizes(1, 20), Scale.QUICK: Sizes(10, 300), Scale.FULL: Sizes(20, 300)}


def measure(scale: Scale) -> Tables:
    """A row for each number of consumers."""
    sizes = SIZES[scale]
    with tempfile.TemporaryDirectory() as place:
        step("a replica set of one")
        with services.mongodb(Path(place)) as uri:
            step(f"{sizes.rounds} rounds of the engine and of the bare driver")
            arguments = (uri, sizes.rounds, sizes.claims)
            return {
                "mongodb-claims": processes.call("benchmarks.mongodb_claims", *arguments, core=SERVER_CORE)
            }


async def _fill(engine: MongodbEngine, count: int) -> None:
    """So many due tasks."""
    now = time.time_ns() // 1000
    for start in range(0, count, BATCH):
        tasks = [
            TaskRecord(f"{n:08}", "t", now, now - 60 * MINUTE + n * 1000, payload=b'{"n":1}')
            for n in range(start, min(start + BATCH, count))
        ]
        await engine.insert(tasks, now)


async def _rate(operation: Operation, consumers: int, claims: int) -> float:
    """Operations per second."""
    left = iter(range(claims))

    async def consume() -> None:
        for _ in left:
            await operation()

    started = time.perf_counter()
    await asyncio.gather(*(consume() for _ in range(consumers)))
    return claims / (time.perf_counter() - started)


async def _case(uri: str, sizes: Sizes) -> Rows:
    from pymongo import ReturnDocument
    from ratus_engines.mongodb.engine import MongodbEngine

    engine = MongodbEngine(uri, database=DATABASE)
    client = engine._deployment.client
    await client.drop_database(DATABASE)
    await engine.open(0)
    tasks = client[DATABASE]["tasks"]

    async def ours() -> None:
        now = time.time_ns() // 1000
        if not await engine.claim(Selection(("t",), now + 10 * MINUTE, "consumer"), now):
            raise RuntimeError("the engine found no task")

    async def theirs() -> None:
        now = datetime.now(UTC)
        claim = {
            "state": 1,
            "nonce": engine.nonces(),
            "consumer": "consumer",
            "consumed": now,
            "deadline": now + timedelta(minutes=10),
        }
        if not await tasks.find_one_and_update(
            {"state": 0, "topic": "t", "scheduled": {"$lte": now}},
            {"$set": claim},
            sort=[("scheduled", 1)],
            hint="topic_1_scheduled_1",
            return_document=ReturnDocument.AFTER,
        ):
            raise RuntimeError("the driver found no task")

    rows = []
    for consumers in CONSUMERS:
        await engine.delete_topics()
        await _fill(engine, 2 * (sizes.rounds + 1) * sizes.claims)
        for operation in (ours, theirs):  # connections are made, code is warm
            await _rate(operation, consumers, sizes.claims)
        rounds = [
            (await _rate(ours, consumers, sizes.claims), await _rate(theirs, consumers, sizes.claims))
            for _ in range(sizes.rounds)
        ]
        rows.append(
            {
                "consumers": consumers,
                "engine claims/s": median(ours for ours, _ in rounds),
                "driver claims/s": median(theirs for _, theirs in rounds),
                "ratio": median(ours / theirs for ours, theirs in rounds),
            }
        )
    await client.drop_database(DATABASE)
    await engine.close(0)
    return rows


if __name__ == "__main__":
    if len(sys.argv) > 2:
        print(json.dumps(uvloop.run(_case(sys.argv[1], Sizes(int(sys.argv[2]), int(sys.argv[3]))))))
    else:
        show("mongodb-claims", uvloop.run(_case(sys.argv[1], SIZES[Scale.FULL])))
