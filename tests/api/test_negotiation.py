"""Compression and requests of browsers from other origins."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.metrics.scraping import values_of
from tests.servers import Api, assert_error, serving

ORIGIN = {"origin": "https://somewhere.example"}
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"]


@pytest.mark.parametrize(
    "accept",
    [
        "gzip",
        "deflate, GZIP;q=0.5",
        "br, gzip",
        "gzip; q=1.0",
        "gzip, identity",
        "*",
        "br, *;q=0.1",
        "*;q=0, gzip",
    ],
)
def test_large_answers_are_compressed_when_accepted(api: Api, name: str, accept: str) -> None:
    api.insert(name, name, payload="x" * 5000)
    target = f"/v1/topics/{name}/tasks/{name}"
    plain = api.get(target)
    packed = api.get(target, headers={"accept-encoding": accept})

    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert "accept-encoding" in packed.headers["vary"].lower()
    assert len(packed.body) < 500
    assert gzip.decompress(packed.body) == plain.body


@pytest.mark.parametrize(
    "accept",
    [
        "",
        "identity",
        "br",
        "deflate",
        "gzip;q=0",
        "gzip; q=0.000",
        "GZIP;Q=0.",
        "x-gzipped",
        "*;q=0",
        "gzip;q=0, *",
        "*, gzip;q=0",
    ],
)
def test_otherwise_they_are_not(api: Api, name: str, accept: str) -> None:
    api.insert(name, name, payload="x" * 5000)
    answer = api.get(f"/v1/topics/{name}/tasks/{name}", headers={"accept-encoding": accept})
    assert "content-encoding" not in answer.headers
    assert "accept-encoding" in answer.headers["vary"].lower()
    assert len(answer.body) > 5000


@pytest.mark.parametrize("target", ["/livez", "/v1/topics/nothing", "/v1/topics?limit=1"])
def test_small_answers_are_not_worth_it(api: Api, target: str) -> None:
    headers = api.get(target, headers={"accept-encoding": "gzip"}).headers
    assert "content-encoding" not in headers
    assert "vary" not in headers


def test_a_large_answer_is_compressed_aside(api: Api, name: str) -> None:
    api.insert(name, name, payload="x" * 3_000_000)
    for answer in (
        api.get(f"/v1/topics/{name}/tasks/{name}", headers={"accept-encoding": "gzip"}),
        api.post(f"/v1/topics/{name}/promises", headers={"accept-encoding": "gzip"}),
    ):
        assert len(gzip.decompress(answer.body)) > 3_000_000


@pytest.mark.parametrize(
    "target", ["/", "/assets/swagger-ui.css", "/openapi.json", "/openapi.yaml", "/metrics"]
)
def test_documents_and_metrics_are_compressed(api: Api, target: str) -> None:
    packed = api.get(target, headers={"accept-encoding": "gzip"})
    if "content-encoding" not in packed.headers:
        assert len(packed.body) < 1400
        return
    plain = gzip.decompress(packed.body)
    assert len(plain) > len(packed.body)
    unpacked = api.get(target)
    assert "accept-encoding" in packed.headers["vary"].lower()
    assert "accept-encoding" in unpacked.headers["vary"].lower()
    if target != "/metrics":
        assert plain == unpacked.body


# ---- other origins -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A server that all pages may use."""
    folder = tmp_path_factory.mktemp("public")
    with serving(folder, "--cors-origins", "*") as server, Api(server.port) as client:
        yield client


@pytest.mark.parametrize("target", ["/v1/topics", "/livez", "/v1/nowhere", "/v1/topics/x", "/metrics"])
def test_pages_of_any_origin_may_read_answers(public: Api, target: str) -> None:
    assert public.get(target, headers=ORIGIN).headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-origin" not in public.get(target).headers


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("asked", ["authorization", "Authorization, Content-Type", "content-type"])
def test_preflight_requests(public: Api, method: str, asked: str) -> None:
    headers = ORIGIN | {"access-control-request-method": method, "access-control-request-headers": asked}
    answer = public.request("OPTIONS", "/v1/topics/x/tasks/y", headers=headers)

    assert answer.status in (200, 204)
    assert answer.headers["access-control-allow-origin"] == "*"
    assert method in answer.headers["access-control-allow-methods"]
    allowed = answer.headers["access-control-allow-headers"].lower()
    assert all(each.strip().lower() in allowed for each in asked.split(","))


