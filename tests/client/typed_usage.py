"""Not run: what a user writes, for the type checker. Each `reveal` fails when a type is lost or changed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, assert_type

from ratus import (
    AsyncClient,
    AsyncDelivery,
    AsyncWorker,
    Client,
    Commit,
    CommitItem,
    CommitResult,
    Delivery,
    Promise,
    Retry,
    Task,
    TaskPage,
    TaskState,
    Topic,
    Updated,
    Worker,
)


@dataclass
class Mail:
    """A payload."""

    to: str


def handle(delivery: Delivery) -> None:
    """A handler."""
    assert_type(delivery.decode(Mail), Mail)
    assert_type(delivery.decode(list[int]), list[int])
    assert_type(delivery.task, Task)
    assert_type(delivery.payload, Any)
    assert_type(delivery.lost, bool)
    assert_type(delivery.deadline, datetime | None)
    assert_type(delivery.set_result(1).set_topic("t").retry("10s"), Delivery)
    assert_type(delivery.fail(ValueError("no")).commit(), Task)
    assert_type(delivery.extend(timedelta(minutes=1)), Promise)
    with delivery as same:
        assert_type(same, Delivery)


def use(client: Client) -> None:
    """Every kind of answer."""
    with client as same:
        assert_type(same, Client)
    task = Task(id="1", topic="t", payload={"a": 1}, retry=Retry(max_attempts=5, delay="1s"), defer=10)
    assert_type(client.insert_task(task), Updated)
    assert_type(client.insert_tasks(task for _ in range(3)), Updated)
    assert_type(client.list_topics(limit=3), list[Topic])
    assert_type(client.list_tasks("t", state=TaskState.PENDING), TaskPage)
    assert_type(client.iter_tasks("t", outcome="failed"), Iterator[Task])
    assert_type(client.get_task("1", wait=1.5), Task)
    assert_type(client.patch_task("1", Commit(nonce="n")), Task)
    assert_type(client.patch_tasks([CommitItem(id="1", nonce="n")]), list[CommitResult])
    assert_type(client.poll(["a", "b"], timeout="30s", wait=20), Delivery | None)
    assert_type(client.poll_many("t", 5, deadline=datetime.now(UTC)), list[Delivery])
    assert_type(client.insert_promise("1"), Delivery)
    assert_type(client.list_promises("t"), list[Promise])
    client.subscribe("t", handle, concurrency=8)
    Worker(client, "t", lambda delivery: delivery.retry(1)).run()
    client.poll(1)  # type: ignore[arg-type]  # a topic is a text: the suppression is unused if this is taken
    client.list_tasks("t", outcome="lost")  # type: ignore[arg-type]  # there is no such outcome


async def handle_async(delivery: AsyncDelivery) -> None:
    """A coroutine as a handler."""
    assert_type(delivery.decode(Mail), Mail)
    assert_type(await delivery.set_result(1).commit(), Task)
    assert_type(await delivery.extend(), Promise)
    async with delivery as same:
        assert_type(same, AsyncDelivery)


async def use_async(client: AsyncClient) -> None:
    """The same, awaited."""
    async with client as same:
        assert_type(same, AsyncClient)
    assert_type(await client.insert_task(Task(id="1", topic="t")), Updated)
    assert_type(client.iter_tasks("t"), AsyncIterator[Task])
    assert_type(await client.poll("t"), AsyncDelivery | None)
    assert_type(await client.poll_many("t", 5), list[AsyncDelivery])
    await client.subscribe(["a", "b"], handle_async)
    await AsyncWorker(client, "t", handle_async).run()
    await client.subscribe("t", not_a_coroutine)  # type: ignore[arg-type]  # it has to be one


def not_a_coroutine(delivery: AsyncDelivery) -> None:
    """A handler for the other client."""
