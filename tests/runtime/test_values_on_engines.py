"""Values on every engine, several servers on the same data, and servers that die between two steps."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from ratus_engines.mongodb.engine import MongodbEngine
from ratus_engines.sqlite.engine import SqliteEngine

from ratus.core.clock import SystemClock
from ratus.core.errors import Conflict, ServiceUnavailable
from ratus.core.kinds import VALUES
from ratus.engine import Engine
from ratus.runtime.value_watch import ValueWatch
from ratus.runtime.values import Values
from tests.absent import absent
from tests.engines.mongodb import servers as mongod

NOW = 1_800_000_000_000_000
Make = Callable[[], Engine]


@pytest.fixture(params=["sqlite", "mongodb", "replica set"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """Makes engines on the same data."""
    if request.param == "sqlite":
        return lambda: SqliteEngine(path=str(tmp_path / "ratus.db"), synchronous="normal")
    uri = mongod.shared_uri() if request.param == "mongodb" else mongod.shared_replica_set_uri()
    if uri is None:
        absent(mongod.ABSENT)
    name = f"values_{uuid.uuid4().hex}"
    return lambda: MongodbEngine(uri, database=name)


@asynccontextmanager
async def opened(make: Make) -> AsyncIterator[Engine]:
    engine = make()
    await engine.open(NOW)
    try:
        yield engine
    finally:
        await engine.close(NOW)


def never(callback: Any) -> None:
    """A client that stays connected."""


class Dying(Values):
    """Decides a change and dies before it has stored the value."""

    async def _finish(self, last: Any) -> None:
        if last is not None and last.members.value == b'"dying"':
            raise ServiceUnavailable("killed")
        await super()._finish(last)


def test_two_servers_change_values_at_the_same_time(make: Make) -> None:
    async def run() -> None:
        async with opened(make) as one, opened(make) as two:
            values = [Values(one), Values(two)]
            written: dict[int, int] = {}

            async def change(server: int) -> None:
                for number in range(server, 40, 2):
                    # The clocks of the servers are five seconds apart.
                    value = b"%d" % number
                    done = await values[server].put(f"v{number % 3}", value, None, NOW + server * 5_000_000)
                    written[number] = done.record.revision

            await asyncio.gather(change(0), change(1))
            revisions = [written[number] for number in range(40)]
            assert len(set(revisions)) == 40
            stored = {value.name: value.record for value in await values[0].beyond("", 0)}
            for number in range(3):
                last = max(revisions[number::3])
                assert stored[f"v{number}"].revision == last
                assert stored[f"v{number}"].value == b"%d" % revisions.index(last)

    asyncio.run(run())


def test_one_of_several_conditional_changes_succeeds(make: Make) -> None:
    async def run() -> None:
        async with opened(make) as one, opened(make) as two:
            values = [Values(one), Values(two)]
            begun = (await values[0].put("a", b"0", 0, NOW)).record.revision
            tries = [values[n % 2].put("a", b"%d" % n, begun, NOW) for n in range(10)]
            done = await asyncio.gather(*tries, return_exceptions=True)
            assert sum(not isinstance(each, Conflict) for each in done) == 1

    asyncio.run(run())


def test_what_a_server_decided_before_it_died_is_finished(make: Make) -> None:
    async def run() -> None:
        async with opened(make) as one, opened(make) as two:
            first = (await Values(one).put("a", b"1", None, NOW)).record.revision
            with pytest.raises(ServiceUnavailable):
                await Dying(one).put("a", b'"dying"', first, NOW)
            survivor = Values(two)
            # By the next change of another value, which comes after it in the order of revisions.
            second = (await survivor.put("b", b"2", None, NOW)).record.revision
            found = await survivor.get("a")
            assert found is not None
            assert found.value == b'"dying"'
            assert first < found.revision < second
            # By a look for changes.
            with pytest.raises(ServiceUnavailable):
                await Dying(one).put("a", b'"dying"', None, NOW)
            (changed,) = await survivor.beyond("", second)
            assert (changed.name, changed.record.value) == ("a", b'"dying"')
            # By the chore.
            await survivor.put("b", b"3", None, NOW)
            with pytest.raises(ServiceUnavailable):
                await Dying(one).put("c", b'"dying"', None, NOW)
            await survivor.tidy(NOW, 1)
            assert await survivor.get("c") is not None

    asyncio.run(run())


def test_a_late_server_does_not_bring_an_old_value_back(make: Make) -> None:
    async def run() -> None:
        async with opened(make) as one, opened(make) as two:
            late, other = Values(one), Values(two)
            with pytest.raises(ServiceUnavailable):
                await Dying(one).put("a", b'"dying"', None, NOW)
            old = await late._last()
            await other.put("a", b"2", None, NOW)
            await other.put("b", b"3", None, NOW)
            await late._finish(old)
            found = await other.get("a")
            assert found is not None
            assert found.value == b"2"

    asyncio.run(run())


def test_a_change_by_another_server_ends_a_wait(make: Make) -> None:
    async def run() -> None:
        async with opened(make) as one, opened(make) as two:
            watch, other = ValueWatch(one, SystemClock()), Values(two)
            clock = SystemClock()

            async def wait(find: Callable[[], Awaitable[Any]]) -> Any:
                return await watch.wait(find, clock.monotonic() + 60_000_000, never)

            waits = [
                asyncio.create_task(wait(lambda: watch.values.beyond_each({"a": 0}))),
                asyncio.create_task(wait(lambda: watch.values.beyond("a", 0))),
            ]
            while watch.waiters < 2:
                await asyncio.sleep(0)
            written = await other.put("a", b"1", None, NOW)
            assert await asyncio.gather(*waits) == [[written], [written]]
            watch.close()
            await watch.join()

    asyncio.run(run())


def test_a_watcher_never_misses_the_last_value(make: Make) -> None:
    """Two servers change three values; one that watches the prefix sees the last of each, in order."""

    async def run() -> None:
        async with opened(make) as one, opened(make) as two, opened(make) as three:
            writers = [Values(one), Values(two)]
            watch, clock = ValueWatch(three, SystemClock()), SystemClock()
            seen: dict[str, bytes | None] = {}

            async def follow() -> None:
                since = 0
                while set(seen.values()) != {b'"end"'} or len(seen) < 3:
                    until = clock.monotonic() + 60_000_000
                    find = partial(watch.values.beyond, "", since)
                    for value in await watch.wait(find, until, never):
                        assert value.record.revision > since
                        since = value.record.revision
                        seen[value.name] = value.record.value

            async def change(writer: Values, skew: int) -> None:
                for count in range(30):
                    await writer.put(f"v{count % 3}", b"%d" % count, None, NOW + skew)

            following = asyncio.create_task(follow())
            await asyncio.gather(*(change(writer, n * 5_000_000) for n, writer in enumerate(writers)))
            for number in range(3):
                await writers[number % 2].put(f"v{number}", b'"end"', None, NOW)
            await asyncio.wait_for(following, 120)
            watch.close()
            await watch.join()

    asyncio.run(run())


def test_many_values_are_found_by_pages(make: Make) -> None:
    async def run() -> None:
        async with opened(make) as one:
            values = Values(one)
            for number in range(120):
                await values.put(f"n{number:03}", b"1", None, NOW)
            await values.put("m", b"1", None, NOW)
            found, more = await values.page("n", "", 110)
            assert ([value.name for value in found], more) == ([f"n{n:03}" for n in range(110)], True)
            found, more = await values.page("n", found[-1].name, 110)
            assert (len(found), more) == (10, False)
            assert len(await values.beyond("n", 0)) == 120
            assert len(await one.list_records(VALUES, "", 1000)) == 121

    asyncio.run(run())
