"""The live server under many clients, killed at random moments, on a disk that fails at random.

What was acknowledged is there after each start, no task is in two places, and nothing was acknowledged that
is not on disk.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.engines.sqlite.crowd import TOPIC, Caller, Client, Ledger
from tests.servers import Server, serving

pytestmark = pytest.mark.anyio

KILLS = 20
CLIENTS = 16

# Claims are made anew here often; a completed task must not be purged meanwhile.
FLAGS = ("--engine", "sqlite", "--pagination-max-limit", "10000", "--chore-interval", "100ms")

Serve = Callable[[], AbstractContextManager[Server]]


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that makes writes and syncs fail; see faults.c."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        if os.environ.get("CI"):
            pytest.fail("the faults need a C compiler")
        pytest.skip("no C compiler on this machine")
    library = tmp_path_factory.mktemp("faults") / "faults.so"
    source = Path(__file__).parent / "faults.c"
    subprocess.run(
        [compiler, "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", library, source, "-ldl", "-lpthread"],
        check=True,
    )
    return library


class Faults:
    """The environment of a server whose disk fails while the switch is on."""

    def __init__(self, shim: Path, prefix: Path, switch: Path, one_in: int) -> None:
        self.switch = switch
        self.environment = {
            "LD_PRELOAD": str(shim),
            "FAULTS_PREFIX": str(prefix),
            "FAULTS_SWITCH": str(switch),
            "FAULTS_ONE_IN": str(one_in),
        }

    def on(self) -> None:
        self.switch.touch()

    def off(self) -> None:
        self.switch.unlink(missing_ok=True)


async def check(port: int, ledger: Ledger) -> None:
    """Hold everything that the server has against the ledger."""
    call = Caller(port)
    tasks = []
    after = ""
    while True:
        status, page = await call("GET", f"{TOPIC}/tasks?limit=10000&after={after}")
        assert status == 200, page
        tasks += page["data"]
        after = page.get("next", "")
        if not after:
            break
    status, topic = await call("GET", TOPIC)
    call.close()
    if status == 404:
        topic = {"count": 0, "states": dict.fromkeys(("pending", "active", "completed", "archived"), 0)}
    ledger.check(tasks, topic)


def crowd(port: int, ledger: Ledger, number: int, refusals: str) -> list[Client]:
    """Clients with names of their own in each round."""
    return [Client(f"{number}-{client}", port, ledger, refusals=refusals) for client in range(CLIENTS)]


def check_file(path: Path) -> None:
    """SQLite finds nothing wrong with the file, and the counts that are kept are right."""
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        kept = connection.execute(
            "SELECT topic, pending, active, completed, archived, due FROM topics"
        ).fetchall()
        counted = connection.execute(
            "SELECT topic, sum(state = 0), sum(state = 1), sum(state = 2), sum(state = 3), "
            "sum(state = 0 AND scheduled <= due_until) FROM tasks JOIN topics USING (topic) GROUP BY topic"
        ).fetchall()
        assert kept == counted
    connection.close()


async def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "ratus.db"
    ledger = Ledger()
    chance = random.Random()
    for number in range(KILLS):
        with serving(tmp_path, *FLAGS, "--sqlite-path", str(path)) as server:
            await check(server.port, ledger)
            clients = crowd(server.port, ledger, number, "never")
            at_work = [asyncio.create_task(client.work()) for client in clients]
            await asyncio.sleep(chance.uniform(0.05, 1.0))
            server.process.kill()
            await asyncio.gather(*at_work)
    with serving(tmp_path, *FLAGS, "--sqlite-path", str(path)) as server:
        await check(server.port, ledger)
    check_file(path)
    assert ledger.answered.keys() == {"insert", "claim", "commit", "release"}
    assert min(ledger.answered.values()) > KILLS


async def test_a_failing_disk_and_kill_9(tmp_path: Path, shim: Path) -> None:
    path = tmp_path / "ratus.db"
    faults = Faults(shim, path, tmp_path / "switch", one_in=40)
    ledger = Ledger()
    chance = random.Random()
    for number in range(KILLS):
        environment = faults.environment
        with serving(tmp_path, *FLAGS, "--sqlite-path", str(path), environment=environment) as server:
            await check(server.port, ledger)
            clients = crowd(server.port, ledger, number, "maybe")
            at_work = [asyncio.create_task(client.work()) for client in clients]
            faults.on()
            await asyncio.sleep(chance.uniform(0.05, 1.0))
            server.process.kill()
            await asyncio.gather(*at_work)
            faults.off()
    with serving(tmp_path, *FLAGS, "--sqlite-path", str(path)) as server:
        await check(server.port, ledger)
    check_file(path)
    assert ledger.refused > 0
    assert ledger.answered.keys() == {"insert", "claim", "commit", "release"}


async def test_what_was_refused_for_its_sync_is_not_back_after_kill_9(tmp_path: Path, shim: Path) -> None:
    """Its transaction lies in the log, whole but for the sync; the next process must not take it for done."""
    path = tmp_path / "ratus.db"
    faults = Faults(shim, path, tmp_path / "switch", one_in=1)
    environment = faults.environment | {"FAULTS_WRITES": "no"}
    for number in range(2):
        with serving(tmp_path, *FLAGS, "--sqlite-path", str(path), environment=environment) as server:
            call = Caller(server.port)
            for before in range(number):
                assert (await call("GET", f"{TOPIC}/tasks/kept-{before}"))[0] == 200
                assert (await call("GET", f"{TOPIC}/tasks/refused-{before}"))[0] == 404
            assert (await call("POST", f"{TOPIC}/tasks/kept-{number}", {}))[0] == 201
            faults.on()
            status, answer = await call("POST", f"{TOPIC}/tasks/refused-{number}", {"payload": "x" * 20_000})
            assert status == 503, answer
            assert "look at the disk" in answer["error"]["message"]
            server.process.kill()
            call.close()
        faults.off()
    check_file(path)


def keep_what_was_synced(folder: Path, synced: Path) -> None:
    """What the disk holds after the power was cut."""
    for file in folder.iterdir():
        file.unlink()
    for file in synced.iterdir():
        if not file.name.endswith(".partial"):
            shutil.copy(file, folder)


async def power_cuts(tmp_path: Path, shim: Path, cuts: int) -> Ledger:
    """Cut the power some times: of each file, only what was synced is left for the next start."""
    folder, synced = tmp_path / "disk", tmp_path / "synced"
    folder.mkdir()
    synced.mkdir()
    path = folder / "ratus.db"
    environment = {"LD_PRELOAD": str(shim), "FAULTS_PREFIX": str(path), "FAULTS_SYNCED": str(synced)}
    flags = (*FLAGS, "--sqlite-path", str(path))
    ledger = Ledger()
    for number in range(cuts):
        with serving(tmp_path, *flags, environment=environment) as server:
            await check(server.port, ledger)
            at_work = [
                asyncio.create_task(client.work()) for client in crowd(server.port, ledger, number, "never")
            ]
            await asyncio.sleep(random.uniform(0.2, 0.6))
            server.process.kill()
            await asyncio.gather(*at_work)
        keep_what_was_synced(folder, synced)
    with serving(tmp_path, *flags) as server:
        await check(server.port, ledger)
    check_file(path)
    return ledger


async def test_what_was_acknowledged_survives_power_cuts(tmp_path: Path, shim: Path) -> None:
    ledger = await power_cuts(tmp_path, shim, 5)
    assert ledger.answered.keys() == {"insert", "claim", "commit", "release"}


async def test_the_power_cut_is_one(tmp_path: Path, shim: Path) -> None:
    """What is documented of ``normal`` happens: the last moments are lost, and the file is whole."""
    folder, synced = tmp_path / "disk", tmp_path / "synced"
    folder.mkdir()
    synced.mkdir()
    path = folder / "ratus.db"
    environment = {"LD_PRELOAD": str(shim), "FAULTS_PREFIX": str(path), "FAULTS_SYNCED": str(synced)}
    flags = (*FLAGS, "--sqlite-path", str(path), "--sqlite-synchronous", "normal")
    with serving(tmp_path, *flags, environment=environment) as server:
        call = Caller(server.port)
        for number in range(20):
            assert (await call("POST", f"{TOPIC}/tasks/{number}", {}))[0] == 201
        server.process.kill()
        call.close()
    keep_what_was_synced(folder, synced)
    with serving(tmp_path, *flags) as server:
        call = Caller(server.port)
        assert (await call("GET", f"{TOPIC}/tasks/19"))[0] == 404
        call.close()
    check_file(path)


async def test_what_a_failing_disk_refuses_has_changed_nothing(tmp_path: Path, shim: Path) -> None:
    path = tmp_path / "ratus.db"
    faults = Faults(shim, path, tmp_path / "switch", one_in=15)
    ledger = Ledger()
    flags = (*FLAGS, "--sqlite-path", str(path))
    with serving(tmp_path, *flags, environment=faults.environment) as server:
        for number in range(3):
            clients = crowd(server.port, ledger, number, "nothing")
            at_work = [asyncio.create_task(client.work()) for client in clients]
            await asyncio.sleep(0.2)
            faults.on()
            await asyncio.sleep(0.7)
            faults.off()
            await asyncio.sleep(0.2)
            for client in clients:
                client.stop()
            await asyncio.gather(*at_work)
            await check(server.port, ledger)
        call = Caller(server.port)
        assert (await call("GET", "/readyz"))[0] == 200
        call.close()
        assert ledger.refused > 0
        assert "fails" in server.log
        assert server.stop() == 0
    check_file(path)
