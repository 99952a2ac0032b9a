"""Long polls: how long from an insert to the answer of the request that waits, how many hand-overs a
second, and what idle waiters cost.

Delays: so many requests wait; tasks arrive one by one, each when the last has been handed over; whoever got
one waits again. Rates: wrk waits on so many connections while another inserts over as many.
"""

from __future__ import annotations

import contextlib
import resource
import select
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import services, traffic, wrk
from benchmarks.benchmark import Row, Scale, Tables
from benchmarks.pacer import request
from benchmarks.processes import cpu_seconds
from benchmarks.progress import step
from benchmarks.services import Server
from benchmarks.statistic import percentile

PATIENCE = 30.0
"""Seconds that a hand-over may take."""


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    engines: tuple[str, ...]
    waiters: tuple[int, ...]
    deliveries: int
    seconds: int
    idle_waiters: int
    idle_seconds: float


SIZES = {
    Scale.SMOKE: Sizes(("memdb",), (2,), 50, 1, 10, 0.2),
    Scale.QUICK: Sizes(("memdb",), (1, 64), 2_000, 2, 1_000, 3.0),
    Scale.FULL: Sizes(services.ENGINES, (1, 16, 64, 256), 1_000, 2, 1_000, 5.0),
}


def measure(scale: Scale) -> Tables:
    """A row for each engine and number of waiters; one for the idle ones."""
    sizes = SIZES[scale]
    rows = [row for engine in services.available(sizes.engines) for row in _engine(engine, sizes)]
    return {"waiting": rows, "waiting-idle": [_idle(sizes)]}


def _engine(engine: str, sizes: Sizes) -> Iterator[Row]:
    with (
        tempfile.TemporaryDirectory() as place,
        services.storage(engine, Path(place)) as flags,
        services.ratus(*flags) as server,
    ):
        for waiters in sizes.waiters:
            step(f"{engine}, {waiters} waiting")
            delays = sorted(_delays(server.port, f"delays-{waiters}", waiters, sizes.deliveries))
            yield {
                "engine": engine,
                "waiters": waiters,
                "p50 ms": percentile(delays, 50),
                "p99 ms": percentile(delays, 99),
                "p99.9 ms": percentile(delays, 99.9),
                "longest ms": delays[-1],
                "hand-overs/s": _rate(server, f"rate-{waiters}", waiters, sizes.seconds),
            }


class Peer:
    """A keep-alive connection that speaks just enough HTTP/1.1."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def fileno(self) -> int:
        """The number of its socket."""
        return self._socket.fileno()

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *exception: object) -> None:
        self._socket.close()

    def send(self, message: bytes) -> None:
        """Send a request."""
        self._socket.sendall(message)

    def answer(self) -> bytes:
        """The body of the next answer, which has to be a success."""
        answer = b""
        while True:
            head, found, body = answer.partition(b"\r\n\r\n")
            if found:
                length = next(
                    int(line[15:])
                    for line in head.lower().split(b"\r\n")
                    if line.startswith(b"content-length:")
                )
                if len(body) >= length:
                    break
            received = self._socket.recv(65536)
            if not received:
                raise RuntimeError("the server closed the connection")
            answer += received
        if not head[9:10] == b"2":
            raise RuntimeError(answer[:500].decode(errors="replace"))
        return body


def _delays(port: int, topic: str, waiters: int, deliveries: int) -> list[float]:
    """Milliseconds from sending an insert to having the whole answer of the one that waited."""
    wait = request("POST", f"/v1/topics/{topic}/promises?wait=60s&timeout=1h")
    _allow_files(waiters)
    delays = []
    with contextlib.ExitStack() as stack:
        poller = stack.enter_context(select.epoll())
        producer = stack.enter_context(Peer(port))
        peers = {}
        for _ in range(waiters):
            peer = stack.enter_context(Peer(port))
            peers[peer.fileno()] = peer
            poller.register(peer, select.EPOLLIN)
            peer.send(wait)
        for number in range(deliveries):
            # Whoever was handed the last task waits again by now; without this, a lone waiter often comes
            # late.
            time.sleep(0.0005)
            insert = request("POST", f"/v1/topics/{topic}/tasks/{topic}-{number}", b"{}")
            started = time.perf_counter()
            producer.send(insert)
            ((found, _),) = poller.poll(PATIENCE, 1) or [(0, 0)]
            if not found:
                raise RuntimeError(f"nobody was handed {topic}-{number} within {PATIENCE:g} s")
            peers[found].answer()
            delays.append((time.perf_counter() - started) * 1000)
            producer.answer()
            peers[found].send(wait)
    return delays


def _rate(server: Server, topic: str, waiters: int, seconds: int) -> float:
    """Tasks a second that go from an insert to a request that waits."""

    def insert() -> None:
        with contextlib.suppress(RuntimeError, subprocess.SubprocessError):
            wrk.load(server.address, waiters, seconds + 1, ["insert", topic, "1"])

    producer = threading.Thread(target=insert)
    producer.start()
    try:
        return wrk.load(server.address, waiters, seconds, ["wait", topic, "1"]).rate
    finally:
        producer.join()


def _idle(sizes: Sizes) -> Row:
    """What waiters that get nothing cost."""
    step(f"{sizes.idle_waiters:,} idle waiters")
    _allow_files(sizes.idle_waiters)
    with services.ratus() as server, contextlib.ExitStack() as stack:
        alone = _cpu_share(server, sizes.idle_seconds)
        wait = request("POST", "/v1/topics/idle/promises?wait=60s&timeout=1h")
        for _ in range(sizes.idle_waiters):
            stack.enter_context(Peer(server.port)).send(wait)
        # They have been taken in once another request is answered.
        traffic.post(server.port, "/v1/topics/other/tasks/1", b"{}")
        return {
            "waiters": sizes.idle_waiters,
            "CPU % without": alone,
            "CPU % with": _cpu_share(server, sizes.idle_seconds),
        }


def _cpu_share(server: Server, seconds: float) -> float:
    before = cpu_seconds(server.pid)
    time.sleep(seconds)
    return 100 * (cpu_seconds(server.pid) - before) / seconds


def _allow_files(count: int) -> None:
    """Let this process and its children open so many connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(soft, 4 * count)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted if hard < 0 else min(hard, wanted), hard))
