"""nginx before the server, with the configuration that we recommend: polls wait, and who goes is missed."""

from __future__ import annotations

import getpass
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from ratus.core.options import SERVER_GROUPS
from tests.deployments.settings import OPTIONS, seconds
from tests.deployments.tools import DEPLOYMENTS, need
from tests.servers import (
    PATIENCE,
    Api,
    Client,
    Server,
    assert_error,
    eventually,
    free_port,
    request_bytes,
    serving,
)

FILE = DEPLOYMENTS / "nginx/ratus.conf"
TEXT = FILE.read_text(encoding="utf-8")
# Several seconds, as long as anybody wants to wait for a test.
WAIT_SECONDS = 3


@dataclass(frozen=True)
class Pair:
    """A server, and the port of the nginx before it."""

    server: Server
    port: int


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    nginx = need("nginx")
    folder = tmp_path_factory.mktemp("nginx")
    folder.chmod(0o755)
    with serving(folder) as server:
        port = free_port()
        text = TEXT
        for shown, here in (
            ("server 127.0.0.1:8000;", f"server 127.0.0.1:{server.port};"),
            ("listen 80;", f"listen 127.0.0.1:{port};"),
        ):
            assert text.count(shown) == 1
            text = text.replace(shown, here)
        (folder / "ratus.conf").write_text(text)
        temporary = "".join(
            f"{name}_temp_path {folder}/{name};"
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        main = folder / "nginx.conf"
        main.write_text(
            # Its folders belong to whoever runs the tests.
            f"daemon off; user {getpass.getuser()}; worker_processes 1; pid {folder}/pid;"
            f"error_log {folder}/error.log info;"
            f"events {{}} http {{ access_log off; {temporary} include {folder}/ratus.conf; }}"
        )
        command = [nginx, "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(main)]
        tested = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
        assert tested.returncode == 0, tested.stderr
        # The line about the user is ours, and for root alone.
        assert [line for line in tested.stderr.splitlines() if "warn" in line and '"user"' not in line] == []
        with subprocess.Popen(command) as process:
            try:
                eventually(lambda: _answers(port), "nginx to answer")
                yield Pair(server, port)
            finally:
                process.terminate()
                process.wait(PATIENCE)


def _answers(port: int) -> bool:
    try:
        with Api(port) as api:
            return api.get("/readyz").status == 200
    except OSError:
        return False


def test_tasks_go_through(pair: Pair) -> None:
    with Api(pair.port) as api:
        api.insert("through", "1", payload={"text": "ü"})
        claim = api.claim("through")
        assert api.commit("1", nonce=claim["nonce"])["payload"] == {"text": "ü"}


def test_connections_to_the_server_are_kept(pair: Pair) -> None:
    with Api(pair.port) as api:
        assert api.get("/readyz").status == 200
    # The socket that listens, and at least one that nginx has kept.
    assert pair.server.connections() > 1


def test_names_arrive_as_they_were_sent(pair: Pair) -> None:
    with Api(pair.port) as api:
        for name in ("a/b", "a//b", "../c", "a%2Fb", "d e+f?", "é"):
            api.insert("names", name)
            assert api.task(name)["_id"] == name


def test_a_poll_waits_for_several_seconds(pair: Pair) -> None:
    with Api(pair.port) as api:
        started = time.monotonic()
        assert_error(api.post(f"/v1/topics/waiting/promises?wait={WAIT_SECONDS}s"), 404)
        assert WAIT_SECONDS <= time.monotonic() - started < WAIT_SECONDS + 30


def test_a_poll_gets_its_task_at_once(pair: Pair) -> None:
    poll = Client(pair.port)
    with poll.sock, Api(pair.port) as api:
        poll.send(request_bytes("POST", "/v1/topics/soon/promises?wait=60s"))
        api.insert("soon", "soon-1")
        assert poll.answer("POST").json["_id"] == "soon-1"


def test_polls_may_wait_longer_than_nginx_does_by_itself() -> None:
    [longest] = [option.default_text for option in OPTIONS if option.name == "promise-max-wait"]
    [timeout] = re.findall(r"^ *proxy_read_timeout (\w+);", TEXT, re.MULTILINE)
    assert seconds(timeout) >= seconds(longest) + 10


def test_who_goes_away_takes_no_task(pair: Pair) -> None:
    with Api(pair.port) as api:
        with Client(pair.port).sock as gone:
            gone.sendall(request_bytes("POST", "/v1/topics/left/promises?wait=60s"))
            # nginx goes in order of arrival: the poll has a connection to the server by now.
            assert api.get("/readyz").status == 200
            before = pair.server.connections()
        # That connection is ended then.
        eventually(lambda: pair.server.connections() < before, "the server to be told")
        api.insert("left", "left-1")
        task = api.task("left-1")
        assert (task["state"], task.get("attempts", 0)) == (0, 0)
        assert api.claim("left")["_id"] == "left-1"


def test_what_is_too_long_gets_our_answer(pair: Pair) -> None:
    [option] = [
        option for group in SERVER_GROUPS for option in group.options if option.name == "max-body-size"
    ]
    assert option.default_text == "4MiB"
    with Api(pair.port) as api:
        body = b'{"payload": "' + b"x" * (4 * 1024 * 1024) + b'"}'
        assert_error(api.post("/v1/topics/long/tasks/long-1", body), 413)
        fits = b'{"payload": "' + b"x" * (4 * 1024 * 1024 - 20) + b'"}'
        assert api.post("/v1/topics/long/tasks/long-1", fits).status == 201


def test_metrics_are_not_for_everybody(pair: Pair) -> None:
    with Api(pair.port) as api:
        for path in ("/metrics", "/v1/metrics"):
            assert api.get(path).status == 404
    with Api(pair.server.port) as direct:
        assert direct.get("/metrics").status == 200
