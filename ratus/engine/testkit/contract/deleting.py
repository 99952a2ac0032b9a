"""Deleting tasks, topics and everything."""

from __future__ import annotations

import pytest

from ratus.core.errors import Conflict, NotFound
from ratus.core.records import ACTIVE, ARCHIVED, COMPLETED, PENDING
from ratus.engine.testkit.base import EngineTests
from ratus.engine.testkit.harness import HOUR, SECOND, Harness


async def fill(harness: Harness) -> None:
    await harness.add("1", "2", "3")
    await harness.claim(limit=1)
    await harness.commit("2")
    await harness.add("4", topic="other")
    await harness.engine.set_paused("t", True)
    await harness.engine.set_paused("setting", True)


class DeletingTests(EngineTests):
    """Deleting tasks, topics and everything."""

    @pytest.mark.parametrize("state", [PENDING, ACTIVE, COMPLETED, ARCHIVED])
    async def test_a_task_in_any_state_is_deleted(self, harness: Harness, state: int) -> None:
        await harness.add("1", state=state)
        await harness.add("2")
        assert await harness.engine.delete_task("1") is True
        assert await harness.engine.delete_task("1") is False
        assert await harness.is_gone("1")
        assert await harness.ids() == ["2"]
        assert (await harness.info()).counts == (1, 0, 0, 0)

    async def test_what_was_deleted_is_forgotten_everywhere(self, harness: Harness) -> None:
        await harness.add("1", "2", "3", expires=harness.now + SECOND)
        claimed = await harness.claim_one(timeout=SECOND)
        await harness.commit("2")
        for name in "123":
            await harness.engine.delete_task(name)
        harness.now += HOUR
        assert await harness.engine.recover(harness.now) == 0
        assert await harness.engine.expire(harness.now) == 0
        assert await harness.engine.purge(harness.now) == 0
        assert await harness.claim() == []
        assert await harness.engine.next_due("t", harness.now) is None
        with pytest.raises(NotFound):
            await harness.commit("1", claimed.nonce)
        assert await harness.topics() == []

    async def test_a_task_that_comes_again_after_deletion_has_no_past(self, harness: Harness) -> None:
        await harness.add("1", error="boom", attempts=3)
        claimed = await harness.claim_one()
        await harness.engine.delete_task("1")
        await harness.add("1")
        task = await harness.get("1")
        assert (task.attempts, task.error, task.nonce) == (0, "", "")
        with pytest.raises(Conflict):
            await harness.commit("1", claimed.nonce)

    async def test_the_tasks_of_a_topic_are_deleted(self, harness: Harness) -> None:
        await fill(harness)
        assert await harness.engine.delete_tasks("t") == 3
        assert await harness.engine.delete_tasks("t") == 0
        assert await harness.engine.delete_tasks("missing") == 0
        assert [await harness.is_gone(name) for name in "1234"] == [True, True, True, False]
        info = await harness.info()
        assert (info.count, info.paused) == (0, True)
        assert await harness.topics() == ["other", "setting", "t"]

    async def test_a_topic_is_deleted_with_its_settings(self, harness: Harness) -> None:
        await fill(harness)
        assert await harness.engine.delete_topic("t") == 3
        assert await harness.engine.delete_topic("t") == 0
        assert await harness.engine.delete_topic("setting") == 0
        assert await harness.engine.delete_topic("missing") == 0
        assert await harness.topics() == ["other"]
        await harness.add("5")
        assert await harness.claim_ids() == ["5"]
        await harness.reopen()
        assert (await harness.info()).paused is False

    async def test_everything_is_deleted(self, harness: Harness) -> None:
        await fill(harness)
        assert await harness.engine.delete_topics() == 4
        assert await harness.engine.delete_topics() == 0
        assert await harness.topics() == []
        await harness.reopen()
        assert await harness.topics() == []
        await harness.add("1")
        assert await harness.claim_ids() == ["1"]

    @pytest.mark.parametrize("what", ["tasks", "topic", "topics"])
    async def test_very_many_are_deleted(self, harness: Harness, what: str) -> None:
        await harness.add(*(f"{n:04}" for n in range(1500)))
        await harness.add("other", topic="other")
        engine = harness.engine
        if what == "topics":
            assert await engine.delete_topics() == 1501
            assert await harness.topics() == []
        else:
            assert await (engine.delete_tasks("t") if what == "tasks" else engine.delete_topic("t")) == 1500
            assert await harness.topics() == ["other"]
