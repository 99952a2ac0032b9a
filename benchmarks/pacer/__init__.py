"""Requests at a constant rate, each latency counted from when the request was due.

wrk sends a request when the last one is answered. Whoever pauses is then measured once for the pause, where
at a constant rate many would have waited: coordinated omission. The generator beside this file keeps its
rate whatever the server does. It is compiled once, with ``cc``.
"""

from __future__ import annotations

import array
import hashlib
import json
import struct
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import processes
from benchmarks.processes import LOAD_CORE

SOURCE = Path(__file__).with_name("pacer.c")


@dataclass(frozen=True)
class Paced:
    """What became of requests that were sent at a rate; times in microseconds from the first request."""

    due: array.array[int]
    sent: array.array[int]
    done: array.array[int]
    status: array.array[int]
    clock: int
    """`time.monotonic_ns` when the first was due."""
    longest_standstill: int
    """The longest time that the generator itself was kept from working: the longest latency may be that."""
    standstills: int
    """All such times together, and the server's: by so much the later requests were due later."""
    longest_of_server: int
    """The longest time that the server was ready to run and had no processor."""
    of_server: int
    """All such times together."""
    bodies: list[bytes]

    @property
    def latencies(self) -> list[int]:
        """From due to answered, in the order of the requests; microseconds."""
        return [done - due for due, done in zip(self.due, self.done, strict=True)]

    @property
    def failed(self) -> int:
        """How many were not answered with success."""
        return sum(not 200 <= status < 300 for status in self.status)

    @property
    def seconds(self) -> float:
        """From the first request to the last answer."""
        return max(self.done) / 1e6

    @property
    def rate(self) -> float:
        """Answers a second, over all of that."""
        return len(self.done) / self.seconds


def request(method: str, path: str, body: bytes = b"") -> bytes:
    """A request as it travels."""
    head = (
        f"{method} {path} HTTP/1.1\r\nhost: localhost\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def send(
    port: int,
    requests: Iterable[bytes],
    *,
    connections: int,
    rate: float = 0.0,
    keep_bodies: bool = False,
    account: Path | None = None,
) -> Paced:
    """Send requests to a port of loopback, at a rate or (0) as fast as they are answered.

    ``account``: the kernel's account of the server. What the machine keeps it from working is then not the
    server's, as far as it concerns requests that were not due yet.
    """
    with tempfile.TemporaryDirectory() as folder:
        prepared, records, bodies = (Path(folder) / name for name in ("requests", "records", "bodies"))
        with prepared.open("wb") as file:
            for each in requests:
                file.write(struct.pack("=I", len(each)) + each)
        command: list[object] = [
            program(), *(["-a", account] if account else []),
            "127.0.0.1", str(port), str(connections), f"{rate:.3f}",
            prepared, records, *([bodies] if keep_bodies else []),
        ]  # fmt: skip
        told: dict[str, Any] = json.loads(processes.run(command, LOAD_CORE))
        found = array.array("I", records.read_bytes())
        return Paced(
            due=found[0::4],
            sent=found[1::4],
            done=found[2::4],
            status=found[3::4],
            clock=told["clock"],
            longest_standstill=told["longest standstill"],
            standstills=told["standstills"],
            longest_of_server=told["longest of the server"],
            of_server=told["of the server"],
            bodies=bodies.read_bytes().splitlines() if keep_bodies else [],
        )


def program() -> Path:
    """The compiled generator, made where it is not there yet. Raises `Unavailable`."""
    source = SOURCE.read_bytes()
    place = processes.cache() / f"pacer-{hashlib.sha256(source).hexdigest()[:16]}"
    if not place.exists():
        compiler = processes.program("cc", "gcc libc6-dev")
        place.parent.mkdir(parents=True, exist_ok=True)
        # Renamed when it is whole: several may be making it.
        with tempfile.TemporaryDirectory(dir=place.parent) as folder:
            made = Path(folder) / "pacer"
            processes.run([compiler, "-O2", "-Wall", "-Wextra", "-Werror", "-o", made, SOURCE])
            made.replace(place)
    return place
