"""Looking at topics, pausing them, and waiting for a result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.servers import Api, assert_error, eventually, serving

PAST, FUTURE = "2001-02-03T04:05:06Z", "2999-01-01T00:00:00Z"


def test_what_a_topic_tells(api: Api, name: str) -> None:
    api.insert(name, f"{name}1", scheduled="2001-02-03T04:05:07Z", priority=9)
    api.insert(name, f"{name}2", scheduled=PAST)
    api.insert(name, f"{name}3", scheduled=FUTURE)
    for number, state in enumerate([1, 2, 2, 3, 3, 3], 4):
        api.insert(name, f"{name}{number}", state=state, scheduled=PAST)
    assert api.get(f"/v1/topics/{name}").json == {
        "name": name,
        "count": 9,
        "states": {"pending": 3, "active": 1, "completed": 2, "archived": 3},
        "due": 2,
        "oldest": PAST,
    }
    assert api.post(f"/v1/topics//promises/{name}2").status == 200
    topic = api.get(f"/v1/topics/{name}").json
    assert (topic["states"], topic["due"], topic["oldest"]) == (
        {"pending": 2, "active": 2, "completed": 2, "archived": 3},
        1,
        "2001-02-03T04:05:07Z",
    )
    api.claim(name)
    topic = api.get(f"/v1/topics/{name}").json
    assert topic["due"] == 0
    assert "oldest" not in topic


def test_topics_are_listed_with_details(tmp_path: Path) -> None:
    with serving(tmp_path, "--chore-interval", "0") as server, Api(server.port) as api:
        for number in range(40):
            api.insert(f"t{number:02}", str(number), priority=1)
        api.claim("t03")
        api.patch("/v1/topics/t05", {"paused": True})
        listed = api.get("/v1/topics?details=true&limit=100").json["data"]
        assert listed == [api.get(f"/v1/topics/t{number:02}").json for number in range(40)]
        assert listed[5]["paused"] is True
        page = api.get("/v1/topics?details=true&limit=2&offset=3").json["data"]
        assert page == listed[3:5]
        for plain in ("", "?details=false", "?details="):
            assert api.get(f"/v1/topics{plain}").json["data"][0] == {"name": "t00"}
        assert_error(api.get("/v1/topics?details=yes"), 400, "details: ")


def test_counts_follow_everything(api: Api, name: str) -> None:
    def states() -> list[int]:
        return list(api.get(f"/v1/topics/{name}").json["states"].values())

    api.post(f"/v1/topics/{name}/tasks", {"data": [{"_id": f"{name}{number}"} for number in range(10)]})
    assert states() == [10, 0, 0, 0]
    api.post(f"/v1/topics/{name}/promises?limit=6")
    assert states() == [4, 6, 0, 0]
    api.commit(f"{name}0")
    api.commit(f"{name}1", state=3)
    api.commit(f"{name}2", topic=f"{name}other")
    assert states() == [4, 3, 1, 1]
    api.delete(f"/v1/topics/{name}/promises")
    assert states() == [7, 0, 1, 1]
    api.put(f"/v1/topics/{name}/tasks/{name}0", {"topic": f"{name}other"})
    api.delete(f"/v1/topics/{name}/tasks/{name}1")
    assert states() == [7, 0, 0, 0]
    assert api.delete(f"/v1/topics/{name}/tasks").json == {"deleted": 7}
    assert_error(api.get(f"/v1/topics/{name}"), 404)


def test_a_paused_topic_hands_out_nothing(api: Api, name: str) -> None:
    api.insert(name, f"{name}1")
    api.insert(name, f"{name}2")
    nonce = api.claim(name)["nonce"]
    paused = api.patch(f"/v1/topics/{name}", {"paused": True})
    assert (paused.status, paused.json["paused"], paused.json["count"]) == (200, True, 2)
    assert paused.json == api.get(f"/v1/topics/{name}").json
    for target in (
        f"/v1/topics/{name}/promises",
        f"/v1/topics/{name}/promises?limit=5",
        f"/v1/topics/{name}/promises?wait=1ms",
    ):
        assert_error(api.post(target), 404)
    assert_error(api.post("/v1/promises", {"topics": [name]}), 404)
    # It takes inserts and commits.
    api.insert(name, f"{name}3")
    assert api.commit(f"{name}1", nonce=nonce)["state"] == 2
    assert api.patch(f"/v1/topics/{name}").json["paused"] is True
    assert api.patch(f"/v1/topics/{name}", {"paused": None}).json["paused"] is True
    resumed = api.patch(f"/v1/topics/{name}", {"paused": False}).json
    assert "paused" not in resumed
    assert api.claim(name)["_id"] == f"{name}2"


def test_pausing_is_about_polls(api: Api, name: str) -> None:
    api.insert(name, name)
    api.patch(f"/v1/topics/{name}", {"paused": True})
    assert_error(api.post(f"/v1/topics/{name}/promises"), 404)
    for method in ("POST", "PUT"):
        assert api.request(method, f"/v1/topics/{name}/promises/{name}").json["state"] == 1


def test_other_topics_are_not_paused(api: Api, name: str) -> None:
    api.insert(f"{name}a", f"{name}1")
    api.insert(f"{name}b", f"{name}2")
    api.patch(f"/v1/topics/{name}a", {"paused": True})
    assert api.post("/v1/promises", {"topics": [f"{name}a", f"{name}b"]}).json["_id"] == f"{name}2"


def test_a_setting_needs_no_tasks(api: Api, name: str) -> None:
    target = f"/v1/topics/{name}"
    assert_error(api.patch(target), 404)
    empty: dict[str, Any] = {
        "name": name,
        "count": 0,
        "states": {"pending": 0, "active": 0, "completed": 0, "archived": 0},
        "due": 0,
    }
    paused = empty | {"paused": True, "closed": "paused"}
    assert api.patch(target, {"paused": True}).json == paused
    assert api.get(target).json == paused
    api.insert(name, name)
    api.delete(f"{target}/tasks/{name}")
    assert api.get(target).json == paused
    # Resuming succeeds; then the topic is nothing any more.
    answer = api.patch(target, {"paused": False})
    assert (answer.status, answer.json) == (200, empty)
    assert_error(api.get(target), 404)


@pytest.mark.parametrize("tasks", [0, 2])
def test_deleting_a_topic_forgets_its_setting(api: Api, name: str, tasks: int) -> None:
    target = f"/v1/topics/{name}"
    for number in range(tasks):
        api.insert(name, f"{name}{number}")
    api.patch(target, {"paused": True})
    if tasks:
        assert api.delete(f"{target}/tasks").json == {"deleted": tasks}
        assert api.get(target).json["paused"] is True
    assert api.delete(target).json == {"deleted": 0}
    assert_error(api.get(target), 404)
    api.insert(name, name)
    assert api.claim(name)["_id"] == name


@pytest.mark.parametrize("paused", ["true", 1, 0, "", [], {}])
def test_settings_that_are_none(api: Api, name: str, paused: Any) -> None:
    api.insert(name, name)
    assert_error(api.patch(f"/v1/topics/{name}", {"paused": paused}), 400, "paused")
    assert "paused" not in api.get(f"/v1/topics/{name}").json


@pytest.mark.parametrize("hard", [False, True])
def test_settings_survive_a_restart(tmp_path: Path, hard: bool) -> None:
    flags = ["--memdb-snapshot-path", str(tmp_path / "snapshot"), "--memdb-snapshot-interval", "1ms"]
    with serving(tmp_path, *flags, "--chore-interval", "20ms") as server, Api(server.port) as api:
        api.insert("full", "a")
        for topic in ("full", "empty"):
            api.patch(f"/topics/{topic}", {"paused": True})
        if hard:
            snapshot = tmp_path / "snapshot"
            eventually(snapshot.exists, "the first snapshot")
            before = snapshot.stat().st_mtime_ns
            api.insert("full", "b")
            eventually(lambda: snapshot.stat().st_mtime_ns != before, "another snapshot")
            server.process.kill()
            server.wait()
    with serving(tmp_path, *flags) as server, Api(server.port) as api:
        for topic in ("full", "empty"):
            assert api.get(f"/topics/{topic}").json["paused"] is True
        assert_error(api.post("/promises", {"topics": ["full"]}), 404)
        assert "paused" not in api.patch("/topics/full", {"paused": False}).json
        assert api.claim("full")["_id"] == "a"
