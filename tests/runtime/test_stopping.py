"""Stopping the service: claims that are under way are given back before the engine is closed, and a part that
hangs does not keep the engine from closing."""

from __future__ import annotations

import asyncio
import fcntl
import itertools
import logging
import os
import signal
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from ratus_engines.memdb.engine import MemdbEngine
from ratus_engines.sqlite.engine import SqliteEngine

from ratus.core.clock import SECOND, SystemClock
from ratus.core.records import PENDING, TaskRecord
from ratus.core.selection import Selection
from ratus.runtime import config
from ratus.runtime.app import build
from ratus.runtime.service import Service, StopIncomplete
from ratus.testing import START
from tests.metrics.scraping import values_of
from tests.runtime.hall import Hall
from tests.server.support import Client
from tests.servers import Api, Server, eventually, serving

pytestmark = pytest.mark.anyio


class Held(MemdbEngine):
    """Keeps the answer to each claim back until it is let go, and remembers when it was closed."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = asyncio.Event()
        self.claiming = asyncio.Event()
        self.was_pending_at_close: bool | None = None

    async def claim(self, selection: Selection, now: int) -> list[TaskRecord]:
        tasks = await super().claim(selection, now)
        self.claiming.set()
        await self.answer.wait()
        return tasks

    async def close(self, now: int) -> None:
        task = await self.get("1")
        self.was_pending_at_close = task is not None and (task.state, task.attempts) == (PENDING, 0)
        await super().close(now)


def service_of(engine: MemdbEngine, *flags: str) -> Service:
    settings = config.parse(["--chore-interval", "0", *flags], {})
    return build(settings, engine=engine)[1]


async def test_joining_waits_for_a_claim_under_way_until_it_is_given_back() -> None:
    engine = Held()
    hall = await Hall(engine).open()
    await hall.insert("1")
    got = hall.wait()
    await hall.settle()
    hall.long_polls.close()
    joining = asyncio.create_task(hall.long_polls.join())
    await hall.settle()
    assert got.done()
    assert not joining.done()
    engine.answer.set()
    await joining
    assert await hall.state("1") == PENDING
    await hall.assert_empty()


async def test_a_claim_under_way_is_given_back_before_the_engine_is_closed() -> None:
    engine = Held()
    service = service_of(engine)
    await service.start()
    clock = SystemClock()
    await engine.insert([TaskRecord("1", "t", clock.now(), clock.now())], clock.now())
    waiting = asyncio.create_task(
        service.long_polls.wait(
            Selection(("t",), timeout=SECOND), clock.monotonic() + 60 * SECOND, lambda callback: None
        )
    )
    await engine.claiming.wait()
    service.begin_shutdown()
    closing = asyncio.create_task(service.close())
    await asyncio.wait([waiting])
    assert waiting.exception() is not None
    for _ in range(100):
        await asyncio.sleep(0)
    assert engine.was_pending_at_close is None  # it is not closed yet
    engine.answer.set()
    await closing
    assert engine.was_pending_at_close is True


async def test_a_part_that_hangs_is_named_and_the_engine_is_closed(caplog: pytest.LogCaptureFixture) -> None:
    engine = Held()
    service = service_of(engine, "--shutdown-timeout", "1ms")
    await service.start()
    hangs = asyncio.Event()

    async def stop() -> None:
        await hangs.wait()

    service.chores.stop, really_stop = stop, service.chores.stop  # type: ignore[method-assign]  # it hangs
    with pytest.raises(StopIncomplete, match="left behind: the chores"):
        await service.close()
    await really_stop()
    assert engine.was_pending_at_close is not None
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR] == [
        "stopping: the chores did not end in time; going on without"
    ]


async def test_a_part_that_fails_to_end_does_not_keep_the_engine_open() -> None:
    engine = Held()
    service = service_of(engine)
    await service.start()
    really_stop = service.chores.stop

    async def stop() -> None:
        await really_stop()
        raise RuntimeError("a defect")

    service.chores.stop = stop  # type: ignore[method-assign]  # it fails
    with pytest.raises(StopIncomplete, match="left behind: the chores"):
        await service.close()
    assert engine.was_pending_at_close is not None


# ---- a process ---------------------------------------------------------------------------------------

POLL = b"POST /v1/topics/t/promises?wait=60s HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n\r\n"

# Seconds in which an engine that nothing keeps open would be closed.
A_WHILE = 0.5


class Database:
    """The file of a server, which the test can keep from being written."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "ratus.db"
        self.flags = ["--engine", "sqlite", "--sqlite-path", str(self.path), "--sqlite-busy-timeout", "60s"]
        self._lock = -1

    def lock(self) -> None:
        """Let every write wait."""
        self._lock = os.open(self.path.with_name(self.path.name + "-lock"), os.O_RDWR)
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def unlock(self) -> None:
        """Let the writes go on."""
        os.close(self._lock)

    async def state(self, task_id: str) -> tuple[int, int]:
        """State and attempts of a task once the server has stopped."""
        engine = SqliteEngine(path=str(self.path))
        await engine.open(START)
        task = await engine.get(task_id)
        await engine.close(START)
        assert task is not None
        return task.state, task.attempts


