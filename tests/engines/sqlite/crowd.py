"""Many clients of a server that dies, and a ledger of what it promised them.

Each client inserts tasks, claims, commits and releases, and writes down every answer. A request without an
answer may or may not have been carried out. `Ledger.check` holds what the server has afterwards against it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from dataclasses import dataclass, field
from typing import Any

PENDING, ACTIVE, COMPLETED = 0, 1, 2

TOPIC = "/v1/topics/torture"


class Gone(Exception):
    """The server did not answer: whether it did what it was asked for is unknown."""


class Caller:
    """One connection, made anew when it breaks."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def __call__(self, method: str, target: str, body: object = None) -> tuple[int, Any]:
        """Status and value of the answer; raises `Gone`."""
        data = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {target} HTTP/1.1\r\nhost: ratus\r\ncontent-length: {len(data)}\r\n\r\n"
        try:
            if self._streams is None:
                self._streams = await asyncio.open_connection("127.0.0.1", self._port, limit=2**26)
            reader, writer = self._streams
            writer.write(head.encode() + data)
            lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            lengths = [int(line[15:]) for line in lines if line.startswith("content-length:")]
            text = await reader.readexactly(lengths[0])
        except (OSError, asyncio.IncompleteReadError) as error:
            self.close()
            raise Gone from error
        return int(lines[0].split()[1]), json.loads(text) if text else None

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


@dataclass
class Entry:
    """What is known of a task: the states it may be in."""

    stored: bool = False
    """Its insert was acknowledged."""
    states: set[int] = field(default_factory=lambda: {PENDING})
    nonce: str | None = None
    """The nonce it must have if it is active; ``None``: not known."""
    claims: int = 0
    """How often it was claimed, so that a late answer to one who held it before is not taken for news."""


@dataclass
class Ledger:
    """What was answered, task by task, and how often."""

    entries: dict[str, Entry] = field(default_factory=dict)
    answered: dict[str, int] = field(default_factory=dict)
    refused: int = 0
    open_claims: list[str] = field(default_factory=list)
    """Who asked for a task and does not know whether there is one that is theirs now."""

    def count(self, what: str) -> None:
        self.answered[what] = self.answered.get(what, 0) + 1

    def check(self, tasks: list[dict[str, Any]], topic: dict[str, Any]) -> None:
        """Hold the server's tasks against the ledger, then take them for what is known from now on."""
        found = {task["_id"]: task for task in tasks}
        assert len(found) == len(tasks), "a task is listed twice"
        assert found.keys() <= self.entries.keys(), "there is a task that nobody inserted"
        lost = [name for name, entry in self.entries.items() if entry.stored and name not in found]
        assert not lost, f"{len(lost)} acknowledged tasks are lost, {lost[:3]} among them"
        for name, entry in list(self.entries.items()):
            task = found.get(name)
            if task is None:
                del self.entries[name]
                continue
            is_known = task["state"] in entry.states and (
                task["state"] != ACTIVE or entry.nonce in (None, task["nonce"])
            )
            if not is_known and task["state"] == ACTIVE and PENDING in entry.states:
                assert task["consumer"] in self.open_claims, (task, entry)
                self.open_claims.remove(task["consumer"])
            else:
                assert is_known, (task, entry)
            if task["state"] == COMPLETED:
                assert task["result"] == {"of": name}, task
            self.entries[name] = Entry(True, {task["state"]}, task["nonce"])
        self.open_claims.clear()
        states = {"pending": 0, "active": 0, "completed": 0, "archived": 0}
        names = list(states)
        for task in tasks:
            states[names[task["state"]]] += 1
        assert topic["states"] == states
        assert topic["count"] == len(tasks)


class Client:
    """Works until the server is gone or `stop` is called.

    ``refusals``: what an answer of 503 means. ``never``: it must not come; ``nothing``: nothing was changed;
    ``maybe``: the server may die before it can make sure that nothing was changed.
    """

    def __init__(self, name: str, port: int, ledger: Ledger, *, refusals: str) -> None:
        self._name = name
        self._call = Caller(port)
        self._ledger = ledger
        self._refusals = refusals
        self._number = 0
        self._random = random.Random(name)
        self._stopped = False

    def stop(self) -> None:
        """Do nothing more after the request that is in work."""
        self._stopped = True

    async def work(self) -> None:
        with contextlib.suppress(Gone):
            while not self._stopped:
                await self._insert()
                await self._serve_one()
                if self._random.random() < 0.3:
                    await self._serve_one()
        self._call.close()

    async def _insert(self) -> None:
        names = [f"{self._name}-{self._number + n}" for n in range(self._random.choice((1, 1, 1, 5, 20)))]
        self._number += len(names)
        entries = self._ledger.entries
        for name in names:
            entries[name] = Entry()
        tasks = [{"_id": name, "payload": {"of": name, "large": "x" * self._size()}} for name in names]
        if len(names) == 1:
            status, _ = await self._call("POST", f"{TOPIC}/tasks/{names[0]}", tasks[0])
        else:
            status, _ = await self._call("POST", f"{TOPIC}/tasks", {"data": tasks})
        if status == 503:
            if self._changed_nothing():
                for name in names:
                    del entries[name]
            return
        assert status == 201, status
        for name in names:
            entries[name].stored = True
        self._ledger.count("insert")

    def _size(self) -> int:
        return self._random.choice((10, 100, 100, 100, 5_000))

    async def _serve_one(self) -> None:
        """Claim a task, then complete it, release it or keep it."""
        ledger = self._ledger
        ledger.open_claims.append(self._name)
        status, task = await self._call(
            "POST", f"{TOPIC}/promises", {"consumer": self._name, "timeout": "1h"}
        )
        if status == 503 and not self._changed_nothing():
            return
        ledger.open_claims.remove(self._name)
        if status in (404, 503):
            return
        assert status == 200, status
        name = str(task["_id"])
        entry = ledger.entries[name]
        assert PENDING in entry.states, f"{name} was claimed, but is not free: {entry}"
        entry.stored, entry.states, entry.nonce = True, {ACTIVE}, task["nonce"]
        entry.claims += 1
        ledger.count("claim")
        then = self._random.random()
        if then < 0.6:
            await self._complete(name, entry)
        elif then < 0.9:
            await self._release(name, entry)

    async def _complete(self, name: str, entry: Entry) -> None:
        entry.states = {ACTIVE, COMPLETED}
        body = {"nonce": entry.nonce, "result": {"of": name}}
        status, _ = await self._call("PATCH", f"{TOPIC}/tasks/{name}", body)
        if status == 503:
            if self._changed_nothing():
                entry.states = {ACTIVE}
            return
        assert status == 200, status
        entry.states = {COMPLETED}
        self._ledger.count("commit")

    async def _release(self, name: str, entry: Entry) -> None:
        # From now on somebody else may claim it, and may know so before the answer is here.
        nonce, entry.nonce, claims = entry.nonce, None, entry.claims
        entry.states = {PENDING, ACTIVE}
        status, _ = await self._call("DELETE", f"{TOPIC}/promises/{name}")
        if status == 503:
            if self._changed_nothing():
                entry.states, entry.nonce = {ACTIVE}, nonce
            return
        assert status == 200, status
        if entry.claims == claims:
            entry.states = {PENDING}
        self._ledger.count("release")

    def _changed_nothing(self) -> bool:
        """Whether the refusal that came means that."""
        assert self._refusals != "never", "the server refused although nothing was wrong"
        self._ledger.refused += 1
        return self._refusals == "nothing"
