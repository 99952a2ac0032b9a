"""The consumers of one crawl: started together, watched, and one of them killed if that is wanted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from examples.crawl_frontier import processes
from ratus import Client, TaskState


@dataclass(frozen=True)
class Killed:
    """A consumer that was ended by SIGKILL, and the pages that it held at that moment."""

    consumer: str
    pid: int
    held: list[str]


class Team:
    """Consumer processes, each with a file in `folder` for what it says. Use it as a context manager."""

    def __init__(self, folder: Path, size: int, arguments: list[str]) -> None:
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._outputs = {f"consumer-{number}": folder / f"consumer-{number}" for number in range(1, size + 1)}
        for name, path in self._outputs.items():
            command = [sys.executable, "-m", f"{__package__}.consumer", "--name", name, *arguments]
            with path.open("wb") as output:
                self._processes[name] = processes.start(command, output)

    def __enter__(self) -> Team:
        return self

    def __exit__(self, *_: object) -> None:
        processes.end(*self._processes.values())

    def running(self) -> list[str]:
        """The names of the consumers that have not ended."""
        return [name for name, process in self._processes.items() if process.poll() is None]

    def wait(self) -> dict[str, int]:
        """Wait until all have ended by themselves; name -> exit code, negative for a signal."""
        return {name: process.wait() for name, process in self._processes.items()}

    def kill_one(self, ratus: Client, topic: str) -> Killed | None:
        """Kill a consumer that holds claims. None when no consumer holds any right now: try again."""
        for name in self.running():
            process = self._processes[name]
            # Stopped first, so that it cannot commit while we look at what it holds. It is waited for
            # without being reaped: that is left to the caller that asks for its exit code.
            os.kill(process.pid, signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            if not _held(ratus, topic, name):
                os.kill(process.pid, signal.SIGCONT)
                continue
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            # Asked once more: a poll of its own may have been waiting, and been answered meanwhile.
            return Killed(name, process.pid, _held(ratus, topic, name))
        return None

    def said(self) -> list[dict[str, str]]:
        """What the consumers said became of their claims, each `consumer`, `url` and `verdict`."""
        # A consumer that was killed may have left half a line.
        lines = [
            line
            for path in self._outputs.values()
            for line in path.read_text().splitlines(keepends=True)
            if line.endswith("\n")
        ]
        return [json.loads(line) for line in lines]


def _held(ratus: Client, topic: str, consumer: str) -> list[str]:
    """The pages that a consumer holds which is stopped or killed."""
    # What the consumer sent just before may be on its way; after one more round trip the server has read it.
    ratus.get_topic(topic)
    return [task.id for task in ratus.iter_tasks(topic, state=TaskState.ACTIVE, consumer=consumer)]
