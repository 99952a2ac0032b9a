"""Programs with an app, and `ratus worker` for them in processes of their own."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.app.support import PATIENCE

ROOT = Path(__file__).parents[2]


def write(folder: Path, text: str, name: str = "shop") -> None:
    """Write a module; `app`, and names that task functions need, are there already."""
    head = "import asyncio, os, signal, threading, time\nfrom pathlib import Path\n"
    head += "from ratus import App, Retry, current\n\napp = App()\n\n\n"
    (folder / f"{name}.py").write_text(head + textwrap.dedent(text), encoding="utf-8")


class Running:
    """A worker process, and what it says on standard error."""

    def __init__(self, folder: Path, url: str, *arguments: str) -> None:
        environment = os.environ | {
            "RATUS_URL": url,
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'engines'}",
            "PYTHONUNBUFFERED": "1",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ratus", "worker", *arguments],
            cwd=folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said = ""
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._lines.put(line)
        self._lines.put(None)

    def hear(self, text: str) -> str:
        """The next line that holds this text."""
        while True:
            line = self._lines.get(timeout=PATIENCE)
            assert line is not None, f"it ended without saying {text!r}:\n{self.said}"
            self.said += line
            if text in line:
                return line

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal; the exit code."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """The exit code, once it has ended."""
        code = self.process.wait(PATIENCE)
        while (line := self._lines.get(timeout=PATIENCE)) is not None:
            self.said += line
        return code


@contextmanager
def worker(folder: Path, url: str, *arguments: str) -> Iterator[Running]:
    """A worker process, killed at the end of the block if it still runs."""
    running = Running(folder, url, *arguments)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.wait()
        running._thread.join(PATIENCE)
        assert running.process.stderr is not None
        running.process.stderr.close()
