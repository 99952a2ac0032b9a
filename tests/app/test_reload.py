"""`ratus worker --reload`: changed files are taken up, and nothing is lost on the way."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ratus import App
from ratus.commands import worker as command
from ratus.testing import RatusServer
from tests.app import program
from tests.app.support import PATIENCE, wait_until

SHOP = """
@app.task(name="version")
def version() -> int:
    time.sleep(0.05)  # so that some run while the worker drains
    return {}
"""


def test_changed_files_are_taken_up_under_load(live: RatusServer, tmp_path: Path) -> None:
    pytest.importorskip("watchfiles", reason="the extra reload is not installed")
    program.write(tmp_path, SHOP.format(1))
    with App(live.url) as app:

        @app.task(name="version")
        def version() -> int: ...  # type: ignore[empty-body]

        jobs = []

        def found() -> int:
            jobs.extend(version.push_many([()] * 20))
            return jobs[-1].result(PATIENCE)

        with program.worker(tmp_path, live.url, "shop", "--reload", "--concurrency", "2") as worker:
            assert found() == 1
            program.write(tmp_path, SHOP.format(22))
            wait_until(lambda: found() == 22)
            program.write(tmp_path, "this is no Python")
            worker.hear("it starts again after the next change of a file")
            program.write(tmp_path, SHOP.format(333))
            wait_until(lambda: found() == 333)
            assert worker.stop() == 0
        assert {job.result(PATIENCE) for job in jobs} == {1, 22, 333}
        assert {job.task.attempts for job in jobs} == {1}, "each was run once"


def test_without_the_extra_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    monkeypatch.setattr("ratus.runtime.logs.configure", lambda *settings: None)
    assert command.main(["shop", "--reload"]) == 2
    assert 'install the package with its extra, "ratus-queue[reload]"' in capsys.readouterr().err
