"""What a batch costs its client: claims and commits of 1,000 in one request, in single requests.

Costs are seen from one client that sends request after request and reads each answer as JSON: once on the
standard library's connection, which does next to nothing, and once on httpx, as most programs would.
"""

from __future__ import annotations

import http.client
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import httpx

from benchmarks.http import free_port, prepare, ratus, server

SIZE = 1000
ROUNDS = 10
SINGLES = 500

Send = Callable[[str, str, object], Any]


def _standard(port: int) -> Send:
    connection = http.client.HTTPConnection("127.0.0.1", port)

    def send(method: str, path: str, body: object) -> Any:
        connection.request(method, path, json.dumps(body))
        return json.load(connection.getresponse())

    return send


def _httpx(port: int) -> Send:
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False)
    return lambda method, path, body: client.request(method, path, json=body).json()


def _median_us(work: Callable[[int], object], count: int) -> float:
    times = []
    for number in range(count):
        started = time.perf_counter()
        work(number)
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1e6


def _measure(name: str, send: Send, topic: str) -> list[dict[str, Any]]:
    path = f"/v1/topics/{topic}"
    claimed: list[Any] = []
    wish = {"timeout": "1h"}

    def commit(number: int) -> object:
        return send("PATCH", f"{path}/tasks/{claimed[number]['_id']}", {"nonce": claimed[number]["nonce"]})

    def commit_many(number: int) -> object:
        tasks = claimed[number * SIZE : (number + 1) * SIZE]
        return send(
            "PATCH", f"{path}/tasks", {"data": [{"_id": t["_id"], "nonce": t["nonce"]} for t in tasks]}
        )

    rows = []
    claim_one = _median_us(lambda _: claimed.append(send("POST", f"{path}/promises", wish)), SINGLES)
    commit_one = _median_us(commit, SINGLES)
    claimed.clear()
    claim = _median_us(
        lambda _: claimed.extend(send("POST", f"{path}/promises?limit={SIZE}", wish)["data"]), ROUNDS
    )
    for what, one, many in (
        ("claim", claim_one, claim),
        ("commit", commit_one, _median_us(commit_many, ROUNDS)),
    ):
        rows.append(
            {
                "client": name,
                "operation": what,
                "one us": one,
                f"{SIZE} in one request us": many,
                "as much as so many single ones": many / one,
            }
        )
    return rows


def run() -> list[dict[str, Any]]:
    """Both clients on one server."""
    port = free_port()
    rows = []
    with server(ratus(port), port) as address:
        for name, connect in (("http.client", _standard), ("httpx", _httpx)):
            prepare(address, name, SINGLES + SIZE * ROUNDS)
            rows += _measure(name, connect(port), f"bench-{name}")
    return rows
