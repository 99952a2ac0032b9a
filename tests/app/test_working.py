"""The worker of an app: how functions are run, and what becomes of their tasks."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar
from datetime import timedelta
from queue import SimpleQueue
from typing import Any

import pytest

from ratus import App, Client, Execution, JobFailed, Retry, Task, TaskState, current
from ratus.testing import RatusServer
from tests.app.support import PATIENCE, wait_until


@pytest.fixture
def client(server: RatusServer) -> Iterator[Client]:
    """A client that looks at what was done."""
    with server.client() as made:
        yield made


@pytest.fixture(params=["threads", "loop"])
def app(request: pytest.FixtureRequest, server: RatusServer) -> Iterator[App]:
    """An app whose worker has threads only, and one whose worker has an event loop."""
    with App(server.url) as made:
        if request.param == "loop":

            @made.task
            async def coroutine() -> None: ...

        yield made


def test_a_worker_takes_only_what_it_chooses(app: App, client: Client) -> None:
    @app.task(name="double")
    def double(n: int) -> int:
        return 2 * n

    for number, region in enumerate(("us", "eu")):
        payload = {"task": "double", "args": [number]}
        client.insert_task(Task(id=region, topic=double.topic, payload=payload, labels={"region": region}))
    with app.worker(where={"region": "eu"}):
        assert app.job("eu").result(PATIENCE) == 2
    assert client.get_task("us").state is TaskState.PENDING
    with pytest.raises(ValueError, match="prefer"):
        app.worker(where={"region": "eu"}, prefer="customer")


def test_plain_functions_and_coroutines_run_in_one_worker(server: RatusServer) -> None:
    with App(server.url) as app:

        @app.task
        def plain() -> str:
            with pytest.raises(RuntimeError):
                asyncio.get_running_loop()
            return threading.current_thread().name

        @app.task
        async def coroutine() -> str:
            await asyncio.sleep(0)
            return threading.current_thread().name

        with app.worker(concurrency=3):
            threads = {plain.push().result(PATIENCE) for _ in range(5)}
            assert all(name.startswith("ratus-thread-") for name in threads)
            assert coroutine.push().result(PATIENCE) == "ratus-worker"


def test_so_many_run_at_a_time(app: App) -> None:
    together = threading.Barrier(4)

    @app.task
    def meet() -> None:
        together.wait(PATIENCE)

    with app.worker(concurrency=4):
        for job in meet.push_many(() for _ in range(8)):
            job.result(PATIENCE)


def test_a_function_knows_its_execution(app: App) -> None:
    @app.task(name="look", topic="t")
    def look(n: int, *, m: int) -> list[Any]:
        mine = current()
        return [mine.id, mine.topic, mine.name, mine.attempts, list(mine.args), dict(mine.kwargs), mine.lost]

    with app.worker():
        job = look.push(1, m=2)
        assert job.result(PATIENCE) == [job.id, "t", "look", 1, [1], {"m": 2}, False]
    with pytest.raises(RuntimeError, match="for the code that a worker runs"):
        current()


def test_retries_come_after_their_delay(app: App, server: RatusServer) -> None:
    attempts: SimpleQueue[int] = SimpleQueue()

    @app.task(retry=Retry(max_attempts=3, delay="10s", jitter=0))
    def flaky() -> str:
        attempts.put(current().attempts)
        if current().attempts < 3:
            raise ConnectionError("away")
        return "done"

    with app.worker():
        job = flaky.push()
        assert attempts.get(timeout=PATIENCE) == 1
        wait_until(lambda: job.status == "retrying")
        assert job.task.scheduled == job.task.committed + timedelta(seconds=10)  # type: ignore[operator]
        server.advance("10s")
        assert attempts.get(timeout=PATIENCE) == 2
        wait_until(lambda: job.status == "retrying")
        server.advance("20s")
        assert job.result(PATIENCE) == "done"
    assert job.task.attempts == 3


def test_an_execution_decides_what_comes_next(app: App, server: RatusServer) -> None:
    @app.task(retry=Retry(max_attempts=2, delay="1s"))
    def later(counts: bool) -> None:
        current().retry("1h", reason="not yet", counts=counts)

    @app.task
    def never() -> None:
        try:
            raise LookupError("gone")
        except LookupError:
            current().give_up("there is no such page")

    with app.worker():
        counting, free, given_up = later.push(True), later.push(False), never.push()
        with pytest.raises(JobFailed, match="there is no such page") as caught:
            given_up.result(PATIENCE)
        assert 'raise LookupError("gone")' in caught.value.traceback
        wait_until(lambda: counting.task.committed and free.task.committed)
    for job, attempts in ((counting, 1), (free, 0)):
        task = job.task
        assert task.attempts == attempts
        assert task.state is TaskState.PENDING
        assert task.scheduled == task.committed + timedelta(seconds=3600)  # type: ignore[operator]
    assert counting.task.error == "not yet"
    server.advance("1h")
    with app.worker():
        with pytest.raises(JobFailed, match="not yet"):
            counting.result(PATIENCE)
        assert counting.task.outcome == "failed"


def test_exceptions_decide_by_their_class(app: App) -> None:
    @app.task(retry_on=(OSError,), give_up_on=FileNotFoundError)
    def fail(kind: str) -> None:
        raise {"os": OSError, "missing": FileNotFoundError, "value": ValueError}[kind]("reason")

    with app.worker():
        again = fail.push("os")
        for kind in ("missing", "value"):
            with pytest.raises(JobFailed, match="reason"):
                fail.push(kind).result(PATIENCE)
        wait_until(lambda: again.status == "retrying")


def test_an_unknown_name_is_given_back_without_counting(
    app: App, client: Client, server: RatusServer, caplog: pytest.LogCaptureFixture
) -> None:
    @app.task(name="known")
    def known() -> None: ...

    client.insert_tasks(
        Task(id=str(n), topic="default", payload={"task": "newer", "args": []}) for n in range(3)
    )
    with app.worker(), caplog.at_level(logging.WARNING):
        wait_until(lambda: all(client.get_task(str(n)).committed for n in range(3)))
    task = client.get_task("0")
    assert (task.state, task.attempts, task.error) == (TaskState.PENDING, 0, "")
    assert task.scheduled == task.committed + timedelta(seconds=30)  # type: ignore[operator]
    assert caplog.text.count("no task function is called 'newer' here") == 1
    with App(server.url) as newer:
        newer.task(name="newer")(known.function)
        server.advance("30s")
        with newer.worker():
            assert newer.job("0").result(PATIENCE) is None


def test_arguments_that_no_longer_fit_archive_the_task(app: App, client: Client) -> None:
    @app.task(name="resize", retry=Retry(max_attempts=5))
    def resize(image: int) -> None: ...

    payloads = {
        "type": {"task": "resize", "args": ["seven"]},
        "missing": {"task": "resize", "args": []},
        "foreign": {"to": "ann"},
    }
    client.insert_tasks(Task(id=name, topic="default", payload=value) for name, value in payloads.items())
    with app.worker():
        for name, reason in (
            ("type", "image: Input should be a valid integer"),
            ("missing", "missing a required argument"),
            ("foreign", "is not the call of a task"),
        ):
            with pytest.raises(JobFailed, match=reason):
                app.job(name).result(PATIENCE)
            assert client.get_task(name).state is TaskState.ARCHIVED


def test_a_result_that_json_cannot_hold_is_a_failure(app: App) -> None:
    @app.task(retry=Retry(max_attempts=1))
    def strange() -> Any:
        return object()

    @app.task(retry=Retry(max_attempts=1))
    def unrun() -> Any:
        return (n for n in range(3))

    with app.worker():
        with pytest.raises(JobFailed, match=r"the result of .* does not fit: must be JSON"):
            strange.push().result(PATIENCE)
        with pytest.raises(JobFailed, match="which nothing runs"):
            unrun.push().result(PATIENCE)


def test_hooks_are_called_in_the_worker(app: App, caplog: pytest.LogCaptureFixture) -> None:
    seen: SimpleQueue[tuple[str, int, Any]] = SimpleQueue()

    def on_success(execution: Execution, result: Any) -> None:
        assert current() is execution
        seen.put(("success", execution.attempts, result))
        raise LookupError("in the hook")

    def on_failure(execution: Execution, error: BaseException) -> None:
        assert current() is execution
        seen.put(("failure", execution.attempts, str(error)))

    @app.task(on_success=on_success, on_failure=on_failure, retry=Retry(delay="0s"))
    def second(n: int) -> int:
        if current().attempts == 1:
            raise ValueError("first")
        return n

    with app.worker(), caplog.at_level(logging.WARNING):
        assert second.push(7).result(PATIENCE) == 7
    assert seen.get() == ("failure", 1, "first")
    assert seen.get() == ("success", 2, 7)
    assert seen.empty()
    assert "a hook of task" in caplog.text


def test_middleware_is_around_every_call(app: App) -> None:
    seen: SimpleQueue[str] = SimpleQueue()
    user: ContextVar[str] = ContextVar("user")

    @app.middleware
    def outer(execution: Execution) -> Iterator[None]:
        user.set("ann")
        try:
            yield
        except LookupError as error:
            seen.put(f"outer {error}")
            raise ValueError("instead") from error
        finally:
            seen.put("outer ends")

    @app.middleware
    def inner(execution: Execution) -> Iterator[None]:
        yield
        seen.put(f"inner ends {execution.name}")

    @app.task(name="greet")
    def greet() -> str:
        return user.get()

    @app.task(name="broken", retry=Retry(max_attempts=1))
    def broken() -> None:
        raise LookupError("lost")

    with app.worker():
        assert greet.push().result(PATIENCE) == "ann"
        assert [seen.get(), seen.get()] == ["inner ends greet", "outer ends"]
        with pytest.raises(JobFailed, match="ValueError: instead"):
            broken.push().result(PATIENCE)
        assert [seen.get(), seen.get()] == ["outer lost", "outer ends"]
    with pytest.raises(TypeError, match="middleware: give a generator function"):
        app.middleware(print)


def test_a_lifespan_is_around_the_work(app: App) -> None:
    events: list[str] = []

    @app.lifespan
    def database() -> Iterator[None]:
        events.append("open")
        yield
        events.append("close")

    @app.task
    def use() -> None:
        events.append("use")

    with app.worker():
        use.push().result(PATIENCE)
    assert events == ["open", "use", "close"]
    with pytest.raises(TypeError, match="lifespan: give a generator function"):
        app.lifespan(print)


def test_asynchronous_middleware_and_lifespans_are_entered_on_the_loop(server: RatusServer) -> None:
    user: ContextVar[str] = ContextVar("user")
    loops: list[Any] = []
    with App(server.url) as app:

        @app.lifespan
        async def pool() -> AsyncIterator[None]:
            loops.append(asyncio.get_running_loop())
            yield
            loops.append(asyncio.get_running_loop())

        @app.middleware
        async def signed_in(execution: Execution) -> AsyncIterator[None]:
            user.set(execution.name)
            await asyncio.sleep(0)
            yield

        @app.task(name="plain")
        def plain() -> str:
            return user.get()

        @app.task(name="coroutine")
        async def coroutine() -> str:
            loops.append(asyncio.get_running_loop())
            return user.get()

        with app.worker():
            assert plain.push().result(PATIENCE) == "plain"
            assert coroutine.push().result(PATIENCE) == "coroutine"
    assert len(loops) == 3
    assert len(set(map(id, loops))) == 1


def test_a_coroutine_whose_claim_is_lost_is_cancelled(server: RatusServer) -> None:
    with App(server.url) as app:
        begun, cancelled = threading.Event(), threading.Event()

        @app.task(timeout="300ms")
        async def endless() -> None:
            begun.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                assert current().lost
                cancelled.set()
                raise

        with app.worker():
            job = endless.push()
            assert begun.wait(PATIENCE)
            assert job.cancel()
            assert cancelled.wait(PATIENCE)
        assert job.status == "cancelled"


def test_a_function_whose_claim_is_lost_can_see_it(app: App) -> None:
    begun = threading.Event()
    seen: SimpleQueue[bool] = SimpleQueue()

    @app.task(timeout="300ms")
    def endless() -> None:
        mine = current()
        begun.set()
        wait_until(lambda: mine.lost)
        seen.put(True)

    with app.worker(timeout="300ms"):
        job = endless.push()
        assert begun.wait(PATIENCE)
        assert job.cancel()
        assert seen.get(timeout=PATIENCE)
    assert job.status == "cancelled"


def test_a_worker_claims_for_as_long_as_its_functions_ask(app: App) -> None:
    @app.task(timeout="2m", topic="long")
    def long() -> None: ...

    @app.task(timeout="5s", topic="short")
    def short() -> None: ...

    assert app.worker(topics=["short", "long"]).timeout == 120
    assert app.worker(topics="short").timeout == 5
    assert app.worker(topics="other").timeout == 60
    assert app.worker(timeout="7s").timeout == 7


def test_wrong_workers_are_refused(app: App) -> None:
    with pytest.raises(ValueError, match="no task functions"):
        App().worker()

    @app.task
    def nothing() -> None: ...

    with pytest.raises(ValueError, match="concurrency"):
        app.worker(concurrency=0)
    worker = app.worker()
    with worker:
        nothing.push().result(PATIENCE)
    with pytest.raises(RuntimeError, match="a worker runs only once"):
        worker.run()


def test_a_hint_that_cannot_be_converted_stops_the_start(app: App) -> None:
    class Strange: ...

    @app.task
    def strange(x: Strange) -> None: ...

    with pytest.raises(TypeError, match="the parameter 'x'"):
        app.worker()


def test_a_worker_that_was_stopped_before_it_runs_ends_at_once(app: App) -> None:
    @app.task
    def nothing() -> None: ...

    worker = app.worker()
    worker.stop()
    worker.run()


def test_an_error_of_a_lifespan_ends_the_worker(app: App) -> None:
    @app.lifespan
    def broken() -> Iterator[None]:
        raise LookupError("no database")
        yield

    @app.task
    def nothing() -> None: ...

    with pytest.raises(LookupError, match="no database"):
        app.run_worker()
    with pytest.raises(LookupError), app.worker():
        pass


def test_a_worker_runs_within_an_event_loop(app: App) -> None:
    @app.task
    def double(n: int) -> int:
        return 2 * n

    async def main() -> int:
        worker = app.worker()
        running = asyncio.create_task(worker.run_async())
        result = await (await double.apush(4))
        worker.stop()
        await running
        return result

    assert asyncio.run(main()) == 8
