"""Lists: a fixed order, filters, pages, and cursors that neither skip nor repeat a task that stays."""

from __future__ import annotations

from typing import Any

import pytest

from ratus.core.errors import BadRequest
from ratus.core.records import (
    ACTIVE,
    ARCHIVED,
    COMPLETED,
    EXPIRED,
    FAILED,
    MAX_PAGE_BYTES,
    PENDING,
    TaskQuery,
)
from ratus.engine.testkit.base import EngineTests
from ratus.engine.testkit.harness import HOUR, SECOND, Harness, members


async def fill(harness: Harness) -> None:
    """Tasks that differ in whatever can be filtered by."""
    await harness.add("pending", "pending too", producer="p1")
    await harness.add("pending elsewhere", topic="other", producer="p1")
    await harness.add("claimed", producer="p2", consumer="c1", state=ACTIVE)
    await harness.add("done", producer="p2", consumer="c1", state=COMPLETED)
    await harness.add("archived", producer="p1", consumer="c2", state=ARCHIVED)
    await harness.add("failed", producer="p1", consumer="c2", state=ARCHIVED, outcome=FAILED)
    await harness.add("expired", state=ARCHIVED, outcome=EXPIRED)


class ListingTests(EngineTests):
    """Lists: a fixed order, filters, pages, and cursors that neither skip nor repeat a task that stays."""

    async def test_the_list_of_a_topic_without_tasks(self, harness: Harness) -> None:
        await harness.add("1", topic="other")
        page = await harness.page()
        assert (list(page.tasks), page.next) == ([], None)

    async def test_a_list_has_the_whole_tasks_of_its_topic_only(self, harness: Harness) -> None:
        await harness.add("1", payload=b"[1]", priority=3, expires=harness.now + HOUR)
        await harness.add("2", topic="other")
        (task,) = (await harness.page()).tasks
        assert members(task) == members(await harness.get("1"))

    async def test_the_order_of_a_list_does_not_depend_on_what_happens_to_the_tasks(
        self, harness: Harness
    ) -> None:
        ids = [str(n) for n in range(12)]
        await harness.add(*ids)
        order = await harness.ids()
        assert sorted(order) == sorted(ids)
        await harness.claim_task("7")
        await harness.commit("3")
        await harness.commit("4", state=ARCHIVED)
        await harness.upsert(harness.task("0", priority=9, scheduled=0))
        await harness.commit("9", topic="other", state=PENDING)
        assert await harness.ids() == [name for name in order if name != "9"]
        await harness.commit("9", topic="t", state=PENDING)
        await harness.reopen()
        assert await harness.ids() == order

    @pytest.mark.parametrize("limit", [1, 2, 3, 7, 10, 11])
    async def test_pages_by_cursor_and_by_offset_are_the_same(self, harness: Harness, limit: int) -> None:
        await harness.add(*map(str, range(10)))
        whole = await harness.ids()
        assert len(whole) == 10
        assert await harness.ids(limit=limit) == whole
        for offset in range(12):
            page = await harness.page(limit=limit, offset=offset)
            assert [task.id for task in page.tasks] == whole[offset : offset + limit]
            assert page.next is not None or offset + limit >= 10

    async def test_an_offset_counts_from_the_cursor(self, harness: Harness) -> None:
        await harness.add(*map(str, range(10)))
        whole = await harness.ids()
        after = (await harness.page(limit=3)).next
        assert [task.id for task in (await harness.page(limit=2, offset=4, after=after)).tasks] == whole[7:9]

    async def test_the_end_of_a_list_has_no_next(self, harness: Harness) -> None:
        await harness.add("1", "2")
        assert (await harness.page(limit=3)).next is None
        assert (await harness.page(limit=3, offset=5)).next is None

    @pytest.mark.parametrize(
        ("filters", "expected"),
        [
            ({"state": PENDING}, {"pending", "pending too"}),
            ({"state": ACTIVE}, {"claimed"}),
            ({"state": COMPLETED}, {"done"}),
            ({"state": ARCHIVED}, {"archived", "failed", "expired"}),
            ({"state": ARCHIVED, "outcome": FAILED}, {"failed"}),
            ({"outcome": FAILED}, {"failed"}),
            ({"outcome": EXPIRED}, {"expired"}),
            ({"outcome": "other"}, set()),
            ({"outcome": ""}, {"pending", "pending too", "claimed", "done", "archived"}),
            ({"producer": "p1"}, {"pending", "pending too", "archived", "failed"}),
            ({"producer": ""}, {"expired"}),
            ({"producer": "p"}, set()),
            ({"consumer": "c1"}, {"claimed", "done"}),
            ({"consumer": ""}, {"pending", "pending too", "expired"}),
            ({"producer": "p1", "consumer": "c2", "outcome": ""}, {"archived"}),
            ({"state": PENDING, "consumer": "c1"}, set()),
        ],
    )
    async def test_lists_are_filtered(
        self, harness: Harness, filters: dict[str, Any], expected: set[str]
    ) -> None:
        await fill(harness)
        found = await harness.ids(**filters)
        assert (set(found), len(found)) == (expected, len(expected))
        assert await harness.ids(limit=1, **filters) == found
        assert [task.id for task in (await harness.page(offset=1, **filters)).tasks] == found[1:]

    async def test_a_filter_sees_the_task_as_it_is_now(self, harness: Harness) -> None:
        await harness.add("1")
        await harness.claim(consumer="me")
        assert await harness.ids(state=ACTIVE, consumer="me") == ["1"]
        await harness.commit("1")
        assert await harness.ids(state=ACTIVE) == []
        assert await harness.ids(state=COMPLETED, consumer="me") == ["1"]

    @pytest.mark.parametrize("filters", [{}, {"state": PENDING}, {"producer": "p"}])
    @pytest.mark.parametrize("limit", [1, 4, 5])
    async def test_a_cursor_neither_skips_nor_repeats_while_others_change(
        self, harness: Harness, limit: int, filters: dict[str, Any]
    ) -> None:
        await harness.add(*(f"{n:02}" for n in range(40)), producer="p")
        order = await harness.ids()
        # Tasks all over the list, which are deleted, moved to another topic, or leave the filters.
        deleted, moved, changed = order[3::8], order[5::8], order[6::8]
        stay = [name for name in order if name not in {*deleted, *moved, *changed}]
        found: list[str] = []
        after: str | None = None
        for number in range(100):
            page = await harness.page(limit=limit, after=after, **filters)
            found += [task.id for task in page.tasks]
            after = page.next
            if after is None:
                break
            if number < 5:
                await harness.engine.delete_task(deleted[number])
                await harness.commit(moved[number], topic="other", state=PENDING)
                await harness.claim_task(changed[number])
                # These tasks are replaced by ones that still match the filters.
                await harness.upsert(
                    *(harness.task(name, producer="p", priority=number) for name in stay[number::9])
                )
                await harness.insert(harness.task(f"new {number}", producer="p", scheduled=0))
        assert len(found) == len(set(found))
        assert [name for name in found if name in stay] == stay

    async def test_the_task_a_cursor_stands_on_may_go(self, harness: Harness) -> None:
        await harness.add(*map(str, range(6)))
        order = await harness.ids()
        page = await harness.page(limit=3)
        for name in order[:4]:
            await harness.engine.delete_task(name)
        assert [task.id for task in (await harness.page(after=page.next)).tasks] == order[4:]

    async def test_a_cursor_outlives_a_restart(self, harness: Harness) -> None:
        await harness.add(*map(str, range(6)))
        order = await harness.ids()
        after = (await harness.page(limit=2)).next
        await harness.reopen()
        assert [task.id for task in (await harness.page(after=after)).tasks] == order[2:]

    @pytest.mark.parametrize(
        "after", ["", "junk", "-1", "1.5", "9" * 100, "\u0661", "\0", "1\0", "{}", "\U0001f400", "x" * 5000]
    )
    async def test_a_cursor_from_elsewhere_is_refused(self, harness: Harness, after: str) -> None:
        await harness.add("1", "2")
        with pytest.raises(BadRequest):
            await harness.page(after=after)

    async def test_a_page_ends_early_when_it_grows_too_large(self, harness: Harness) -> None:
        size = 3 * 1024 * 1024
        payload = b'"' + b"x" * (size - 2) + b'"'
        for number in range(7):
            await harness.add(str(number), payload=payload)
        page = await harness.page()
        assert 1 <= len(page.tasks) <= MAX_PAGE_BYTES // size
        assert page.next is not None
        assert sorted(await harness.ids()) == [str(number) for number in range(7)]

    @pytest.mark.parametrize("filters", [{}, {"producer": "rare"}, {"state": COMPLETED}])
    async def test_a_long_list(self, harness: Harness, filters: dict[str, Any]) -> None:
        for start in range(0, 2000, 500):
            await harness.insert(
                *(
                    harness.task(
                        f"{n:04}",
                        producer="rare" if n % 97 == 0 else "common",
                        state=COMPLETED if n % 2 else PENDING,
                    )
                    for n in range(start, start + 500)
                )
            )
        expected = {
            f"{n:04}"
            for n in range(2000)
            if ("producer" not in filters or n % 97 == 0) and ("state" not in filters or n % 2)
        }
        found = await harness.ids(limit=100, **filters)
        assert (set(found), len(found)) == (expected, len(expected))
        page = await harness.engine.list_tasks(TaskQuery("t", 100, offset=len(found) - 10, **filters))
        assert [task.id for task in page.tasks] == found[-10:]

    async def test_tasks_that_lapsed_are_listed_as_they_are(self, harness: Harness) -> None:
        """Looking changes nothing; only a claim or the chore takes a lapsed claim back."""
        await harness.add("1")
        await harness.claim(timeout=SECOND)
        harness.now += HOUR
        assert await harness.ids(state=ACTIVE) == ["1"]
