"""The engine contract, on one page.

An engine stores tasks, and beside them small records of a few kinds (topic settings are one), and makes each
operation one atomic step. Every method says what it promises, not how an engine does it. A promise counts
only if the suite `ratus.engine.testkit` tests it, and that suite runs unchanged against every engine.

For all methods:

- Times are microseconds since 1970-01-01 UTC. ``now`` is an argument: engines never read the clock.
- Ids are one namespace over all topics. Batches are the primitive, a single task is a batch of one.
- What a command does to a task, and whether it may, is decided by `ratus.core.transitions` (`decide`, and the
  functions that it calls). The engine finds tasks, asks `decide`, and carries out the change.
- Records handed in belong to the engine from then on. Records handed out may be the engine's own: the caller
  reads them before its next ``await`` and never changes them. Those of a `LARGE_BATCH` are the caller's.
- A write that has returned is as durable as `Traits.durable` says. A write that raised changed nothing.
- `ServiceUnavailable` may be raised by every method: the database is away or not open yet; try again.
"""

from __future__ import annotations

import asyncio
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from msgspec import structs

from ratus.core.errors import Conflict, RatusError
from ratus.core.kinds import TOPIC_SETTINGS, Kind
from ratus.core.nonces import Nonces
from ratus.core.records import (
    CommitRecord,
    LaneInfo,
    Members,
    Record,
    TaskPage,
    TaskQuery,
    TaskRecord,
    TopicInfo,
    TopicSettings,
)
from ratus.core.selection import Selection, Where
from ratus.core.transitions import Event, RetryDefaults
from ratus.core.turns import Reason

# How many lapsed claims a claim takes back, or expired tasks it archives, in one step: so that no poll waits
# for a million of them, and other operations get their turn. The chore does the rest.
CLAIM_CHORES = 1000


# A batch of more items than this may be done in slices, with other operations in between: each item is one
# atomic step, the batch is not. The records handed out for it are the caller's own.
LARGE_BATCH = 128


