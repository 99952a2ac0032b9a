"""Where Ratus loses work, corrupts data or hides a mistake, and this server must not.

Each test fails on what Ratus does. In the order of the table at the end of docs/api.md.
"""

from __future__ import annotations

import json
import random
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.api.clocked import SECOND, Clocked
from tests.api.conftest import unique
from tests.metrics.scraping import values_of
from tests.servers import Api, Server, assert_error, eventually, instant, request_bytes, segment, serving

PAST, FUTURE = "2001-02-03T04:05:06Z", "2999-01-01T00:00:00Z"


# ---- a poll never leaves its topic ---------------------------------------------------------------


def test_a_poll_of_an_empty_topic_beside_full_ones(api: Api, name: str) -> None:
    for number in range(5):
        api.insert(f"{name}b", f"{name}{number}")
    for empty in (f"{name}a", name, f"{name}c", f"{name}b ", f"{name}B"):
        assert_error(api.post(f"/v1/topics/{segment(empty)}/promises"), 404)
    assert api.get(f"/v1/topics/{name}b").json["states"]["pending"] == 5


@pytest.mark.parametrize("seed", range(4))
def test_polls_never_leave_their_topic(api: Api, seed: int) -> None:
    """Thousands of random mixes: topics that are empty, all claimed, in the future, next to full ones."""
    chance = random.Random(seed)
    stem = unique()
    topics = [f"{stem}{end}" for end in ("", "a", "aa", "ab", "b", "a\0", "a\0b", "z", "é", "/a")]
    ids = [f"{stem}-{number}" for number in range(40)]
    handed_out = 0
    for step in range(5000):
        topic, task_id = chance.choice(topics), chance.choice(ids)
        what = chance.random()
        if what < 0.3:
            members: dict[str, Any] = {"topic": topic, "state": chance.choice([0, 0, 0, 0, 1, 2, 3])}
            if chance.random() < 0.3:
                members["scheduled"] = chance.choice([PAST, FUTURE, "1950-01-01T00:00:00Z"])
            members["priority"] = chance.randint(-9, 9)
            api.put(f"/v1/topics//tasks/{task_id}", members)
        elif what < 0.4:
            api.patch(f"/v1/topics//tasks/{task_id}", {"topic": topic, "state": chance.randint(0, 3)})
        elif what < 0.45:
            api.delete(f"/v1/topics//tasks/{task_id}")
        elif what < 0.5:
            api.delete(f"/v1/topics/{segment(topic)}/promises")
        else:
            body: dict[str, Any] = {"timeout": chance.choice(["1h", "1ms"])}
            wanted = {topic}
            if chance.random() < 0.3:
                wanted = set(chance.sample(topics, 3))
                answer = api.post("/v1/promises", body | {"topics": sorted(wanted), "limit": 2})
            elif chance.random() < 0.3:
                answer = api.post(f"/v1/topics/{segment(topic)}/promises?limit=3", body)
            else:
                answer = api.post(f"/v1/topics/{segment(topic)}/promises", body)
            if answer.status == 404:
                continue
            tasks = answer.json.get("data", [answer.json])
            handed_out += len(tasks)
            assert {task["topic"] for task in tasks} <= wanted, step
            assert all(task["state"] == 1 and task["scheduled"] < FUTURE for task in tasks), step
    assert handed_out > 500


# ---- bodies and queries --------------------------------------------------------------------------


COMMITS = [
    b"{",
    b"{broken",
    b'{"nonce": "n"',
    b"[]",
    b'"x"',
    b"{} garbage",
    b'{"state": "completed"}',
    b'{"state": 2}}',
    b'{"state": 2.5}',
    b'{"nonce": 1}',
    b'{"defer": 5}',
    b'{"topic": ["x"]}',
    b'{"scheduled": "soon"}',
]


@pytest.mark.parametrize("body", COMMITS)
def test_a_malformed_commit_changes_nothing(api: Api, name: str, body: bytes) -> None:
    api.insert(name, name)
    api.claim(name)
    before = api.task(name)
    assert_error(api.patch(f"/v1/topics/{name}/tasks/{name}", body), 400)
    assert api.task(name) == before


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b'{"timeout": 30}',
        b'{"timeout": "30"}',
        b'{"consumer": 1}',
        b"[]",
        b"{}x",
        b'{"deadline": 1}',
        b'{"timeout": "1d"}',
    ],
)
def test_a_malformed_promise_claims_nothing(api: Api, name: str, body: bytes) -> None:
    api.insert(name, name)
    for method, path in (("POST", ""), ("POST", f"/{name}"), ("PUT", f"/{name}")):
        assert_error(api.request(method, f"/v1/topics/{name}/promises{path}", body), 400)
    assert api.task(name)["state"] == 0


