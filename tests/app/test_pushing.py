"""Decorating functions, and pushing their calls: what is sent, and what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from ratus import App, Client, Conflict, NotFound, Priority, Retry, TransportError
from ratus.testing import RatusServer


@pytest.fixture
def client(server: RatusServer) -> Iterator[Client]:
    """A client that looks at what was sent."""
    with server.client() as made:
        yield made


def test_a_push_makes_an_ordinary_task(app: App, client: Client) -> None:
    @app.task(
        name="resize",
        topic="images",
        retry=Retry(max_attempts=5),
        priority=Priority.HIGH,
        ttl="1h",
        defer="1m",
    )
    def resize(image: int, width: int = 640) -> str:
        return f"{image}-{width}"

    job = resize.push(7, width=320)
    task = client.get_task(job.id)
    assert task.payload == {"task": "resize", "args": [7], "kwargs": {"width": 320}}
    assert (task.topic, task.priority) == ("images", 5)
    assert task.retry == Retry(max_attempts=5)
    assert task.produced is not None
    assert task.scheduled is not None
    assert (task.scheduled - task.produced).total_seconds() == 60
    assert task.expires is not None
    assert (task.expires - task.produced).total_seconds() == 3600


def test_the_bare_decorator_takes_name_and_topic_from_where_it_stands(app: App, client: Client) -> None:
    @app.task
    def plain() -> None: ...

    name = f"{__name__}.test_the_bare_decorator_takes_name_and_topic_from_where_it_stands.plain"
    assert plain.name == name
    assert plain.topic == "default"
    assert client.get_task(plain.push().id).payload == {"task": name, "args": []}
    assert app.functions == {name: plain}
    assert plain.__name__ == "plain"


def test_a_task_function_is_still_the_function(app: App) -> None:
    @app.task
    def double(n: int) -> int:
        """Twice the number."""
        return 2 * n

    @app.task
    async def triple(n: int) -> int:
        return 3 * n

    assert double(4) == 8
    assert asyncio.run(triple(4)) == 12
    assert double.__doc__ == "Twice the number."


def test_options_replace_what_the_decorator_says(app: App, client: Client) -> None:
    @app.task(topic="images", priority=3, ttl="1h")
    def resize(image: int) -> None: ...

    job = resize.options(id="resize-7", topic="later", priority=-1, defer="1h", producer="me").push(7)
    assert job.id == "resize-7"
    task = client.get_task("resize-7")
    assert (task.topic, task.priority, task.producer) == ("later", -1, "me")
    again = resize.options(id="resize-7").push(8)
    assert again == job
    assert client.get_task("resize-7").payload["args"] == [7]


def test_members_that_are_not_valid_are_refused_at_once(app: App) -> None:
    def function() -> None: ...

    with pytest.raises(ValueError, match="priority"):
        app.task(priority=10)(function)
    task = app.task(name="f")(function)
    with pytest.raises(ValueError, match="invalid time"):
        task.options(scheduled="2026-01-31T12:00:00")
    with pytest.raises(ValueError, match="the name f is taken"):
        app.task(name="f")(function)
    with pytest.raises(TypeError, match="a task function already"):
        app.task(task)
    with pytest.raises(TypeError, match="give a function"):
        app.task(print)
    with pytest.raises(TypeError, match="retry_on: give classes of exceptions"):
        app.task(name="g", retry_on=[ValueError()])(function)  # type: ignore[list-item]
    with pytest.raises(ValueError, match="timeout"):
        app.task(name="h", timeout="-1s")


def test_what_no_call_would_run_is_no_task(app: App) -> None:
    def numbers() -> Iterator[int]:
        yield 1

    async def more() -> Any:
        yield 1

    for function in (numbers, more):
        with pytest.raises(TypeError, match="is a generator function"):
            app.task(function)


def test_arguments_that_do_not_fit_are_refused_and_nothing_is_sent(app: App, client: Client) -> None:
    @app.task
    def resize(image: int) -> None: ...

    with pytest.raises(TypeError, match="missing a required argument"):
        resize.push()  # type: ignore[call-arg]
    with pytest.raises(NotFound):
        client.get_topic("default")


def test_hints_of_local_classes_are_known(app: App) -> None:
    @dataclass
    class Local:
        n: int

    @app.task
    def take(value: Local) -> Local:
        return value

    take.push(Local(1))
    with pytest.raises(TypeError, match="argument value"):
        take.push(1)  # type: ignore[arg-type]


def test_many_calls_go_in_batches(app: App, client: Client) -> None:
    @app.task
    def add(a: int, b: int = 0) -> None: ...

    jobs = add.push_many((n,) for n in range(2_500))
    assert len({job.id for job in jobs}) == 2_500
    assert client.get_topic("default").count == 2_500
    assert client.get_task(jobs[2_499].id).payload["args"] == [2_499]
    (job,) = add.push_many([{"a": 1, "b": 2}])
    assert client.get_task(job.id).payload["kwargs"] == {"a": 1, "b": 2}
    assert add.push_many([]) == []


def test_calls_that_are_none_are_refused(app: App) -> None:
    @app.task
    def add(a: int) -> None: ...

    with pytest.raises(TypeError, match=r"call 1: give the arguments as a tuple, such as \(7,\)"):
        add.push_many([(1,), 7])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="several calls"):
        add.push_many({"a": 1})
    with pytest.raises(ValueError, match="cannot have one id"):
        add.options(id="x").push_many([(1,)])
    with pytest.raises(TypeError, match="argument a"):
        add.push_many([("x",)])


def test_coroutines_push_too(app: App, client: Client) -> None:
    @app.task
    def add(a: int) -> None: ...

    async def main() -> list[str]:
        jobs = await asyncio.gather(*(add.apush(n) for n in range(10)))
        jobs += await add.options(topic="more").apush_many((n,) for n in range(10))
        return [job.id for job in jobs]

    for _ in range(2):  # an event loop after the other
        ids = asyncio.run(main())
        assert len({*ids}) == 20
        assert client.get_task(ids[-1]).topic == "more"


def test_an_app_that_was_closed_connects_again(app: App, client: Client) -> None:
    @app.task
    def nothing() -> None: ...

    asyncio.run(_push(nothing))
    app.close()
    app.close()
    nothing.push()
    asyncio.run(_push(nothing))
    assert client.get_topic("default").count == 3


async def _push(function: Any) -> None:
    await function.apush()


def test_a_server_that_is_not_there_is_an_error_of_the_push() -> None:
    with App("http://127.0.0.1:9", retries=0) as app:

        @app.task
        def nothing() -> None: ...

        with pytest.raises(TransportError, match="cannot connect"):
            nothing.push()
    with pytest.raises(ValueError, match="the URL"):
        App("nonsense")
    with pytest.raises(ValueError, match="topic"):
        App(topic="")


def test_a_conflict_is_not_raised_for_an_id_that_exists(app: App, client: Client) -> None:
    """`Client.insert_task` raises it; a push may be repeated."""

    @app.task
    def nothing() -> None: ...

    try:
        nothing.options(id="a").push()
        nothing.options(id="a").push()
    except Conflict:
        pytest.fail("a push was refused")
    assert client.get_topic("default").count == 1
