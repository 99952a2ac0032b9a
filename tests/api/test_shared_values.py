"""Values: small JSON that clients share under a name, set on a condition, and wait for."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from tests.api.clocked import SECOND, START, Clocked
from tests.servers import Api, assert_error, eventually, segment, serving


def test_a_value_is_set_read_replaced_and_deleted(api: Api, name: str) -> None:
    target = f"/v1/values/{name}"
    assert_error(api.get(target), 404, "no such value")
    first = api.put(target, {"value": {"on": True}})
    assert first.status == 200
    assert set(first.json) == {"name", "value", "revision", "updated"}
    assert (first.json["name"], first.json["value"]) == (name, {"on": True})
    assert first.headers["etag"] == f'"{first.json["revision"]}"'
    assert api.get(target).json == first.json
    second = api.put(target, {"value": None}).json
    assert second["revision"] > first.json["revision"]
    assert api.get(target).json["value"] is None
    assert api.delete(target).json == {"deleted": 1}
    assert api.delete(target).json == {"deleted": 0}
    assert_error(api.get(target), 404)
    assert api.put(target, {"value": 1}).json["revision"] > second["revision"]


@pytest.mark.parametrize("value", [b'{"z": 1, "a":[ -0, 1e5 ]}', b'"\\u0041\xc3\xa9"', b"0", b"[]", b"false"])
def test_a_value_comes_back_as_it_was_sent(api: Api, name: str, value: bytes) -> None:
    api.put(f"/v1/values/{name}", b'{"value": %b}' % value)
    assert b'"value":%b,' % value in api.get(f"/v1/values/{name}").body


def test_a_condition_holds_or_nothing_is_changed(api: Api, name: str) -> None:
    target = f"/v1/values/{name}"
    assert_error(api.put(target, {"value": 1, "revision": 7}), 409, "there is no such value")
    revision = api.put(target, {"value": 1, "revision": 0}).json["revision"]
    assert_error(api.put(target, {"value": 2, "revision": 0}), 409, "the value exists")
    assert_error(api.put(target, {"value": 2}, headers={"if-match": '"7"'}), 409, "not 7")
    assert_error(api.delete(target, headers={"if-match": '"7"'}), 409)
    assert_error(api.delete(f"{target}?revision=7"), 409)
    assert api.get(target).json["value"] == 1
    revision = api.put(target, {"value": 2}, headers={"if-match": f'"{revision}"'}).json["revision"]
    assert_error(
        api.put(target, {"value": 3, "revision": 1}, headers={"if-match": f'"{revision}"'}),
        400,
        "another one",
    )
    assert api.delete(target, headers={"if-match": str(revision)}).json == {"deleted": 1}
    assert_error(api.delete(target, headers={"if-match": str(revision)}), 409)
    assert api.put(target, {"value": 3, "revision": 0}).status == 200  # a deleted one is none


@pytest.mark.parametrize(
    ("method", "target", "body", "detail"),
    [
        ("PUT", "/v1/values/a", {"valeu": 1}, '"valeu" is unknown; use revision, value'),
        ("PUT", "/v1/values/a", {"value": "e" * 40_000, "valeu": 1}, '"valeu" is unknown'),
        ("PUT", "/v1/values/a", {"revision": 1}, "value: it is missing"),
        ("PUT", "/v1/values/a", None, "missing request body"),
        ("PUT", "/v1/values/a", {"value": 1, "revision": -1}, "revision: "),
        ("PUT", "/v1/values/a?revision=1", {"value": 1}, 'parameter "revision" is unknown; there are none'),
        ("PUT", "/v1/values/", {"value": 1}, "name must not be empty"),
        ("PUT", "/v1/values/" + "a" * 901, {"value": 1}, "name must not be longer than 900 bytes"),
        ("GET", "/v1/values/a?wait=1s", None, "wait: say with since"),
        ("GET", "/v1/values/a?since=-1", None, "since: "),
        ("GET", "/v1/values?prefx=a", None, 'parameter "prefx" is unknown; use after, limit, prefix'),
        ("GET", "/v1/values?after=a", None, "after: "),
        ("POST", "/v1/values/changes", {}, "since: name values"),
        ("POST", "/v1/values/changes", {"since": {"a": None}}, "since: "),
        ("POST", "/v1/values/changes", {"since": {"": 1}}, "since: a name must not be empty"),
        ("POST", "/v1/values/changes", {"since": 7}, "since: expected an object"),
        ("POST", "/v1/values/changes", {"since": dict.fromkeys(map(str, range(101)), 0)}, "at most 100"),
        ("POST", "/v1/values/changes", {"since": {"a" * 300_000: 1}}, "since: it takes"),
        ("POST", "/v1/values/changes", {"prefix": "a", "since": {"a": 1}}, "since: expected an integer"),
        ("POST", "/v1/values/changes", {"since": {"a": 1}, "names": []}, '"names" is unknown'),
        ("POST", "/v1/values/changes", {"since": {"a": 1}, "wait": "2h"}, "wait: "),
        ("DELETE", "/v1/values/a?revison=7", None, '"revison" is unknown'),
    ],
)
def test_what_is_refused(api: Api, method: str, target: str, body: Any, detail: str) -> None:
    assert_error(api.request(method, target, body), 400, detail)


def test_a_value_has_a_size(api: Api, name: str) -> None:
    target = f"/v1/values/{name}"
    largest = "e" * (64 * 1024 - 2)
    assert api.put(target, {"value": largest}).status == 200
    assert api.get(target).json["value"] == largest
    assert_error(api.put(target, {"value": largest + "e"}), 413, "65536 bytes, not 65537")
    assert api.get(target).json["value"] == largest
    numbers = [1e300] * 8_000
    assert api.put(target, {"value": numbers}).status == 200
    assert api.get(target).json["value"] == numbers


def test_values_are_listed_by_prefix(api: Api, name: str) -> None:
    names = [f"{name}/{part}" for part in ("a", "b", "b/c", "\U0001f600", "z")]
    for each in (*names, f"{name}.", f"{name}0"):
        api.put(f"/v1/values/{segment(each)}", {"value": 1})
    api.delete(f"/v1/values/{name}%2Fz")

    def listed(query: str) -> Any:
        answer = api.get(f"/v1/values?prefix={name}%2F{query}")
        assert answer.status == 200, answer.body
        return answer.json

    whole = listed("")
    assert [value["name"] for value in whole["data"]] == [
        "/".join((name, each)) for each in ("a", "b", "b/c", "\U0001f600")
    ]
    assert "next" not in whole
    assert [value["name"] for value in listed("b")["data"]] == [f"{name}/b", f"{name}/b/c"]
    page = listed("&limit=2")
    assert [value["name"] for value in page["data"]] == [f"{name}/a", f"{name}/b"]
    page = listed(f"&limit=2&after={page['next']}")
    assert [value["name"] for value in page["data"]] == [f"{name}/b/c", f"{name}/\U0001f600"]
    assert "next" not in page
    assert_error(
        api.get(f"/v1/values?prefix={name}&after={listed('&limit=1')['next']}"), 400, "not of this list"
    )


# ---- waiting --------------------------------------------------------------------------------------


def test_a_wait_ends_with_a_change() -> None:
    with Clocked() as server:
        first = server.request("PUT", "/values/a", {"value": 1}).json
        assert first["revision"] == START
        assert server.request("GET", "/values/a?since=0&wait=20s").json == first
        waiting = server.begin("GET", f"/values/a?since={first['revision']}&wait=20s")
        both = server.begin(
            "POST", "/values/changes", {"since": {"a": first["revision"], "b": 0}, "wait": "20s"}
        )
        prefix = server.begin("POST", "/values/changes", {"prefix": "b", "wait": "20s"})
        assert not waiting.done()
        second = server.request("PUT", "/values/a", {"value": 2}).json
        assert second["revision"] == START + 1  # the clock stands still
        server.turn()
        assert waiting.result().json == second
        assert both.result().json == {"data": [second]}
        assert not prefix.done()
        third = server.request("PUT", "/values/b%2Fc", {"value": 3}).json
        server.turn()
        assert prefix.result().json == {"data": [third]}


def test_a_wait_ends_by_its_time() -> None:
    with Clocked() as server:
        value = server.request("PUT", "/values/a", {"value": 1}).json
        waits = [
            server.begin("GET", f"/values/a?since={value['revision']}&wait=2s"),
            server.begin("GET", "/values/none?since=0&wait=2s"),
            server.begin("POST", "/values/changes", {"since": {"a": value["revision"]}, "wait": "2s"}),
            server.begin("POST", "/values/changes", {"prefix": "", "since": value["revision"], "wait": "2s"}),
        ]
        server.clock.advance(2 * SECOND - 1)
        server.turn()
        assert not any(wait.done() for wait in waits)
        server.clock.advance(1)
        server.turn()
        assert [wait.result().status for wait in waits] == [200, 404, 200, 200]
        assert waits[0].result().json == value
        assert waits[2].result().json == waits[3].result().json == {"data": []}


def test_a_deletion_is_a_change_and_is_remembered_for_the_retention_period() -> None:
    with Clocked("--retention-period", "1h") as server:
        value = server.request("PUT", "/values/a", {"value": 1}).json
        waiting = server.begin("GET", f"/values/a?since={value['revision']}&wait=20s")
        server.request("DELETE", "/values/a")
        server.turn()
        deleted = waiting.result().json
        assert deleted["deleted"] is True
        assert "value" not in deleted
        assert deleted["revision"] > value["revision"]
        assert server.request("GET", f"/values/a?since={value['revision']}").json == deleted
        assert server.request("GET", "/values/a").status == 404
        other = server.request("PUT", "/values/b", {"value": 1}).json
        beyond = {"prefix": "", "since": value["revision"]}
        server.chores()
        assert server.request("POST", "/values/changes", beyond).json == {"data": [deleted, other]}
        server.clock.advance(3600 * SECOND)
        server.chores()
        assert server.request("POST", "/values/changes", beyond).json == {"data": [other]}
        # Its revision is not given again, even where the clock is set back.
        server.clock.step(-7200 * SECOND)
        assert server.request("PUT", "/values/a", {"value": 2}).json["revision"] > other["revision"]


def test_what_was_deleted_last_is_forgotten_once_something_else_was_changed() -> None:
    with Clocked("--retention-period", "1h") as server:
        server.request("PUT", "/values/a", {"value": 1})
        server.request("DELETE", "/values/a")
        server.clock.advance(3600 * SECOND)
        server.chores()
        (deleted,) = server.request("POST", "/values/changes", {"prefix": "a"}).json["data"]
        assert deleted["deleted"] is True
        server.request("PUT", "/values/b", {"value": 1})
        server.clock.advance(60 * SECOND)
        server.chores()
        assert server.request("POST", "/values/changes", {"prefix": "a"}).json == {"data": []}


def test_values_stay_when_topics_are_deleted(api: Api, name: str) -> None:
    api.put(f"/v1/values/{name}", {"value": 1})
    api.insert(name, name)
    api.delete(f"/v1/topics/{name}")
    assert api.get(f"/v1/values/{name}").json["value"] == 1


def test_what_tokens_may_do(tmp_path: Path) -> None:
    tokens = "p:produce c:consume r:read"
    with serving(tmp_path, "--auth-tokens", tokens) as server:
        with Api(server.port, "p") as producer:
            assert producer.put("/v1/values/a", {"value": 1}).status == 200
            assert producer.get("/v1/values/a").status == 403
        for token in ("c", "r"):
            with Api(server.port, token) as reader:
                assert reader.get("/v1/values/a").json["value"] == 1
                assert reader.post("/v1/values/changes", {"prefix": ""}).status == 200
                assert reader.put("/v1/values/a", {"value": 1}).status == 403
                assert reader.delete("/v1/values/a").status == 403


def test_values_survive_a_restart_and_revisions_go_on(tmp_path: Path) -> None:
    flags = ("--memdb-snapshot-path", str(tmp_path / "snapshot"))
    with serving(tmp_path, *flags) as server, Api(server.port) as api:
        kept = api.put("/v1/values/kept", {"value": [1]}).json
        api.put("/v1/values/deleted", {"value": 1})
        api.delete("/v1/values/deleted")
        last = api.get("/v1/values/deleted?since=0").json["revision"]
        assert server.stop() == 0
    with serving(tmp_path, *flags) as server, Api(server.port) as api:
        assert api.get("/v1/values/kept").json == kept
        assert api.get("/v1/values/deleted?since=0").json["revision"] == last
        assert api.put("/v1/values/kept", {"value": 2}).json["revision"] > last


def test_a_stop_ends_waits(tmp_path: Path) -> None:
    with serving(tmp_path) as server, Api(server.port) as waiter, Api(server.port) as api:
        answers: list[Any] = []
        thread = threading.Thread(target=lambda: answers.append(waiter.get("/v1/values/a?since=0&wait=50s")))
        thread.start()
        eventually(lambda: b'wants="value"} 1' in api.get("/metrics").body, "the waiting request")
        assert server.stop() == 0
        thread.join()
        assert_error(answers[0], 503, "stopping")
