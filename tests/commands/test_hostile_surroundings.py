"""Commands whose streams are closed or full, or whose arguments are not text: one line, no traceback."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ratus import Client, Task, TaskState
from ratus.testing import RatusServer
from tests.commands.conftest import Ratus, spawn

DEEP = "[" * 100_000
SHALLOWER = "[" * 300 + "]" * 300


def run(command: str, url: str) -> subprocess.CompletedProcess[str]:
    """A line of the shell, in which `ratus` is the command."""
    process = spawn("--version", url=url, stdout=subprocess.DEVNULL)
    environment = {**os.environ, "RATUS_URL": url, "RATUS": " ".join(map(str, process.args[:3]))}  # type: ignore[index]  # a list
    process.wait()
    environment["PYTHONPATH"] = f"{Path(__file__).parents[2]}:{Path(__file__).parents[2] / 'engines'}"
    return subprocess.run(
        ["sh", "-c", command.replace("ratus ", "$RATUS ")],
        env=environment,
        capture_output=True,
        check=False,
        encoding="utf-8",
        errors="surrogateescape",
        timeout=60,
    )


CASES: list[tuple[str, int, str]] = [
    ("ratus tasks mail >&-", 1, "standard output is closed"),
    ("ratus topics >&-", 1, "standard output is closed"),
    ("ratus watch --count 1 >&-", 1, "standard output is closed"),
    ("ratus push mail --id 2 >&-", 1, "standard output is closed"),
    ("ratus commit 1 >&-", 1, "standard output is closed"),
    ("ratus push mail <&-", 2, "standard input is closed"),
    ("ratus push mail --payload - <&-", 2, "standard input is closed"),
    ("ratus tasks mail >/dev/full", 1, "no space left"),
    ("ratus push mail --payload - 0>/dev/null", 1, "bad file descriptor"),
    ("ratus tasks mail --url http://127.0.0.1:1 2>&-", 1, ""),
    ('echo \'{"_id": "2"}\' | ratus push mail 2>&-', 0, ""),
]


@pytest.mark.parametrize(("command", "code", "text"), CASES)
def test_streams_that_are_closed_or_full(server: RatusServer, command: str, code: int, text: str) -> None:
    with Client(server.url) as client:
        client.insert_task(Task(id="1", topic="mail"))
        done = run(command, server.url)
        assert done.returncode == code, done
        assert text in done.stderr
        assert "Traceback" not in done.stderr
        assert done.stderr.count("\n") <= 1
        assert client.get_task("1").state is TaskState.PENDING


@pytest.mark.parametrize("output", [">&-", ">/dev/full", ">/dev/full --output table", "closed pipe"])
def test_a_claim_that_was_not_shown_is_given_back(server: RatusServer, output: str) -> None:
    with Client(server.url) as client:
        client.insert_tasks([Task(id=str(n), topic="mail") for n in range(3)])
        error = (
            _broken_pipe(server.url)
            if output == "closed pipe"
            else run(f"ratus poll mail --limit 3 {output}", server.url).stderr
        )
        assert "Traceback" not in error
        assert "given back" in error or "closed" in error
        assert [task.state for task in client.iter_tasks("mail")] == [TaskState.PENDING] * 3
        assert [task.attempts for task in client.iter_tasks("mail")] == [0] * 3


def _broken_pipe(url: str) -> str:
    """What the command says when nothing reads its output any more."""
    reader, writer = os.pipe()
    os.close(reader)
    with spawn("poll", "mail", "--limit", "3", url=url, stdout=writer, stderr=subprocess.PIPE) as process:
        os.close(writer)
        return process.communicate(timeout=60)[1]


SLIPS: list[tuple[list[str], str]] = [
    (["tasks", "\udcff"], "not UTF-8"),
    (["topics", "\udcff"], "not UTF-8"),
    (["watch", "\udcff", "--count", "1"], "not UTF-8"),
    (["poll", "\udcff"], "not UTF-8"),
    (["poll", "mail", "--consumer", "\udcff"], "not UTF-8"),
    (["commit", "\udcff"], "not UTF-8"),
    (["commit", "1", "--error", "\udcff"], "not UTF-8"),
    (["push", "mail", "--payload", '"\udcff"'], "not UTF-8"),
    (["push", "mail", "--payload", '"\\ud800"'], "lone surrogate"),
    (["push", "mail", "--payload", DEEP], "nested too deeply"),
    (["push", "mail", "--payload", SHALLOWER], "nested too deeply"),
    (["commit", "1", "--result", DEEP], "nested too deeply"),
    (["watch", "", "--count", "1"], "TOPIC: it must not be empty"),
    (["topics", ""], "TOPIC: it must not be empty"),
    (["push", "", "--id", "2"], "TOPIC: it must not be empty"),
    (["watch", "--count", "-1"], "--count"),
    (["watch", "--interval", "99999h"], "--interval"),
    (["tasks", "mail", "--limit", "99999999999999999999"], "--limit"),
]


@pytest.mark.parametrize(("arguments", "text"), SLIPS, ids=range(len(SLIPS)))
def test_arguments_that_make_no_sense(
    ratus: Ratus, server: RatusServer, arguments: list[str], text: str
) -> None:
    done = ratus(*arguments)
    assert (done.code, done.out) == (2, "")
    assert text in done.err
    assert done.err.count("\n") == 1


LINES: list[tuple[bytes, str]] = [
    (DEEP.encode(), "line 1"),
    (SHALLOWER.encode(), "line 1"),
    (b'{"_id": "1", "payload": ' + SHALLOWER.encode() + b"}", "nested too deeply"),
    (b'{"_id": "1", "paylod": 1}', "no member 'paylod'; did you mean 'payload'?"),
    (b'{"_id": "\xff"}', "line 1"),
]


@pytest.mark.parametrize(("line", "text"), LINES, ids=range(len(LINES)))
def test_lines_that_make_no_sense(ratus: Ratus, server: RatusServer, line: bytes, text: str) -> None:
    done = ratus("push", "mail", stdin=line)
    assert done.code == 1
    assert text in done.err


def test_input_that_is_not_utf8(ratus: Ratus, server: RatusServer) -> None:
    done = ratus("push", "mail", "--id", "1", "--payload", "-", stdin=b'"\xff"')
    assert done.code == 2
    assert "--payload: not JSON" in done.err


def test_a_terminal_that_does_not_know_a_character(server: RatusServer) -> None:
    with Client(server.url) as client:
        client.insert_task(Task(id="1", topic="mail", payload="a€"))
    for command in ("tasks", "poll"):
        done = run(f"PYTHONIOENCODING=latin-1 ratus {command} mail --output table", server.url)
        assert (done.returncode, done.stderr) == (0, "")
        assert "a\\u20ac" in done.stdout


def test_who_holds_a_task_since_when(ratus: Ratus, server: RatusServer, client: Client) -> None:
    client.insert_task(Task(id="1", topic="mail", payload=1))
    client.poll("mail", consumer="the-other-one", timeout="1h")
    head, row = ratus("tasks", "mail", "--state", "active", "--output", "table").out.splitlines()
    assert head.split() == [
        "ID",
        "TOPIC",
        "HELD",
        "BY",
        "SINCE",
        "(UTC)",
        "UNTIL",
        "(UTC)",
        "ATTEMPTS",
        "PAYLOAD",
    ]
    assert "the-other-one" in row
    assert f"{server.now:%Y-%m-%d %H:%M:%S}" in row


def test_messages_say_what_to_do(ratus: Ratus, server: RatusServer) -> None:
    done = ratus("commit", "nope")
    assert (done.code, done.err) == (1, 'ratus commit: not found: there is no task "nope"\n')
    done = ratus("topics", "--url", server.url.replace("http:", "https:"))
    assert done.code == 1
    assert "does not speak TLS; does its URL begin with http://?" in done.err
    with RatusServer("--auth-tokens", "a-token-of-the-tests small-token-of-tests:read") as guarded:
        assert "RATUS_TOKEN" in ratus("topics", "--url", guarded.url).err
        done = ratus("poll", "mail", "--url", guarded.url, "--token", "small-token-of-tests")
        assert done.code == 1
        assert "RATUS_TOKEN or --token" in done.err


def test_topics_that_the_server_does_not_list_are_mentioned(
    ratus: Ratus, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RatusServer("--pagination-max-offset", "10", "--pagination-max-limit", "5") as server:
        monkeypatch.setenv("RATUS_URL", server.url)
        with server.client() as client:
            client.insert_tasks(Task(id=str(n), topic=f"t{n}") for n in range(21))
        done = ratus("topics")
        assert len(done.lines) == 12
        assert "there are more than 12 topics" in done.err
        assert "there are more than 12 topics" in ratus("watch", "--count", "1", "--output", "table").out
