"""Topics: what is known of them, and pausing them."""

from __future__ import annotations

import pytest

from ratus.core.records import ACTIVE, ARCHIVED, COMPLETED, PENDING, TopicInfo
from ratus.core.turns import Closing, Reason
from ratus.engine.testkit.base import EngineTests
from ratus.engine.testkit.harness import HOUR, MINUTE, SECOND, Harness


class TopicTests(EngineTests):
    """Topics: what is known of them, and pausing them."""

    async def test_a_topic_exists_while_it_has_a_task(self, harness: Harness) -> None:
        assert await harness.engine.get_topic("t", harness.now) is None
        await harness.add("1")
        assert await harness.topics() == ["t"]
        await harness.engine.delete_task("1")
        assert await harness.engine.get_topic("t", harness.now) is None
        assert await harness.topics() == []

    async def test_asking_for_a_topic_makes_none(self, harness: Harness) -> None:
        await harness.claim()
        await harness.page()
        await harness.engine.next_due("t", harness.now)
        await harness.engine.get_topic("t", harness.now)
        await harness.engine.delete_tasks("t")
        await harness.engine.release_topic("t", harness.now)
        await harness.engine.set_paused("t", False)
        assert await harness.topics() == []

    async def test_a_topic_goes_with_its_last_task_to_another(self, harness: Harness) -> None:
        await harness.add("1", topic="a")
        await harness.commit("1", topic="b", state=PENDING)
        assert await harness.topics() == ["b"]
        await harness.upsert(harness.task("1", "c"))
        assert await harness.topics() == ["c"]

    async def test_topics_are_listed_by_the_page_in_a_fixed_order(self, harness: Harness) -> None:
        names = [f"topic {n}" for n in range(10)]
        for name in names:
            await harness.add(f"1 of {name}", f"2 of {name}", topic=name)
        whole = await harness.engine.list_topics(100, 0)
        assert sorted(whole) == names
        assert await harness.engine.list_topics(100, 0) == whole
        for limit in (1, 3, 10):
            for offset in range(12):
                assert await harness.engine.list_topics(limit, offset) == whole[offset : offset + limit]

    async def test_counts_by_state(self, harness: Harness) -> None:
        await harness.add("1", "2", "3", state=PENDING)
        await harness.add("4", "5", state=ACTIVE)
        await harness.add("6", state=COMPLETED)
        await harness.add("7", "8", "9", "10", state=ARCHIVED)
        await harness.add("11", topic="other")
        info = await harness.info()
        assert (info.name, info.counts, info.count) == ("t", (3, 2, 1, 4), 10)

    async def test_counts_are_right_after_every_transition(self, harness: Harness) -> None:
        await harness.add("1", "2", "3", expires=harness.now + HOUR)
        assert (await harness.info()).counts == (3, 0, 0, 0)
        one, two = await harness.claim(limit=2, timeout=MINUTE)
        assert (await harness.info()).counts == (1, 2, 0, 0)
        await harness.commit("1", one.nonce)
        assert (await harness.info()).counts == (1, 1, 1, 0)
        await harness.fail("2", two.nonce)
        assert (await harness.info()).counts == (2, 0, 1, 0)
        await harness.claim_task("3", timeout=MINUTE)
        assert (await harness.info()).counts == (1, 1, 1, 0)
        await harness.engine.extend("3", "", harness.now + 2 * MINUTE, harness.now)
        assert (await harness.info()).counts == (1, 1, 1, 0)
        await harness.engine.release("3", harness.now)
        assert (await harness.info()).counts == (2, 0, 1, 0)
        await harness.claim_task("3", timeout=MINUTE)
        harness.now += MINUTE
        await harness.engine.recover(harness.now)
        assert (await harness.info()).counts == (2, 0, 1, 0)
        await harness.upsert(harness.task("1", state=ARCHIVED))
        assert (await harness.info()).counts == (2, 0, 0, 1)
        await harness.commit("1", topic="other", state=PENDING)
        assert ((await harness.info()).counts, (await harness.info("other")).counts) == (
            (2, 0, 0, 0),
            (1, 0, 0, 0),
        )
        harness.now += HOUR
        assert await harness.engine.expire(harness.now) == 2
        assert (await harness.info()).counts == (0, 0, 0, 2)
        await harness.commit("2", state=COMPLETED)
        assert (await harness.info()).counts == (0, 0, 1, 1)
        assert await harness.engine.purge(harness.now) == 1
        assert (await harness.info()).counts == (0, 0, 0, 1)
        await harness.reopen()
        assert (await harness.info()).counts == (0, 0, 0, 1)
        await harness.engine.delete_tasks("t")
        assert await harness.topics() == ["other"]

    async def test_a_topic_knows_what_is_due_and_since_when(self, harness: Harness) -> None:
        await harness.add("1", scheduled=harness.now - MINUTE, priority=-9)
        await harness.add("2", scheduled=harness.now - SECOND, priority=9)
        await harness.add("3", scheduled=harness.now)
        await harness.add("4", scheduled=harness.now + SECOND)
        await harness.add("5", scheduled=harness.now - HOUR, state=ARCHIVED)
        await harness.add("6", scheduled=harness.now - HOUR, topic="other")
        info = await harness.info()
        assert (info.due, info.oldest) == (3, harness.now - MINUTE)
        harness.now += SECOND
        assert (await harness.info()).due == 4
        await harness.claim_task("1")
        info = await harness.info()
        assert (info.due, info.oldest) == (3, harness.now - 2 * SECOND)

    async def test_a_topic_in_which_nothing_is_due(self, harness: Harness) -> None:
        await harness.add("1", scheduled=harness.now + SECOND)
        await harness.add("2", state=COMPLETED)
        info = await harness.info()
        assert (info.due, info.oldest) == (0, None)

    async def test_a_setting_keeps_a_topic_without_tasks(self, harness: Harness) -> None:
        await harness.engine.set_paused("t", True)
        assert await harness.engine.get_topic("t", harness.now) == TopicInfo(
            "t", paused=True, closed=Closing(Reason.PAUSED)
        )
        assert await harness.topics() == ["t"]
        await harness.engine.set_paused("t", False)
        assert await harness.engine.get_topic("t", harness.now) is None
        assert await harness.topics() == []

    async def test_a_paused_topic_takes_inserts_and_commits(self, harness: Harness) -> None:
        await harness.add("1", "2")
        claimed = await harness.claim_one()
        await harness.engine.set_paused("t", True)
        await harness.add("3")
        assert (await harness.commit("1", claimed.nonce)).state == COMPLETED
        info = await harness.info()
        assert (info.counts, info.due, info.paused) == ((2, 0, 1, 0), 2, True)
        for name in "123":
            await harness.engine.delete_task(name)
        assert (await harness.info()).paused is True

    @pytest.mark.parametrize("times", [1, 2])
    async def test_pausing_and_resuming(self, harness: Harness, times: int) -> None:
        await harness.add("1")
        for paused in (True, False):
            for _ in range(times):
                await harness.engine.set_paused("t", paused)
            assert (await harness.info()).paused is paused
        assert await harness.claim_ids() == ["1"]

    async def test_pausing_one_topic_pauses_no_other(self, harness: Harness) -> None:
        await harness.add("1", topic="a")
        await harness.add("2", topic="b")
        await harness.engine.set_paused("a", True)
        assert (await harness.info("b")).paused is False
        assert await harness.claim_ids("a", "b") == ["2"]

    async def test_settings_survive_a_restart(self, harness: Harness) -> None:
        await harness.add("1")
        await harness.engine.set_paused("t", True)
        await harness.engine.set_paused("empty", True)
        await harness.engine.set_paused("resumed", True)
        await harness.engine.set_paused("resumed", False)
        await harness.reopen()
        assert await harness.topics() == ["empty", "t"]
        assert (await harness.info("empty")).paused is True
        assert await harness.claim() == []
        await harness.engine.set_paused("t", False)
        assert await harness.claim_ids() == ["1"]

    async def test_the_chores_care_for_paused_topics_too(self, harness: Harness) -> None:
        await harness.add("1", "2", "3", expires=harness.now + HOUR)
        await harness.claim(timeout=SECOND)
        await harness.commit("2")
        await harness.engine.set_paused("t", True)
        assert await harness.engine.recover(harness.now + SECOND) == 1
        assert await harness.engine.expire(harness.now + HOUR) == 2
        assert await harness.engine.purge(harness.now) == 1
        assert (await harness.info()).counts == (0, 0, 0, 2)
