"""Jobs: how they are, what comes of them, cancelling them, and callbacks."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections import Counter
from datetime import datetime
from queue import SimpleQueue
from typing import Any

import pytest

from ratus import App, Job, JobCancelled, JobExpired, JobFailed, NotFound, Retry, TaskFailed, TransportError
from ratus.testing import RatusServer
from tests.app.support import PATIENCE


def test_a_result_comes_back_as_its_hint_has_it(app: App) -> None:
    @app.task
    def when(text: str) -> datetime:
        return datetime.fromisoformat(text)

    text = "2026-01-31T12:00:00+00:00"
    with app.worker():
        assert when.push(text).result(PATIENCE) == datetime.fromisoformat(text)
    job = when.push(text)
    with pytest.raises(TimeoutError, match="is not done after 0s"):
        job.result("0s")


def test_a_result_is_there_for_whoever_knows_the_id(app: App, server: RatusServer) -> None:
    @app.task(name="nothing")
    def nothing() -> None: ...

    @app.task(name="number")
    def number() -> float:
        return 1

    with app.worker():
        ids = [number.push().id, nothing.push().id]
        assert app.job(ids[0]).result(PATIENCE) == 1.0
        assert app.job(ids[1]).result(PATIENCE) is None
    with App(server.url) as other:  # which does not have the functions
        assert other.job(ids[0]).result(PATIENCE) == 1
        assert other.job(ids[0]).status == "completed"
    with pytest.raises(NotFound):
        app.job("missing").result()
    with pytest.raises(ValueError, match="known by its id"):
        app.job("")


def test_a_failure_brings_the_traceback_of_the_worker(app: App) -> None:
    @app.task(name="broken", retry=Retry(max_attempts=1))
    def broken() -> None:
        raise LookupError("no such page")

    with app.worker():
        job = broken.push()
        with pytest.raises(
            JobFailed, match=r"job failed: '.*' \(broken\): LookupError: no such page"
        ) as caught:
            job.result(PATIENCE)
    error = caught.value
    assert isinstance(error, TaskFailed)
    assert 'raise LookupError("no such page")' in error.traceback
    assert "/ratus/app/" not in error.traceback, "it begins with the program's own frames"
    assert error.__notes__ == [f"In the worker:\n{error.traceback}"]
    assert job.status == "failed"
    with pytest.raises(JobFailed):
        job.result()


def test_every_status_has_its_time(app: App, server: RatusServer) -> None:
    server.advance("1h")  # the server's clock is not the machine's

    @app.task(retry=Retry(max_attempts=2, delay="10s", jitter=0), ttl="1h")
    def work(seen: list[str]) -> None:
        statuses.put(jobs[0].status)
        raise ValueError

    statuses: SimpleQueue[str] = SimpleQueue()
    jobs: list[Job[None]] = []
    # The clock of the server is asked by tests only: here, the app goes by it.
    app._connection._now = lambda: server.now  # type: ignore[attr-defined]
    jobs.append(work.options(defer="10s").push([]))
    statuses.put(jobs[0].status)
    server.advance("10s")
    statuses.put(jobs[0].status)
    assert [statuses.get(), statuses.get()] == ["scheduled", "pending"]
    with app.worker():
        assert statuses.get(timeout=PATIENCE) == "active"
    statuses.put(jobs[0].status)
    assert statuses.get() == "retrying"
    server.advance("10s")
    with app.worker():
        assert statuses.get(timeout=PATIENCE) == "active"
    assert jobs[0].status == "failed"
    late = work.push([])
    server.advance("2h")
    assert late.status == "expired"
    with pytest.raises(JobExpired, match="no worker began with it in time"):
        late.result()


def test_a_job_is_cancelled_unless_it_is_done(app: App) -> None:
    @app.task
    def nothing() -> None: ...

    waiting = nothing.push()
    assert waiting.cancel()
    assert waiting.cancel(), "it still is"
    assert waiting.status == "cancelled"
    with pytest.raises(JobCancelled, match=waiting.id):
        waiting.result()
    with app.worker():
        done = nothing.push()
        done.result(PATIENCE)
    assert not done.cancel()
    assert done.status == "completed"
    with pytest.raises(NotFound):
        app.job("missing").cancel()


def test_a_running_job_that_is_cancelled_leaves_no_result(app: App) -> None:
    begun, go_on = threading.Event(), threading.Event()

    @app.task
    def slow() -> int:
        begun.set()
        go_on.wait(PATIENCE)
        return 1

    with app.worker():
        job = slow.push()
        begun.wait(PATIENCE)
        assert job.cancel()
        go_on.set()
    assert job.status == "cancelled"


def test_coroutines_wait_for_jobs(app: App) -> None:
    @app.task(retry=Retry(max_attempts=1))
    def half(n: int) -> int:
        if n % 2:
            raise ValueError("odd")
        return n // 2

    async def main() -> None:
        job = await half.apush(4)
        assert await job == 2
        assert await job == 2
        assert await job.astatus() == "completed"
        with pytest.raises(JobFailed, match="odd"):
            await (await half.apush(3))
        jobs = [await half.apush(2 * n) for n in range(100)]
        assert await asyncio.gather(*jobs) == list(range(100))
        with pytest.raises(NotFound):
            await app.job("missing")
        late = await half.options(defer="1h").apush(2)
        assert await late.astatus() == "scheduled"
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await late
        assert await late.acancel()

    with app.worker():
        asyncio.run(main())
        asyncio.run(main())


def test_callbacks_are_called_once_each(app: App) -> None:
    @app.task
    def double(n: int) -> int:
        return 2 * n

    called: SimpleQueue[tuple[str, int, str]] = SimpleQueue()

    def note(job: Job[int]) -> None:
        called.put((job.id, job.result(), threading.current_thread().name))

    jobs = double.push_many((n,) for n in range(500))
    for job in jobs:
        job.add_done_callback(note)
    with app.worker():
        found = [called.get(timeout=PATIENCE) for _ in jobs]
        jobs[0].add_done_callback(note)  # which is done already
        again = called.get(timeout=PATIENCE)
    assert {job_id: result for job_id, result, _ in found} == {job.id: 2 * n for n, job in enumerate(jobs)}
    assert {thread for _, _, thread in found} == {"ratus-callbacks"}
    assert again[0] == jobs[0].id
    assert called.empty()


def test_ten_thousand_callbacks_wait_with_few_requests(app: App) -> None:
    @app.task
    def nothing() -> None: ...

    calls: Counter[str] = Counter()
    done = threading.Semaphore(0)

    def note(job: Job[None]) -> None:
        calls[job.id] += 1
        done.release()

    jobs = nothing.push_many(() for _ in range(10_000))
    for job in jobs:
        job.add_done_callback(note)
    before = threading.active_count()
    with app.worker():
        for _ in jobs:
            assert done.acquire(timeout=PATIENCE)
    assert threading.active_count() <= before + 10
    assert set(calls.values()) == {1}
    assert len(calls) == 10_000


def test_an_exception_of_a_callback_is_logged_and_ends_nothing(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    @app.task
    def nothing() -> None: ...

    def broken(job: Job[None]) -> None:
        raise LookupError("in the callback")

    done = threading.Event()
    with app.worker(), caplog.at_level(logging.ERROR):
        nothing.push().add_done_callback(broken)
        nothing.push().add_done_callback(lambda job: done.set())
        # The order of callbacks is not promised; the second one is asked for after the first was called.
        assert done.wait(PATIENCE)
        app.close()
    assert "a callback of a job raised an exception" in caplog.text
    assert "in the callback" in caplog.text


def test_a_callback_comes_although_the_task_is_gone(app: App, server: RatusServer) -> None:
    @app.task
    def nothing() -> None: ...

    job = nothing.push()
    called: SimpleQueue[Any] = SimpleQueue()
    job.add_done_callback(called.put)
    with server.client() as client:
        client.delete_task(job.id)
    assert called.get(timeout=PATIENCE) is job
    with pytest.raises(NotFound):
        job.result()


def test_callbacks_wait_while_the_server_is_away() -> None:
    server = RatusServer(real_clock=True)
    server.start()
    with App(server.url, retries=0) as app:

        @app.task
        def nothing() -> None: ...

        nothing.push()
        called: SimpleQueue[Any] = SimpleQueue()
        port = int(server.url.rpartition(":")[2])
        nothing.options(id="a").push().add_done_callback(called.put)
        server.stop()
        with pytest.raises(TransportError):
            nothing.push()
        with RatusServer(real_clock=True, port=port), app.worker():
            nothing.options(id="a").push()
            assert called.get(timeout=PATIENCE).status == "completed"


def use_an_app(url: str) -> list[threading.Thread]:
    """The threads of an app that was used and is garbage by now."""
    app = App(url)

    @app.task
    def nothing() -> None: ...

    job = nothing.push()
    assert job.cancel()
    done = threading.Event()
    job.add_done_callback(lambda job: done.set())
    assert done.wait(PATIENCE)
    background = app._connection.background()  # type: ignore[attr-defined]
    return [background._thread, background._caller]


def test_an_app_that_is_garbage_leaves_no_threads_and_sockets(server: RatusServer) -> None:
    threads = use_an_app(server.url)
    gc.collect()  # a socket that nothing closes is an error
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
