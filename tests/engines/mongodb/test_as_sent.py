"""Payloads and results on a real MongoDB, through every way in and out, beside the memory engine."""

from __future__ import annotations

import asyncio
import copy
import os
from collections.abc import Callable
from typing import Any
from unittest import mock

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from ratus_engines.memdb.engine import MemdbEngine
from ratus_engines.mongodb import payloads as conversion
from ratus_engines.mongodb.engine import MongodbEngine

from ratus.core.errors import RatusError
from ratus.core.records import ACTIVE, PENDING, CommitRecord, TaskQuery, TaskRecord
from ratus.core.selection import Selection
from ratus.engine import Engine
from ratus.testing import START
from tests.absent import absent
from tests.engines.mongodb import servers
from tests.engines.mongodb.jsontexts import exact, limits, payloads

HOUR = 3_600 * 1_000_000


def task(task_id: str, data: bytes | None, **members: object) -> TaskRecord:
    found = TaskRecord(task_id, "t", START, START, payload=data, result=data)
    for name, each in members.items():
        setattr(found, name, each)
    return found


def claimed(task_id: str) -> TaskRecord:
    return task(task_id, None, state=ACTIVE, nonce="N" * 16, deadline=START + HOUR, attempts=1)


async def come_back(engine: Engine, texts: list[bytes]) -> list[bytes | None]:
    """The texts as they come back, by every way."""
    found: list[TaskRecord] = []

    async def read(*ids: str) -> None:
        for task_id in ids:
            got = await engine.get(task_id)
            assert got is not None
            found.append(copy.copy(got))

    async def commit(*commits: CommitRecord) -> None:
        for answer in await engine.commit(commits, START):
            assert not isinstance(answer, RatusError), answer
            found.append(copy.copy(answer))

    await engine.delete_topics()
    await engine.insert([task(f"many-{n}", data) for n, data in enumerate(texts)], START)
    await engine.insert([task("one", texts[0])], START)
    found += map(copy.copy, (await engine.list_tasks(TaskQuery("t", 100))).tasks)
    found += map(copy.copy, await engine.claim(Selection(("t",), START + HOUR), START))
    found += map(copy.copy, await engine.claim(Selection(("t",), START + HOUR, limit=100), START))
    # Giving back takes an attempt away, which on MongoDB only an expression can say.
    await commit(*(CommitRecord(f"many-{n}", state=PENDING, result=texts[-1]) for n in range(len(texts))))
    for way in ("new", "replaced"):
        await engine.upsert([task(f"put-{n}", data, error=way) for n, data in enumerate(texts)], START)
        await engine.upsert([task("put", texts[-1], error=way)], START)
        await read("put", *(f"put-{n}" for n in range(len(texts))))
    for way in ("done", "back", "failed", "forced"):
        members = {"done": {}, "back": {"state": PENDING}, "failed": {"error": "x"}, "forced": {}}[way]
        nonce = "" if way == "forced" else "N" * 16
        ids = [f"{way}-{n}" for n in range(len(texts))]
        await engine.insert([claimed(each) for each in (way, *ids)], START)
        await commit(CommitRecord(way, nonce, payload=texts[0], result=texts[-1], **members))  # type: ignore[arg-type]  # members differ
        await commit(
            *(
                CommitRecord(each, nonce, payload=data, result=data, **members)  # type: ignore[arg-type]  # members differ
                for each, data in zip(ids, texts, strict=True)
            )
        )
        await read(way, *ids)
    found.sort(key=lambda each: each.id)
    return [data for each in found for data in (each.payload, each.result)]


def memdb() -> Engine:
    return MemdbEngine(random=lambda: 0.5)


def mongodb() -> Engine:
    uri = servers.shared_uri()
    if uri is None:
        absent(servers.ABSENT)
    return MongodbEngine(uri, database=f"ratus_as_sent_{os.getpid()}", random=lambda: 0.5)


async def of_engine(make: Callable[[], Engine], texts: list[bytes]) -> list[bytes | None]:
    engine = make()
    await engine.open(START)
    try:
        return await come_back(engine, texts)
    finally:
        await engine.close(START)


@settings(
    max_examples=12,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.lists(payloads, min_size=1, max_size=8), limits)
def test_what_comes_back_is_what_the_memory_engine_gives(texts: list[bytes], limits: dict[str, Any]) -> None:
    wanted = asyncio.run(of_engine(memdb, texts))
    with mock.patch.multiple(conversion, **limits):
        found = asyncio.run(of_engine(mongodb, texts))
    assert list(map(exact, found)) == list(map(exact, wanted))


LARGE = [
    b"[" + b",".join([b"1e308"] * 30_000) + b"]",
    b"[" + b",".join([b'{"$ref":"c","$id":-0}'] * 10_000) + b"]",
    b'{"a":"' + b"\\n" * 60_000 + b'"}',
    b'"' + b",\\n[" * 60_000 + b'"',
]


def test_large_values_come_back_by_every_way() -> None:
    found = asyncio.run(of_engine(mongodb, LARGE))
    wanted = asyncio.run(of_engine(memdb, LARGE))
    assert list(map(exact, found)) == list(map(exact, wanted))


DEEP = [
    b"[" * 170 + b"]" * 170,
    b'{"a":' * 169 + b'{"a":1,"a":2}' + b"}" * 169,
    b'{"a":' * 170 + b"1" + b"}" * 170,
]


def test_the_deepest_nesting_comes_back_by_every_way() -> None:
    found = asyncio.run(of_engine(mongodb, DEEP))
    wanted = asyncio.run(of_engine(memdb, DEEP))
    assert list(map(exact, found)) == list(map(exact, wanted))
