"""The engine contract, on one page.

An engine stores tasks, and beside them small records of a few kinds (topic settings are one), and makes each
operation one atomic step. Every method says what it promises; how is the engine's business. What the suite
`ratus.engine.testkit` does not hold does not exist, and that suite runs unchanged against every engine.

For all methods:

- Times are microseconds since 1970-01-01 UTC. ``now`` is an argument: engines never read the clock.
- Ids are one namespace over all topics. Batches are the primitive, a single task is a batch of one.
- What a command does to a task, and whether it may, is decided by `ratus.core.transitions` (`decide`, and the
  functions that it calls). The engine finds tasks, asks, and carries out.
- Records handed in belong to the engine from then on. Records handed out may be the engine's own: the caller
  reads them before its next ``await`` and never changes them. Those of a `LARGE_BATCH` are the caller's.
- An answered write is as durable as `Traits.durable` says. One that raised changed nothing.
- `ServiceUnavailable` may be raised by every method: the database is away or not open yet; try again.
"""

from __future__ import annotations

import asyncio
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from msgspec import structs

from ratus.core.errors import Conflict, RatusError
from ratus.core.kinds import TOPIC_SETTINGS, Kind
from ratus.core.nonces import Nonces
from ratus.core.records import (
    CommitRecord,
    Members,
    Record,
    TaskPage,
    TaskQuery,
    TaskRecord,
    TopicInfo,
    TopicSettings,
)
from ratus.core.selection import Selection
from ratus.core.transitions import Event, RetryDefaults

# How many lapsed or expired tasks a claim takes care of in one step: so that one poll never pays for a
# million others, and others have their turn. The chore takes care of the rest.
CLAIM_CHORES = 1000


# A batch of more items than this may be done in slices, with other operations in between: each item is one
# atomic step, the batch is not. The records handed out for it are the caller's own.
LARGE_BATCH = 128


@dataclass(frozen=True, slots=True)
class Traits:
    """What an engine is, as data. The server asks for these, never for the engine's name.

    ``durable``: an answered write survives ``kill -9``. ``shared``: several servers may work on the same
    data. ``precision``: times are kept to this many microseconds. ``immediate``: what concerns single tasks
    is done without waiting for anything, so a server need not make a task of asyncio's for each request.
    """

    name: str
    durable: bool
    shared: bool
    precision: int = 1
    immediate: bool = False


@dataclass(frozen=True, slots=True)
class EngineMetric:
    """A number of an engine's own that operators watch: a metric without labels, named without ``ratus_``."""

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    value: float


@dataclass(frozen=True, slots=True)
class Health:
    """Whether the engine can serve, and what an operator should know (empty when all is well)."""

    ready: bool
    detail: str = ""


class Listener(Protocol):
    """Notified by an engine of what waiting requests wait for. Calls are synchronous and cheap."""

    def available(self, topic: str) -> None:
        """A claim in the topic may succeed that could not before, or sooner than `Engine.next_due` said: a
        task became pending, a deadline was set, the topic was resumed."""
        ...

    def settled(self, task_id: str) -> None:
        """A task was completed, archived or deleted."""
        ...

    def missed(self) -> None:
        """What other servers did may have been missed, or will be from now on (`Engine.follows`)."""
        ...


class Observer(Protocol):
    """Notified by an engine of what operators count. Calls are synchronous and cheap."""

    def record(self, topic: str, events: Sequence[Event]) -> None:
        """A change with these events was made to a task, which is in this topic now."""
        ...


# Names of topics that are asked for together: a question to a database, and little to remember.
_NAMES_AT_ONCE = 1000

# Topics that are asked for together by `Engine.survey`: few enough for any pool of connections.
_SURVEYED_TOGETHER = 32