def claim_under_way(server: Server, database: Database) -> tuple[Client, str]:
    """A poll that waits and for which the engine is claiming a task, which it cannot while the database is
    locked; and the task's id."""
    count = "ratus_engine_duration_seconds_count"
    with Api(server.port) as api:

        def claims() -> float:
            return values_of(api.get("/metrics").body.decode(), count, "operation").get(("claim",), 0)

        for task_id in map(str, itertools.count()):
            client = Client(server.port)
            client.send(POLL)
            eventually(lambda: b'wants="task"} 1' in api.get("/metrics").body, "the poll")
            before = claims()
            due = time.time() + 2
            api.insert("t", task_id, scheduled=datetime.fromtimestamp(due, UTC).isoformat())
            # The insert wakes the poll, which finds that nothing is due yet.
            eventually(lambda before=before: claims() > before, "a first look")  # type: ignore[misc]  # mypy cannot infer a lambda with a default
            database.lock()
            if time.time() < due - 0.1:
                break
            # The machine was too busy: the task may have been claimed already.
            database.unlock()
            client.sock.close()
            api.delete(f"/topics/t/tasks/{task_id}")
        threading.Event().wait(due + 0.2 - time.time())
        return client, task_id


@pytest.mark.parametrize("leaves", [False, True], ids=["stays", "leaves"])
async def test_a_claim_under_way_at_shutdown_is_given_back(tmp_path: Path, leaves: bool) -> None:
    database = Database(tmp_path)
    with serving(tmp_path, *database.flags) as server:
        client, task_id = claim_under_way(server, database)
        if leaves:
            client.sock.close()
        server.process.send_signal(signal.SIGTERM)
        if not leaves:
            assert client.answer().status == 503
            client.sock.close()
        threading.Event().wait(A_WHILE)
        database.unlock()
        assert server.wait() == 0
        assert "ERROR" not in server.log
    assert await database.state(task_id) == (PENDING, 0)


async def test_a_poll_without_wait_whose_client_leaves_at_shutdown_is_given_back(tmp_path: Path) -> None:
    database = Database(tmp_path)
    with serving(tmp_path, *database.flags) as server, Api(server.port) as api:
        api.insert("t", "1")
        database.lock()
        with Client(server.port) as client:
            client.send(POLL.replace(b"?wait=60s", b""))
            threading.Event().wait(0.2)
        server.process.send_signal(signal.SIGTERM)
        threading.Event().wait(A_WHILE)
        database.unlock()
        assert server.wait() == 0
        assert "ERROR" not in server.log
    assert await database.state("1") == (PENDING, 0)


async def test_an_engine_that_hangs_in_close_is_named_in_the_log(tmp_path: Path) -> None:
    snapshot = tmp_path / "snapshot"
    with serving(tmp_path, "--memdb-snapshot-path", str(snapshot), "--shutdown-timeout", "500ms") as server:
        # What the snapshot is written to blocks for ever, and the event loop with it.
        os.mkfifo(tmp_path / "snapshot.partial")
        server.process.send_signal(signal.SIGTERM)
        assert server.wait() == 1
        assert "stopping took longer than 0.5 s (--shutdown-timeout) and is cut off" in server.log
        assert server.log.rstrip().endswith("what hangs: closing the engine memdb")
