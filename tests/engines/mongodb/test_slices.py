"""Large batches hold the event loop only for slices of their work: counted, not timed.

A turn of the loop may make so many calls of functions, and convert so many bytes of values.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import FrameType
from typing import Any

import pytest
from ratus_engines.mongodb import documents, payloads

from ratus.core.records import ACTIVE, COMPLETED, CommitRecord, TaskQuery
from ratus.core.selection import Selection
from ratus.engine.testkit.harness import HOUR, Harness

pytestmark = pytest.mark.anyio

MANY = 3_000

# A call takes some 0.1 to 0.5 us: together some fifteen milliseconds. In one step, 3,000 tasks take more.
CALLS = 60_000

# Bytes of values: what is converted before others have their turn, and the last one of it.
LARGE = b"[" + b",".join([b"{}"] * 4_000) + b"]"
BYTES = 128 * 1024 + 2 * len(LARGE)

NONCE = "N" * 16


class Most:
    """What the busiest turn of the loop did."""

    def __init__(self) -> None:
        self.calls = self.bytes = 0
        self._calls = self._bytes = 0

    def called(self, frame: FrameType, event: str, argument: Any) -> None:
        if event in ("call", "c_call"):
            self._calls += 1

    def counting(self, conversion: Callable[..., Any]) -> Callable[..., Any]:
        def convert(value: Any, *rest: Any) -> Any:
            converted = conversion(value, *rest)
            self._bytes += len(value if isinstance(value, bytes) else converted)
            return converted

        return convert

    async def watch(self) -> None:
        while True:
            await asyncio.sleep(0)
            self.calls, self.bytes = max(self.calls, self._calls), max(self.bytes, self._bytes)
            self._calls = self._bytes = 0


@contextmanager
def profiled(most: Most) -> Iterator[None]:
    before = sys.getprofile()
    sys.setprofile(most.called)
    try:
        yield
    finally:
        sys.setprofile(before)


@asynccontextmanager
async def watched(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Most]:
    most = Most()
    monkeypatch.setattr(documents, "to_bson", most.counting(payloads.to_bson))
    monkeypatch.setattr(documents, "to_json", most.counting(payloads.to_json))
    # It has taken up the conversion of values when it was made.
    monkeypatch.setattr(documents, "_record", documents._record_maker())
    watcher = asyncio.create_task(most.watch())
    await asyncio.sleep(0)
    with profiled(most):
        yield most
        await asyncio.sleep(0)
    watcher.cancel()


def operations(harness: Harness, count: int, value: bytes) -> dict[str, Callable[[], Awaitable[Any]]]:
    """Operations on so many tasks that are there, each with this payload."""
    ids = [f"{number}" for number in range(count)]
    now, engine = harness.now, harness.engine

    def commits(nonce: str) -> list[CommitRecord]:
        return [CommitRecord(each, nonce, state=COMPLETED, result=value) for each in ids]

    return {
        "insert": lambda: engine.insert([harness.task(f"new{each}", payload=value) for each in ids], now),
        "insert again": lambda: engine.insert([harness.task(each, payload=value) for each in ids], now),
        "upsert": lambda: engine.upsert([harness.task(each, payload=value) for each in ids], now),
        "claim": lambda: engine.claim(Selection(("t",), now + HOUR, limit=count), now),
        "list": lambda: engine.list_tasks(TaskQuery("t", count)),
        "commit": lambda: engine.commit(commits(NONCE), now),
        "commit by force": lambda: engine.commit(commits(""), now),
    }


async def busiest(
    harness: Harness, operation: str, count: int, value: bytes, monkeypatch: pytest.MonkeyPatch
) -> Most:
    members: dict[str, Any] = {"payload": value}
    if operation == "commit":
        members |= {"state": ACTIVE, "nonce": NONCE, "attempts": 1, "deadline": harness.now + HOUR}
    for start in range(0, count, 100):
        end = min(start + 100, count)
        await harness.insert(*(harness.task(f"{number}", **members) for number in range(start, end)))
    async with watched(monkeypatch) as most:
        await operations(harness, count, value)[operation]()
    return most


OPERATIONS = ("insert", "insert again", "upsert", "claim", "list", "commit", "commit by force")


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_many_small_tasks(harness: Harness, operation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    most = await busiest(harness, operation, MANY, b'{"a":1}', monkeypatch)
    assert 0 < most.calls < CALLS


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_many_values_that_take_long(
    harness: Harness, operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = await busiest(harness, operation, 60, LARGE, monkeypatch)
    assert 0 < most.bytes < BYTES
