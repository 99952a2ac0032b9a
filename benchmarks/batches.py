"""What a batch saves its client: claims and commits of 1,000 in one request, beside single requests.

Costs are seen from one client that sends request after request and reads each answer as JSON: once on the
standard library's connection, which does next to nothing, and once on httpx, as most programs would.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from benchmarks import services, traffic
from benchmarks.benchmark import Rows, Scale, Tables
from benchmarks.progress import step
from benchmarks.statistic import median


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    size: int
    rounds: int
    singles: int


SIZES = {
    Scale.SMOKE: Sizes(50, 2, 20),
    Scale.QUICK: Sizes(1_000, 10, 500),
    Scale.FULL: Sizes(1_000, 30, 2_000),
}

Send = Callable[[str, str, object], Any]


@contextlib.contextmanager
def _standard(port: int) -> Iterator[Send]:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:

        def send(method: str, path: str, body: object) -> Any:
            connection.request(method, path, json.dumps(body))
            return json.load(connection.getresponse())

        yield send


@contextlib.contextmanager
def _httpx(port: int) -> Iterator[Send]:
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        yield lambda method, path, body: client.request(method, path, json=body).json()


CLIENTS = {"http.client": _standard, "httpx": _httpx}


def _median_us(work: Callable[[int], object], count: int) -> float:
    times = []
    for number in range(count):
        started = time.perf_counter()
        work(number)
        times.append(time.perf_counter() - started)
    return median(times) * 1e6


def _compare(name: str, send: Send, topic: str, sizes: Sizes) -> Rows:
    path = f"/v1/topics/{topic}"
    claimed: list[Any] = []
    wish = {"timeout": "1h"}

    def commit(number: int) -> object:
        return send("PATCH", f"{path}/tasks/{claimed[number]['_id']}", {"nonce": claimed[number]["nonce"]})

    def commit_many(number: int) -> object:
        tasks = claimed[number * sizes.size : (number + 1) * sizes.size]
        return send(
            "PATCH", f"{path}/tasks", {"data": [{"_id": t["_id"], "nonce": t["nonce"]} for t in tasks]}
        )

    def claim_many(number: int) -> None:
        claimed.extend(send("POST", f"{path}/promises?limit={sizes.size}", wish)["data"])

    claim_one = _median_us(lambda _: claimed.append(send("POST", f"{path}/promises", wish)), sizes.singles)
    commit_one = _median_us(commit, sizes.singles)
    claimed.clear()
    claim = _median_us(claim_many, sizes.rounds)
    commit_all = _median_us(commit_many, sizes.rounds)
    return [
        {
            "client": name,
            "operation": operation,
            "tasks in a batch": sizes.size,
            "one us": one,
            "the batch us": many,
            "the batch costs as much as": many / one,
        }
        for operation, one, many in (("claim", claim_one, claim), ("commit", commit_one, commit_all))
    ]


def measure(scale: Scale) -> Tables:
    """Both clients on one server."""
    sizes = SIZES[scale]
    rows: Rows = []
    with services.ratus() as server:
        for name, connect in CLIENTS.items():
            step(f"batches of {sizes.size:,} with {name}")
            traffic.fill(server.port, f"batches-{name}", sizes.singles + sizes.size * sizes.rounds, name)
            with connect(server.port) as send:
                rows += _compare(name, send, f"batches-{name}", sizes)
    return {"batches": rows}
