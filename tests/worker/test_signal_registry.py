"""Signals reach every worker of a process, a program keeps its handlers, and forked children have none."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ratus import Client, Task, TaskState
from ratus.testing import RatusServer
from tests.client.support import PATIENCE

ROOT = Path(__file__).parents[2]

COMMON = """
import asyncio, multiprocessing, os, signal, sys, threading, time
import uvloop
from ratus import AsyncClient, Client, Task

URL, LOOP = sys.argv[1], sys.argv[2]
run = uvloop.run if LOOP == "uvloop" else asyncio.run
fork = multiprocessing.get_context("fork")

def say(*words):
    print(*words, flush=True)

def kill(number=signal.SIGTERM):
    os.kill(os.getpid(), number)

def handlers():
    return [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]

async def until(condition):
    for _ in range(6_000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise SystemExit("it did not come about")
"""

TWO = """
async def main():
    before = handlers()
    async with AsyncClient(URL) as one, AsyncClient(URL) as other:
        workers = [asyncio.create_task(each.subscribe("t", nothing)) for each in (one, other)]
        await until(lambda: handlers() != before)
        await asyncio.sleep(0)
        kill(signal.SIGTERM)
        await asyncio.wait_for(asyncio.gather(*workers), 30)
        say("drained")
    assert handlers() == before
    say("restored")

async def nothing(delivery):
    pass

run(main())
"""

FIRST_ENDS = """
async def main():
    before = handlers()
    async with AsyncClient(URL) as one, AsyncClient(URL) as other:
        first = asyncio.create_task(one.subscribe("t", nothing))
        second = asyncio.create_task(other.subscribe("t", nothing))
        await until(lambda: handlers() != before)
        one.stop()
        await asyncio.wait_for(first, 30)
        assert handlers() != before
        kill(signal.SIGINT)
        await asyncio.wait_for(second, 30)
        say("drained")
    assert handlers() == before
    say("restored")

async def nothing(delivery):
    pass

run(main())
"""

OWN_ON_LOOP = """
async def main():
    loop = asyncio.get_running_loop()
    heard = []
    loop.add_signal_handler(signal.SIGTERM, lambda: heard.append("own"))
    loop.add_signal_handler(signal.SIGUSR1, lambda: heard.append("other"))
    async with AsyncClient(URL) as ratus:
        worker = asyncio.create_task(ratus.subscribe("t", nothing))
        await asyncio.sleep(0.1)
        kill(signal.SIGUSR1)
        await until(lambda: heard == ["other"])
        kill(signal.SIGTERM)
        await asyncio.wait_for(worker, 30)
        say("drained")
        await until(lambda: heard == ["other", "own"])
        kill(signal.SIGTERM)
        await until(lambda: heard == ["other", "own", "own"])
        say("kept")
    assert loop.remove_signal_handler(signal.SIGTERM)

async def nothing(delivery):
    pass

run(main())
"""

OWN_IN_PYTHON = """
heard = []
signal.signal(signal.SIGTERM, lambda *_: heard.append("own"))
before = handlers()

def stop(delivery):
    kill(signal.SIGTERM)

async def stop_async(delivery):
    kill(signal.SIGTERM)

async def main():
    inside = handlers()
    async with AsyncClient(URL) as ratus:
        await ratus.insert_task(Task(id="2", topic="t"))
        await ratus.subscribe("t", stop_async)
    assert handlers() == inside

with Client(URL) as ratus:
    ratus.insert_task(Task(id="1", topic="t"))
    ratus.subscribe("t", stop)
assert handlers() == before
run(main())
assert handlers() == before
say("drained")
kill(signal.SIGTERM)
assert heard == ["own"], heard
say("restored")
"""

TAKEN_OVER = """
async def main():
    async with AsyncClient(URL) as ratus:
        worker = asyncio.create_task(ratus.subscribe("t", nothing))
        await asyncio.sleep(0.1)
        mine = lambda *_: ratus.stop()
        signal.signal(signal.SIGTERM, mine)  # the program has decided otherwise
        kill(signal.SIGTERM)
        await asyncio.wait_for(worker, 30)
        say("drained")
        assert signal.getsignal(signal.SIGTERM) is mine
        say("kept")

async def nothing(delivery):
    pass

run(main())
"""


@pytest.fixture
def program(live: RatusServer) -> Callable[..., str]:
    """Runs a program in a process of its own; what it prints."""

    def run(text: str, loop: str = "asyncio") -> str:
        ended = subprocess.run(
            [sys.executable, "-c", COMMON + text, live.url, loop],
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE,
            env={
                **os.environ,
                "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'engines'}",
                "PYTHONWARNINGS": "error",
            },
            check=False,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    return run


LOOPS = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])


@LOOPS
def test_a_signal_drains_every_worker_of_a_loop(program: Callable[..., str], loop: str) -> None:
    assert program(TWO, loop).split() == ["drained", "restored"]


@LOOPS
def test_a_worker_that_ends_first_leaves_the_signals_to_the_others(
    program: Callable[..., str], loop: str
) -> None:
    assert program(FIRST_ENDS, loop).split() == ["drained", "restored"]


@LOOPS
def test_a_programs_own_handlers_on_the_loop_are_kept(program: Callable[..., str], loop: str) -> None:
    assert program(OWN_ON_LOOP, loop).split() == ["drained", "kept"]


def test_a_programs_own_handlers_are_restored(program: Callable[..., str]) -> None:
    assert program(OWN_IN_PYTHON).split() == ["drained", "restored"]


def test_a_handler_that_a_program_sets_meanwhile_is_kept(program: Callable[..., str]) -> None:
    assert program(TAKEN_OVER).split() == ["drained", "kept"]


# ---- handlers that fork -----------------------------------------------------------------------------

WORK = """
def pool(delivery):
    with fork.Pool(2) as made:
        assert made.map(abs, [-1, 2]) == [1, 2]
    made.join()  # which sends SIGTERM, and waits

def terminate(delivery):
    child = fork.Process(target=time.sleep, args=(3_600,))
    child.start()
    child.terminate()
    child.join(30)
    assert child.exitcode == -signal.SIGTERM, child.exitcode

def interrupt(delivery):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, b"up")
        time.sleep(3_600)
    os.read(reader, 2)
    os.close(reader)
    os.close(writer)
    ended = (0, 0)
    while ended == (0, 0):
        os.kill(child, signal.SIGINT)  # more than once: it may come just before the child sleeps
        time.sleep(0.02)
        ended = os.waitpid(child, os.WNOHANG)
    assert os.waitstatus_to_exitcode(ended[1]) == 1

