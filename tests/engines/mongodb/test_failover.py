"""The primary is killed again and again under load: nothing that was answered is lost."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pymongo.errors import PyMongoError

from tests.absent import absent
from tests.engines.mongodb import servers
from tests.servers import PATIENCE, Api, Server, serving

KILLS = 5

# Seconds of load before each kill; and what is allowed to a probe, and to errors once there is a new primary.
# On a machine that is not busy a probe takes less than one second and recovery less than five. A probe that
# waited as long as an operation may would take ten.
LOAD, PROBE, RECOVERY = 1.0, 8.0, 20.0

# A claim that was lost must come back sooner than its deadline: long before the test would notice.
DEADLINE = "10m"


class Load:
    """Producers and consumers on both servers, and what they were answered."""

    def __init__(self, ports: list[int]) -> None:
        self._ports = ports
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._failures: list[BaseException] = []
        self.inserted: set[str] = set()
        self.committed: set[str] = set()
        self.errors: list[tuple[float, int, str]] = []
        self.probes: list[tuple[float, float, int]] = []

    def __enter__(self) -> Load:
        for number, port in enumerate(self._ports * 2):
            self._run(self._produce, port, number)
            self._run(self._consume, port)
        for port in self._ports:
            self._run(self._probe, port)
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE)
        if self._failures:
            raise self._failures[0]

    def _run(self, work: Callable[..., None], *arguments: object) -> None:
        def body() -> None:
            try:
                work(*arguments)
            except BaseException as error:
                self._failures.append(error)

        thread = threading.Thread(target=body)
        self._threads.append(thread)
        thread.start()

    def _failed(self, status: int, text: str) -> None:
        with self._lock:
            self.errors.append((time.monotonic(), status, text))

    def _produce(self, port: int, number: int) -> None:
        with Api(port) as api:
            for count in itertools.count():
                if self._stop.is_set():
                    return
                task_id = f"{number}-{count}"
                while True:
                    answer = api.post(f"/v1/topics/t/tasks/{task_id}", {"payload": count})
                    if answer.status in (201, 409):
                        self.inserted.add(task_id)
                        break
                    self._failed(answer.status, answer.body.decode())
                    if self._stop.is_set():
                        return
                self._stop.wait(0.005)

    def _consume(self, port: int) -> None:
        with Api(port) as api:
            while not self._stop.is_set():
                answer = api.post(f"/v1/topics/t/promises?timeout={DEADLINE}&wait=1s")
                if answer.status == 404:
                    continue
                if answer.status != 200:
                    self._failed(answer.status, answer.body.decode())
                    continue
                task = answer.json
                while True:
                    answer = api.patch(f"/v1/topics/t/tasks/{task['_id']}", {"nonce": task["nonce"]})
                    if answer.status == 200:
                        self.committed.add(task["_id"])
                    # After an error, the commit may have been made, and the nonce is gone.
                    if answer.status in (200, 409):
                        break
                    self._failed(answer.status, answer.body.decode())

    def _probe(self, port: int) -> None:
        while not self._stop.is_set():
            with Api(port) as api:
                started = time.monotonic()
                status = api.get("/readyz").status
                self.probes.append((started, time.monotonic() - started, status))
            self._stop.wait(0.05)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[servers.ReplicaSet, list[Server]]]:
    """A replica set, and two servers on it."""
    if servers.mongod() is None:
        absent(servers.ABSENT)
    with servers.replica_set() as members, contextlib.ExitStack() as stack:
        settings = {"ENGINE": "mongodb", "MONGODB_URI": members.uri, "CHORE_INTERVAL": "1s"}
        yield members, [stack.enter_context(serving(tmp_path, environment=settings)) for _ in range(2)]


def wait_for_secondary(member: servers.Mongod) -> None:
    """Return once the member has caught up, so that the next kill leaves a majority."""
    deadline = time.monotonic() + servers.PATIENCE
    uri = f"mongodb://{member.address}/?directConnection=true"
    with servers.connected(uri, serverSelectionTimeoutMS=500) as client:
        while True:
            with contextlib.suppress(PyMongoError):
                if client.admin.command("hello").get("secondary"):
                    return
            assert time.monotonic() < deadline, "the member did not come back"
            # Catching up is waited for; nothing tells of its end.
            time.sleep(0.05)


def test_nothing_answered_is_lost(pair: tuple[servers.ReplicaSet, list[Server]]) -> None:
    members, ratus = pair
    outages: list[tuple[float, float]] = []
    with Load([server.port for server in ratus]) as load:
        for _ in range(KILLS):
            time.sleep(LOAD)
            primary = members.primary()
            began = time.monotonic()
            primary.kill()
            members.primary()
            outages.append((began, time.monotonic()))
            time.sleep(LOAD)
            primary.start()
            wait_for_secondary(primary)
        time.sleep(LOAD)

    # Errors are 503, and stop soon after there is a new primary.
    assert {status for _, status, _ in load.errors} <= {503}, load.errors[:5]
    for at, status, text in load.errors:
        assert any(began <= at <= elected + RECOVERY for began, elected in outages), (at, status, text)
    # Probes are answered in time, and follow.
    assert max(took for _, took, _ in load.probes) < PROBE
    assert {status for _, _, status in load.probes} <= {200, 503}
    for began, elected in outages:
        during = [status for at, _, status in load.probes if began <= at <= elected]
        assert 503 in during or not during or elected - began < 1.0
    assert load.probes[-1][2] == 200

    # What is left, and whatever was lost on the way to its consumer, can be claimed long before its deadline.
    deadline = time.monotonic() + PATIENCE
    with Api(ratus[0].port) as api:
        while True:
            answer = api.post(f"/v1/topics/t/promises?timeout={DEADLINE}&limit=500")
            if answer.status == 200:
                claims = [{"_id": task["_id"], "nonce": task["nonce"]} for task in answer.json["data"]]
                items = api.patch("/v1/topics/t/tasks", {"data": claims}).json["data"]
                assert {item["status"] for item in items} == {200}
                load.committed.update(item["_id"] for item in items)
            states = api.get("/v1/topics/t").json["states"]
            if states["pending"] == states["active"] == 0:
                break
            assert time.monotonic() < deadline, states
        for task_id in load.inserted | load.committed:
            assert api.task(task_id)["state"] == 2, task_id
    lost = load.inserted - load.committed
    assert len(load.committed) > 100
    seconds = ", ".join(f"{elected - began:.1f}" for began, elected in outages)
    print(
        f"{len(load.inserted)} inserted, {len(load.committed)} committed, {len(lost)} of the answers to "
        f"commits lost, {len(load.errors)} errors; "
        f"elections took {seconds} s; slowest probe {max(took for _, took, _ in load.probes):.2f} s"
    )
