"""Batches: every real error is reported with its item, duplicates are counted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from ratus.core.errors import BadRequest, InternalError, PayloadTooLarge
from ratus.engine.testkit.harness import Harness
from tests.engines.mongodb import servers
from tests.engines.mongodb.proxy import Fate, Proxy, name_of

pytestmark = pytest.mark.anyio


@pytest.fixture
async def strict(harness: Harness, database: str) -> AsyncIterator[Harness]:
    """A harness at a collection that refuses tasks of the producer "bad"."""
    data = servers.shared_client()[database]
    await harness.engine.get("1")
    data.command("collMod", "tasks", validator={"producer": {"$ne": "bad"}})
    yield harness
    data.command("collMod", "tasks", validator={})


async def test_real_errors_are_told_behind_duplicates(strict: Harness) -> None:
    await strict.add("there")
    batch = [
        strict.task("there"),
        strict.task("bad one", producer="bad"),
        strict.task("good"),
        strict.task("bad two", producer="bad"),
    ]
    for write in (strict.insert, strict.upsert):
        with pytest.raises(InternalError) as caught:
            await write(*batch)
        detail = caught.value.detail
        assert "refused 2 of the tasks" in detail
        assert 'item 1 (task "bad one")' in detail
        assert 'item 3 (task "bad two")' in detail
        assert "there" not in detail.replace("the others", "")
    assert await strict.ids() == ["good", "there"]
    assert await strict.insert(strict.task("good"), strict.task("new")) == [False, True]


async def test_very_many_errors_are_cut_short(strict: Harness) -> None:
    with pytest.raises(InternalError, match="and 90 more"):
        await strict.insert(*(strict.task(f"{n}", producer="bad") for n in range(100)))


async def test_a_batch_with_a_task_that_cannot_be_stored_changes_nothing(harness: Harness) -> None:
    long = b'"' + b"x" * (17 * 1024 * 1024) + b'"'
    for payload, kind in ((b"[9223372036854775808]", BadRequest), (long, PayloadTooLarge)):
        for write in (harness.insert, harness.upsert):
            with pytest.raises(kind, match='task "2"'):
                await write(harness.task("1"), harness.task("2", payload=payload))
    assert await harness.ids() == []


async def test_a_commit_that_makes_a_task_too_large(harness: Harness) -> None:
    half = b'"' + b"x" * (9 * 1024 * 1024) + b'"'
    await harness.add("1", payload=half)
    with pytest.raises(PayloadTooLarge, match="16 MiB"):
        await harness.commit("1", result=half)
    assert (await harness.get("1")).result is None


async def test_the_same_id_put_by_two_at_once(proxied: Harness, between: Proxy) -> None:
    """The upserts meet, and the database refuses one as a duplicate: it is a replacement then."""
    refused = False

    def rule(command: dict[str, Any]) -> Fate | dict[str, Any]:
        nonlocal refused
        if name_of(command) == "update" and not refused:
            refused = True
            error = {"index": 0, "code": 11000, "errmsg": "duplicate key"}
            return {"ok": 1.0, "n": 0, "nModified": 0, "writeErrors": [error]}
        return Fate.PASS

    await proxied.add("1")
    between.rule = rule
    assert await proxied.upsert(proxied.task("1", producer="p")) == [False]
    assert (await proxied.get("1")).producer == "p"
