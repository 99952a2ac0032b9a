"""Makes the tasks of schedules: one for each tick, over any number of servers, and on time.

What a tick does is decided by one record, that of its schedule. A server puts there by compare-and-set that
the tick is made (``making``, ``last``) and which one comes next; then it stores the task, whose id is the
tick's; then it clears ``making``. Where a server dies in between, the next one that looks at the schedule
stores the task. To store it twice changes nothing, since its id is there already.

Every server that does chores has a timer for the next tick of any schedule. There is no leader: of several
servers that come to a tick, the first decides. Schedules that other servers have edited are noticed by one
record, which says which schedule was edited last and is read once a second.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Callable

from msgspec import structs

from ratus.core.clock import MINUTE, SECOND, Clock, Timer
from ratus.core.errors import Conflict, NotFound, ServiceUnavailable
from ratus.core.kinds import SCHEDULE_EDITS, SCHEDULES
from ratus.core.records import ACTIVE, PENDING, Record, ScheduleEdit, ScheduleRecord, TaskRecord
from ratus.core.schedules import (
    ALL,
    MOST_CAUGHT_UP,
    SKIP,
    newest_ticks,
    next_tick,
    task_id,
    ticks_from_text,
    ticks_to_text,
)
from ratus.engine import Engine

logger = logging.getLogger("ratus.runtime.scheduler")

MakeTask = Callable[[ScheduleRecord, str, int], TaskRecord]
"""Makes the task of a schedule with this id, due at this time (microseconds)."""

# Microseconds between two looks at which schedule another server has edited last.
_LOOK = SECOND
# Microseconds after which all schedules are read again: an edit may have been stored by a server that died
# before it said so.
_LOOK_AT_ALL = 5 * MINUTE
# Microseconds until a tick is tried again when the engine could not be reached, or something else failed.
_PAUSE = SECOND
# Schedules that are read at a time, and those whose ticks are made at the same time.
_PAGE = 100
_TOGETHER = 32
# The id of the only record of the kind `SCHEDULE_EDITS`.
_LAST = "last"

# Seconds after which the loop is cancelled again if it has not ended.
_PATIENCE = 5


class Scheduler:
    """Keeps schedules and makes their tasks. ``produced`` is called with each task that was stored.

    With ``runs`` false, as on servers without chores, the tasks are left to other servers.
    """

    def __init__(
        self,
        engine: Engine,
        clock: Clock,
        make_task: MakeTask,
        produced: Callable[[TaskRecord], None] = lambda task: None,
        *,
        runs: bool = True,
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._make_task = make_task
        self._produced = produced
        self._runs = runs
        self._due: list[tuple[int, str]] = []
        # The time for which each schedule stands in `_due`; other entries of it are outdated.
        self._next: dict[str, int] = {}
        self._edit: int | None = None  # the last edit that is known
        self._read_all_at = 0  # by the monotonic clock
        self._wake: asyncio.Event = asyncio.Event()
        self._loop_task: asyncio.Task[None] | None = None
        self.made = 0
        """Tasks of ticks that this server has stored."""
        self.skipped = 0
        """Ticks that this server has decided to leave out: the last task was not done, or it was too late."""

    # ---- life ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start to make the tasks of ticks, in the running event loop."""
        if self._runs:
            self._loop_task = asyncio.get_running_loop().create_task(self._loop())

    async def stop(self) -> None:
        """Stop, in the middle of a tick if need be, and wait until that has ended."""
        task, self._loop_task = self._loop_task, None
        while task is not None and not task.done():
            # Before Python 3.12 a library's `wait_for` may swallow a cancellation: cancel again.
            task.cancel()
            await asyncio.wait([task], timeout=_PATIENCE)

    def clock_stepped(self) -> None:
        """The wall clock was set: look again at what is due."""
        self._wake.set()

    @property
    def known(self) -> int:
        """Schedules with a tick to come, as far as this server knows."""
        return len(self._next)

    async def _loop(self) -> None:
        while True:
            try:
                await self._run_due()  # first, so that ticks are on time
                await self._look()
            except ServiceUnavailable as error:
                logger.debug("schedules could not be read: %s", error.detail)
                await self._sleep(_PAUSE)
            except Exception:
                logger.exception("reading schedules failed; trying again")
                await self._sleep(_PAUSE)
            else:
                await self._wait()

    async def _wait(self) -> None:
        """Wait for the next tick, or the next look at what others have edited."""
        while self._due and self._next.get(self._due[0][1]) != self._due[0][0]:
            heapq.heappop(self._due)
        timers: list[Timer] = []
        if self._due:
            timers.append(self._clock.call_at(self._due[0][0], self._wake.set))
        if self._engine.traits.shared:
            timers.append(self._clock.call_at_monotonic(self._clock.monotonic() + _LOOK, self._wake.set))
        try:
            await self._wake.wait()
        finally:
            for timer in timers:
                timer.cancel()
        self._wake.clear()

    async def _sleep(self, microseconds: int) -> None:
        over = asyncio.Event()
        timer = self._clock.call_at_monotonic(self._clock.monotonic() + microseconds, over.set)
        try:
            await over.wait()
        finally:
            timer.cancel()

    # ---- which schedules there are -----------------------------------------------------------------

    async def _look(self) -> None:
        """Learn of schedules that were edited, by whichever server."""
        if self._edit is not None and not self._engine.traits.shared:
            return
        now = self._clock.monotonic()
        if self._edit is None or now >= self._read_all_at:
            found = await self._engine.get_record(SCHEDULE_EDITS, _LAST)
            await self._read_all()
            self._read_all_at = now + _LOOK_AT_ALL
        else:
            found = await self._engine.get_record(SCHEDULE_EDITS, _LAST)
            if found is not None and found.members.number == self._edit + 1:
                await self._read(found.members.name)
            elif found is not None and found.members.number != self._edit:
                await self._read_all()
        self._edit = 0 if found is None else found.members.number

    async def _read(self, name: str) -> None:
        found = await self._engine.get_record(SCHEDULES, name)
        self._note(name, None if found is None else found.members)

    async def _read_all(self) -> None:
        after, there = "", set()
        while page := await self._engine.list_records(SCHEDULES, after, _PAGE):
            for record in page:
                there.add(record.id)
                self._note(record.id, record.members)
            after = page[-1].id
            await asyncio.sleep(0)
        for name in self._next.keys() - there:
            await self._read(name)  # it was deleted, or set while the others were read

    def _note(self, name: str, schedule: ScheduleRecord | None) -> None:
        """Remember when a schedule ticks next."""
        when = None
        if schedule is not None:
            if schedule.making is not None:
                when = self._clock.now()  # the task of an earlier tick is not stored yet
            elif not schedule.paused:
                when = schedule.next
        if when is None:
            self._next.pop(name, None)
        elif self._next.get(name) != when:
            self._next[name] = when
            heapq.heappush(self._due, (when, name))

    # ---- ticks ---------------------------------------------------------------------------------------

    async def _run_due(self) -> None:
        now = self._clock.now()
        while self._due and self._due[0][0] <= now:
            names: list[str] = []
            while self._due and self._due[0][0] <= now and len(names) < _TOGETHER:
                when, name = heapq.heappop(self._due)
                if self._next.get(name) == when:
                    names.append(name)
            await asyncio.gather(*map(self._run_one, names))

    async def _run_one(self, name: str) -> None:
        try:
            await self.run_due(name)
        except ServiceUnavailable as error:
            logger.warning("schedule %s could not run: %s", name, error.detail)
        except Exception:
            logger.exception("schedule %s failed; it is tried again", name)
        else:
            return
        self._next[name] = when = self._clock.now() + _PAUSE
        heapq.heappush(self._due, (when, name))

    async def run_due(self, name: str) -> Record[ScheduleRecord] | None:
        """Make the tasks of the ticks of this schedule that are due. Returns its record as it is then."""
        while True:
            found = await self._engine.get_record(SCHEDULES, name)
            if found is None:
                self._note(name, None)
                return None
            if found.members.making is not None:
                await self._finish(found)
                continue
            schedule, now = found.members, self._clock.now()
            if schedule.paused or schedule.next is None or schedule.next > now:
                self._note(name, schedule)
                return found
            decided, skipped = await self._decide(name, schedule, now)
            try:
                version = await self._engine.put_record(SCHEDULES, name, decided, found.version)
            except Conflict:
                continue  # another server came to it first, or it was edited
            self.skipped += skipped
            found = Record(name, version, decided)
            if decided.making is not None:
                await self._finish(found)
                continue
            self._note(name, decided)
            return found

    async def _decide(self, name: str, schedule: ScheduleRecord, now: int) -> tuple[ScheduleRecord, int]:
        """The schedule after its due ticks, with those that get a task; and how many others there were."""
        first = schedule.next
        assert first is not None, "it is due"
        most = MOST_CAUGHT_UP if schedule.catch_up == ALL and schedule.overlap != SKIP else 1
        due = newest_ticks(schedule, first, now, most)
        ticks = [tick for tick in due if not self._is_too_late(schedule, name, tick, now)]
        if ticks and schedule.overlap == SKIP and await self._is_running(schedule.last):
            ticks = []
        last = task_id(name, ticks[-1]) if ticks else schedule.last
        following = next_tick(schedule, due[-1])
        making = ticks_to_text(ticks)
        decided = structs.replace(schedule, next=following, last=last, making=making, decided=due[-1])
        return decided, len(due) - len(ticks)

    def _is_too_late(self, schedule: ScheduleRecord, name: str, tick: int, now: int) -> bool:
        """Whether the task of a tick would have expired already."""
        expires = self._make_task(schedule, task_id(name, tick), tick).expires
        return expires is not None and expires <= now

    async def _is_running(self, last: str) -> bool:
        task = await self._engine.get(last) if last else None
        return task is not None and task.state in (PENDING, ACTIVE)

    async def _finish(self, record: Record[ScheduleRecord]) -> None:
        """Store the tasks that were decided on, then say that they are stored."""
        schedule, now = record.members, self._clock.now()
        tasks = [
            self._make_task(schedule, task_id(record.id, tick), tick)
            for tick in ticks_from_text(schedule.making)
        ]
        for start in range(0, len(tasks), _PAGE):
            some = tasks[start : start + _PAGE]
            for task, new in zip(some, await self._engine.insert(some, now), strict=True):
                if new:
                    self.made += 1
                    self._produced(task)
        try:
            done = structs.replace(schedule, making=None)
            await self._engine.put_record(SCHEDULES, record.id, done, record.version)
        except Conflict:
            pass  # another server has stored them as well, and was first

    # ---- what clients do -----------------------------------------------------------------------------

    async def get(self, name: str) -> ScheduleRecord | None:
        """The schedule, or ``None``."""
        found = await self._engine.get_record(SCHEDULES, name)
        return None if found is None else found.members

    async def page(self, after: str, limit: int) -> list[Record[ScheduleRecord]]:
        """Up to ``limit`` schedules whose names come after ``after``, by name."""
        return await self._engine.list_records(SCHEDULES, after, limit)

    async def edit(
        self, name: str, change: Callable[[ScheduleRecord | None], ScheduleRecord]
    ) -> tuple[ScheduleRecord, bool]:
        """Set a schedule to what ``change`` makes of it, and compute its next tick.

        Ticks that are due are made before, as it is then. An edit that changes nothing leaves everything as
        it is. Returns the schedule, and whether it is new. Raises what ``change`` raises.
        """
        while True:
            found = await self.run_due(name)
            old = None if found is None else found.members
            new = change(old)
            if old is not None:
                new = structs.replace(new, next=old.next, last=old.last, decided=old.decided)
                if new == old:
                    return old, False
            # A server whose clock is ahead may have decided ticks that are still to come here.
            after = max(self._clock.now(), new.decided or 0)
            new = structs.replace(new, next=next_tick(new, after))
            try:
                await self._engine.put_record(SCHEDULES, name, new, 0 if found is None else found.version)
            except Conflict:
                continue
            await self._edited(name, new)
            return new, old is None

    async def delete(self, name: str) -> bool:
        """Delete a schedule; its tasks stay. Returns whether there was one."""
        while True:
            found = await self.run_due(name)
            if found is None:
                return False
            try:
                await self._engine.put_record(SCHEDULES, name, None, found.version)
            except Conflict:
                continue
            await self._edited(name, None)
            return True

    async def run(self, name: str) -> TaskRecord:
        """Make a task now, whether or not the schedule is paused or its last task is done.

        Raises `NotFound`.
        """
        found = await self._engine.get_record(SCHEDULES, name)
        if found is None:
            raise NotFound("there is no such schedule")
        now = self._clock.now()
        while True:
            task = self._make_task(found.members, task_id(name, now), now)
            (new,) = await self._engine.insert([task], now)
            if new:
                break
            now += 1  # another run at the same microsecond
        self._produced(task)
        while found is not None:
            if found.members.making is not None:
                await self._finish(found)
            else:
                changed = structs.replace(found.members, last=task.id)
                try:
                    await self._engine.put_record(SCHEDULES, name, changed, found.version)
                except Conflict:
                    pass
                else:
                    break
            found = await self._engine.get_record(SCHEDULES, name)
        return task

    async def _edited(self, name: str, schedule: ScheduleRecord | None) -> None:
        """Let this server's timer know of an edit, and the other servers."""
        self._note(name, schedule)
        self._wake.set()
        while True:
            found = await self._engine.get_record(SCHEDULE_EDITS, _LAST)
            number = 0 if found is None else found.members.number
            edit = ScheduleEdit(number + 1, name)
            try:
                await self._engine.put_record(
                    SCHEDULE_EDITS, _LAST, edit, 0 if found is None else found.version
                )
            except Conflict:
                continue
            return


def make_with(read: Callable[[bytes, str, str, int], TaskRecord], clock: Clock) -> MakeTask:
    """Make tasks by ``read``, which reads a task from a body, with its topic, its id and the time of now."""

    def make(schedule: ScheduleRecord, id_: str, tick: int) -> TaskRecord:
        task = read(schedule.task or b"{}", schedule.topic, id_, tick)
        task.produced = clock.now()
        return task

    return make
