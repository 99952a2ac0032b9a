"""The command line for people: push, poll, commit, tasks, topics, watch."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from ratus import Client, Commit, Retry, Task, TaskState
from ratus.commands import CLIENT_COMMANDS
from ratus.testing import RatusServer
from tests.commands.conftest import Ratus, spawn

# ---- push -----------------------------------------------------------------------------------------


def test_one_task_is_pushed(ratus: Ratus, client: Client) -> None:
    done = ratus("push", "mail", "--id", "1", "--payload", '{"to": "ann"}', "--priority", "5")
    assert (done.code, done.lines, done.err) == (0, [{"_id": "1", "created": 1, "updated": 0}], "")
    task = client.get_task("1")
    assert (task.topic, task.payload, task.priority) == ("mail", {"to": "ann"}, 5)


def test_a_task_without_an_id_is_given_one(ratus: Ratus, client: Client) -> None:
    first = ratus("push", "mail", "--payload", '"hello"')
    second = ratus("push", "mail", "--payload", '"hello"', "--output", "table")
    found = {task.id for task in client.iter_tasks("mail")}
    assert first.lines[0]["_id"] in found
    match = re.fullmatch(r"1 created: (\w{32})\n", second.out)
    assert match is not None
    assert match[1] in found


def test_a_payload_is_read_from_standard_input(ratus: Ratus, client: Client) -> None:
    assert ratus("push", "t", "--id", "1", "--payload", "-", stdin='{"a":\n [1]}').code == 0
    assert client.get_task("1").payload == {"a": [1]}


def test_an_id_alone_is_a_task(ratus: Ratus, client: Client) -> None:
    assert ratus("push", "t", "--id", "1", "--defer", "1h", "--max-attempts", "3").code == 0
    task = client.get_task("1")
    assert (task.payload, task.retry) == (None, Retry(max_attempts=3))
    assert client.poll("t") is None


def test_an_id_that_exists_is_refused_and_replaced(ratus: Ratus, client: Client) -> None:
    ratus("push", "t", "--id", "1")
    done = ratus("push", "t", "--id", "1")
    assert (done.code, done.out) == (1, "")
    assert done.err == "ratus push: conflict: a task with the same ID already exists\n"
    done = ratus("push", "t", "--id", "1", "--payload", "2", "--upsert", "--output", "table")
    assert (done.code, done.out) == (0, "0 created, 1 replaced\n")
    assert client.get_task("1").payload == 2


def test_lines_are_pushed_as_tasks(ratus: Ratus, client: Client) -> None:
    lines = ['{"_id": "1", "payload": 1}', "", '{"_id": "2", "priority": 3}', '{"payload": {"no": "id"}}']
    done = ratus("push", "t", "--priority", "1", stdin="\n".join(lines))
    assert (done.code, done.lines, done.err) == (0, [{"created": 3, "updated": 0}], "")
    assert (client.get_task("1").priority, client.get_task("2").priority) == (1, 3)
    done = ratus("push", "t", "--output", "table", stdin="\n".join(lines))
    assert done.out == "0 created, 3 existed\n", "the same content has the same id"


def test_lines_are_pushed_as_payloads(ratus: Ratus, client: Client) -> None:
    lines = '{"url": "a", "n": 1}\n{"url": "b"}\n'
    assert ratus("push", "t", "--payloads", "--id-from", "url", stdin=lines).lines[0]["created"] == 2
    assert client.get_task("a").payload == {"url": "a", "n": 1}
    assert ratus("push", "u", "--payloads", stdin='1\n"x"\n[]\n').lines[0]["created"] == 3
    assert [task.payload for task in client.iter_tasks("u")] == [1, "x", []]
    done = ratus("push", "t", "--payloads", "--id-from", "url", stdin='{"url": "c"}\n{"n": 1}\n')
    assert done.code == 1
    assert "line 2: the payload has no text or whole number under 'url'" in done.err
    assert client.get_task("c").payload == {"url": "c"}


def test_what_is_listed_can_be_pushed_elsewhere(ratus: Ratus, client: Client) -> None:
    client.insert_tasks((Task(id=str(n), payload={"n": n}, priority=2) for n in range(150)), topic="old")
    listed = ratus("tasks", "old", "--all")
    assert len(listed.lines) == 150
    done = ratus("push", "new", "--move", "--upsert", stdin=listed.out)
    assert done.lines == [{"created": 0, "updated": 150}]
    topic = client.get_topic("new")
    assert topic.count == 150
    assert client.get_task("7").payload == {"n": 7}


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("{", "not JSON"),
        ("[1]", "not a task, which is a JSON object"),
        ('{"_id": 7}', "_id: "),
        ('{"_id": "x", "priority": 12}', "priority: "),
        ('{"_id": "x", "scheduled": "tomorrow"}', "scheduled: "),
    ],
)
def test_a_wrong_line_is_named_and_what_came_before_it_is_in(
    ratus: Ratus, client: Client, line: str, text: str
) -> None:
    done = ratus("push", "t", stdin='{"_id": "1"}\n' + line + '\n{"_id": "3"}\n')
    assert done.code == 1
    assert done.err.startswith(f"ratus push: line 2: {text}")
    assert done.err.endswith("; 1 tasks before it were pushed\n")
    assert [task.id for task in client.iter_tasks("t")] == ["1"]


def test_bytes_that_are_no_text_are_named(ratus: Ratus, server: RatusServer) -> None:
    done = ratus("push", "t", stdin=b'{"_id": "\xff"}\n')
    assert done.code == 1
    assert "line 1: not JSON" in done.err


def test_a_bulk_push_shows_how_far_it_is_on_a_terminal(
    server: RatusServer, client: Client, tmp_path: Path
) -> None:
    file = tmp_path / "tasks.ndjson"
    file.write_text("".join(json.dumps({"_id": str(n)}) + "\n" for n in range(5_000)))
    terminal, inside = pty.openpty()
    with file.open() as lines:
        process = spawn("push", "t", url=server.url, stdin=lines, stdout=subprocess.PIPE, stderr=inside)
        output, _ = process.communicate(timeout=60)
    os.close(inside)
    shown = os.read(terminal, 65_536).decode()
    os.close(terminal)
    assert json.loads(output) == {"created": 5_000, "updated": 0}
    assert re.search(r"\[#{24}\] 100%  5,000 tasks, [\d,]+/s", shown)
    topic = client.get_topic("t")
    assert topic.count == 5_000


# ---- poll and commit ------------------------------------------------------------------------------


def test_a_task_is_claimed_and_committed(ratus: Ratus, client: Client) -> None:
    client.insert_task(Task(id="1", topic="t", payload={"a": "ö"}))
    done = ratus("poll", "t", "--timeout", "5m", "--consumer", "me")
    (task,) = done.lines
    assert (done.code, task["_id"], task["state"], task["consumer"]) == (0, "1", 1, "me")
    done = ratus("commit", "1", "--nonce", "wrong")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("ratus commit: conflict")
    done = ratus("commit", "1", "--nonce", task["nonce"], "--result", '{"n": 1}')
    assert (done.code, done.lines[0]["state"]) == (0, 2)
    assert client.get_task("1").result == {"n": 1}


def test_an_empty_topic_has_an_exit_code_of_its_own(ratus: Ratus, client: Client) -> None:
    done = ratus("poll", "t")
    assert (done.code, done.out, done.err) == (3, "", "")


def test_several_are_claimed_by_preference_and_shown_to_people(ratus: Ratus, client: Client) -> None:
    client.insert_tasks([Task(id="1", topic="bulk"), Task(id="2", topic="urgent", payload="\x1b[31m")])
    done = ratus("poll", "urgent", "bulk", "--limit", "1", "--output", "table")
    assert done.out.startswith("'2' in 'urgent', attempt 1\n")
    assert "nonce" in done.out
    assert "\x1b" not in done.out
    assert len(ratus("poll", "urgent", "bulk", "--limit", "5").lines) == 1


@pytest.mark.parametrize(
    ("flags", "state"),
    [
        ([], 2),
        (["--state", "archived"], 3),
        (["--state", "0"], 0),
        (["--error", "it broke"], 0),
        (["--state", "pending", "--defer", "10m", "--topic", "u", "--payload", "[1]"], 0),
    ],
)
def test_every_outcome_can_be_committed(ratus: Ratus, client: Client, flags: list[str], state: int) -> None:
    client.insert_task(Task(id="1", topic="t"))
    assert client.poll("t") is not None
    done = ratus("commit", "1", *flags)
    assert done.code == 0
    assert done.lines[0].get("state", 0) == state


# ---- tasks and topics -----------------------------------------------------------------------------


def test_tasks_are_listed(ratus: Ratus, client: Client) -> None:
    client.insert_tasks((Task(id=str(n), payload="x" * 100) for n in range(120)), topic="t")
    client.patch_task("3", Commit(state=TaskState.ARCHIVED))
    done = ratus("tasks", "t", "--limit", "5")
    assert [task["_id"] for task in done.lines] == ["0", "1", "2", "3", "4"]
    assert done.err == "ratus tasks: there are more than 5; --all shows all of them\n"
    assert len(ratus("tasks", "t", "--all").lines) == 120
    assert [task["_id"] for task in ratus("tasks", "t", "--state", "archived").lines] == ["3"]
    done = ratus("tasks", "t", "--state", "archived", "--output", "table")
    head, row = done.out.splitlines()
    assert head.split()[:3] == ["ID", "TOPIC", "STATE"]
    assert row.split()[:3] == ["3", "t", "archived"]
    assert row.endswith("…")


def test_topics_are_counted(ratus: Ratus, client: Client) -> None:
    client.insert_tasks(Task(id=str(n), topic=f"topic {n % 130}") for n in range(1_300))
    client.insert_task(Task(id="evil", topic="a\x1b[2J\nb"))
    client.patch_topic("topic 5", paused=True)
    assert len(ratus("topics").lines) == 131
    done = ratus("topics", "--output", "table")
    assert len(done.out.splitlines()) == 132
    assert "\x1b" not in done.out
    assert re.search(r"topic 5 +\d+ +10 +0 +0 +0 +paused\n", done.out)
    assert [topic["count"] for topic in ratus("topics", "topic 7", "none").lines] == [10, 0]


# ---- watch ----------------------------------------------------------------------------------------


def test_watching_shows_counts_and_rates(ratus: Ratus, client: Client) -> None:
    client.insert_task(Task(id="1", topic="t"))
    done = ratus("watch", "--count", "2", "--interval", "100ms", "--output", "table")
    assert done.code == 0
    assert done.out.count("1 topics, 1 tasks") == 2
    assert "completed/s" in done.out
    assert ratus("watch", "t", "--count", "1").lines[0]["name"] == "t"


def test_watching_goes_on_while_the_server_is_away(ratus: Ratus, monkeypatch: pytest.MonkeyPatch) -> None:
    with RatusServer() as gone:
        monkeypatch.setenv("RATUS_URL", gone.url)
    monkeypatch.setattr("ratus.calls.retrying.FIRST_PAUSE", 0.0)
    done = ratus("watch", "--count", "2", "--interval", "100ms", "--output", "table")
    assert done.code == 1, "the last look failed"
    assert done.out.count("cannot connect") == 2
    done = ratus("watch", "--count", "1", "--output", "json")
    assert (done.code, done.out) == (1, "")
    assert "cannot connect" in done.err


def test_watching_ends_with_ctrl_c_and_leaves_the_terminal_as_it_was(
    server: RatusServer, client: Client
) -> None:
    client.insert_task(Task(id="1", topic="t"))
    terminal, inside = pty.openpty()
    process = spawn("watch", url=server.url, stdout=inside, stderr=subprocess.PIPE)
    shown = b""
    while b"1 topics" not in shown:
        shown += os.read(terminal, 65_536)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    os.close(inside)
    time.sleep(0.05)
    shown += os.read(terminal, 65_536)
    os.close(terminal)
    assert (process.returncode, errors) == (0, "")
    assert shown.index(b"\x1b[?25l") < shown.index(b"1 topics") < shown.index(b"\x1b[?25h")


# ---- common to all --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CLIENT_COMMANDS)
def test_each_has_a_help_with_examples(ratus: Ratus, name: str) -> None:
    done = ratus(name, "--help")
    assert (done.code, done.err) == (0, "")
    assert f"ratus {name}" in done.out
    assert "RATUS_URL" in done.out
    assert "Exit codes" in done.out
    assert done.out.count(f"  ratus {name}") >= 2 or name == "poll"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["push"], "the following arguments are required: TOPIC"),
        (["push", "t", "--payload", "{"], "--payload: not JSON"),
        (["push", "t", "--payload", "hello"], "a text stands in quotes"),
        (["push", "t", "--payload", "NaN"], "not JSON"),
        (["push", "t", "--payload", "null"], "null is no value"),
        (["push", "t", "--id", "1", "--payloads"], "--payloads"),
        (["push", "t", "--id", ""], "--id"),
        (["push", "t", "--id", "1", "--defer", "soon"], "defer: invalid duration"),
        (["push", "t", "--id", "1", "--priority", "10"], "priority"),
        (["push", "t", "--id", "1", "--max-attempts", "-1"], "max_attempts"),
        (["poll"], "TOPIC"),
        (["poll", "t", "--wait", "1d"], "wait: invalid duration"),
        (["poll", "t", "--limit", "0"], "limit"),
        (["commit", "1", "--state", "done"], "'done' is not one of pending, active"),
        (["commit", "1", "--result", "-", "--payload", "-"], "cannot both"),
        (["commit", ""], "ID"),
        (["tasks", "t", "--limit", "0"], "--limit"),
        (["tasks", ""], "TOPIC"),
        (["tasks", "t", "--outcome", "lost"], "invalid choice"),
        (["watch", "--interval", "1ms"], "--interval"),
        (["watch", "--interval", "often"], "--interval: invalid duration"),
        (["topics", "--url", "example.com"], "is not one such as"),
        (["topics", "--token", "a b"], "token"),
    ],
)
def test_wrong_arguments_are_one_line_and_exit_code_2(
    ratus: Ratus, server: RatusServer, arguments: list[str], text: str
) -> None:
    done = ratus(*arguments)
    assert (done.code, done.out) == (2, "")
    assert text in done.err
    assert done.err.endswith(f"(see ratus {arguments[0]} --help)\n")
    assert done.err.count("\n") == 1


def test_a_server_that_is_not_there_is_one_line_and_exit_code_1(
    ratus: Ratus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ratus.calls.retrying.FIRST_PAUSE", 0.0)
    done = ratus("topics", "--url", "http://127.0.0.1:9")
    assert (done.code, done.out) == (1, "")
    assert done.err == (
        "ratus topics: transport error: cannot connect to http://127.0.0.1:9: connection refused\n"
    )


def test_tokens_come_from_the_environment_or_a_flag(ratus: Ratus, monkeypatch: pytest.MonkeyPatch) -> None:
    with RatusServer("--auth-tokens", "secret") as server:
        monkeypatch.setenv("RATUS_URL", server.url)
        assert ratus("topics").code == 1
        assert ratus("topics", "--token", "secret").code == 0
        monkeypatch.setenv("RATUS_TOKEN", "secret")
        assert ratus("topics").code == 0
        done = ratus("topics", "--token", "wrong")
        assert (done.code, "unauthorized" in done.err) == (1, True)


def test_a_reader_that_has_seen_enough_is_no_failure(server: RatusServer, client: Client) -> None:
    client.insert_tasks((Task(id=str(n), payload="x" * 1_000) for n in range(1_000)), topic="t")
    reader, writer = os.pipe()
    os.close(reader)
    process = spawn("tasks", "t", "--all", url=server.url, stdout=writer, stderr=subprocess.PIPE)
    _, errors = process.communicate(timeout=60)
    os.close(writer)
    assert (process.returncode, errors) == (0, "")


def test_the_server_starts_without_the_client() -> None:
    import sys

    code = "import sys; from ratus import cli; cli.main(['--help']); sys.exit('ratus.client' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0
