"""Every operation of an engine is measured, and stays what it is."""

from __future__ import annotations

import asyncio

import pytest
from ratus_engines.memdb.engine import MemdbEngine

from ratus.core.errors import Conflict, NotFound, ServiceUnavailable
from ratus.core.records import TaskRecord
from ratus.core.selection import Selection, Where
from ratus.engine import Engine
from ratus.metrics import Metrics, measure
from ratus.metrics.timing import OPERATIONS
from tests.metrics.scraping import values_of

pytestmark = pytest.mark.anyio

COUNT = "ratus_engine_duration_seconds_count"
ERRORS = "ratus_engine_errors_total"
CLAIM = Selection(("t",), 10)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


async def opened(metrics: Metrics, engine: MemdbEngine | None = None) -> MemdbEngine:
    made = measure(engine or MemdbEngine(), metrics)
    await made.open(0)
    return made


async def counts(metrics: Metrics, name: str) -> dict[str, float]:
    text = (await metrics.render()).decode()
    return {operation: value for (operation,), value in values_of(text, name, "operation").items()}


def test_what_an_engine_may_have_to_wait_for_is_measured() -> None:
    abstract = Engine.__abstractmethods__ - {"open", "close"}
    with_a_default = {"survey", "known_topics", "set_paused", "change_settings"}
    assert set(OPERATIONS) == abstract | with_a_default


async def test_an_operation_answers_as_before_and_is_counted(metrics: Metrics) -> None:
    engine = await opened(metrics)
    assert await engine.insert([TaskRecord("1", "t", 0, 0)], 0) == [True]
    (task,) = await engine.claim(CLAIM, 1)
    assert task.id == "1"
    assert (await engine.claim_task("1", CLAIM, 2, force=True)).attempts == 2
    assert await engine.claim(CLAIM, 3) == []
    assert await counts(metrics, COUNT) == {"insert": 1, "claim": 2, "claim_task": 1}
    assert set(await counts(metrics, ERRORS)) == set(OPERATIONS)
    assert not any((await counts(metrics, ERRORS)).values())


async def test_refusals_are_answers_and_not_errors_of_the_engine(metrics: Metrics) -> None:
    engine = await opened(metrics)
    await engine.insert([TaskRecord("1", "t", 0, 0)], 0)
    await engine.claim(CLAIM, 1)
    with pytest.raises(NotFound):
        await engine.claim_task("2", CLAIM, 2, force=False)
    with pytest.raises(Conflict):
        await engine.claim_task("1", CLAIM, 2, force=False)
    assert (await counts(metrics, COUNT))["claim_task"] == 2
    assert (await counts(metrics, ERRORS))["claim_task"] == 0


class Broken(MemdbEngine):
    """Away, or with a defect."""

    async def get(self, task_id: str) -> TaskRecord | None:
        raise RuntimeError("a defect")

    async def next_due(self, topic: str, now: int, where: Where | None = None) -> int | None:
        raise ServiceUnavailable("the database is away")


async def test_what_the_engine_cannot_do_is_an_error(metrics: Metrics) -> None:
    engine = await opened(metrics, Broken())
    with pytest.raises(RuntimeError, match="a defect"):
        await engine.get("1")
    with pytest.raises(ServiceUnavailable, match="away"):
        await engine.next_due("t", 0)
    errors = await counts(metrics, ERRORS)
    assert (errors["get"], errors["next_due"]) == (1, 1)
    found = await counts(metrics, COUNT)
    assert (found["get"], found["next_due"]) == (1, 1)


class Waiting(MemdbEngine):
    """Does not answer."""

    async def get(self, task_id: str) -> TaskRecord | None:
        await asyncio.Event().wait()
        return None


async def test_a_caller_that_goes_away_is_no_error(metrics: Metrics) -> None:
    engine = await opened(metrics, Waiting())
    asking = asyncio.create_task(engine.get("1"))
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait([asking])
    assert asking.cancelled()
    assert await counts(metrics, COUNT) == {"get": 1}
    assert (await counts(metrics, ERRORS))["get"] == 0


async def test_two_engines_are_measured_apart(metrics: Metrics) -> None:
    await opened(metrics)
    other = Metrics()
    engine = await opened(other)
    await engine.get("1")
    assert await counts(metrics, COUNT) == {}
    assert await counts(other, COUNT) == {"get": 1}
