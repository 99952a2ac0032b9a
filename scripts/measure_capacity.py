"""Measure what tasks cost: memory and disk by engine, and how long a start and a stop take.

    python scripts/measure_capacity.py [TASKS]      # a million by default: some minutes

Tasks are inserted, all claimed, all committed, as they would be by many producers and consumers: payloads
are 100 bytes of JSON, ids are UUIDs, no two times are the same, and each task is claimed alone. Each
measurement is made in a process of its own. The table on docs/capacity.md comes from here.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ratus_engines.memdb.engine import MemdbEngine
from ratus_engines.sqlite.engine import SqliteEngine

from ratus.core.errors import RatusError
from ratus.core.records import CommitRecord, TaskRecord
from ratus.core.selection import Selection
from ratus.engine import Engine

NOW: Final = 1_700_000_000_000_000
HOUR: Final = 3_600_000_000
BATCH: Final = 1_000
PAYLOAD_BYTES: Final = 100
TOPIC: Final = "capacity"

MAKE: Final[dict[str, Callable[[Path], Engine]]] = {
    "memdb": lambda path: MemdbEngine(snapshot_path=str(path), snapshot_interval=HOUR),
    "sqlite": lambda path: SqliteEngine(path=str(path)),
}


def resident(process: int | str = "self") -> int:
    """Bytes of memory that a process holds, this one by default."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def payload(number: int) -> bytes:
    """A JSON text of exactly as many bytes as are promised."""
    text = json.dumps({"number": number, "filling": ""}).encode()
    return text[:-2] + b"x" * (PAYLOAD_BYTES - len(text)) + text[-2:]


def task_id(number: int) -> str:
    """A UUID: the same for the same number, and in no order."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, str(number)))


async def insert(engine: Engine, number: int) -> None:
    """Insert so many tasks."""
    for start in range(0, number, BATCH):
        tasks = [
            TaskRecord(task_id(n), TOPIC, NOW + n, NOW + n + 1, payload=payload(n))
            for n in range(start, min(start + BATCH, number))
        ]
        await engine.insert(tasks, NOW)


async def claim(engine: Engine, number: int) -> None:
    """Claim all, at the same moment as many as a disk is to be waited for once.

    Who claims keeps nothing, so that only the engine's memory is measured.
    """
    for start in range(0, number, BATCH):
        claims = (
            engine.claim(Selection((TOPIC,), NOW + HOUR + n, f"consumer-{n % 100}"), NOW + number + n)
            for n in range(start, min(start + BATCH, number))
        )
        for claimed in await asyncio.gather(*claims):
            assert len(claimed) == 1


async def complete(engine: Engine, number: int) -> None:
    """Complete all."""
    for start in range(0, number, BATCH):
        commits = [CommitRecord(task_id(n)) for n in range(start, min(start + BATCH, number))]
        for answer in await engine.commit(commits, NOW + start):
            assert not isinstance(answer, RatusError)


def file_size(path: Path) -> int:
    """Bytes of a file."""
    return path.stat().st_size


STEPS: Final = {"pending": insert, "active": claim, "completed": complete}


async def memory(make: Callable[[Path], Engine], number: int, path: Path) -> dict[str, str]:
    """Bytes of memory a task in each state."""
    engine = make(path)
    await engine.open(NOW)
    before = resident()
    found = {}
    for state, step in STEPS.items():
        await step(engine, number)
        found[state] = f"{(resident() - before) / number:.0f} bytes"
    await engine.close(NOW)
    return found


async def disk(make: Callable[[Path], Engine], number: int, path: Path) -> dict[str, str]:
    """Bytes of disk a task in each state, and how long a stop and a start take."""
    engine = make(path)
    await engine.open(NOW)
    found = {}
    for state, step in STEPS.items():
        await step(engine, number)
        began = time.perf_counter()
        await engine.close(NOW)
        stop = time.perf_counter() - began
        size = file_size(path)
        engine = make(path)
        began = time.perf_counter()
        await engine.open(NOW)
        start = time.perf_counter() - began
        found[state] = f"{size / number:.0f} bytes | {stop:.1f} s | {start:.1f} s"
    await engine.close(NOW)
    return found


async def topics(make: Callable[[Path], Engine], number: int, path: Path) -> dict[str, str]:
    """Bytes of memory of a topic: tasks in a topic each take more than as many in one topic by this."""
    engine = make(path)
    await engine.open(NOW)
    held = [resident()]
    for start, name in ((0, TOPIC), (number, f"{TOPIC} {{}}")):
        for n in range(start, start + number):
            await engine.insert([TaskRecord(task_id(n), name.format(n), NOW + n, NOW + n + 1)], NOW)
        held.append(resident())
    await engine.close(NOW)
    together, apart = held[1] - held[0], held[2] - held[1]
    return {"a topic, beside its tasks": f"{(apart - together) / number:.0f} bytes"}


MEASURES: Final = {"memory": memory, "disk": disk, "topics": topics}


def connections(number: int) -> dict[str, str]:
    """Memory of a server for each connection that is idle, and for each that waits for a task."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "ratus", "--bind", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stderr is not None
        assert "serving" in server.stderr.readline()
        before = resident(server.pid)
        opened = [socket.create_connection(("127.0.0.1", port)) for _ in range(number)]
        for each in opened:
            each.sendall(b"GET /livez HTTP/1.1\r\nhost: ratus\r\n\r\n")
            each.recv(BATCH)
        idle = resident(server.pid)
        for each in opened:
            each.sendall(b"POST /v1/topics/capacity/promises?wait=60s HTTP/1.1\r\nhost: ratus\r\n\r\n")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/livez"):
            pass  # answered after those before it have begun to wait
        waiting = resident(server.pid)
        for each in opened:
            each.close()
    finally:
        server.terminate()
        server.wait()
    found = {
        "the server without tasks": before,
        "a connection that is idle": (idle - before) / number,
        "a connection that waits for a task": (waiting - before) / number,
    }
    return {what: f"{size / 1024:.0f} KiB" for what, size in found.items()}


def measured(what: str, name: str, number: int) -> dict[str, str]:
    """One measurement in a process of its own, by state."""
    command = [sys.executable, __file__, str(number), what, name]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found


def main() -> int:
    """Measure every engine; the exit code. With the names of a measure and an engine: only that, as JSON."""
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    if len(sys.argv) > 2:
        with tempfile.TemporaryDirectory(prefix="ratus-capacity-") as folder:
            measure, make = MEASURES[sys.argv[2]], MAKE[sys.argv[3]]
            print(json.dumps(asyncio.run(measure(make, number, Path(folder, "data")))))
        return 0
    print(f"{number:,} tasks with payloads of {PAYLOAD_BYTES} bytes\n")
    print("| engine | tasks | memory a task | disk a task | stop | start |")
    print("| --- | --- | --- | --- | --- | --- |")
    # What SQLite keeps in memory does not grow with the tasks.
    held = {"memdb": measured("memory", "memdb", number), "sqlite": dict.fromkeys(STEPS, "")}
    for name in MAKE:
        for state, kept in measured("disk", name, number).items():
            print(f"| `{name}` | {state} | {held[name][state]} | {kept} |")
    print("\n| what | memory |")
    print("| --- | --- |")
    beside = connections(min(900, number)) | measured("topics", "memdb", min(100_000, number))
    for what, size in beside.items():
        print(f"| {what} | {size} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