@pytest.mark.parametrize("body", [None, b"", b"null", b"  \n"])
def test_only_an_empty_body_counts_as_absent(api: Api, name: str, body: bytes | None) -> None:
    api.insert(name, name)
    assert api.request("POST", f"/v1/topics/{name}/promises", body).status == 200
    assert api.request("PATCH", f"/v1/topics/{name}/tasks/{name}", body).json["state"] == 2


@pytest.mark.parametrize(
    "query",
    [
        "deadline=junk",
        "timeout=junk",
        "timeout=30",
        "deadline=2026-01-31",
        "wait=x",
        "limit=x",
        "consumer=%ff",
        "timeout=%zz",
    ],
)
def test_a_query_that_cannot_be_read_claims_nothing(api: Api, name: str, query: str) -> None:
    api.insert(name, name)
    assert_error(api.post(f"/v1/topics/{name}/promises?{query}"), 400, query.partition("=")[0])
    assert api.task(name)["state"] == 0


def test_zone_offsets_of_a_day_and_more(api: Api, name: str) -> None:
    for offset in ("+24:00", "-24:00", "+99:99", "+23:60"):
        answer = api.post(f"/v1/topics/{name}/tasks/{name}", {"scheduled": f"2026-01-31T12:00:00{offset}"})
        assert_error(answer, 400, "scheduled")
    assert api.get(f"/v1/topics/{name}/tasks").json == {"data": []}


def test_a_nul_does_not_end_a_name(api: Api, name: str) -> None:
    for topic in (name, f"{name}\0", f"{name}\0b"):
        api.insert(topic, topic)
    assert api.delete(f"/v1/topics/{name}/tasks").json == {"deleted": 1}
    assert api.delete(f"/v1/topics/{name}%00/tasks").json == {"deleted": 1}
    assert_error(api.get(f"/v1/topics//tasks/{name}"), 404)
    assert api.task(f"{name}\0b")["topic"] == f"{name}\0b"


def test_plus_next_to_an_escaped_slash(api: Api, name: str) -> None:
    assert api.post(f"/v1/topics/{name}/tasks/{name}a+b%2Fc", {}).status == 201
    assert api.task(f"{name}a+b/c")["_id"] == f"{name}a+b/c"


def test_snapshots_keep_payloads_exactly(tmp_path: Path) -> None:
    payloads = [
        "[]",
        "{}",
        '""',
        "[[],{},[[]]]",
        '{"b":[],"a":null}',
        "9007199254740993",
        "1.0",
        '"\\u0000é"',
        "[ 1 ,2 ]",
    ]
    flags = ["--memdb-snapshot-path", str(tmp_path / "snapshot")]
    with serving(tmp_path, *flags) as server, Api(server.port) as api:
        for number, payload in enumerate(payloads):
            assert api.post(f"/topics/t/tasks/{number}", b'{"payload":%b}' % payload.encode()).status == 201
    with serving(tmp_path, *flags) as server, Api(server.port) as api:
        for number, payload in enumerate(payloads):
            assert api.get(f"/topics/t/tasks/{number}").body.endswith(f'"payload":{payload}}}'.encode())


def test_a_wrong_method_is_not_an_unknown_path(api: Api, name: str) -> None:
    answer = api.put(f"/v1/topics/{name}/promises", {})
    assert_error(answer, 405)
    assert "POST" in answer.headers["allow"]
    assert api.request("HEAD", "/v1/topics").status == 200


def test_names_in_another_case_are_unknown(api: Api, name: str) -> None:
    api.insert(name, name, Payload=1, PRODUCER="p", Scheduled=FUTURE, State=2)
    assert set(api.task(name)) == {"_id", "topic", "state", "nonce", "produced", "scheduled"}
    claimed = api.claim(name, Consumer="c", Timeout="1s", TIMEOUT=5)
    assert "consumer" not in claimed
    assert api.commit(name, Nonce="wrong", State=0)["state"] == 2


def test_bytes_behind_the_value(api: Api, name: str) -> None:
    for garbage in (b" x", b"{}", b"\0", b",", b"]", b"\xff"):
        assert_error(api.post(f"/v1/topics/{name}/tasks/{name}", b'{"payload": 1}' + garbage), 400)
    assert_error(api.get(f"/v1/topics/{name}/tasks/{name}"), 404)


