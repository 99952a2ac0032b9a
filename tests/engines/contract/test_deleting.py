"""Deleting tasks, topics and everything."""

from __future__ import annotations

import pytest

from ratus.core.errors import Conflict, NotFound
from ratus.core.records import ACTIVE, ARCHIVED, COMPLETED, PENDING
from tests.engines.contract.desk import HOUR, SECOND, Desk

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("state", [PENDING, ACTIVE, COMPLETED, ARCHIVED])
async def test_a_task_in_any_state(desk: Desk, state: int) -> None:
    await desk.add("1", state=state)
    await desk.add("2")
    assert await desk.engine.delete_task("1") is True
    assert await desk.engine.delete_task("1") is False
    assert await desk.is_gone("1")
    assert await desk.ids() == ["2"]
    assert (await desk.info()).counts == (1, 0, 0, 0)


async def test_what_was_deleted_is_forgotten_everywhere(desk: Desk) -> None:
    await desk.add("1", "2", "3", expires=desk.now + SECOND)
    claimed = await desk.claim_one(timeout=SECOND)
    await desk.commit("2")
    for name in "123":
        await desk.engine.delete_task(name)
    desk.now += HOUR
    assert await desk.engine.recover(desk.now) == 0
    assert await desk.engine.expire(desk.now) == 0
    assert await desk.engine.purge(desk.now) == 0
    assert await desk.claim() == []
    assert await desk.engine.next_due("t") is None
    with pytest.raises(NotFound):
        await desk.commit("1", claimed.nonce)
    assert await desk.topics() == []


async def test_a_task_that_comes_again_has_no_past(desk: Desk) -> None:
    await desk.add("1", error="boom", attempts=3)
    claimed = await desk.claim_one()
    await desk.engine.delete_task("1")
    await desk.add("1")
    task = await desk.get("1")
    assert (task.attempts, task.error, task.nonce) == (0, "", "")
    with pytest.raises(Conflict):
        await desk.commit("1", claimed.nonce)


async def fill(desk: Desk) -> None:
    await desk.add("1", "2", "3")
    await desk.claim(limit=1)
    await desk.commit("2")
    await desk.add("4", topic="other")
    await desk.engine.set_paused("t", True)
    await desk.engine.set_paused("setting", True)


async def test_the_tasks_of_a_topic(desk: Desk) -> None:
    await fill(desk)
    assert await desk.engine.delete_tasks("t") == 3
    assert await desk.engine.delete_tasks("t") == 0
    assert await desk.engine.delete_tasks("missing") == 0
    assert [await desk.is_gone(name) for name in "1234"] == [True, True, True, False]
    info = await desk.info()
    assert (info.count, info.paused) == (0, True)
    assert await desk.topics() == ["other", "setting", "t"]


async def test_a_topic_with_its_settings(desk: Desk) -> None:
    await fill(desk)
    assert await desk.engine.delete_topic("t") == 3
    assert await desk.engine.delete_topic("t") == 0
    assert await desk.engine.delete_topic("setting") == 0
    assert await desk.engine.delete_topic("missing") == 0
    assert await desk.topics() == ["other"]
    await desk.add("5")
    assert await desk.claim_ids() == ["5"]
    await desk.reopen()
    assert (await desk.info()).paused is False


async def test_everything(desk: Desk) -> None:
    await fill(desk)
    assert await desk.engine.delete_topics() == 4
    assert await desk.engine.delete_topics() == 0
    assert await desk.topics() == []
    await desk.reopen()
    assert await desk.topics() == []
    await desk.add("1")
    assert await desk.claim_ids() == ["1"]


@pytest.mark.parametrize("what", ["tasks", "topic", "topics"])
async def test_very_many(desk: Desk, what: str) -> None:
    await desk.add(*(f"{n:04}" for n in range(1500)))
    await desk.add("other", topic="other")
    engine = desk.engine
    if what == "topics":
        assert await engine.delete_topics() == 1501
        assert await desk.topics() == []
    else:
        assert await (engine.delete_tasks("t") if what == "tasks" else engine.delete_topic("t")) == 1500
        assert await desk.topics() == ["other"]
