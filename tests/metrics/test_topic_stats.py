"""What is asked of the engine at a scrape: right when it answers, and out of the way when it does not."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from prometheus_client.parser import text_string_to_metric_families
from ratus_engines.memdb.engine import MemdbEngine

from ratus.core.clock import MINUTE, SECOND
from ratus.core.errors import ServiceUnavailable
from ratus.core.records import ACTIVE, ARCHIVED, COMPLETED, Rare, TaskRecord, TopicInfo
from ratus.core.selection import Selection
from ratus.core.turns import Limits, PerLabel
from ratus.engine import Health
from ratus.metrics import OTHER, Metrics, TopicStats, scrape, topic_stats
from ratus.testing import ManualClock
from tests.metrics.scraping import values_of

pytestmark = pytest.mark.anyio

READY = "ratus_ready"
TASKS = "ratus_topic_tasks"
DUE = "ratus_topic_due_tasks"
OLDEST = "ratus_topic_oldest_due_age_seconds"
PAUSED = "ratus_topic_paused"
CLOSED = "ratus_topic_closed"
CLOSED_SECONDS = "ratus_topic_closed_seconds_total"
LANES = "ratus_topic_lanes"
AGE = "ratus_topic_figures_age_seconds"


class Moody(MemdbEngine):
    """Fails, or lets others wait, when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.error: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.surveys = 0
        self.is_healthy = True

    async def survey(self, now: int, visit: Callable[[TopicInfo], None]) -> None:
        self.surveys += 1
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        await super().survey(now, visit)

    async def health(self) -> Health:
        await self.gate.wait()
        return Health(self.is_healthy, "" if self.is_healthy else "told to be ill")


class Stopwatch:
    """Stands in for the time that passes."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Setting:
    """A survey of an engine, with clocks that stand still."""

    def __init__(self, engine: Moody, stopwatch: Stopwatch, max_label_values: int) -> None:
        self.engine = engine
        self.stopwatch = stopwatch
        self.clock = ManualClock()
        self.metrics = Metrics(max_label_values)
        self.draining = False
        self.survey = TopicStats(engine, self.clock, self.metrics, draining=lambda: self.draining)

    async def insert(self, topic: str, *ids: str, **members: object) -> None:
        now = self.clock.now()
        tasks = [TaskRecord(each, topic, now, **{"scheduled": now, **members}) for each in ids]  # type: ignore[arg-type]  # members of any kind
        assert all(await self.engine.insert(tasks, now))

    async def scrape(self) -> str:
        return b"".join([piece async for piece in scrape(self.metrics, self.survey)]).decode()

    async def due(self) -> dict[str, float]:
        """The number of due tasks that a scrape tells, by topic."""
        return {topic: count for (topic,), count in values_of(await self.scrape(), DUE, "topic").items()}


@pytest.fixture
def stopwatch(monkeypatch: pytest.MonkeyPatch) -> Stopwatch:
    watch = Stopwatch()
    monkeypatch.setattr(topic_stats, "monotonic", watch)
    return watch


@asynccontextmanager
async def opened(stopwatch: Stopwatch, max_label_values: int = 1000) -> AsyncIterator[Setting]:
    setting = Setting(Moody(), stopwatch, max_label_values)
    await setting.engine.open(setting.clock.now())
    try:
        yield setting
    finally:
        await setting.survey.close()


@pytest.fixture
async def setting(stopwatch: Stopwatch) -> AsyncIterator[Setting]:
    async with opened(stopwatch) as made:
        yield made


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scrape does not wait for the engine any longer than it takes to ask."""
    monkeypatch.setattr(topic_stats, "PATIENCE", 0.001)


# When the engine answers.


