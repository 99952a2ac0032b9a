"""The smallest examples, which need nothing but HTTP, each against a live server."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import serving

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """The URL of a server."""
    with serving(tmp_path) as server:
        yield f"http://127.0.0.1:{server.port}"


def run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_shell_script_takes_a_task_to_its_end(address: str) -> None:
    if shutil.which("curl") is None:
        if os.environ.get("CI"):
            pytest.fail("the example needs curl")
        pytest.skip("no curl on this machine")

    last = run(EXAMPLES / "hello_world.sh", address).strip().splitlines()[-1]

    assert '"state":2' in last
    assert '"result":"Hello, world!"' in last


def test_the_worker_greets_and_leaves_a_dead_letter(address: str) -> None:
    said = run(sys.executable, EXAMPLES / "hello_http.py", address)

    assert "Hello, Ann!" in said
    assert "Hello, Bob!" in said
    assert said.splitlines()[-1].endswith("/???: '???' is no name")
