"""A machine with Ratus on it, as a reader of a page has one: a shell, an interpreter and a server.

The blocks of a page are run in order. Where a page says port 8000, there is a server; a command of the page
that starts one (`ratus --engine sqlite`) stands for the rest of the page. What a page keeps under an
administrator's folders is in a folder of the test.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from tests.documents.answers import compare
from tests.documents.pages import ROOT, Block
from tests.servers import PATIENCE, free_port

# Where an administrator puts a service's own files.
SERVICE_FOLDERS = ("/etc/ratus", "/var/lib/ratus", "/var/backups/ratus", "/run/secrets")
SERVER = re.compile(r"(?:[A-Z_]+=\S+ )*ratus(?: serve)?(?: -.*)?", re.DOTALL)


def commands(text: str) -> list[str]:
    """Split a shell block into commands; one goes on over an open quote and a backslash at the end."""
    found: list[str] = []
    begun = ""
    for line in text.splitlines():
        begun += line
        try:
            shlex.split(begun, comments=True)
        except ValueError:
            begun += "\n"
        else:
            if begun.strip() and not begun.lstrip().startswith("#"):
                found.append(begun)
            begun = ""
    assert not begun, f"unfinished: {begun}"
    return found


def need(program: str) -> str:
    """The path of a program; without it, skip the test at home and fail it in CI."""
    found = shutil.which(program)
    if found is None:
        if os.environ.get("CI"):
            pytest.fail(f"the documents' blocks need {program}")
        pytest.skip(f"no {program} on this machine")
    return found


class Session:
    """See the module's text. A context manager: at its end every server has to stop in order."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._learnt: dict[str, str] = {}
        self._answer: tuple[str, str, str] | None = None
        self._printed = ""
        self._port = 0
        self._server: subprocess.Popen[bytes] | None = None
        self._module = ModuleType("page")
        for path in SERVICE_FOLDERS:
            (folder / path[1:]).mkdir(parents=True)
        (folder / "bin").mkdir()
        for name, command in (("ratus", "-m ratus "), ("python3", "")):
            script = folder / "bin" / name
            script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {command}"$@"\n')
            script.chmod(0o755)

    def __enter__(self) -> Session:
        self._start("ratus")
        # A module of its own, so that what a page defines (a dataclass, say) is found by its module's name.
        sys.modules["page"] = self._module
        return self

    def __exit__(self, *exception: object) -> None:
        del sys.modules["page"]
        self._stop()

    def run(self, block: Block) -> None:
        """Run one block, or hold what it shows against what the block before it gave."""
        if block.language == "json":
            self._compare(block)
        elif block.output:
            assert self._printed.strip() == block.text.strip(), block.where
        elif block.language == "python":
            self._python(block)
        elif block.language == "sh":
            self._expect_success()
            script = self._printed = ""
            for command in commands(block.text):
                line = command.split(" #")[0].rstrip() if "\n" not in command else command
                if line.startswith("curl ") and "localhost:8000" in line:
                    script = self._script(script, block)
                    self._curl(line)
                elif SERVER.fullmatch(line) and not re.match(r".* --?(help|version|h)\b", line):
                    script = self._script(script, block)
                    self._stop()
                    self._start(line)
                elif line.startswith("make "):
                    # What the targets do is tried by CI, which calls them; here that they exist.
                    script += f"make --dry-run --directory {shlex.quote(str(ROOT))} {line[5:]} >&2\n"
                else:
                    script += command + "\n"
            self._script(script, block)

    def finish(self) -> None:
        """After the last block: its last command has to have gone well."""
        self._expect_success()

    # ---- commands ----------------------------------------------------------------------------------

    def _here(self, text: str) -> str:
        """A text of a page with what is different here."""
        for shown, real in self._learnt.items():
            text = text.replace(shown, real)
        for path in SERVICE_FOLDERS:
            text = text.replace(path, f"{self._folder}{path}")
        text = text.replace("sqlite:tasks.db", f"sqlite:{self._folder}/tasks.db")
        return re.sub(r"(localhost|127\.0\.0\.1):8000", f"127.0.0.1:{self._port}", text)

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name in {"HOME", "LANG", "TMPDIR"}}
        return kept | {
            "PATH": f"{self._folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'engines'}",
            "PYTHONWARNINGS": "error",
            "RATUS_URL": f"http://127.0.0.1:{self._port}",
        }

    def _shell(self, script: str, where: str) -> str:
        done = subprocess.run(
            ["sh", "-eu", "-c", self._here(script)],
            cwd=self._folder,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE * 2,
            check=False,
        )
        assert done.returncode == 0, f"{where}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def _script(self, script: str, block: Block) -> str:
        """Run what has been gathered; nothing is left of it."""
        if script:
            self._printed += self._shell(script, block.where)
        return ""

    def _curl(self, command: str) -> None:
        self._expect_success()
        options = "--silent --show-error --write-out '\\n%{http_code}'"
        full = command.replace("curl ", f"{need('curl')} {options} ", 1)
        text, _, status = self._shell(full, command).rpartition("\n")
        self._answer = (command, status, text)

    def _expect_success(self) -> None:
        """The last command, whose answer the page does not show, has to have gone well."""
        if self._answer is not None:
            command, status, text = self._answer
            self._answer = None
            assert status.startswith("2"), f"{command}: {status} {text}"

    def _compare(self, block: Block) -> None:
        shown = json.loads(block.text)
        if self._answer is None:
            return
        _, status, text = self._answer
        self._answer = None
        assert status == str(block.status or 200), f"{block.where}: {status} {text}"
        compare(shown, json.loads(text), self._learnt, block.where)

    # ---- Python ------------------------------------------------------------------------------------

    def _python(self, block: Block) -> None:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(self._here(block.text), block.where, "exec"), vars(self._module))
        self._printed = printed.getvalue()

    # ---- servers -----------------------------------------------------------------------------------

    def _start(self, command: str) -> None:
        self._port = free_port()
        log = self._folder / f"server-{self._port}.log"
        # With env, as there may be variables in front of the command.
        command = f"exec env {self._here(command)} --bind 127.0.0.1 --port {self._port}"
        with log.open("wb") as output:
            self._server = subprocess.Popen(
                ["sh", "-eu", "-c", command],
                cwd=self._folder,
                env=self._environment(),
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + PATIENCE
        while b"serving on" not in log.read_bytes():
            if self._server.poll() is not None or time.monotonic() > deadline:
                self._server.kill()
                pytest.fail(f"{command}: {log.read_text()}")
            time.sleep(0.02)  # nothing can be waited for before it listens

    def _stop(self) -> None:
        assert self._server is not None
        self._server.send_signal(signal.SIGTERM)
        try:
            code = self._server.wait(PATIENCE)
        finally:
            self._server.kill()
        assert code == 0, f"SIGTERM ended the server with {code}"
