"""The requests that all HTTP benchmarks send, and what has to be there before them."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks import pacer

PAYLOAD = b'{"to":"someone@example.com","subject":"hello","n":12345,"tags":["a","b"],"ok":true}'
"""What a small task carries; wrk/load.lua sends the same."""
CLAIM = b'{"consumer":"c","timeout":"1h"}'

INSERTED_AT_ONCE = 10_000
CLAIMED_AT_ONCE = 1_000
"""The most that a server takes by default."""
PATIENCE = 120.0
"""Seconds that one request of a preparation may take."""

Claimed = list[tuple[str, str]]
"""Ids and nonces."""


def post(port: int, path: str, body: bytes, method: str = "POST") -> Any:
    """One request outside of what is measured; raises `RuntimeError` unless it succeeds."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request(method, path, body, {"content-type": "application/json"})
        answer = connection.getresponse()
        content = answer.read()
        if not 200 <= answer.status < 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {content[:500].decode(errors='replace')}")
        return json.loads(content)
    finally:
        connection.close()


def fill(port: int, topic: str, count: int, name: str = "p", scheduled: str = "") -> None:
    """Insert tasks, ``name``-0 to ``name``-``count``; due at once, or at a time as JSON has it."""
    when = b',"scheduled":"%s"' % scheduled.encode() if scheduled else b""
    for first in range(0, count, INSERTED_AT_ONCE):
        tasks = [
            b'{"_id":"%s-%d","payload":%s%s}' % (name.encode(), number, PAYLOAD, when)
            for number in range(first, min(first + INSERTED_AT_ONCE, count))
        ]
        post(port, f"/v1/topics/{topic}/tasks", b'{"data":[%s]}' % b",".join(tasks))


def claim_all(port: int, topic: str, count: int) -> Claimed:
    """Claim tasks that are there."""
    claimed: Claimed = []
    while len(claimed) < count:
        limit = min(CLAIMED_AT_ONCE, count - len(claimed))
        tasks = post(port, f"/v1/topics/{topic}/promises?limit={limit}", CLAIM)["data"]
        claimed += ((task["_id"], task["nonce"]) for task in tasks)
    return claimed


def inserts(topic: str, name: str, numbers: range) -> Iterator[bytes]:
    """Requests that insert one task each."""
    body = b'{"payload":%s}' % PAYLOAD
    return (pacer.request("POST", f"/v1/topics/{topic}/tasks/{name}-{n}", body) for n in numbers)


def claims(topic: str, count: int) -> Iterator[bytes]:
    """Requests that claim one task each."""
    request = pacer.request("POST", f"/v1/topics/{topic}/promises", CLAIM)
    return (request for _ in range(count))


def commits(topic: str, claimed: Sequence[tuple[str, str]]) -> Iterator[bytes]:
    """Requests that commit one task each."""
    return (
        pacer.request("PATCH", f"/v1/topics/{topic}/tasks/{task}", b'{"nonce":"%s"}' % nonce.encode())
        for task, nonce in claimed
    )


def nonces(bodies: Sequence[bytes]) -> Claimed:
    """What the answers to claims of one task say."""
    return [(task["_id"], task["nonce"]) for task in map(json.loads, bodies)]
