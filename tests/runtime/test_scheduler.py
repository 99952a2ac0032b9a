"""Ticks on every engine: standstills, servers that die between two steps, and several servers at once."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from ratus_engines.memdb.engine import MemdbEngine
from ratus_engines.mongodb.engine import MongodbEngine
from ratus_engines.sqlite.engine import SqliteEngine

from ratus.core.errors import ServiceUnavailable
from ratus.core.kinds import SCHEDULES
from ratus.core.records import COMPLETED, CommitRecord, ScheduleRecord, TaskQuery, TaskRecord
from ratus.core.times import format_time, parse_time
from ratus.engine import Engine
from ratus.runtime.scheduler import Scheduler
from ratus.testing import ManualClock
from tests.absent import absent
from tests.engines.mongodb import servers as mongod

SECOND = 1_000_000
MINUTE = 60 * SECOND
NOW = parse_time("2027-01-15T08:00:00Z")
Make = Callable[[], Engine]


@pytest.fixture(params=["memdb", "sqlite", "mongodb", "replica set"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """Makes engines on the same data; memdb always gives the same one."""
    if request.param == "memdb":
        engine = MemdbEngine()
        return lambda: engine
    if request.param == "sqlite":
        return lambda: SqliteEngine(path=str(tmp_path / "ratus.db"), synchronous="normal")
    uri = mongod.shared_uri() if request.param == "mongodb" else mongod.shared_replica_set_uri()
    if uri is None:
        absent(mongod.ABSENT)
    name = f"schedules_{uuid.uuid4().hex}"
    return lambda: MongodbEngine(uri, database=name)


@asynccontextmanager
async def opened(make: Make) -> AsyncIterator[Engine]:
    engine = make()
    await engine.open(NOW)
    try:
        yield engine
    finally:
        await engine.close(NOW)


def task_of(schedule: ScheduleRecord, task_id: str, tick: int) -> TaskRecord:
    """A task that expires as the schedule's JSON says, in minutes."""
    expires = None if schedule.task is None else tick + int(schedule.task) * MINUTE
    return TaskRecord(task_id, schedule.topic, tick, tick, expires=expires)


def scheduler(engine: Engine, clock: ManualClock, kind: type[Scheduler] = Scheduler) -> Scheduler:
    return kind(engine, clock, task_of)


async def tasks(engine: Engine) -> list[str]:
    page = await engine.list_tasks(TaskQuery("t", 2000))
    return [task.id for task in page.tasks]


def at(*times: str) -> list[str]:
    return [f"a@2027-01-{time}Z" for time in times]


EVERY_6_HOURS = ScheduleRecord(topic="t", every=6 * 60 * MINUTE)


@pytest.mark.parametrize(
    ("change", "made"),
    [
        ({}, at("16T06:00:00")),
        ({"catch_up": "all"}, at("15T12:00:00", "15T18:00:00", "16T00:00:00", "16T06:00:00")),
        ({"catch_up": "all", "overlap": "skip"}, at("16T06:00:00")),
        # A task that lives for nine hours: two of the missed ones would have expired.
        ({"catch_up": "all", "task": b"540"}, at("16T00:00:00", "16T06:00:00")),
        ({"task": b"60"}, []),
        ({"end": parse_time("2027-01-15T20:00:00Z")}, at("15T18:00:00")),
        ({"paused": True}, []),
    ],
)
def test_a_day_of_standstill(make: Make, change: dict[str, Any], made: list[str]) -> None:
    async def run() -> None:
        async with opened(make) as engine:
            clock = ManualClock(NOW)
            await scheduler(engine, clock).edit("a", lambda old: structs.replace(EVERY_6_HOURS, **change))
            clock.step(24 * 60 * MINUTE)
            later = scheduler(engine, clock)
            await later.run_due("a")
            assert await tasks(engine) == made
            await later.run_due("a")
            assert await tasks(engine) == made
            schedule = await later.get("a")
            assert schedule is not None
            if "end" not in change and "paused" not in change:
                assert schedule.next == parse_time("2027-01-16T12:00:00Z")

    asyncio.run(run())


def test_all_means_the_last_thousand(make: Make) -> None:
    async def run() -> None:
        async with opened(make) as engine:
            clock = ManualClock(NOW)
            first = scheduler(engine, clock)
            await first.edit("a", lambda old: ScheduleRecord(topic="t", every=10 * SECOND, catch_up="all"))
            clock.step(24 * 60 * MINUTE)
            await first.run_due("a")
            end = clock.now()
            ticks = [end - number * 10 * SECOND for number in reversed(range(1000))]
            assert await tasks(engine) == [f"a@{format_time(tick)}" for tick in ticks]

    asyncio.run(run())


