"""HTTP figures as ratios to a bare ASGI application on the same uvicorn, in the same run.

The server has one core, the load generator (wrk) another. Each round measures everything once, the peer
included; the median of the rounds' ratios counts, so that a machine whose speed drifts does no harm.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).parent / "wrk" / "load.lua"
SERVER_CORE, LOAD_CORE = "0", "1"
# Claims and commits need tasks to work on; as many as the fastest machine gets through in a round.
PREPARED = 200_000
BATCH = 10_000
# What is measured, and tasks a request.
LOADS = (("insert", 1), ("claim", 1), ("commit", 1), ("insert-batch", 1000), ("claim-batch", 100))


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@contextlib.contextmanager
def server(command: list[str], port: int) -> Iterator[str]:
    """A server process on the server's core; its address."""
    process = subprocess.Popen(["taskset", "-c", SERVER_CORE, *command])
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(200):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{address}/livez", timeout=2).read()
                break
            time.sleep(0.05)
        yield address
    finally:
        process.terminate()
        process.wait(30)


def ratus(port: int, *options: str) -> list[str]:
    """The command of a server under test, with everything on that is on by default."""
    return [sys.executable, "-m", "ratus", "--bind", "127.0.0.1", "--port", str(port), *options]


def wrk(address: str, connections: int, seconds: float, *arguments: str) -> dict[str, Any]:
    """One load; rates in requests a second, latencies in microseconds."""
    command = [
        "taskset", "-c", LOAD_CORE, "wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--timeout", "30s",
        "-s", str(SCRIPT), address, "--", *arguments,
    ]  # fmt: skip
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    figures: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    figures["rate"] = figures["requests"] / figures["seconds"]
    return figures


def post(address: str, path: str, body: object) -> Any:
    """One request outside of what is measured."""
    request = urllib.request.Request(f"{address}{path}", json.dumps(body).encode(), method="POST")
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def prepare(address: str, run: str, count: int) -> None:
    """Insert tasks to be claimed."""
    payload = {"to": "someone@example.com", "subject": "hello", "n": 12345, "tags": ["a", "b"], "ok": True}
    for start in range(0, count, BATCH):
        tasks = [{"_id": f"{run}-p{n}", "payload": payload} for n in range(start, min(start + BATCH, count))]
        post(address, f"/v1/topics/bench-{run}/tasks", {"data": tasks})


def claim_all(address: str, run: str, count: int, path: Path) -> None:
    """Claim tasks and note their nonces."""
    with path.open("w") as file:
        claimed = 0
        while claimed < count:
            tasks = post(address, f"/v1/topics/bench-{run}/promises?limit=1000", {"timeout": "1h"})["data"]
            file.writelines(f"{task['_id']} {task['nonce']}\n" for task in tasks)
            claimed += len(tasks)


def run(
    connections: tuple[int, ...] = (64,), rounds: int = 3, seconds: float = 3.0, options: tuple[str, ...] = ()
) -> list[dict[str, Any]]:
    """Rates and latencies of single requests and batches."""
    found: dict[tuple[str, int], list[tuple[float, dict[str, Any]]]] = {}
    port, bare_port = free_port(), free_port()
    bare = [sys.executable, "-m", "benchmarks.bare", str(bare_port)]
    with server(bare, bare_port) as bare_address, tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            for width in connections:
                peer = wrk(bare_address, width, seconds, "bare", "0")
                found.setdefault(("bare ASGI", width), []).append((1.0, peer))
                with server(ratus(port, *options), port) as address:
                    for what, size in LOADS:
                        name = f"{what}{number}x{width}"
                        arguments = [what, name]
                        if what.startswith("claim"):
                            prepare(address, name, PREPARED if size == 1 else PREPARED * 2)
                        elif what == "commit":
                            path = Path(folder) / name
                            prepare(address, name, PREPARED)
                            claim_all(address, name, PREPARED, path)
                            arguments.append(str(path))
                        if size > 1:
                            arguments.append(str(size))
                        figures = wrk(address, min(width, 8) if size > 1 else width, seconds, *arguments)
                        figures["rate"] *= size
                        found.setdefault((what, width), []).append((figures["rate"] / peer["rate"], figures))
    rows = []
    for (what, width), results in found.items():
        middle = sorted(results, key=lambda result: result[0])[len(results) // 2][1]
        rows.append(
            {
                "operation": what,
                "connections": width,
                "per s": statistics.median(figures["rate"] for _, figures in results),
                "ratio": statistics.median(ratio for ratio, _ in results),
                "p50 ms": middle["p50"] / 1000,
                "p99 ms": middle["p99"] / 1000,
                "p99.9 ms": middle["p999"] / 1000,
                "refused": sum(figures["non2xx"] + figures["errors"] for _, figures in results),
            }
        )
    return rows


if __name__ == "__main__":
    from benchmarks.table import show

    os.environ.setdefault("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    show("HTTP", run(rounds=int(sys.argv[1]) if len(sys.argv) > 1 else 1))
