"""The chores: all of them once an interval, none of them able to stop another."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Any

import pytest
from ratus_engines.memdb.engine import MemdbEngine

from ratus.core.clock import MINUTE, SECOND
from ratus.core.errors import ServiceUnavailable
from ratus.core.records import ACTIVE, ARCHIVED, COMPLETED, PENDING, TaskRecord, TopicInfo
from ratus.engine import Engine
from ratus.metrics import Metrics
from ratus.runtime.chores import Chores
from ratus.testing import ManualClock
from tests.metrics.scraping import values_of

pytestmark = pytest.mark.anyio

HOUR = 60 * MINUTE
ORDER = ["recover", "expire", "purge", "maintain"]

FAILURES = "ratus_chore_failures_total"
DONE = "ratus_chore_last_success_timestamp_seconds"

really_sleep = asyncio.sleep


class Recorder(MemdbEngine):
    """Remembers which chores ran, and raises what it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.ran: list[tuple[str, int]] = []
        self.errors: dict[str, Exception] = {}

    def _run(self, name: str, now: int) -> None:
        self.ran.append((name, now))
        if name in self.errors:
            raise self.errors[name]

    async def recover(self, now: int) -> int:
        self._run("recover", now)
        return await super().recover(now)

    async def expire(self, now: int) -> int:
        self._run("expire", now)
        return await super().expire(now)

    async def purge(self, before: int) -> int:
        self._run("purge", before)
        return await super().purge(before)

    async def maintain(self, now: int) -> None:
        self._run("maintain", now)
        await super().maintain(now)


