"""Opening, closing, health; what survives."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from ratus.core.errors import NotFound, ServiceUnavailable
from ratus.core.kinds import TOPIC_SETTINGS
from ratus.core.options import NAME
from ratus.core.records import (
    ACTIVE,
    COMPLETED,
    FAILED,
    CommitRecord,
    RetryPolicy,
    TaskQuery,
    TaskRecord,
    TopicSettings,
)
from ratus.core.selection import Selection
from ratus.engine import Engine
from ratus.engine.testkit.base import EngineTests
from ratus.engine.testkit.harness import HOUR, MINUTE, SECOND, Harness, members
from ratus.engine.testkit.sample import SAMPLE

CALLS: dict[str, Callable[[Engine], Awaitable[object]]] = {
    "insert": lambda e: e.insert([TaskRecord("1", "t", 0, 0)], 0),
    "upsert": lambda e: e.upsert([TaskRecord("1", "t", 0, 0)], 0),
    "get": lambda e: e.get("1"),
    "list_tasks": lambda e: e.list_tasks(TaskQuery("t", 10)),
    "delete_task": lambda e: e.delete_task("1"),
    "delete_tasks": lambda e: e.delete_tasks("t"),
    "commit": lambda e: e.commit([CommitRecord("1")], 0),
    "claim": lambda e: e.claim(Selection(("t",), 1), 0),
    "claim_task": lambda e: e.claim_task("1", Selection((), 1), 0, force=False),
    "extend": lambda e: e.extend("1", "", 1, 0),
    "release": lambda e: e.release("1", 0),
    "release_topic": lambda e: e.release_topic("t", 0),
    "next_due": lambda e: e.next_due("t", 0),
    "list_topics": lambda e: e.list_topics(10, 0),
    "get_topic": lambda e: e.get_topic("t", 0),
    "known_topics": lambda e: e.known_topics({"t"}),
    "survey": lambda e: e.survey(0, lambda info: None),
    "change_settings": lambda e: e.change_settings("t", paused=True),
    "set_paused": lambda e: e.set_paused("t", True),
    "list_lanes": lambda e: e.list_lanes("t", "label", None, 10, 0),
    "lift_holds": lambda e: e.lift_holds("t", 0),
    "get_record": lambda e: e.get_record(TOPIC_SETTINGS, "t"),
    "put_record": lambda e: e.put_record(TOPIC_SETTINGS, "t", TopicSettings(paused=True)),
    "list_records": lambda e: e.list_records(TOPIC_SETTINGS, "", 10),
    "delete_topic": lambda e: e.delete_topic("t"),
    "delete_topics": lambda e: e.delete_topics(),
    "recover": lambda e: e.recover(0),
    "expire": lambda e: e.expire(0),
    "purge": lambda e: e.purge(0),
    "maintain": lambda e: e.maintain(0),
}


def writing_command(tests: EngineTests, folder: Path) -> list[str]:
    """The command of a process that writes to the tests' engine on the data that it has in the folder."""
    kind = type(tests)
    file = sys.modules[kind.__module__].__file__
    assert file is not None, f"{kind.__qualname__} has to be in a file, which another process can load"
    return [
        sys.executable,
        "-m",
        "ratus.engine.testkit.writer",
        file,
        kind.__module__,
        kind.__qualname__,
        str(folder),
    ]


