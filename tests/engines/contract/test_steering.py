"""Topics: what is known of them, and pausing them."""

from __future__ import annotations

import pytest

from ratus.core.records import ACTIVE, ARCHIVED, COMPLETED, PENDING, TopicInfo
from tests.engines.contract.desk import HOUR, MINUTE, SECOND, Desk

pytestmark = pytest.mark.anyio


async def test_a_topic_exists_while_it_has_a_task(desk: Desk) -> None:
    assert await desk.engine.get_topic("t", desk.now) is None
    await desk.add("1")
    assert await desk.topics() == ["t"]
    await desk.engine.delete_task("1")
    assert await desk.engine.get_topic("t", desk.now) is None
    assert await desk.topics() == []


async def test_asking_makes_no_topic(desk: Desk) -> None:
    await desk.claim()
    await desk.page()
    await desk.engine.next_due("t")
    await desk.engine.get_topic("t", desk.now)
    await desk.engine.delete_tasks("t")
    await desk.engine.release_topic("t", desk.now)
    await desk.engine.set_paused("t", False)
    assert await desk.topics() == []


async def test_a_topic_goes_with_its_last_task_to_another(desk: Desk) -> None:
    await desk.add("1", topic="a")
    await desk.commit("1", topic="b", state=PENDING)
    assert await desk.topics() == ["b"]
    await desk.upsert(desk.task("1", "c"))
    assert await desk.topics() == ["c"]


async def test_topics_are_listed_by_the_page_in_a_fixed_order(desk: Desk) -> None:
    names = [f"topic {n}" for n in range(10)]
    for name in names:
        await desk.add(f"1 of {name}", f"2 of {name}", topic=name)
    whole = await desk.engine.list_topics(100, 0)
    assert sorted(whole) == names
    assert await desk.engine.list_topics(100, 0) == whole
    for limit in (1, 3, 10):
        for offset in range(12):
            assert await desk.engine.list_topics(limit, offset) == whole[offset : offset + limit]


async def test_counts_by_state(desk: Desk) -> None:
    await desk.add("1", "2", "3", state=PENDING)
    await desk.add("4", "5", state=ACTIVE)
    await desk.add("6", state=COMPLETED)
    await desk.add("7", "8", "9", "10", state=ARCHIVED)
    await desk.add("11", topic="other")
    info = await desk.info()
    assert (info.name, info.counts, info.count) == ("t", (3, 2, 1, 4), 10)


async def test_counts_are_right_after_every_transition(desk: Desk) -> None:
    await desk.add("1", "2", "3", expires=desk.now + HOUR)
    assert (await desk.info()).counts == (3, 0, 0, 0)
    one, two = await desk.claim(limit=2, timeout=MINUTE)
    assert (await desk.info()).counts == (1, 2, 0, 0)
    await desk.commit("1", one.nonce)
    assert (await desk.info()).counts == (1, 1, 1, 0)
    await desk.fail("2", two.nonce)
    assert (await desk.info()).counts == (2, 0, 1, 0)
    await desk.claim_task("3", timeout=MINUTE)
    assert (await desk.info()).counts == (1, 1, 1, 0)
    await desk.engine.extend("3", "", desk.now + 2 * MINUTE, desk.now)
    assert (await desk.info()).counts == (1, 1, 1, 0)
    await desk.engine.release("3", desk.now)
    assert (await desk.info()).counts == (2, 0, 1, 0)
    await desk.claim_task("3", timeout=MINUTE)
    desk.now += MINUTE
    await desk.engine.recover(desk.now)
    assert (await desk.info()).counts == (2, 0, 1, 0)
    await desk.upsert(desk.task("1", state=ARCHIVED))
    assert (await desk.info()).counts == (2, 0, 0, 1)
    await desk.commit("1", topic="other", state=PENDING)
    assert ((await desk.info()).counts, (await desk.info("other")).counts) == ((2, 0, 0, 0), (1, 0, 0, 0))
    desk.now += HOUR
    assert await desk.engine.expire(desk.now) == 2
    assert (await desk.info()).counts == (0, 0, 0, 2)
    await desk.commit("2", state=COMPLETED)
    assert (await desk.info()).counts == (0, 0, 1, 1)
    assert await desk.engine.purge(desk.now) == 1
    assert (await desk.info()).counts == (0, 0, 0, 1)
    await desk.reopen()
    assert (await desk.info()).counts == (0, 0, 0, 1)
    await desk.engine.delete_tasks("t")
    assert await desk.topics() == ["other"]


