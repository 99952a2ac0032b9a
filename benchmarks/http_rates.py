"""How many requests a second a server answers, as a ratio to a bare ASGI application on the same uvicorn.

The server has one core, the load generator (wrk) another. The peer is measured before and after each load,
for a second, and the ratio is taken to the mean of the two: what slows the machine down slows both. Of the
rounds' ratios the median counts. A ratio of batches is one of *tasks* a second to the peer's requests a
second.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import services, traffic, wrk
from benchmarks.benchmark import Rows, Scale, Tables
from benchmarks.progress import step
from benchmarks.services import Server
from benchmarks.statistic import median
from benchmarks.wrk import Load


@dataclass(frozen=True)
class Operation:
    """What is measured, and what has to be there."""

    name: str
    size: int
    """Tasks a request."""
    prepared: str = ""
    """The state in which its tasks have to be: nothing, pending or active."""
    expected: float = 1.0
    """The ratio up to which tasks are prepared; a load that comes to their end is repeated with more."""
    seconds: int = 2


OPERATIONS = (
    Operation("insert", 1),
    Operation("claim", 1, "pending"),
    Operation("commit", 1, "active"),
    Operation("insert batch", 1000, seconds=3),
    # Half as long: so many tasks a second have to be prepared.
    Operation("claim batch", 100, "pending", 5.0, 1),
    Operation("commit batch", 100, "active", 3.5, 1),
)


@dataclass(frozen=True)
class Sizes:
    """How much is measured of an engine."""

    connections: tuple[int, ...]
    rounds: int
    operations: tuple[Operation, ...] = OPERATIONS


SIZES: dict[Scale, dict[str, Sizes]] = {
    Scale.SMOKE: {"memdb": Sizes((2,), 1, OPERATIONS[:2])},
    Scale.QUICK: {"memdb": Sizes((64,), 3)},
    Scale.FULL: {
        "memdb": Sizes((1, 16, 64, 256), 3),
        "sqlite": Sizes((1, 16, 64, 256), 2),
        "mongodb": Sizes((1, 16, 64, 256), 1),
    },
}
SINGLES = {"memdb": 1.0, "sqlite": 0.8, "mongodb": 0.15}
BATCHES = {"memdb": 1.0, "sqlite": 0.5, "mongodb": 0.06}
"""What is expected of an engine, to what is expected of memdb; it has to be about right, no more."""
LONGER = {"memdb": 1, "sqlite": 2, "mongodb": 4}
"""So many times as long are batches sent: with all connections there are tens of thousands of tasks under
way, and those that are not done at the end do not count."""
FEW = 16
"""With fewer connections the peer is slower, and batches are not: their ratios are higher ..."""
HIGHER = 2.5
"""... by about so much."""
ENOUGH = 0.95
"""A load that used up so much of what was prepared has come to its end."""


@dataclass(frozen=True)
class Measured:
    """One load, with the peer before and after it; the rate in tasks a second."""

    load: Load
    rate: float
    peer: float

    @property
    def ratio(self) -> float:
        """To the peer."""
        return self.rate / self.peer


def measure(scale: Scale) -> Tables:
    """A row for each engine, number of connections and operation."""
    sizes = SIZES[scale]
    return {
        "http-rates": [
            row for engine in services.available(list(sizes)) for row in _engine(engine, sizes[engine])
        ]
    }


def _engine(engine: str, sizes: Sizes) -> Rows:
    rows: Rows = []
    for connections in sizes.connections:
        found: dict[str, list[Measured]] = {operation.name: [] for operation in sizes.operations}
        expected = {each.name: _expected(engine, each, connections) for each in sizes.operations}
        for number in range(sizes.rounds):
            step(f"{engine}, {connections} connections, round {number + 1} of {sizes.rounds}")
            for name, measured in _round(engine, connections, sizes.operations, expected):
                found[name].append(measured)
        rows += (_row(engine, name, connections, rounds) for name, rounds in found.items())
    return rows


def _expected(engine: str, operation: Operation, connections: int) -> float:
    """The ratio up to which tasks are prepared at first."""
    if operation.size == 1:
        return operation.expected * SINGLES[engine]
    return operation.expected * BATCHES[engine] * (HIGHER if connections < FEW else 1)


def _row(engine: str, operation: str, connections: int, rounds: list[Measured]) -> dict[str, object]:
    return {
        "engine": engine,
        "operation": operation,
        "connections": connections,
        "tasks/s": median(each.rate for each in rounds),
        "bare requests/s": median(each.peer for each in rounds),
        "ratio": median(each.ratio for each in rounds),
        "p50 ms": median(each.load.p50 for each in rounds),
        "p99 ms": median(each.load.p99 for each in rounds),
        "p99.9 ms": median(each.load.p999 for each in rounds),
        "refused": sum(each.load.failed for each in rounds),
    }


def _round(
    engine: str, connections: int, operations: Sequence[Operation], expected: dict[str, float]
) -> Iterator[tuple[str, Measured]]:
    """Every operation once, on a fresh server."""
    with (
        tempfile.TemporaryDirectory() as place,
        services.bare() as bare,
        services.storage(engine, Path(place)) as flags,
        services.ratus(*flags) as server,
    ):

        def peer() -> float:
            return wrk.load(bare.address, connections, 1, ["bare", "t"]).rate

        before = peer()
        for operation in operations:
            seconds = operation.seconds * (LONGER[engine] if operation.size > 1 else 1)
            while True:
                count = int(1.4 * expected[operation.name] * before * seconds)
                count += connections * operation.size
                arguments = _prepare(server, operation, count, Path(place))
                if operation.prepared:
                    # That took a while: the machine may have another speed by now.
                    before = peer()
                load = wrk.load(server.address, connections, seconds, arguments)
                after = peer()
                rate = load.rate * operation.size
                if not operation.prepared or rate * seconds < ENOUGH * count:
                    break
                expected[operation.name] *= 2
            yield operation.name, Measured(load, rate, (before + after) / 2)
            before = after


def _prepare(server: Server, operation: Operation, count: int, folder: Path) -> list[str]:
    """Tasks in the state that an operation wants, in a topic of their own; the arguments for wrk."""
    topic = f"{operation.name.replace(' ', '-')}-{count}"
    arguments = [operation.name, topic, str(operation.size)]
    if operation.prepared:
        traffic.fill(server.port, topic, count, topic)
    if operation.prepared == "active":
        claimed = traffic.claim_all(server.port, topic, count)
        path = folder / topic
        path.write_text("".join(f"{task} {nonce}\n" for task, nonce in claimed))
        arguments.append(str(path))
    return arguments
