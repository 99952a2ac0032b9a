"""A worker in a process of its own: SIGTERM and Ctrl-C drain it, a second signal does not wait any longer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ratus import Client, Task
from ratus.testing import RatusServer
from tests.client.support import PATIENCE

ROOT = Path(__file__).parents[2]

SYNC = """
import sys, time
from ratus import Client

def handle(delivery):
    print("begun", flush=True)
    time.sleep(float(delivery.payload))
    print("ended", flush=True)

with Client(sys.argv[1]) as ratus:
    ratus.subscribe("t", handle, grace="30s")
print("drained", flush=True)
"""

ASYNC = """
import asyncio, sys
from ratus import AsyncClient

async def handle(delivery):
    print("begun", flush=True)
    await asyncio.sleep(float(delivery.payload))
    print("ended", flush=True)

async def main():
    async with AsyncClient(sys.argv[1]) as ratus:
        await ratus.subscribe("t", handle, grace="30s")
    print("drained", flush=True)

asyncio.run(main())
"""


@pytest.fixture(params=[SYNC, ASYNC], ids=["sync", "async"])
def worker(request: pytest.FixtureRequest, live: RatusServer) -> Iterator[subprocess.Popen[str]]:
    """A worker of each kind in turn."""
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'engines'}",
        "PYTHONWARNINGS": "error",
    }
    process = subprocess.Popen(
        [sys.executable, "-c", request.param, live.url],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )
    yield process
    process.kill()
    process.communicate()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_what_runs_finish(
    worker: subprocess.Popen[str], live: RatusServer, number: signal.Signals
) -> None:
    with Client(live.url) as client:
        client.insert_tasks([Task(id="1", payload=0.3), Task(id="2", payload=0.3)], topic="t")
        assert line(worker) == "begun"
        worker.send_signal(number)
        output, _ = worker.communicate(timeout=PATIENCE)
        assert output.split() == ["ended", "drained"]
        assert worker.returncode == 0
        states = client.get_topic("t").states
        assert states is not None
        assert (states.completed, states.pending, states.active) == (1, 1, 0)


def test_a_second_signal_ends_the_grace_period(worker: subprocess.Popen[str], live: RatusServer) -> None:
    with Client(live.url) as client:
        client.insert_task(Task(id="1", topic="t", payload=3_600))
        assert line(worker) == "begun"
        begun = time.monotonic()
        worker.send_signal(signal.SIGTERM)
        # Two signals of one kind at once would be one.
        time.sleep(0.3)
        worker.send_signal(signal.SIGINT)
        output, _ = worker.communicate(timeout=PATIENCE)
        assert "drained" in output
        assert time.monotonic() - begun < 25  # the grace period is 30 s
        task = client.get_task("1")
        assert (task.state, task.attempts) == (0, 0)


def test_an_idle_worker_ends_at_once(worker: subprocess.Popen[str], live: RatusServer) -> None:
    with Client(live.url) as client:
        client.insert_task(Task(id="1", topic="t", payload=0))
        assert [line(worker), line(worker)] == ["begun", "ended"]
        begun = time.monotonic()
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(PATIENCE) == 0
        assert time.monotonic() - begun < 25  # the grace period is 30 s