class DiesBeforeTasks(Scheduler):
    """Decides a tick and dies before it has stored the task."""

    async def _finish(self, record: Any) -> None:
        raise ServiceUnavailable("killed")


def test_what_a_server_decided_before_it_died_is_made(make: Make) -> None:
    async def run() -> None:
        async with opened(make) as engine:
            clock = ManualClock(NOW)
            await scheduler(engine, clock).edit("a", lambda old: EVERY_6_HOURS)
            clock.step(6 * 60 * MINUTE)
            with pytest.raises(ServiceUnavailable):
                await scheduler(engine, clock, DiesBeforeTasks).run_due("a")
            assert await tasks(engine) == []
            await scheduler(engine, clock).run_due("a")
            assert await tasks(engine) == at("15T12:00:00")
            # An edit makes it first, too.
            clock.step(6 * 60 * MINUTE)
            with pytest.raises(ServiceUnavailable):
                await scheduler(engine, clock, DiesBeforeTasks).run_due("a")
            await scheduler(engine, clock).edit("a", lambda old: ScheduleRecord(topic="u", every=MINUTE))
            assert await tasks(engine) == at("15T12:00:00", "15T18:00:00")
            found = await engine.get_record(SCHEDULES, "a")
            assert found is not None
            assert found.members.making is None

    asyncio.run(run())


def test_servers_with_clocks_apart_make_each_tick_once(make: Make) -> None:
    """Three servers come to each tick, all at once, with clocks five seconds apart; tasks are done at once
    and deleted, so that an id that is used again would be seen."""

    async def run() -> None:
        async with opened(make) as one, opened(make) as two, opened(make) as three:
            clocks = [ManualClock(NOW + skew * SECOND) for skew in (0, 5, -5)]
            servers = [scheduler(*each) for each in zip((one, two, three), clocks, strict=True)]
            await servers[2].edit("a", lambda old: ScheduleRecord(topic="t", every=2 * SECOND))
            made: list[str] = []
            for step in range(40):
                for clock in clocks:
                    clock.step(SECOND)
                await asyncio.gather(*(server.run_due("a") for server in servers))
                if step % 10 == 9:  # an edit by the server whose clock is behind
                    edited = ScheduleRecord(topic="t", every=2 * SECOND, task=b"%d" % (1000 + step))
                    await servers[2].edit("a", lambda old, edited=edited: edited)  # type: ignore[misc]
                for task_id in await tasks(one):
                    made.append(task_id)
                    await one.commit([CommitRecord(task_id, state=COMPLETED)], NOW)
                    await one.delete_task(task_id)
            assert len(set(made)) == len(made)
            # The schedule was set by the clock that is behind. What was past for the fastest clock by then
            # was caught up by one tick, or where other servers were quicker by one more of each.
            first, last = NOW + 6 * SECOND, NOW + 45 * SECOND
            ticks = [f"a@{format_time(tick)}" for tick in range(first, last + 1, 2 * SECOND)]
            assert made[-len(ticks) :] == ticks
            assert made == sorted(made)
            assert len(made) < len(ticks) + len(servers)

    asyncio.run(run())


def test_a_server_learns_of_edits_by_others(make: Make) -> None:
    async def run() -> None:
        async with opened(make) as one, opened(make) as two:
            clock = ManualClock(NOW)
            running, other = scheduler(one, clock), scheduler(two, clock)
            if not one.traits.shared:
                other = running
            running.start()
            await asyncio.sleep(0)
            for name in ("a", "b", "c"):
                await other.edit(name, lambda old: EVERY_6_HOURS)
            await other.delete("b")

            async def until(known: int) -> None:
                while running.known != known:
                    clock.advance(SECOND)
                    await asyncio.sleep(0.001)

            await asyncio.wait_for(until(2), 60)
            await other.edit("a", lambda old: structs.replace(EVERY_6_HOURS, paused=True))
            await asyncio.wait_for(until(1), 60)
            clock.advance(6 * 60 * MINUTE)

            async def made() -> None:
                while len(await tasks(one)) < 1:
                    await asyncio.sleep(0.001)

            await asyncio.wait_for(made(), 60)
            assert [task_id[0] for task_id in await tasks(one)] == ["c"]
            await running.stop()

    asyncio.run(run())
