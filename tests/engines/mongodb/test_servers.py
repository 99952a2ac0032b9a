"""The whole server on MongoDB: the recorded conversations, and two servers on one database."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers import Api, assert_error, serving
from tests.test_conformance import CORPUS, FOLDER, recorded_steps

ROOT = Path(__file__).resolve().parents[3]


def settings(uri: str, database: str) -> dict[str, str]:
    return {"ENGINE": "mongodb", "MONGODB_URI": uri, "MONGODB_DATABASE": database}


def test_every_recorded_step_agrees(uri: str, database: str) -> None:
    command = f"{shlex.quote(sys.executable)} -m ratus"
    replayed = subprocess.run(
        [sys.executable, str(FOLDER / "replay.py"), "--spawn", command, "--ms", str(CORPUS)],
        capture_output=True,
        text=True,
        timeout=240,
        cwd=ROOT,
        env={**os.environ, **settings(uri, database)},
    )
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr
    steps = recorded_steps()
    assert replayed.stdout.endswith(f"\n{steps} of {steps} steps agree\n")


@pytest.fixture
def pair(uri: str, database: str, tmp_path: Path) -> Iterator[tuple[Api, Api]]:
    """Two servers on one database."""
    with contextlib.ExitStack() as stack:
        servers = [
            stack.enter_context(serving(tmp_path, environment=settings(uri, database))) for _ in range(2)
        ]
        one, two = (stack.enter_context(Api(server.port)) for server in servers)
        yield one, two


def test_two_servers_are_one_queue(pair: tuple[Api, Api]) -> None:
    one, two = pair
    for number in range(20):
        one.insert("t", f"{number:02}", payload={"n": number})
    claimed: list[Any] = [(one, two)[n % 2].claim("t", timeout="1h") for n in range(20)]
    assert [task["_id"] for task in claimed] == [f"{n:02}" for n in range(20)]
    assert len({task["nonce"] for task in claimed}) == 20
    assert_error(two.post("/v1/topics/t/promises"), 404)
    for number, task in enumerate(claimed):
        # Committed where it was not claimed.
        (two, one)[number % 2].commit(task["_id"], nonce=task["nonce"])
    assert one.get("/v1/topics/t").json["states"]["completed"] == 20


def test_pausing_on_one_is_pausing_on_both(pair: tuple[Api, Api]) -> None:
    one, two = pair
    for number in range(5):
        two.insert("t", f"{number}")
        two.claim("t")
        two.insert("t", f"{number} too")
        assert one.patch("/v1/topics/t", {"paused": True}).status == 200
        assert_error(two.post("/v1/topics/t/promises"), 404)
        assert one.patch("/v1/topics/t", {"paused": False}).status == 200
        two.claim("t")


def test_a_poll_takes_back_what_lapsed_on_the_other(pair: tuple[Api, Api]) -> None:
    one, two = pair
    one.insert("t", "1")
    lapsed = one.claim("t", timeout="150ms")
    answer = two.post("/v1/topics/t/promises?wait=5s")
    assert answer.status == 200
    assert (answer.json["_id"], answer.json["attempts"]) == ("1", 2)
    assert_error(one.patch("/v1/topics/t/tasks/1", {"nonce": lapsed["nonce"]}), 409)


def test_a_wait_ends_with_an_insert_on_the_other(pair: tuple[Api, Api]) -> None:
    one, two = pair
    code = (
        "import sys, time; from tests.servers import Api\n"
        "time.sleep(0.3)\n"  # after the other request began to wait
        f"with Api({one.port}) as api: api.insert('t', '1')"
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'engines'}"}
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment) as producer:
        answer = two.post("/v1/topics/t/promises?wait=20s")
        assert producer.wait() == 0
    assert (answer.status, answer.json["_id"]) == (200, "1")


def test_the_settings_are_checked_before_anything_is_opened() -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'engines'}",
        **settings("mongodb://operator:hush@hush@host/", "ratus"),
    }
    done = subprocess.run(
        [sys.executable, "-m", "ratus", "--port", "0"],
        env=environment,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 2
    assert "MongoDB URI" in done.stderr
    assert "hush" not in done.stderr


def test_without_the_driver_one_line_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['pymongo'] = None\n"
        "from ratus.cli import main; sys.exit(main(['--engine', 'mongodb', '--port', '0']))"
    )
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'engines'}"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert "engine mongodb needs pymongo" in line
    assert "pip install 'ratus-queue[mongodb]'" in line


def test_looking_at_the_settings_imports_no_driver() -> None:
    code = "import sys, ratus_engines.mongodb; sys.exit('pymongo' in sys.modules or 'bson' in sys.modules)"
    environment = {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'engines'}"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_the_answer_tells_which_member_is_too_long(pair: tuple[Api, Api]) -> None:
    one, _ = pair
    body = json.dumps({"payload": {"deep": [1, {"n": 2**63}]}}).encode()
    assert_error(one.post("/v1/topics/t/tasks/1", body), 400, '"payload.deep.1.n"')
    assert_error(one.get("/v1/topics/t/tasks/1"), 404)
    one.insert("t", "2")
    assert_error(one.patch("/v1/topics/t/tasks/2", {"result": -(2**63) - 1}), 400, '"result"')
    assert one.task("2")["state"] == 0
