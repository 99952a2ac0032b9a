"""Thousands of clients that wait at the same time."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import cast

from ratus.runtime import config
from ratus.runtime.app import build
from tests.api import crowd
from tests.metrics.scraping import values_of
from tests.server.support import SilentService, running
from tests.servers import Api, Client, eventually, request_bytes, serving

MIB = 2**20

# A busy machine may take longer than a minute to connect ten thousand clients; the first ones wait on.
LONG_WAITS = ("--promise-max-wait", "1h")


def waiting(api: Api) -> float:
    """How many requests wait for a task, by what the server knows."""
    return values_of(api.get("/metrics").body.decode(), "ratus_waiting_requests", "wants")["task",]


def test_a_thousand_waiters_are_served_in_order(tmp_path: Path) -> None:
    """Tasks arrive one by one; each reaches exactly one waiter, the one that came first."""
    count = 1000
    with (
        serving(tmp_path, *LONG_WAITS, many_files=True) as server,
        Api(server.port) as api,
        crowd.Process(server.port) as people,
    ):
        assert people.tell("wait", ["t"] * count) == count
        people.begin("collect")
        for number in range(count):
            api.insert("t", f"{number}")
        answers = people.end()
        assert [(status, task_id) for _, status, task_id, _ in answers] == [
            (200, f"{number}") for number in range(count)
        ]
        assert api.get("/v1/topics/t").json["states"] == {
            "pending": 0,
            "active": count,
            "completed": 0,
            "archived": 0,
        }


def test_idle_waiters_cost_no_time(tmp_path: Path) -> None:
    with (
        serving(tmp_path, *LONG_WAITS, many_files=True) as server,
        Api(server.port) as api,
        crowd.Process(server.port) as people,
    ):
        people.tell("wait", ["t"] * 1000)
        eventually(lambda: waiting(api) == 1000, "that all of them wait")
        before = server.cpu_seconds()
        time.sleep(1.5)  # nothing happens: there is nothing to wait for but time
        assert server.cpu_seconds() - before < 0.1


def test_ten_thousand_waiters_half_of_whom_leave(tmp_path: Path) -> None:
    """Everybody who stays gets a task, in order of arrival, and none is lost on those who left."""
    count, topics = 10_000, 1000
    wanted = [f"t{number % topics}" for number in range(count)]
    # In each topic every other waiter leaves.
    leaving = [number for number in range(count) if number // topics % 2]
    staying = [number for number in range(count) if number // topics % 2 == 0]
    with (
        serving(tmp_path, *LONG_WAITS, many_files=True) as server,
        Api(server.port) as api,
        crowd.Process(server.port) as people,
    ):
        assert api.get("/livez").status == 200
        idle, empty = server.connections(), server.memory()
        assert people.tell("wait", wanted, 100) == count
        assert (server.memory() - empty) / count < 25_000
        assert people.tell("leave", leaving) == len(staying)
        # A task that is on its way to somebody who left comes back, but may be overtaken meanwhile.
        eventually(lambda: waiting(api) == len(staying), "that the server saw all of them leave")
        people.begin("collect")
        for place in range(count // topics // 2):
            data = [{"_id": f"{place}-{number}", "topic": f"t{number}"} for number in range(topics)]
            assert api.post("/v1/topics//tasks", {"data": data}).json["created"] == topics
        answers = people.end()
        assert [number for number, *_ in answers] == staying
        assert {status for _, status, _, _ in answers} == {200}
        for number, _, task_id, _ in answers:
            assert task_id == f"{number // topics // 2}-{number % topics}"
        # Nothing is left over, and nobody has two.
        for number in range(0, topics, 97):
            states = api.get(f"/v1/topics/t{number}").json["states"]
            assert (states["pending"], states["active"]) == (0, 5)
        people.tell("close")
        eventually(lambda: server.connections() <= idle, "the end of the connections")


def test_crowds_that_come_and_go_leave_nothing_behind(tmp_path: Path) -> None:
    """Memory that was needed once is kept for the next ones; it must not become more and more."""
    count, topics = 2000, 200
    wanted = [f"t{number % topics}" for number in range(count)]
    left = []
    with (
        serving(tmp_path, *LONG_WAITS, "--chore-interval", "0", many_files=True) as server,
        Api(server.port) as api,
        crowd.Process(server.port) as people,
    ):
        for _ in range(6):
            people.tell("wait", wanted, 100)
            people.tell("leave", list(range(0, count, 2)))
            data = [{"_id": f"{number}", "topic": wanted[number]} for number in range(1, count, 2)]
            people.begin("collect")
            assert api.post("/v1/topics//tasks", {"data": data}).json["created"] == count // 2
            assert len(people.end()) == count // 2
            people.tell("close")
            assert api.delete("/v1/topics").json == {"deleted": count // 2}
            left.append(server.memory() / MIB)
        # Ten thousand clients later: a leak of one kilobyte for each would be ten.
        assert left[-1] - left[1] < 6, left


def test_the_room_is_empty_again() -> None:
    """However they leave, and whether they waited for a task or for a result."""
    app, service = build(config.parse(["--chore-interval", "0"], {}, config.catalogue()))
    with running(app, service=cast(SilentService, service)) as server, Api(server.port) as api:
        api.insert("done", "done")
        api.claim("done")
        clients = []
        for number in range(60):
            client = Client(server.port)
            if number % 3 == 0:
                client.send(request_bytes("GET", "/v1/topics/done/tasks/done?wait=60s"))
            elif number % 3 == 1:
                client.send(request_bytes("POST", f"/v1/topics/{number}/promises?wait=60s"))
            else:
                body = json.dumps({"topics": ["x", f"{number}", "y"], "wait": "60s"}).encode()
                client.send(request_bytes("POST", "/v1/promises", body))
            clients.append(client)
        eventually(lambda: len(service.long_polls) == len(clients), "the waiters")
        for number, client in enumerate(clients):
            (client.sock.close, client.half_close, client.reset, lambda: None)[number % 4]()
        eventually(lambda: len(service.long_polls) == len(clients) // 4, "those who left")
        assert api.delete("/v1/topics").status == 200
        for number in range(60):
            api.insert(f"{number}", f"{number}")
            api.insert("x", f"x{number}")
        eventually(lambda: len(service.long_polls) == 0, "an empty queue")
        for client in clients:
            client.sock.close()