@pytest.mark.parametrize(
    ("origin", "method", "asked", "what"),
    [
        ("https://a.example", "POST", "x-mine", "headers"),
        ("https://a.example", "BREW", "authorization", "method"),
        ("https://b.example", "POST", "authorization", "origin"),
        ("https://b.example", "BREW", "x-mine", "origin, method, headers"),
    ],
)
def test_refused_preflight_requests_are_answered_and_counted_like_others(
    tmp_path: Path, origin: str, method: str, asked: str, what: str
) -> None:
    headers = {
        "origin": origin,
        "access-control-request-method": method,
        "access-control-request-headers": asked,
    }
    with (
        serving(tmp_path, "--cors-origins", "https://a.example", "--access-log") as server,
        Api(server.port) as api,
    ):
        answer = api.request("OPTIONS", "/v1/topics/x/tasks/y", headers=headers)
        assert_error(answer, 400, f"for its {what};")
        assert answer.headers["content-type"].startswith("application/json")
        assert answer.headers["vary"].startswith("Origin")
        assert ("access-control-allow-origin" in answer.headers) == (origin == "https://a.example")
        headers |= {"origin": "https://a.example", "access-control-request-method": "GET"}
        headers["access-control-request-headers"] = "authorization"
        assert api.request("OPTIONS", "/v1/topics/x/tasks/y", headers=headers).status == 204
        text = api.get("/metrics").body.decode()
        counted = values_of(
            text, "ratus_request_duration_seconds_count", "method", "endpoint", "topic", "status_code"
        )
        assert counted["OPTIONS", "other", "", "400"] == 1
        assert counted["OPTIONS", "other", "", "204"] == 1
        server.wait_for_log("OPTIONS /v1/topics/x/tasks/y 400")
        server.wait_for_log("OPTIONS /v1/topics/x/tasks/y 204")


def test_a_page_may_work_with_tasks(public: Api, name: str) -> None:
    answer = public.post(f"/v1/topics/{name}/tasks/{name}", {}, headers=ORIGIN)
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (201, "*")


def test_narrowed_origins(tmp_path: Path) -> None:
    flags = ["--cors-origins", "https://a.example https://b.example:8443", "--auth-tokens", "secret"]
    with serving(tmp_path, *flags) as server, Api(server.port) as api:
        preflight = {
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization",
        }
        for origin in ("https://a.example", "https://b.example:8443"):
            answer = api.request("OPTIONS", "/v1/topics", headers={"origin": origin, **preflight})
            assert answer.status in (200, 204)
            assert answer.headers["access-control-allow-origin"] == origin
            # The refusal of a token can be read by the page, too.
            answer = api.get("/v1/topics", headers={"origin": origin})
            assert_error(answer, 401)
            assert answer.headers["access-control-allow-origin"] == origin
            assert "origin" in answer.headers["vary"].lower()
        for origin in (
            "https://c.example",
            "https://a.example:444",
            "http://a.example",
            "null",
            "https://a.example.evil",
        ):
            for method, headers in (("OPTIONS", preflight), ("GET", {"authorization": "Bearer secret"})):
                answer = api.request(method, "/v1/topics", headers={"origin": origin, **headers})
                assert "access-control-allow-origin" not in answer.headers, (origin, method)


@pytest.mark.parametrize("flag", ["none", ""])
def test_no_other_origins(tmp_path: Path, flag: str) -> None:
    with serving(tmp_path, "--cors-origins", flag) as server, Api(server.port) as api:
        assert "access-control-allow-origin" not in api.get("/v1/topics", headers=ORIGIN).headers
        preflight = ORIGIN | {"access-control-request-method": "POST"}
        answer = api.request("OPTIONS", "/v1/topics", headers=preflight)
        assert not [each for each in answer.headers if each.startswith("access-control")]
