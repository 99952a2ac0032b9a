"""Values: what clients share under a name, on top of the records of an engine.

Every change of any value is decided by one record, the *last write*: a writer puts its change there by
compare-and-set, and only then stores the value itself. So there is one order of all changes, over any number
of servers, and revisions grow in that order. The next writer first stores what the last write decided, where
the server that decided it had not come to that; storing it twice changes nothing.

A change can therefore be seen only after all changes before it can be. That is why a client that has seen a
revision has missed nothing below it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

from ratus.core.clock import MINUTE
from ratus.core.errors import Conflict, Overloaded
from ratus.core.kinds import VALUE_WRITES, VALUES
from ratus.core.records import MAX_PAGE_BYTES, Record, ValueRecord, ValueWrite
from ratus.core.values import NamedValue
from ratus.engine import Engine

# The id of the only record of the kind `VALUE_WRITES`.
_LAST = "last"

# Seconds that a change waits for those before it on this server.
_PATIENCE = 30.0

# Values that are read at a time: at most 6 MiB.
_PAGE = 100

# Microseconds after which deleted values are looked for again, where this server knows of none. Other servers
# look for those that were deleted there.
_LOOK_AGAIN = 60 * MINUTE

# Bytes that a value takes in an answer beside its name and its JSON text.
_FIXED_BYTES = 120


class Values:
    """Reads and changes values. ``changed`` is called after every change that this server makes."""

    def __init__(self, engine: Engine, changed: Callable[[], None] = lambda: None) -> None:
        self._engine = engine
        self._changed = changed
        # Changes by this server take turns. Without that, each would fail once for every change beside it.
        self._turn = asyncio.Lock()
        self._finished = 0  # the version of the last write that is known to be stored
        self._tidy_at = 0  # when deleted values are looked for, in microseconds since 1970

    # ---- reading ---------------------------------------------------------------------------------

    async def get(self, name: str) -> ValueRecord | None:
        """The value, or ``None`` where there is none. One that was deleted is found for a while."""
        found = await self._engine.get_record(VALUES, name)
        return None if found is None else found.members

    async def page(self, prefix: str, after: str, limit: int) -> tuple[list[NamedValue], bool]:
        """Up to ``limit`` values whose names begin with ``prefix`` and come after ``after``, by name.

        Returns also whether there may be more. Ends early, after at least one value, at `MAX_PAGE_BYTES`.
        """
        found: list[NamedValue] = []
        size = 0
        async for value in self._of_prefix(prefix, after):
            if value.record.deleted:
                continue
            size += _weight(value)
            if len(found) >= limit or (found and size > MAX_PAGE_BYTES):
                return found, True
            found.append(value)
        return found, False

    async def beyond_each(self, since: Mapping[str, int]) -> list[NamedValue]:
        """The values of these names whose revision is larger than that beside the name, deleted ones too."""
        await self._finish(await self._last())
        found: list[NamedValue] = []
        for name, revision in since.items():
            record = await self.get(name)
            if record is not None and record.revision > revision:
                found.append(NamedValue(name, record))
        return found

    async def beyond(self, prefix: str, since: int) -> list[NamedValue]:
        """The values of a prefix whose revision is larger than ``since``, deleted ones too, by revision.

        Those with the largest revisions are left out where all would take more than `MAX_PAGE_BYTES`. A value
        that is changed meanwhile may be left out; its revision is then larger than those of the answer.
        """
        last = await self._last()
        await self._finish(last)
        until = 0 if last is None else last.members.revision
        if until <= since:
            return []
        found: list[NamedValue] = []
        size = 0
        async for value in self._of_prefix(prefix, ""):
            # Of two changes made since `until` was read, the page with the first may have been read before it
            # was made, and the page with the second after that. To return the second would hide the first.
            if since < value.record.revision <= until:
                found.append(value)
                size += _weight(value)
                if size > 2 * MAX_PAGE_BYTES:
                    found = _shortened(found)
                    until = found[-1].record.revision
                    size = sum(map(_weight, found))
        return _shortened(found)

    async def _of_prefix(self, prefix: str, after: str) -> AsyncIterator[NamedValue]:
        if after < prefix:
            after = prefix
            record = await self.get(prefix) if prefix else None
            if record is not None:
                yield NamedValue(prefix, record)
        while True:
            page = await self._engine.list_records(VALUES, after, _PAGE)
            for record_ in page:
                if not record_.id.startswith(prefix):
                    return
                yield NamedValue(record_.id, record_.members)
            if len(page) < _PAGE:
                return
            after = page[-1].id
            await asyncio.sleep(0)

    # ---- changing --------------------------------------------------------------------------------

    async def put(self, name: str, value: bytes | None, expected: int | None, now: int) -> NamedValue:
        """Set a value; ``None`` is JSON's null. Returns it with its revision.

        ``expected`` is the revision that it must have, 0 where there must be none; otherwise raises
        `Conflict`. ``None``: whatever it is.
        """
        written = await self._write(name, expected, ValueRecord(value, updated=now))
        assert written is not None, "only deletions have nothing to do"
        return written

    async def delete(self, name: str, expected: int | None, now: int) -> bool:
        """Delete a value, with ``expected`` as for `put`. Returns whether there was one."""
        return await self._write(name, expected, ValueRecord(updated=now, deleted=True)) is not None

    async def _write(self, name: str, expected: int | None, new: ValueRecord) -> NamedValue | None:
        """Make the change in its turn. ``None``: there is nothing to delete."""
        await self._take_turn()
        try:
            while True:
                last = await self._last()
                await self._finish(last)
                old = await self.get(name)
                current = 0 if old is None or old.deleted else old.revision
                if expected is not None and expected != current:
                    raise Conflict(_refusal(current, expected))
                if new.deleted and not current:
                    return None
                assert new.updated is not None, "a change has a time"
                # The value's own revision is looked at because a snapshot may hold it without the last write.
                revision = max(
                    new.updated,
                    1 + (0 if last is None else last.members.revision),
                    1 + (0 if old is None else old.revision),
                )
                write = ValueWrite(name, new.value, revision, new.updated, new.deleted)
                try:
                    version = await self._engine.put_record(
                        VALUE_WRITES, _LAST, write, 0 if last is None else last.version
                    )
                except Conflict:
                    continue  # another server was first
                await self._finish(Record(_LAST, version, write))
                if new.deleted:
                    self._tidy_at = 0
                self._changed()
                return NamedValue(name, _record(write))
        finally:
            self._turn.release()

    async def _take_turn(self) -> None:
        if not self._turn.locked():
            await self._turn.acquire()
            return
        # `asyncio.timeout` needs a task, and a request may run without one.
        turn = asyncio.get_running_loop().create_task(self._turn.acquire())
        await asyncio.wait([turn], timeout=_PATIENCE)
        if not turn.done():
            turn.cancel()
            raise Overloaded("other changes of values take too long; try again")

    async def _last(self) -> Record[ValueWrite] | None:
        return await self._engine.get_record(VALUE_WRITES, _LAST)

    async def last_version(self) -> int:
        """A number that is another one after every change of any value."""
        last = await self._last()
        return 0 if last is None else last.version

    async def _finish(self, last: Record[ValueWrite] | None) -> None:
        """Store what the last write decided, unless that was done or another write came after it."""
        if last is None or last.version == self._finished:
            return
        write = last.members
        while True:
            found = await self._engine.get_record(VALUES, write.name)
            if found is not None and found.members.revision >= write.revision:
                break
            try:
                version = 0 if found is None else found.version
                await self._engine.put_record(VALUES, write.name, _record(write), version)
            except Conflict:
                if await self.last_version() != last.version:
                    return  # the server that made the later write has stored this one before
                continue
            break
        self._finished = last.version

    # ---- chores ----------------------------------------------------------------------------------

    async def tidy(self, now: int, retention: int) -> int:
        """Finish the last write, and forget values that were deleted at least ``retention`` microseconds ago.

        Returns how many were forgotten. Looks at all values, but only when one may have to be forgotten.
        """
        last = await self._last()
        await self._finish(last)
        if now < self._tidy_at or last is None:
            return 0
        self._tidy_at = look_at = now + _LOOK_AGAIN
        forgotten = 0
        after = ""
        while page := await self._engine.list_records(VALUES, after, _PAGE):
            for record in page:
                value = record.members
                if not value.deleted or value.updated is None:
                    continue
                if value.updated + retention > now:
                    look_at = min(look_at, value.updated + retention)
                    continue
                # A server that starts later and finishes the last write would store this deletion again.
                if value.revision == last.members.revision:
                    look_at = min(look_at, now + MINUTE)
                    continue
                try:
                    await self._engine.put_record(VALUES, record.id, None, record.version)
                except Conflict:
                    continue  # it was set again
                forgotten += 1
            after = page[-1].id
            await asyncio.sleep(0)
        if self._tidy_at:  # else a value was deleted meanwhile
            self._tidy_at = look_at
        return forgotten


def _record(write: ValueWrite) -> ValueRecord:
    return ValueRecord(write.value, write.revision, write.updated, write.deleted)


def _refusal(current: int, expected: int) -> str:
    if not current:
        return f"there is no such value, and revision {expected} was expected; 0 sets a new one"
    if not expected:
        return f"the value exists, with revision {current}; give that revision to replace it"
    return f"the value has revision {current}, not {expected}: read it again"


def _weight(value: NamedValue) -> int:
    """About how many bytes a value takes in an answer."""
    return _FIXED_BYTES + len(value.name) + len(value.record.value or b"")


def _shortened(found: list[NamedValue]) -> list[NamedValue]:
    """The values by revision, up to `MAX_PAGE_BYTES` of them and at least one."""
    found.sort(key=lambda value: value.record.revision)
    size = 0
    for count, value in enumerate(found):
        size += _weight(value)
        if count and size > MAX_PAGE_BYTES:
            return found[:count]
    return found
