"""The whole application in this process, with a clock that moves only when it is told to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from starlette.types import Message, Scope

from ratus import config
from ratus.app import build
from ratus.clock import Timer

SECOND = 1_000_000
START = 1_800_000_000 * SECOND


@dataclass(eq=False)
class _Timer:
    when: int
    callback: Callable[[], None]
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


class ManualClock:
    """Stands still between two calls of `move`."""

    def __init__(self) -> None:
        self._now = START
        self._timers: list[_Timer] = []

    def now(self) -> int:
        return self._now

    def call_at(self, when: int, callback: Callable[[], None]) -> Timer:
        timer = _Timer(when, callback)
        self._timers.append(timer)
        return timer

    def move(self, microseconds: int) -> None:
        """Let the time pass, and ring what is due by then."""
        self._now += microseconds
        due = [timer for timer in self._timers if timer.when <= self._now]
        self._timers = [timer for timer in self._timers if timer.when > self._now]
        for timer in sorted(due, key=lambda each: each.when):
            if not timer.cancelled:
                timer.callback()


@dataclass(frozen=True)
class Reply:
    """What the application answered."""

    status: int
    json: Any


class Clocked:
    """A server without a socket, and its clock."""

    def __init__(self, *flags: str) -> None:
        settings = config.parse(["--chore-interval", "0", *flags], {}, config.catalogue())
        self.clock = ManualClock()
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
        return Reply(sent[0]["status"], json.loads(answer) if answer else None)

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