@dataclass(frozen=True, slots=True)
class Traits:
    """What an engine is, as data. The server asks for these, never for the engine's name.

    ``durable``: an answered write survives ``kill -9``. ``shared``: several servers may work on the same
    data. ``precision``: times are kept to this many microseconds. ``immediate``: operations on single tasks
    never wait for anything, so a server need not make an asyncio task for each request.
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

    def available(self, topic: str, task: TaskRecord | None = None) -> None:
        """A claim in the topic may succeed that could not before, or sooner than `Engine.next_due` said.

        That is so where a task became pending, a deadline was set, the topic was resumed, its limits were
        changed, or a place or a hold of it ended. ``task``: only this task became available, so that no claim
        is helped whose ``where`` it does not match; ``None``: any claim may be.
        """
        ...

    def settled(self, task_id: str) -> None:
        """A task was completed, archived or deleted."""
        ...

    def missed(self) -> None:
        """Changes by other servers may have been missed, or may be from now on (`Engine.follows`)."""
        ...


class Observer(Protocol):
    """Notified by an engine of what operators count. Calls are synchronous and cheap."""

    def record(self, topic: str, events: Sequence[Event]) -> None:
        """A change with these events was made to a task, which is in this topic now."""
        ...

    def refused(self, topic: str, reason: Reason) -> None:
        """A claim found due tasks in the topic, and a limit let it have none of them."""
        ...


# Names of topics that `Engine.known_topics` reads at once: one query to a database, and little memory.
_NAMES_AT_ONCE = 1000

# Topics that `Engine.survey` reads concurrently: few enough for any pool of connections.
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
        """Notified once of the events of each `transitions.Change`, after this engine has made it.

        That is so for a change by a commit, within a claim and by a chore. A change whose answer got lost on
        the way from a database may be missing.
        """

    # ---- life ------------------------------------------------------------------------------------

    @abstractmethod
    async def open(self, now: int) -> None:
        """Get ready to serve. Raises `StartupError` where that can never succeed (a damaged file)."""

    @abstractmethod
    async def close(self, now: int) -> None:
        """Persist what is to be persisted and release all resources. Raises if something would be lost."""

    @abstractmethod
    async def health(self) -> Health:
        """Whether the engine can serve; answers within a second and never raises."""

    def metrics(self, now: int) -> Sequence[EngineMetric]:
        """This engine's own metrics, the same names in every call. Does no I/O and never raises."""
        return ()

    # ---- tasks -----------------------------------------------------------------------------------

    @abstractmethod
    async def insert(self, tasks: Sequence[TaskRecord], now: int) -> list[bool]:
        """Store the tasks whose id is new; of equal ids in the batch the first. True for each stored.

        The order of creation is the order in which ids come in. Active tasks without a deadline and completed
        ones without a time of commit get one (`transitions.complete_on_insert`).
        """

    @abstractmethod
    async def upsert(self, tasks: Sequence[TaskRecord], now: int) -> list[bool]:
        """Store all tasks; of equal ids in the batch the last stays. True for each that was new.

        A task whose id exists replaces the old one whole and keeps its place in the order of creation.
        Missing times are set as by `insert`.
        """

    @abstractmethod
    async def get(self, task_id: str) -> TaskRecord | None:
        """The task, or ``None``."""

    @abstractmethod
    async def list_tasks(self, query: TaskQuery) -> TaskPage:
        """A page of the tasks of a topic in a fixed order, filtered.

        Ends early, after at least one task, at `MAX_PAGE_BYTES`. Following `TaskPage.next` never skips or
        repeats a task that stays. Raises `BadRequest` for an ``after`` that the engine never gave.
        """

    @abstractmethod
    async def delete_task(self, task_id: str) -> bool:
        """Delete a task in any state; true when there was one."""

    @abstractmethod
    async def delete_tasks(self, topic: str) -> int:
        """Delete the tasks that the topic has at this moment; settings stay. Returns how many there were."""

    @abstractmethod
    async def commit(self, commits: Sequence[CommitRecord], now: int) -> list[TaskRecord | RatusError]:
        """Apply each commit by itself, in order.

        Returns for each the task as it then is, or an error where nothing was changed: `NotFound`, or
        `Conflict` where the nonce given is not the task's.
        """

    # ---- claims ----------------------------------------------------------------------------------

    @abstractmethod
    async def claim(self, selection: Selection, now: int) -> list[TaskRecord]:
        """Claim up to ``selection.limit`` due tasks of its topics and never of another.

        A task that was due when it was stored, or when a claim of it was made that has ended, stays due where
        ``now`` has stepped back behind its ``scheduled``.

        Topics in the order given; within one by priority (larger first), then ``scheduled``, then creation,
        or as ``selection.order`` says: by ``newest``, the latest ``scheduled`` first, then the last created.
        With ``selection.where`` only tasks that match. With ``selection.prefer``, or a limit ``per`` label,
        tasks of the highest priority come in turns (`ratus.core.turns`), decided anew for each of several.

        Limits (`TopicSettings.limits`) and holds are kept: no more claims are out than they say, over all
        servers, and all limits of a claim are taken together or not at all. With ``per``, turns are over the
        lanes that are open; ``where`` on another label looks at the first `WHERE_TASKS` matching tasks.
        Raises `Closed` where nothing was claimed, a task that matches is due, and it is a rate or a hold that
        closes it (the topic's, or where that is open the lane's); of several the one that reopens first.

        Paused topics give nothing. Two callers never get the same claim. Lapsed claims of these topics
        are taken back first, up to about `CLAIM_CHORES`; expired tasks that stand before a due one are
        archived, however many. Ends early, after at least one task, at `MAX_PAGE_BYTES` or when many lapsed
        or expired tasks had to be handled. Empty when nothing is due.
        """

    @abstractmethod
    async def claim_task(self, task_id: str, selection: Selection, now: int, *, force: bool) -> TaskRecord:
        """Claim this task, due or not.

        Raises `NotFound`, and `Conflict` unless the task is pending and has not expired. With ``force`` it is
        claimed whatever its state; one that has ended or expired starts afresh (`transitions.claim_by_id`).
        Limits do not hinder it; it counts against them like any claim.
        """

    @abstractmethod
    async def extend(self, task_id: str, nonce: str, deadline: int, now: int) -> TaskRecord:
        """Move the deadline of a claim.

        Raises `NotFound`, and `Conflict` unless the task is active under this nonce; an empty nonce is not
        checked.
        """

    @abstractmethod
    async def release(
        self, task_id: str, now: int, nonce: str | None = None, hold: int | None = None
    ) -> bool:
        """Give an active task back; with a nonce, only if it is claimed under it. True when that was done.

        ``hold``: for so many microseconds from ``now``, nothing more is handed out of the task's lane (where
        the topic has limits ``per`` label), else of its topic. Of several holds the longest is in force. It
        is made in the same step as the release; so is that of a commit (`CommitRecord.hold`).
        """

    @abstractmethod
    async def release_topic(self, topic: str, now: int) -> int:
        """Give back all active tasks that the topic has at this moment. Returns how many there were."""

    @abstractmethod
    async def next_due(self, topic: str, now: int, where: Where | None = None) -> int | None:
        """When a claim in this topic (of tasks that match) may succeed next, unless notified before.

        That is the earliest ``scheduled`` of its pending tasks (possibly past) or deadline of its active
        ones; ``None`` when the topic is paused or has neither. What a limit closes counts from when it
        reopens, where that is known, and not at all where a notification will say so (a place becomes free).
        It may be too early, but not again and again: at the time that is returned something has changed.
        """

    def watch(self, waiting: bool) -> bool:
        """Called when a first request waits for tasks (true), and when none waits any more (false).

        An engine on shared data that can find out what *other* servers make available notifies its listener
        of it while requests wait, within 250 ms, and returns true. Otherwise the server periodically tries
        claims for waiting requests.
        """
        return False

    def follows(self) -> bool:
        """Whether the listener is notified at this moment of every task that another server settles.

        To settle is to complete, archive or delete; `watch` plays no part in it. When the answer changes,
        `Listener.missed` is called. While it is false, a request that waits for a result polls for it.
        """
        return not self.traits.shared

    # ---- topics ----------------------------------------------------------------------------------

    @abstractmethod
    async def list_topics(self, limit: int, offset: int) -> list[str]:
        """Names of topics that have a task or a setting, in a fixed order."""

    async def known_topics(self, names: Collection[str]) -> set[str]:
        """Those of these topics that have a task or a setting.

        A topic that comes or goes meanwhile, or moves in the list of topics, may be missing.
        """
        missing = set(names)
        offset = 0
        while missing and (page := await self.list_topics(_NAMES_AT_ONCE, offset)):
            missing.difference_update(page)
            offset += len(page)
        return set(names) - missing

    @abstractmethod
    async def get_topic(self, topic: str, now: int) -> TopicInfo | None:
        """The counts and settings of a topic, or ``None`` without task and setting.

        Counts are kept up to date with every change, not made by counting tasks.
        """

    async def survey(self, now: int, visit: Callable[[TopicInfo], None]) -> None:
        """Call ``visit`` once for each topic, with what `get_topic` returns for it.

        A topic that comes or goes meanwhile may be missing. Other work of the event loop runs in between, but
        the work for a database may grow with the number of tasks: the longer a survey took, the longer the
        caller waits before the next one.
        """
        offset = 0
        while names := await self.list_topics(_SURVEYED_TOGETHER, offset):
            for info in await asyncio.gather(*(self.get_topic(name, now) for name in names)):
                if info is not None:
                    visit(info)
            offset += len(names)
            await asyncio.sleep(0)

    async def set_paused(self, topic: str, paused: bool) -> None:
        """Pause or resume a topic, as `change_settings` does."""
        await self.change_settings(topic, paused=paused)

    async def change_settings(self, topic: str, **changes: Any) -> None:
        """Set these members of the topic's `TopicSettings`; the others stay.

        Survives a restart; no record is kept of a topic whose settings are all at their default.
        """
        while True:
            found = await self.get_record(TOPIC_SETTINGS, topic)
            old = TopicSettings() if found is None else found.members
            new = structs.replace(old, **changes)
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
        """Delete the topic's tasks and settings. Returns how many tasks there were."""

    @abstractmethod
    async def delete_topics(self) -> int:
        """Delete everything. Returns how many tasks there were."""

    # ---- lanes -----------------------------------------------------------------------------------

    # A lane is what `ratus.core.turns` says. An engine keeps lanes of a topic for those labels that a claim
    # has preferred, or that its limits are per: "in use" from then on, until the topic is deleted. A topic
    # without task and setting has none in use; the engine may forget those that it had. When a label comes
    # into use, lanes are made of the tasks that there are, each served when its first task (by creation) came
    # in.
    #
    # A lane whose last task is neither pending nor active any more is forgotten, but for its times of rate
    # and hold: these count, under the label and the value, until they have passed or the topic is deleted.

    @abstractmethod
    async def list_lanes(
        self, topic: str, label: str, after: str | None, limit: int, now: int
    ) -> list[LaneInfo]:
        """Up to ``limit`` lanes of a topic by a label, whose values come after ``after``, by code point.

        ``None`` begins with the first value. The lane of the tasks without the label, if there are any, is
        the last of all. The label comes into use, where the topic has a task or a setting. ``closed`` is
        given where the limits are per this label; lanes without tasks are then listed while they are closed.
        """

    @abstractmethod
    async def lift_holds(self, topic: str, now: int) -> None:
        """End all holds of a topic and of its lanes."""

    # ---- records ---------------------------------------------------------------------------------

    @abstractmethod
    async def get_record(self, kind: Kind[Members], record_id: str) -> Record[Members] | None:
        """The record of this kind with this id, as it is at this moment, or ``None``."""

    @abstractmethod
    async def put_record(
        self, kind: Kind[Members], record_id: str, members: Members | None, expected: int | None = None
    ) -> int:
        """Store the record whole; ``None`` deletes it. Returns its new version, 0 when there is none now.

        ``expected`` is the version that the stored record must have, 0 where there must be none; otherwise
        raises `Conflict` and changes nothing. ``None``: no check. Of several callers that expect the same
        version, one succeeds. A version is never given twice to an id, even after a deletion or a restart.

        `TOPIC_SETTINGS` are in force, for every claim, when this returns. The caller deletes settings that
        are all at their default instead of putting them: a topic exists while it has a record.
        """

    @abstractmethod
    async def list_records(self, kind: Kind[Members], after: str, limit: int) -> list[Record[Members]]:
        """Up to ``limit`` records of this kind with ids after ``after``, in the order of ids (by code point).

        An empty ``after`` begins at the first. Fewer records than ``limit`` are the last ones.
        """

    # ---- chores ----------------------------------------------------------------------------------

    @abstractmethod
    async def recover(self, now: int) -> int:
        """Take back every claim whose deadline is not after ``now``. Returns how many."""

    @abstractmethod
    async def expire(self, now: int) -> int:
        """Archive every pending task whose ``expires`` is not after ``now``. Returns how many."""

    @abstractmethod
    async def purge(self, before: int) -> int:
        """Delete the completed tasks that were committed at or before ``before``. Returns how many."""

    @abstractmethod
    async def maintain(self, now: int) -> None:
        """Do other periodic work of the engine's own, such as a snapshot."""
