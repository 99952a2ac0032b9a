"""A server whose limits are lower than the defaults is asked for less; nothing fails, nothing is left out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ratus import BadRequest, Client, CommitItem, PayloadTooLarge, Task, TaskState
from ratus.testing import RatusServer
from tests.client.support import InBackground, connect


@pytest.fixture(params=["0s", "10s", "1500ms"])
def impatient(request: pytest.FixtureRequest) -> Iterator[RatusServer]:
    """A server that does not wait for long."""
    with RatusServer("--promise-max-wait", str(request.param), real_clock=True) as running:
        yield running


def test_a_worker_of_a_server_that_waits_for_less_goes_on(kind: str, impatient: RatusServer) -> None:
    with Client(impatient.url) as direct, connect(kind, impatient.url) as client:
        working = InBackground(lambda: client.subscribe("t", lambda _: client.stop(), concurrency=2))
        direct.insert_task(Task(id="1", topic="t"))
        working.join()
        assert direct.get_task("1").state is TaskState.COMPLETED


def test_a_task_is_waited_for_at_a_server_that_waits_for_less(kind: str, impatient: RatusServer) -> None:
    with Client(impatient.url) as direct, connect(kind, impatient.url) as client:
        direct.insert_task(Task(id="1", topic="t"))
        waiting = InBackground(lambda: client.wait_for_task("1"))
        direct.patch_task("1")
        assert waiting.join().state is TaskState.COMPLETED
        assert client.wait_for_task("1", "1m").state is TaskState.COMPLETED


def test_all_tasks_and_topics_are_listed_at_a_server_with_short_pages(kind: str) -> None:
    with RatusServer("--pagination-max-limit", "5") as server, connect(kind, server.url) as client:
        client.insert_tasks(Task(id=str(n), topic=f"t{n % 21}") for n in range(42))
        client.insert_tasks((Task(id=f"m{n}") for n in range(31)), topic="many")
        assert [topic.name for topic in client.iter_topics()] == [f"t{n}" for n in range(21)] + ["many"]
        assert len(list(client.iter_tasks("many"))) == 31
        with pytest.raises(BadRequest):
            list(client.iter_tasks("x" * 2_000))


def test_all_topics_are_listed_or_it_is_an_error(kind: str) -> None:
    with RatusServer("--pagination-max-offset", "10") as server, connect(kind, server.url) as client:
        client.insert_tasks(Task(id=str(n), topic=f"t{n}") for n in range(21))
        assert len(list(client.iter_topics())) == 21
        with pytest.raises(BadRequest, match="offset"):
            list(client.iter_topics(page_size=7))


@pytest.mark.parametrize(
    "limit", [("--max-batch-size", "5"), ("--max-batch-size", "1"), ("--max-body-size", "4KiB")]
)
def test_batches_are_divided_for_a_server_that_takes_less(kind: str, limit: tuple[str, str]) -> None:
    with RatusServer(*limit) as server, connect(kind, server.url) as client:
        tasks = [Task(id=str(n), payload="x" * 300) for n in range(83)]
        assert client.insert_tasks(tasks, topic="t").created == 83
        assert [task.id for task in client.iter_tasks("t")] == [task.id for task in tasks]
        assert client.upsert_tasks(tasks, topic="t").updated == 83
        results = client.patch_tasks(CommitItem(id=str(n)) for n in range(83))
        assert [(result.id, result.status) for result in results] == [(str(n), 200) for n in range(83)]


def test_one_task_that_is_too_large_is_refused_and_those_before_it_are_in(kind: str) -> None:
    with RatusServer("--max-body-size", "4KiB") as server, connect(kind, server.url) as client:
        tasks = [Task(id=str(n), payload="x" * (5_000 if n == 7 else 10)) for n in range(20)]
        with pytest.raises(PayloadTooLarge):
            client.insert_tasks(tasks, topic="t")
        assert [task.id for task in client.iter_tasks("t")] == [str(n) for n in range(7)]


def test_what_was_learned_is_kept(kind: str) -> None:
    with RatusServer("--max-batch-size", "5") as server, connect(kind, server.url) as client:
        inner: Any = getattr(client, "_target", client)
        client.insert_tasks((Task(id=str(n)) for n in range(40)), topic="t")
        assert inner._bounds.batch_items == 5


def test_a_worker_commits_where_batches_are_small(kind: str) -> None:
    limits = ("--max-batch-size", "3", "--promise-max-limit", "4")
    with RatusServer(*limits, real_clock=True) as server, connect(kind, server.url) as client:
        client.insert_tasks((Task(id=str(n)) for n in range(30)), topic="t")
        left = [30]

        def handle(delivery: Any) -> None:
            left[0] -= 1
            if not left[0]:
                client.stop()

        InBackground(lambda: client.subscribe("t", handle)).join()
        assert client.get_topic("t").states.completed == 30