async def test_the_tasks_of_each_topic(setting: Setting) -> None:
    now = setting.clock.now()
    await setting.insert("t", "1", scheduled=now - 5 * MINUTE)
    await setting.insert("t", "2", "3")
    await setting.insert("t", "later", scheduled=now + MINUTE)
    await setting.insert("t", "claimed", state=ACTIVE, deadline=now + MINUTE)
    await setting.insert("t", "done", state=COMPLETED)
    await setting.insert("u", "dead", "buried", state=ARCHIVED)
    await setting.engine.set_paused("u", True)
    text = await setting.scrape()
    assert values_of(text, TASKS, "topic", "state") == {
        ("t", "pending"): 4,
        ("t", "active"): 1,
        ("t", "completed"): 1,
        ("t", "archived"): 0,
        ("u", "pending"): 0,
        ("u", "active"): 0,
        ("u", "completed"): 0,
        ("u", "archived"): 2,
    }
    assert values_of(text, DUE, "topic") == {("t",): 3, ("u",): 0}
    assert values_of(text, OLDEST, "topic") == {("t",): 300, ("u",): 0}
    assert values_of(text, PAUSED, "topic") == {("t",): 0, ("u",): 1}
    assert values_of(text, READY) == {(): 1}
    assert values_of(text, AGE) == {(): 0}
    assert {family.type for family in text_string_to_metric_families(text) if "topic" in family.name} == {
        "gauge",
        "counter",
        "histogram",
    }


async def test_closed_topics_and_lanes(setting: Setting, stopwatch: Stopwatch) -> None:
    await setting.insert("t", "1", "2", rare=Rare(labels=b'{"a":"x"}'))
    await setting.insert("u", "3")
    await setting.engine.change_settings("t", limits=Limits(concurrency=1, per=PerLabel("a")))
    now = setting.clock.now()
    assert await setting.engine.claim(Selection(("t",)), now)
    text = await setting.scrape()
    assert values_of(text, CLOSED, "topic", "reason") == {("t", "concurrency"): 1}
    assert values_of(text, LANES, "topic") == {("t",): 1}
    assert values_of(text, CLOSED_SECONDS, "topic", "reason") == {}
    stopwatch.now += 7
    await setting.scrape()  # the second look says that the topic was closed for these seven seconds
    stopwatch.now += 5
    text = await setting.scrape()
    assert values_of(text, CLOSED_SECONDS, "topic", "reason") == {("t", "concurrency"): 7}
    assert await setting.engine.release("1", now)
    stopwatch.now += 3
    await setting.scrape()
    text = await setting.scrape()
    assert values_of(text, CLOSED, "topic", "reason") == {}
    assert values_of(text, CLOSED_SECONDS, "topic", "reason") == {("t", "concurrency"): 12}


async def test_a_pause_between_scrapes_counts_for_as_long_as_figures_are_published(
    setting: Setting, stopwatch: Stopwatch
) -> None:
    await setting.engine.set_paused("t", True)
    await setting.scrape()
    stopwatch.now += 3600
    await setting.scrape()
    text = await setting.scrape()
    assert values_of(text, CLOSED_SECONDS, "topic", "reason") == {("t", "paused"): 60}


async def test_each_scrape_asks_anew(setting: Setting) -> None:
    await setting.insert("t", "1")
    assert await setting.due() == {"t": 1}
    await setting.insert("t", "2")
    assert await setting.due() == {"t": 2}
    setting.clock.advance(7 * SECOND)
    assert values_of(await setting.scrape(), OLDEST, "topic") == {("t",): 7}


async def test_an_empty_engine_has_no_topics(setting: Setting) -> None:
    text = await setting.scrape()
    assert "topic=" not in text
    assert f"# TYPE {TASKS} gauge\n" in text


async def test_a_topic_that_nobody_used_yet_is_told_all_the_same(setting: Setting) -> None:
    """After a restart, say: its backlog matters most when nobody works on it."""
    await setting.insert("forgotten", "1")
    assert setting.metrics.topics() == []
    assert await setting.due() == {"forgotten": 1}
    assert setting.metrics.topics() == ["forgotten"]


async def test_a_topic_that_went_meanwhile_is_not_told(setting: Setting) -> None:
    await setting.insert("t", "1")
    await setting.scrape()
    setting.engine.error = ServiceUnavailable("away")
    setting.metrics.drop_topic("t")
    assert await setting.due() == {}


