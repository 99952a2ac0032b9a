"""What is counted: requests through the whole server, and operations of the memory engine by themselves.

    valgrind --tool=callgrind --instr-atstart=no ... python -m benchmarks.guard.workload COUNTER.so

The server is the real one, started by its command line, on asyncio's own loop and without a socket: the loop
keeps the protocol that the server would give to a connection, and requests are put in as if they had been
received. Nothing here depends on time or chance but nonces and the clock's digits.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import uvloop
from ratus_engines.memdb.engine import MemdbEngine

from benchmarks import traffic
from benchmarks.pacer import request
from ratus import cli
from ratus.core.records import CommitRecord, TaskRecord
from ratus.core.selection import Selection

WARM = 200
"""Operations before counting: the interpreter specialises code that is warm."""
COUNTED = 1_000
BATCH = 100
BATCHES = 10
CALIBRATION = 20_000
"""Rounds of the calibration loop: about as many instructions as the largest of the others."""

EXIT = 128 + signal.SIGTERM
"""How the server ends, once all has been counted."""

NOW = 1_800_000_000_000_000
HOUR = 3_600_000_000


class Counter:
    """Counts what a block does, under a name."""

    def __init__(self, library: str) -> None:
        self._library = ctypes.CDLL(library)

    async def __call__(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Await ``work``, counted; the garbage of others is not its to collect."""
        gc.collect()
        gc.freeze()
        self._library.begin()
        await work()
        self._library.end(name.encode())


class Place:
    """What the calibration loop works on."""

    __slots__ = ("count", "items")

    def __init__(self) -> None:
        self.count = 0
        self.items: dict[str, int] = {}

    def put(self, key: str, value: int) -> bool:
        """Keep a value under a key."""
        new = key not in self.items
        self.items[key] = value
        self.count += 1
        return new


async def calibrate() -> None:
    """Work that never changes, of the kind that the hot paths do: the unit in which they are expressed."""
    place = Place()
    for number in range(CALIBRATION):
        key = f"task-{number % 997}"
        if place.put(key, number):
            place.items[key] += 1
        b"".join((b"head: ", key.encode(), b"\r\n"))


async def count_engine(counter: Counter) -> None:
    """The memory engine alone."""
    engine = MemdbEngine()
    await engine.open(NOW)
    claimed: list[TaskRecord] = []

    async def insert(numbers: range) -> None:
        for n in numbers:
            task = TaskRecord(f"task-{n}", "guard", NOW, NOW + n, payload=traffic.PAYLOAD)
            await engine.insert([task], NOW)

    async def claim(numbers: range) -> None:
        for n in numbers:
            claimed.extend(await engine.claim(Selection(("guard",), NOW + HOUR, "c"), NOW + HOUR // 2 + n))

    async def commit(numbers: range) -> None:
        for n in numbers:
            await engine.commit([CommitRecord(claimed[n].id, claimed[n].nonce)], NOW + HOUR // 2 + n)

    operations: dict[str, Callable[[range], Awaitable[None]]] = {
        "insert": insert,
        "claim": claim,
        "commit": commit,
    }
    for name, operation in operations.items():
        await operation(range(WARM))
        await counter(f"engine {name}", lambda work=operation: work(range(WARM, WARM + COUNTED)))  # type: ignore[misc]  # mypy cannot infer a lambda's default
    await engine.close(NOW)


class Wire(asyncio.Transport):
    """The other side of a connection: keeps what is answered."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"sockname": ("127.0.0.1", 80), "peername": ("127.0.0.1", 50_000)}.get(name, default)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def writelines(self, list_of_data: Any) -> None:
        self.written += b"".join(list_of_data)

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def is_reading(self) -> bool:
        return True

    def is_closing(self) -> bool:
        return False

    def close(self) -> None: ...

    def abort(self) -> None: ...


class Connection:
    """A connection to the server, without the network."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        self._protocol = protocol
        self._wire = Wire()
        protocol.connection_made(self._wire)
        self.bodies: list[bytes] = []

    async def send(self, requests: Sequence[bytes]) -> None:
        """Send one after the other, each when the last has been answered."""
        wire, received, bodies = self._wire, self._protocol.data_received, self.bodies
        for each in requests:
            received(each)
            while not wire.written:
                await asyncio.sleep(0)
            bodies.append(wire.written)
            wire.written = b""

    def taken(self) -> list[Any]:
        """The answers since the last time, which have to be successes."""
        found = []
        for answer in self.bodies:
            head, _, body = answer.partition(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 2"):
                raise RuntimeError(answer[:500].decode(errors="replace"))
            found.append(json.loads(body))
        self.bodies.clear()
        return found


async def count_server(counter: Counter, connection: Connection) -> None:
    """Whole requests: single ones, then batches."""

    async def measure(name: str, requests: Sequence[bytes], warm: int) -> list[Any]:
        await connection.send(requests[:warm])
        await counter(name, lambda: connection.send(requests[warm:]))
        return connection.taken()

    count = WARM + COUNTED
    await measure("server insert", list(traffic.inserts("guard", "one", range(count))), WARM)
    claimed = await measure("server claim", list(traffic.claims("guard", count)), WARM)
    nonces = [(task["_id"], task["nonce"]) for task in claimed]
    await measure("server commit", list(traffic.commits("guard", nonces)), WARM)

    path = "/v1/topics/guards/tasks"
    inserts = [
        request("POST", path, b'{"data":[%s]}' % b",".join(
            b'{"_id":"many-%d-%d","payload":%s}' % (batch, n, traffic.PAYLOAD) for n in range(BATCH)
        ))
        for batch in range(1 + BATCHES)
    ]  # fmt: skip
    await measure("server insert batch", inserts, 1)
    claim = request("POST", f"/v1/topics/guards/promises?limit={BATCH}", traffic.CLAIM)
    batches = await measure("server claim batch", [claim] * (1 + BATCHES), 1)
    commits = [
        request("PATCH", path, json.dumps(
            {"data": [{"_id": task["_id"], "nonce": task["nonce"]} for task in batch["data"]]}
        ).encode())
        for batch in batches
    ]  # fmt: skip
    await measure("server commit batch", commits, 1)


class Loop(asyncio.SelectorEventLoop):
    """A loop on which a server wants to listen: instead, the workload runs on it, and the server is ended."""

    counter: Counter

    async def create_server(self, protocol_factory: Any, *arguments: Any, **options: Any) -> Any:
        self._workload = self.create_task(self._count(protocol_factory))
        return _Deaf()

    async def _count(self, protocol_factory: Callable[[], asyncio.Protocol]) -> None:
        try:
            await self.counter("calibration", calibrate)
            await count_engine(self.counter)
            await count_server(self.counter, Connection(protocol_factory()))
        except BaseException:
            # The server would go on serving, and nobody would be told.
            sys.excepthook(*sys.exc_info())
            sys.stderr.flush()
            os._exit(1)
        # Connections that never were cannot be drained: a second signal ends it at once.
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)


class _Deaf:
    """A server that nobody connects to."""

    def close(self) -> None: ...


def main(library: str) -> int:
    """Run the server with the workload in it."""
    Loop.counter = Counter(library)
    # What the server asks for its loop.
    module: Any = uvloop
    module.new_event_loop = Loop
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return cli.main(["--bind", "127.0.0.1", "--port", str(port)])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
