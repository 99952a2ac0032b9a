"""The producers and workers of the quickstart, in each of its languages, against a live server."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ratus import Task, TaskState
from ratus.testing import RatusServer
from tests.documents.pages import Block, blocks
from tests.documents.session import need
from tests.servers import PATIENCE, free_port

PROGRAMS = {block.program: block for block in blocks("docs/quickstart.md") if block.program}
# How each is run, and what it needs beside that.
LANGUAGES: dict[str, tuple[str, list[str]]] = {
    "sh": ("sh", ["curl", "jq"]),
    "py": (sys.executable, []),
    "mjs": ("node", []),
    "rb": ("ruby", []),
    "php": ("php", []),
}


def save(block: Block, folder: Path) -> Path:
    """The program as a file, as a reader saves it."""
    path = folder / block.program
    path.write_text(block.text, encoding="utf-8")
    return path


def environment(address: str) -> dict[str, str]:
    """Of this one only what every program needs; a warning of Python's is an error."""
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG", "TMPDIR"}}
    return kept | {"RATUS_URL": address, "PYTHONWARNINGS": "error"}


@contextlib.contextmanager
def working(command: list[str], address: str, folder: Path) -> Iterator[None]:
    """A worker of its own process, which has to run to the end of the block."""
    with (folder / "worker.log").open("wb") as log:
        worker = subprocess.Popen(
            command, env=environment(address), stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield
        assert worker.poll() is None, (folder / "worker.log").read_text()
    finally:
        os.killpg(worker.pid, 9)  # with whatever the shell has started
        worker.wait()


def test_there_are_five_languages_with_a_producer_and_a_worker_each() -> None:
    assert len(LANGUAGES) >= 5
    assert set(PROGRAMS) == {f"{role}.{name}" for role in ("producer", "worker") for name in LANGUAGES}


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_producer_and_a_worker(language: str, tmp_path: Path) -> None:
    interpreter, tools = LANGUAGES[language]
    command = [need(interpreter)]
    for tool in tools:
        need(tool)
    producer = [*command, str(save(PROGRAMS[f"producer.{language}"], tmp_path))]
    worker = [*command, str(save(PROGRAMS[f"worker.{language}"], tmp_path))]
    with RatusServer("--retry-delay=1h", real_clock=True) as server, server.client() as ratus:
        for _ in range(2):  # the second time it is there already
            subprocess.run(producer, env=environment(ratus.url), timeout=PATIENCE, check=True)
        with working(worker, ratus.url, tmp_path):
            done = ratus.wait_for_task("welcome-ann", wait=PATIENCE)
            assert (done.state, done.result) == (TaskState.COMPLETED, "sent to ann@example.com")

            # A failure is reported and does not end the worker; an id may hold anything.
            odd = "a/b+c ü?#%"
            ratus.insert_task(Task(id="broken", topic="mail", payload={"no": "address"}))
            ratus.insert_task(Task(id=odd, topic="mail", payload={"to": "bob"}))
            assert ratus.wait_for_task(odd, wait=PATIENCE).result == "sent to bob"
            failed = ratus.get_task("broken")
            assert failed.state == TaskState.PENDING
            assert failed.error
            assert failed.attempts == 1


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_worker_survives_that_the_server_is_away(language: str, tmp_path: Path) -> None:
    interpreter, tools = LANGUAGES[language]
    command = [need(interpreter), str(save(PROGRAMS[f"worker.{language}"], tmp_path))]
    for tool in tools:
        need(tool)
    port = free_port()
    with working(command, f"http://127.0.0.1:{port}", tmp_path):
        for task_id in ("first", "second"):
            with RatusServer(real_clock=True, port=port) as server, server.client() as ratus:
                ratus.insert_task(Task(id=task_id, topic="mail", payload={"to": "ann"}))
                assert ratus.wait_for_task(task_id, wait=PATIENCE).result == "sent to ann"
