"""Records as documents, and the settings of topics that Ratus 0.1 wrote."""

from __future__ import annotations

from typing import Any

import pytest
from bson import Int64
from pymongo.collection import Collection

from ratus.core.errors import Conflict
from ratus.core.kinds import TOPIC_SETTINGS
from ratus.core.records import Record, TopicSettings
from ratus.engine.testkit.harness import Harness
from ratus.engine.testkit.sample import FULL, SAMPLE, Sample
from tests.engines.mongodb import servers
from tests.engines.mongodb.test_beside_go import date

pytestmark = pytest.mark.anyio

PAUSED = TopicSettings(paused=True)


def collection(database: str, name: str) -> Collection[dict[str, Any]]:
    return servers.shared_client()[database][name]


async def test_a_record_is_a_document_with_a_field_a_member(harness: Harness, database: str) -> None:
    version = await harness.engine.put_record(SAMPLE, "1", FULL)
    assert FULL.time is not None
    assert collection(database, "tasks_samples").find_one({}) == {
        "_id": "1",
        "version": Int64(version),
        "text": FULL.text,
        "number": Int64(FULL.number),
        "flag": True,
        "time": date(FULL.time).replace(tzinfo=None),
        "json": {"a": [1, None, "\0"], "b": {}},
        "policy": {"max_attempts": 3, "backoff": "linear", "delay": 1000, "jitter": 0.5},
    }
    version = await harness.engine.put_record(SAMPLE, "1", Sample())
    assert collection(database, "tasks_samples").find_one({}) == {"_id": "1", "version": Int64(version)}


@pytest.mark.parametrize("deletes", [False, True])
async def test_settings_without_a_version(harness: Harness, database: str, deletes: bool) -> None:
    """As Ratus 0.1 wrote them, which may be on the same database."""
    topics = collection(database, "tasks_topics")
    topics.insert_one({"_id": "t", "paused": True})
    await harness.add("1")
    assert await harness.claim() == []
    record = await harness.engine.get_record(TOPIC_SETTINGS, "t")
    assert record == Record("t", 1, PAUSED)
    assert await harness.engine.list_records(TOPIC_SETTINGS, "", 10) == [record]
    with pytest.raises(Conflict):
        await harness.engine.put_record(TOPIC_SETTINGS, "t", PAUSED, 0)
    if deletes:
        assert await harness.engine.put_record(TOPIC_SETTINGS, "t", None, 1) == 0
        assert topics.find_one({}) is None
        assert await harness.claim_ids() == ["1"]
    else:
        version = await harness.engine.put_record(TOPIC_SETTINGS, "t", PAUSED, 1)
        assert topics.find_one({}) == {"_id": "t", "paused": True, "version": Int64(version)}
        with pytest.raises(Conflict):
            await harness.engine.put_record(TOPIC_SETTINGS, "t", None, 1)


async def test_what_another_program_left_in_a_field(harness: Harness, database: str) -> None:
    collection(database, "tasks_samples").insert_one(
        {"_id": "1", "version": 7.0, "text": 5, "number": "many", "time": "noon", "more": [1]}
    )
    assert await harness.engine.get_record(SAMPLE, "1") == Record("1", 7, Sample(text="5"))
    assert await harness.engine.put_record(SAMPLE, "1", Sample(number=1), 7) > 7
