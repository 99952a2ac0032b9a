"""The clock is set back: what was due when it came stays due, and what was not comes at its time."""

from __future__ import annotations

import pytest

from ratus.core.records import COMPLETED, PENDING, RetryPolicy
from tests.engines.contract.desk import HOUR, MILLISECOND, MINUTE, SECOND, Desk, members

pytestmark = pytest.mark.anyio

# Longer than any step: no claim lapses because of one.
LONG = 10_000 * HOUR


async def claimed(desk: Desk, limit: int = 1000) -> list[str]:
    return [task.id for task in await desk.claim(limit=limit, timeout=LONG)]


@pytest.mark.parametrize("back", [SECOND, HOUR, 1000 * HOUR])
async def test_what_was_due_when_it_came_stays_due(desk: Desk, back: int) -> None:
    await desk.add("first", "second")
    await desk.add("urgent", priority=1)
    await desk.add("before", scheduled=desk.now - 2 * back)
    await desk.add("later", scheduled=desk.now + MINUTE)
    start = desk.now
    desk.now -= back
    await desk.add("deferred", scheduled=desk.now + SECOND // 2)
    assert await claimed(desk, limit=1) == ["urgent"]
    assert await claimed(desk) == ["before", "first", "second"]
    assert await claimed(desk) == []
    desk.now += SECOND // 2
    assert await claimed(desk) == ["deferred"]
    desk.now = start + MINUTE - MILLISECOND
    assert await claimed(desk) == []
    desk.now = start + MINUTE
    assert await claimed(desk) == ["later"]


async def test_it_is_as_it_was_but_for_the_clock(desk: Desk) -> None:
    await desk.add("claimed", "deleted", "replaced", "left")
    before = {task_id: members(await desk.get(task_id)) for task_id in ("claimed", "left")}
    desk.now -= HOUR
    assert (await desk.info()).due == 4
    assert members(await desk.get("left")) == before["left"]
    assert await desk.engine.delete_task("deleted")
    assert await desk.upsert(desk.task("replaced", scheduled=desk.now + 10 * HOUR)) == [False]
    assert (await desk.info()).due == 2
    task = await desk.claim_one(timeout=LONG)
    assert (task.id, task.scheduled) == ("claimed", before["claimed"]["scheduled"])
    assert (await desk.commit("claimed", task.nonce)).state == COMPLETED
    info = await desk.info()
    assert (info.due, info.counts) == (1, (2, 0, 1, 0))
    assert info.oldest == before["left"]["scheduled"]
    assert await claimed(desk) == ["left"]
    assert (await desk.info()).due == 0


async def test_a_task_that_is_tried_again_waits_for_its_backoff(desk: Desk) -> None:
    await desk.add("1", retry=RetryPolicy(delay=10 * SECOND))
    desk.now -= HOUR
    task = await desk.claim_one(timeout=LONG)
    assert (await desk.fail("1", task.nonce)).state == PENDING
    assert await claimed(desk) == []
    desk.now += 10 * SECOND
    assert await claimed(desk) == ["1"]


async def test_back_and_forth(desk: Desk) -> None:
    start = desk.now
    for number, step in enumerate((0, -HOUR, 2 * HOUR, -3 * HOUR, -HOUR)):
        desk.now += step
        await desk.add(str(number))
    assert sorted(await claimed(desk)) == list("01234")
    desk.now = start + 10 * HOUR
    await desk.engine.maintain(desk.now)
    await desk.add("5")
    assert await claimed(desk) == ["5"]


async def test_in_many_topics_and_priorities(desk: Desk) -> None:
    for number in range(60):
        await desk.add(f"{number}", topic=f"t{number % 20}", priority=number % 3)
        await desk.add(f"later {number}", topic=f"t{number % 20}", scheduled=desk.now + MINUTE)
    desk.now -= HOUR
    for number in range(20):
        found = [task.id for task in await desk.claim(f"t{number}", limit=9, timeout=LONG)]
        assert sorted(found) == sorted(str(each) for each in range(60) if each % 20 == number)
