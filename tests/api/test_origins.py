"""Without tokens, a page of another origin may have a browser change nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import Api, assert_error, serving

# `request_bytes` says so of its server.
OWN = "http://ratus"
FOREIGN = "https://evil.example"

CHANGES = [
    ("POST", "/v1/topics/{0}/tasks/{0}"),
    ("PUT", "/v1/topics/{0}/tasks/{0}"),
    ("POST", "/v1/topics/{0}/tasks"),
    ("PUT", "/v1/topics/{0}/tasks"),
    ("PATCH", "/v1/topics/{0}/tasks/{0}"),
    ("DELETE", "/v1/topics/{0}/tasks/{0}"),
    ("DELETE", "/topics"),
    ("DELETE", "/v1/topics/{0}"),
    ("PATCH", "/v1/topics/{0}"),
    ("POST", "/v1/topics/{0}/promises"),
    ("POST", "/v1/promises"),
    ("PUT", "/v1/topics/{0}/promises/{0}"),
    ("DELETE", "/v1/topics/{0}/promises"),
    ("POST", "/nowhere"),
]


@pytest.mark.parametrize(("method", "target"), CHANGES)
@pytest.mark.parametrize(
    "headers",
    [
        {"origin": FOREIGN},
        {"origin": FOREIGN, "content-type": "text/plain"},
        {"origin": "null"},
        {"origin": "http://ratus.evil.example"},
        {"origin": "http://ratus:81"},
        {"origin": FOREIGN, "sec-fetch-site": "cross-site"},
        {"origin": OWN, "sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": ""},
    ],
    ids=lambda headers: " ".join(headers.values()),
)
def test_a_foreign_page_changes_nothing(
    api: Api, name: str, method: str, target: str, headers: dict[str, str]
) -> None:
    api.insert(name, name)
    before = api.task(name)
    answer = api.request(method, target.format(name), {"data": []}, headers=headers)
    assert_error(answer, 403, "a page of another origin may change nothing")
    assert "access-control-allow-origin" not in answer.headers
    assert api.task(name) == before


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": OWN},
        {"origin": "https://ratus"},  # a proxy in between ended TLS
        {"origin": "http://RATUS"},
        {"origin": FOREIGN, "sec-fetch-site": "same-origin"},  # a proxy in between changed Host
        {"sec-fetch-site": "same-origin"},
        {"sec-fetch-site": "none"},
    ],
    ids=lambda headers: " ".join(headers.values()),
)
def test_own_pages_and_programs_may_change_everything(api: Api, name: str, headers: dict[str, str]) -> None:
    assert api.post(f"/v1/topics/{name}/tasks/{name}", {}, headers=headers).status == 201
    assert api.delete(f"/v1/topics/{name}", headers=headers).json == {"deleted": 1}


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_a_foreign_page_can_read_nothing(api: Api, method: str) -> None:
    answer = api.request(method, "/v1/topics", headers={"origin": FOREIGN, "sec-fetch-site": "cross-site"})
    assert answer.status in (200, 204)
    assert not [each for each in answer.headers if each.startswith("access-control")]


def test_a_preflight_request_lets_nothing_in(api: Api) -> None:
    headers = {"origin": FOREIGN, "access-control-request-method": "DELETE"}
    answer = api.request("OPTIONS", "/v1/topics", headers=headers)
    assert not [each for each in answer.headers if each.startswith("access-control")]


@pytest.fixture(scope="module")
def narrowed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    folder = tmp_path_factory.mktemp("narrowed")
    flags = ("--cors-origins", "https://a.example", "--chore-interval", "0")
    with serving(folder, *flags) as server, Api(server.port) as client:
        yield client


def test_an_origin_that_is_let_in_may_change(narrowed: Api, name: str) -> None:
    for site in ({}, {"sec-fetch-site": "cross-site"}):
        headers = {"origin": "https://a.example", **site}
        answer = narrowed.put(f"/v1/topics/{name}/tasks/{name}", {}, headers=headers)
        assert answer.status in (200, 201)
        assert answer.headers["access-control-allow-origin"] == "https://a.example"
    for origin in (FOREIGN, "http://a.example", "https://a.example:444", "null"):
        assert_error(narrowed.delete("/v1/topics", headers={"origin": origin}), 403)


def test_with_tokens_the_token_decides(tmp_path: Path) -> None:
    with (
        serving(tmp_path, environment={"AUTH_TOKENS": "a-token-of-some-length"}) as server,
        Api(server.port, "a-token-of-some-length") as api,
        Api(server.port) as stranger,
    ):
        headers = {"origin": FOREIGN, "sec-fetch-site": "cross-site"}
        answer = api.post("/v1/topics/t/tasks/1", {}, headers=headers)
        assert (answer.status, answer.headers["access-control-allow-origin"]) == (201, "*")
        assert_error(stranger.post("/v1/topics/t/tasks/1", {}, headers=headers), 401)


def test_a_refused_page_is_counted_and_logged(tmp_path: Path) -> None:
    with serving(tmp_path, "--access-log") as server, Api(server.port) as api:
        assert_error(api.delete("/v1/topics", headers={"origin": FOREIGN}), 403)
        server.wait_for_log("DELETE /v1/topics 403")
