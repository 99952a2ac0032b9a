"""The whole application in this process, with a clock that moves only when it is told to."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from starlette.types import Message, Scope

from ratus.runtime import config
from ratus.runtime.app import build
from ratus.testing import ManualClock

SECOND = 1_000_000
START = 1_800_000_000 * SECOND


@dataclass(frozen=True)
class Reply:
    """What the application answered."""

    status: int
    json: Any
    headers: dict[str, str]


class Clocked:
    """A server without a socket, and its clock."""

    def __init__(self, *flags: str) -> None:
        settings = config.parse(["--chore-interval", "0", *flags], {}, config.catalogue())
        self.clock = ManualClock(START)
        self._app, self._service = build(settings, clock=self.clock)
        self._runner = asyncio.Runner()

    def __enter__(self) -> Clocked:
        self._runner.run(self._service.start())
        return self

    def __exit__(self, *exception: object) -> None:
        self._runner.run(self._service.close())
        self._runner.close()

    def chores(self) -> None:
        """One round of chores."""
        self._runner.run(self._service.chores.run())

    def request(self, method: str, target: str, body: Any = None) -> Reply:
        """One request and its answer."""
        return self._runner.run(self._request(method, target, body))

    def begin(self, method: str, target: str, body: Any = None) -> asyncio.Task[Reply]:
        """One request, which may wait: it goes on while others are made, and with `turn`."""
        request = self._runner.get_loop().create_task(self._request(method, target, body))
        self.turn()
        return request

    def turn(self) -> None:
        """Let everything happen that happens without the clock moving on."""

        async def turns() -> None:
            for _ in range(30):
                await asyncio.sleep(0)

        self._runner.run(turns())

    def advance(self, seconds: float) -> None:
        """Let time pass, and everything happen that happens then."""

        async def advance() -> None:
            self.clock.advance(round(seconds * SECOND))

        self._runner.run(advance())
        self.turn()

    async def _request(self, method: str, target: str, body: Any) -> Reply:
        path, _, query = target.partition("?")
        scope: Scope = {
            "type": "http",
            "method": method,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [],
        }
        sent: list[Message] = []
        data = b"" if body is None else json.dumps(body, ensure_ascii=False).encode()

        async def receive() -> Message:
            return {"type": "http.request", "body": data, "more_body": False}

        async def send(message: Message) -> None:
            sent.append(message)

        await self._app(scope, receive, send)
        answer = b"".join(message.get("body", b"") for message in sent)
        headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return Reply(sent[0]["status"], json.loads(answer) if answer else None, headers)

    # What nearly every test begins with.

    def insert(self, topic: str, task_id: str, /, **members: Any) -> None:
        """Insert a task that must be new."""
        assert self.request("POST", f"/topics/{topic}/tasks/{task_id}", members).status == 201

    def task(self, task_id: str) -> Any:
        """A task by its id, which must exist."""
        reply = self.request("GET", f"/topics//tasks/{task_id}")
        assert reply.status == 200
        return reply.json

    def claim(self, topic: str, /, **members: Any) -> Any:
        """The next task of a topic, or `None` where none is due."""
        reply = self.request("POST", f"/topics/{topic}/promises", members)
        assert reply.status in (200, 404), reply
        return reply.json if reply.status == 200 else None

    def commit(self, task_id: str, /, **members: Any) -> Any:
        """Commit a task; the task as it is then."""
        reply = self.request("PATCH", f"/topics//tasks/{task_id}", members)
        assert reply.status == 200, reply
        return reply.json
