"""Every route is there, under both of its addresses, with its methods and no others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ratus.api.routes import ROUTES
from tests.servers import Api, Server, assert_error, serving

PREFIXES = ["", "/v1"]

# What each path answers to, as the contract lists it.
METHODS = {
    "/topics": {"GET", "DELETE"},
    "/topics/:topic": {"GET", "PATCH", "DELETE"},
    "/topics/:topic/lanes": {"GET"},
    "/topics/:topic/tasks": {"GET", "POST", "PUT", "PATCH", "DELETE"},
    "/topics/:topic/tasks/:id": {"GET", "POST", "PUT", "PATCH", "DELETE"},
    "/topics/:topic/promises": {"GET", "POST", "DELETE"},
    "/topics/:topic/promises/:id": {"GET", "POST", "PUT", "PATCH", "DELETE"},
    "/promises": {"POST"},
    "/schedules": {"GET"},
    "/schedules/preview": {"POST"},
    "/schedules/:name": {"GET", "PUT", "PATCH", "DELETE"},
    "/schedules/:name/runs": {"POST"},
    "/values": {"GET"},
    "/values/changes": {"POST"},
    "/values/:name": {"GET", "PUT", "DELETE"},
    "/livez": {"GET"},
    "/healthz": {"GET"},
    "/readyz": {"GET"},
    "/metrics": {"GET"},
}
UNVERSIONED = {"/": {"GET"}, "/openapi.json": {"GET"}, "/openapi.yaml": {"GET"}, "/assets/:name": {"GET"}}
EVERY_METHOD = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND", "SUBSCRIBE"}


def addresses() -> list[tuple[str, set[str]]]:
    versioned = [(prefix + path, methods) for prefix in PREFIXES for path, methods in METHODS.items()]
    return [*versioned, *UNVERSIONED.items()]


def concrete(pattern: str, name: str) -> str:
    return pattern.replace(":topic", name).replace(":id", name).replace(":name", "swagger-ui.css")


def test_the_route_table_holds_what_the_contract_lists_and_nothing_else() -> None:
    listed = {(method, path) for path, methods in {**METHODS, **UNVERSIONED}.items() for method in methods}
    assert {(route.method, route.pattern) for route in ROUTES} == listed
    assert {route.pattern for route in ROUTES if not route.versioned} == set(UNVERSIONED)


@pytest.mark.parametrize(("pattern", "methods"), addresses())
def test_wrong_methods_are_405_and_say_which_are_right(
    api: Api, name: str, pattern: str, methods: set[str]
) -> None:
    allowed = methods | {"OPTIONS"} | ({"HEAD"} if "GET" in methods else set())
    for method in sorted(EVERY_METHOD - allowed):
        answer = api.request(method, concrete(pattern, name))
        assert answer.status == 405
        if method != "HEAD":
            assert_error(answer, 405)
        assert {each.strip() for each in answer.headers["allow"].split(",")} == allowed


@pytest.mark.parametrize(("pattern", "methods"), addresses())
def test_options_tells_the_methods(api: Api, name: str, pattern: str, methods: set[str]) -> None:
    answer = api.request("OPTIONS", concrete(pattern, name))

    assert answer.status == 204
    assert answer.body == b""
    assert methods < {each.strip() for each in answer.headers["allow"].split(",")}


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_task_lives_its_life(api: Api, name: str, prefix: str) -> None:
    """Every operation on tasks and promises once, where it succeeds."""
    topic = f"{prefix}/topics/{name}"

    def done(method: str, target: str, status: int, body: Any = None) -> Any:
        answer = api.request(method, target, body)
        assert answer.status == status, (method, target, answer.body)
        assert answer.headers["content-type"] == "application/json; charset=utf-8"
        return answer.json

    assert done("POST", f"{topic}/tasks/{name}1", 201, {"payload": 1}) == {"created": 1, "updated": 0}
    assert done("PUT", f"{topic}/tasks/{name}1", 200, {"payload": 2}) == {"created": 0, "updated": 1}
    assert done("PUT", f"{topic}/tasks/{name}2", 201, {}) == {"created": 1, "updated": 0}
    data = {"data": [{"_id": f"{name}1"}, {"_id": f"{name}3"}]}
    assert done("POST", f"{topic}/tasks", 201, data) == {"created": 1, "updated": 0}
    assert done("POST", f"{topic}/tasks", 200, data) == {"created": 0, "updated": 0}
    assert done("PUT", f"{topic}/tasks", 200, data) == {"created": 0, "updated": 2}
    data["data"].append({"_id": f"{name}4"})
    assert done("PUT", f"{topic}/tasks", 201, data) == {"created": 1, "updated": 2}

    assert name in [each["name"] for each in every_topic(api, prefix)]
    assert done("GET", topic, 200)["count"] == 4
    listed = done("GET", f"{topic}/tasks", 200)["data"]
    assert [each["_id"] for each in listed] == [f"{name}{number}" for number in "1234"]
    assert done("GET", f"{topic}/tasks/{name}1", 200) == listed[0]

    claimed = done("POST", f"{topic}/promises", 200, {"consumer": "me", "timeout": "1m"})
    assert (claimed["_id"], claimed["state"], claimed["consumer"]) == (f"{name}2", 1, "me")
    assert done("POST", f"{topic}/promises/{name}1", 200)["state"] == 1
    assert done("PUT", f"{topic}/promises/{name}4", 200)["state"] == 1
    promises = done("GET", f"{topic}/promises", 200)["data"]
    assert [each["_id"] for each in promises] == [f"{name}1", f"{name}2", f"{name}4"]
    assert promises[1] == {"_id": f"{name}2", "consumer": "me", "deadline": claimed["deadline"]}
    assert done("GET", f"{topic}/promises/{name}2", 200) == promises[1]
    extended = done("PATCH", f"{topic}/promises/{name}2", 200, {"nonce": claimed["nonce"], "timeout": "1h"})
    assert extended["deadline"] > claimed["deadline"]
    committed = done("PATCH", f"{topic}/tasks/{name}2", 200, {"nonce": claimed["nonce"]})
    assert (committed["state"], committed["nonce"]) == (2, "")
    assert done("DELETE", f"{topic}/promises/{name}1", 200) == {"deleted": 1}
    assert done("DELETE", f"{topic}/promises", 200) == {"deleted": 1}
    batch = done("PATCH", f"{topic}/tasks", 200, {"data": [{"_id": f"{name}4"}]})["data"]
    assert [(each["_id"], each["status"], each["task"]["state"]) for each in batch] == [(f"{name}4", 200, 2)]
    assert done("POST", f"{prefix}/promises", 200, {"topics": [name]})["state"] == 1

    assert done("PATCH", topic, 200, {"paused": True})["paused"] is True
    assert done("DELETE", f"{topic}/tasks/{name}1", 200) == {"deleted": 1}
    assert done("DELETE", f"{topic}/tasks/{name}1", 200) == {"deleted": 0}
    assert done("DELETE", f"{topic}/tasks", 200) == {"deleted": 3}
    assert done("GET", topic, 200)["count"] == 0
    assert done("DELETE", topic, 200) == {"deleted": 0}
    assert_error(api.get(topic), 404)


def every_topic(api: Api, prefix: str = "/v1") -> list[Any]:
    topics: list[Any] = []
    while page := api.get(f"{prefix}/topics?limit=100&offset={len(topics)}").json["data"]:
        topics += page
    return topics


def test_a_list_of_topics_holds_names_only(api: Api, name: str) -> None:
    api.insert(name, name)
    assert {"name": name} in every_topic(api)


def test_deleting_all_topics_counts_tasks(tmp_path: Path) -> None:
    with serving(tmp_path) as server, Api(server.port) as api:
        for topic in "ab":
            for task in "123":
                api.insert(topic, topic + task)
        api.patch("/v1/topics/c", {"paused": True})
        assert api.delete("/topics").json == {"deleted": 6}
        assert api.get("/v1/topics").json == {"data": []}
        assert_error(api.get("/v1/topics/c"), 404)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_what_is_not_there_is_404(api: Api, name: str, prefix: str) -> None:
    for target in (
        f"{prefix}/topics/{name}",
        f"{prefix}/topics/{name}/tasks/{name}",
        f"{prefix}/topics/{name}/promises/{name}",
    ):
        assert_error(api.get(target), 404)
    assert_error(api.patch(f"{prefix}/topics/{name}/tasks/{name}"), 404)
    assert_error(api.post(f"{prefix}/topics/{name}/promises/{name}"), 404)
    assert_error(api.put(f"{prefix}/topics/{name}/promises/{name}"), 404)
    assert_error(api.patch(f"{prefix}/topics/{name}/promises/{name}"), 404)
    assert_error(api.post(f"{prefix}/topics/{name}/promises"), 404)
    assert api.get(f"{prefix}/topics/{name}/tasks").json == {"data": []}
    assert api.get(f"{prefix}/topics/{name}/promises").json == {"data": []}
    for target in ("", "/tasks", "/promises", f"/tasks/{name}", f"/promises/{name}"):
        assert api.delete(f"{prefix}/topics/{name}{target}").json == {"deleted": 0}


@pytest.mark.parametrize(
    "path",
    [
        "//",
        "/v1",
        "/v1/",
        "/v1//topics",
        "/v1/v1/topics",
        "/v2/topics",
        "/V1/topics",
        "/Topics",
        "/topics/a/Tasks",
        "/topics//",
        "/topics/a/tasks/",
        "/topics/a/promises/",
        "/topics/a/tasks/b/",
        "/topics/a/tasks/b/c",
        "/topics/a/nothing",
        "/topics/a/nothing/b",
        "/tasks",
        "/tasks/a",
        "/promises/a",
        "/%74opics",
        "/topics%2Fa",
        "/v1/openapi.json",
        "/v1/assets/swagger-ui.css",
        "/index.html",
        "/livez/",
        "/readyz/x",
        "/metrics/",
        "/favicon.ico",
        "/" + "x" * 5000,
        "/" + "x/" * 500,
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_unknown_paths_are_404(api: Api, method: str, path: str) -> None:
    assert_error(api.request(method, path), 404)


@pytest.mark.parametrize(
    "path", ["nothing.css", "", "..", "../openapi.json", "%2e%2e%2fdocs.py", "index.html"]
)
def test_unknown_assets_are_404(api: Api, path: str) -> None:
    assert_error(api.get(f"/assets/{path}"), 404)


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("path", ["/livez", "/healthz", "/readyz"])
def test_probes_are_200_and_empty(api: Api, prefix: str, path: str) -> None:
    answer = api.get(prefix + path)
    assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize(
    "path",
    ["/", "/assets/swagger-ui.css", "/openapi.json", "/openapi.yaml", "/livez", "/v1/topics", "/v1/nope"],
)
def test_head_is_get_without_its_body(api: Api, path: str) -> None:
    whole, head = api.get(path), api.request("HEAD", path)

    assert head.status == whole.status
    assert head.body == b""
    volatile = {"date", "content-length"} if path == "/v1/topics" else {"date"}
    for each in (whole.headers, head.headers):
        for header in volatile:
            each.pop(header, None)
    assert head.headers == whole.headers


def test_head_of_a_task_tells_its_length(api: Api, name: str) -> None:
    api.insert(name, name, payload="x" * 100)
    whole = api.get(f"/v1/topics/{name}/tasks/{name}")
    head = api.request("HEAD", f"/v1/topics/{name}/tasks/{name}")

    assert (head.status, head.headers["content-length"]) == (200, str(len(whole.body)))
    assert api.request("HEAD", f"/v1/topics/{name}/tasks/{name}x").status == 404
    # The connection is in step: the body was really left out.
    assert api.get("/livez").status == 200


def test_head_of_metrics(api: Api) -> None:
    assert api.request("HEAD", "/metrics").status == 200
    assert api.get("/livez").status == 200


def test_targets_with_a_host_or_a_fragment(server: Server, name: str) -> None:
    with Api(server.port) as api:
        api.insert(name, name)
        assert api.get(f"http://example.org/v1/topics/{name}").json["count"] == 1
        assert api.get(f"/v1/topics/{name}#fragment").json["count"] == 1