def test_null_in_a_batch(api: Api, name: str) -> None:
    for data in ([None], [{"_id": name}, None]):
        for method in ("POST", "PUT", "PATCH"):
            assert_error(api.request(method, f"/v1/topics/{name}/tasks", {"data": data}), 400, "null")
    assert_error(api.get(f"/v1/topics/{name}/tasks/{name}"), 404)


# ---- nothing is stuck ----------------------------------------------------------------------------


def test_an_active_task_without_a_deadline_is_recovered() -> None:
    with Clocked() as app:
        app.insert("t", "inserted", state=1)
        app.insert("t", "committed")
        app.commit("committed", state=1)
        app.clock.advance(600 * SECOND - 1)
        app.chores()
        assert [app.task(each)["state"] for each in ("inserted", "committed")] == [1, 1]
        app.clock.advance(1)
        app.chores()
        for each in ("inserted", "committed"):
            task = app.task(each)
            assert (task["state"], task["error"]) == (0, "deadline exceeded")
        assert app.claim("t")["_id"] == "inserted"


@pytest.mark.parametrize(
    "members", [{}, {"consumed": "2001-01-01T00:00:00Z"}, {"produced": "2001-01-01T00:00:00Z"}]
)
def test_a_completed_task_that_was_never_claimed_expires(members: dict[str, str]) -> None:
    with Clocked("--retention-period", "1h") as app:
        app.insert("t", "a", state=2, **members)
        app.clock.advance(3600 * SECOND - 1)
        app.chores()
        assert app.task("a")["state"] == 2
        app.clock.advance(1)
        app.chores()
        assert app.request("GET", "/topics/t/tasks/a").status == 404


def test_retention_counts_from_the_commit() -> None:
    """A task that ran for a day is not deleted the moment it is done."""
    with Clocked("--retention-period", "1h") as app:
        app.insert("t", "a")
        app.claim("t", timeout="48h")
        app.clock.advance(24 * 3600 * SECOND)
        app.commit("a")
        app.clock.advance(3600 * SECOND - 1)
        app.chores()
        assert app.task("a")["state"] == 2
        app.clock.advance(1)
        app.chores()
        assert app.request("GET", "/topics/t/tasks/a").status == 404


def test_archived_tasks_are_never_purged() -> None:
    with Clocked("--retention-period", "1h") as app:
        app.insert("t", "a")
        app.commit("a", state=3)
        app.clock.advance(1000 * 24 * 3600 * SECOND)
        app.chores()
        assert app.task("a")["state"] == 3


@pytest.mark.parametrize(
    "time", ["0000-01-01T00:00:00Z", "1969-12-31T23:59:59.999999Z", "1970-01-01T00:00:00Z"]
)
def test_times_before_1970_are_due(api: Api, name: str, time: str) -> None:
    api.insert(name, f"{name}scheduled", scheduled=time)
    assert api.claim(name)["scheduled"] == time
    api.insert(name, f"{name}lapsed", state=1, deadline=time, nonce="n")
    assert api.claim(name)["_id"] == f"{name}lapsed"


@pytest.mark.parametrize(
    "members",
    [
        {"timeout": "0"},
        {"timeout": "0s"},
        {"timeout": "-5s"},
        {"timeout": "999ns"},
        {"deadline": PAST},
        {"deadline": "1969-01-01T00:00:00Z"},
    ],
)
def test_claims_that_lapse_before_they_are_answered(api: Api, name: str, members: dict[str, str]) -> None:
    api.insert(name, name)
    query = "&".join(f"{key}={value}" for key, value in members.items())
    for method, path in (("POST", ""), ("POST", f"/{name}"), ("PUT", f"/{name}"), ("PATCH", f"/{name}")):
        target = f"/v1/topics/{name}/promises{path}"
        assert_error(api.request(method, target, members), 400, next(iter(members)))
        assert_error(api.request(method, f"{target}?{query}"), 400, next(iter(members)))
    assert_error(api.post("/v1/promises", members | {"topics": [name]}), 400)
    assert api.task(name)["state"] == 0


@pytest.mark.parametrize("number", [2**53 + 1, 2**63, -(2**63) - 1, 10**100 + 1, 18446744073709551617])
def test_integers_are_not_rounded(api: Api, name: str, number: int) -> None:
    api.insert(name, name, payload={"n": number})
    assert api.task(name)["payload"] == {"n": number}
    assert api.claim(name)["payload"] == {"n": number}


