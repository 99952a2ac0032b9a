"""Claiming, one or many, from one topic or several; keeping a claim; committing many."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.servers import Api, assert_error, instant

SECOND = 1_000_000
LATER = "2998-01-01T00:00:00Z"


def fill(api: Api, topic: str, count: int) -> list[str]:
    ids = [f"{topic}-{number:04}" for number in range(count)]
    answer = api.post(f"/v1/topics/{topic}/tasks", {"data": [{"_id": each} for each in ids]})
    assert answer.json["created"] == count
    return ids


def test_a_claim_sets_what_it_has_to(api: Api, name: str) -> None:
    api.insert(name, name, payload=1, consumer="old", nonce="old", deadline=LATER)
    task = api.claim(name, consumer="me", timeout="90s")
    assert (task["state"], task["consumer"], task["attempts"], task["payload"]) == (1, "me", 1, 1)
    assert len(task["nonce"]) == 16
    assert task["nonce"].isalnum()
    assert instant(task["deadline"]) - instant(task["consumed"]) == 90 * SECOND
    assert abs(instant(task["consumed"]) - time.time_ns() // 1000) < 5 * SECOND
    assert api.task(name) == task


def test_nonces_are_never_the_same(api: Api, name: str) -> None:
    fill(api, name, 1000)
    tasks = api.post(f"/v1/topics/{name}/promises?limit=1000").json["data"]
    assert len({task["nonce"] for task in tasks}) == 1000


def test_by_id(api: Api, name: str) -> None:
    api.insert(name, name, scheduled=LATER)
    target = f"/v1/topics/{name}/promises/{name}"
    assert api.post(target, {"consumer": "a"}).json["scheduled"] == LATER
    assert_error(api.post(target), 409, "pending")
    assert api.get(target).json["consumer"] == "a"
    # A claim without a consumer removes the old one.
    assert "consumer" not in api.put(target).json
    assert set(api.get(target).json) == {"_id", "deadline"}
    for state in (2, 3):
        api.commit(name, state=state)
        assert_error(api.get(target), 404)
        assert_error(api.post(target), 409, "pending")
        assert api.put(target).json["state"] == 1
    assert_error(api.post(f"{target}x"), 404)
    assert_error(api.put(f"{target}x"), 404)


def test_by_id_in_the_body_of_a_poll(api: Api, name: str) -> None:
    first, second = fill(api, name, 2)
    assert api.claim(name, _id=second)["_id"] == second
    assert_error(api.post(f"/v1/topics/{name}/promises", {"_id": second}), 409)
    assert_error(api.post(f"/v1/topics/{name}/promises", {"_id": "nothing"}), 404)
    assert api.post(f"/v1/topics/{name}/promises?_id={first}").json["_id"] == first


@pytest.mark.parametrize("state", [0, 1, 2, 3])
def test_commits_need_no_state_and_without_a_nonce_are_forced(api: Api, name: str, state: int) -> None:
    api.insert(name, name, state=state, nonce="given")
    target = f"/v1/topics/{name}/tasks/{name}"
    assert_error(api.patch(target, {"nonce": "other"}), 409)
    assert api.task(name)["state"] == state
    done = api.patch(
        target, {"nonce": "given", "topic": f"{name}moved", "payload": [2], "scheduled": LATER}
    ).json
    assert (done["state"], done["nonce"], done["topic"], done["payload"], done["scheduled"]) == (
        2,
        "",
        f"{name}moved",
        [2],
        LATER,
    )
    assert_error(api.patch(target, {"nonce": "given"}), 409)
    assert api.patch(target, {"state": 3}).json["state"] == 3


# ---- many ----------------------------------------------------------------------------------------


def test_claiming_many(api: Api, name: str) -> None:
    ids = fill(api, name, 25)
    target = f"/v1/topics/{name}/promises"
    answer = api.post(f"{target}?limit=10", {"consumer": "me", "timeout": "1h"})
    assert set(answer.json) == {"data"}
    assert [task["_id"] for task in answer.json["data"]] == ids[:10]
    assert {(task["state"], task["consumer"]) for task in answer.json["data"]} == {(1, "me")}
    assert [task["_id"] for task in api.post(target, {"limit": 10}).json["data"]] == ids[10:20]
    # A list even for one, and the query beats the body.
    assert [task["_id"] for task in api.post(f"{target}?limit=1", {"limit": 5}).json["data"]] == ids[20:21]
    assert [task["_id"] for task in api.post(f"{target}?limit=1000").json["data"]] == ids[21:]
    assert_error(api.post(f"{target}?limit=10"), 404)


@pytest.mark.parametrize("limit", [0, -1, 1001, "ten", 1.5, "", True, 10**20])
def test_limits_that_are_none(api: Api, name: str, limit: Any) -> None:
    fill(api, name, 1)
    for target in (f"/v1/topics/{name}/promises", "/v1/promises"):
        assert_error(api.post(target, {"limit": limit, "topics": [name]}), 400, "limit")
        if limit != "" and not isinstance(limit, bool):
            assert_error(api.post(f"{target}?limit={limit}", {"topics": [name]}), 400, "limit")
    assert api.get(f"/v1/topics/{name}").json["states"]["active"] == 0


def test_a_thousand_in_one_request(api: Api, name: str) -> None:
    ids = fill(api, name, 1000)
    tasks = api.post(f"/v1/topics/{name}/promises?limit=1000").json["data"]
    assert [task["_id"] for task in tasks] == ids
    data = [{"_id": task["_id"], "nonce": task["nonce"]} for task in tasks]
    items = api.patch(f"/v1/topics/{name}/tasks", {"data": data}).json["data"]
    assert [(item["_id"], item["status"]) for item in items] == [(each, 200) for each in ids]
    assert api.get(f"/v1/topics/{name}").json["states"]["completed"] == 1000


# ---- several topics ------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "/v1"])
def test_claiming_by_preference(api: Api, name: str, prefix: str) -> None:
    urgent, bulk = fill(api, f"{name}urgent", 2), fill(api, f"{name}bulk", 3)
    topics = [f"{name}none", f"{name}urgent", f"{name}bulk", f"{name}urgent"]
    first = api.post(f"{prefix}/promises", {"topics": topics, "consumer": "me", "timeout": "1h"}).json
    assert (first["_id"], first["consumer"]) == (urgent[0], "me")
    assert instant(first["deadline"]) - instant(first["consumed"]) == 3600 * SECOND
    many = api.post(f"{prefix}/promises", {"topics": topics, "limit": 3}).json["data"]
    assert [task["_id"] for task in many] == [urgent[1], *bulk[:2]]
    assert [task["topic"] for task in many] == [f"{name}urgent", f"{name}bulk", f"{name}bulk"]
    assert (
        api.post(f"{prefix}/promises?limit=5&consumer=q", {"topics": topics}).json["data"][0]["consumer"]
        == "q"
    )
    assert_error(api.post(f"{prefix}/promises", {"topics": topics}), 404)


def test_preference_beats_priority(api: Api, name: str) -> None:
    api.insert(f"{name}a", f"{name}1", priority=-9)
    api.insert(f"{name}b", f"{name}2", priority=9)
    assert api.post("/v1/promises", {"topics": [f"{name}a", f"{name}b"]}).json["_id"] == f"{name}1"


@pytest.mark.parametrize("topics", [None, [], "x", [1], [""], [None], {}, ["a", ["b"]], ["t"] * 1001])
def test_topics_that_are_none(api: Api, topics: Any) -> None:
    assert_error(api.post("/v1/promises", {"topics": topics}), 400, "topic")


def test_without_a_body_there_are_no_topics(api: Api) -> None:
    for body in (None, b"", b"null", b"{}"):
        assert_error(api.post("/v1/promises", body), 400, "topics")


# ---- keeping a claim -----------------------------------------------------------------------------


def test_a_claim_is_extended_without_losing_its_nonce(api: Api, name: str) -> None:
    api.insert(name, name)
    claimed = api.claim(name, consumer="me", timeout="1m")
    target = f"/v1/topics/{name}/promises/{name}"
    before = time.time_ns() // 1000
    extended = api.patch(target, {"nonce": claimed["nonce"], "timeout": "1h"}).json
    assert set(extended) == {"_id", "consumer", "deadline"}
    assert 0 <= instant(extended["deadline"]) - before - 3600 * SECOND < 5 * SECOND
    assert api.patch(target, {"nonce": claimed["nonce"], "deadline": LATER}).json["deadline"] == LATER
    # It may also be shortened; the default is ten minutes; the query beats the body.
    shorter = api.patch(
        f"{target}?timeout=1s&nonce={claimed['nonce']}", {"nonce": "wrong", "timeout": "9h"}
    ).json
    assert instant(shorter["deadline"]) < instant(claimed["deadline"])
    assert 599 * SECOND < instant(api.patch(target).json["deadline"]) - before < 605 * SECOND
    task = api.task(name)
    assert (task["nonce"], task["attempts"], task["consumed"]) == (claimed["nonce"], 1, claimed["consumed"])
    assert api.commit(name, nonce=claimed["nonce"])["state"] == 2


def test_who_lost_the_claim_learns_so(api: Api, name: str) -> None:
    api.insert(name, name)
    lost = api.claim(name)["nonce"]
    target = f"/v1/topics/{name}/promises/{name}"
    assert_error(api.patch(target, {"nonce": "wrong"}), 409)
    assert api.put(target).status == 200
    before = api.task(name)
    assert_error(api.patch(target, {"nonce": lost, "timeout": "9h"}), 409)
    assert api.task(name) == before
    api.delete(target)
    for state in (0, 2, 3):
        api.commit(name, state=state)
        assert_error(api.patch(target, {"nonce": lost}), 409, "active")
        assert_error(api.patch(target), 409, "active")
    api.delete(f"/v1/topics/{name}/tasks/{name}")
    assert_error(api.patch(target, {"nonce": lost}), 404)


# ---- committing many -----------------------------------------------------------------------------


def test_a_release_with_a_nonce_releases_that_claim_only(api: Api, name: str) -> None:
    (task_id,) = fill(api, name, 1)
    path = f"/v1/topics/{name}/promises/{task_id}"
    first = api.claim(name)["nonce"]
    for other in ("another", first[:-1], first.swapcase()):
        assert_error(api.delete(f"{path}?nonce={other}"), 409, "modified by others")
    assert_error(api.delete(f"{path}?nonce=%ff"), 400, "nonce")
    assert api.task(task_id)["nonce"] == first
    assert api.delete(f"{path}?nonce={first}").json == {"deleted": 1}
    assert (api.task(task_id)["state"], api.task(task_id)["nonce"]) == (0, "")
    # The claim has ended, and so it is another's.
    assert_error(api.delete(f"{path}?nonce={first}"), 409, "modified by others")
    second = api.claim(name)["nonce"]
    assert_error(api.delete(f"{path}?nonce={first}"), 409, "modified by others")
    assert api.task(task_id)["nonce"] == second
    api.commit(task_id, nonce=second)
    assert_error(api.delete(f"{path}?nonce={second}"), 409, "modified by others")
    assert api.delete(f"/v1/topics/{name}/promises/{name}-none?nonce={second}").json == {"deleted": 0}


def test_a_release_with_an_empty_nonce_is_forced(api: Api, name: str) -> None:
    (task_id,) = fill(api, name, 1)
    for query in ("", "?nonce=", "?nonce", "?Nonce=other"):
        api.claim(name)
        assert api.delete(f"/v1/topics/{name}/promises/{task_id}{query}").json == {"deleted": 1}
        assert api.delete(f"/v1/topics/{name}/promises/{task_id}{query}").json == {"deleted": 0}


def test_each_commit_of_a_batch_stands_alone(api: Api, name: str) -> None:
    ids = fill(api, name, 6)
    nonces = {
        task["_id"]: task["nonce"] for task in api.post(f"/v1/topics/{name}/promises?limit=5").json["data"]
    }
    data: list[dict[str, Any]] = [
        {"_id": ids[3], "nonce": nonces[ids[3]], "result": [1]},
        {"_id": ids[0], "nonce": "wrong"},
        {"_id": f"{name}missing", "nonce": "x"},
        {"_id": ids[1], "nonce": nonces[ids[1]], "error": "e", "defer": "1h"},
        {"_id": ids[5], "state": 3},
        {"_id": ids[3], "nonce": nonces[ids[3]]},
        {"_id": ids[2], "state": 0, "topic": f"{name}moved"},
    ]
    answer = api.patch(f"/v1/topics/{name}/tasks", {"data": data})
    assert (answer.status, set(answer.json)) == (200, {"data"})
    items = answer.json["data"]
    assert [item["_id"] for item in items] == [item["_id"] for item in data]
    assert [item["status"] for item in items] == [200, 409, 404, 200, 200, 409, 200]
    for item in items:
        assert set(item) == {"_id", "status", "task" if item["status"] == 200 else "error"}
        if item["status"] == 200:
            assert item["task"]["_id"] == item["_id"]
        else:
            assert item["error"]["code"] == item["status"]
            assert item["error"]["message"].startswith({404: "not found", 409: "conflict"}[item["status"]])
    assert [item["task"]["state"] for item in items if "task" in item] == [2, 0, 3, 0]
    assert [api.task(each)["state"] for each in ids] == [1, 0, 0, 2, 1, 3]


def test_a_commit_in_a_batch_without_an_id(api: Api, name: str) -> None:
    (task_id,) = fill(api, name, 1)
    for bad in ({}, {"_id": ""}, {"_id": None}, {"nonce": "x"}):
        assert_error(api.patch(f"/v1/topics/{name}/tasks", {"data": [{"_id": task_id}, bad]}), 400, "item 1")
    assert api.task(task_id)["state"] == 0


def test_a_claim_by_id_checks_wait_and_limit_and_ignores_them(api: Api, name: str) -> None:
    api.insert(name, name)
    target = f"/v1/topics/{name}/promises/{name}"
    for query in ("wait=x", "wait=1h", "limit=0", "limit=x"):
        assert_error(api.put(f"{target}?{query}"), 400, query.partition("=")[0])
    started = time.monotonic()
    assert_error(api.put(f"{target}x?wait=60s"), 404)
    assert api.put(f"{target}?wait=60s&limit=5").json["_id"] == name
    assert time.monotonic() - started < 30
