"""`App.testing`: tasks run when the test says, on the real engine with the clock in hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from ratus import App, JobExpired, JobFailed, Priority, Retry, current
from ratus.testing import AppTesting

pytest_plugins = ["ratus.testing.fixtures"]


@pytest.fixture
def app() -> App:
    """An app whose server is not there."""
    return App("http://127.0.0.1:9", retries=0)


def test_tasks_run_when_the_test_says(app: App) -> None:
    ran: list[int] = []

    @app.task
    def note(n: int) -> int:
        ran.append(n)
        return n

    with app.testing() as t:
        assert t.run_next() is None
        first = note.push(1)
        note.options(priority=Priority.HIGH).push(2)
        late = note.options(defer="1h", topic="another").push(3)
        assert (first.status, late.status) == ("pending", "scheduled")
        assert ran == []
        assert t.run_next() is not None
        assert ran == [2]
        assert t.run_all() == [first]
        assert first.result() == 1
        t.advance("1h")
        assert t.run_all() == [late]
        assert t.client.get_topic("another").count == 1
    assert ran == [2, 1, 3]


def test_retries_and_expiry_follow_the_clock(app: App) -> None:
    @app.task(retry=Retry(max_attempts=3, delay="10s", jitter=0), ttl="1h")
    def flaky() -> int:
        if current().attempts < 3:
            raise ConnectionError
        return current().attempts

    with app.testing() as t:
        job = flaky.push()
        for seconds in (10, 20):
            assert t.run_all() == [job]
            assert job.status == "retrying"
            t.advance(seconds - 1)
            assert t.run_all() == []
            t.advance(1)
        assert t.run_all() == [job]
        assert job.result() == 3
        late = flaky.push()
        t.advance("1h")
        assert t.run_all() == []
        with pytest.raises(JobExpired):
            late.result()


def test_coroutines_lifespans_and_failures(app: App) -> None:
    events: list[str] = []

    @app.lifespan
    async def pool() -> AsyncIterator[None]:
        events.append("open")
        yield
        events.append("close")

    @app.lifespan
    def plain() -> Iterator[None]:
        events.append("begin")
        yield
        events.append("end")

    @app.task(retry=Retry(max_attempts=1))
    async def fetch(n: int) -> int:
        await asyncio.sleep(0)
        return 1 // n

    with app.testing() as t:
        good, bad = fetch.push(1), fetch.push(0)
        assert t.run_all() == [good, bad]
        assert good.result() == 1
        with pytest.raises(JobFailed, match="ZeroDivisionError"):
            bad.result()
    assert events == ["open", "begin", "end", "close"]


def test_a_test_may_be_a_coroutine(app: App) -> None:
    loops: list[object] = []

    @app.lifespan
    async def pool() -> AsyncIterator[None]:
        loops.append(asyncio.get_running_loop())
        yield

    @app.task
    async def fetch(n: int) -> int:
        loops.append(asyncio.get_running_loop())
        if n:
            await fetch.apush(n - 1)
        return n

    @app.task
    def plain(n: int) -> int:
        return n

    async def main() -> None:
        async with app.testing() as t:
            job, other = await fetch.apush(2), await plain.apush(3)
            assert len(await t.arun_all()) == 4
            assert await job == 2
            assert await other == 3
            assert set(loops) == {asyncio.get_running_loop()}
            with pytest.raises(RuntimeError, match="await arun_next"):
                t.run_next()

    asyncio.run(main())


def test_tasks_that_push_each_other_for_ever_are_noticed(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ratus.testing.apps._MOST", 5)

    @app.task
    def again() -> None:
        again.push()

    with app.testing() as t:
        again.push()
        with pytest.raises(RuntimeError, match="after 5 executions"):
            t.run_all()


def test_the_app_goes_back_to_its_server(app: App) -> None:
    before = app._connection
    with app.testing():
        assert app._connection is not before
    assert app._connection is before
    t = app.testing()
    t.__enter__()
    t.__exit__(LookupError, LookupError(), None)
    assert app._connection is before


def test_the_fixture_is_the_same_for_the_whole_test(
    app: App, ratus_testing: Callable[[App], AppTesting]
) -> None:
    @app.task
    def double(n: int) -> int:
        return 2 * n

    t = ratus_testing(app)
    job = double.push(4)
    t.run_all()
    assert job.result() == 8
