"""Records of the kinds that an engine keeps beside tasks: reading, compare-and-set, lists, what survives."""

from __future__ import annotations

import asyncio

import pytest
from msgspec import structs

from ratus.core.errors import Conflict
from ratus.core.kinds import TOPIC_SETTINGS
from ratus.core.records import Record, TopicInfo, TopicSettings
from ratus.core.turns import Closing, Reason
from ratus.engine.testkit.base import EngineTests
from ratus.engine.testkit.harness import Harness, RecordingListener
from ratus.engine.testkit.sample import FULL, SAMPLE, Sample

PAUSED = TopicSettings(paused=True)


async def read(harness: Harness, record_id: str = "1") -> Record[Sample] | None:
    return await harness.engine.get_record(SAMPLE, record_id)


async def put(
    harness: Harness, record_id: str = "1", members: Sample | None = FULL, expected: int | None = None
) -> int:
    return await harness.engine.put_record(SAMPLE, record_id, members, expected)


async def pages(harness: Harness, limit: int) -> list[str]:
    """The ids of all records, page after page."""
    found: list[str] = []
    while True:
        page = await harness.engine.list_records(SAMPLE, found[-1] if found else "", limit)
        assert len(page) <= limit
        found += [record.id for record in page]
        if len(page) < limit:
            return found