async def test_what_is_due_and_since_when(desk: Desk) -> None:
    await desk.add("1", scheduled=desk.now - MINUTE, priority=-9)
    await desk.add("2", scheduled=desk.now - SECOND, priority=9)
    await desk.add("3", scheduled=desk.now)
    await desk.add("4", scheduled=desk.now + SECOND)
    await desk.add("5", scheduled=desk.now - HOUR, state=ARCHIVED)
    await desk.add("6", scheduled=desk.now - HOUR, topic="other")
    info = await desk.info()
    assert (info.due, info.oldest) == (3, desk.now - MINUTE)
    desk.now += SECOND
    assert (await desk.info()).due == 4
    await desk.claim_task("1")
    info = await desk.info()
    assert (info.due, info.oldest) == (3, desk.now - 2 * SECOND)


async def test_nothing_is_due(desk: Desk) -> None:
    await desk.add("1", scheduled=desk.now + SECOND)
    await desk.add("2", state=COMPLETED)
    info = await desk.info()
    assert (info.due, info.oldest) == (0, None)


async def test_a_setting_keeps_a_topic_without_tasks(desk: Desk) -> None:
    await desk.engine.set_paused("t", True)
    assert await desk.engine.get_topic("t", desk.now) == TopicInfo("t", paused=True)
    assert await desk.topics() == ["t"]
    await desk.engine.set_paused("t", False)
    assert await desk.engine.get_topic("t", desk.now) is None
    assert await desk.topics() == []


async def test_a_paused_topic_takes_inserts_and_commits(desk: Desk) -> None:
    await desk.add("1", "2")
    claimed = await desk.claim_one()
    await desk.engine.set_paused("t", True)
    await desk.add("3")
    assert (await desk.commit("1", claimed.nonce)).state == COMPLETED
    info = await desk.info()
    assert (info.counts, info.due, info.paused) == ((2, 0, 1, 0), 2, True)
    for name in "123":
        await desk.engine.delete_task(name)
    assert (await desk.info()).paused is True


@pytest.mark.parametrize("times", [1, 2])
async def test_pausing_and_resuming(desk: Desk, times: int) -> None:
    await desk.add("1")
    for paused in (True, False):
        for _ in range(times):
            await desk.engine.set_paused("t", paused)
        assert (await desk.info()).paused is paused
    assert await desk.claim_ids() == ["1"]


async def test_pausing_one_topic_pauses_no_other(desk: Desk) -> None:
    await desk.add("1", topic="a")
    await desk.add("2", topic="b")
    await desk.engine.set_paused("a", True)
    assert (await desk.info("b")).paused is False
    assert await desk.claim_ids("a", "b") == ["2"]


async def test_settings_survive_a_restart(desk: Desk) -> None:
    await desk.add("1")
    await desk.engine.set_paused("t", True)
    await desk.engine.set_paused("empty", True)
    await desk.engine.set_paused("resumed", True)
    await desk.engine.set_paused("resumed", False)
    await desk.reopen()
    assert await desk.topics() == ["empty", "t"]
    assert (await desk.info("empty")).paused is True
    assert await desk.claim() == []
    await desk.engine.set_paused("t", False)
    assert await desk.claim_ids() == ["1"]


async def test_the_chores_care_for_paused_topics_too(desk: Desk) -> None:
    await desk.add("1", "2", "3", expires=desk.now + HOUR)
    await desk.claim(timeout=SECOND)
    await desk.commit("2")
    await desk.engine.set_paused("t", True)
    assert await desk.engine.recover(desk.now + SECOND) == 1
    assert await desk.engine.expire(desk.now + HOUR) == 2
    assert await desk.engine.purge(desk.now) == 1
    assert (await desk.info()).counts == (0, 0, 0, 2)
