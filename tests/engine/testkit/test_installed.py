"""The kit as the author of an engine uses it: from a test file of another project."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

TESTS = """\
from contextlib import asynccontextmanager
from functools import partial

from ratus.engine.testkit import EngineContract
from ratus_engines.sqlite.engine import SqliteEngine


class Wrong(SqliteEngine):
    async def list_topics(self, limit, offset):
        return ["another"]


class TestGood(EngineContract):
    @asynccontextmanager
    async def engines(self, folder):
        yield partial(SqliteEngine, path=str(folder / "my.data"))


class TestWrong(EngineContract):
    @asynccontextmanager
    async def engines(self, folder):
        yield partial(Wrong, path=str(folder / "my.data"))


class TestUnfinished(EngineContract):
    pass
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The folder of a project with one test file, whose name is that of many others."""
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/test_contract.py").write_text(TESTS)
    return tmp_path


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("COV_", "PYTEST_"))},
        "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "engines"))),
        "RATUS_MACHINE_STEPS": "20",
        "HYPOTHESIS_STORAGE_DIRECTORY": str(cwd / "hypothesis"),
    }
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("options", [[], ["--import-mode=importlib", "-n", "1"]], ids=["alone", "xdist"])
def test_it_runs_in_another_project(project: Path, options: list[str]) -> None:
    # The test with a process of its own, which has to find the file, and one of each other kind.
    wanted = "TestGood and (kill_9 or a_claim_hands_the_task_out or in_a_long_run)"
    done = run("-m", "pytest", *options, "-k", wanted, cwd=project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout


def test_a_failure_shows_the_test_and_the_values(project: Path) -> None:
    done = run("-m", "pytest", "-k", "TestWrong and a_topic_exists_while_it_has_a_task", cwd=project)
    assert done.returncode == 1
    assert "TestWrong.test_a_topic_exists_while_it_has_a_task" in done.stdout
    assert "testkit/contract/topics.py" in done.stdout
    assert "assert ['another'] == ['t']" in done.stdout


def test_a_class_that_makes_no_engine_says_so(project: Path) -> None:
    done = run("-m", "pytest", "-k", "TestUnfinished and an_open_engine_is_well", cwd=project)
    assert "TestUnfinished does not say how its engine is made: override engines()" in done.stdout


@pytest.mark.parametrize("missing", ["anyio", "hypothesis", "pytest"])
def test_what_is_missing_is_named(tmp_path: Path, missing: str) -> None:
    program = f"import sys; sys.modules[{missing!r}] = None; import ratus.engine.testkit"
    done = run("-c", program, cwd=tmp_path)
    assert done.stderr.splitlines()[-1] == (
        f"ImportError: ratus.engine.testkit needs {missing}, which is not installed: "
        "run pip install 'ratus-queue[testkit]'"
    )


def test_engines_do_without_it(tmp_path: Path) -> None:
    program = (
        "import sys, ratus.engine, ratus.engine.contract, ratus_engines.sqlite.engine;"
        "print({'pytest', 'hypothesis', 'ratus.engine.testkit'} & set(sys.modules))"
    )
    assert run("-c", program, cwd=tmp_path).stdout == "set()\n"
