"""A Ratus server for a crawl that is given none: a process on a free port of 127.0.0.1."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

from examples.crawl_frontier import processes
from ratus import Client, RatusError

# A server is up in well under a second; a busy machine may take much longer. In seconds.
_START_TIMEOUT = 30.0

# How often another program may be faster in taking the port that was found free.
_TRIES = 3


class ServerError(Exception):
    """The server did not start; the message holds its output."""


@contextlib.contextmanager
def ratus_server() -> Iterator[str]:
    """Run a server that keeps its tasks in memory; gives its URL once it is ready."""
    said = ""
    for _ in range(_TRIES):
        port = _free_port()
        address = ["--bind", "127.0.0.1", "--port", str(port)]
        with tempfile.TemporaryFile() as log:
            command = [sys.executable, "-m", "ratus", "--engine", "memdb", *address]
            process = processes.start(command, log, errors=subprocess.STDOUT)
            try:
                url = f"http://127.0.0.1:{port}"
                if _is_ready(url, process):
                    yield url
                    return
            finally:
                processes.end(process)
            log.seek(0)
            said = log.read().decode(errors="replace")
    raise ServerError(f"the Ratus server did not start:\n{said}")


def _free_port() -> int:
    # Port 0 has a meaning of its own to Ratus, so a free port is looked for here.
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _is_ready(url: str, process: subprocess.Popen[bytes]) -> bool:
    """Whether the server serves; False once it has ended, or takes too long."""
    deadline = time.monotonic() + _START_TIMEOUT
    with Client(url, request_timeout="1s") as client:
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(RatusError):
                client.get_readiness()
                # Another process may have the port: the answer is ours only while our process lives.
                return process.poll() is None
            # Nothing can be waited for before the server listens.
            time.sleep(0.02)
    return False
