"""`ratus push`: one task from flags, or any number from lines of JSON on standard input."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import stat
import sys
import uuid
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, Final

import msgspec

from ratus.client import Client
from ratus.commands.labels import labels_of, read_label
from ratus.commands.output import Progress, json_line, wants_table
from ratus.commands.remote import (
    Parser,
    Problem,
    UsageProblem,
    first_fault,
    given_value,
    read_json,
    run,
    standard_input,
)
from ratus.core.errors import RatusError
from ratus.core.models import Retry, Task

_DESCRIPTION: Final = """\
Pushes tasks into a topic: one, from --id and --payload; or without both as many as
there are lines on standard input, each of them a task in JSON, as the API takes it
and as "ratus tasks" writes it: {"_id": "1", "payload": {"to": "ann"}}.

Lines without an _id, and the lines of --payloads, are given an id made of their
content, so that pushing a file again pushes nothing twice."""

_EXAMPLES: Final = """\
  ratus push mail --id 1 --payload '{"to": "ann@example.com"}'
  ratus push resize --payload '"cat.png"' --label customer=acme --label region=eu
  curl -s https://example.com/order.json | ratus push orders --payload -
  ratus push thumbnails < tasks.ndjson
  jq -c '.images[]' gallery.json | ratus push thumbnails --payloads --id-from url
  ratus tasks old --state pending --all --output json | ratus push new --move --upsert"""

_BATCH: Final = 1_000
"""Tasks in one request: more would not be faster, and the progress would stutter."""


def main(arguments: Sequence[str]) -> int:
    """Exit code 0 when everything is in, 1 when something was refused, 2 for wrong arguments."""
    parser = Parser("push", _DESCRIPTION, _EXAMPLES)
    parser.add_argument("topic", metavar="TOPIC", help="the topic to push into")
    one = parser.add_argument_group("One task")
    one.add_argument("--id", metavar="ID", help="its id; by default a random one, which is shown")
    one.add_argument("--payload", metavar="JSON", help="its payload; -: read it from standard input")
    many = parser.add_argument_group("Many tasks, from standard input")
    many.add_argument("--payloads", action="store_true", help="each line is a payload, not a task")
    many.add_argument("--id-from", metavar="MEMBER", help="take the id from this member of the payload")
    many.add_argument("--move", action="store_true", help="push into TOPIC even what names another topic")
    both = parser.add_argument_group("For each task that does not say otherwise")
    both.add_argument("--priority", type=int, metavar="N", help="from -9 to 9, larger first")
    both.add_argument("--defer", metavar="DURATION", help="due so long after now, such as 10m")
    both.add_argument("--ttl", metavar="DURATION", help="not worth running so long after now")
    both.add_argument("--max-attempts", type=int, metavar="N", help="failures before it is set aside")
    both.add_argument("--producer", metavar="NAME", help="who made it")
    both.add_argument(
        "--label",
        type=read_label,
        action="append",
        metavar="NAME=VALUE",
        help="a label; given again with the same name: one more value of it",
    )
    parser.add_argument("--upsert", action="store_true", help="replace tasks whose id exists")
    return run(parser, _push, arguments)


def _push(client: Client, given: argparse.Namespace) -> int:
    single = given.id is not None or given.payload is not None
    if single and (given.payloads or given.id_from or given.move):
        raise UsageProblem("--payloads, --id-from and --move are for lines, --id and --payload for one task")
    defaults = _defaults(given)
    if single:
        return _push_one(client, given, defaults)
    if standard_input().isatty():
        raise UsageProblem("nothing to push: give --payload or --id, or tasks on standard input")
    return _push_many(client, given, defaults)


def _defaults(given: argparse.Namespace) -> dict[str, Any]:
    members = {
        "priority": given.priority,
        "defer": given.defer,
        "ttl": given.ttl,
        "producer": given.producer,
        "labels": labels_of(given.label),
    }
    if given.max_attempts is not None:
        members["retry"] = given_value(lambda: Retry(max_attempts=given.max_attempts)).to_wire()
    return {name: value for name, value in members.items() if value is not None}


def _push_one(client: Client, given: argparse.Namespace, defaults: dict[str, Any]) -> int:
    payload = None if given.payload is None else read_json(given.payload, "--payload")
    task_id = uuid.uuid4().hex if given.id is None else given.id
    if not task_id:
        raise UsageProblem("--id: it must not be empty")
    if not given.topic:
        raise UsageProblem("TOPIC: it must not be empty")
    members = defaults | {"_id": task_id, "topic": given.topic, "payload": payload}
    task = given_value(lambda: Task(**members))
    written = client.upsert_task(task) if given.upsert else client.insert_task(task)
    _report(given, written.created, written.updated, task_id)
    return 0


def _push_many(client: Client, given: argparse.Namespace, defaults: dict[str, Any]) -> int:
    source = standard_input()
    write = client.upsert_tasks if given.upsert else client.insert_tasks
    created = updated = pushed = 0
    lines = _Lines(source, given, defaults)
    with Progress(sys.stderr, _size_of(source)) as progress:
        for batch in lines.batches():
            try:
                written = write(batch, topic=given.topic)
            except (RatusError, ValueError) as error:
                raise Problem(f"after {pushed:,} tasks, at the lines up to {lines.number}: {error}") from None
            created, updated, pushed = (
                created + written.created,
                updated + written.updated,
                pushed + len(batch),
            )
            progress.update(pushed, lines.position)
        progress.update(pushed, lines.position, last=True)
    _report(given, created, updated, None, pushed - created - updated)
    if lines.problem is not None:
        raise Problem(f"{lines.problem}; {pushed:,} tasks before it were pushed")
    return 0


class _Lines:
    """Standard input as batches of tasks. Ends at the first line that is no task; `problem` then says why."""

    def __init__(self, source: BinaryIO, given: argparse.Namespace, defaults: dict[str, Any]) -> None:
        self._source = source
        self._given = given
        self._defaults = defaults
        self.number = 0
        self.position = 0
        self.problem: str | None = None

    def batches(self) -> Iterator[list[Task]]:
        batch: list[Task] = []
        for line in self._source:
            self.number += 1
            self.position += len(line)
            if not line.strip():
                continue
            try:
                batch.append(self._task(line))
            except ValueError as error:
                self.problem = f"line {self.number}: {first_fault(error)}"
                break
            if len(batch) == _BATCH:
                yield batch
                batch = []
        if batch:
            yield batch

    def _task(self, line: bytes) -> Task:
        try:
            value = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ValueError(f"not JSON: {error}") from None
        if self._given.payloads:
            value = {"payload": value}
        elif not isinstance(value, dict):
            raise ValueError("not a task, which is a JSON object; with --payloads any value is taken")
        members = self._defaults | value
        if self._given.move:
            members["topic"] = self._given.topic
        if self._given.id_from:
            members["_id"] = self._id_from(value.get("payload"))
        if not members.get("_id"):
            topic = members.get("topic") or self._given.topic
            members["_id"] = _id_of(topic, value)
        return Task(**members)

    def _id_from(self, payload: Any) -> str:
        name = self._given.id_from
        value = payload.get(name) if isinstance(payload, dict) else None
        if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
            raise ValueError(f"the payload has no text or whole number under {name!r} to make an id of")
        return str(value)


def _id_of(topic: object, value: Any) -> str:
    """An id that the same content always has; half of a SHA-256 is unique among any number of tasks."""
    content = json.dumps([topic, value], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def _size_of(source: BinaryIO) -> int | None:
    """The size of a file in bytes; None for a pipe, whose size is not known."""
    status = os.fstat(source.fileno())
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _report(
    given: argparse.Namespace, created: int, updated: int, task_id: str | None, existing: int = 0
) -> None:
    if wants_table(given.output):
        parts = [f"{created:,} created"]
        if given.upsert:
            parts.append(f"{updated:,} replaced")
        if existing:
            parts.append(f"{existing:,} existed")
        print(", ".join(parts) + (f": {task_id}" if task_id is not None and given.id is None else ""))
        return
    answer: dict[str, Any] = {"created": created, "updated": updated}
    print(json_line(answer if task_id is None else {"_id": task_id} | answer))
