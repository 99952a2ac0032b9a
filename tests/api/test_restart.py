"""What is there after a stop, a kill and a damaged file, seen over HTTP."""

from __future__ import annotations

import random
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.servers import Api, Server, assert_error, eventually, launch, serving


def everything(api: Api) -> dict[str, Any]:
    """Topics and tasks by name, as the server tells them."""
    topics = api.get("/topics?limit=100").json["data"]
    return {
        topic["name"]: (
            api.get(f"/topics/{topic['name']}").json,
            api.get(f"/topics/{topic['name']}/tasks?limit=100").json,
        )
        for topic in topics
    }


def fill(api: Api) -> None:
    """Tasks in every state, with every member."""
    chance = random.Random(5)
    for number in range(80):
        api.insert(
            f"t{number % 4}",
            f"{number}",
            payload=chance.choice([[], {}, "", 2**70, {"z": [], "a": "é\0"}, None]),
            priority=chance.randint(-9, 9),
            producer=chance.choice(["", "p"]),
            retry={"max_attempts": chance.randint(1, 3), "delay": "1ms"},
            **({"ttl": "1h"} if number % 3 == 0 else {}),
        )
    for _ in range(40):
        topic = f"t{chance.randint(0, 3)}"
        task = api.claim(topic, consumer="c", timeout="1h")
        commit: dict[str, Any] | None = chance.choice(
            [None, {"result": [1]}, {"error": "e"}, {"state": 0, "topic": "moved"}, {"state": 3}]
        )
        if commit is not None:
            api.commit(task["_id"], **commit)
    api.patch("/topics/t1", {"paused": True})
    api.patch("/topics/empty", {"paused": True})


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_orderly_stop_keeps_everything(tmp_path: Path, number: signal.Signals) -> None:
    flags = ["--memdb-snapshot-path", str(tmp_path / "snapshot"), "--chore-interval", "0"]
    with serving(tmp_path, *flags) as server, Api(server.port) as api:
        fill(api)
        before = everything(api)
        assert server.stop(number) == 0
    for _ in range(2):  # what was loaded is what is saved
        with serving(tmp_path, *flags) as server, Api(server.port) as api:
            assert everything(api) == before
    with serving(tmp_path, *flags) as server, Api(server.port) as api:
        active = api.get("/topics/t0/promises").json["data"][0]["_id"]
        assert_error(api.patch(f"/topics//tasks/{active}", {"nonce": "wrong"}), 409)
        assert api.commit(active, nonce=api.task(active)["nonce"])["state"] == 2
        # The order of creation goes on behind what was loaded.
        api.insert("t0", "later")
        assert api.get("/topics/t0/tasks?limit=100").json["data"][-1]["_id"] == "later"


def test_a_kill_keeps_the_last_snapshot(tmp_path: Path) -> None:
    snapshot = tmp_path / "snapshot"
    flags = [
        "--memdb-snapshot-path",
        str(snapshot),
        "--memdb-snapshot-interval",
        "1h",
        "--chore-interval",
        "20ms",
    ]
    with serving(tmp_path, *flags) as server, Api(server.port) as api:
        fill(api)
        before = everything(api)
        server.stop()
    with serving(tmp_path, *flags) as server, Api(server.port) as api:
        api.insert("lost", "lost")
        server.process.kill()
        server.wait()
    with serving(tmp_path, *flags) as server, Api(server.port) as api:
        assert everything(api) == before


def test_a_snapshot_is_written_while_it_runs(tmp_path: Path) -> None:
    snapshot = tmp_path / "snapshot"
    flags = [
        "--memdb-snapshot-path",
        str(snapshot),
        "--memdb-snapshot-interval",
        "10ms",
        "--chore-interval",
        "10ms",
    ]
    with serving(tmp_path, *flags) as server, Api(server.port) as api:
        api.insert("t", "a")
        eventually(snapshot.exists, "the snapshot")
        server.process.kill()
        server.wait()
    with serving(tmp_path, *flags) as server, Api(server.port) as api:
        assert api.task("a")["state"] == 0
    assert {found.name for found in tmp_path.glob("snapshot*")} == {"snapshot", "snapshot.lock"}


def test_without_a_path_nothing_survives(tmp_path: Path) -> None:
    with serving(tmp_path) as server, Api(server.port) as api:
        api.insert("t", "a")
    with serving(tmp_path) as server, Api(server.port) as api:
        assert api.get("/topics").json == {"data": []}


def refuses(tmp_path: Path, snapshot: Path) -> Server:
    server = launch(tmp_path, "--memdb-snapshot-path", str(snapshot))
    assert server.wait() == 1
    (line,) = server.log.splitlines()
    assert str(snapshot) in line
    assert "ERROR" in line
    return server


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "longer", "foreign", "folder"])
def test_a_damaged_snapshot_is_a_clear_refusal(tmp_path: Path, damage: str) -> None:
    snapshot = tmp_path / "snapshot"
    with serving(tmp_path, "--memdb-snapshot-path", str(snapshot)) as server, Api(server.port) as api:
        fill(api)
    whole = snapshot.read_bytes()
    if damage == "folder":
        snapshot.unlink()
        snapshot.mkdir()
    else:
        snapshot.write_bytes(
            {
                "cut": whole[: len(whole) // 2],
                "empty": b"",
                "flipped": whole[:500] + bytes([whole[500] ^ 1]) + whole[501:],
                "longer": whole + b"\0",
                "foreign": b'{"tasks": []}',
            }[damage]
        )
    refuses(tmp_path, snapshot)
    if damage != "folder":
        # It was left as it is, for whoever repairs it.
        assert snapshot.read_bytes() != whole
        snapshot.write_bytes(whole)
        with serving(tmp_path, "--memdb-snapshot-path", str(snapshot)) as server, Api(server.port) as api:
            assert len(api.get("/topics").json["data"]) >= 5


def test_a_stop_that_cannot_save_says_so_by_its_exit_code(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with (
        serving(tmp_path, "--memdb-snapshot-path", str(folder / "snapshot")) as server,
        Api(server.port) as api,
    ):
        api.insert("t", "a")
        folder.rename(tmp_path / "moved")
        assert server.stop() == 1
        assert str(folder / "snapshot") in server.log
        assert "Traceback" not in server.log