# More topics than places.


async def test_topics_without_a_place_are_told_together(stopwatch: Stopwatch) -> None:
    async with opened(stopwatch, max_label_values=2) as setting:
        now = setting.clock.now()
        for number in range(6):
            await setting.insert(f"t{number}", f"{number}a", f"{number}b", scheduled=now - number * MINUTE)
        await setting.engine.set_paused("t5", True)
        setting.metrics.produced("t3", "p")
        text = await setting.scrape()
        # Which topic gets the place that is left is for those in use to say.
        assert values_of(text, DUE, "topic") == {("t3",): 2, (OTHER,): 10}
        assert values_of(text, TASKS, "topic", "state")[OTHER, "pending"] == 10
        assert values_of(text, OLDEST, "topic") == {("t3",): 180, (OTHER,): 300}
        assert values_of(text, PAUSED, "topic") == {("t3",): 0, (OTHER,): 0}
        setting.metrics.produced("t5", "p")
        text = await setting.scrape()
        assert values_of(text, DUE, "topic") == {("t3",): 2, ("t5",): 2, (OTHER,): 8}
        assert values_of(text, OLDEST, "topic")[OTHER,] == 240
        assert values_of(text, PAUSED, "topic")["t5",] == 1


async def test_as_many_topics_as_places(stopwatch: Stopwatch) -> None:
    async with opened(stopwatch, max_label_values=3) as setting:
        for number in range(3):
            await setting.insert(f"t{number}", f"{number}")
        assert await setting.due() == {"t0": 1, "t1": 1, "t2": 1}


async def test_no_place_at_all(stopwatch: Stopwatch) -> None:
    async with opened(stopwatch, max_label_values=0) as setting:
        await setting.insert("a", "1")
        await setting.insert("b", "2")
        assert await setting.due() == {OTHER: 2}


async def test_a_topic_called_other_is_counted_with_them(stopwatch: Stopwatch) -> None:
    async with opened(stopwatch, max_label_values=0) as setting:
        await setting.insert(OTHER, "1")
        await setting.insert("b", "2")
        assert await setting.due() == {OTHER: 2}


async def test_places_that_are_taken_during_a_survey(stopwatch: Stopwatch) -> None:
    class Meanwhile(Moody):
        async def survey(self, now: int, visit: Callable[[TopicInfo], None]) -> None:
            await super().survey(now, visit)
            made.metrics.produced("new", "p")

    made = Setting(Meanwhile(), stopwatch, 2)
    await made.engine.open(0)
    await made.insert("a", "1")
    await made.insert("b", "2")
    assert await made.due() == {"a": 1, OTHER: 1}
    await made.survey.close()


# Whether it serves.


@pytest.mark.parametrize("draining", [False, True])
@pytest.mark.parametrize("healthy", [False, True])
async def test_ready_is_what_the_engine_says_until_the_server_stops(
    setting: Setting, healthy: bool, draining: bool
) -> None:
    setting.engine.is_healthy = healthy
    setting.draining = draining
    assert values_of(await setting.scrape(), READY) == {(): float(healthy and not draining)}


@pytest.mark.usefixtures("impatient")
async def test_an_engine_that_does_not_answer_is_not_ready(setting: Setting) -> None:
    setting.engine.gate.clear()
    for _ in range(3):
        assert values_of(await setting.scrape(), READY) == {(): 0}
    setting.engine.gate.set()
    await setting.survey.wait()
    assert values_of(await setting.scrape(), READY) == {(): 1}


