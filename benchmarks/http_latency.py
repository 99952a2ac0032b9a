"""How long a request takes at 70 % of the top rate, over 64 connections.

The top rate is measured first, in the same round and with the same generator; then requests come at 70 % of
it, at a constant rate, and a latency counts from when the request was due (see `benchmarks.pacer`).

On a machine that is shared, a server does not always run when it could: another process has its core, or the
core sleeps and gets up milliseconds late. That is in "as it comes". The other figures are taken with cores
that do not sleep, and while the kernel says that the server has no processor, time stands still for requests
that are not due yet. Those that are due are charged in full, as is whatever the server itself does.

p50 and p99 are those of a second of the rounds: of that with the median of p99 / p50, for the bar is on that,
and whatever stops the whole machine falls into a few of them. p99.9 and the longest are of all requests.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import pacer, processes, services, traffic
from benchmarks.benchmark import Row, Rows, Scale, Tables
from benchmarks.pacer import Paced
from benchmarks.progress import step
from benchmarks.services import Server
from benchmarks.statistic import CURVE, median, middle_round, percentile

PEER = "bare ASGI"
CONNECTIONS = 64
SHARE = 0.7
"""Of the top rate."""


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    rounds: dict[str, int]
    """By engine."""
    top_requests: int
    """The top rate is that of so many requests."""
    seconds: float
    """Of requests at a constant rate; before them come half as many, for "as it comes"."""


SIZES = {
    Scale.SMOKE: Sizes({PEER: 1, "memdb": 1}, 500, 0.2),
    Scale.QUICK: Sizes({PEER: 3, "memdb": 3}, 20_000, 2.0),
    Scale.FULL: Sizes({PEER: 5, "memdb": 5, "sqlite": 2, "mongodb": 2}, 20_000, 4.0),
}

ONE_THREAD = (PEER, "memdb")
"""What waits for a processor there waits for others. Elsewhere it may be for a thread of its own."""

Send = Callable[[int, float, Path | None], Paced]
"""Sends so many requests at a rate, 0 for the top, with the kernel's account of the server or without."""


@dataclass(frozen=True)
class Round:
    """What one round has found."""

    top: float
    as_it_comes: Paced
    paced: Paced


def _seconds(rounds: Iterable[Paced]) -> list[list[int]]:
    """The latencies of each second, in microseconds, the shortest first; a rest goes with the last."""
    found = []
    for paced in rounds:
        count = max(1, paced.due[-1] // 1_000_000)
        seconds: list[list[int]] = [[] for _ in range(count)]
        for due, latency in zip(paced.due, paced.latencies, strict=True):
            seconds[min(due // 1_000_000, count - 1)].append(latency)
        found += [sorted(each) for each in seconds]
    return found


def _spread(latencies: list[int]) -> float:
    """p99 over p50."""
    return percentile(latencies, 99) / max(1, percentile(latencies, 50))


def measure(scale: Scale) -> Tables:
    """The percentiles of each operation, and its distribution."""
    sizes = SIZES[scale]
    rows: Rows = []
    curves: Rows = []
    engines = services.available([each for each in sizes.rounds if each != PEER])
    for engine in (PEER, *engines):
        found: dict[str, list[Round]] = {}
        for number in range(sizes.rounds[engine]):
            step(f"{engine} at {SHARE:.0%} of its top rate, round {number + 1} of {sizes.rounds[engine]}")
            for operation, one in _round(engine, sizes):
                found.setdefault(operation, []).append(one)
        for operation, rounds in found.items():
            latencies = sorted(latency for each in rounds for latency in each.paced.latencies)
            rows.append(_row(engine, operation, rounds, latencies))
            curves += (
                {
                    "engine": engine,
                    "operation": operation,
                    "percentile": percent,
                    "ms": percentile(latencies, percent) / 1000,
                }
                for percent in CURVE
            )
    return {"http-latency": rows, "http-latency-distribution": curves}


def _row(engine: str, operation: str, rounds: list[Round], latencies: list[int]) -> Row:
    seconds = _seconds(each.paced for each in rounds)
    middle = seconds[middle_round(map(_spread, seconds))]
    return {
        "engine": engine,
        "operation": operation,
        "top requests/s": median(each.top for each in rounds),
        "p50 ms": percentile(middle, 50) / 1000,
        "p99 ms": percentile(middle, 99) / 1000,
        "p99.9 ms": percentile(latencies, 99.9) / 1000,
        "longest ms": latencies[-1] / 1000,
        "p99 / p50": _spread(middle),
        "as it comes": median(map(_spread, _seconds(each.as_it_comes for each in rounds))),
        "no processor ms/s": _without_processor(rounds) if engine in ONE_THREAD else None,
        "generator paused ms": max(each.paced.longest_standstill for each in rounds) / 1000,
        "refused": sum(each.as_it_comes.failed + each.paced.failed for each in rounds),
    }


def _without_processor(rounds: list[Round]) -> float:
    """How long the server had none though it was ready to run, in milliseconds a second."""
    return sum(each.paced.of_server for each in rounds) / 1000 / sum(each.paced.seconds for each in rounds)


def _round(engine: str, sizes: Sizes) -> Iterator[tuple[str, Round]]:
    if engine == PEER:
        with services.bare() as server:
            yield "any", _steady(_any(server), server.account, sizes)
        return
    with (
        tempfile.TemporaryDirectory() as place,
        services.storage(engine, Path(place)) as flags,
        services.ratus(*flags) as server,
    ):
        account = server.account if engine in ONE_THREAD else None
        for operation, prepare in OPERATIONS.items():
            yield operation, _steady(prepare(server), account, sizes)


def _steady(send: Send, account: Path | None, sizes: Sizes) -> Round:
    # Code is warm and connections have been made before the top rate is taken.
    send(max(100, sizes.top_requests // 20), 0, None)
    top = send(sizes.top_requests, 0, None).rate
    rate = SHARE * top
    count = max(100, int(rate * sizes.seconds))
    as_it_comes = send(count // 2, rate, None)
    with processes.awake():
        paced = send(count, rate, account)
    return Round(top, as_it_comes, paced)


def _send(server: Server, requests: Iterator[bytes], rate: float, account: Path | None) -> Paced:
    return pacer.send(server.port, requests, connections=CONNECTIONS, rate=rate, account=account)


def _any(server: Server) -> Send:
    def send(count: int, rate: float, account: Path | None) -> Paced:
        return _send(server, traffic.inserts("t", "t", range(count)), rate, account)

    return send


def _insert(server: Server) -> Send:
    first = 0

    def send(count: int, rate: float, account: Path | None) -> Paced:
        nonlocal first
        numbers, first = range(first, first + count), first + count
        return _send(server, traffic.inserts("insert", "i", numbers), rate, account)

    return send


def _claim(server: Server) -> Send:
    sent = 0

    def send(count: int, rate: float, account: Path | None) -> Paced:
        nonlocal sent
        sent += 1
        traffic.fill(server.port, f"claim-{sent}", count, f"c{sent}")
        return _send(server, traffic.claims(f"claim-{sent}", count), rate, account)

    return send


def _commit(server: Server) -> Send:
    sent = 0

    def send(count: int, rate: float, account: Path | None) -> Paced:
        nonlocal sent
        sent += 1
        traffic.fill(server.port, f"commit-{sent}", count, f"d{sent}")
        claimed = traffic.claim_all(server.port, f"commit-{sent}", count)
        return _send(server, traffic.commits(f"commit-{sent}", claimed), rate, account)

    return send


OPERATIONS: dict[str, Callable[[Server], Send]] = {"insert": _insert, "claim": _claim, "commit": _commit}
