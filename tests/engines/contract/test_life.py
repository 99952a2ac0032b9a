"""Opening, closing, health; what survives."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from inspect import iscoroutinefunction
from pathlib import Path

import pytest

from ratus.core.errors import NotFound, ServiceUnavailable
from ratus.core.records import (
    ACTIVE,
    COMPLETED,
    FAILED,
    Claim,
    CommitRecord,
    RetryPolicy,
    TaskQuery,
    TaskRecord,
)
from ratus.engine import Engine
from tests.engines.contract.desk import HOUR, MINUTE, SECOND, Desk, members

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).resolve().parents[3]

CALLS: dict[str, Callable[[Engine], Awaitable[object]]] = {
    "insert": lambda e: e.insert([TaskRecord("1", "t", 0, 0)], 0),
    "upsert": lambda e: e.upsert([TaskRecord("1", "t", 0, 0)], 0),
    "get": lambda e: e.get("1"),
    "list_tasks": lambda e: e.list_tasks(TaskQuery("t", 10)),
    "delete_task": lambda e: e.delete_task("1"),
    "delete_tasks": lambda e: e.delete_tasks("t"),
    "commit": lambda e: e.commit([CommitRecord("1")], 0),
    "claim": lambda e: e.claim(Claim(("t",), 1), 0),
    "claim_task": lambda e: e.claim_task("1", Claim((), 1), 0, force=False),
    "extend": lambda e: e.extend("1", "", 1, 0),
    "release": lambda e: e.release("1", 0),
    "release_topic": lambda e: e.release_topic("t", 0),
    "next_due": lambda e: e.next_due("t"),
    "list_topics": lambda e: e.list_topics(10, 0),
    "get_topic": lambda e: e.get_topic("t", 0),
    "known_topics": lambda e: e.known_topics({"t"}),
    "survey": lambda e: e.survey(0, lambda info: None),
    "set_paused": lambda e: e.set_paused("t", True),
    "delete_topic": lambda e: e.delete_topic("t"),
    "delete_topics": lambda e: e.delete_topics(),
    "recover": lambda e: e.recover(0),
    "expire": lambda e: e.expire(0),
    "purge": lambda e: e.purge(0),
    "maintain": lambda e: e.maintain(0),
}


def test_every_method_is_tried() -> None:
    operations = {name for name, method in vars(Engine).items() if iscoroutinefunction(method)}
    assert {*CALLS, "open", "close", "health"} == operations


@pytest.mark.parametrize("when", ["not yet open", "closed"])
@pytest.mark.parametrize("name", CALLS)
async def test_an_engine_that_is_not_open_says_so(desk: Desk, name: str, when: str) -> None:
    engine = desk.make()
    if when == "closed":
        await desk.end()
        await engine.open(desk.now)
        await engine.close(desk.now)
    health = await engine.health()
    assert health.ready is False
    assert health.detail
    with pytest.raises(ServiceUnavailable) as caught:
        await CALLS[name](engine)
    assert caught.value.detail


async def test_an_open_engine_is_well(desk: Desk) -> None:
    health = await asyncio.wait_for(desk.engine.health(), 1)
    assert (health.ready, health.detail) == (True, "")


async def test_closing_twice_does_no_harm(desk: Desk) -> None:
    await desk.add("1")
    engine = desk.engine
    await engine.close(desk.now)
    await engine.close(desk.now)
    await desk.reopen()
    assert await desk.ids() == ["1"]


async def test_an_engine_says_what_it_is(desk: Desk) -> None:
    traits = desk.engine.traits
    assert traits.name == desk.name
    assert 1 <= traits.precision <= 1_000  # the suite's times are whole milliseconds


async def test_everything_survives_a_restart(desk: Desk) -> None:
    await desk.add(
        "full",
        payload=b'{"a": [1, "\xc3\xa9"]}',
        priority=-3,
        producer="p",
        expires=desk.now + HOUR,
        retry=RetryPolicy(max_attempts=7, backoff="linear", delay=SECOND, max_delay=HOUR, jitter=0.5),
    )
    await desk.add("done", "failed", "later", topic="other", retry=RetryPolicy(max_attempts=1))
    await desk.add("implied", state=ACTIVE)
    await desk.claim(consumer="me")
    await desk.commit("done", result=b"[1]")
    await desk.fail("failed")
    await desk.commit("later", state=0, scheduled=desk.now + HOUR)
    ids = ["full", "done", "failed", "later", "implied"]
    before = {name: members(await desk.get(name)) for name in ids}
    topics = [await desk.info("t"), await desk.info("other")]
    await desk.reopen()
    assert {name: members(await desk.get(name)) for name in ids} == before
    assert [await desk.info("t"), await desk.info("other")] == topics
    claimed = await desk.get("full")
    assert (await desk.commit("full", claimed.nonce)).state == COMPLETED


async def test_what_falls_due_while_it_was_closed(desk: Desk) -> None:
    await desk.add("later", scheduled=desk.now + SECOND)
    await desk.add("claimed", topic="other")
    await desk.add("expired", topic="other", expires=desk.now + SECOND)
    await desk.claim("other", timeout=SECOND)
    await desk.reopen()
    desk.now += MINUTE
    await desk.reopen()
    assert await desk.claim_ids() == ["later"]
    assert await desk.engine.recover(desk.now) == 1
    assert await desk.engine.expire(desk.now) == 1


async def test_an_emptied_engine_is_empty_after_a_restart(desk: Desk) -> None:
    await desk.add("1", "2")
    await desk.reopen()
    await desk.engine.delete_topics()
    await desk.reopen()
    assert await desk.topics() == []


async def test_ids_that_came_after_a_restart_come_after_the_others(desk: Desk) -> None:
    await desk.add("b", "a", "last")
    await desk.engine.delete_task("last")
    await desk.reopen()
    await desk.add("0", scheduled=desk.now)
    assert await desk.claim_ids() == ["b", "a", "0"]


async def test_another_engine_on_the_same_data(desk: Desk) -> None:
    if not desk.engine.traits.shared:
        pytest.skip("one engine at a time on this data")
    other = await desk.start()
    await desk.add("1", "2")
    await other.set_paused("paused", True)
    assert (await desk.info("paused")).paused is True
    (claimed,) = await other.claim(Claim(("t",), desk.now + HOUR, "other"), desk.now)
    assert (await desk.get(claimed.id)).consumer == "other"
    assert (await desk.commit(claimed.id, claimed.nonce)).state == COMPLETED
    await desk.engine.delete_task("2")
    (answer,) = await other.commit([CommitRecord("2")], desk.now)
    assert isinstance(answer, NotFound)
    assert await other.insert([desk.task("1")], desk.now) == [False]


async def test_an_answered_write_survives_kill_9(desk: Desk, tmp_path: Path) -> None:
    """A process of its own writes and reports every answer it gets, until it is killed in the middle."""
    if not desk.engine.traits.durable:
        pytest.skip("this engine does not promise that")
    command = [sys.executable, "-m", "tests.engines.contract.victim", desk.name, str(tmp_path)]
    # The path is kept for an engine of another package.
    places = [str(ROOT), str(ROOT / "engines"), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
    await desk.end()
    victim = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, env=environment, stdout=asyncio.subprocess.PIPE
    )
    assert victim.stdout is not None
    answered: list[str] = []
    async for line in victim.stdout:
        answered.append(line.decode().strip())
        if len(answered) == 200:
            victim.kill()
    await victim.wait()
    assert len(answered) >= 200
    desk.engine = await desk.start()
    for report in answered:
        what, task_id, nonce = report.split("|")
        if what == "inserted":
            assert not await desk.is_gone(task_id), report
        elif what == "claimed":
            task = await desk.get(task_id)
            assert task.nonce == nonce or task.state != ACTIVE, report
        elif what == "completed":
            assert (await desk.get(task_id)).state == COMPLETED, report
        elif what == "failed":
            assert (await desk.get(task_id)).outcome == FAILED, report
        elif what == "deleted":
            assert await desk.is_gone(task_id), report
        else:
            assert (await desk.info(task_id)).paused is True, report
    assert {report.split("|")[0] for report in answered} == {
        "inserted",
        "claimed",
        "completed",
        "failed",
        "deleted",
        "paused",
    }
