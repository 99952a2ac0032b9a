"""Who may do what."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from ratus.api.auth import Tokens
from ratus.api.routes import ROUTES, Route
from ratus.core.errors import Forbidden
from tests.servers import Api, Server, assert_error, launch, serving

SCOPES = ("produce", "consume", "read", "admin")
TOKENS = {
    "bare": "bareToken-1._~+/=",
    "produce": "produceToken",
    "consume": "consumeToken",
    "read": "readToken",
    "admin": "adminToken",
    "worker": "workerToken",
}
SETTING = (
    f"{TOKENS['bare']}, produceToken:produce consumeToken:consume\treadToken:read,adminToken:admin\n"
    "workerToken:produce+consume"
)
GIVES = {
    "bare": {"admin"},
    "admin": {"admin"},
    "produce": {"produce"},
    "consume": {"consume"},
    "read": {"read"},
    "worker": {"produce", "consume"},
}


def may(scopes: set[str], method: str, pattern: str) -> object:
    """The table of scopes in words of its own."""
    if "admin" in scopes:
        return True
    return (
        ("read" in scopes and method == "GET")
        or ("produce" in scopes and "/tasks" in pattern and method in ("POST", "PUT"))
        or ("consume" in scopes and "/tasks" in pattern and method == "PATCH")
        or ("consume" in scopes and "/promises" in pattern)
        or ("produce" in scopes and pattern == "/values/:name" and method in ("PUT", "DELETE"))
        or (scopes & {"consume", "read"} and "/values" in pattern and method in ("GET", "POST"))
    )


EXEMPT = {"/livez", "/readyz", "/healthz", "/", "/assets/:name", "/openapi.json", "/openapi.yaml"}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("guarded")
    with serving(folder, "--access-log", environment={"AUTH_TOKENS": SETTING}) as server:
        yield server
        for token in TOKENS.values():
            assert token not in server.log


def targets(route: Route) -> list[str]:
    path = route.pattern.replace(":topic", "t").replace(":id", "i").replace(":name", "start.js")
    return [path, f"/v1{path}"] if route.versioned else [path]


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.pattern}")
def test_every_route_with_every_token(guarded: Server, route: Route) -> None:
    for target in targets(route):
        for method in [route.method, "HEAD"] if route.method == "GET" else [route.method]:
            with Api(guarded.port) as stranger:
                answer = stranger.request(method, target)
                if route.pattern in EXEMPT:
                    assert answer.status == 200
                else:
                    assert answer.status == 401
                    assert answer.headers["www-authenticate"] == "Bearer"
                    if method != "HEAD":
                        assert_error(answer, 401)
            for name, scopes in GIVES.items():
                with Api(guarded.port, TOKENS[name]) as client:
                    answer = client.request(method, target)
                if route.pattern in EXEMPT or may(scopes, route.method, route.pattern):
                    assert answer.status not in (401, 403), (name, method, target)
                elif method != "HEAD":
                    assert_error(answer, 403)
                else:
                    assert answer.status == 403


def test_a_refused_request_changes_nothing(guarded: Server, name: str) -> None:
    with Api(guarded.port, TOKENS["bare"]) as api:
        api.insert(name, name)
        before = api.task(name)
        for token in ("", "nobody", TOKENS["read"]):
            with Api(guarded.port, token) as other:
                for method, target in (
                    ("PATCH", f"/v1/topics/{name}/tasks/{name}"),
                    ("PUT", f"/v1/topics/{name}/tasks/{name}"),
                    ("DELETE", "/v1/topics"),
                    ("POST", f"/v1/topics/{name}/promises"),
                ):
                    assert other.request(method, target, {}).status in (401, 403)
        assert api.task(name) == before


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "bareToken-1._~+/=",
        "Basic YmFyZTp4",
        "Basic bareToken-1._~+/=",
        "Bearer bareToken-1._~+/",
        "Bearer bareToken-1._~+/=x",
        "Bearer BARETOKEN-1._~+/=",
        "Bearer produceToken:produce",
        "Bearer bareToken-1._~+/=, produceToken",
        "Bearer bareToken-1._~+/= x",
        "Bearer \u00e9",
        "Bearer " + "x" * 10_000,
    ],
)
def test_what_is_no_token(guarded: Server, header: str) -> None:
    with Api(guarded.port) as api:
        answer = api.get("/v1/topics", headers={"authorization": header})
        assert_error(answer, 401)
        assert answer.headers["www-authenticate"] == "Bearer"
        assert not [token for token in TOKENS.values() if token in answer.body.decode()]


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_scheme_may_be_written_in_any_case(guarded: Server, scheme: str) -> None:
    with Api(guarded.port) as api:
        header = {"Authorization": f"{scheme} {TOKENS['read']}"}
        assert api.get("/v1/topics", headers=header).status == 200


def test_strangers_do_not_learn_which_paths_there_are(guarded: Server) -> None:
    with Api(guarded.port) as api:
        for method, target in (
            ("GET", "/nowhere"),
            ("PUT", "/v1/topics"),
            ("GET", "/v1/topics/" + "x" * 2000),
        ):
            assert_error(api.request(method, target), 401)
    with Api(guarded.port, TOKENS["read"]) as api:
        assert_error(api.get("/nowhere"), 404)
        assert_error(api.put("/v1/topics"), 405)


def test_options_needs_no_token(guarded: Server) -> None:
    with Api(guarded.port) as api:
        assert api.request("OPTIONS", "/v1/topics").status == 204
        preflight = {
            "origin": "https://a.example",
            "access-control-request-method": "PATCH",
            "access-control-request-headers": "authorization",
        }
        answer = api.request("OPTIONS", "/v1/topics/t/tasks/i", headers=preflight)
        assert answer.status in (200, 204)
        assert "authorization" in answer.headers["access-control-allow-headers"].lower()


def test_a_body_of_a_stranger_is_not_awaited(guarded: Server) -> None:
    with Api(guarded.port) as api:
        answer = api.post("/v1/topics/t/tasks/i", b"{}", headers={"expect": "100-continue"})
        assert_error(answer, 401)


# ---- the file ------------------------------------------------------------------------------------


def test_the_file_is_read_again_on_sighup(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text("first\nsecond:read\n")
    with serving(tmp_path, "--auth-tokens-file", str(file), "--auth-tokens", "always") as server:

        def status(token: str, method: str = "GET") -> int:
            with Api(server.port, token) as api:
                return api.request(method, "/v1/topics").status

        assert [status(each) for each in ("always", "first", "second", "third")] == [200, 200, 200, 401]
        assert status("second", "DELETE") == 403

        file.write_text("third:read,\n\n  second:admin")
        server.process.send_signal(signal.SIGHUP)
        server.wait_for_log("read 3 tokens")
        assert [status(each) for each in ("always", "first", "second", "third")] == [200, 401, 200, 200]
        assert status("second", "DELETE") == 200

        broken = [
            (b"third:everything", "unknown scope"),
            (b":read", "tokens: token 1"),
            (b"\xff\xfe", "UTF-8"),
            ("tok\u00e9n".encode(), "ASCII"),
            (None, "No such file"),
        ]
        for number, (content, reason) in enumerate(broken, 1):
            if content is None:
                file.unlink()
            else:
                file.write_bytes(content)
            server.process.send_signal(signal.SIGHUP)
            server.wait_for_log("ERROR", times=number)
            assert reason in server.log.splitlines()[-1]
            assert "stay as they were" in server.log.splitlines()[-1]
            assert [status(each) for each in ("always", "first", "second", "third")] == [200, 401, 200, 200]
        for secret in ("always", "first", "second", "third"):
            assert secret not in server.log.replace("everything", "")


@pytest.mark.parametrize("content", ["", " \n,\n", "a:nothing", "a:", ":", "a:read+"])
def test_a_file_that_would_open_the_door_is_refused(tmp_path: Path, content: str) -> None:
    """Nobody means an empty list of tokens to let everybody in."""
    file = tmp_path / "tokens"
    file.write_text(content)
    server = launch(tmp_path, "--auth-tokens-file", str(file))
    assert server.wait() == 2
    assert len(server.log.splitlines()) == 1
    assert "token" in server.log


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path in ("/nowhere/tokens", "/"):
        server = launch(tmp_path, "--auth-tokens-file", path)
        assert server.wait() == 2
        assert f'"{path}"' in server.log
        assert len(server.log.splitlines()) == 1


def test_tokens_of_several_places() -> None:
    both = Tokens.parse("one", "--auth-tokens") + Tokens.parse("two:read\nthree", "tokens.txt")
    assert len(both) == 3
    for word, scopes in (("one", ("admin",)), ("two", ("read",)), ("three", ("admin",))):
        both.check(f"Bearer {word}".encode(), scopes)
    with pytest.raises(Forbidden):
        both.check(b"Bearer two", ("admin",))


@pytest.mark.parametrize("text", ["fine, hush:wrong", "fine :produce", "fine hush\u00fc"])
def test_a_token_that_is_none_is_told_by_its_place(text: str) -> None:
    with pytest.raises(ValueError, match=r"^--auth-tokens: token 2: ") as caught:
        Tokens.parse(text, "--auth-tokens")
    assert "hush" not in str(caught.value)
