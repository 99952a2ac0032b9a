"""A million tasks in memory: what they cost, and whether requests notice them.

1. A server with snapshots takes a million tasks in. How much memory is that?
2. Are requests as fast as in a server with 10,000? Both take turns, and a turn inserts, claims and commits as
   many tasks, so that the queues stay as long as they are.
3. It is stopped, which writes a snapshot, and started again. How long until it is ready?
4. The new one does its chores every two seconds and writes a snapshot every five. Requests of all kinds
   come at a constant rate: how long does the unluckiest wait, while a million tasks are pending, and while
   they are active? Bare ASGI at the same rate tells what the machine itself makes requests wait.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import pacer, services, traffic
from benchmarks.benchmark import Row, Rows, Scale, Tables
from benchmarks.pacer import Paced
from benchmarks.processes import free_port, resident
from benchmarks.progress import step
from benchmarks.services import Server
from benchmarks.statistic import median, percentile

CONNECTIONS = 64
TOPIC = "million"
SMALL = 10_000
TURN = 4_000
"""Requests of a kind in a turn: well under what the small queue holds."""
SHARE = 0.5
"""Of the top rate, for the traffic in which pauses are looked for: a queue in use, but not at its limit."""
MILLISECONDS = 50
"""A pause that counts."""
SLICE = 0.1
"""Seconds of which the longest latency is drawn."""


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    tasks: int
    small: int
    turn: int
    turns: int
    seconds: float


SIZES = {
    Scale.SMOKE: Sizes(2_000, 1_000, 200, 1, 0.3),
    Scale.QUICK: Sizes(1_000_000, SMALL, TURN, 6, 8.0),
    Scale.FULL: Sizes(1_000_000, SMALL, TURN, 12, 20.0),
}


def measure(scale: Scale) -> Tables:
    """All four questions."""
    sizes = SIZES[scale]
    costs: Rows = []
    with tempfile.TemporaryDirectory() as place:
        snapshot = Path(place) / "snapshot"
        rates, stopped = _fill_and_compare(sizes, snapshot, costs)
        costs.append(_cost("stop, with a snapshot", time.monotonic() - stopped, "s"))
        costs.append(_cost("snapshot", snapshot.stat().st_size / 1e6, "MB"))
        pauses, timeline = _restart_and_load(sizes, snapshot, costs)
    return {
        "http-million": costs,
        "http-million-rates": rates,
        "http-million-pauses": pauses,
        "http-million-timeline": timeline,
    }


def _cost(what: str, value: float, unit: str) -> Row:
    return {"what": what, "value": value, "unit": unit}


def _fill_and_compare(sizes: Sizes, snapshot: Path, costs: Rows) -> tuple[Rows, float]:
    """The rows of rates, and when the server was told to stop."""
    flags = ["--memdb-snapshot-path", str(snapshot), "--memdb-snapshot-interval", "1h"]
    with services.ratus(*flags) as server, services.ratus() as small:
        empty = resident(server.pid)
        costs.append(_cost("memory of an empty server", empty / 1e6, "MB"))
        step(f"inserting {sizes.tasks:,} tasks")
        traffic.fill(server.port, TOPIC, sizes.tasks)
        costs.append(_cost("memory, pending", (resident(server.pid) - empty) / 1e6, "MB"))
        step(f"rates beside a queue of {sizes.small:,}")
        traffic.fill(small.port, TOPIC, sizes.small)
        rates = _compare(small, server, sizes)
        stopped = time.monotonic()
    return rates, stopped


def _compare(small: Server, large: Server, sizes: Sizes) -> Rows:
    found: dict[str, list[tuple[float, float]]] = {"insert": [], "claim": [], "commit": []}
    # The first turn warms both up.
    for number in range(sizes.turns + 1):
        pair = [_turn(server, f"turn-{number}", sizes.turn) for server in (small, large)]
        if number:
            for operation, rates in found.items():
                rates.append((pair[0][operation], pair[1][operation]))
    return [
        {
            "operation": operation,
            f"requests/s with {sizes.small:,}": median(first for first, _ in rates),
            f"requests/s with {sizes.tasks:,}": median(second for _, second in rates),
            "ratio": median(second / first for first, second in rates),
        }
        for operation, rates in found.items()
    ]


def _turn(server: Server, name: str, count: int) -> dict[str, float]:
    """As many inserts, claims and commits; requests a second of each."""

    def send(requests: Iterator[bytes], keep_bodies: bool = False) -> Paced:
        paced = pacer.send(server.port, requests, connections=CONNECTIONS, keep_bodies=keep_bodies)
        if paced.failed:
            raise RuntimeError(f"{paced.failed} of {count} requests were refused")
        return paced

    inserted = send(traffic.inserts(TOPIC, name, range(count)))
    claimed = send(traffic.claims(TOPIC, count), keep_bodies=True)
    committed = send(traffic.commits(TOPIC, traffic.nonces(claimed.bodies)))
    return {"insert": inserted.rate, "claim": claimed.rate, "commit": committed.rate}


def _restart_and_load(sizes: Sizes, snapshot: Path, costs: Rows) -> tuple[Rows, Rows]:
    """The rows of pauses, and of the longest latencies over time."""
    step("starting from the snapshot")
    flags = [
        "--memdb-snapshot-path",
        str(snapshot),
        "--memdb-snapshot-interval",
        "5s",
        "--chore-interval",
        "2s",
    ]
    port, started = free_port(), time.monotonic()
    rows: Rows = []
    timeline: Rows = []

    def note(state: str, paced: Paced, written: bool) -> None:
        rows.append(_pause(state, paced, written))
        timeline.extend(_timeline(state, paced))

    with services.ratus(*flags, port=port) as server:
        costs.append(_cost("start to ready", time.monotonic() - started, "s"))
        costs.append(_cost("memory after the start", resident(server.pid) / 1e6, "MB"))
        paced, written = _traffic(server, "pending", sizes, snapshot)
        note("pending", paced, written)
        step(f"claiming {sizes.tasks:,} tasks")
        _claim_everything(server.port)
        empty = next(row["value"] for row in costs if row["what"] == "memory of an empty server")
        costs.append(_cost("memory, active", resident(server.pid) / 1e6 - empty, "MB"))
        note("active", *_traffic(server, "active", sizes, snapshot))
    step("the same rate on bare ASGI")
    with services.bare() as server:
        count, rate = len(paced.due), len(paced.due) / (paced.due[-1] / 1e6)
        requests = traffic.inserts("t", "t", range(count))
        note("bare ASGI", pacer.send(server.port, requests, connections=CONNECTIONS, rate=rate), False)
    return rows, timeline


def _claim_everything(port: int) -> None:
    while True:
        try:
            traffic.post(port, f"/v1/topics/{TOPIC}/promises?limit={traffic.CLAIMED_AT_ONCE}", traffic.CLAIM)
        except RuntimeError as error:
            if ": 404 " in str(error):
                return
            raise


def _traffic(server: Server, name: str, sizes: Sizes, snapshot: Path) -> tuple[Paced, bool]:
    """Inserts, claims and commits in turn at a constant rate; and whether a snapshot was written."""
    step(f"{sizes.seconds:g} s of traffic while {sizes.tasks:,} tasks are {name}")
    top = pacer.send(server.port, _mix(server.port, f"{name}-top", sizes.turn), connections=CONNECTIONS).rate
    rate = SHARE * top
    requests = _mix(server.port, name, max(30, int(rate * sizes.seconds)))
    before = snapshot.stat().st_ino
    paced = pacer.send(server.port, requests, connections=CONNECTIONS, rate=rate)
    return paced, snapshot.stat().st_ino != before


def _mix(port: int, name: str, count: int) -> Iterator[bytes]:
    """So many requests; claims find tasks in a topic of their own, commits what was claimed before."""
    share = count // 3
    topic = f"mix-{name}"
    traffic.fill(port, topic, 2 * share, topic)
    claimed = traffic.claim_all(port, topic, share)
    return itertools.chain.from_iterable(
        zip(
            traffic.inserts(TOPIC, f"new-{name}", range(share)),
            traffic.claims(topic, share),
            traffic.commits(topic, claimed),
            strict=True,
        )
    )


def _pause(state: str, paced: Paced, written: bool) -> Row:
    latencies = sorted(paced.latencies)
    return {
        "tasks": state,
        "requests/s": len(latencies) / (paced.due[-1] / 1e6),
        "p50 ms": percentile(latencies, 50) / 1000,
        "p99 ms": percentile(latencies, 99) / 1000,
        "p99.9 ms": percentile(latencies, 99.9) / 1000,
        "longest ms": latencies[-1] / 1000,
        f"over {MILLISECONDS} ms": sum(latency > MILLISECONDS * 1000 for latency in latencies),
        "generator paused ms": paced.longest_standstill / 1000,
        "snapshot written": written,
        "refused": paced.failed,
    }


def _timeline(state: str, paced: Paced) -> Rows:
    """The longest latency in each slice of time."""
    longest: dict[int, int] = {}
    for due, latency in zip(paced.due, paced.latencies, strict=True):
        slot = int(due / 1e6 / SLICE)
        longest[slot] = max(longest.get(slot, 0), latency)
    return [
        {"tasks": state, "second": round(slot * SLICE, 3), "longest ms": latency / 1000}
        for slot, latency in sorted(longest.items())
    ]
