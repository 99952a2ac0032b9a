"""The clock is set back: what was due when it came stays due, and what was not comes at its time."""

from __future__ import annotations

import pytest

from ratus.core.records import COMPLETED, PENDING, RetryPolicy, TaskRecord
from ratus.engine.testkit.base import EngineTests
from ratus.engine.testkit.harness import HOUR, MILLISECOND, MINUTE, SECOND, Harness, members

# Longer than any step: no claim lapses because of one.
LONG = 10_000 * HOUR


async def claimed(harness: Harness, limit: int = 1000) -> list[str]:
    return [task.id for task in await harness.claim(limit=limit, timeout=LONG)]


ENDS = ["release", "release all", "commit", "lapse", "chore"]


async def end_claim(harness: Harness, task: TaskRecord, how: str) -> None:
    if how == "release":
        assert await harness.engine.release(task.id, harness.now, task.nonce)
    elif how == "release all":
        assert await harness.engine.release_topic(task.topic, harness.now) == 1
    elif how == "commit":
        assert (await harness.commit(task.id, task.nonce, state=PENDING)).state == PENDING
    else:
        assert task.deadline is not None
        harness.now = task.deadline
        if how == "chore":
            assert await harness.engine.recover(harness.now) == 1


class ClockBackTests(EngineTests):
    """The clock is set back: what was due when it came stays due, and what was not comes at its time."""

    @pytest.mark.parametrize("back", [SECOND, HOUR, 1000 * HOUR])
    async def test_what_was_due_when_it_came_stays_due_when_the_clock_is_set_back(
        self, harness: Harness, back: int
    ) -> None:
        await harness.add("first", "second")
        await harness.add("urgent", priority=1)
        await harness.add("before", scheduled=harness.now - 2 * back)
        await harness.add("later", scheduled=harness.now + MINUTE)
        start = harness.now
        harness.now -= back
        await harness.add("deferred", scheduled=harness.now + SECOND // 2)
        assert await claimed(harness, limit=1) == ["urgent"]
        assert await claimed(harness) == ["before", "first", "second"]
        assert await claimed(harness) == []
        harness.now += SECOND // 2
        assert await claimed(harness) == ["deferred"]
        harness.now = start + MINUTE - MILLISECOND
        assert await claimed(harness) == []
        harness.now = start + MINUTE
        assert await claimed(harness) == ["later"]

    async def test_a_clock_set_back_changes_no_task(self, harness: Harness) -> None:
        await harness.add("claimed", "deleted", "replaced", "left")
        before = {task_id: members(await harness.get(task_id)) for task_id in ("claimed", "left")}
        harness.now -= HOUR
        assert (await harness.info()).due == 4
        assert members(await harness.get("left")) == before["left"]
        assert await harness.engine.delete_task("deleted")
        assert await harness.upsert(harness.task("replaced", scheduled=harness.now + 10 * HOUR)) == [False]
        assert (await harness.info()).due == 2
        task = await harness.claim_one(timeout=LONG)
        assert (task.id, task.scheduled) == ("claimed", before["claimed"]["scheduled"])
        assert (await harness.commit("claimed", task.nonce)).state == COMPLETED
        info = await harness.info()
        assert (info.due, info.counts) == (1, (2, 0, 1, 0))
        assert info.oldest == before["left"]["scheduled"]
        assert await claimed(harness) == ["left"]
        assert (await harness.info()).due == 0

    async def test_a_task_that_is_tried_again_waits_for_its_backoff(self, harness: Harness) -> None:
        await harness.add("1", retry=RetryPolicy(delay=10 * SECOND))
        harness.now -= HOUR
        task = await harness.claim_one(timeout=LONG)
        assert (await harness.fail("1", task.nonce)).state == PENDING
        assert await claimed(harness) == []
        harness.now += 10 * SECOND
        assert await claimed(harness) == ["1"]

    @pytest.mark.parametrize("how", ENDS)
    async def test_a_task_is_due_again_after_the_clock_was_set_back_and_a_claim_ends(
        self, harness: Harness, how: str
    ) -> None:
        await harness.add("1")
        harness.now -= HOUR
        await end_claim(harness, await harness.claim_one(timeout=SECOND), how)
        assert (await harness.info()).due == (0 if how == "lapse" else 1)  # the lapse is not noticed yet
        assert await claimed(harness) == ["1"]
        assert await claimed(harness) == []

    @pytest.mark.parametrize("how", ENDS[:3])
    async def test_a_task_is_due_again_after_the_clock_was_set_back_during_its_claim(
        self, harness: Harness, how: str
    ) -> None:
        await harness.add("1", scheduled=harness.now + SECOND)
        harness.now += MINUTE
        task = await harness.claim_one(timeout=LONG)
        harness.now -= HOUR
        await end_claim(harness, task, how)
        assert (await harness.info()).due == 1
        assert await claimed(harness) == ["1"]
        assert await claimed(harness) == []

    @pytest.mark.parametrize("how", ENDS)
    @pytest.mark.parametrize("back", [0, HOUR])
    async def test_what_was_claimed_before_its_time_waits_for_it_again(
        self, harness: Harness, how: str, back: int
    ) -> None:
        await harness.add("1", scheduled=harness.now + MINUTE)
        harness.now -= back
        await end_claim(harness, await harness.claim_task("1", timeout=SECOND), how)
        assert await claimed(harness) == []
        harness.now += back + MINUTE
        assert await claimed(harness) == ["1"]

    async def test_a_clock_set_back_and_forth(self, harness: Harness) -> None:
        start = harness.now
        for number, step in enumerate((0, -HOUR, 2 * HOUR, -3 * HOUR, -HOUR)):
            harness.now += step
            await harness.add(str(number))
        assert sorted(await claimed(harness)) == list("01234")
        harness.now = start + 10 * HOUR
        await harness.engine.maintain(harness.now)
        await harness.add("5")
        assert await claimed(harness) == ["5"]

    async def test_a_clock_set_back_in_many_topics_and_priorities(self, harness: Harness) -> None:
        for number in range(60):
            await harness.add(f"{number}", topic=f"t{number % 20}", priority=number % 3)
            await harness.add(f"later {number}", topic=f"t{number % 20}", scheduled=harness.now + MINUTE)
        harness.now -= HOUR
        for number in range(20):
            found = [task.id for task in await harness.claim(f"t{number}", limit=9, timeout=LONG)]
            assert sorted(found) == sorted(str(each) for each in range(60) if each % 20 == number)
