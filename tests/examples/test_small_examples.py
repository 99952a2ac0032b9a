"""The small examples run, as a newcomer runs them, and do what they say."""

from __future__ import annotations

import os
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest

from ratus import TaskState
from ratus.testing import RatusServer

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def server() -> Iterator[RatusServer]:
    """One server for all of them."""
    with RatusServer(real_clock=True) as running:
        yield running


def run(name: str, *arguments: str) -> str:
    """Run an example in a process of its own; what it printed."""
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'engines'}",
        "PYTHONWARNINGS": "error",
    }
    command = [sys.executable, str(ROOT / "examples" / name), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_hello_world(server: RatusServer) -> None:
    for _ in range(2):
        assert run("hello_world.py", server.url) == "Hello, world!\n"
    with server.client() as client:
        assert client.get_task("hello").state == TaskState.COMPLETED


def test_results_and_failures(server: RatusServer) -> None:
    lines = run("results_and_failures.py", server.url).splitlines()
    assert lines[:3] == ["Hello, Ann!", "Hello, Bob!", "Hello, Cleo!"]
    assert lines[3:] == [
        "greeting-0: greeted Ann",
        "greeting-1: greeted Bob",
        "greeting-2: failed: ValueError: nobody to greet",
        "greeting-3: greeted Cleo",
    ]


def test_pipeline(server: RatusServer) -> None:
    lines = run("pipeline.py", server.url).splitlines()
    assert lines[0] == "6  a"
    assert len(lines) == 5
    with server.client() as client:
        for topic in ("texts", "counts"):
            assert [task.state for task in client.iter_tasks(topic)] == [TaskState.COMPLETED] * 4


def test_bulk_import(server: RatusServer) -> None:
    output = run("bulk_import.py", "--url", server.url, "--limit", "3000")
    assert "imported 3,000 tasks" in output
    assert "worked on 3,000 tasks" in output
    with server.client() as client:
        assert client.get_task("U+0041").payload == {"name": unicodedata.name("A"), "category": "Lu"}
        client.delete_topics()


def test_bulk_import_of_a_file(server: RatusServer, tmp_path: Path) -> None:
    file = tmp_path / "cities.csv"
    file.write_text("id,name\n1,Ulm\n2,Köln\n", encoding="utf-8")
    assert "imported 2 tasks" in run("bulk_import.py", "--url", server.url, str(file))
    assert "done before" in run("bulk_import.py", "--url", server.url, str(file))
    with server.client() as client:
        assert client.get_task("2").payload == {"id": "2", "name": "Köln"}
        client.delete_topics()
