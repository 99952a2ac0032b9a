"""Claims by labels, in turns and under limits: what do they cost beside a plain one, and does that grow?

Once with very many tasks of one value of a label, which a limit closes, and once with very many values. Every
claimed task is completed and replaced by another like it, so the number stays. Only the claims are measured,
one after the other; a plain one is of a topic without labels in the same engine, measured before and after
the others. Each case runs in a process of its own.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import growth, processes
from benchmarks.benchmark import Row, Rows, Scale, Tables
from benchmarks.processes import SERVER_CORE
from benchmarks.progress import step
from ratus.core.records import CommitRecord, Rare, TaskRecord
from ratus.core.selection import Selection, Where
from ratus.core.turns import Limits, PerLabel
from ratus.engine import Engine

NOW, HOUR = growth.NOW, growth.HOUR
LABEL = "customer"
OTHERS = 100
"""Values beside the one that has very many tasks."""
OF_OTHERS = 10
"""Tasks of each of these."""

SIZES: dict[Scale, dict[str, tuple[int, ...]]] = {
    Scale.SMOKE: {"memdb": (200,), "sqlite": (200,)},
    Scale.QUICK: {"memdb": (1_000, 100_000)},  # only when it is asked for by its name
    Scale.FULL: {"memdb": (1_000, 1_000_000), "sqlite": (1_000, 1_000_000)},
}
MEASURED = {"memdb": 2_000, "sqlite": 300}
SHAPES = ("tasks of one value", "values")


def measure(scale: Scale) -> Tables:
    """A row for each engine, shape, size and kind of claim."""
    rows: Rows = []
    for engine, sizes in SIZES[scale].items():
        for shape in SHAPES:
            for size in sizes:
                step(f"{engine} with {size:,} {shape}")
                with tempfile.TemporaryDirectory() as place:
                    where = str(Path(place) / "ratus.db")
                    core = SERVER_CORE if engine == "memdb" else None  # the writer of sqlite is a thread
                    rows += processes.call("benchmarks.lanes", engine, shape, size, where, core=core)
    return {"lanes": rows}


def _task(name: str, value: str, topic: str = "lanes") -> TaskRecord:
    rare = Rare(labels=b'{"%s":"%s"}' % (LABEL.encode(), value.encode())) if value else None
    return TaskRecord(
        name, topic, NOW, NOW - HOUR + int(name.split("-")[1]), payload=growth.PAYLOAD, rare=rare
    )


async def _fill(engine: Engine, shape: str, size: int) -> None:
    """Insert the tasks, and as many without labels as are claimed at a time in a topic of their own."""
    count = OTHERS * OF_OTHERS
    await engine.insert([_task(f"plain-{n}", "", "plain") for n in range(count)], NOW)
    for start in range(0, size, growth.BATCH):
        numbers = range(start, min(start + growth.BATCH, size))
        values = ("large" if shape == SHAPES[0] else f"value-{n}" for n in numbers)
        await engine.insert([_task(f"task-{n}", v) for n, v in zip(numbers, values, strict=True)], NOW)
    if shape == SHAPES[0]:
        await engine.insert([_task(f"other-{n}", f"value-{n % OTHERS}") for n in range(count)], NOW)


async def _claims(engine: Engine, selection: Selection, count: int, kind: str) -> list[float]:
    """The microseconds of claims one after the other. Each task is completed and replaced."""
    times = []
    for number in range(count):
        started = time.perf_counter()
        (task,) = await engine.claim(selection, NOW)
        times.append((time.perf_counter() - started) * 1e6)
        task_id, nonce, topic, rare = task.id, task.nonce, task.topic, task.rare
        await engine.commit([CommitRecord(task_id, nonce)], NOW)
        await engine.delete_task(task_id)
        scheduled = NOW - count + number
        new = TaskRecord(f"{kind}-{number}", topic, NOW, scheduled, payload=growth.PAYLOAD, rare=rare)
        await engine.insert([new], NOW)
    return times


async def _case(name: str, shape: str, size: int, where: str) -> Rows:
    """Every kind of claim among so many tasks or values."""
    engine = growth.make(name, where)
    await engine.open(NOW)
    await _fill(engine, shape, size)
    deadline, count = NOW + HOUR, min(MEASURED[name], size // 2)
    found: dict[str, list[float]] = {}

    async def claims(kind: str, selection: Selection, times: str = "first") -> None:
        found.setdefault(kind, []).extend(await _claims(engine, selection, count, f"{kind} {times}"))

    lanes = ("lanes",)
    await claims("plain", Selection(("plain",), deadline))
    await claims("where", Selection(lanes, deadline, where=Where(LABEL, ("value-7",))))
    await engine.list_lanes("lanes", LABEL, None, 1, NOW)  # returns when the lanes have been built
    await claims("prefer", Selection(lanes, deadline, prefer=(LABEL,)))
    await claims("prefer, newest", Selection(lanes, deadline, order="newest", prefer=(LABEL,)))
    if shape == SHAPES[0]:
        await engine.claim(Selection(lanes, deadline, where=Where(LABEL, ("large",))), NOW)
    await engine.change_settings("lanes", limits=Limits(per=PerLabel(LABEL, concurrency=1)))
    await engine.list_lanes("lanes", LABEL, None, 1, NOW)
    await claims("limits per label", Selection(lanes, deadline))
    await claims("plain", Selection(("plain",), deadline), "last")
    await engine.close(NOW)
    costs = {kind: statistics.median(times) for kind, times in found.items()}
    return [_row(name, shape, size, kind, cost, costs["plain"]) for kind, cost in costs.items()]


def _row(engine: str, shape: str, size: int, kind: str, cost: float, plain: float) -> Row:
    return {
        "engine": engine,
        "among": shape,
        "number": size,
        "claim": kind,
        "p50 us": cost,
        "to a plain one": cost / plain,
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_case(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]))))
