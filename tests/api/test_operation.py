"""Readiness, logs and exit codes of the running program."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import pytest

from tests.servers import Api, assert_error, eventually, launch, serving


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_readiness_while_stopping(tmp_path: Path, number: signal.Signals) -> None:
    with serving(tmp_path, "--shutdown-delay", "400ms") as server:
        with Api(server.port) as api:
            assert (api.get("/readyz").status, api.get("/readyz").body) == (200, b"")
            server.process.send_signal(number)
            eventually(lambda: api.get("/readyz").status != 200, "the stop")
            assert_error(api.get("/readyz"), 503, "stopping")
            assert_error(api.get("/v1/readyz"), 503)
            assert (api.get("/livez").status, api.get("/healthz").status) == (200, 200)
            # Whoever comes now is still served.
            assert api.post("/topics/t/tasks/a", {}).status == 201
        assert server.wait() == 0
        assert "Traceback" not in server.log


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        with serving(tmp_path, "--shutdown-delay", "60s") as server, Api(server.port) as api:
            server.process.send_signal(number)
            eventually(lambda: api.get("/readyz").status == 503, "the stop")
            assert server.stop(number) == code


def test_the_access_log_is_off(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        with Api(server.port) as api:
            api.insert("sometopic", "sometask")
            api.get("/nowhere")
        server.stop()
        assert "sometopic" not in server.log
        assert "nowhere" not in server.log


def test_the_access_log(tmp_path: Path) -> None:
    with serving(tmp_path, "--access-log", "--auth-tokens", "secretToken") as server:
        with Api(server.port, "secretToken") as api:
            api.insert("t\nx", "a b", payload="private")
            api.get("/v1/topics/t?token=private")
            api.get("/nowhere")
            api.delete("/v1/topics/" + "%00" * 20)
        server.stop()
        lines = [line for line in server.log.splitlines() if "/v1/topics" in line or "/nowhere" in line]
        for line, request in zip(
            lines,
            [
                "POST /v1/topics/t%0Ax/tasks/a%20b 201",
                "GET /v1/topics/t 404",
                "GET /nowhere 404",
                "DELETE /v1/topics/" + "%00" * 20 + " 200",
            ],
            strict=True,
        ):
            assert re.fullmatch(
                r"\S+Z INFO +" + re.escape(request) + r" client=127\.0\.0\.1 seconds=\S+", line
            ), line
        # The query may hold anything, and headers and bodies are nobody's business.
        assert "private" not in server.log
        assert "secretToken" not in server.log


def test_json_logs_are_json(tmp_path: Path) -> None:
    with serving(tmp_path, "--log-format", "json", "--access-log", "--log-level", "debug") as server:
        with Api(server.port) as api:
            api.insert('"\n', "a")
            api.post("/v1/topics/t/tasks/a", b"{broken")
        assert server.stop() == 0
        lines = [json.loads(line) for line in server.log.splitlines()]
        assert all({"time", "level", "logger", "message"} <= set(line) for line in lines)
        access = [line for line in lines if line["logger"] == "ratus.access"]
        assert [line["message"] for line in access][-2:] == [
            "POST /v1/topics/%22%0A/tasks/a 201",
            "POST /v1/topics/t/tasks/a 400",
        ]
        assert all(line["client"] == "127.0.0.1" and line["seconds"] >= 0 for line in access)


@pytest.mark.parametrize("level", ["warning", "error"])
def test_a_quiet_log(tmp_path: Path, level: str) -> None:
    with serving(tmp_path, "--log-level", level) as server:
        with Api(server.port) as api:
            api.post("/v1/topics/t/tasks/a", b"{broken")
        assert server.stop() == 0
        assert server.log == ""


def test_it_says_where_it_serves(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        assert f"serving on http://127.0.0.1:{server.port}" in server.log


@pytest.mark.parametrize(
    ("flags", "code", "text"),
    [
        (["--engine", "nothing"], 2, "nothing"),
        (["--chore-interval", "soon"], 2, "chore-interval"),
        (["--no-such-flag", "1"], 2, "no-such-flag"),
        (["--memdb-snapshot-path", "/nowhere/at/all/snapshot"], 1, "/nowhere/at/all"),
        (["--tls-certfile", "/nowhere/cert.pem"], 2, "/nowhere/cert.pem"),
    ],
)
def test_what_cannot_start_says_so_in_one_line(
    tmp_path: Path, flags: list[str], code: int, text: str
) -> None:
    server = launch(tmp_path, *flags)
    assert server.wait() == code
    assert len(server.log.splitlines()) == 1, server.log
    assert text in server.log


def test_chores_only(tmp_path: Path) -> None:
    server = launch(tmp_path, "--port", "0", "--chore-interval", "20ms")
    server.wait_for_log("chores only")
    assert server.stop() == 0


def test_api_only_still_recovers_by_polls(api: Api, name: str) -> None:
    api.insert(name, name)
    api.claim(name, timeout="20ms")
    assert api.claim(name, wait="5s")["attempts"] == 2


def test_chores_recover_expire_and_purge(tmp_path: Path) -> None:
    flags = ["--chore-interval", "20ms", "--retention-period", "50ms"]
    with serving(tmp_path, *flags) as server, Api(server.port) as api:
        api.insert("t", "lapses", state=1, deadline="2001-01-01T00:00:00Z")
        api.insert("t", "expires", ttl="20ms")
        api.insert("t", "done")
        api.commit("done")
        eventually(lambda: api.task("lapses")["state"] == 0, "the recovery")
        eventually(lambda: api.task("expires")["state"] == 3, "the expiry")
        assert api.task("expires")["outcome"] == "expired"
        eventually(lambda: api.get("/topics//tasks/done").status == 404, "the purge")
        assert api.get("/topics/t").json["states"] == {
            "pending": 1,
            "active": 0,
            "completed": 0,
            "archived": 1,
        }