def test_a_poll_recovers_lapsed_claims_itself(api: Api, name: str) -> None:
    """This server does no chores at all."""
    api.insert(name, name)
    first = api.claim(name, timeout="30ms")
    second = api.claim(name, wait="10s")
    assert (second["_id"], second["error"]) == (name, "deadline exceeded")
    assert second["nonce"] != first["nonce"]
    assert instant(second["consumed"]) >= instant(first["deadline"])


def test_a_late_commit_counts_until_somebody_took_the_task() -> None:
    with Clocked() as app:
        for task_id in ("a", "b"):
            app.insert("t", task_id)
        nonces = {
            task["_id"]: task["nonce"]
            for task in (app.claim("t", timeout="1s"), app.claim("t", timeout="1s"))
        }
        app.clock.advance(3600 * SECOND)
        assert app.commit("a", nonce=nonces["a"])["state"] == 2
        assert app.claim("t")["_id"] == "b"
        reply = app.request("PATCH", "/topics/t/tasks/b", {"nonce": nonces["b"]})
        assert (reply.status, reply.json["error"]["code"]) == (409, 409)
        assert app.task("b")["state"] == 1


def test_after_a_chore_took_it_back_a_late_commit_is_409() -> None:
    with Clocked() as app:
        app.insert("t", "a")
        nonce = app.claim("t", timeout="1s")["nonce"]
        app.clock.advance(SECOND)
        app.chores()
        assert app.request("PATCH", "/topics/t/tasks/a", {"nonce": nonce}).status == 409
        assert app.task("a")["state"] == 0


def test_batches_are_counted_task_by_task(tmp_path: Path) -> None:
    data = [
        {"_id": "1", "producer": "p"},
        {"_id": "2", "producer": "q", "topic": "two"},
        {"_id": "3"},
        {"_id": "1", "producer": "late"},
    ]
    with serving(tmp_path) as server, Api(server.port) as api:
        api.post("/v1/topics/one/tasks", {"data": data})
        produced = values_of(
            api.get("/metrics").body.decode(), "ratus_task_produced_count_total", "topic", "producer"
        )
    assert produced == {("one", "p"): 1, ("two", "q"): 1, ("one", ""): 1}


def test_requests_in_flight_are_finished_and_saved(tmp_path: Path) -> None:
    """SIGTERM comes while a body is on its way; the task is accepted, answered, and in the snapshot."""
    flags = ["--memdb-snapshot-path", str(tmp_path / "snapshot"), "--shutdown-delay", "100ms"]
    body = json.dumps({"payload": "x" * 1000}).encode()
    request = request_bytes("POST", "/topics/t/tasks/a", body)
    with serving(tmp_path, *flags) as server:
        with (
            Api(server.port) as probe,
            socket.create_connection(("127.0.0.1", server.port), timeout=10) as late,
        ):
            late.sendall(request[:-500])
            assert probe.get("/readyz").status == 200
            server.process.terminate()
            # From here on it is stopping, and says so.
            eventually(lambda: probe.get("/readyz").status == 503, "the stop")
            late.sendall(request[-500:])
            answer = b""
            while part := late.recv(65536):
                answer += part
            assert answer.startswith(b"HTTP/1.1 201 ")
        assert server.wait() == 0
    with serving(tmp_path, *flags) as server, Api(server.port) as api:
        assert api.task("a")["payload"] == "x" * 1000


def test_snapshots_that_fail_are_loud(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    flags = [
        "--memdb-snapshot-path",
        str(folder / "snapshot"),
        "--memdb-snapshot-interval",
        "10ms",
        "--chore-interval",
        "20ms",
    ]
    with serving(tmp_path, *flags) as server, Api(server.port) as api:
        folder.rename(tmp_path / "moved")
        api.insert("t", "a")
        server.wait_for_log("ERROR")
        assert str(folder / "snapshot") in server.log
        assert "snapshot" in api.get("/readyz").json["detail"]
        assert api.claim("t")["_id"] == "a"
        (tmp_path / "moved").rename(folder)
        server.wait_for_log("work again")
        assert api.get("/readyz").body == b""


def test_bodies_without_end(server: Server, name: str) -> None:
    with Api(server.port) as api:
        big = b'{"payload": "' + b"x" * (5 * 1024 * 1024) + b'"}'
        assert_error(api.post(f"/v1/topics/{name}/tasks/{name}", big), 413)
        assert_error(api.get(f"/v1/topics/{name}/tasks/{name}"), 404)
