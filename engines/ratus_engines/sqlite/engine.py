"""The SQLite engine: one file, one thread that writes, one that reads.

Every acknowledged write is in SQLite's write-ahead log and, with ``synchronous`` ``full``, on disk. An
operation that may concern a million tasks works in slices, each a transaction of its own, and others run in
between.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ratus.core.errors import BadRequest, Closed, RatusError, ServiceUnavailable
from ratus.core.kinds import TOPIC_SETTINGS, Kind
from ratus.core.records import (
    MAX_PAGE_BYTES,
    CommitRecord,
    LaneInfo,
    Members,
    Record,
    TaskPage,
    TaskQuery,
    TaskRecord,
    TopicInfo,
)
from ratus.core.selection import Selection, Where
from ratus.core.transitions import RetryDefaults
from ratus.engine import Engine, Health, Traits
from ratus_engines.sqlite import lane_queries, queries
from ratus_engines.sqlite.connections import check_library
from ratus_engines.sqlite.lanes import BEFORE_ALL, Value
from ratus_engines.sqlite.notifications import Notifications
from ratus_engines.sqlite.operations import FIRST_PLACE, SLICE, GroupedWrites, Place, SingleWrites
from ratus_engines.sqlite.reader import Reader
from ratus_engines.sqlite.watch import Watch
from ratus_engines.sqlite.writer import Writer

logger = logging.getLogger("ratus.sqlite")

# Pages (of 4 KiB) that are given back in one transaction, some 5 ms of work, and in one round of chores.
GIVEN_BACK_AT_ONCE = 128
GIVEN_BACK_A_ROUND = 8_192

# Free pages that stay in the file, since new tasks would need them again: this many, or one in so many of all
# pages, whichever is more.
KEPT_FREE = 512
KEPT_FREE_SHARE = 8

# Microseconds by which an operation's time may be before that of an earlier one: requests that come together
# are carried out in any order, above all where one has a large body. More means that the clock was set back.
SAME_TIME = 500_000

# Seconds that an operation waits, at the most, for `_keep_due` after the clock was set back.
STEP_SECONDS = 1.0

# Seconds that `health` waits for a trial write. The contract allows a second.
PROBE_SECONDS = 0.5

Result = TypeVar("Result")


class SqliteEngine(Engine):
    """Keeps everything in the file at ``path``.

    ``synchronous``: ``full``, or ``normal``: faster, but a power failure loses the last moments before it.
    ``busy_timeout``: microseconds that a write waits for other processes. Raises `ValueError` without a path.
    """

    traits = Traits(name="sqlite", durable=True, shared=True)

    def __init__(
        self,
        *,
        path: str = "ratus.db",
        synchronous: str = "full",
        busy_timeout: int = 5_000_000,
        retry: RetryDefaults | None = None,
        random: Callable[[], float] | None = None,
        nonces: Callable[[], str] | None = None,
    ) -> None:
        super().__init__(retry=retry, nonces=nonces, **({"random": random} if random else {}))
        if not path:
            raise ValueError("--sqlite-path is empty: name the file that holds the tasks")
        # Resolved now: the folder that the process runs in may get another name.
        file = Path(path).absolute()
        self._writer = Writer(file, synchronous=synchronous, busy_timeout=busy_timeout, listen=self._notify)
        self._reader = Reader(file, busy_timeout=busy_timeout)
        self._watch = Watch(self._reader, self._arrived)
        self._grouped = GroupedWrites(self.retry, self._random, self.nonces)
        self._single = SingleWrites(self.retry, self._random, self.nonces)
        self._is_open = False
        self._probing: asyncio.Future[None] | None = None
        self._latest = 0  # the latest time of an operation since the clock was set back
        self._stepping: asyncio.Task[None] | None = None
        self._building: dict[str, asyncio.Task[None]] = {}  # by topic

    # ---- life ------------------------------------------------------------------------------------

    def _random(self) -> float:
        """As `random` says, which may be replaced at any time."""
        return self.random()

    async def open(self, now: int) -> None:
        check_library()
        await self._writer.start()
        try:
            await self._reader.start()
            await self._watch.open()
            self._latest = max(now, await self._read(queries.newest))
            self._writer.clock.see(self._latest)
        except BaseException:
            await self._reader.stop()
            await self._writer.stop()
            raise
        self._is_open = True

    async def close(self, now: int) -> None:
        self._is_open = False
        self._watch.stop()
        if self._stepping is not None:
            self._stepping.cancel()
        for task in self._building.values():
            task.cancel()
        await self._reader.stop()
        await self._writer.stop()

    async def health(self) -> Health:
        if not self._is_open:
            return Health(False, "the database is not open")
        # While the server answers 503, no request may come whose write shows that writing works again.
        if self._writer.trouble or self._has_lost_files():
            await self._probe()
        return Health(not self._writer.trouble, self._writer.trouble)

    def _has_lost_files(self) -> bool:
        try:
            return self._writer.has_odd_files()
        except OSError:
            return True

    async def _probe(self) -> None:
        """Try to write, and wait a moment for the outcome, which is in the writer's ``trouble``."""
        if self._probing is None or self._probing.done():
            self._probing = asyncio.ensure_future(self._write(self._single.probe))
            self._probing.add_done_callback(_forget_error)
        await asyncio.wait([self._probing], timeout=PROBE_SECONDS)

    # ---- asking the threads ------------------------------------------------------------------------

    def _read(self, query: Callable[..., Result], *arguments: Any) -> Awaitable[Result]:
        return self._reader.submit(query, arguments)

    def _write(
        self,
        operation: Callable[..., Result],
        *arguments: Any,
        weight: int = 1,
        undo: Callable[[Any], None] | None = None,
    ) -> Awaitable[Result]:
        return self._writer.submit(operation, arguments, weight=weight, undo=undo)

    def _write_together(
        self,
        order: int,
        operation: Callable[..., list[Result]],
        *arguments: Any,
        weight: int,
        undo: Callable[[Any], None] | None = None,
    ) -> Awaitable[Result]:
        """Submit an operation that serves many requests at once. Smaller orders run first."""
        return self._writer.submit(operation, arguments, weight=weight, order=order, undo=undo)

    async def _repeat(self, operation: Callable[..., int], *arguments: Any) -> int:
        """Run the operation, a slice each time, until nothing is left. Returns how many tasks it handled."""
        total = 0
        while True:
            count = await self._write(operation, *arguments, weight=SLICE)
            total += count
            if count < SLICE:
                return total

    # ---- a clock that is set back ------------------------------------------------------------------

    async def _see(self, now: int) -> None:
        """Note the time of an operation. If the clock was set back, keep those tasks due that were."""
        self._writer.clock.see(now)
        if now >= self._latest - SAME_TIME:
            self._latest = max(self._latest, now)
        else:
            latest, self._latest = self._latest, now
            before = self._stepping
            self._stepping = asyncio.get_running_loop().create_task(self._keep_due(now, latest, before))
        if self._stepping is not None:
            await asyncio.wait([self._stepping], timeout=STEP_SECONDS)
            if self._stepping is not None and self._stepping.done():
                self._stepping = None

    async def _keep_due(self, now: int, latest: int, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])
        place: Place | None = FIRST_PLACE
        try:
            while place is not None:
                place = await self._write(self._single.keep_due, place, now, latest, weight=SLICE)
            for operation in (self._single.bound_rates, self._single.bound_rates_of_lanes):
                number: int | None = 0
                while number is not None:
                    number = await self._write(operation, number, now, weight=SLICE)
        except ServiceUnavailable as error:
            self._latest = max(self._latest, latest)  # the next operation tries again
            logger.warning("tasks that were due before the clock was set back are not: %s", error.detail)

    def _notify(self, notifications: Notifications) -> None:
        listener, observer = self.listener, self.observer
        if listener is not None:
            for topic, tasks in notifications.available.items():
                for task in tasks or (None,):
                    listener.available(topic, task)
            for task_id in notifications.settled:
                listener.settled(task_id)
        if observer is not None:
            for topic, events in notifications.events:
                observer.record(topic, events)
            for topic, reason in notifications.refused:
                observer.refused(topic, reason)
        for topic in notifications.building:
            self._start_building(topic)

    # ---- tasks -----------------------------------------------------------------------------------

    # The first argument is an order: a transaction stores tasks before it serves claims, so that they can be
    # claimed at once.

    async def insert(self, tasks: Sequence[TaskRecord], now: int) -> list[bool]:
        await self._see(now)
        return await self._write_together(1, self._grouped.insert, tasks, now, weight=len(tasks))

    async def upsert(self, tasks: Sequence[TaskRecord], now: int) -> list[bool]:
        await self._see(now)
        return await self._write_together(2, self._grouped.upsert, tasks, now, weight=len(tasks))

    async def commit(self, commits: Sequence[CommitRecord], now: int) -> list[TaskRecord | RatusError]:
        await self._see(now)
        return await self._write_together(3, self._grouped.commit, commits, now, weight=len(commits))

    async def get(self, task_id: str) -> TaskRecord | None:
        return await self._read(queries.get, task_id)

    async def list_tasks(self, query: TaskQuery) -> TaskPage:
        after = 0
        if query.after is not None:
            if not (query.after.isascii() and query.after.isdecimal() and len(query.after) <= 15):
                raise BadRequest("the cursor is not one that this server gave")
            after = int(query.after)
        found: list[TaskRecord] = []
        skip, room = query.offset, MAX_PAGE_BYTES
        while True:
            part = await self._read(
                queries.list_slice, query, after, skip, query.limit - len(found), room if found else None
            )
            found += part.tasks
            after, skip, room = part.last, skip - part.skipped, room - part.size
            if part.full or not part.more:
                return TaskPage(found, str(after) if part.more else None)

    async def delete_task(self, task_id: str) -> bool:
        return await self._write(self._single.delete_task, task_id)

    async def delete_tasks(self, topic: str) -> int:
        until = await self._write(self._single.last)
        return await self._repeat(self._single.delete_of_topic, topic, until)

    # ---- claims ----------------------------------------------------------------------------------

    async def claim(self, selection: Selection, now: int) -> list[TaskRecord]:
        await self._see(now)
        while True:
            claimed: list[TaskRecord] | Closed | None = await self._write_together(
                4, self._grouped.claim, selection, now, weight=selection.limit, undo=self._give_back
            )
            if claimed is not None:
                assert not isinstance(claimed, Closed), "an answer that is an error is raised"
                return claimed

    async def claim_task(self, task_id: str, selection: Selection, now: int, *, force: bool) -> TaskRecord:
        return await self._write(
            self._single.claim_task, task_id, selection, now, force, undo=lambda task: self._give_back([task])
        )

    def _give_back(self, tasks: Iterable[TaskRecord] | None) -> None:
        """Release tasks that were claimed for a caller that was cancelled."""
        for task in tasks or ():
            self._writer.undo(self._single.release, (task.id, task.nonce))

    async def extend(self, task_id: str, nonce: str, deadline: int, now: int) -> TaskRecord:
        return await self._write(self._single.extend, task_id, nonce, deadline, now)

    async def release(
        self, task_id: str, now: int, nonce: str | None = None, hold: int | None = None
    ) -> bool:
        return await self._write(self._single.release, task_id, nonce, 0 if hold is None else now + hold)

    async def release_topic(self, topic: str, now: int) -> int:
        until = await self._write(self._single.last)
        total, after = 0, 0
        while True:
            count, after = await self._write(self._single.release_of_topic, topic, after, until, weight=SLICE)
            total += count
            if count < SLICE:
                return total

    async def next_due(self, topic: str, now: int, where: Where | None = None) -> int | None:
        return await self._read(lane_queries.next_due, topic, now, where)

    # ---- topics ----------------------------------------------------------------------------------

    async def list_topics(self, limit: int, offset: int) -> list[str]:
        return await self._read(queries.list_topics, limit, offset)

    async def get_topic(self, topic: str, now: int) -> TopicInfo | None:
        await self._see(now)
        return await self._count(topic, now)

    async def _count(self, topic: str, now: int) -> TopicInfo | None:
        try:
            return await self._read(queries.get_topic, topic, now, False)
        except queries.Uncounted:
            while not await self._write(self._single.count_due, topic, now, weight=SLICE):
                pass
            return await self._read(queries.get_topic, topic, now, True)

    async def survey(self, now: int, visit: Callable[[TopicInfo], None]) -> None:
        await self._see(now)
        after = 0
        while found := await self._read(queries.survey_slice, after, now):
            for number, name, quick in found:
                after = number
                info = quick or await self._count(name, now)
                if info is not None:
                    visit(info)

    async def delete_topic(self, topic: str) -> int:
        await self.put_record(TOPIC_SETTINGS, topic, None)
        count = await self.delete_tasks(topic)
        await self._repeat(self._single.forget_times, topic)
        return count

    async def delete_topics(self) -> int:
        await self._write(self._single.forget_settings)
        until = await self._write(self._single.last)
        count = await self._repeat(self._single.delete_any, until)
        await self._repeat(self._single.forget_all_times)
        return count

    # ---- lanes -----------------------------------------------------------------------------------

    async def list_lanes(
        self, topic: str, label: str, after: str | None, limit: int, now: int
    ) -> list[LaneInfo]:
        await self._see(now)
        found: list[LaneInfo] | None = await self._read(
            lane_queries.list_lanes, topic, label, after, limit, now
        )
        if found is None:
            while not await self._write(self._single.use_label, topic, label, weight=SLICE):
                await self._write(self._single.build, topic, weight=SLICE)
            found = await self._read(lane_queries.list_lanes, topic, label, after, limit, now)
        return found or []

    async def lift_holds(self, topic: str, now: int) -> None:
        await self._see(now)
        after: tuple[str, Value | int] | None = ("", BEFORE_ALL)
        while after is not None:
            after = await self._write(self._single.lift_holds, topic, after, weight=SLICE)

    def _start_building(self, topic: str) -> None:
        """Build the lanes of a topic, unless that goes on already."""
        if topic not in self._building and self._is_open:
            self._building[topic] = asyncio.get_running_loop().create_task(self._build(topic))

    async def _build(self, topic: str) -> None:
        try:
            while not await self._write(self._single.build, topic, weight=SLICE):
                pass
        except ServiceUnavailable as error:
            logger.warning("the lanes of topic %s are not built yet: %s", topic, error.detail)
        finally:
            self._building.pop(topic, None)

    # ---- records ---------------------------------------------------------------------------------

    async def get_record(self, kind: Kind[Members], record_id: str) -> Record[Members] | None:
        return await self._read(queries.get_record, kind, record_id)

    async def put_record(
        self, kind: Kind[Members], record_id: str, members: Members | None, expected: int | None = None
    ) -> int:
        return await self._write(self._single.put_record, kind, record_id, members, expected)

    async def list_records(self, kind: Kind[Members], after: str, limit: int) -> list[Record[Members]]:
        return await self._read(queries.list_records, kind, after, limit)

    # ---- chores ----------------------------------------------------------------------------------

    async def recover(self, now: int) -> int:
        await self._see(now)
        return await self._in_topics(queries.topics_lapsed, self._single.recover, now)

    async def expire(self, now: int) -> int:
        return await self._in_topics(queries.topics_expired, self._single.expire, now)

    async def _in_topics(
        self, find: Callable[..., list[tuple[int, int]]], operation: Callable[..., int], now: int
    ) -> int:
        """Run the operation in every topic that has a task for it. Returns how many tasks it handled."""
        total, after = 0, 0
        while found := await self._read(find, after, now):
            for topic, has_come in found:
                if has_come:
                    total += await self._repeat(operation, topic, now)
            after = found[-1][0]
        return total

    async def purge(self, before: int) -> int:
        return await self._repeat(self._single.purge, before)

    async def maintain(self, now: int) -> None:
        if self._writer.trouble:
            await self._write(self._single.probe)
        await self._repeat(self._single.forget_early, now)
        await self._repeat(self._single.forget_passed_times, now)
        for topic in await self._read(lane_queries.unbuilt):
            self._start_building(topic)  # another server began it, and does not go on
        await self._give_space_back()

    async def _give_space_back(self) -> None:
        """Cut free pages off the file, little by little, until few are left or a round's share is done."""
        for _ in range(GIVEN_BACK_A_ROUND // GIVEN_BACK_AT_ONCE):
            free, pages = await self._write(self._single.free_pages)
            spare = free - max(KEPT_FREE, pages // KEPT_FREE_SHARE)
            if spare <= 0:
                return
            await self._write(self._single.give_back, min(spare, GIVEN_BACK_AT_ONCE), weight=SLICE)

    # ---- other processes -------------------------------------------------------------------------

    def watch(self, waiting: bool) -> bool:
        if waiting:
            self._watch.start()
        else:
            self._watch.stop()
        return True

    def _arrived(self, topics: Iterable[str]) -> None:
        if self.listener is not None:
            for topic in topics:
                self.listener.available(topic)


def _forget_error(future: asyncio.Future[None]) -> None:
    """Retrieve the error, so that asyncio does not log it: it is in the writer's ``trouble``."""
    if not future.cancelled():
        future.exception()
