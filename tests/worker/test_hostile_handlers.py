"""Nothing that a handler, a log handler or an outcome does ends a slot, or makes a success of a failure."""

from __future__ import annotations

import asyncio
import itertools
import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from ratus import AsyncClient, Client, Retry, Task, TaskState
from ratus.calls.delivery import BaseDelivery
from ratus.testing import RatusServer
from tests.client.support import PATIENCE, InBackground, ScriptedServer, answer, connect

ONCE = Retry(max_attempts=1)

Raise = Callable[[], None]


class Unspeakable(Exception):
    """No text can be made of it."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class Unsayable(Exception):
    """Making its text ends the program."""

    def __str__(self) -> str:
        raise SystemExit("no text")

    __repr__ = __str__


def recurse(depth: int = 0) -> int:
    return recurse(depth + 1) + 1


def raising(error: Callable[[], BaseException]) -> Callable[[], object]:
    def run() -> object:
        raise error()

    return run


ERRORS: dict[str, Callable[[], object]] = {
    "exception": raising(lambda: ValueError("no")),
    "exit": raising(lambda: SystemExit(3)),
    "interrupt": raising(KeyboardInterrupt),
    "generator exit": raising(GeneratorExit),
    "cancelled": raising(asyncio.CancelledError),
    "stop iteration": raising(StopIteration),
    "base": raising(lambda: BaseException("bare")),
    "group": raising(lambda: BaseExceptionGroup("both", [ValueError("a"), SystemExit(1)])),
    "recursion": recurse,
    "memory": raising(MemoryError),
    "unspeakable": raising(Unspeakable),
    "unsayable": raising(Unsayable),
    "null": raising(lambda: ValueError("\x00")),
}


Handler = Callable[[Any], Any]


def run_in_threads(url: str, names: Iterable[str], handler: Handler) -> dict[str, Task]:
    with Client(url) as client, Client(url) as observer:
        observer.insert_tasks((Task(id=name, retry=ONCE) for name in names), topic="t")
        worker = InBackground(lambda: client.subscribe("t", handler))
        tasks = {name: observer.wait_for_task(name, PATIENCE) for name in names}
        client.stop()
        worker.join()
    return tasks


def run_on_loop(url: str, names: Iterable[str], handler: Handler) -> dict[str, Task]:
    async def handle(delivery: Any) -> None:
        await asyncio.sleep(0)
        handler(delivery)

    async def main() -> dict[str, Task]:
        async with AsyncClient(url) as client:
            await client.insert_tasks((Task(id=name, retry=ONCE) for name in names), topic="t")
            worker = asyncio.create_task(client.subscribe("t", handle, signals=False))
            tasks = {name: await client.wait_for_task(name, PATIENCE) for name in names}
            client.stop()
            await asyncio.wait_for(worker, PATIENCE)
        return tasks

    return asyncio.run(main())


@pytest.fixture
def check(kind: str, live: RatusServer) -> Callable[[dict[str, Handler]], dict[str, Task]]:
    """Has one slot run each of these on a task of its own: each fails its task, and the slot goes on."""
    work = run_in_threads if kind == "sync" else run_on_loop

    def check(handlers: dict[str, Handler]) -> dict[str, Task]:
        def handle(delivery: Any) -> None:
            delivery.set_result("half")
            if delivery.id != "good":
                handlers[delivery.id](delivery)

        tasks = work(live.url, [*handlers, "good"], handle)
        assert tasks.pop("good").state is TaskState.COMPLETED
        fates = {
            name: (task.state, task.outcome, task.result, task.error != "") for name, task in tasks.items()
        }
        assert fates == dict.fromkeys(handlers, (TaskState.ARCHIVED, "failed", None, True))
        return tasks

    return check


def test_whatever_is_raised_fails_the_task_and_the_slot_goes_on(check: Any) -> None:
    check({name: lambda _, fail=fail: fail() for name, fail in ERRORS.items()})


# ---- a program's logging ----------------------------------------------------------------------------


class Broken(logging.Handler):
    """A log handler that raises."""

    def __init__(self, error: Callable[[], BaseException]) -> None:
        super().__init__()
        self._error = error
        self.records = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.records += 1
        raise self._error()


@pytest.fixture
def broken() -> Iterator[Broken]:
    errors = itertools.cycle([ValueError, SystemExit, KeyboardInterrupt, asyncio.CancelledError])
    handler = Broken(lambda: next(errors)())
    logger = logging.getLogger("ratus.client")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


def fail(delivery: Any) -> None:
    raise ValueError("no")


def test_a_log_handler_that_raises_is_of_no_matter(check: Any, broken: Broken) -> None:
    check({str(number): fail for number in range(8)})
    assert broken.records >= 8


def test_a_log_handler_that_raises_does_not_stop_polling_extending_or_committing(
    kind: str, live: RatusServer, broken: Broken, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Everything that the worker says on the way is said once: it cannot claim, extend or commit at first.
    with connect(kind, live.url) as client, Client(live.url) as observer:
        inner = client if kind == "sync" else client._target
        observer.insert_task(Task(id="1", topic="t"))
        trouble(
            monkeypatch,
            inner,
            kind,
            "/promises ",
            "PATCH /v1/topics//tasks ",
            "PATCH /v1/topics//promises/1 ",
        )
        worker = InBackground(
            lambda: client.subscribe("t", lambda delivery: extended(delivery), timeout="600ms")
        )
        assert observer.wait_for_task("1", PATIENCE).state is TaskState.COMPLETED
        client.stop()
        worker.join()
    assert broken.records >= 2


def extended(delivery: Any) -> None:
    first = delivery.deadline
    for _ in range(2_000):
        if delivery.deadline > first:
            return
        threading.Event().wait(0.005)


def trouble(monkeypatch: pytest.MonkeyPatch, client: Any, kind: str, *requests: str) -> None:
    """The first of each of these requests is answered by 503."""
    pending = list(requests)
    real = client._transport.exchange
    unavailable = answer(503, b'{"error":{"code":503,"message":"service unavailable"}}')

    def is_refused(data: bytes) -> bool:
        line = data.partition(b"\r\n")[0].decode()
        for each in pending:
            if each in line:
                pending.remove(each)
                return True
        return False

    def refusal() -> Any:
        from ratus.calls.http1 import ResponseReader

        reader = ResponseReader()
        reader.feed(unavailable)
        return reader.response()

    def exchange(data: bytes, *arguments: Any, **options: Any) -> Any:
        return refusal() if is_refused(data) else real(data, *arguments, **options)

    async def exchange_on_loop(data: bytes, *arguments: Any, **options: Any) -> Any:
        return refusal() if is_refused(data) else await real(data, *arguments, **options)

    monkeypatch.setattr(client._transport, "exchange", exchange if kind == "sync" else exchange_on_loop)


def test_a_log_filter_that_raises_is_of_no_matter(check: Any) -> None:
    def refuse(record: logging.LogRecord) -> bool:
        raise ZeroDivisionError

    logger = logging.getLogger("ratus.client")
    logger.addFilter(refuse)
    try:
        check({"bad": fail})
    finally:
        logger.removeFilter(refuse)


def test_what_a_log_handler_raises_is_shown(check: Any, capsys: pytest.CaptureFixture[str]) -> None:
    handler = Broken(lambda: ZeroDivisionError("in the log handler"))
    logger = logging.getLogger("ratus.client")
    logger.addHandler(handler)
    try:
        check({"bad": fail})
    finally:
        logger.removeHandler(handler)
    assert "in the log handler" in capsys.readouterr().err


# ---- outcomes ---------------------------------------------------------------------------------------


def test_a_nonce_that_is_no_text_is_refused_where_it_is_set(check: Any) -> None:
    nonces = {"object": object(), "none": None, "number": 3, "bytes": b"n", "surrogate": "\ud800"}
    tasks = check({name: lambda d, nonce=nonce: d.set_nonce(nonce) for name, nonce in nonces.items()})
    assert "surrogate" in tasks.pop("surrogate").error
    assert all("TypeError: nonce: it must be text" in task.error for task in tasks.values())


def test_an_outcome_that_cannot_be_written_is_a_failure(check: Any) -> None:
    check(
        {
            "object": lambda delivery: delivery._set("result", object()),
            "surrogate": lambda delivery: delivery._set("result", "\ud800"),
            "nonce": lambda delivery: setattr(delivery, "_nonce", object()),
            "changes": lambda delivery: setattr(delivery, "_changes", 3),
        }
    )


def test_a_failure_whose_text_cannot_be_made_is_a_failure(
    check: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(BaseDelivery, "fail", broken)
    monkeypatch.setattr("traceback.format_exception", broken)
    check({"bad": fail})


def test_an_outcome_that_the_server_refuses_by_itself_is_a_failure(kind: str) -> None:
    # Some engines cannot keep what others can: one commit of a batch is refused, not the batch.
    claimed = answer(200, b'{"data":[{"_id":"1","topic":"t","nonce":"n"}]}')
    empty = answer(404, b'{"error":{"code":404,"message":"not found"}}')
    commits: list[bytes] = []
    failed = threading.Event()

    def script() -> Iterator[bytes]:
        handed_out = False
        while True:
            request = server.requests[-1]
            if b"/promises " in request:
                yield empty if handed_out else claimed
                handed_out = True
                continue
            commits.append(request.partition(b"\r\n\r\n")[2])
            if len(commits) == 1:
                yield answer(
                    200,
                    b'{"data":[{"_id":"1","status":413,"error":{"code":413,"message":"content too large"}}]}',
                )
            else:
                failed.set()
                yield answer(200, b'{"data":[{"_id":"1","status":200,"task":{"_id":"1"}}]}')

    with ScriptedServer(script()) as server, connect(kind, server.url) as client:
        worker = InBackground(lambda: client.subscribe("t", lambda delivery: delivery.set_result("large")))
        assert failed.wait(PATIENCE)
        client.stop()
        worker.join()
    assert b'"result":"large"' in commits[0]
    assert b"could not be committed: content too large" in commits[1]


# ---- from outside -----------------------------------------------------------------------------------


# The exception waits until its thread runs again, in a task's handler. While it waits, Python 3.11 under a
# tracer such as coverage runs the same instruction over and over in every other thread: hence a program of
# its own, which none traces.
EXCEPTIONS_BETWEEN_TASKS = """
import ctypes, sys, threading
from ratus import Client, Task, TaskState

