"""A call whose answer was lost never undoes what happened after it was carried out.

The answer of the first attempt is lost after the server has carried it out; then others go on with the task
or the topic. Whatever the client does now, everything must stay as the others left it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from ratus import Client, Commit, CommitItem, Limits, RatusError, Schedule, Task, TaskState
from ratus.testing import RatusServer
from tests.client.lossy import Forwarding
from tests.client.support import answer, connect

Step = Callable[[Any], Any]

TASK = Task(id="1", topic="t", payload="first")
AGAIN = Task(id="1", topic="t", payload="second")


def nothing(client: Any) -> None:
    """No step."""


def insert(client: Any) -> None:
    client.insert_task(TASK)


def insert_again(client: Any) -> None:
    client.insert_task(AGAIN)


def claim(client: Any) -> None:
    client.insert_task(TASK)
    client.poll("t", timeout="1m")


def finish(client: Any) -> None:
    client.poll("t").set_result("done").commit()


def claim_again(client: Any) -> None:
    with suppress(RatusError):
        client.delete_promise("1")
    client.poll("t", timeout="1h", consumer="another")


def steal(client: Any) -> None:
    client.upsert_promise("1", timeout="1h", consumer="another")


def revive(client: Any) -> None:
    client.patch_task("1", Commit(state=TaskState.PENDING))


def pause(client: Any) -> None:
    client.patch_topic("t", paused=True)


def unpause(client: Any) -> None:
    client.patch_topic("t", paused=False)


def set_first(client: Any) -> None:
    client.set_value("v", "first")


def set_second(client: Any) -> None:
    client.set_value("v", "second")


def set_limits(client: Any) -> None:
    client.set_limits("t", Limits(concurrency=2))


def schedule(topic: str) -> Schedule:
    return Schedule(name="s", topic=topic, cron="0 3 * * *")


def put_first(client: Any) -> None:
    client.put_schedule(schedule("first"))


def put_second(client: Any) -> None:
    client.put_schedule(schedule("second"))


def run_again(client: Any) -> None:
    client.run_schedule("s")


def nonce(client: Any) -> str:
    """The nonce of the running claim, as its holder knows it."""
    return str(client.get_task("1").nonce)


# Each call that changes something: what was before, the call, and what others do behind it.
CALLS: dict[str, tuple[Step, Callable[[Any, str], Any], Step]] = {
    "insert_task": (nothing, lambda c, _: c.insert_task(TASK), finish),
    "insert_tasks": (nothing, lambda c, _: c.insert_tasks([TASK]), finish),
    "upsert_task": (nothing, lambda c, _: c.upsert_task(TASK), finish),
    "upsert_task, there already": (insert_again, lambda c, _: c.upsert_task(TASK), finish),
    "upsert_tasks": (nothing, lambda c, _: c.upsert_tasks([TASK]), finish),
    "delete_task": (insert, lambda c, _: c.delete_task("1"), insert_again),
    "delete_tasks": (insert, lambda c, _: c.delete_tasks("t"), insert_again),
    "delete_topic": (insert, lambda c, _: c.delete_topic("t"), insert_again),
    "delete_topics": (insert, lambda c, _: c.delete_topics(), insert_again),
    "patch_topic, paused": (insert, lambda c, _: c.patch_topic("t", paused=True), unpause),
    "patch_topic, not paused": (insert, lambda c, _: c.patch_topic("t", paused=False), pause),
    "patch_task, forced": (claim, lambda c, _: c.patch_task("1"), revive),
    "patch_task, forced, with members": (claim, lambda c, _: c.patch_task("1", Commit(result=1)), revive),
    "patch_task, to pending": (
        claim,
        lambda c, n: c.patch_task("1", Commit(nonce=n, state=TaskState.PENDING)),
        claim_again,
    ),
    "patch_task": (claim, lambda c, n: c.patch_task("1", Commit(nonce=n)), revive),
    "patch_tasks, forced": (claim, lambda c, _: c.patch_tasks([CommitItem(id="1")]), revive),
    "patch_tasks": (claim, lambda c, n: c.patch_tasks([CommitItem(id="1", nonce=n)]), revive),
    "poll": (insert, lambda c, _: c.poll("t"), claim_again),
    "poll_many": (insert, lambda c, _: c.poll_many("t", 5), claim_again),
    "insert_promise": (insert, lambda c, _: c.insert_promise("1"), claim_again),
    "upsert_promise": (insert, lambda c, _: c.upsert_promise("1"), steal),
    "extend_promise, forced": (claim, lambda c, _: c.extend_promise("1", timeout="1s"), claim_again),
    "extend_promise": (claim, lambda c, n: c.extend_promise("1", nonce=n, timeout="1s"), claim_again),
    "delete_promise": (claim, lambda c, _: c.delete_promise("1"), claim_again),
    "delete_promises": (claim, lambda c, _: c.delete_promises("t"), claim_again),
    "set_limits": (insert, lambda c, _: c.set_limits("t", Limits(concurrency=1)), set_limits),
    "set_value": (nothing, lambda c, _: c.set_value("v", 1), set_second),
    "put_schedule": (nothing, lambda c, _: c.put_schedule(schedule("first")), put_second),
    "patch_schedule": (put_first, lambda c, _: c.patch_schedule("s", topic="third"), put_second),
    "run_schedule": (put_first, lambda c, _: c.run_schedule("s"), run_again),
    "delete_schedule": (put_first, lambda c, _: c.delete_schedule("s"), put_second),
    "delete_value": (set_first, lambda c, _: c.delete_value("v"), set_second),
}

LOST: dict[str, bytes | None] = {
    "connection closed": None,
    "half an answer": b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
    "503": answer(503, b'{"error":{"code":503,"message":"service unavailable: the database is slow"}}'),
    "gateway": answer(504, b"<html>Gateway timeout</html>"),
    "page": answer(200, b"<html>Please sign in</html>"),
    "500": answer(500, b"<html>Oops</html>"),
}


def test_every_call_that_changes_something_is_tried() -> None:
    changing = {
        name
        for name in vars(Client)
        if name.startswith(
            ("insert_", "upsert_", "patch_", "delete_", "extend_", "poll", "set_", "put_", "run_")
        )
    }
    assert {name.partition(",")[0] for name in CALLS} == changing


@pytest.mark.parametrize("name", CALLS)
def test_a_call_whose_answer_was_lost_leaves_what_came_after_it(
    kind: str, server: RatusServer, name: str
) -> None:
    with Client(server.url) as others:
        for lost, data in LOST.items():
            before, after = _call_and_lose_the_answer(kind, server.url, others, name, data)
            assert after == before, lost
            others.delete_topics()
            others.delete_value("v")
            others.delete_schedule("s")


def _call_and_lose_the_answer(
    kind: str, url: str, others: Client, name: str, lost: bytes | None
) -> tuple[Any, Any]:
    """Everything there is when the client notices that its answer was lost, and when its call has ended."""
    before, call, meanwhile = CALLS[name]
    seen: list[Any] = []

    def everything() -> Any:
        topics = [others.get_topic(topic.name).to_wire() for topic in others.list_topics()]
        tasks = [task.to_wire() for topic in topics for task in others.iter_tasks(topic["name"])]
        values = [value.to_wire() for value in others.iter_values()]
        schedules = [each.to_wire() for each in others.iter_schedules()]
        return topics, tasks, values, schedules

    def replace(number: int, data: bytes) -> bytes | None:
        if number:
            return data
        assert data.startswith(b"HTTP/1.1 2"), "the first attempt was not carried out"
        meanwhile(others)
        seen.append(everything())
        return lost

    before(others)
    held = nonce(others) if before is claim else ""
    with (
        Forwarding(url, replace, close_after=True) as proxy,
        connect(kind, proxy.url) as client,
        suppress(RatusError),
    ):
        call(client, held)
    return seen[0], everything()