class RecordTests(EngineTests):
    """Records of the kinds that an engine keeps beside tasks."""

    async def test_there_is_none_before_one_is_put(self, harness: Harness) -> None:
        assert await read(harness) is None
        assert await harness.engine.list_records(SAMPLE, "", 10) == []
        assert await put(harness, members=None) == 0

    @pytest.mark.parametrize("members", [FULL, Sample(), Sample(json=b"null"), Sample(number=1)])
    async def test_a_record_comes_back_as_it_was_put(self, harness: Harness, members: Sample) -> None:
        version = await put(harness, members=members)
        assert version > 0
        for _ in range(2):
            assert await read(harness) == Record("1", version, members)
            assert await harness.engine.list_records(SAMPLE, "", 10) == [Record("1", version, members)]
            await harness.reopen()

    @pytest.mark.parametrize("name", structs.fields(Sample), ids=lambda field: field.name)
    async def test_a_replacement_brings_every_member(self, harness: Harness, name: structs.FieldInfo) -> None:
        await put(harness, members=FULL)
        less = structs.replace(FULL, **{name.name: name.default})
        version = await put(harness, members=less)
        assert await read(harness) == Record("1", version, less)

    async def test_a_record_is_created_once(self, harness: Harness) -> None:
        version = await put(harness, expected=0)
        with pytest.raises(Conflict):
            await put(harness, members=Sample(), expected=0)
        assert await read(harness) == Record("1", version, FULL)

    async def test_only_the_version_that_was_read_is_replaced(self, harness: Harness) -> None:
        first = await put(harness, members=Sample(number=1))
        second = await put(harness, members=Sample(number=2), expected=first)
        assert second != first
        for expected in (0, first, second + 1):
            with pytest.raises(Conflict):
                await put(harness, members=FULL, expected=expected)
            with pytest.raises(Conflict):
                await put(harness, members=None, expected=expected)
        assert await read(harness) == Record("1", second, Sample(number=2))

    async def test_what_is_not_there_has_no_version(self, harness: Harness) -> None:
        with pytest.raises(Conflict):
            await put(harness, expected=1)
        with pytest.raises(Conflict):
            await put(harness, members=None, expected=1)
        assert await put(harness, members=None, expected=0) == 0
        assert await read(harness) is None

    async def test_deleting_the_version_that_was_read(self, harness: Harness) -> None:
        version = await put(harness)
        assert await put(harness, members=None, expected=version) == 0
        assert await read(harness) is None
        assert await pages(harness, 10) == []

    async def test_without_a_version_whatever_there_is_goes(self, harness: Harness) -> None:
        await put(harness, members=Sample(number=1))
        await put(harness, members=FULL)
        record = await read(harness)
        assert record is not None
        assert record.members == FULL
        assert await put(harness, members=None) == 0
        assert await read(harness) is None

    async def test_a_version_is_never_given_twice(self, harness: Harness) -> None:
        given = set()
        for number in range(6):
            version = await put(harness, members=Sample(number=number % 2))
            assert version not in given
            given.add(version)
            if number % 3 == 1:
                await put(harness, members=None)
                await harness.reopen()
                with pytest.raises(Conflict):
                    await put(harness, expected=version)
        # A version is not given again even after everything was deleted.
        await put(harness, members=None)
        await harness.engine.delete_topics()
        await harness.reopen()
        await harness.reopen()
        assert await put(harness) not in given

    async def test_one_of_many_at_once_creates(self, harness: Harness) -> None:
        await self._one_of_many(harness, 0)

    async def test_one_of_many_at_once_replaces(self, harness: Harness) -> None:
        await self._one_of_many(harness, await put(harness))

    async def _one_of_many(self, harness: Harness, expected: int) -> None:
        engines = [harness.engine]
        if harness.engine.traits.shared:
            engines.append(await harness.start())
        answers = await asyncio.gather(
            *(
                engines[number % len(engines)].put_record(SAMPLE, "1", Sample(number=number), expected)
                for number in range(20)
            ),
            return_exceptions=True,
        )
        ((number, version),) = [
            (number, answer) for number, answer in enumerate(answers) if not isinstance(answer, BaseException)
        ]
        assert all(isinstance(each, Conflict) for each in answers if isinstance(each, BaseException))
        assert await read(harness) == Record("1", version, Sample(number=number))

    async def test_nothing_is_lost_between_writers_who_read_before(self, harness: Harness) -> None:
        await put(harness, members=Sample())

        async def add() -> None:
            while True:
                record = await read(harness)
                assert record is not None
                more = Sample(number=record.members.number + 1)
                try:
                    await put(harness, members=more, expected=record.version)
                except Conflict:
                    continue
                return

        await asyncio.gather(*(add() for _ in range(10)))
        record = await read(harness)
        assert record is not None
        assert record.members.number == 10

    async def test_whoever_puts_anyway_at_the_same_time_succeeds(self, harness: Harness) -> None:
        versions = await asyncio.gather(
            *(put(harness, members=Sample(number=number)) for number in range(20))
        )
        assert len(set(versions)) == 20
        record = await read(harness)
        assert record is not None
        assert versions[record.members.number] == record.version

    @pytest.mark.parametrize("limit", [1, 2, 3, 100])
    async def test_lists_are_in_the_order_of_ids(self, harness: Harness, limit: int) -> None:
        ids = [" ", "1", "10", "2", "A", "a", "a b", "aa", "z", "é", "日本", "\U0001f600", "\U0001f600a"]
        for record_id in reversed(ids):
            await put(harness, record_id, Sample(text=record_id))
        assert await pages(harness, limit) == sorted(ids)
        await put(harness, "aa", None)
        await put(harness, "ab")
        assert await pages(harness, limit) == sorted({*ids, "ab"} - {"aa"})
        await harness.reopen()
        assert await pages(harness, limit) == sorted({*ids, "ab"} - {"aa"})

    async def test_a_page_begins_behind_an_id_that_is_gone(self, harness: Harness) -> None:
        for record_id in "abc":
            await put(harness, record_id)
        await put(harness, "b", None)
        found = await harness.engine.list_records(SAMPLE, "b", 10)
        assert [record.id for record in found] == ["c"]

    async def test_kinds_have_nothing_to_do_with_each_other(self, harness: Harness) -> None:
        await harness.add("1", topic="1")
        await put(harness)
        assert await harness.engine.get_record(TOPIC_SETTINGS, "1") is None
        version = await harness.engine.put_record(TOPIC_SETTINGS, "1", PAUSED, 0)
        await put(harness, members=None)
        assert await harness.engine.get_record(TOPIC_SETTINGS, "1") == Record("1", version, PAUSED)
        assert await harness.engine.list_records(SAMPLE, "", 10) == []
        assert not await harness.is_gone("1")

    async def test_records_are_no_topics(self, harness: Harness) -> None:
        await put(harness)
        assert await harness.topics() == []
        await harness.engine.delete_topics()
        assert await read(harness) is not None

    async def test_many_survive_a_restart(self, harness: Harness) -> None:
        ids = [f"{number:03}" for number in range(300)]
        for record_id in ids:
            await put(harness, record_id, Sample(text=record_id))
        await harness.reopen()
        found = await harness.engine.list_records(SAMPLE, "", 1000)
        assert [(record.id, record.members.text) for record in found] == [(each, each) for each in ids]

    # ---- the settings of topics ----------------------------------------------------------------------

    async def test_pausing_is_a_record(self, harness: Harness) -> None:
        await harness.engine.set_paused("t", True)
        record = await harness.engine.get_record(TOPIC_SETTINGS, "t")
        assert record is not None
        assert record.members == PAUSED
        await harness.engine.set_paused("t", True)
        assert await harness.engine.get_record(TOPIC_SETTINGS, "t") == record
        await harness.engine.set_paused("t", False)
        assert await harness.engine.get_record(TOPIC_SETTINGS, "t") is None

    @pytest.mark.parametrize("deletes", ["delete_topic", "delete_topics"])
    async def test_settings_go_with_the_topic(self, harness: Harness, deletes: str) -> None:
        await harness.engine.set_paused("t", True)
        await (
            harness.engine.delete_topic("t") if deletes == "delete_topic" else harness.engine.delete_topics()
        )
        assert await harness.engine.get_record(TOPIC_SETTINGS, "t") is None
        assert await harness.topics() == []

    async def test_settings_that_are_put_are_in_force(self, harness: Harness) -> None:
        await harness.add("1")
        assert await harness.claim_ids("empty") == []
        version = await harness.engine.put_record(TOPIC_SETTINGS, "t", PAUSED, 0)
        assert await harness.claim() == []
        assert (await harness.info()).paused is True
        assert await harness.engine.next_due("t", harness.now) is None
        await harness.engine.put_record(TOPIC_SETTINGS, "empty", PAUSED)
        assert await harness.engine.get_topic("empty", harness.now) == TopicInfo(
            "empty", paused=True, closed=Closing(Reason.PAUSED)
        )
        with pytest.raises(Conflict):
            await harness.engine.put_record(TOPIC_SETTINGS, "t", None, version + 1)
        assert await harness.claim() == []
        listener = harness.engine.listener = RecordingListener()
        await harness.engine.put_record(TOPIC_SETTINGS, "t", None, version)
        assert "t" in listener.topics
        assert await harness.claim_ids() == ["1"]
