"""A server of its own for tests that need a real one: a process that serves on a free port of 127.0.0.1."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

# A server is up in well under a second; a busy machine may take much longer.
_START_TIMEOUT = 30.0


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def serving(directory: Path, *flags: str) -> Iterator[str]:
    """Run the server with these flags; gives its URL once it is ready. Its output goes to `directory`."""
    port = free_port()
    command = [sys.executable, "-m", "ratus", "--port", str(port), "--bind", "127.0.0.1", *flags]
    log = directory / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=_environment())
    try:
        _wait_until_ready(port, process, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=_START_TIMEOUT)


def _environment() -> dict[str, str]:
    """This environment, with the sources importable and without settings that the server would read."""
    root = Path(__file__).parents[2]
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG", "TMPDIR"}}
    return kept | {"PYTHONPATH": f"{root}{os.pathsep}{root / 'engines'}"}


def _wait_until_ready(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise AssertionError(f"the server ended with {process.returncode}:\n{log.read_text()}")
        with (
            contextlib.suppress(OSError),
            contextlib.closing(http.client.HTTPConnection("127.0.0.1", port)) as probe,
        ):
            probe.request("GET", "/readyz")
            if probe.getresponse().status == 200:
                return
        # Nothing can be waited for before the server listens.
        time.sleep(0.02)
    raise AssertionError(f"the server was not ready after {_START_TIMEOUT} s:\n{log.read_text()}")
