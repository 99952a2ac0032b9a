"""Workers that are killed or stopped while functions run: every job is run to its end, no attempt twice."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from ratus import App, TaskState
from ratus.testing import RatusServer
from tests.app import program
from tests.app.support import PATIENCE

SHOP = """
def note(n: int, worker: int) -> None:
    # One write to a file that is opened to append is whole.
    with open("runs.txt", "ab", buffering=0) as file:
        file.write(b"%s %d\\n" % (current().id.encode(), current().attempts))
    if n % 13 == 5 and current().attempts == 1:
        try:  # once for each worker: a second signal ends its grace period, and gives back what has begun
            open(f"{worker}.signalled", "x").close()
        except FileExistsError:
            return
        os.kill(worker, SIGNAL)


@app.task(name="thread", topic="thread")
def in_thread(n: int) -> int:
    note(n, os.getpid())
    return n * n


@app.task(name="coroutine", topic="coroutine")
async def coroutine(n: int) -> int:
    note(n, os.getpid())
    await asyncio.sleep(0)
    return n * n


@app.task(name="process", topic="process", executor="process")
def in_process(n: int) -> int:
    note(n, os.getppid())
    return n * n
"""

JOBS = 40


@pytest.mark.parametrize("number", ["SIGKILL", "SIGTERM"])
@pytest.mark.parametrize("kind", ["thread", "coroutine", "process"])
def test_every_job_is_run_to_its_end(kind: str, number: str, live: RatusServer, tmp_path: Path) -> None:
    program.write(tmp_path, SHOP.replace("SIGNAL", f"signal.{number}"))
    with App(live.url) as app:

        @app.task(name=kind, topic=kind)
        def square(n: int) -> int: ...  # type: ignore[empty-body]

        jobs = square.push_many((n,) for n in range(JOBS))
        flags = ("--processes", "2", "--concurrency", "4", "--timeout", "2s", "--topics", kind)
        with program.worker(tmp_path, live.url, "shop", *flags) as worker:
            results = [job.result(PATIENCE) for job in jobs]
            assert worker.stop() == 0
        assert results == [n * n for n in range(JOBS)]
        runs = Counter((tmp_path / "runs.txt").read_text().splitlines())
        assert {line.split()[0] for line in runs} == {job.id for job in jobs}
        assert set(runs.values()) == {1}, "an attempt was run twice"
        with live.client() as client:
            tasks = list(client.iter_tasks(kind))
        assert {task.state for task in tasks} == {TaskState.COMPLETED}
        if number == "SIGTERM":  # no claim has lapsed: what ran was finished, the rest given back
            assert {task.attempts for task in tasks} == {1}
            assert len(runs) == JOBS
