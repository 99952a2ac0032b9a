"""Handlers of schedules: tasks that are made again and again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from ratus.api import codec, serializing
from ratus.api.call import Call, Response
from ratus.api.codec import Members
from ratus.api.cursors import make_cursor, read_cursor
from ratus.api.parsing import Reader
from ratus.api.strict import check_members, check_parameters
from ratus.core.durations import format_duration
from ratus.core.errors import BadRequest, NotFound, PayloadTooLarge
from ratus.core.limits import MAX_SCHEDULE_NAME_BYTES
from ratus.core.members import SCHEDULE, wire_names
from ratus.core.quoting import quoted
from ratus.core.records import ScheduleRecord, TaskRecord
from ratus.core.schedules import (
    ALL,
    ALLOW,
    LAST,
    SCHEDULED_MEMBERS,
    SHORTEST_INTERVAL,
    SKIP,
    check_cron,
    check_zone,
    in_words,
    next_tick,
)
from ratus.engine import Engine
from ratus.runtime.scheduler import Scheduler

_MEMBERS: Final = wire_names(SCHEDULE)

# Ticks that a preview shows.
_PREVIEWED: Final = 5

# Bytes of the JSON text of what each task has: records are read whole, and many of them at a time.
_MAX_TASK_BYTES: Final = 64 * 1024

# Marks the cursors of the list of schedules: no topic has such a name.
_LIST: Final = "\0schedules"


_encode = msgspec.json.Encoder().encode


class ScheduleHandlers:
    """The operations on schedules."""

    def __init__(self, engine: Engine, reader: Reader, scheduler: Scheduler) -> None:
        self._engine = engine
        self._read = reader
        self._scheduler = scheduler

    async def list_schedules(self, call: Call) -> Response:
        check_parameters(call.query, ("limit", "after"))
        limit, _ = self._read.page(call.query)
        cursor = call.query.text("after")
        after = "" if cursor is None else read_cursor(cursor, _LIST)
        found = await self._scheduler.page(after, limit + 1)
        page = found[:limit]
        last = await asyncio.gather(*(self._last(record.members) for record in page))
        next_page = make_cursor(page[-1].id, _LIST) if len(found) > limit else None
        each = [(record.id, record.members, task) for record, task in zip(page, last, strict=True)]
        return Response(200, serializing.schedules(each, next_page))

    async def get_schedule(self, call: Call) -> Response:
        check_parameters(call.query, ())
        record = await self._scheduler.get(_checked_name(call.name))
        if record is None:
            raise _absent()
        return await self._answer(200, call.name, record)

    async def put_schedule(self, call: Call) -> Response:
        check_parameters(call.query, ())
        name = _checked_name(call.name)
        new = self._schedule(self._members(call), name, call.now)
        record, created = await self._scheduler.edit(name, lambda old: new)
        return await self._answer(201 if created else 200, name, record)

    async def patch_schedule(self, call: Call) -> Response:
        check_parameters(call.query, ())
        name = _checked_name(call.name)
        changes = self._members(call)

        def change(old: ScheduleRecord | None) -> ScheduleRecord:
            if old is None:
                raise _absent()
            return self._schedule({**_members_of(old), **changes}, name, call.now)

        record, _ = await self._scheduler.edit(name, change)
        return await self._answer(200, name, record)

    async def delete_schedule(self, call: Call) -> Response:
        check_parameters(call.query, ())
        deleted = await self._scheduler.delete(_checked_name(call.name))
        return Response(200, serializing.deleted(deleted))

    async def run_schedule(self, call: Call) -> Response:
        check_parameters(call.query, ())
        if call.body.strip():
            raise BadRequest("a run takes no body: what its task has stands in the schedule")
        task = await self._scheduler.run(_checked_name(call.name))
        return Response(201, serializing.made(task.id))

    async def preview_schedule(self, call: Call) -> Response:
        check_parameters(call.query, ())
        schedule = self._schedule(self._members(call), "preview", call.now)
        ticks: list[int] = []
        tick = next_tick(schedule, call.now)
        while tick is not None and len(ticks) < _PREVIEWED:
            ticks.append(tick)
            tick = next_tick(schedule, tick)
        return Response(200, serializing.preview(ticks, in_words(schedule)))

    async def _answer(self, status: int, name: str, record: ScheduleRecord) -> Response:
        return Response(status, serializing.schedule(name, record, await self._last(record)))

    async def _last(self, record: ScheduleRecord) -> TaskRecord | None:
        return await self._engine.get(record.last) if record.last else None

    # ---- reading -------------------------------------------------------------------------------------

    def _members(self, call: Call) -> Members:
        members = codec.read_object(call.body)
        if members is None:
            raise BadRequest('missing request body: send {"topic": …, "cron": …}')
        check_members(members, _MEMBERS)
        return members

    def _schedule(self, members: Members, name: str, now: int) -> ScheduleRecord:
        """The schedule of these members. Raises `BadRequest` naming the part that is wrong."""
        topic = codec.text_of(members, "topic")
        if not topic:
            raise BadRequest("topic: name the topic of the tasks")
        record = ScheduleRecord(
            topic=topic,
            task=_task_text(members),
            cron=_checked(members, "cron", check_cron) or "",
            zone=_checked(members, "zone", check_zone) or "",
            every=codec.duration_of(members, "every"),
            start=codec.time_of(members, "start"),
            end=codec.time_of(members, "end"),
            overlap=_choice(members, "overlap", (ALLOW, SKIP)),
            catch_up=_choice(members, "catch_up", (LAST, ALL)),
            paused=bool(codec.boolean_of(members, "paused")),
        )
        if (record.every is None) == (not record.cron):
            raise BadRequest('give either cron, such as "30 2 * * *", or every, such as "15m"')
        if record.every is not None and record.every < SHORTEST_INTERVAL:
            raise BadRequest(f"every: it must be at least {format_duration(SHORTEST_INTERVAL)}")
        if record.every is not None and record.zone:
            raise BadRequest("zone: an interval is the same in every zone; leave it out, or give cron")
        if record.start is not None and record.end is not None and record.end < record.start:
            raise BadRequest("end: it is before start")
        if next_tick(record, now) is None and next_tick(record, -1) is None:
            raise BadRequest("there is no tick between start and end")
        try:
            self._read.task(record.task or b"{}", topic, name, now)
        except BadRequest as error:
            where = "" if error.detail.startswith("topic") else "task: "
            raise BadRequest(f"{where}{error.detail}") from None
        return record


def _task_text(members: Members) -> bytes | None:
    text = codec.raw_of(members, "task")
    if text is None:
        return None
    if len(text) > _MAX_TASK_BYTES:
        raise PayloadTooLarge(f"task: it takes at most {_MAX_TASK_BYTES} bytes, not {len(text)}")
    given = codec.object_of(members, "task") or {}
    check_members(given, SCHEDULED_MEMBERS, "task: ")
    kept = _given(given)
    if "retry" in kept:
        kept["retry"] = msgspec.Raw(_encode(_given(codec.object_of(given, "retry") or {})))
    return _encode(kept)


def _given(members: Members) -> dict[str, msgspec.Raw]:
    """The members as they were sent, without those that are null, which means absent."""
    raws = {name: codec.raw_of(members, name) for name in members}
    return {name: msgspec.Raw(raw) for name, raw in raws.items() if raw is not None}


def _checked(members: Members, name: str, check: Callable[[str], None]) -> str | None:
    text: str | None = codec.text_of(members, name)
    if text is not None:
        try:
            check(text)
        except ValueError as error:
            raise BadRequest(f"{name}: {error}") from None
    return text


def _choice(members: Members, name: str, values: Sequence[str]) -> str:
    text = codec.text_of(members, name)
    if text is not None and text not in values:
        raise BadRequest(f"{name}: {quoted(text)} is unknown; use {' or '.join(values)}")
    return text or values[0]


def _members_of(record: ScheduleRecord) -> Members:
    """The members as a request would send them, for a change of some of them."""
    answer: dict[str, Any] = msgspec.json.decode(
        serializing.schedule("", record, None), type=dict[str, msgspec.Raw]
    )
    return {name: raw for name, raw in answer.items() if name in _MEMBERS}


def _checked_name(name: str) -> str:
    if not name:
        raise BadRequest("name must not be empty")
    if len(name.encode()) > MAX_SCHEDULE_NAME_BYTES:
        raise BadRequest(f"name must not be longer than {MAX_SCHEDULE_NAME_BYTES} bytes")
    return name


def _absent() -> NotFound:
    return NotFound("there is no such schedule")
