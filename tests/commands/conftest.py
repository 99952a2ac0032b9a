"""A server, and the `ratus` command talking to it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ratus import Client, cli
from ratus.testing import RatusServer

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Done:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[Any]:
        """Standard output as lines of JSON."""
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[RatusServer]:
    """A server, and the environment that leads to it."""
    monkeypatch.delenv("RATUS_TOKEN", raising=False)
    with RatusServer() as running:
        monkeypatch.setenv("RATUS_URL", running.url)
        yield running


@pytest.fixture
def client(server: RatusServer) -> Iterator[Client]:
    """A client of that server."""
    with server.client() as made:
        yield made


class _Stdin(io.TextIOWrapper):
    """Standard input that holds a text and, like a pipe, has no size."""

    def __init__(self, data: bytes, reader: int) -> None:
        super().__init__(io.BytesIO(data), encoding="utf-8")
        self._reader = reader

    def fileno(self) -> int:
        return self._reader


Ratus = Callable[..., Done]


@pytest.fixture
def ratus(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Ratus]:
    """Runs the command in this process."""
    reader, writer = os.pipe()

    def run(*arguments: str, stdin: str | bytes = b"") -> Done:
        data = stdin if isinstance(stdin, bytes) else stdin.encode()
        text = _Stdin(data, reader)
        # What reads bytes asks the buffer for its number.
        monkeypatch.setattr(text.buffer, "fileno", lambda: reader, raising=False)
        monkeypatch.setattr(sys, "stdin", text)
        code = cli.main(list(arguments))
        captured = capsys.readouterr()
        return Done(code, captured.out, captured.err)

    yield run
    os.close(reader)
    os.close(writer)


def spawn(*arguments: str, url: str, **options: Any) -> subprocess.Popen[str]:
    """The command as a process of its own."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'engines'}", "RATUS_URL": url}
    command = [sys.executable, "-m", "ratus", *arguments]
    return subprocess.Popen(command, env=environment, text=True, **options)
