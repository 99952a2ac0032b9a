"""The real `ratus` as a process of its own, and clients that send exactly the bytes they are told to."""

from __future__ import annotations

import calendar
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.server.support import Answer, Client

__all__ = [
    "Answer",
    "Api",
    "Client",
    "Server",
    "assert_error",
    "eventually",
    "free_port",
    "instant",
    "launch",
    "ready",
    "request_bytes",
    "segment",
    "serving",
]

ROOT = Path(__file__).parent.parent

# A server is up in well under a second and stops as fast; a busy machine may take much longer.
PATIENCE = 120.0


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """One process that serves, and what the tests want to know of it."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log_file: Path) -> None:
        self.process = process
        self.port = port
        self.log_file = log_file

    @property
    def log(self) -> str:
        """What it has written to standard error so far."""
        return self.log_file.read_text(encoding="utf-8")

    def memory(self) -> int:
        """Bytes of memory that it holds (VmRSS)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        match = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert match is not None
        return int(match[1]) * 1024

    def cpu_seconds(self) -> float:
        """Seconds of processor time that it has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def connections(self) -> int:
        """How many sockets it has open, those it listens with included."""
        files = Path(f"/proc/{self.process.pid}/fd")
        count = 0
        for each in files.iterdir():
            with contextlib.suppress(OSError):
                count += str(each.readlink()).startswith("socket:")
        return count

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; the exit code."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Wait for the end; the exit code."""
        return self.process.wait(timeout=PATIENCE)

    def wait_for_log(self, text: str, times: int = 1) -> None:
        """Return once the log holds the text, so many times."""
        eventually(lambda: self.log.count(text) >= times, f"{text!r} in the log")


