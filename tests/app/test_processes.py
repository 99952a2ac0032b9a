"""Functions that run in processes, and time limits."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from ratus import App, Execution, JobFailed, Retry, current
from ratus.testing import RatusServer
from tests.app.support import PATIENCE, wait_until

# A process imports this module, and finds the functions of this app; the server is that of each test.
app = App()
once = Retry(max_attempts=1)


@app.middleware
def marked(execution: Execution) -> Iterator[None]:
    os.environ["MARK"] = execution.name
    yield


@app.task(name="look", executor="process", retry=once)
def look(values: dict[str, float]) -> list[Any]:
    return [os.getpid(), os.environ["MARK"], current().id, current().attempts, values["x"]]


@app.task(name="fail", executor="process", retry=once)
def fail(how: str) -> None:
    if how == "raise":
        raise LookupError("in the process")
    if how == "give up":
        current().give_up("for good")
    if how == "exit":
        os._exit(7)
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(name="endless", executor="process", time_limit="300ms", retry=once)
def endless() -> None:
    threading.Event().wait()


@app.task(name="until_lost", executor="process", retry=once, timeout="1s")
def until_lost() -> None:
    threading.Event().wait()


@pytest.fixture(params=["threads", "loop"])
def connected(
    request: pytest.FixtureRequest, live: RatusServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[App]:
    """The app on the test's server, with a worker of threads only, and with one of an event loop."""
    served = App(live.url)  # another module's app would be given its server by RATUS_URL
    monkeypatch.setattr(app, "_connection", served._connection)
    monkeypatch.setattr(app, "_functions", dict(app.functions))
    if request.param == "loop":

        @app.task
        async def coroutine() -> None: ...

    yield app
    served.close()


def test_a_function_runs_in_a_process(connected: App) -> None:
    with connected.worker(concurrency=1):
        first, second = (look.push({"x": 1.5}) for _ in range(2))
        pid, *others = first.result(PATIENCE)
        assert pid != os.getpid()
        assert others == ["look", first.id, 1, 1.5]
        assert second.result(PATIENCE)[0] == pid, "a process is kept"
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_what_ends_a_function_does_not_end_the_worker(connected: App) -> None:
    with connected.worker(concurrency=1):
        for how, reason in (
            ("raise", "LookupError: in the process"),
            ("give up", "for good"),
            ("exit", "the process that ran it has ended with exit code 7"),
            ("kill", "the process that ran it has ended by SIGKILL"),
        ):
            with pytest.raises(JobFailed, match=reason):
                fail.push(how).result(PATIENCE)
        assert look.push({"x": 2}).result(PATIENCE)[4] == 2


def test_a_process_is_killed_when_its_time_is_up(connected: App) -> None:
    with connected.worker(concurrency=1), pytest.raises(JobFailed, match=r"the time limit of 0.3 s is over"):
        endless.push().result(PATIENCE)


def test_a_process_is_killed_when_its_claim_is_lost(connected: App) -> None:
    with connected.worker(concurrency=1, timeout="1s"):
        job = until_lost.push()
        wait_until(lambda: job.status == "active")
        assert job.cancel()
        assert look.push({"x": 1}).result(PATIENCE), "the place is free again"
    assert job.status == "cancelled"


def test_a_worker_that_stops_kills_what_does_not_end(connected: App) -> None:
    with connected.worker(concurrency=1, grace="0s"):
        job = until_lost.push()
        wait_until(lambda: job.status == "active")
    assert job.status == "pending"


def test_a_coroutine_is_cancelled_when_its_time_is_up(live: RatusServer) -> None:
    with App(live.url) as own:
        cancelled = threading.Event()

        @own.task(time_limit="50ms", retry=once)
        async def waiting() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()

        @own.task(time_limit="1h", retry=once)
        async def failing() -> None:
            raise TimeoutError("of its own")

        with own.worker():
            with pytest.raises(JobFailed, match=r"TimeoutError: the time limit of 0.05 s is over"):
                waiting.push().result(PATIENCE)
            with pytest.raises(JobFailed, match="TimeoutError: of its own"):
                failing.push().result(PATIENCE)
    assert cancelled.is_set()


def test_what_cannot_be_run_or_ended_so_is_refused() -> None:
    own = App()

    def plain() -> None: ...

    async def coroutine() -> None: ...

    with pytest.raises(ValueError, match="at its top level"):
        own.task(executor="process")(plain)
    with pytest.raises(ValueError, match="a thread cannot be ended"):
        own.task(time_limit="1s")(plain)
    with pytest.raises(ValueError, match="runs on the worker's event loop"):
        own.task(executor="process")(coroutine)
    with pytest.raises(ValueError, match="neither 'thread' nor 'process'"):
        own.task(executor="fibre")  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="longer than 0s"):
        own.task(time_limit="0s")
