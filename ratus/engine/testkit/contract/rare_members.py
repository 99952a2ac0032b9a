"""Members that few tasks have: kept like any other, through everything that happens to a task."""

from __future__ import annotations

import msgspec

from ratus.core.members import RARE, Stored
from ratus.core.records import Rare, TaskQuery
from ratus.engine.testkit.base import EngineTests
from ratus.engine.testkit.harness import HOUR, MINUTE, Harness, members

_VALUES = {
    Stored.JSON: b'{"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","baggage":"a"}'
}


def with_all() -> Rare:
    """All of them, each with a value."""
    return Rare(**{name: _VALUES[member.type.stored] for name, member in RARE.items() if member.type.stored})


class RareMemberTests(EngineTests):
    """Members that few tasks have: kept like any other, through everything that happens to a task."""

    async def test_they_come_back_as_they_were(self, harness: Harness) -> None:
        task = harness.task("1", payload=b"[1]", rare=with_all())
        assert await harness.insert(task) == [True]
        assert members(await harness.get("1"))["rare"] == task.rare
        (listed,) = (await harness.engine.list_tasks(TaskQuery("t", 10))).tasks
        assert listed.rare == task.rare
        await harness.reopen()
        assert members(await harness.get("1"))["rare"] == task.rare

    async def test_a_batch_may_have_some_with_and_some_without(self, harness: Harness) -> None:
        tasks = [harness.task(f"{n}", rare=with_all() if n % 3 == 0 else None) for n in range(12)]
        await harness.insert(*tasks)
        for task in tasks:
            assert (await harness.get(task.id)).rare == task.rare

    async def test_a_replacement_brings_its_own_or_none(self, harness: Harness) -> None:
        await harness.insert(harness.task("1"), harness.task("2", rare=with_all()))
        await harness.upsert(
            harness.task("1", rare=with_all()), harness.task("2"), harness.task("3", rare=with_all())
        )
        assert [(await harness.get(each)).rare for each in "123"] == [with_all(), None, with_all()]

    async def test_they_stay_through_claims_and_commits(self, harness: Harness) -> None:
        await harness.insert(harness.task("1", rare=with_all(), payload=b"1"))
        for _ in range(2):
            (claimed,) = await harness.claim("t")
            assert claimed.rare == with_all()
            harness.now += HOUR  # the claim lapses, and is made again
        await harness.engine.release_topic("t", harness.now)
        (claimed,) = await harness.claim("t")
        assert claimed.rare == with_all()
        committed = await harness.commit("1", nonce=claimed.nonce)
        assert committed.rare == with_all()
        harness.now += MINUTE
        await harness.reopen()
        assert (await harness.get("1")).rare == with_all()

    async def test_weight_is_at_least_what_they_take(self, harness: Harness) -> None:
        task, bare = harness.task("1", rare=with_all()), harness.task("1")
        assert task.weight() - bare.weight() >= sum(
            map(len, filter(None, msgspec.structs.astuple(with_all())))
        )
