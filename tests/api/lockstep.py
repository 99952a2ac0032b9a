"""The whole application on several engines at once, with one clock, asked the same and compared."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.types import Message, Scope

from ratus.core.times import format_time
from ratus.runtime import config
from ratus.runtime.app import build
from ratus.testing import ManualClock

# Milliseconds: every engine keeps times at least so exactly.
START = 1_800_000_000_000_000
LATER = re.compile(r"LATER\((-?\d+)\)")
NONCE = re.compile(r"NONCE\((\w+)\)")


@dataclass(frozen=True)
class Reply:
    """What one engine's server answered."""

    status: int
    body: bytes
    retry_after: str = ""

    @property
    def json(self) -> Any:
        return json.loads(self.body) if self.body else None


class Lane:
    """A server without a socket on one engine, with the loop and the clock that all of them share."""

    def __init__(self, runner: asyncio.Runner, clock: ManualClock, *flags: str) -> None:
        settings = config.parse(
            ["--port", "1", "--chore-interval", "0", "--max-body-size", "64KiB", *flags], {}
        )
        self.name: str = settings.engine
        self._runner = runner
        self._clock = clock
        self._app, self.service = build(settings, clock=clock)
        self.nonces: dict[str, str] = {}
        """The last nonce of each task, as this server gave it."""
        runner.run(self.service.start())

    def close(self) -> None:
        self._runner.run(self.service.close())

    def chores(self) -> None:
        """One round of what is done now and then."""

        async def run() -> None:
            await self.service.engine.recover(self._clock.now())
            await self.service.engine.expire(self._clock.now())

        self._runner.run(run())

    def request(self, method: str, target: str, body: bytes) -> Reply:
        """One request, in which marks stand for nonces and times."""
        reply = self._runner.run(
            self._request(method, self._filled(target), self._filled(body.decode("latin-1")))
        )
        self._remember(reply)
        return reply

    def _filled(self, text: str) -> str:
        now = self._clock.now()
        text = LATER.sub(lambda found: format_time(now + int(found[1]) * 1000), text)
        return NONCE.sub(lambda found: self.nonces.get(found[1], "none"), text)

    def _remember(self, reply: Reply) -> None:
        for task in tasks_in(reply.json):
            if task.get("nonce"):
                self.nonces[task["_id"]] = task["nonce"]

    async def _request(self, method: str, target: str, body: str) -> Reply:
        path, _, query = target.partition("?")
        scope: Scope = {
            "type": "http",
            "method": method,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [],
        }
        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": body.encode("latin-1"), "more_body": False}

        async def send(message: Message) -> None:
            sent.append(message)

        await self._app(scope, receive, send)
        retry_after = dict(sent[0]["headers"]).get(b"retry-after", b"").decode()
        return Reply(sent[0]["status"], b"".join(message.get("body", b"") for message in sent), retry_after)


def tasks_in(answer: Any) -> list[dict[str, Any]]:
    """The tasks in an answer of any kind."""
    if not isinstance(answer, dict):
        return []
    items = answer["data"] if isinstance(answer.get("data"), list) else [answer]
    found = [item.get("task", item) for item in items if isinstance(item, dict)]
    return [task for task in found if isinstance(task, dict) and "_id" in task]


def normal(answer: Any, *, ordered: bool) -> Any:
    """An answer without what may differ: nonces, cursors, the words of errors, and the order of lists."""
    if isinstance(answer, dict):
        if set(answer) == {"code", "message"}:
            return {"code": answer["code"], "kind": answer["message"].partition(":")[0]}
        plain = {name: normal(value, ordered=ordered) for name, value in answer.items() if name != "next"}
        if plain.get("nonce"):
            plain["nonce"] = "NONCE"
        if not ordered and isinstance(plain.get("data"), list):
            plain["data"] = sorted(plain["data"], key=json.dumps)
        return plain
    if isinstance(answer, list):
        return [normal(item, ordered=ordered) for item in answer]
    return answer


@dataclass
class Lockstep:
    """Lanes that are asked the same."""

    lanes: Sequence[Lane]
    clock: ManualClock
    trail: list[str] = field(default_factory=list)
    """What was asked, for the message of a failure."""

    def begin(self) -> None:
        """Everything is empty again."""
        self.trail.clear()
        for lane in self.lanes:
            lane.nonces.clear()
            assert lane.request("DELETE", "/topics", b"").status == 200

    def advance(self, milliseconds: int) -> None:
        self.trail.append(f"advance {milliseconds} ms")
        self.clock.advance(milliseconds * 1000)

    def chores(self) -> None:
        self.trail.append("chores")
        for lane in self.lanes:
            lane.chores()

    def ask(self, method: str, target: str, body: bytes) -> Reply:
        """Ask all of them; the answer of the first, once the others have been found to be the same."""
        self.trail.append(f"{method} {target} {body!r}")
        # Lists of tasks have an order of the engine's own.
        ordered = method != "GET" or "/lanes" in target
        replies = [lane.request(method, target, body) for lane in self.lanes]
        first = replies[0]
        for lane, reply in zip(self.lanes, replies, strict=True):
            where = (
                f"{lane.name} after\n  " + "\n  ".join(self.trail) + f"\n{reply.status} {reply.body[:2000]!r}"
            )
            assert reply.status != 500, where
            assert (reply.status, reply.retry_after) == (first.status, first.retry_after), (
                f"{where} {reply.retry_after}\n"
                f"{self.lanes[0].name}: {first.status} {first.body!r} {first.retry_after}"
            )
            assert normal(reply.json, ordered=ordered) == normal(first.json, ordered=ordered), (
                f"{where}\n{self.lanes[0].name}: {first.body[:2000]!r}"
            )
        return first

    def check(self, topics: Sequence[str], ids: Sequence[str]) -> None:
        """What has to hold at any time, and everything there is, compared."""
        total = 0
        for topic in topics:
            info = self.ask("GET", f"/topics/{topic}", b"").json
            listed = self.ask("GET", f"/topics/{topic}/tasks?limit=100", b"").json["data"]
            if "count" in info:
                assert info["count"] == sum(info["states"].values()) == len(listed), self.trail
                assert info["due"] <= info["states"]["pending"], self.trail
            # Bytes that are damaged on their way may give a task another id.
            total += sum(task["_id"] in ids for task in listed)
            for task in listed:
                assert task["topic"] == topic, self.trail
        found = [self.ask("GET", f"/topics//tasks/{each}", b"").status for each in ids]
        assert found.count(200) == total, self.trail
