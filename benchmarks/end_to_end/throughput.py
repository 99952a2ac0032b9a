"""Tasks that do nothing, pushed and then executed by one worker process: Ratus beside other queues.

What keeps the tasks has one core, the program that pushes and the worker have the other. Counted is from
the first task executed to the last, without the start of the worker; with Ratus until the last commit is
acknowledged. Queues are installed into virtualenvs of their own, once, and started from Debian's packages.

    python -m benchmarks.end_to_end.throughput celery rq            only these, and ratus
    python -m benchmarks.end_to_end.throughput --tasks 100000
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import processes, services
from benchmarks.benchmark import Rows, Scale, Tables, Unavailable
from benchmarks.end_to_end.queues import QUEUES, Queue
from benchmarks.processes import LOAD_CORE
from benchmarks.progress import step
from benchmarks.statistic import median
from benchmarks.table import show

PROGRAMS = Path(__file__).parent / "peers"
PATIENCE = 120.0
"""Seconds that the slowest may take."""


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    tasks: int
    rounds: int
    queues: tuple[str, ...] = ("",)
    """Beginnings of names."""


SIZES = {
    Scale.SMOKE: Sizes(40, 1, ("ratus memdb, asyncio",)),
    Scale.QUICK: Sizes(20_000, 1),
    Scale.FULL: Sizes(100_000, 2),
}


def measure(scale: Scale) -> Tables:
    """A row for each queue; those whose server is not here are left out."""
    return compare(SIZES[scale])


def compare(sizes: Sizes) -> Tables:
    """Every queue once a round."""
    queues = [queue for queue in QUEUES if queue.name.startswith(sizes.queues)]
    found: dict[str, list[tuple[float, float]]] = {}
    for number in range(sizes.rounds):
        for queue in list(queues):
            step(f"{queue.name}, round {number + 1} of {sizes.rounds}")
            try:
                found.setdefault(queue.name, []).append(_once(queue, sizes.tasks))
            except Unavailable as error:
                step(f"{queue.name} is left out: {error}")
                queues.remove(queue)
    executed = {queue.name: median(rate for _, rate in found[queue.name]) for queue in queues}
    best = max((executed[queue.name] for queue in queues if not queue.is_ours), default=None)
    rows: Rows = [
        {
            "queue": queue.name,
            "version": _version(queue),
            "survives a power cut": queue.durable,
            "pushed/s": round(median(rate for rate, _ in found[queue.name])),
            "executed/s": round(executed[queue.name]),
            "to the best other": executed[queue.name] / best if best else None,
        }
        for queue in queues
    ]
    return {"end-to-end": sorted(rows, key=lambda row: -int(row["executed/s"]))}


def _once(queue: Queue, tasks: int) -> tuple[float, float]:
    """Push and execute once; tasks pushed and executed per second."""
    tasks = max(20, int(tasks * queue.share))
    programs = Path(sys.executable).parent if queue.is_ours else _install(queue)
    with tempfile.TemporaryDirectory() as place, _server(queue.server, Path(place)) as port:
        folder = Path(place)
        environment = {
            **os.environ,
            **queue.environment,
            "BENCH_TASKS": str(tasks),
            "BENCH_RESULT": str(folder / "result.json"),
            "BENCH_PORT": str(port),
            "BENCH_URL": f"http://127.0.0.1:{port}",
            "PYTHONPATH": os.pathsep.join(
                [str(PROGRAMS), *([processes.environment()["PYTHONPATH"]] if queue.is_ours else [])]
            ),
        }
        push = [programs / "python", "-c", f"import {queue.module} as m; m.push()"]
        begun = time.perf_counter()
        processes.run(push, LOAD_CORE, env=environment, cwd=folder)
        pushing = time.perf_counter() - begun
        seconds = _execute(queue, programs, environment, folder)
    return tasks / pushing, tasks / seconds


def _execute(queue: Queue, programs: Path, environment: Mapping[str, str], folder: Path) -> float:
    """Run the worker until everything is executed; the seconds that took."""
    log, result = folder / "worker.log", folder / "result.json"
    with log.open("wb") as output:
        worker = processes.start(
            [programs / queue.worker[0], *queue.worker[1:]],
            LOAD_CORE,
            env=environment,
            cwd=folder,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + PATIENCE
        while not result.exists():
            ended = worker.poll() is not None
            if time.monotonic() > deadline or (ended and not result.exists()):
                words = log.read_text(errors="replace")[-2_000:]
                raise RuntimeError(f"{queue.name} did not get to the end:\n{words}")
            time.sleep(0.02)
        seconds: float = json.loads(result.read_text())["seconds"]
        return seconds
    finally:
        processes.stop(worker)


@contextlib.contextmanager
def _server(name: str, folder: Path) -> Iterator[int]:
    """What keeps a queue's tasks; its port, 0 where there is none."""
    if name == "redis":
        with services.redis(folder) as port:
            yield port
    elif name == "postgresql":
        with services.postgresql() as port:
            yield port
    elif name == "files":
        yield 0
    else:
        engine = name.removeprefix("ratus ")
        with services.storage(engine, folder) as flags, services.ratus(*flags) as server:
            yield server.port


def _install(queue: Queue) -> Path:
    """The programs of a queue's virtualenv, which is made where it is not there yet."""
    return processes.virtualenv(processes.cache() / "queues" / queue.module, queue.packages)


def _version(queue: Queue) -> str:
    if queue.is_ours:
        return importlib.metadata.version("ratus-queue")
    package = queue.packages[0].partition("[")[0]
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    return processes.run([_install(queue) / "python", "-I", "-c", code]).strip()


def main(arguments: Sequence[str]) -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("queues", nargs="*", help="beginnings of names; all by default, ratus always")
    parser.add_argument("--tasks", type=int, default=20_000, help="for Ratus; others get a share")
    parser.add_argument("--rounds", type=int, default=1, help="of which the median is shown")
    given = parser.parse_args(arguments)
    processes.end_on_signals()
    names = ("ratus", *given.queues) if given.queues else ("",)
    for title, rows in compare(Sizes(given.tasks, given.rounds, names)).items():
        show(title, rows)


if __name__ == "__main__":
    main(sys.argv[1:])
