"""Tasks that do nothing, pushed and then executed by one worker process; the server on one core, the worker
on the other. Against taskiq, dramatiq, huey, arq, celery and rq on redis-server, in the same run:

    python -m benchmarks.end_to_end.worker_throughput                 # 20,000 tasks, one round
    python -m benchmarks.end_to_end.worker_throughput --tasks 100000 --rounds 3
    python -m benchmarks.end_to_end.worker_throughput --server "--engine sqlite --sqlite-path queue.db"

Counted is from the first task executed to the last, without the start of the worker; with Ratus until the
last commit is acknowledged. Peers are installed into virtualenvs of their own, once.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.end_to_end.queues import PEERS, RATUS, Queue
from benchmarks.table import show

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = Path(__file__).parent / "peers"

SERVER_CORE = "0"
WORKER_CORE = "1"

PATIENCE = 300.0
"""Seconds that the slowest may take."""


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=1, help="of which the median is shown")
    parser.add_argument("--only", nargs="+", default=[""], help="only queues whose names begin so")
    parser.add_argument("--server", default="", help="more flags for the Ratus server")
    parser.add_argument(
        "--venvs", type=Path, default=Path(tempfile.gettempdir()) / "ratus-peers", help="where peers are kept"
    )
    given = parser.parse_args()
    queues = [queue for queue in (*RATUS, *PEERS) if queue.name.startswith(tuple(given.only))]
    with tempfile.TemporaryDirectory() as folder:
        rounds = [
            {queue.name: measure(queue, given, Path(folder)) for queue in queues} for _ in range(given.rounds)
        ]
    best = max((median(rounds, peer.name, "executed") for peer in PEERS if peer in queues), default=None)
    rows = []
    for queue in queues:
        executed = median(rounds, queue.name, "executed")
        row: dict[str, Any] = {
            "queue": queue.name,
            "pushed/s": round(median(rounds, queue.name, "pushed")),
            "executed/s": round(executed),
        }
        if best:
            row["times the best peer"] = f"{executed / best:.2f}"
        rows.append(row)
    show(f"{given.tasks:,} tasks that do nothing, one worker process {given.server}".strip(), rows)


def median(rounds: list[dict[str, dict[str, float]]], name: str, figure: str) -> float:
    """The median of a figure over the rounds."""
    return statistics.median(each[name][figure] for each in rounds)


def measure(queue: Queue, given: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Push and execute once; tasks pushed and executed per second."""
    tasks = max(2, int(given.tasks * queue.share))
    programs = own_programs() if queue in RATUS else install(queue, given.venvs)
    server = ratus_server(shlex.split(given.server), folder) if queue in RATUS else redis_server(folder)
    with server as port:
        result = folder / "result.json"
        result.unlink(missing_ok=True)
        environment = {
            **os.environ,
            **queue.environment,
            "BENCH_TASKS": str(tasks),
            "BENCH_RESULT": str(result),
            "BENCH_PORT": str(port),
            "BENCH_URL": f"http://127.0.0.1:{port}",
            "PYTHONPATH": os.pathsep.join(
                [str(PROGRAMS), *([str(ROOT), str(ROOT / "engines")] if queue in RATUS else [])]
            ),
        }
        begun = time.perf_counter()
        subprocess.run(
            pinned(WORKER_CORE, programs / "python", "-c", f"import {queue.module} as m; m.push()"),
            env=environment,
            cwd=PROGRAMS,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        pushing = time.perf_counter() - begun
        seconds = execute(queue, programs, environment, result, folder)
    print(f"{queue.name}: {tasks:,} tasks in {seconds:.2f} s", file=sys.stderr, flush=True)
    return {"pushed": tasks / pushing, "executed": tasks / seconds}


def execute(
    queue: Queue, programs: Path, environment: Mapping[str, str], result: Path, folder: Path
) -> float:
    """Run the worker until everything is executed; the seconds that took."""
    log = folder / "worker.log"
    with log.open("wb") as output:
        worker = subprocess.Popen(
            pinned(WORKER_CORE, programs / queue.worker[0], *queue.worker[1:]),
            env=environment,
            cwd=PROGRAMS,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + PATIENCE
        while not result.exists():
            if time.monotonic() > deadline or (worker.poll() is not None and not result.exists()):
                raise SystemExit(f"{queue.name} did not get to the end:\n{log.read_text()[-3_000:]}")
            time.sleep(0.05)
        seconds: float = json.loads(result.read_text())["seconds"]
        return seconds
    finally:
        stop(worker)


def stop(process: subprocess.Popen[Any]) -> None:
    """End a process that this started."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def pinned(core: str, *command: str | Path) -> list[str]:
    """The command on one core, where the system can do that."""
    taskset = shutil.which("taskset")
    return [*([taskset, "-c", core] if taskset else []), *map(str, command)]


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def serving(command: list[str], port: int, **options: Any) -> Iterator[int]:
    """A server, once its port answers."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)
    try:
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the server did not start: {shlex.join(command)}")
            time.sleep(0.05)
        yield port
    finally:
        stop(process)


def redis_server(folder: Path) -> contextlib.AbstractContextManager[int]:
    """Redis in memory, as our memory engine is."""
    program = shutil.which("redis-server")
    if program is None:
        raise SystemExit("the peers need redis-server; install it, or measure --only ratus")
    port = free_port()
    flags = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
    return serving([*pinned(SERVER_CORE, program), *flags], port, cwd=folder)


def ratus_server(flags: list[str], folder: Path) -> contextlib.AbstractContextManager[int]:
    """Ratus, in a folder of its own, so that a database begins empty."""
    port = free_port()
    directory = Path(tempfile.mkdtemp(dir=folder))
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'engines'}"}
    command = pinned(
        SERVER_CORE, sys.executable, "-m", "ratus", "--bind", "127.0.0.1", "--port", str(port), *flags
    )
    return serving(pinned(SERVER_CORE, *command), port, cwd=directory, env=environment)


def own_programs() -> Path:
    """Where this interpreter is."""
    return Path(sys.executable).parent


def install(queue: Queue, venvs: Path) -> Path:
    """The programs of a peer's virtualenv, which is made where it is not there yet."""
    venv = venvs / queue.module
    programs = venv / "bin"
    if not (venv / "complete").exists():
        print(f"installing {', '.join(queue.packages)}", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True)
        subprocess.run([programs / "pip", "install", "-qq", *queue.packages], check=True)
        (venv / "complete").touch()
    return programs


if __name__ == "__main__":
    main()
