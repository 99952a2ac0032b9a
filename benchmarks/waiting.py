"""Long polls: how long from an insert to the answer of the request that waits, and what idle waiters cost."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

from benchmarks.http import free_port, ratus

WAIT = "60s"


class Peer:
    """A keep-alive connection that speaks just enough HTTP/1.1."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def connect(cls, port: int) -> Peer:
        """A new connection."""
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    def send(self, method: str, path: str, body: bytes = b"") -> None:
        """Send a request."""
        head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n"
        self._writer.write(head.encode() + body)

    async def answer(self) -> tuple[int, bytes]:
        """The status and body of the next answer."""
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
        length = next(int(line[15:]) for line in head.split("\r\n") if line.startswith("content-length:"))
        return int(head[9:12]), await self._reader.readexactly(length)

    def close(self) -> None:
        """Close the connection."""
        self._writer.close()


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _measure(port: int, pid: int, waiters: int, idle_seconds: float) -> dict[str, Any]:
    before = cpu_seconds(pid)
    await asyncio.sleep(idle_seconds)
    alone = cpu_seconds(pid) - before
    peers = [await Peer.connect(port) for _ in range(waiters)]
    for peer in peers:
        peer.send("POST", f"/v1/topics/waiting/promises?wait={WAIT}&timeout=1h")
        await asyncio.sleep(0)
    await asyncio.sleep(1)
    before = cpu_seconds(pid)
    await asyncio.sleep(idle_seconds)
    idle = cpu_seconds(pid) - before

    producer = await Peer.connect(port)  # not before: a connection that stays silent is closed
    delays, in_order = [], 0
    for number, peer in enumerate(peers):
        started = time.perf_counter()
        producer.send("POST", f"/v1/topics/waiting/tasks/{number}", b"{}")
        status, body = await peer.answer()
        delays.append(time.perf_counter() - started)
        assert status == 200, body
        in_order += json.loads(body)["_id"] == str(number)
        await producer.answer()
    for peer in (*peers, producer):
        peer.close()
    return {
        "waiters": waiters,
        "in order": in_order,
        "median ms": statistics.median(delays) * 1000,
        "p99 ms": sorted(delays)[int(len(delays) * 0.99)] * 1000,
        "idle CPU % without": 100 * alone / idle_seconds,
        "idle CPU % with": 100 * idle / idle_seconds,
    }


def run(waiters: int = 1000, idle_seconds: float = 5.0) -> list[dict[str, Any]]:
    """One topic, so many waiting polls, tasks arriving one by one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4 * waiters)), hard))
    port = free_port()
    process = subprocess.Popen(ratus(port))
    try:
        time.sleep(1.5)
        return [asyncio.run(_measure(port, process.pid, waiters, idle_seconds))]
    finally:
        process.terminate()
        process.wait(30)
