"""Labels: lists and claims by them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ratus.core.records import Rare, TaskRecord
from ratus.core.selection import Where
from ratus.engine.testkit.base import EngineTests
from ratus.engine.testkit.harness import HOUR, MINUTE, SECOND, Harness

CUSTOMER = b'{"customer":"acme"}'


def labelled(harness: Harness, task_id: str, labels: bytes, **members: Any) -> TaskRecord:
    """A task with these labels."""
    return harness.task(task_id, rare=Rare(labels=labels), **members)


def where(label: str, *values: str) -> Where:
    return Where(label, values)


class LabelTests(EngineTests):
    """Tasks are found by each value of each label, whatever happens to them."""

    async def test_a_list_by_a_label_has_the_tasks_with_that_value(self, harness: Harness) -> None:
        await harness.insert(
            labelled(harness, "1", CUSTOMER),
            labelled(harness, "2", b'{"customer":"other"}'),
            harness.task("3"),
            labelled(harness, "4", b'{"customer":"acme","region":"eu"}'),
            labelled(harness, "5", CUSTOMER, topic="u"),
        )
        assert sorted(await harness.ids(labels=(("customer", "acme"),))) == ["1", "4"]
        assert await harness.ids(labels=(("customer", "acme"), ("region", "eu"))) == ["4"]
        assert await harness.ids(labels=(("customer", "acme"), ("region", "us"))) == []
        assert await harness.ids(labels=(("acme", "customer"),)) == []
        assert await harness.ids("u", labels=(("customer", "acme"),)) == ["5"]

    async def test_an_array_has_each_value_and_an_integer_is_its_text(self, harness: Harness) -> None:
        await harness.insert(
            labelled(harness, "1", b'{"n":["a",7,"a"]}'),
            labelled(harness, "2", b'{"n":7}'),
            labelled(harness, "3", b'{"n":"7"}'),
            labelled(harness, "4", b'{"n":["",-1]}'),
            labelled(harness, "5", b'{"n":[]}'),
        )
        assert sorted(await harness.ids(labels=(("n", "7"),))) == ["1", "2", "3"]
        assert await harness.ids(labels=(("n", "a"), ("n", "7"))) == ["1"]
        assert await harness.ids(labels=(("n", ""),)) == ["4"]
        assert await harness.ids(labels=(("n", "-1"),)) == ["4"]

    @pytest.mark.parametrize("value", ["", "a\x00b", "=", "a=b", "é", "\U0001f600", "x" * 256, "%", '"'])
    async def test_any_text_is_a_value(self, harness: Harness, value: str) -> None:
        await harness.insert(labelled(harness, "1", msgspec.json.encode({"a/b.c_d-e": value})))
        await harness.insert(labelled(harness, "2", b'{"a/b.c_d-e":"another"}'))
        assert await harness.ids(labels=(("a/b.c_d-e", value),)) == ["1"]
        assert await harness.claim_ids(where=where("a/b.c_d-e", value)) == ["1"]
        await harness.reopen()
        assert await harness.ids(labels=(("a/b.c_d-e", value),)) == ["1"]

    async def test_pages_by_label_with_other_filters(self, harness: Harness) -> None:
        await harness.insert(
            *(
                labelled(harness, f"{n:02}", CUSTOMER, state=(0, 3)[n % 2], producer="ab"[n % 3 == 0])
                for n in range(12)
            ),
            *(harness.task(f"other {n}") for n in range(12)),
        )
        pairs = (("customer", "acme"),)
        for limit in (1, 5, 100):
            assert sorted(await harness.ids(limit=limit, labels=pairs)) == [f"{n:02}" for n in range(12)]
            assert sorted(await harness.ids(limit=limit, labels=pairs, state=3, producer="b")) == ["03", "09"]

    async def test_labels_are_found_wherever_the_task_goes(self, harness: Harness) -> None:
        pairs = (("customer", "acme"),)
        await harness.insert(*(labelled(harness, str(n), CUSTOMER) for n in range(5)))
        (claimed,) = await harness.claim()
        assert sorted(await harness.ids(labels=pairs, state=1)) == [claimed.id]
        await harness.commit(claimed.id, claimed.nonce)
        assert await harness.ids(labels=pairs, state=2) == ["0"]
        await harness.commit("1", topic="u", state=0)
        await harness.engine.delete_task("2")
        await harness.upsert(harness.task("3"), labelled(harness, "4", b'{"customer":"other"}'))
        assert await harness.ids(labels=pairs) == ["0"]
        assert await harness.ids("u", labels=pairs) == ["1"]
        assert await harness.ids(labels=(("customer", "other"),)) == ["4"]
        await harness.upsert(labelled(harness, "3", CUSTOMER))
        assert sorted(await harness.ids(labels=pairs)) == ["0", "3"]
        await harness.engine.purge(harness.now)
        assert await harness.ids(labels=pairs) == ["3"]
        await harness.engine.delete_tasks("t")
        assert await harness.ids(labels=pairs) == []


class WhereTests(EngineTests):
    """``where`` and ``order`` of a claim."""

    async def test_only_tasks_that_match_in_the_order_of_claiming(self, harness: Harness) -> None:
        await harness.insert(
            harness.task("0", priority=9),
            labelled(harness, "1", CUSTOMER),
            labelled(harness, "2", b'{"customer":"other"}', priority=9),
            labelled(harness, "3", CUSTOMER, priority=1),
            labelled(harness, "4", b'{"customer":["third","acme"]}', scheduled=harness.now - HOUR),
            labelled(harness, "5", CUSTOMER, scheduled=harness.now + HOUR),
        )
        assert await harness.claim_ids(where=where("customer", "acme")) == ["3", "4", "1"]
        assert await harness.claim_ids(where=where("customer", "acme")) == []
        assert await harness.claim_ids(where=where("customer", "none")) == []
        harness.now += HOUR
        await harness.engine.recover(harness.now)
        assert await harness.claim_ids(limit=1, where=where("customer", "third")) == ["4"]

    async def test_several_values_are_one_line(self, harness: Harness) -> None:
        for number, value in enumerate(("a", "b", "c", "a", "b", "c")):
            await harness.insert(labelled(harness, str(number), b'{"l":"%s"}' % value.encode()))
        assert await harness.claim_ids(where=where("l", "c", "a")) == ["0", "2", "3", "5"]

    async def test_a_task_that_matches_twice_comes_once(self, harness: Harness) -> None:
        await harness.insert(labelled(harness, "1", b'{"l":["a","b"]}'), labelled(harness, "2", b'{"l":"b"}'))
        assert await harness.claim_ids(where=where("l", "a", "b")) == ["1", "2"]

    async def test_over_several_topics(self, harness: Harness) -> None:
        await harness.insert(
            harness.task("1", topic="a"),
            labelled(harness, "2", CUSTOMER, topic="b"),
            labelled(harness, "3", CUSTOMER, topic="a"),
        )
        assert await harness.claim_ids("a", "b", where=where("customer", "acme")) == ["3", "2"]

    async def test_newest_first_within_a_priority(self, harness: Harness) -> None:
        for number, (priority, minutes) in enumerate([(0, 0), (0, -1), (5, -5), (0, 0), (5, -2), (0, 1)]):
            await harness.insert(
                harness.task(str(number), priority=priority, scheduled=harness.now + minutes * MINUTE)
            )
        assert await harness.claim_ids(order="newest") == ["4", "2", "3", "0", "1"]

    async def test_newest_with_where(self, harness: Harness) -> None:
        for number in range(4):
            await harness.insert(labelled(harness, str(number), b'{"l":"%d"}' % (number % 2)))
            harness.now += SECOND
        assert await harness.claim_ids(order="newest", where=where("l", "0")) == ["2", "0"]

    async def test_random_gives_each_due_task_of_the_highest_priority_once(self, harness: Harness) -> None:
        await harness.insert(*(harness.task(str(n), priority=n // 10) for n in range(30)))
        await harness.insert(harness.task("later", priority=9, scheduled=harness.now + HOUR))
        found = [(await harness.claim(order="random"))[0].id for _ in range(30)]
        assert [sorted(found[n : n + 10]) for n in (0, 10, 20)] == [
            sorted(str(n) for n in range(start, start + 10)) for start in (20, 10, 0)
        ]
        assert await harness.claim(order="random") == []

    @pytest.mark.parametrize("order", ["newest", "random"])
    async def test_expired_tasks_are_archived_in_any_order(self, harness: Harness, order: str) -> None:
        await harness.insert(*(harness.task(str(n), expires=harness.now + SECOND) for n in range(5)))
        await harness.insert(harness.task("kept"))
        harness.now += SECOND
        assert await harness.claim_ids(order=order) == ["kept"]
        await harness.engine.expire(harness.now)
        assert (await harness.info()).counts == (0, 1, 0, 5)

    async def test_where_passes_over_expired_tasks(self, harness: Harness) -> None:
        await harness.insert(
            *(labelled(harness, str(n), CUSTOMER, expires=harness.now + SECOND) for n in range(5)),
            labelled(harness, "kept", CUSTOMER),
        )
        harness.now += SECOND
        assert await harness.claim_ids(limit=1, where=where("customer", "acme")) == ["kept"]

    async def test_where_takes_back_lapsed_claims(self, harness: Harness) -> None:
        await harness.insert(labelled(harness, "1", CUSTOMER))
        await harness.claim(where=where("customer", "acme"), timeout=SECOND)
        harness.now += SECOND
        assert await harness.claim_ids(where=where("customer", "acme")) == ["1"]

    async def test_next_due_of_what_matches(self, harness: Harness) -> None:
        await harness.insert(
            harness.task("0"),
            labelled(harness, "1", CUSTOMER, scheduled=harness.now + HOUR),
            labelled(harness, "2", b'{"customer":"other"}', scheduled=harness.now + MINUTE),
        )
        due = await harness.engine.next_due("t", harness.now, where("customer", "acme"))
        assert due is not None
        assert due <= harness.now + HOUR
        assert await harness.engine.next_due("t", harness.now) == harness.now
