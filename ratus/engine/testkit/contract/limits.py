"""Limits: concurrency, rate and order, of a topic and per value of a label; and holds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from ratus.core.errors import Closed, Conflict
from ratus.core.records import RetryPolicy
from ratus.core.turns import Closing, Limits, PerLabel, Rate, Reason
from ratus.engine.testkit.base import EngineTests
from ratus.engine.testkit.contract.labels import labelled, where
from ratus.engine.testkit.contract.turns import add
from ratus.engine.testkit.harness import HOUR, MINUTE, SECOND, CountingObserver, Harness, RecordingListener

A_SECOND = Rate(1, SECOND)


async def limit(harness: Harness, topic: str = "t", **limits: Any) -> None:
    await harness.engine.change_settings(topic, limits=Limits(**limits))


async def per_customer(harness: Harness, **limits: Any) -> None:
    await limit(harness, per=PerLabel("customer", **limits))


async def reopens(harness: Harness, **chosen: Any) -> int:
    """When what is due reopens; it is closed by a rate or a hold."""
    with pytest.raises(Closed) as caught:
        await harness.claim(**chosen)
    return caught.value.reopens


async def active_per_customer(harness: Harness) -> dict[str | None, int]:
    lanes = await harness.engine.list_lanes("t", "customer", None, 100, harness.now)
    return {lane.value: lane.active for lane in lanes}


FREES: dict[str, Callable[[Harness, Any], Awaitable[object]]] = {
    "a commit": lambda h, task: h.commit(task.id, task.nonce),
    "a failure": lambda h, task: h.fail(task.id, task.nonce),
    "a forced commit": lambda h, task: h.commit(task.id),
    "archiving": lambda h, task: h.commit(task.id, task.nonce, state=3),
    "giving back": lambda h, task: h.commit(task.id, task.nonce, state=0, scheduled=h.now + HOUR),
    "a move to another topic": lambda h, task: h.commit(task.id, task.nonce, topic="u", state=1),
    "a release": lambda h, task: h.engine.release(task.id, h.now, task.nonce),
    "a release of the topic": lambda h, task: h.engine.release_topic("t", h.now),
    "a deletion": lambda h, task: h.engine.delete_task(task.id),
    "a replacement": lambda h, task: h.upsert(h.task(task.id, scheduled=h.now + HOUR)),
}
"""What ends the active state of a task, or its membership of the topic."""


class ConcurrencyTests(EngineTests):
    """Never more claims are out than the limit says, and every end of one frees its place."""

    async def test_no_more_are_handed_out_than_the_limit_says(self, harness: Harness) -> None:
        await add(harness, *(f"a{n}" for n in range(10)))
        await limit(harness, concurrency=3)
        tasks = await harness.claim(limit=10)
        assert len(tasks) == 3
        assert await harness.claim(limit=10) == []
        await harness.commit(tasks[1].id, tasks[1].nonce)
        assert len(await harness.claim(limit=10)) == 1
        assert await harness.claim() == []

    @pytest.mark.parametrize("how", FREES)
    async def test_a_place_is_freed(self, harness: Harness, how: str) -> None:
        await add(harness, "a1", "a2", "a3")
        await limit(harness, concurrency=1)
        task = await harness.claim_one()
        assert await harness.claim() == []
        await FREES[how](harness, task)
        assert len(await harness.claim(limit=5)) == 1
        assert await harness.claim() == []

    @pytest.mark.parametrize("how", FREES)
    async def test_a_place_of_a_label_is_freed(self, harness: Harness, how: str) -> None:
        await add(harness, "a1", "a2", "a3", "b1")
        await per_customer(harness, concurrency=1)
        first, second = await harness.claim(limit=9)
        assert (first.id, second.id) == ("a1", "b1")
        assert await harness.claim() == []
        await FREES[how](harness, first)
        assert [task.id[0] for task in await harness.claim(limit=1)] == ["a"]
        assert (await active_per_customer(harness))["a"] == 1

    async def test_a_lapse_frees_the_place_once_it_is_noticed(self, harness: Harness) -> None:
        await add(harness, "a1", "a2")
        await limit(harness, concurrency=1, per=PerLabel("customer", concurrency=1))
        await harness.claim_one(timeout=MINUTE)
        harness.now += MINUTE
        assert await harness.claim_ids() == ["a1"]
        harness.now += HOUR
        await harness.engine.recover(harness.now)
        assert await harness.claim_ids() == ["a1"]

    async def test_an_extension_keeps_the_place(self, harness: Harness) -> None:
        await add(harness, "a1", "a2")
        await limit(harness, concurrency=1)
        task = await harness.claim_one(timeout=MINUTE)
        await harness.engine.extend(task.id, task.nonce, harness.now + HOUR, harness.now)
        harness.now += MINUTE
        assert await harness.claim() == []

    async def test_concurrency_per_value(self, harness: Harness) -> None:
        await add(harness, "a1", "a2", "a3", "a4", "b1", "-1", "-2", "-3")
        await per_customer(harness, concurrency=2)
        tasks = await harness.claim(limit=100)
        assert [task.id for task in tasks] == ["a1", "b1", "-1", "a2", "-2"]
        assert await active_per_customer(harness) == {"a": 2, "b": 1, None: 2}
        await harness.commit("-1", tasks[2].nonce)
        assert await harness.claim_ids() == ["-3"]

    async def test_limits_of_topic_and_value_together(self, harness: Harness) -> None:
        await add(harness, "a1", "a2", "b1", "b2", "c1", "c2")
        await limit(harness, concurrency=3, per=PerLabel("customer", concurrency=1))
        assert await harness.claim_ids() == ["a1", "b1", "c1"]

    async def test_claims_by_id_ignore_limits_and_count(self, harness: Harness) -> None:
        await add(harness, "a1", "a2", "a3", "b1")
        await limit(harness, concurrency=2, per=PerLabel("customer", concurrency=1))
        for task_id in ("a1", "a2"):
            await harness.claim_task(task_id)
        assert await harness.claim() == []
        assert await active_per_customer(harness) == {"a": 2, "b": 0}
        await harness.commit("a1")
        assert await harness.claim_ids() == ["b1"]
        await harness.claim_task("a2", force=True)  # over the old claim: one place all the same
        assert (await active_per_customer(harness))["a"] == 1

    async def test_copies_of_active_tasks_take_places(self, harness: Harness) -> None:
        await add(harness, "a1", "a2")
        await limit(harness, concurrency=1)
        await harness.insert(
            labelled(harness, "a0", b'{"customer":"a"}', state=1, nonce="A" * 16, deadline=harness.now + HOUR)
        )
        assert await harness.claim() == []
        await harness.commit("a0", "A" * 16)
        assert await harness.claim_ids() == ["a1"]

    async def test_claims_from_before_the_limit_count(self, harness: Harness) -> None:
        await add(harness, "a1", "a2", "a3", "a4")
        tasks = await harness.claim(limit=2)
        await limit(harness, concurrency=2, per=PerLabel("customer", concurrency=2))
        assert await harness.claim() == []
        await harness.commit(tasks[0].id, tasks[0].nonce)
        assert await harness.claim_ids() == ["a3"]

    async def test_lowering_a_limit_revokes_nothing(self, harness: Harness) -> None:
        await add(harness, *(f"a{n}" for n in range(9)))
        await limit(harness, concurrency=5)
        tasks = await harness.claim(limit=9)
        await limit(harness, concurrency=2)
        for task in tasks[:4]:
            assert await harness.claim() == []
            await harness.commit(task.id, task.nonce)
        assert len(await harness.claim(limit=9)) == 1

    async def test_null_takes_limits_away(self, harness: Harness) -> None:
        await add(harness, "a1", "a2", "a3")
        await limit(harness, concurrency=1)
        assert len(await harness.claim(limit=9)) == 1
        await harness.engine.change_settings("t", limits=None)
        assert len(await harness.claim(limit=9)) == 2
        assert (await harness.info()).limits is None

    async def test_limits_make_turns_by_their_label(self, harness: Harness) -> None:
        await add(harness, "a1", "a2", "a3", "b1", "b2")
        await per_customer(harness, concurrency=2)
        assert await harness.claim_ids() == ["a1", "b1", "a2", "b2"]

    async def test_then_by_the_label_that_is_preferred(self, harness: Harness) -> None:
        users = {"a1": "x", "a2": "x", "a3": "y", "b1": "x"}
        await harness.insert(
            *(
                labelled(harness, name, b'{"customer":"%s","user":"%s"}' % (name[0].encode(), user.encode()))
                for name, user in users.items()
            )
        )
        await per_customer(harness, concurrency=2)
        assert await harness.claim_ids(prefer=("user",)) == ["a1", "b1", "a3"]

    async def test_where_on_the_same_label(self, harness: Harness) -> None:
        await add(harness, "a1", "a2", "b1", "b2", "c1")
        await per_customer(harness, concurrency=1)
        assert await harness.claim_ids(where=where("customer", "a", "b")) == ["a1", "b1"]
        assert await harness.claim_ids(where=where("customer", "a", "b")) == []
        assert await harness.claim_ids() == ["c1"]

    async def test_where_on_another_label(self, harness: Harness) -> None:
        regions = {"a1": "eu", "a2": "eu", "a3": "us", "b1": "us", "b2": "eu"}
        await harness.insert(
            *(
                labelled(harness, name, b'{"customer":"%s","r":"%s"}' % (name[0].encode(), region.encode()))
                for name, region in regions.items()
            )
        )
        await per_customer(harness, concurrency=1)
        assert await harness.claim_ids(where=where("r", "eu")) == ["a1", "b2"]
        assert await harness.claim_ids() == []

    async def test_limits_survive_a_restart(self, harness: Harness) -> None:
        if not harness.engine.traits.durable:
            pytest.skip("the engine does not promise to keep anything")
        await add(harness, "a1", "a2", "b1", "b2")
        await limit(harness, concurrency=3, per=PerLabel("customer", concurrency=1))
        assert await harness.claim_ids(limit=1) == ["a1"]
        await harness.reopen()
        assert (await harness.info()).limits == Limits(concurrency=3, per=PerLabel("customer", concurrency=1))
        assert await harness.claim_ids() == ["b1"]

    async def test_a_paused_topic_stays_paused_and_keeps_its_limits(self, harness: Harness) -> None:
        await add(harness, "a1", "a2")
        await limit(harness, concurrency=1)
        await harness.engine.set_paused("t", True)
        assert await harness.claim() == []
        info = await harness.info()
        assert (info.paused, info.limits, info.closed) == (
            True,
            Limits(concurrency=1),
            Closing(Reason.PAUSED),
        )
        await harness.engine.set_paused("t", False)
        assert len(await harness.claim(limit=9)) == 1

    async def test_a_topic_exists_while_it_has_limits(self, harness: Harness) -> None:
        await limit(harness, concurrency=1)
        assert await harness.topics() == ["t"]
        await harness.engine.change_settings("t", limits=None)
        assert await harness.topics() == []

    async def test_deleting_the_topic_takes_everything_away(self, harness: Harness) -> None:
        await add(harness, "a1")
        await limit(harness, rate=A_SECOND, per=PerLabel("customer", rate=A_SECOND))
        await harness.claim_one()
        await harness.engine.delete_topic("t")
        await add(harness, "a1", "a2")
        assert await harness.claim_ids() == ["a1", "a2"]

    async def test_what_is_shown_of_a_full_topic(self, harness: Harness) -> None:
        await add(harness, "a1", "a2")
        await limit(harness, concurrency=1)
        assert (await harness.info()).closed is None
        await harness.claim_one()
        assert (await harness.info()).closed == Closing(Reason.CONCURRENCY)


class RateTests(EngineTests):
    """A rate spreads claims evenly; what is saved up is a burst."""

    async def test_the_next_is_allowed_a_step_after_the_last(self, harness: Harness) -> None:
        await add(harness, "a1", "a2", "a3")
        await limit(harness, rate=Rate(2, 10 * SECOND))
        assert await harness.claim_ids() == ["a1"]
        assert await reopens(harness) == harness.now + 5 * SECOND
        harness.now += 5 * SECOND - 1000
        assert await reopens(harness) == harness.now + 1000
        harness.now += 1000
        assert await harness.claim_ids() == ["a2"]
        harness.now += MINUTE
        assert await harness.claim_ids() == ["a3"]

    async def test_a_burst_is_saved_up(self, harness: Harness) -> None:
        await add(harness, *(f"a{n}" for n in range(20)))
        await limit(harness, rate=Rate(4, 4 * SECOND, 3))
        assert len(await harness.claim(limit=20)) == 3
        harness.now += SECOND
        assert len(await harness.claim(limit=20)) == 1
        harness.now += HOUR
        assert len(await harness.claim(limit=20)) == 3

    async def test_no_window_holds_more_than_the_contract_says(self, harness: Harness) -> None:
        await add(harness, *(f"a{n}" for n in range(60)))
        rate = Rate(3, 3 * SECOND, 2)
        await limit(harness, rate=rate)
        times: list[int] = []
        for step in range(40):
            try:
                times += [harness.now for _ in await harness.claim(limit=9)]
            except Closed:
                pass
            harness.now += (step % 4) * SECOND // 4
        for start in times:
            assert sum(start <= time < start + rate.period for time in times) <= rate.count + rate.burst - 1

    async def test_giving_back_does_not_give_the_claim_back(self, harness: Harness) -> None:
        await add(harness, "a1")
        await limit(harness, rate=A_SECOND)
        task = await harness.claim_one()
        assert await harness.engine.release(task.id, harness.now, task.nonce)
        assert await reopens(harness) == harness.now + SECOND

    async def test_claims_by_id_count(self, harness: Harness) -> None:
        await add(harness, "a1", "a2")
        await limit(harness, rate=A_SECOND)
        await harness.claim_task("a1")
        await harness.claim_task("a1", force=True)
        for _ in range(2):  # a burst at a time
            assert await reopens(harness) == harness.now + SECOND
            harness.now += SECOND
        assert await harness.claim_ids() == ["a2"]

    async def test_rate_per_value(self, harness: Harness) -> None:
        await add(harness, "a1", "a2", "b1", "b2")
        await per_customer(harness, rate=A_SECOND)
        assert await harness.claim_ids() == ["a1", "b1"]
        assert await reopens(harness) == harness.now + SECOND
        harness.now += SECOND // 2
        await add(harness, "c1", "c2")
        assert await harness.claim_ids() == ["c1"]
        harness.now += SECOND // 2
        assert await harness.claim_ids() == ["a2", "b2"]

    async def test_a_rate_is_remembered_without_tasks(self, harness: Harness) -> None:
        await add(harness, "a1")
        await per_customer(harness, rate=Rate(1, MINUTE))
        task = await harness.claim_one()
        await harness.commit(task.id, task.nonce)
        await harness.engine.delete_tasks("t")
        lanes = await harness.engine.list_lanes("t", "customer", None, 9, harness.now)
        assert [(lane.value, lane.active, lane.pending) for lane in lanes] == [("a", 0, 0)]
        assert lanes[0].closed == Closing(Reason.RATE, harness.now + MINUTE)
        await add(harness, "a2")
        assert await reopens(harness) == harness.now + MINUTE
        harness.now += MINUTE
        assert await harness.claim_ids() == ["a2"]
        await harness.engine.delete_tasks("t")
        harness.now += MINUTE
        assert await harness.engine.list_lanes("t", "customer", None, 9, harness.now) == []

    async def test_a_claim_that_one_limit_refuses_uses_up_no_other(self, harness: Harness) -> None:
        await add(harness, "a1", "a2")
        await limit(harness, rate=Rate(1, MINUTE, 1), per=PerLabel("customer", concurrency=1))
        await harness.claim_task("a1")
        harness.now += MINUTE
        for _ in range(3):
            assert await harness.claim() == []
        await add(harness, "b1")
        assert await harness.claim_ids() == ["b1"]

    async def test_the_first_to_reopen_of_several(self, harness: Harness) -> None:
        await add(harness, "a1", "a2", "b1", "b2")
        await per_customer(harness, rate=Rate(1, MINUTE))
        assert await harness.claim_ids(limit=1) == ["a1"]
        harness.now += SECOND
        assert await harness.claim_ids(limit=1) == ["b1"]
        assert await reopens(harness) == harness.now + MINUTE - SECOND
        assert await reopens(harness, where=where("customer", "b")) == harness.now + MINUTE

    async def test_what_is_closed_is_only_said_of_what_is_due(self, harness: Harness) -> None:
        await limit(harness, rate=Rate(1, MINUTE))
        await add(harness, "a1")
        await harness.claim_one()
        assert await harness.claim() == []
        await add(harness, "a2", scheduled=harness.now + SECOND)
        assert await harness.claim() == []
        await add(harness, "b1")
        assert await harness.claim(where=where("customer", "c")) == []
        assert await reopens(harness) == harness.now + MINUTE

    async def test_another_topic_is_claimed_instead(self, harness: Harness) -> None:
        await add(harness, "a1", "a2")
        await harness.add("u1", topic="u")
        await limit(harness, rate=A_SECOND)
        assert await harness.claim_ids("t", "u") == ["a1", "u1"]
        with pytest.raises(Closed):
            await harness.claim("t", "u")

    async def test_after_the_clock_was_set_back_nothing_waits_for_long(self, harness: Harness) -> None:
        await add(harness, "a1", "a2")
        await limit(harness, rate=Rate(1, MINUTE))
        await harness.claim_one()
        harness.now -= HOUR
        assert await reopens(harness) == harness.now + MINUTE
        harness.now += MINUTE
        assert await harness.claim_ids() == ["a2"]

    async def test_a_rate_of_a_value_after_the_clock_was_set_back(self, harness: Harness) -> None:
        await add(harness, "a1", "a2")
        await per_customer(harness, rate=Rate(1, MINUTE))
        await harness.claim_one()
        harness.now -= HOUR
        assert await reopens(harness) == harness.now + MINUTE
        harness.now += MINUTE
        assert await harness.claim_ids() == ["a2"]

    async def test_it_survives_a_restart(self, harness: Harness) -> None:
        if not harness.engine.traits.durable:
            pytest.skip("the engine does not promise to keep anything")
        await add(harness, "a1", "a2", "b1")
        await limit(harness, rate=Rate(2, 2 * MINUTE, 2), per=PerLabel("customer", rate=Rate(1, HOUR)))
        assert await harness.claim_ids(limit=1) == ["a1"]
        await harness.reopen()
        assert await harness.claim_ids() == ["b1"]
        assert await reopens(harness) == harness.now + MINUTE
        harness.now += MINUTE
        assert await reopens(harness) == harness.now + HOUR - MINUTE

    async def test_what_is_shown_of_a_rate(self, harness: Harness) -> None:
        await add(harness, "a1")
        await limit(harness, rate=A_SECOND)
        await harness.claim_one()
        assert (await harness.info()).closed == Closing(Reason.RATE, harness.now + SECOND)
        harness.now += SECOND
        assert (await harness.info()).closed is None


class OrderedTests(EngineTests):
    """The tasks of a value strictly one after the other, in order of creation."""

    async def test_one_after_the_other_by_creation(self, harness: Harness) -> None:
        await add(harness, "a1", "b1")
        await add(harness, "a2", priority=9)
        await add(harness, "a3", scheduled=harness.now - HOUR)
        await per_customer(harness, ordered=True)
        order = []
        while tasks := await harness.claim(limit=9):
            assert len({task.id[0] for task in tasks}) == len(tasks)
            order += [task.id for task in tasks]
            assert await harness.claim() == []
            for task in tasks:
                await harness.commit(task.id, task.nonce)
        assert order == ["a1", "b1", "a2", "a3"]

    async def test_the_first_holds_up_those_behind_it(self, harness: Harness) -> None:
        await add(harness, "a1", retry=RetryPolicy(delay=MINUTE, jitter=0.0))
        await add(harness, "a2")
        await per_customer(harness, ordered=True)
        task = await harness.claim_one()
        await harness.fail(task.id, task.nonce)
        assert await harness.claim() == []
        lanes = await harness.engine.list_lanes("t", "customer", None, 9, harness.now)
        assert lanes[0].closed == Closing(Reason.ORDERED, harness.now + MINUTE)
        harness.now += MINUTE
        assert await harness.claim_ids() == ["a1"]
        await harness.commit("a1", state=3)
        assert await harness.claim_ids() == ["a2"]

    async def test_a_deleted_or_expired_first_lets_the_next_come(self, harness: Harness) -> None:
        await add(harness, "a1")
        await add(harness, "a2", expires=harness.now + SECOND)
        await add(harness, "a3")
        await per_customer(harness, ordered=True)
        await harness.engine.delete_task("a1")
        harness.now += SECOND
        assert await harness.claim_ids() == ["a3"]

    async def test_tasks_without_the_label_are_not_ordered(self, harness: Harness) -> None:
        await add(harness, "-1", "-2")
        await add(harness, "-3", priority=1)
        await per_customer(harness, ordered=True)
        assert await harness.claim_ids() == ["-3", "-1", "-2"]

    async def test_where_matches_only_the_first_of_each_value(self, harness: Harness) -> None:
        for name, region in {"a1": "eu", "a2": "us", "b1": "us"}.items():
            await harness.insert(
                labelled(harness, name, b'{"customer":"%s","r":"%s"}' % (name[0].encode(), region.encode()))
            )
        await per_customer(harness, ordered=True)
        assert await harness.claim_ids(where=where("r", "us")) == ["b1"]
        assert await harness.claim_ids(where=where("r", "eu")) == ["a1"]
        await harness.commit("a1")
        assert await harness.claim_ids(where=where("r", "us")) == ["a2"]

    async def test_a_replacement_keeps_its_place(self, harness: Harness) -> None:
        await add(harness, "a1", "a2")
        await per_customer(harness, ordered=True)
        await harness.upsert(labelled(harness, "a1", b'{"customer":"a"}', scheduled=harness.now + MINUTE))
        assert await harness.claim() == []
        harness.now += MINUTE
        assert await harness.claim_ids() == ["a1"]


class HoldTests(EngineTests):
    """A consumer that is refused by a third party holds what its task came from."""

    async def test_a_commit_holds_the_topic(self, harness: Harness) -> None:
        await add(harness, "a1", "b1", "b2")
        task = await harness.claim_one()
        await harness.commit(task.id, task.nonce, state=0, hold=MINUTE)
        assert await reopens(harness) == harness.now + MINUTE
        assert (await harness.info()).closed == Closing(Reason.HOLD, harness.now + MINUTE)
        harness.now += MINUTE
        assert await harness.claim_ids() == ["a1", "b1", "b2"]

    async def test_a_release_holds_the_value_where_limits_are_per_label(self, harness: Harness) -> None:
        await add(harness, "a1", "a2", "b1")
        await per_customer(harness, concurrency=5)
        task = await harness.claim_one()
        assert await harness.engine.release(task.id, harness.now, task.nonce, hold=MINUTE)
        assert await harness.claim_ids() == ["b1"]
        assert await reopens(harness) == harness.now + MINUTE
        harness.now += MINUTE
        assert await harness.claim_ids() == ["a1", "a2"]

    async def test_the_longest_wins(self, harness: Harness) -> None:
        await add(harness, "a1", "a2", "a3")
        first, second = await harness.claim(limit=2)
        await harness.commit(first.id, first.nonce, hold=HOUR)
        await harness.commit(second.id, second.nonce, hold=MINUTE)
        assert await reopens(harness) == harness.now + HOUR

    async def test_a_commit_that_is_refused_holds_nothing(self, harness: Harness) -> None:
        await add(harness, "a1", "a2")
        await harness.claim_one()
        with pytest.raises(Conflict):
            await harness.commit("a1", "Z" * 16, hold=MINUTE)
        assert not await harness.engine.release("a1", harness.now, "Z" * 16, hold=MINUTE)
        assert await harness.claim_ids() == ["a2"]

    async def test_what_is_held_is_where_the_task_was(self, harness: Harness) -> None:
        await add(harness, "a1", "a2")
        task = await harness.claim_one()
        await harness.commit(task.id, task.nonce, topic="u", state=0, hold=MINUTE)
        assert await harness.claim_ids("u") == ["a1"]
        assert await reopens(harness) == harness.now + MINUTE

    async def test_lifting_ends_all_holds_of_the_topic(self, harness: Harness) -> None:
        await add(harness, "a1", "a2", "b1")
        await harness.engine.lift_holds("t", harness.now)
        await per_customer(harness, concurrency=9)
        for task in await harness.claim(limit=3):
            await harness.commit(task.id, task.nonce, state=0, hold=HOUR)
        assert await reopens(harness) == harness.now + HOUR
        await harness.engine.lift_holds("t", harness.now)
        assert sorted(await harness.claim_ids()) == ["a1", "a2", "b1"]

    async def test_a_hold_outlives_the_tasks_and_a_restart(self, harness: Harness) -> None:
        if not harness.engine.traits.durable:
            pytest.skip("the engine does not promise to keep anything")
        await add(harness, "a1")
        task = await harness.claim_one()
        await harness.commit(task.id, task.nonce, hold=HOUR)
        await harness.engine.purge(harness.now)
        await harness.reopen()
        await add(harness, "a2")
        assert await reopens(harness) == harness.now + HOUR

    async def test_claims_by_id_ignore_holds(self, harness: Harness) -> None:
        await add(harness, "a1", "a2")
        task = await harness.claim_one()
        await harness.commit(task.id, task.nonce, hold=HOUR)
        assert (await harness.claim_task("a2")).id == "a2"


class WakingTests(EngineTests):
    """When a waiting claim has to look again: by the time, or by a notification."""

    async def test_a_full_topic_is_not_due_before_a_deadline(self, harness: Harness) -> None:
        await add(harness, "a1", "a2")
        await limit(harness, concurrency=1)
        await harness.claim_one(timeout=MINUTE)
        assert await harness.engine.next_due("t", harness.now) == harness.now + MINUTE

    async def test_a_full_value_is_not_due_before_a_deadline(self, harness: Harness) -> None:
        await add(harness, "a1", "a2")
        await per_customer(harness, concurrency=1)
        await harness.claim_one(timeout=MINUTE)
        due = await harness.engine.next_due("t", harness.now)
        assert due == harness.now + MINUTE

    async def test_a_rate_is_due_when_it_reopens(self, harness: Harness) -> None:
        await add(harness, "a1", "a2", "a3", "b1", "b2")
        await limit(harness, rate=A_SECOND)
        await harness.claim_one(timeout=HOUR)
        assert await harness.engine.next_due("t", harness.now) == harness.now + SECOND
        harness.now += SECOND
        await per_customer(harness, rate=A_SECOND)
        await harness.claim(limit=5, timeout=HOUR)
        assert await harness.engine.next_due("t", harness.now) == harness.now + SECOND
        due = await harness.engine.next_due("t", harness.now, where("customer", "a"))
        assert due is not None
        assert due <= harness.now + SECOND

    async def test_a_hold_is_due_when_it_ends(self, harness: Harness) -> None:
        await add(harness, "a1", "a2")
        task = await harness.claim_one()
        await harness.commit(task.id, task.nonce, hold=MINUTE)
        assert await harness.engine.next_due("t", harness.now) == harness.now + MINUTE

    async def test_an_ordered_value_is_due_when_its_first_is(self, harness: Harness) -> None:
        await add(harness, "a1", scheduled=harness.now + MINUTE)
        await add(harness, "a2")
        await per_customer(harness, ordered=True)
        due = await harness.engine.next_due("t", harness.now)
        assert due == harness.now + MINUTE

    @pytest.mark.parametrize("how", FREES)
    async def test_a_freed_place_is_notified(self, harness: Harness, how: str) -> None:
        await add(harness, "a1", "a2")
        await limit(harness, concurrency=1, per=PerLabel("customer", concurrency=1))
        task = await harness.claim_one()
        listener = harness.engine.listener = RecordingListener()
        await FREES[how](harness, task)
        assert "t" in listener.topics

    async def test_the_end_of_a_closing_is_notified(self, harness: Harness) -> None:
        await add(harness, "a1", "a2")
        await limit(harness, concurrency=1)
        task = await harness.claim_one()
        for limits in (Limits(concurrency=2), None):
            listener = harness.engine.listener = RecordingListener()
            await harness.engine.change_settings("t", limits=limits)
            assert "t" in listener.topics
        await harness.commit(task.id, task.nonce, hold=HOUR)
        listener = harness.engine.listener = RecordingListener()
        await harness.engine.lift_holds("t", harness.now)
        assert "t" in listener.topics

    async def test_the_observer_is_notified_of_refusals(self, harness: Harness) -> None:
        observer = harness.engine.observer = CountingObserver()
        await add(harness, "a1", "a2")
        await limit(harness, concurrency=1)
        await harness.claim_one()
        assert not observer.refusals
        await harness.claim()
        assert observer.refusals == {("t", "concurrency"): 1}
        await limit(harness, per=PerLabel("customer", rate=A_SECOND))
        await harness.claim_one()
        harness.engine.observer = observer = CountingObserver()
        await add(harness, "a3")
        with pytest.raises(Closed):
            await harness.claim()
        assert observer.refusals == {("t", "rate"): 1}
        harness.engine.observer = observer = CountingObserver()
        assert await harness.claim(where=where("customer", "b")) == []
        assert not observer.refusals