def eventually(condition: Callable[[], object], what: str) -> None:
    """Return once the condition holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.002)


def launch(
    directory: Path,
    *flags: str,
    environment: Mapping[str, str] | None = None,
    many_files: bool = False,
    files: int | None = None,
    port: int | None = None,
) -> Server:
    """Start a server with these flags; it may not be ready yet. Its log goes to `directory`.

    `many_files`: it may open as many files as the system lets it, where the usual number does not suffice.
    `files`: it may open so many. `port`: where it listens, by default any that is free.
    """
    port = port or free_port()
    log_file = directory / f"server-{port}.log"
    command = [sys.executable, "-m", "ratus", "--port", str(port), "--bind", "127.0.0.1", *flags]
    if many_files or files:
        limit = str(files or '"$(ulimit -Hn)"')
        command = ["sh", "-c", f'ulimit -n {limit}; exec "$@"', "sh", *command]
    with log_file.open("ab") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=_environment() | dict(environment or {})
        )
    return Server(process, port, log_file)


@contextlib.contextmanager
def serving(
    directory: Path,
    *flags: str,
    environment: Mapping[str, str] | None = None,
    many_files: bool = False,
    files: int | None = None,
    is_ready: Callable[[Server], bool] | None = None,
) -> Iterator[Server]:
    """A server that is ready, until the block ends; `is_ready` is for those that do not speak plain HTTP."""
    server = launch(directory, *flags, environment=environment, many_files=many_files, files=files)
    while not _becomes_ready(server, is_ready or ready):
        # Another program may have taken the port since it was found free.
        assert "cannot listen" in server.log, server.log
        server = launch(directory, *flags, environment=environment, many_files=many_files, files=files)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.process.terminate()
        try:
            server.wait()
        except subprocess.TimeoutExpired:
            server.process.kill()
            server.wait()
            raise


def _environment() -> dict[str, str]:
    """This environment, with the sources importable and without settings that the server would read."""
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG", "TMPDIR"}}
    return kept | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'engines'}", "PYTHONUNBUFFERED": "1"}


def ready(server: Server) -> bool:
    """Whether the server says that it can serve."""
    with contextlib.suppress(OSError), Api(server.port) as probe:
        return probe.get("/readyz").status == 200
    return False


def _becomes_ready(server: Server, is_ready: Callable[[Server], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE
    while server.process.poll() is None:
        if is_ready(server):
            return True
        assert time.monotonic() < deadline, f"the server was not ready in time:\n{server.log}"
        # Nothing can be waited for before it listens.
        time.sleep(0.02)
    return False


class Api:
    """A client on one connection, made anew when the server closed it. Targets are sent as they are given.

    A body of `bytes` is sent as it is, any other as JSON; `None` is no body.
    """

    def __init__(self, port: int, token: str = "") -> None:
        self.port = port
        self._headers = {"authorization": f"Bearer {token}"} if token else {}
        self._client: Client | None = None

    def __enter__(self) -> Api:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next request makes a new one."""
        if self._client is not None:
            self._client.sock.close()
            self._client = None

    def request(
        self, method: str, target: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One request and its answer."""
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        if self._client is not None and self._client.ended():
            # A server closes what is idle for long, and on a busy machine a test can take that long.
            self.close()
        if self._client is None:
            self._client = Client(self.port)
        try:
            self._client.send(request_bytes(method, target, data, self._headers | dict(headers or {})))
            answer = self._client.answer(method)
        except BaseException:
            # What is left on the connection would be taken for the next answer.
            self.close()
            raise
        if answer.headers.get("connection") == "close":
            self.close()
        return answer

    def get(self, target: str, **more: Any) -> Answer:
        return self.request("GET", target, **more)

    def post(self, target: str, body: Any = None, **more: Any) -> Answer:
        return self.request("POST", target, body, **more)

    def put(self, target: str, body: Any = None, **more: Any) -> Answer:
        return self.request("PUT", target, body, **more)

    def patch(self, target: str, body: Any = None, **more: Any) -> Answer:
        return self.request("PATCH", target, body, **more)

    def delete(self, target: str, **more: Any) -> Answer:
        return self.request("DELETE", target, **more)

    # What nearly every test begins with.

    def insert(self, topic: str, task_id: str, /, **members: Any) -> None:
        """Insert a task that must be new."""
        answer = self.post(f"/v1/topics/{segment(topic)}/tasks/{segment(task_id)}", members)
        assert answer.status == 201, answer.body

    def task(self, task_id: str) -> Any:
        """A task by its id, which must exist."""
        answer = self.get(f"/v1/topics//tasks/{segment(task_id)}")
        assert answer.status == 200, answer.body
        return answer.json

    def claim(self, topic: str, /, **members: Any) -> Any:
        """The next task of a topic, which must have one that is due."""
        answer = self.post(f"/v1/topics/{segment(topic)}/promises", members)
        assert answer.status == 200, answer.body
        return answer.json

    def commit(self, task_id: str, /, **members: Any) -> Any:
        """Commit a task; the task as it is then."""
        answer = self.patch(f"/v1/topics//tasks/{segment(task_id)}", members)
        assert answer.status == 200, answer.body
        return answer.json


def request_bytes(
    method: str, target: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> bytes:
    """A request as it travels; without headers of its own but the necessary ones."""
    lines = [f"{method} {target} HTTP/1.1", "host: ratus"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if body is not None:
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


def segment(name: str) -> str:
    """A name as a segment of a path."""
    return quote(name, safe="")


def assert_error(answer: Answer, status: int, detail: str = "") -> None:
    """It is our JSON error, of this status, opening with its kind, and `detail` is in its message."""
    assert answer.status == status, (answer.status, answer.body)
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert set(answer.json) == {"error"}
    assert set(answer.json["error"]) == {"code", "message"}
    assert answer.json["error"]["code"] == status
    message = answer.json["error"]["message"]
    assert re.fullmatch(rf"{KINDS[status]}(: .+)?", message, re.DOTALL), message
    assert detail in message, message


KINDS = {
    400: "bad request",
    401: "unauthorized",
    403: "forbidden",
    404: "not found",
    405: "method not allowed",
    408: "request timeout",
    409: "conflict",
    413: "content too large",
    431: "request header fields too large",
    503: "service unavailable",
}


def instant(text: str) -> int:
    """Microseconds since 1970 of a time as the server writes it: UTC, `Z`, no more digits than needed."""
    match = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{0,5}[1-9]))?Z", text)
    assert match is not None, text
    seconds = calendar.timegm(time.strptime(match[1], "%Y-%m-%dT%H:%M:%S"))
    return seconds * 1_000_000 + int((match[2] or "").ljust(6, "0"))
