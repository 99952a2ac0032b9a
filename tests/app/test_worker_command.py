"""`ratus worker`: what it runs and shows, and what it refuses."""

from __future__ import annotations

import os
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from ratus import App, Task, TaskState
from ratus.commands import worker as command
from ratus.testing import RatusServer
from tests.app import program
from tests.app.support import PATIENCE, wait_until
from tests.servers import free_port

SHOP = """
@app.task(name="double")
def double(n: int) -> int:
    return 2 * n

@app.task(name="half", topic="halves")
async def half(n: int) -> int:
    return n // 2

@app.task(name="pid", topic="pids")
def pid() -> int:
    return os.getpid()
"""


@pytest.fixture
def app(live: RatusServer) -> Iterator[App]:
    """The app of a program that pushes."""
    with App(live.url) as made:

        @made.task(name="double")
        def double(n: int) -> int: ...  # type: ignore[empty-body]

        @made.task(name="half", topic="halves")
        async def half(n: int) -> int: ...  # type: ignore[empty-body]

        @made.task(name="pid", topic="pids")
        def pid() -> int: ...  # type: ignore[empty-body]

        yield made


def test_it_shows_what_it_serves_and_runs_it(app: App, live: RatusServer, tmp_path: Path) -> None:
    program.write(tmp_path, SHOP)
    with program.worker(tmp_path, live.url, "shop:app", "--name", "me", "--log-tasks") as worker:
        worker.hear("pid")
        assert app.functions["double"].push(4).result(PATIENCE) == 8
        assert app.functions["half"].push(4).result(PATIENCE) == 2
        assert worker.stop() == 0
    assert f"  server  {live.url}\n  name    me\n  topics  default, halves, pids\n" in worker.said
    assert "  runs    8 at a time, claimed for 60 s\n" in worker.said
    assert "  tasks   double  from default\n          half    from halves, coroutine\n" in worker.said
    assert "double " in worker.said
    assert " succeeded after 0." in worker.said


def test_it_works_on_the_topics_that_it_is_given(app: App, live: RatusServer, tmp_path: Path) -> None:
    program.write(tmp_path, SHOP)
    with program.worker(tmp_path, live.url, "shop", "--topics", "halves,other") as worker:
        waiting = app.functions["double"].push(4)
        assert app.functions["half"].push(4).result(PATIENCE) == 2
        assert waiting.status == "pending"
        assert worker.stop(signal.SIGINT) == 0
    assert "  topics  halves, other\n" in worker.said


def test_probes_and_metrics(app: App, live: RatusServer, tmp_path: Path) -> None:
    program.write(tmp_path, SHOP)
    port = free_port()
    flags = ("--health-port", str(port), "--health-bind", "127.0.0.1")
    with program.worker(tmp_path, live.url, "shop", *flags) as worker:
        assert app.functions["double"].push(4).result(PATIENCE) == 8
        assert get(port, "/livez") == (200, "")
        assert get(port, "/readyz") == (200, "")
        metrics = get(port, "/metrics")[1]
        assert 'ratus_worker_executions_total{task="double",outcome="succeeded"} 1\n' in metrics
        assert 'ratus_worker_running{task="double"} 0\n' in metrics
        assert 'ratus_worker_seconds_total{task="double"} ' in metrics
        assert "ratus_worker_unknown_total 0\n" in metrics
        assert get(port, "/else")[0] == 404
        with program.worker(tmp_path, live.url, "shop", *flags) as second:
            assert second.wait() == 2
        assert f"--health-port: cannot listen on port {port}" in second.said
        assert worker.stop() == 0


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_it_takes_only_what_it_chooses(app: App, live: RatusServer, tmp_path: Path) -> None:
    program.write(tmp_path, SHOP)
    with live.client() as client:
        for number, region in enumerate(("us", "eu")):
            payload = {"task": "double", "args": [number]}
            labels = {"region": region}
            client.insert_task(Task(id=region, topic="default", payload=payload, labels=labels))
        flags = ("--where", "region=eu", "--order", "newest", "--prefer", "region")
        with program.worker(tmp_path, live.url, "shop", *flags) as worker:
            assert client.wait_for_task("eu", f"{PATIENCE}s").result == 2
            assert client.get_task("us").state is TaskState.PENDING
            assert worker.stop() == 0