def returns(delivery):
    child = os.fork()
    if child:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

def exits(delivery):
    child = os.fork()
    if not child:
        sys.exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7

def raises(delivery):
    child = os.fork()
    if not child:
        sys.stderr = open(os.devnull, "w")
        raise ValueError("in the child")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1

def wakes(delivery):
    # A signal for the child must not arrive at the parent, by way of a descriptor that both have.
    def report(writer):
        os.write(writer, repr((signal.set_wakeup_fd(-1), handlers())).encode())
    reader, writer = os.pipe()
    child = fork.Process(target=report, args=(writer,))
    child.start()
    child.join(30)
    seen = os.read(reader, 1_000).decode()
    os.close(reader)
    os.close(writer)
    assert seen == repr((-1, [signal.SIG_DFL, signal.default_int_handler])), seen

WORKS = {each.__name__: each for each in (pool, terminate, interrupt, returns, exits, raises, wakes)}

def handle(delivery):
    WORKS[delivery.id](delivery)
"""

FORKS_IN_THREADS = (
    WORK
    + """
with Client(URL) as ratus, Client(URL) as observer:
    def finish():
        for name in WORKS:
            task = observer.wait_for_task(name, 40)
            say(name, task.state.name, task.error)
        kill(signal.SIGTERM)

    observer.insert_tasks((Task(id=name) for name in WORKS), topic="t")
    threading.Thread(target=finish).start()
    ratus.subscribe("t", handle)
say("drained")
"""
)

FORKS_ON_LOOP = (
    WORK
    + """
async def handle_async(delivery):
    handle(delivery)

async def main():
    async with AsyncClient(URL) as ratus:
        # With this the loop has a wake-up descriptor, which children inherit.
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, print)
        await ratus.insert_tasks((Task(id=name) for name in WORKS), topic="t")
        worker = asyncio.create_task(ratus.subscribe("t", handle_async))
        for name in WORKS:
            task = await ratus.wait_for_task(name, 40)
            say(name, task.state.name, task.error)
        assert not worker.done()
        kill(signal.SIGTERM)
        await asyncio.wait_for(worker, 30)
    say("drained")

run(main())
"""
)

WORKS = ("pool", "terminate", "interrupt", "returns", "exits", "raises", "wakes")


@pytest.mark.parametrize("text", [FORKS_IN_THREADS, FORKS_ON_LOOP], ids=["sync", "async"])
def test_handlers_may_fork(program: Callable[..., str], live: RatusServer, text: str) -> None:
    # A program that forks beside threads is warned by newer Pythons; that is its own affair.
    output = program("import warnings\nwarnings.simplefilter('ignore')\n" + text)
    assert output.splitlines() == [*(f"{name} COMPLETED " for name in WORKS), "drained"]
    with Client(live.url) as observer:
        tasks: list[Task] = list(observer.iter_tasks("t"))
    assert [(task.state, task.attempts) for task in tasks] == [(TaskState.COMPLETED, 1)] * len(WORKS)