class LifeTests(EngineTests):
    """Opening, closing, health; what survives."""

    @pytest.mark.parametrize("when", ["not yet open", "closed"])
    @pytest.mark.parametrize("name", CALLS)
    async def test_an_engine_that_is_not_open_says_so(self, harness: Harness, name: str, when: str) -> None:
        engine = harness.make()
        if when == "closed":
            await harness.end()
            await engine.open(harness.now)
            await engine.close(harness.now)
        health = await engine.health()
        assert health.ready is False
        assert health.detail
        with pytest.raises(ServiceUnavailable) as caught:
            await CALLS[name](engine)
        assert caught.value.detail

    async def test_an_open_engine_is_well(self, harness: Harness) -> None:
        health = await asyncio.wait_for(harness.engine.health(), 1)
        assert (health.ready, health.detail) == (True, "")

    async def test_closing_twice_does_no_harm(self, harness: Harness) -> None:
        await harness.add("1")
        engine = harness.engine
        await engine.close(harness.now)
        await engine.close(harness.now)
        await harness.reopen()
        assert await harness.ids() == ["1"]

    async def test_an_engine_says_what_it_is(self, harness: Harness) -> None:
        traits = harness.engine.traits
        assert NAME.fullmatch(traits.name)
        assert 1 <= traits.precision <= 1_000  # the suite's times are whole milliseconds

    async def test_everything_survives_a_restart(self, harness: Harness) -> None:
        await harness.add(
            "full",
            payload=b'{"a": [1, "\xc3\xa9"]}',
            priority=-3,
            producer="p",
            expires=harness.now + HOUR,
            retry=RetryPolicy(max_attempts=7, backoff="linear", delay=SECOND, max_delay=HOUR, jitter=0.5),
        )
        await harness.add("done", "failed", "later", topic="other", retry=RetryPolicy(max_attempts=1))
        await harness.add("implied", state=ACTIVE)
        await harness.claim(consumer="me")
        await harness.commit("done", result=b"[1]")
        await harness.fail("failed")
        await harness.commit("later", state=0, scheduled=harness.now + HOUR)
        ids = ["full", "done", "failed", "later", "implied"]
        before = {name: members(await harness.get(name)) for name in ids}
        topics = [await harness.info("t"), await harness.info("other")]
        await harness.reopen()
        assert {name: members(await harness.get(name)) for name in ids} == before
        assert [await harness.info("t"), await harness.info("other")] == topics
        claimed = await harness.get("full")
        assert (await harness.commit("full", claimed.nonce)).state == COMPLETED

    async def test_what_falls_due_while_it_was_closed(self, harness: Harness) -> None:
        await harness.add("later", scheduled=harness.now + SECOND)
        await harness.add("claimed", topic="other")
        await harness.add("expired", topic="other", expires=harness.now + SECOND)
        await harness.claim("other", timeout=SECOND)
        await harness.reopen()
        harness.now += MINUTE
        await harness.reopen()
        assert await harness.claim_ids() == ["later"]
        assert await harness.engine.recover(harness.now) == 1
        assert await harness.engine.expire(harness.now) == 1

    async def test_an_emptied_engine_is_empty_after_a_restart(self, harness: Harness) -> None:
        await harness.add("1", "2")
        await harness.reopen()
        await harness.engine.delete_topics()
        await harness.reopen()
        assert await harness.topics() == []

    async def test_ids_that_came_after_a_restart_come_after_the_others(self, harness: Harness) -> None:
        await harness.add("b", "a", "last")
        await harness.engine.delete_task("last")
        await harness.reopen()
        await harness.add("0", scheduled=harness.now)
        assert await harness.claim_ids() == ["b", "a", "0"]

    async def test_another_engine_on_the_same_data(self, harness: Harness) -> None:
        if not harness.engine.traits.shared:
            pytest.skip("one engine at a time on this data")
        other = await harness.start()
        await harness.add("1", "2")
        await other.set_paused("paused", True)
        assert (await harness.info("paused")).paused is True
        (claimed,) = await other.claim(Selection(("t",), harness.now + HOUR, "other"), harness.now)
        assert (await harness.get(claimed.id)).consumer == "other"
        assert (await harness.commit(claimed.id, claimed.nonce)).state == COMPLETED
        await harness.engine.delete_task("2")
        (answer,) = await other.commit([CommitRecord("2")], harness.now)
        assert isinstance(answer, NotFound)
        assert await other.insert([harness.task("1")], harness.now) == [False]

    async def test_an_answered_write_survives_kill_9(self, harness: Harness, tmp_path: Path) -> None:
        """A process of its own writes and reports every answer it gets, until it is killed in the middle."""
        if not harness.engine.traits.durable:
            pytest.skip("this engine does not promise that")
        # The writer process has to be able to import what this one can.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        await harness.end()
        writer = await asyncio.create_subprocess_exec(
            *writing_command(self, tmp_path), env=environment, stdout=asyncio.subprocess.PIPE
        )
        assert writer.stdout is not None
        answered: list[str] = []
        async for line in writer.stdout:
            answered.append(line.decode().strip())
            if len(answered) == 250:
                writer.kill()
        await writer.wait()
        assert len(answered) >= 250, "the writing process ended by itself: its error is on the standard error"
        harness.engine = await harness.start()
        for report in answered:
            what, task_id, nonce = report.split("|")
            if what == "inserted":
                assert not await harness.is_gone(task_id), report
            elif what == "claimed":
                task = await harness.get(task_id)
                assert task.nonce == nonce or task.state != ACTIVE, report
            elif what == "completed":
                assert (await harness.get(task_id)).state == COMPLETED, report
            elif what == "failed":
                assert (await harness.get(task_id)).outcome == FAILED, report
            elif what == "deleted":
                assert await harness.is_gone(task_id), report
            elif what == "recorded":
                record = await harness.engine.get_record(SAMPLE, task_id)
                assert record is not None, report
                assert str(record.version) == nonce, report
            elif what == "forgotten":
                assert await harness.engine.get_record(SAMPLE, task_id) is None, report
            else:
                assert (await harness.info(task_id)).paused is True, report
        assert {report.split("|")[0] for report in answered} == {
            "inserted",
            "claimed",
            "completed",
            "failed",
            "deleted",
            "paused",
            "recorded",
            "forgotten",
        }