async def test_an_engine_whose_health_fails_is_not_ready(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def health() -> Health:
        raise RuntimeError("a defect")

    monkeypatch.setattr(setting.engine, "health", health)
    assert values_of(await setting.scrape(), READY) == {(): 0}


# When the engine is slow or away.


@pytest.mark.usefixtures("impatient")
async def test_a_slow_engine_costs_only_what_is_asked_of_it(setting: Setting) -> None:
    await setting.insert("t", "1")
    setting.metrics.produced("t", "p")
    setting.engine.gate.clear()
    text = await setting.scrape()
    assert "ratus_task_produced_count_total{" in text
    assert "process_" in text
    assert values_of(text, DUE) == {}


@pytest.mark.usefixtures("impatient")
async def test_a_survey_goes_on_between_scrapes_and_is_not_begun_twice(setting: Setting) -> None:
    await setting.insert("t", "1")
    setting.engine.gate.clear()
    for _ in range(5):
        assert await setting.due() == {}
    assert setting.engine.surveys == 1
    setting.engine.gate.set()
    await setting.survey.wait()
    assert await setting.due() == {"t": 1}


async def test_scrapes_at_the_same_time_share_a_survey(setting: Setting) -> None:
    await setting.insert("t", "1")
    texts = await asyncio.gather(*(setting.scrape() for _ in range(5)))
    assert all(values_of(text, DUE, "topic") == {("t",): 1} for text in texts)
    assert setting.engine.surveys == 1


async def test_old_figures_are_told_with_their_age_until_they_are_too_old(setting: Setting) -> None:
    await setting.insert("t", "1")
    await setting.scrape()
    setting.engine.error = ServiceUnavailable("away")
    setting.stopwatch.now += 59
    text = await setting.scrape()
    assert values_of(text, DUE, "topic") == {("t",): 1}
    assert values_of(text, AGE) == {(): 59}
    setting.stopwatch.now += 1
    text = await setting.scrape()
    assert values_of(text, DUE, "topic") == {}
    assert values_of(text, AGE) == {(): 60}
    setting.engine.error = None
    assert await setting.due() == {"t": 1}


async def test_a_survey_that_took_long_is_not_made_again_soon(setting: Setting) -> None:
    engine = setting.engine
    await setting.insert("t", "1")
    engine.gate.clear()
    scraping = asyncio.create_task(setting.scrape())
    while not engine.surveys:
        await asyncio.sleep(0)
    setting.stopwatch.now += 5
    engine.gate.set()
    await scraping
    setting.stopwatch.now += 99.9  # twenty times five seconds
    text = await setting.scrape()
    assert engine.surveys == 1
    assert values_of(text, DUE, "topic") == {("t",): 1}, "older than a minute, but not to be had newer"
    assert values_of(text, AGE)[()] == pytest.approx(104.9)
    setting.stopwatch.now += 0.2
    await setting.scrape()
    assert engine.surveys == 2


@pytest.mark.parametrize("error", [ServiceUnavailable("the database is away"), RuntimeError("a defect")])
async def test_a_failure_is_logged_once_until_it_works_again(
    setting: Setting, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    caplog.set_level(logging.WARNING)
    await setting.insert("t", "1")
    for _ in range(2):
        caplog.clear()
        setting.engine.error = error
        for _ in range(3):
            assert "ratus_ready 1.0" in await setting.scrape()
        (record,) = caplog.records
        assert str(error) in record.getMessage()
        assert bool(record.exc_info) is isinstance(error, RuntimeError)
        setting.engine.error = None
        await setting.scrape()


async def test_closing_ends_what_is_under_way(setting: Setting) -> None:
    setting.engine.gate.clear()
    setting.survey.begin()
    await asyncio.sleep(0)
    await setting.survey.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    assert not [task for task in others if "Moody" in repr(task) or "TopicStats" in repr(task)]


async def test_closing_without_a_scrape(setting: Setting) -> None:
    await setting.survey.close()


# Without holding others up.


async def test_a_thousand_topics_are_surveyed_and_told_with_turns_between(setting: Setting) -> None:
    now = setting.clock.now()
    await setting.engine.insert([TaskRecord(f"{n}", f"topic-{n}", now, now) for n in range(1000)], now)
    turns = 0
    scraping = asyncio.create_task(setting.scrape())
    while not scraping.done():
        turns += 1
        await asyncio.sleep(0)
    text = await scraping
    assert text.count(f"\n{TASKS}{{") == 4000
    # Sixteen topics a turn in the engine, 500 series a turn in the text.
    assert turns >= 1000 // 16 + 4000 // 500
