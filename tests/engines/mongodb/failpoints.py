"""Failures that a real MongoDB is told to have: its failpoint `failCommand`, and every way of using it.

A member has to be started with `ENABLED`. Only commands of the engine fail: a failpoint goes by the name of
the application, which the engine gives to its client.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from tests.engines.mongodb import servers

ENABLED = ("--setParameter", "enableTestCommands=1")

# Every command that the engine sends for an operation.
COMMANDS = ("findAndModify", "update", "insert", "delete", "find", "aggregate", "getMore")
WRITES = COMMANDS[:4]


class Failure(Struct, frozen=True):
    """What a failpoint does. ``executed``: the command is carried out all the same."""

    name: str
    data: dict[str, Any]
    executed: bool = False


def _write_concern(code: int, *labels: str) -> Failure:
    """The write is made, but not known to a majority: at a stepdown (91, 189, 11600, 11602), in time (64)."""
    error = {"code": code, "codeName": "Failed", "errmsg": f"write concern error {code}"}
    data: dict[str, Any] = {"writeConcernError": error}
    if labels:
        data["errorLabels"] = list(labels)
    return Failure(f"write concern {code}{' with a label' if labels else ''}", data, executed=True)


def _error(code: int, *labels: str) -> Failure:
    """Refused: no primary (10107, 13435), conflict (112), out of time (50, 262), interrupted (11600)."""
    data: dict[str, Any] = {"errorCode": code}
    if labels:
        data["errorLabels"] = list(labels)
    return Failure(f"error {code}{' with a label' if labels else ''}", data)


FAILURES = [
    Failure("connection closed", {"closeConnection": True}),
    *(
        _write_concern(code, *labels)
        for code in (64, 91, 189, 11600, 11602)
        for labels in ((), ("RetryableWriteError",))
    ),
    *(
        _error(code, *labels)
        for code in (50, 91, 112, 189, 262, 10107, 11600, 11602, 13435)
        for labels in ((), ("RetryableWriteError",))
    ),
]


# One of each kind, for every run of the tests; the rest takes minutes.
ONE_OF_EACH = {
    "connection closed",
    "write concern 64",
    "write concern 91 with a label",
    "error 112",
    "error 10107 with a label",
}


class Failpoint:
    """The failpoint of a member. ``hits``: how often it failed a command in the last `failing` block."""

    def __init__(self, address: str) -> None:
        self._client = servers.connected(f"mongodb://{address}/?directConnection=true")
        self.hits = 0

    def close(self) -> None:
        self._client.close()

    @contextlib.contextmanager
    def failing(self, command: str, failure: Failure, times: int | None = 1) -> Iterator[None]:
        """The member fails this command so many times, or each time, until the block ends."""
        mode: Any = "alwaysOn" if times is None else {"times": times}
        data = {"failCommands": [command], "appName": "ratus", **failure.data}
        before = self._set(mode, data)
        try:
            yield
        finally:
            self.hits = self._set("off", {}) - before

    def counts(self) -> dict[str, int]:
        """How often the member was sent each command, by any client."""
        counted = self._client.admin.command("serverStatus")["metrics"]["commands"]
        return {command: int(counted[command]["total"]) for command in COMMANDS}

    def _set(self, mode: Any, data: dict[str, Any]) -> int:
        answer = self._client.admin.command({"configureFailPoint": "failCommand", "mode": mode, "data": data})
        return int(answer["count"])