def test_several_processes_are_one_worker(app: App, live: RatusServer, tmp_path: Path) -> None:
    program.write(tmp_path, SHOP)
    flags = ("--processes", "2", "--concurrency", "1", "--timeout", "1s")
    with program.worker(tmp_path, live.url, "shop", *flags) as worker:
        pids: set[int] = set()

        def both() -> bool:
            pids.update(job.result(PATIENCE) for job in app.functions["pid"].push_many([()] * 10))
            return len(pids) == 2

        wait_until(both)
        assert worker.process.pid not in pids
        killed = pids.pop()
        os.kill(killed, signal.SIGKILL)
        worker.hear(f"the worker process {killed} has ended by SIGKILL; another one starts in 0.5 s")

        def replaced() -> bool:
            found = {job.result(PATIENCE) for job in app.functions["pid"].push_many([()] * 10)}
            return bool(found - pids - {killed})

        wait_until(replaced)
        assert worker.stop() == 0
    # One process shows what it serves, and so does the one in its place, if it was the one that was killed.
    assert worker.said.count("ratus worker ") in (1, 2)


def test_processes_drain_when_their_supervisor_is_killed(app: App, live: RatusServer, tmp_path: Path) -> None:
    program.write(tmp_path, SHOP)
    with program.worker(tmp_path, live.url, "shop", "--processes", "2") as worker:
        app.functions["pid"].push().result(PATIENCE)
        worker.process.kill()
        worker.wait()  # until the last process has closed standard error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "the following arguments are required: MODULE[:NAME]"),
        (("missing",), "there is no module 'missing' in "),
        (("wrong_shop.missing:app",), "there is no module 'wrong_shop"),
        ((":app",), "':app' names no module"),
        (("wrong_shop:other",), "wrong_shop:other is no App; it has wrong_shop:app"),
        (("wrong_shop", "--concurrency", "0"), "argument --concurrency: 0 is less than 1"),
        (("wrong_shop", "--processes", "x"), "argument --processes: invalid"),
        (("wrong_shop", "--timeout", "soon"), "argument --timeout: it: "),
        (("wrong_shop", "--timeout", "1ms"), "timeout: a claim of less than 0.1 s cannot be kept"),
        (("wrong_shop", "--topics", ""), "topics: name one topic or more"),
        (("wrong_shop", "--health-port", "70000"), "argument --health-port: 70000 is not from 1 to 65535"),
        (("broken_shop",), "the module broken_shop cannot be imported"),
        (("empty_shop",), "topics: the app has no task functions"),
    ],
)
def test_what_is_wrong_is_said(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    message: str,
) -> None:
    program.write(tmp_path, SHOP, "wrong_shop")
    program.write(tmp_path, "raise LookupError('in the module')", "broken_shop")
    program.write(tmp_path, "", "empty_shop")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    try:
        assert command.main(arguments) == 2
    finally:
        for name in ("wrong_shop", "broken_shop", "empty_shop"):
            sys.modules.pop(name, None)
    said = capsys.readouterr().err
    assert f"ratus worker: {message}" in said
    assert ("Traceback" in said) == (arguments[:1] == ("broken_shop",))


def test_a_worker_that_cannot_go_on_says_why(tmp_path: Path) -> None:
    program.write(tmp_path, SHOP)
    with RatusServer("--auth-tokens", "a-secret-of-enough-characters", real_clock=True) as server:
        for flags in ((), ("--processes", "2")):
            with program.worker(tmp_path, server.url, "shop", *flags) as worker:
                assert worker.wait() == 1
            assert "ratus worker: unauthorized" in worker.said
