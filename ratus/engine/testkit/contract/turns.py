"""Turns: the values of a label take turns within a priority."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from ratus.core.records import TaskRecord
from ratus.engine.testkit.base import EngineTests
from ratus.engine.testkit.contract.labels import labelled, where
from ratus.engine.testkit.harness import HOUR, MINUTE, SECOND, Harness

TURNS = ("customer",)


async def add(harness: Harness, *ids: str, **members: Any) -> None:
    """Insert tasks; the customer is the first letter of the id, ``-`` for none."""
    await harness.insert(*(_task(harness, task_id, **members) for task_id in ids))


def _task(harness: Harness, task_id: str, **members: Any) -> TaskRecord:
    if task_id[0] == "-":
        return harness.task(task_id, **members)
    return labelled(harness, task_id, b'{"customer":"%s"}' % task_id[0].encode(), **members)


async def serve(harness: Harness, count: int, prefer: Sequence[str] = TURNS) -> list[str]:
    """Claim so many tasks one after the other, each completed before the next is claimed."""
    served = []
    for _ in range(count):
        for task in await harness.claim(prefer=tuple(prefer)):
            served.append(task.id)
            await harness.commit(task.id, task.nonce)
    return served


class TurnsTests(EngineTests):
    """The values of a label take turns within a priority."""

    async def test_values_take_turns(self, harness: Harness) -> None:
        await add(harness, "a1", "a2", "a3", "a4", "b1", "b2", "c1")
        assert await serve(harness, 8) == ["a1", "b1", "c1", "a2", "b2", "a3", "a4"]

    async def test_each_task_of_a_batch_is_a_turn(self, harness: Harness) -> None:
        await add(harness, "a1", "a2", "a3", "b1", "b2", "c1")
        assert await harness.claim_ids(prefer=TURNS) == ["a1", "b1", "c1", "a2", "b2", "a3"]

    async def test_the_value_with_the_fewest_active_tasks_goes_first(self, harness: Harness) -> None:
        await add(harness, "a1", "a2", "a3", "b1", "b2", "b3")
        tasks = await harness.claim(limit=4, prefer=TURNS)
        assert [task.id for task in tasks] == ["a1", "b1", "a2", "b2"]
        await harness.commit("b1", tasks[1].nonce)
        await harness.commit("b2", tasks[3].nonce)
        assert await harness.claim_ids(limit=2, prefer=TURNS) == ["b3", "a3"]

    async def test_claims_without_turns_count_as_well(self, harness: Harness) -> None:
        await add(harness, "a1", "a2", "a3", "b1", "b2", "b3")
        await harness.engine.list_lanes("t", "customer", None, 10, harness.now)
        for _ in range(2):
            task = await harness.claim_one()
            await harness.commit(task.id, task.nonce)
        await harness.claim_task("a3")
        assert await harness.claim_ids(limit=3, prefer=TURNS) == ["b1", "b2", "b3"]

    async def test_a_new_value_waits_for_those_that_were_served_before_it_came(
        self, harness: Harness
    ) -> None:
        await add(harness, "a1", "a2", "a3", "b1", "b2", "b3")
        assert await serve(harness, 3) == ["a1", "b1", "a2"]
        await add(harness, "c1", "c2")
        assert await serve(harness, 3) == ["b2", "a3", "c1"]

    async def test_a_value_that_comes_back_is_new(self, harness: Harness) -> None:
        await add(harness, "a1", "a2", "a3", "a4", "b1")
        assert await serve(harness, 2) == ["a1", "b1"]
        await serve(harness, 1)
        await add(harness, "b2")
        assert await serve(harness, 3) == ["a3", "b2", "a4"]

    async def test_a_trickle_waits_for_two_tasks_of_a_backlog_at_most(self, harness: Harness) -> None:
        await add(harness, *(f"a{n}" for n in range(60)))
        await add(harness, "b0")
        served: list[str] = []
        waited = 0
        for number in range(1, 20):
            while not served or not served[-1].startswith("b"):
                served += await serve(harness, 1)
                waited += 1
                assert waited <= 3, served
            served.append("done")
            waited = 0
            await add(harness, f"b{number}")
        turns = [task_id[0] for task_id in served if task_id != "done"]
        assert turns.count("a") >= len(turns) / 3

    async def test_priority_comes_before_turns(self, harness: Harness) -> None:
        await add(harness, "a1", "b1")
        await add(harness, "a5", "a6", "a7", priority=5)
        assert await serve(harness, 5) == ["a5", "a6", "a7", "b1", "a1"]

    async def test_tasks_without_the_label_are_one_value(self, harness: Harness) -> None:
        await add(harness, "-1", "-2", "-3", "a1", "a2")
        assert await serve(harness, 5) == ["-1", "a1", "-2", "a2", "-3"]

    async def test_an_array_counts_by_its_first_value(self, harness: Harness) -> None:
        await harness.insert(
            labelled(harness, "1", b'{"customer":["a","b"]}'),
            labelled(harness, "2", b'{"customer":["a"]}'),
            labelled(harness, "3", b'{"customer":["b","a"]}'),
            labelled(harness, "4", b'{"customer":[]}'),
            harness.task("5"),
        )
        assert await harness.claim_ids(prefer=TURNS) == ["1", "3", "4", "2", "5"]

    async def test_what_is_not_due_has_no_turn_yet(self, harness: Harness) -> None:
        await add(harness, "a1", scheduled=harness.now + MINUTE)
        await add(harness, "b1", "b2", "b3")
        await add(harness, "b9", priority=9, scheduled=harness.now + MINUTE)
        assert await serve(harness, 1) == ["b1"]
        harness.now += MINUTE
        assert await serve(harness, 4) == ["b9", "a1", "b2", "b3"]

    async def test_a_task_that_falls_due_behind_a_due_one_comes_first_by_its_priority(
        self, harness: Harness
    ) -> None:
        await add(harness, "a1", "b1")
        await add(harness, "c1", priority=1, scheduled=harness.now + SECOND)
        await add(harness, "b2", priority=2, scheduled=harness.now + 2 * SECOND)
        assert await serve(harness, 1) == ["a1"]
        harness.now += SECOND
        assert await serve(harness, 1) == ["c1"]
        harness.now += SECOND
        assert await serve(harness, 2) == ["b2", "b1"]

    async def test_within_a_value_tasks_go_in_the_order_chosen(self, harness: Harness) -> None:
        await add(harness, "a1", "a2", "b1", "b2")
        assert await harness.claim_ids(order="newest", prefer=TURNS) == ["a2", "b2", "a1", "b1"]

    async def test_a_second_name_decides_within_the_chosen_value(self, harness: Harness) -> None:
        labels = {"a1": "x", "a2": "x", "a3": "y", "b1": "x", "b2": "z", "a4": "z"}
        await harness.insert(
            *(
                labelled(harness, name, b'{"customer":"%s","user":"%s"}' % (name[0].encode(), user.encode()))
                for name, user in labels.items()
            )
        )
        found = await harness.claim_ids(prefer=("customer", "user"))
        # a: x is first in line; b: z was never served; a: y was made before z; b: x; …
        assert found == ["a1", "b2", "a3", "b1", "a4", "a2"]

    async def test_where_and_prefer_of_one_name(self, harness: Harness) -> None:
        await add(harness, "a1", "a2", "b1", "b2", "c1", "c2")
        found = await harness.claim_ids(where=where("customer", "c", "a"), prefer=TURNS)
        assert found == ["a1", "c1", "a2", "c2"]

    async def test_turns_are_over_one_topic(self, harness: Harness) -> None:
        await add(harness, "a1", "b1")
        await harness.insert(labelled(harness, "u1", b'{"customer":"a"}', topic="u"))
        assert await harness.claim_ids("u", prefer=TURNS) == ["u1"]
        assert await harness.claim_ids("t", limit=1, prefer=TURNS) == ["a1"]
        assert await harness.claim_ids("u", "t", prefer=TURNS) == ["b1"]

    async def test_moved_replaced_and_deleted_tasks(self, harness: Harness) -> None:
        await add(harness, "a1", "a2", "a3", "b1", "c1", "c2", "d1")
        await harness.engine.list_lanes("t", "customer", None, 10, harness.now)
        await harness.commit("b1", topic="u", state=0)
        await harness.engine.delete_task("d1")
        await harness.upsert(labelled(harness, "c1", b'{"customer":"e"}'))
        assert await serve(harness, 6) == ["a1", "c2", "c1", "a2", "a3"]
        assert await harness.claim_ids("u", prefer=TURNS) == ["b1"]

    async def test_lapsed_and_released_tasks_are_not_active_any_more(self, harness: Harness) -> None:
        await add(harness, "a1", "a2", "b1", "b2")
        first, second = await harness.claim(limit=2, prefer=TURNS, timeout=MINUTE)
        assert (first.id, second.id) == ("a1", "b1")
        assert await harness.engine.release("b1", harness.now, second.nonce)
        assert await harness.claim_ids(limit=1, prefer=TURNS) == ["b1"]
        harness.now += HOUR
        assert await harness.claim_ids(limit=1, prefer=TURNS) == ["a1"]

    async def test_copies_of_active_tasks_count(self, harness: Harness) -> None:
        await add(harness, "a1", "b1")
        await harness.insert(
            labelled(harness, "a0", b'{"customer":"a"}', state=1, nonce="A" * 16, deadline=harness.now + HOUR)
        )
        assert await harness.claim_ids(prefer=TURNS) == ["b1", "a1"]

    async def test_lanes_are_listed_in_order_of_values(self, harness: Harness) -> None:
        await add(harness, "c1", "a1", "a2", "-1", "b1")
        await harness.claim_task("a1")
        lanes = await harness.engine.list_lanes("t", "customer", None, 10, harness.now)
        assert [(lane.value, lane.active, lane.pending) for lane in lanes] == [
            ("a", 1, 1),
            ("b", 0, 1),
            ("c", 0, 1),
            (None, 0, 1),
        ]
        assert [lane.closed for lane in lanes] == [None] * 4
        pages = [
            [lane.value for lane in await harness.engine.list_lanes("t", "customer", after, 2, harness.now)]
            for after in (None, "a", "b", "c", "d")
        ]
        assert pages == [["a", "b"], ["b", "c"], ["c", None], [None], [None]]
        assert await harness.engine.list_lanes("none", "customer", None, 10, harness.now) == []

    async def test_lanes_that_are_gone_are_forgotten(self, harness: Harness) -> None:
        await add(harness, "a1")
        await harness.engine.list_lanes("t", "customer", None, 10, harness.now)
        for number in range(20):
            await harness.insert(labelled(harness, f"n{number}", b'{"customer":"%d"}' % number))
            await harness.engine.delete_task(f"n{number}")
        assert (await harness.info()).lanes == 1

    async def test_turns_go_on_after_a_restart(self, harness: Harness) -> None:
        if not harness.engine.traits.durable:
            pytest.skip("the engine does not promise to keep anything")
        await add(harness, "a1", "a2", "b1", "b2", "c1", "c2")
        assert await serve(harness, 2) == ["a1", "b1"]
        await harness.reopen()
        assert await serve(harness, 4) == ["c1", "a2", "b2", "c2"]

    async def test_after_the_clock_was_set_back_turns_go_on(self, harness: Harness) -> None:
        await add(harness, "a1", "a2", "b1", "b2")
        assert await serve(harness, 1) == ["a1"]
        harness.now -= HOUR
        assert await serve(harness, 3) == ["b1", "a2", "b2"]
