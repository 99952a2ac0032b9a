"""Large numbers are kept, small ones counted."""

from __future__ import annotations

import pytest
from ratus_engines.mongodb import counts
from ratus_engines.mongodb.engine import MongodbEngine

from ratus.engine.testkit.harness import HOUR, Harness
from tests.engines.mongodb import servers

pytestmark = pytest.mark.anyio

EXACT = 20


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A number is large from here on."""
    monkeypatch.setattr(counts, "EXACT", EXACT)


async def test_up_to_a_number_every_change_shows(harness: Harness) -> None:
    await harness.add(*map(str, range(EXACT - 1)), scheduled=harness.now - HOUR)
    for count in range(1, 5):
        await harness.claim_one()
        info = await harness.info()
        assert info.counts == (EXACT - 1 - count, count, 0, 0)
        assert (info.due, info.oldest) == (EXACT - 1 - count, harness.now - HOUR)


async def test_beyond_it_the_first_number_is_right_and_then_kept(harness: Harness) -> None:
    await harness.add(*map(str, range(3 * EXACT)), scheduled=harness.now - HOUR)
    info = await harness.info()
    assert (info.counts, info.due, info.oldest) == ((3 * EXACT, 0, 0, 0), 3 * EXACT, harness.now - HOUR)
    await harness.claim_one()
    info = await harness.info()
    assert info.counts == (3 * EXACT, 1, 0, 0)  # the large one is of a moment ago, the small one of now
    engine = harness.engine
    assert isinstance(engine, MongodbEngine)
    for kept in engine._counts._kept.values():
        kept.made_at -= counts.LONGEST
    info = await harness.info()
    assert (info.counts, info.due) == ((3 * EXACT - 1, 1, 0, 0), 3 * EXACT - 1)


async def test_a_number_that_ages_is_counted_behind_the_scenes(harness: Harness) -> None:
    await harness.add(*map(str, range(2 * EXACT)))
    await harness.info()
    await harness.engine.delete_task("1")
    engine = harness.engine
    assert isinstance(engine, MongodbEngine)
    for kept in engine._counts._kept.values():
        kept.made_at -= 2 * counts.SHORTEST
    assert (await harness.info()).count == 2 * EXACT
    counting = [kept.counting for kept in engine._counts._kept.values() if kept.counting is not None]
    assert counting
    for task in counting:
        await task
    assert (await harness.info()).count == 2 * EXACT - 1


async def test_a_topic_that_shrinks_is_counted_again(harness: Harness, database: str) -> None:
    await harness.add(*map(str, range(2 * EXACT)))
    await harness.info()
    servers.shared_client()[database].tasks.delete_many({"_id": {"$ne": "7"}})
    assert (await harness.info()).counts == (1, 0, 0, 0)
