"""Schedules on real servers that are killed and stopped in the middle of ticks: no tick missed, none twice.

With ``catch_up`` ``all``, so that it does not matter how slow the machine is.

`RATUS_TICKS` says how many seconds long it goes on, with 25 ticks in each (8 by default).
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from ratus import Client, Schedule
from ratus.core.times import format_time, parse_time
from tests.absent import absent
from tests.engines.mongodb import servers as mongod
from tests.servers import Server, launch, ready

SCHEDULES = 25
SECONDS = int(os.environ.get("RATUS_TICKS", "8"))
SECOND = 1_000_000


@contextlib.contextmanager
def servers(folder: Path, count: int, *flags: str) -> Iterator[list[Server]]:
    """Servers on the same data, which the test may kill and start again."""
    running = [launch(folder, "--chore-interval", "1s", *flags) for _ in range(count)]
    try:
        for server in running:
            while not ready(server):
                assert server.process.poll() is None, server.log
        yield running
    finally:
        for server in running:
            with contextlib.suppress(OSError):
                server.process.send_signal(signal.SIGCONT)
            server.process.kill()
            server.wait()


def torture(folder: Path, count: int, *flags: str) -> None:
    chance = random.Random(17)
    with servers(folder, count, *flags) as running:
        keeper = running[0].port
        with Client(f"http://127.0.0.1:{keeper}") as client:
            for number in range(SCHEDULES):
                client.put_schedule(Schedule(name=f"s{number}", topic="t", every=1, catch_up="all"))
            begin = max(parse_time(client.get_schedule(f"s{n}").to_wire()["next"]) for n in range(SCHEDULES))
        over = threading.Event()

        def kill() -> None:
            """Kill a server and start it again, or stop it for a while; the first one stays, to be asked."""
            while not over.wait(chance.uniform(0.2, 0.8)):
                at = chance.randrange(1, count)
                victim = running[at]
                if chance.random() < 0.5:
                    victim.process.send_signal(signal.SIGSTOP)
                    over.wait(chance.uniform(0.1, 1.5))
                    victim.process.send_signal(signal.SIGCONT)
                else:
                    victim.process.kill()
                    victim.wait()
                    running[at] = launch(folder, "--chore-interval", "1s", *flags, port=victim.port)

        killing = threading.Thread(target=kill)
        killing.start()
        end = begin + SECONDS * SECOND
        time.sleep(max(0.0, end / SECOND - time.time()))
        over.set()
        killing.join()
        with Client(f"http://127.0.0.1:{keeper}") as client:
            # One server is left to finish what the others began.
            for server in running[1:]:
                server.process.kill()
            deadline = time.monotonic() + 120
            expected = {
                f"s{number}@{format_time(tick)}"
                for number in range(SCHEDULES)
                for tick in range(begin, end + 1, SECOND)
            }
            while True:
                found = [task.id for task in client.iter_tasks("t")]
                missing = expected.difference(found)
                if not missing:
                    break
                assert time.monotonic() < deadline, sorted(missing)[:5]
                time.sleep(0.2)
            assert len(found) == len(set(found))
            for number in range(SCHEDULES):
                # From the first tick to the last, none is missing in between.
                ticks = sorted(
                    parse_time(each.partition("@")[2]) for each in found if each.startswith(f"s{number}@")
                )
                assert ticks == list(range(ticks[0], ticks[-1] + 1, SECOND))


def test_two_servers_on_one_file(tmp_path: Path) -> None:
    torture(tmp_path, 2, "--engine", "sqlite", "--sqlite-path", str(tmp_path / "ratus.db"))


def test_three_servers_on_a_replica_set(tmp_path: Path) -> None:
    uri = mongod.shared_replica_set_uri()
    if uri is None:
        absent(mongod.ABSENT)
    name = f"ticks_{uuid.uuid4().hex}"
    torture(tmp_path, 3, "--engine", "mongodb", "--mongodb-uri", uri, "--mongodb-database", name)