url, patience = sys.argv[1], float(sys.argv[2])
slots = []
with Client(url) as client, Client(url) as observer:
    worker = threading.Thread(
        target=client.subscribe, args=("t", lambda delivery: slots.append(threading.get_ident()))
    )
    worker.start()
    for number in range(4):
        if slots:
            # It is raised when the thread runs again: now it waits for the next task.
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(slots[0]), ctypes.py_object(SystemExit))
        observer.insert_task(Task(id=str(number), topic="t"))
        assert observer.wait_for_task(str(number), patience).state is TaskState.COMPLETED
    client.stop()
    worker.join()
assert len(slots) == 4 and len(set(slots)) == 1, slots
"""


def test_an_exception_that_another_thread_sets_does_not_end_a_slot(live: RatusServer) -> None:
    program = [sys.executable, "-c", EXCEPTIONS_BETWEEN_TASKS, live.url, str(PATIENCE)]
    ended = subprocess.run(program, capture_output=True, text=True, timeout=5 * PATIENCE, check=False)
    assert ended.returncode == 0, ended.stderr


def test_a_handler_that_leaves_no_room_for_calls_does_not_end_a_slot(check: Any) -> None:
    def deep(levels: int) -> None:
        if levels:
            deep(levels - 1)
        else:
            raise ValueError("at the bottom")

    def almost(delivery: Any) -> None:
        levels = sys.getrecursionlimit()
        while levels:
            try:
                deep(levels)
            except RecursionError:
                levels -= 1

    check({"bad": almost})
