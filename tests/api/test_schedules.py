"""Schedules over HTTP: what is taken, what is refused, and what a tick makes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.clocked import SECOND, Clocked
from tests.servers import Api, assert_error

MINUTE = 60 * SECOND
DAILY = {"topic": "reports", "cron": "30 2 * * *", "zone": "Europe/Berlin"}


@pytest.fixture
def clocked() -> Any:
    with Clocked("--chore-interval", "1h") as made:
        yield made


def ids(clocked: Clocked, topic: str) -> list[str]:
    return [task["_id"] for task in clocked.request("GET", f"/topics/{topic}/tasks?limit=100").json["data"]]


def pass_time(clocked: Clocked, microseconds: int) -> None:
    clocked.clock.advance(microseconds)
    clocked.turn()


def test_a_schedule_is_set_read_changed_and_deleted(clocked: Clocked) -> None:
    assert clocked.request("GET", "/schedules/a").status == 404
    made = clocked.request("PUT", "/schedules/a", {**DAILY, "task": {"payload": {"x": 1}, "priority": 3}})
    assert made.status == 201
    assert made.json == {
        "name": "a",
        **DAILY,
        "task": {"payload": {"x": 1}, "priority": 3},
        "next": "2027-01-16T01:30:00Z",  # the clock stands at 2027-01-15T08:00:00Z
    }
    assert clocked.request("GET", "/schedules/a").json == made.json
    again = clocked.request("PUT", "/schedules/a", {**DAILY, "task": {"payload": {"x": 1}, "priority": 3}})
    assert (again.status, again.json) == (200, made.json)
    changed = clocked.request("PATCH", "/schedules/a", {"cron": None, "zone": None, "every": "15m"})
    assert changed.status == 200
    assert (changed.json["every"], changed.json["next"]) == ("15m0s", "2027-01-15T08:15:00Z")
    assert changed.json["task"] == {"payload": {"x": 1}, "priority": 3}
    assert "cron" not in changed.json
    assert clocked.request("PATCH", "/schedules/b", {"every": "15m"}).status == 404
    assert clocked.request("DELETE", "/schedules/a").json == {"deleted": 1}
    assert clocked.request("DELETE", "/schedules/a").json == {"deleted": 0}


def test_a_tick_makes_an_ordinary_task(clocked: Clocked) -> None:
    task = {"payload": [1], "priority": 3, "retry": {"max_attempts": 2}, "ttl": "1h", "producer": "cron"}
    clocked.request("PUT", "/schedules/a", {"topic": "t", "every": "15m", "task": task})
    pass_time(clocked, 15 * MINUTE - 1)
    assert ids(clocked, "t") == []
    pass_time(clocked, 1)
    (made,) = clocked.request("GET", "/topics/t/tasks").json["data"]
    assert made == {
        "_id": "a@2027-01-15T08:15:00Z",
        "topic": "t",
        "state": 0,
        "nonce": "",
        "produced": "2027-01-15T08:15:00Z",
        "scheduled": "2027-01-15T08:15:00Z",
        "producer": "cron",
        "expires": "2027-01-15T09:15:00Z",
        "priority": 3,
        "retry": {"max_attempts": 2},
        "payload": [1],
    }
    schedule = clocked.request("GET", "/schedules/a").json
    assert (schedule["next"], schedule["last"]) == (
        "2027-01-15T08:30:00Z",
        {"_id": "a@2027-01-15T08:15:00Z", "state": 0},
    )
    clocked.commit(made["_id"], state=3)
    pass_time(clocked, 15 * MINUTE)
    assert ids(clocked, "t")[1:] == ["a@2027-01-15T08:30:00Z"]


def test_a_waiting_poll_gets_the_task_of_a_tick(clocked: Clocked) -> None:
    clocked.request("PUT", "/schedules/a", {"topic": "t", "every": "30s"})
    poll = clocked.begin("POST", "/topics/t/promises?wait=60s")
    pass_time(clocked, 30 * SECOND)
    assert poll.result().json["_id"] == "a@2027-01-15T08:00:30Z"


def test_a_pause_and_an_edit_never_fire_the_past(clocked: Clocked) -> None:
    clocked.request("PUT", "/schedules/a", {"topic": "t", "every": "15m"})
    paused = clocked.request("PATCH", "/schedules/a", {"paused": True}).json
    assert paused["paused"] is True
    assert "next" not in paused
    pass_time(clocked, 60 * MINUTE)
    assert ids(clocked, "t") == []
    resumed = clocked.request("PATCH", "/schedules/a", {"paused": False}).json
    assert resumed["next"] == "2027-01-15T09:15:00Z"
    clocked.request("PUT", "/schedules/a", {"topic": "t", "every": "10m", "start": "2027-01-15T00:00:00Z"})
    clocked.turn()
    assert ids(clocked, "t") == []
    pass_time(clocked, 10 * MINUTE)
    assert ids(clocked, "t") == ["a@2027-01-15T09:10:00Z"]


def test_a_tick_that_is_due_is_made_before_an_edit(clocked: Clocked) -> None:
    clocked.request("PUT", "/schedules/a", {"topic": "t", "every": "15m", "task": {"payload": "old"}})
    clocked.clock.advance(15 * MINUTE)  # the timer rings, and its tick is not made yet
    clocked.request("PUT", "/schedules/a", {"topic": "t", "every": "15m", "task": {"payload": "new"}})
    clocked.turn()
    assert [task["payload"] for task in clocked.request("GET", "/topics/t/tasks").json["data"]] == ["old"]
    pass_time(clocked, 15 * MINUTE)
    assert ids(clocked, "t") == ["a@2027-01-15T08:15:00Z", "a@2027-01-15T08:30:00Z"]


def test_overlap_skip(clocked: Clocked) -> None:
    clocked.request("PUT", "/schedules/a", {"topic": "t", "every": "15m", "overlap": "skip"})
    pass_time(clocked, 15 * MINUTE)
    pass_time(clocked, 15 * MINUTE)
    assert ids(clocked, "t") == ["a@2027-01-15T08:15:00Z"]
    claim = clocked.claim("t")
    pass_time(clocked, 5 * MINUTE)
    assert len(ids(clocked, "t")) == 1
    clocked.commit(claim["_id"], nonce=claim["nonce"])
    pass_time(clocked, 15 * MINUTE)
    assert ids(clocked, "t") == ["a@2027-01-15T08:15:00Z", "a@2027-01-15T08:45:00Z"]


def test_runs_by_hand(clocked: Clocked) -> None:
    assert clocked.request("POST", "/schedules/a/runs").status == 404
    clocked.request("PUT", "/schedules/a", {**DAILY, "topic": "t", "paused": True})
    made = [clocked.request("POST", "/schedules/a/runs") for _ in range(2)]
    assert [each.status for each in made] == [201, 201]
    assert [each.json["_id"] for each in made] == ["a@2027-01-15T08:00:00Z", "a@2027-01-15T08:00:00.000001Z"]
    assert ids(clocked, "t") == [each.json["_id"] for each in made]
    assert clocked.request("GET", "/schedules/a").json["last"] == {"_id": made[1].json["_id"], "state": 0}


def test_a_schedule_ends(clocked: Clocked) -> None:
    end = "2027-01-15T08:30:00Z"
    made = clocked.request("PUT", "/schedules/a", {"topic": "t", "every": "15m", "end": end})
    assert made.json["next"] == "2027-01-15T08:15:00Z"
    pass_time(clocked, 15 * MINUTE)
    pass_time(clocked, 15 * MINUTE)
    assert "next" not in clocked.request("GET", "/schedules/a").json
    pass_time(clocked, 60 * MINUTE)
    assert len(ids(clocked, "t")) == 2


def test_schedules_are_listed(clocked: Clocked) -> None:
    for number in range(5):
        clocked.request("PUT", f"/schedules/s{number}", DAILY)
    page = clocked.request("GET", "/schedules?limit=3").json
    assert [each["name"] for each in page["data"]] == ["s0", "s1", "s2"]
    page = clocked.request("GET", f"/schedules?limit=3&after={page['next']}").json
    assert [each["name"] for each in page["data"]] == ["s3", "s4"]
    assert "next" not in page


def test_a_preview_changes_nothing(clocked: Clocked) -> None:
    shown = clocked.request("POST", "/schedules/preview", {**DAILY, "cron": "30 2 * * MON"})
    assert shown.status == 200
    assert shown.json["words"] == "At 02:30 on Monday, in Europe/Berlin"
    assert shown.json["ticks"][:2] == ["2027-01-18T01:30:00Z", "2027-01-25T01:30:00Z"]
    assert len(shown.json["ticks"]) == 5
    assert clocked.request("GET", "/schedules").json == {"data": []}
    pass_time(clocked, 30 * 86_400 * SECOND)
    assert ids(clocked, "reports") == []


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"topic": None}, "topic: name the topic"),
        ({"topic": "a" * 1025}, "topic must not be longer"),
        ({"cron": None}, "give either cron"),
        ({"every": "1h"}, "give either cron"),
        ({"cron": "61 2 * * *"}, "minute"),
        ({"cron": "0 0 30 2 *"}, "day-of-month"),
        ({"cron": 7}, "cron: expected a text"),
        ({"zone": "Europe/Berlon"}, "zone: "),
        ({"cron": None, "every": "1h"}, "zone: an interval is the same"),
        ({"cron": None, "zone": None, "every": "999ms"}, "every: it must be at least 1s"),
        ({"start": "2027-01-15T08:00:00Z", "end": "2027-01-14T08:00:00Z"}, "end: it is before start"),
        ({"start": "2027-01-15T08:00:00Z", "end": "2027-01-15T08:00:01Z"}, "no tick between start and end"),
        ({"overlap": "never"}, "overlap: "),
        ({"catch_up": "none"}, "catch_up: "),
        ({"paused": 1}, "paused: expected true or false"),
        ({"nxt": 1}, '"nxt" is unknown'),
        ({"next": "2027-01-15T08:00:00Z"}, '"next" is unknown'),
        ({"task": []}, "task: expected an object"),
        ({"task": {"payloda": 1}}, 'task: the member "payloda" is unknown'),
        ({"task": {"_id": "a"}}, 'task: the member "_id" is unknown'),
        ({"task": {"priority": 10}}, "task: priority: "),
        ({"task": {"ttl": "0s"}}, "task: ttl: "),
        ({"task": {"payload": "e" * 40_000}, "nxt": 1}, '"nxt" is unknown'),
    ],
)
@pytest.mark.parametrize(
    ("method", "target"), [("PUT", "/v1/schedules/a"), ("POST", "/v1/schedules/preview")]
)
def test_what_is_refused(api: Api, method: str, target: str, change: Any, detail: str) -> None:
    members = {name: value for name, value in {**DAILY, **change}.items() if value is not None}
    assert_error(api.request(method, target, members), 400, detail)
    assert api.get("/v1/schedules/a").status == 404


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("PUT", "/v1/schedules/a?x=1", DAILY),
        ("PUT", "/v1/schedules/", DAILY),
        ("PUT", "/v1/schedules/" + "a" * 901, DAILY),
        ("PUT", "/v1/schedules/a", None),
        ("GET", "/v1/schedules?state=1", None),
        ("POST", "/v1/schedules/a/runs", {"payload": 1}),
    ],
)
def test_what_else_is_refused(api: Api, method: str, target: str, body: Any) -> None:
    assert_error(api.request(method, target, body), 400)


def test_a_task_has_a_size(api: Api) -> None:
    task = {"payload": "e" * 66_000}
    assert_error(api.put("/v1/schedules/a", {**DAILY, "task": task}), 413, "task: it takes at most 65536")
