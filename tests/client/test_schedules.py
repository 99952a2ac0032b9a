"""Schedules from both clients."""

from __future__ import annotations

from typing import Any

import pytest

from ratus import BadRequest, Client, NotFound, Retry, Schedule, ScheduledTask
from ratus.testing import RatusServer


def test_a_schedule_is_made_read_changed_run_and_deleted(ratus: Any) -> None:
    task = ScheduledTask(payload={"x": 1}, priority=3, retry=Retry(max_attempts=2), ttl="1h")
    nightly = Schedule(name="a/b", topic="t", cron="30 2 * * *", zone="Europe/Berlin", task=task)
    with pytest.raises(NotFound):
        ratus.get_schedule("a/b")
    made = ratus.put_schedule(nightly)
    assert (made.cron, made.task, made.last) == ("30 2 * * *", task, None)
    assert made.next is not None
    assert ratus.get_schedule("a/b") == made
    # What was read can be put again, and changes nothing.
    assert ratus.put_schedule(made) == made
    assert ratus.preview_schedule(made).ticks[0] == made.next
    assert ratus.preview_schedule(made).words == "At 02:30 every day, in Europe/Berlin"
    paused = ratus.patch_schedule("a/b", paused=True)
    assert (paused.paused, paused.next) == (True, None)
    task_id = ratus.run_schedule("a/b")
    assert task_id.startswith("a/b@")
    assert ratus.get_task(task_id).payload == {"x": 1}
    last = ratus.get_schedule("a/b").last
    assert (last.id, last.state) == (task_id, 0)
    every = ratus.patch_schedule("a/b", cron=None, zone=None, every="15m", paused=None)
    assert every.every.total_seconds() == 900
    assert [each.name for each in ratus.list_schedules()] == ["a/b"]
    with pytest.raises(BadRequest, match="zone"):
        ratus.patch_schedule("a/b", zone="Europe/Berlon")
    assert ratus.delete_schedule("a/b") == 1
    assert ratus.delete_schedule("a/b") == 0
    with pytest.raises(NotFound):
        ratus.run_schedule("a/b")


def test_slips_are_refused_before_anything_is_sent() -> None:
    client = Client("http://127.0.0.1:1")
    with pytest.raises(ValueError, match="must not be empty"):
        client.put_schedule(Schedule(topic="t", every="1h"))
    with pytest.raises(ValueError, match="did you mean 'cron'"):
        Schedule(name="a", topic="t", corn="@daily")


def test_all_schedules_are_iterated_over_pages() -> None:
    with RatusServer() as server, server.client() as client:
        names = [f"n{number:03}" for number in range(25)]
        for name in names:
            client.put_schedule(Schedule(name=name, topic="t", every="1h"))
        assert [schedule.name for schedule in client.iter_schedules(page_size=10)] == names
