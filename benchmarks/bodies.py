"""Bodies that are made to take long: for how long does each of them hold the event loop?

The application runs in a process of its own, without a network, and beside it a task that does nothing but
look how long each turn of the loop takes: for so long every other request would have waited. Time is that of
the processor: nothing is waited for here, and what else runs on the machine is not the question.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections.abc import Awaitable

from starlette.types import ASGIApp, Message, Scope

from benchmarks import processes
from benchmarks.adversaries import ADVERSARIES, ITEMS, Adversary
from benchmarks.benchmark import Row, Rows, Scale, Tables
from benchmarks.processes import SERVER_CORE
from benchmarks.progress import step
from ratus.runtime import config, gc_tuning
from ratus.runtime.app import build
from ratus.testing import ManualClock

SIZES = {Scale.SMOKE: 64 * 1024, Scale.QUICK: 1024 * 1024, Scale.FULL: 4 * 1024 * 1024}
"""The largest is what a body may have by default."""
PIECE = 64 * 1024
"""Bytes of a body that arrive at a time."""


def measure(scale: Scale) -> Tables:
    """A row for each body."""
    step(f"{len(ADVERSARIES)} bodies")
    rows: Rows = processes.call("benchmarks.bodies", SIZES[scale], core=SERVER_CORE)
    return {"bodies": rows}


async def send(app: ASGIApp, method: str, target: str, body: bytes) -> int:
    """Send a request to the application, its body piece by piece; the status of the answer."""
    path, _, query = target.partition("?")
    scope: Scope = {
        "type": "http",
        "method": method,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [],
    }
    statuses: list[int] = []
    at = 0

    async def receive() -> Message:
        nonlocal at
        piece = body[at : at + PIECE]
        at += PIECE
        return {"type": "http.request", "body": piece, "more_body": at < len(body)}

    async def take(message: Message) -> None:
        if "status" in message:
            statuses.append(message["status"])

    await app(scope, receive, take)
    return statuses[0]


async def prepare(app: ASGIApp) -> None:
    """Insert the tasks that commits are about, in batches that hold up nothing."""
    for start in range(0, ITEMS, 100):
        items = b",".join(b'{"_id":"%d"}' % number for number in range(start, start + 100))
        await send(app, "PUT", "/topics/t/tasks", b'{"data":[%b]}' % items)
    await send(app, "PUT", "/topics/t/tasks/a", b"{}")


async def _stall(work: Awaitable[int]) -> tuple[int, float, float]:
    """What work gives, how many seconds it takes, and for how many it holds the loop at a time."""
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            turned = time.thread_time()
            await asyncio.sleep(0)
            longest = max(longest, time.thread_time() - turned)

    watcher = asyncio.create_task(watch())
    await asyncio.sleep(0)
    started = time.thread_time()
    status = await work
    seconds = time.thread_time() - started
    await asyncio.sleep(0)
    watcher.cancel()
    return status, seconds, longest


async def _case(adversary: Adversary, size: int) -> Row:
    app, service = build(config.parse(["--port", "1", "--chore-interval", "0"], {}), clock=ManualClock())
    await service.start()
    await prepare(app)
    body = adversary.make(size)
    status, seconds, longest = await _stall(send(app, adversary.method, adversary.target, body))
    await service.close()
    del app, service
    gc.collect()  # what is left of one case is not for the next to look at
    return {
        "body": adversary.name,
        "KB": len(body) / 1000,
        "status": status,
        "work ms": seconds * 1000,
        "longest stall ms": longest * 1000,
    }


async def _main(size: int) -> Rows:
    gc_tuning.tune_collector()  # as the server's command does
    return [await _case(adversary, size) for adversary in ADVERSARIES]


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_main(int(sys.argv[1])))))