class Sleeper:
    """Stands in for `asyncio.sleep`: remembers what was asked for and ends when it is told to."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self._wake = asyncio.Event()

    async def __call__(self, seconds: float) -> None:
        self.asked.append(seconds)
        await self._wake.wait()
        self._wake.clear()

    async def until(self, count: int) -> None:
        """Wait until so many sleeps have begun."""
        async with asyncio.timeout(10):
            while len(self.asked) < count:
                await really_sleep(0)

    async def end(self) -> None:
        """Let the sleep end, and everything happen until the next one."""
        count = len(self.asked)
        self._wake.set()
        await self.until(count + 1)


class Setting:
    """Chores on an engine, with a clock that stands still."""

    def __init__(self, **options: Any) -> None:
        self.clock = ManualClock()
        self.engine = Recorder()
        self.metrics = Metrics()
        options = {"interval": 10 * SECOND, "retention": HOUR, **options}
        self.chores = Chores(self.engine, self.clock, self.metrics, **options)

    @property
    def ran(self) -> list[str]:
        return [name for name, _ in self.engine.ran]


@asynccontextmanager
async def running(sleeper: Sleeper, **options: Any) -> AsyncIterator[Setting]:
    """Chores that have been started and sleep for the first time."""
    setting = Setting(**options)
    await setting.engine.open(setting.clock.now())
    setting.chores.start()
    try:
        await sleeper.until(1)
        yield setting
    finally:
        await setting.chores.stop()


@pytest.fixture
async def sleeper(monkeypatch: pytest.MonkeyPatch) -> Sleeper:
    sleeper = Sleeper()
    monkeypatch.setattr("ratus.runtime.chores.asyncio.sleep", sleeper)
    return sleeper


async def test_a_round_does_everything_at_this_moment() -> None:
    setting = Setting()
    now = setting.clock.now()
    await setting.engine.open(now)
    tasks = [
        TaskRecord("lapsed", "t", now, now, state=ACTIVE, deadline=now),
        TaskRecord("expired", "t", now, now, expires=now),
        TaskRecord("old", "t", now, now, state=COMPLETED, committed=now - HOUR),
        TaskRecord("new", "t", now, now, state=COMPLETED, committed=now - HOUR + 1),
    ]
    await setting.engine.insert(tasks, now)
    await setting.chores.run()
    assert setting.engine.ran == [
        ("recover", now),
        ("expire", now),
        ("purge", now - HOUR),
        ("maintain", now),
    ]
    states = [None if (task := await setting.engine.get(t.id)) is None else task.state for t in tasks]
    assert states == [PENDING, ARCHIVED, None, COMPLETED]


async def test_a_round_is_measured() -> None:
    setting = Setting()
    await setting.engine.open(0)
    await setting.chores.run()
    await setting.chores.run()
    text = (await setting.metrics.render()).decode()
    assert "ratus_chore_duration_seconds_count 2.0" in text


@pytest.mark.parametrize("interval", [0, SECOND])
async def test_a_process_forgets_the_metrics_of_topics_that_are_gone(sleeper: Sleeper, interval: int) -> None:
    async with running(sleeper, interval=interval) as setting:
        now = setting.clock.now()
        await setting.engine.insert([TaskRecord("1", "here", now, now)], now)
        setting.metrics.admit_topic("here")
        setting.metrics.admit_topic("gone")
        await sleeper.end()
        assert setting.metrics.topics() == ["here"]


@pytest.mark.parametrize("own", [False, True], ids=["by the list", "by the engine"])
async def test_many_topics_are_asked_for_together(
    sleeper: Sleeper, monkeypatch: pytest.MonkeyPatch, own: bool
) -> None:
    monkeypatch.setattr("ratus.engine.contract._NAMES_AT_ONCE", 4)
    asked: list[str] = []
    async with running(sleeper) as setting:
        now = setting.clock.now()
        there = [f"topic {number}" for number in range(10)]
        await setting.engine.insert([TaskRecord(name, name, now, now) for name in there], now)
        get_topic = setting.engine.get_topic

        async def noted(topic: str, now: int) -> TopicInfo | None:
            asked.append(topic)
            return await get_topic(topic, now)

        monkeypatch.setattr(setting.engine, "get_topic", noted)
        if not own:
            monkeypatch.setattr(type(setting.engine), "known_topics", Engine.known_topics)
        for name in (*there, "gone"):
            setting.metrics.admit_topic(name)
        await sleeper.end()
        assert setting.metrics.topics() == there
        assert asked == ["gone"]


async def test_a_topic_that_a_list_left_out_keeps_its_metrics(
    sleeper: Sleeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(names: Collection[str]) -> set[str]:
        return set()

    async with running(sleeper) as setting:
        now = setting.clock.now()
        await setting.engine.insert([TaskRecord("1", "here", now, now)], now)
        monkeypatch.setattr(setting.engine, "known_topics", nothing)
        setting.metrics.admit_topic("here")
        await sleeper.end()
        assert setting.metrics.topics() == ["here"]


@pytest.mark.parametrize("interval", [0, SECOND])
async def test_a_process_keeps_its_memory_in_order(sleeper: Sleeper, interval: int) -> None:
    tidied: list[None] = []
    async with running(sleeper, interval=interval, trim=lambda: tidied.append(None)):
        await sleeper.end()
        assert len(tidied) == 1


@pytest.mark.parametrize("name", ORDER)
async def test_a_chore_that_fails_is_logged_and_the_others_run(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    setting = Setting()
    await setting.engine.open(0)
    setting.engine.errors[name] = RuntimeError("a defect")
    await setting.chores.run()
    assert setting.ran == ORDER
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert record.levelno == logging.ERROR
    assert name in record.getMessage()
    assert record.exc_info is not None
    setting.engine.errors.clear()
    caplog.clear()
    await setting.chores.run()
    assert setting.ran == ORDER * 2
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_what_becomes_of_each_chore_is_told() -> None:
    setting = Setting()
    await setting.engine.open(0)
    text = (await setting.metrics.render()).decode()
    names = {*ORDER, "metrics", "memory"}
    failures = dict.fromkeys(names, 0.0)
    assert values_of(text, FAILURES, "chore") == {(name,): 0.0 for name in names}
    assert values_of(text, DONE, "chore") == {}
    setting.engine.errors = {"purge": RuntimeError("a defect"), "maintain": ServiceUnavailable("away")}
    await setting.chores.run()
    setting.clock.advance(MINUTE)
    del setting.engine.errors["purge"]
    await setting.chores.run()
    text = (await setting.metrics.render()).decode()
    failures |= {"purge": 1.0, "maintain": 2.0}
    assert values_of(text, FAILURES, "chore") == {(name,): count for name, count in failures.items()}
    now = setting.clock.now() / SECOND
    assert values_of(text, DONE, "chore") == {("recover",): now, ("expire",): now, ("purge",): now}


async def test_an_instance_without_chores_tells_of_none_but_its_own() -> None:
    text = (await Setting(interval=0).metrics.render()).decode()
    assert values_of(text, FAILURES, "chore") == {("metrics",): 0.0, ("memory",): 0.0}


async def test_an_engine_that_is_away_is_one_line_a_chore(caplog: pytest.LogCaptureFixture) -> None:
    setting = Setting()
    await setting.engine.open(0)
    setting.engine.errors["recover"] = ServiceUnavailable("the database is away")
    await setting.chores.run()
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert (record.levelno, record.exc_info) == (logging.WARNING, None)
    assert record.getMessage() == "chore recover could not run: the database is away"
    assert setting.ran == ORDER


async def test_once_an_interval(sleeper: Sleeper) -> None:
    async with running(sleeper, interval=2_500_000) as setting:
        assert setting.ran == []
        for number in (1, 2, 3):
            setting.clock.advance(2_500_000)
            await sleeper.end()
            assert setting.ran == ORDER * number
        assert sleeper.asked == [0, 2.5, 2.5, 2.5]
        assert setting.engine.ran[-1] == ("maintain", setting.clock.now())


async def test_rounds_go_on_when_one_fails(sleeper: Sleeper, caplog: pytest.LogCaptureFixture) -> None:
    async with running(sleeper) as setting:
        setting.engine.errors = dict.fromkeys(ORDER, RuntimeError("a defect"))
        await sleeper.end()
        await sleeper.end()
        assert setting.ran == ORDER * 2
        assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 8


async def test_the_first_round_may_be_delayed(sleeper: Sleeper) -> None:
    async with running(sleeper, initial_delay=3 * SECOND) as setting:
        assert sleeper.asked == [3]
        assert setting.ran == []
        await sleeper.end()
        assert setting.ran == ORDER


@pytest.mark.parametrize(("random", "seconds"), [(0.0, 0), (0.25, 2), (0.999_999, 8)])
async def test_the_delay_may_be_spread(sleeper: Sleeper, random: float, seconds: int) -> None:
    options = {"initial_delay": 8 * SECOND, "initial_random": True, "random": lambda: random}
    async with running(sleeper, **options):
        assert sleeper.asked == [pytest.approx(seconds, abs=0.001)]


async def test_an_instance_without_chores_leaves_the_engine_alone(sleeper: Sleeper) -> None:
    async with running(sleeper, interval=0) as setting:
        await sleeper.end()
        assert sleeper.asked == [0, 10]
        assert setting.ran == []
        text = (await setting.metrics.render()).decode()
        assert "ratus_chore_duration_seconds_count 0.0" in text


async def test_stopping_while_it_sleeps(sleeper: Sleeper) -> None:
    async with running(sleeper) as setting:
        await setting.chores.stop()
        assert setting.ran == []
        await setting.chores.stop()


async def test_stopping_in_the_middle_of_a_round(sleeper: Sleeper) -> None:
    begun = asyncio.Event()

    async def hang(now: int) -> int:
        begun.set()
        await asyncio.Event().wait()
        return 0

    setting = Setting()
    setting.engine.recover = hang  # type: ignore[method-assign]  # an engine that does not answer
    chores = Chores(setting.engine, setting.clock, setting.metrics, interval=SECOND, retention=HOUR)
    chores.start()
    await sleeper.until(1)
    sleeper._wake.set()
    async with asyncio.timeout(10):
        await begun.wait()
        await chores.stop()
    assert setting.ran == []


async def test_stopping_what_never_began() -> None:
    await Setting().chores.stop()