class Engine(ABC):
    """A storage engine. Constructed without I/O; `open` before anything else, `close` at the end."""

    traits: Traits

    def __init__(
        self,
        *,
        retry: RetryDefaults | None = None,
        random: Callable[[], float] = random.random,
        nonces: Callable[[], str] | None = None,
    ) -> None:
        self.retry = retry or RetryDefaults()
        self.random = random
        self.nonces = nonces or Nonces()
        self.listener: Listener | None = None
        self.observer: Observer | None = None
        """Notified of the events of each `transitions.Change` that this engine made, once and after it is
        made, be it for a commit, within a claim or by a chore. A change whose answer got lost on the way from
        a database may be missing."""

    # ---- life ------------------------------------------------------------------------------------

    @abstractmethod
    async def open(self, now: int) -> None:
        """Make ready to serve. Raises `StartupError` where that can never succeed (a damaged file)."""

    @abstractmethod
    async def close(self, now: int) -> None:
        """Persist what is to be persisted and let go of everything. Raises if something would be lost."""

    @abstractmethod
    async def health(self) -> Health:
        """Whether the engine can serve; answers within a second and never raises."""

    def metrics(self, now: int) -> Sequence[EngineMetric]:
        """Numbers of this engine's own. Without I/O and never raises; the names are always the same."""
        return ()

    # ---- tasks -----------------------------------------------------------------------------------

    @abstractmethod
    async def insert(self, tasks: Sequence[TaskRecord], now: int) -> list[bool]:
        """Store those whose id is new (also within the batch: the first wins); true for each stored.

        The order of creation is the order in which ids come in. Tasks handed in incomplete are made whole
        (`transitions.complete_on_insert`).
        """

    @abstractmethod
    async def upsert(self, tasks: Sequence[TaskRecord], now: int) -> list[bool]:
        """Store all; one whose id exists replaces the old one whole and keeps its place in the order of
        creation. True for each that was new. Twice in a batch: the last stays."""

    @abstractmethod
    async def get(self, task_id: str) -> TaskRecord | None:
        """The task, or ``None``."""

    @abstractmethod
    async def list_tasks(self, query: TaskQuery) -> TaskPage:
        """Tasks of a topic in a fixed order, filtered. Ends early, after at least one task, at
        `MAX_PAGE_BYTES`. Following `TaskPage.next` never skips or repeats a task that stays.
        Raises `BadRequest` for an ``after`` that the engine never gave."""

    @abstractmethod
    async def delete_task(self, task_id: str) -> bool:
        """Delete a task in any state; true when there was one."""

    @abstractmethod
    async def delete_tasks(self, topic: str) -> int:
        """Delete the tasks that the topic has at this moment; settings stay. How many there were."""

    @abstractmethod
    async def commit(self, commits: Sequence[CommitRecord], now: int) -> list[TaskRecord | RatusError]:
        """Apply each commit by itself, in order. For each the task as it then is, or `NotFound` or
        `Conflict` (the nonce given is not the task's) and nothing changed."""

    # ---- claims ----------------------------------------------------------------------------------

    @abstractmethod
    async def claim(self, selection: Selection, now: int) -> list[TaskRecord]:
        """Claim up to ``selection.limit`` due tasks of its topics and never of another. What was due when it
        came, or when a claim of it was made that has ended, is due although ``now`` has stepped back behind
        its ``scheduled``.

        Topics in the order given; within one by priority (larger first), then ``scheduled``, then creation.
        Paused topics give nothing. Two callers never get the same claim. Lapsed claims of these topics
        are taken back first, up to about `CLAIM_CHORES`; expired tasks that stand before a due one are
        archived, however many. Ends early, after at least one task, at `MAX_PAGE_BYTES` or when much had to
        be taken care of. Empty when nothing is due.
        """

    @abstractmethod
    async def claim_task(self, task_id: str, selection: Selection, now: int, *, force: bool) -> TaskRecord:
        """Claim this task, due or not. Raises `NotFound`, or `Conflict` unless it is pending and has not
        expired; with ``force``, whatever its state, and one that has expired starts afresh."""

    @abstractmethod
    async def extend(self, task_id: str, nonce: str, deadline: int, now: int) -> TaskRecord:
        """Move the deadline of a claim. Raises `NotFound`; `Conflict` unless active under this nonce (an
        empty one forces)."""

    @abstractmethod
    async def release(self, task_id: str, now: int, nonce: str | None = None) -> bool:
        """Give an active task back; with a nonce only that very claim. True when that was done."""

    @abstractmethod
    async def release_topic(self, topic: str, now: int) -> int:
        """Give back all active tasks that the topic has at this moment. How many there were."""

    @abstractmethod
    async def next_due(self, topic: str) -> int | None:
        """When next a claim in this topic may succeed: the earliest ``scheduled`` of its pending tasks
        (possibly past) or deadline of its active ones; ``None`` when it is paused or has neither."""

    def watch(self, waiting: bool) -> bool:
        """Requests wait for tasks from now on, or none does any more; called on each change.

        An engine on shared data that can find out what *other* servers make available notifies its listener
        of it while requests wait, within 250 ms, and returns true. Otherwise the server tries claims for
        waiting requests now and then.
        """
        return False

    def follows(self) -> bool:
        """Whether the listener is notified at this moment, and without being asked to `watch`, of every task
        that another server completes, archives or deletes. Where that changes, `Listener.missed` is called.
        Where it is not so, a request that waits for a result looks now and then.
        """
        return not self.traits.shared

    # ---- topics ----------------------------------------------------------------------------------

    @abstractmethod
    async def list_topics(self, limit: int, offset: int) -> list[str]:
        """Names of topics that have a task or a setting, in a fixed order."""

    async def known_topics(self, names: Collection[str]) -> set[str]:
        """Those of these topics that have a task or a setting. One that comes or goes meanwhile, or moves in
        the list of topics, may be missing."""
        missing = set(names)
        offset = 0
        while missing and (page := await self.list_topics(_NAMES_AT_ONCE, offset)):
            missing.difference_update(page)
            offset += len(page)
        return set(names) - missing

    @abstractmethod
    async def get_topic(self, topic: str, now: int) -> TopicInfo | None:
        """What is known of a topic, or ``None`` without task and setting. Counts are kept, not counted."""

    async def survey(self, now: int, visit: Callable[[TopicInfo], None]) -> None:
        """Call ``visit`` with what is known of every topic, once for each. One that comes or goes meanwhile
        may be missing. Other tasks of the event loop run in between, but it may be work for a database in
        proportion to the tasks: the longer it took, the longer a caller waits before it asks again."""
        offset = 0
        while names := await self.list_topics(_SURVEYED_TOGETHER, offset):
            for info in await asyncio.gather(*(self.get_topic(name, now) for name in names)):
                if info is not None:
                    visit(info)
            offset += len(names)
            await asyncio.sleep(0)

    async def set_paused(self, topic: str, paused: bool) -> None:
        """Pause or resume a topic. Survives a restart; false is the default and leaves no trace."""
        while True:
            found = await self.get_record(TOPIC_SETTINGS, topic)
            old = TopicSettings() if found is None else found.members
            new = structs.replace(old, paused=paused)
            if new == old:
                return
            version = 0 if found is None else found.version
            try:
                await self.put_record(TOPIC_SETTINGS, topic, None if new == TopicSettings() else new, version)
            except Conflict:
                continue  # another setting was changed at the same time, and stays
            return

    @abstractmethod
    async def delete_topic(self, topic: str) -> int:
        """Delete the topic's tasks and settings. How many tasks there were."""

    @abstractmethod
    async def delete_topics(self) -> int:
        """Delete everything. How many tasks there were."""

    # ---- records ---------------------------------------------------------------------------------

    @abstractmethod
    async def get_record(self, kind: Kind[Members], record_id: str) -> Record[Members] | None:
        """The record of this kind with this id, as it is at this moment, or ``None``."""

    @abstractmethod
    async def put_record(
        self, kind: Kind[Members], record_id: str, members: Members | None, expected: int | None = None
    ) -> int:
        """Store the record whole; ``None`` deletes it. Its version from now on, 0 when there is none.

        ``expected`` is the version that it must have, 0 where there must be none; otherwise raises `Conflict`
        and changes nothing. ``None``: whatever there is. Of several callers who expect the same version, one
        succeeds. A version is never given twice to an id, even after a deletion or a restart.

        What is put as `TOPIC_SETTINGS` is in force, for every claim, when this returns. Settings that are all
        at their default are not to be put but deleted: a topic exists while it has a record.
        """

    @abstractmethod
    async def list_records(self, kind: Kind[Members], after: str, limit: int) -> list[Record[Members]]:
        """Up to so many records of this kind whose ids come after this one, in the order of their ids (by
        code point). An empty ``after`` begins at the first; fewer than ``limit`` are the last."""

    # ---- chores ----------------------------------------------------------------------------------

    @abstractmethod
    async def recover(self, now: int) -> int:
        """Take back every claim whose deadline is not after ``now``. How many."""

    @abstractmethod
    async def expire(self, now: int) -> int:
        """Archive every pending task whose ``expires`` is not after ``now``. How many."""

    @abstractmethod
    async def purge(self, before: int) -> int:
        """Delete the completed tasks that were committed at or before ``before``. How many."""

    @abstractmethod
    async def maintain(self, now: int) -> None:
        """Whatever else the engine wants done now and then (a snapshot, say)."""
