"""The memory engine: one process, one thread, plain data structures and no locks.

Every operation on one task is a plain function that never awaits, so it is atomic on the event loop. An
operation that may concern a million tasks (deleting a topic, recovering, listing with a filter, a snapshot)
works in slices, and other requests run in between.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from typing import TypeVar

from ratus.core import transitions, turns
from ratus.core.errors import Closed, Conflict, NotFound, RatusError, ServiceUnavailable
from ratus.core.kinds import TOPIC_SETTINGS, Kind, check_version
from ratus.core.records import (
    ACTIVE,
    MAX_PAGE_BYTES,
    PENDING,
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
from ratus.core.transitions import Change, ClaimById, Command, Extend, RetryDefaults
from ratus.engine import CLAIM_CHORES, LARGE_BATCH, Engine, EngineMetric, Health, Traits
from ratus_engines.memdb.by_id import ById
from ratus_engines.memdb.choice import Choice
from ratus_engines.memdb.labelled import LabelledTopic, lane_rows
from ratus_engines.memdb.lanes import Lanes
from ratus_engines.memdb.limits import Times, TimesOfTopic
from ratus_engines.memdb.listing import SLICE, list_lanes, list_page
from ratus_engines.memdb.ordered import ByCreation, ByTime
from ratus_engines.memdb.records import Records, Row
from ratus_engines.memdb.snapshot import FRAME, FRAME_BYTES, MEMBERS, Header, LaneRow, Loading, Snapshots
from ratus_engines.memdb.topics import Topic

Item = TypeVar("Item")
Result = TypeVar("Result")

# Topics that a survey visits before other requests run: a millisecond of work where each has a million tasks.
SURVEYED = 16

# Lanes are built within the claim that needs them where there are at most so many pending and active tasks: a
# few milliseconds of work.
AT_ONCE = 2000

# Tasks that a claim looks at because of its ``where``, before it ends early or lets other requests run.
LOOKED = 8000


class MemdbEngine(Engine):
    """Keeps everything in memory; with ``snapshot_path``, writes snapshots of it to that file.

    ``snapshot_interval`` is the time between snapshots in microseconds; `close` writes one more.
    """

    traits = Traits(name="memdb", durable=False, shared=False, immediate=True)

    def __init__(
        self,
        *,
        snapshot_path: str = "",
        snapshot_interval: int = 300_000_000,
        retry: RetryDefaults | None = None,
        random: Callable[[], float] | None = None,
        nonces: Callable[[], str] | None = None,
    ) -> None:
        super().__init__(retry=retry, nonces=nonces, **({"random": random} if random else {}))
        self._tasks = ById()
        self._topics: dict[str, Topic] = {}
        self._times: dict[str, TimesOfTopic] = {}  # of topics that are forgotten but for these
        self._records = Records()
        self._created: ByCreation[TaskRecord] = (
            ByCreation()
        )  # all tasks, in the order in which a snapshot holds them
        self._committed: ByTime[TaskRecord] = ByTime()  # completed tasks by the time of their commit
        self._sequence = 0
        self._latest = 0  # the latest time of an insert or a claim
        self._walking = asyncio.Lock()
        self._batching = asyncio.Lock()  # held while a large batch is under way
        self._works: deque[Iterator[None]] = deque()  # each step is a slice of work on lanes
        self._worker: asyncio.Task[None] | None = None  # does that work
        self._open = False
        self.changes = 0  # counts writes, so that a snapshot of nothing new is not written
        self._snapshots = Snapshots(snapshot_path, snapshot_interval) if snapshot_path else None

    # ---- life ------------------------------------------------------------------------------------

    async def open(self, now: int) -> None:
        if self._snapshots is not None:
            self._snapshots.check_folder()
            self._snapshots.lock()
            try:
                await self._load(self._snapshots, now)
            except BaseException:
                self._snapshots.unlock()
                raise
        self._open = True

    async def close(self, now: int) -> None:
        was_open, self._open = self._open, False
        async with self._batching:
            pass  # a batch that was begun is finished first: it has been accepted
        if self._worker is not None:
            self._worker.cancel()
        if was_open and self._snapshots is not None:
            try:
                if not await self._save(self._snapshots, now):
                    raise OSError(self._snapshots.trouble)
            finally:
                self._snapshots.unlock()

    async def health(self) -> Health:
        if not self._open:
            return Health(False, "the memory engine is loading its snapshot or closed")
        return Health(True, self._snapshots.trouble if self._snapshots is not None else "")

    def metrics(self, now: int) -> Sequence[EngineMetric]:
        return () if self._snapshots is None else self._snapshots.metrics(now, self.changes)

    def _check_open(self) -> None:
        if not self._open:
            raise ServiceUnavailable("the memory engine is loading its snapshot or closed")

    # ---- adding, changing and deleting: every write to a task goes through here ------------------

    def _number(self) -> int:
        """A number that is larger than all before: of a task, a record, or a lane that is served."""
        self._sequence += 1
        return self._sequence

    def _topic(self, name: str) -> Topic:
        topic = self._topics.get(name)
        if topic is None:
            topic = Topic(name, self._committed)
            times = self._times.pop(name, None)
            if times is not None:
                topic = LabelledTopic(topic, times, self._number)
            self._topics[name] = topic
        return topic

    def _labelled(self, name: str) -> LabelledTopic:
        """The topic, which from now on can keep labels in use, limits and holds."""
        topic = self._topic(name)
        if not isinstance(topic, LabelledTopic):
            topic = self._topics[name] = LabelledTopic(topic, TimesOfTopic(), self._number)
        return topic

    def _topic_of(self, task: TaskRecord) -> Topic:
        """The topic that a task is to be added to."""
        is_labelled = task.rare is not None and task.rare.labels is not None
        return self._labelled(task.topic) if is_labelled else self._topic(task.topic)

    def _add(self, task: TaskRecord, now: int) -> None:
        """Put a task that is in ``_tasks`` into every order. One from a snapshot keeps its ``sequence``."""
        if not task.sequence:
            self._sequence += 1
            task.sequence = self._sequence
        self._created.add(task)
        topic = self._topics.get(task.topic)  # saves a call: nearly all topics exist
        if topic is None or task.rare is not None:
            topic = self._topic_of(task)
        self._attach(task, topic, now)

    def _attach(self, task: TaskRecord, topic: Topic, now: int) -> None:
        task.topic = topic.name  # all tasks of a topic share one string
        topic.attach(task, now)
        self.changes += 1
        listener = self.listener
        if listener is not None:
            if task.state == PENDING:
                listener.available(topic.name, task)
            elif task.state == ACTIVE:  # it can be claimed again at its deadline
                listener.available(topic.name)
            else:
                listener.settled(task.id)

    def _forget_if_empty(self, topic: Topic) -> None:
        """Delete the topic if it has no task and no setting."""
        if not topic.paused and topic.limits is None and not topic:
            del self._topics[topic.name]
            if isinstance(topic, LabelledTopic) and topic.times:
                self._times[topic.name] = topic.times

    def _settle(self, topic: Topic, now: int) -> None:
        """End a change to a task, where `Topic.detach` asked for it."""
        if isinstance(topic, LabelledTopic) and topic.settle(now) and self.listener is not None:
            self.listener.available(topic.name)

    def _change(self, task: TaskRecord, change: Change, now: int) -> TaskRecord:
        topic = self._topics[task.topic]
        is_open = topic.detach(task)
        transitions.apply(task, change)
        if task.topic == topic.name:
            self._attach(task, topic, now)
        else:
            self._attach(task, self._topic_of(task), now)
            self._forget_if_empty(topic)
        if is_open:
            self._settle(topic, now)
        if change.events and self.observer is not None:
            self.observer.record(task.topic, change.events)
        return task

    def _end_claim(self, task: TaskRecord, change: Change, now: int) -> TaskRecord:
        """Like `_change`, for a change that may make the task pending again, or that holds its lane.

        A task that was due before is due again, even if the clock was set back.
        """
        if change.hold:
            self._labelled(task.topic).hold(task, change.hold, now)
        if task.scheduled > now and "scheduled" not in change.set and transitions.was_due(task, self._latest):
            now = task.scheduled
        return self._change(task, change, now)

    def _replace(self, old: TaskRecord, new: TaskRecord, now: int) -> None:
        new_topic = self._topic_of(new)
        topic = self._topics[old.topic]
        is_open = topic.detach(old)
        new.sequence = old.sequence
        self._created.replace(new)
        self._attach(new, new_topic, now)
        if new_topic is not topic:
            self._forget_if_empty(topic)
        if is_open:
            self._settle(topic, now)

    def _delete(self, task: TaskRecord) -> None:
        topic = self._topics[task.topic]
        is_open = topic.detach(task)
        self._tasks.remove(task)
        self._created.remove(task)
        self._forget_if_empty(topic)
        if is_open:
            self._settle(topic, self._latest)
        self.changes += 1
        if self.listener is not None:
            self.listener.settled(task.id)

    async def _repeat(self, take: Callable[[], TaskRecord | None], do: Callable[[TaskRecord], object]) -> int:
        """Call ``do`` with each task that ``take`` gives, up to the first ``None``. Returns how many."""
        count = 0
        while (task := take()) is not None:
            do(task)
            count += 1
            if count % SLICE == 0:
                await asyncio.sleep(0)
        return count

    # ---- tasks -----------------------------------------------------------------------------------

    async def _in_slices(
        self, each: Callable[[Sequence[Item]], list[Result]], items: Sequence[Item]
    ) -> list[Result]:
        """Call ``each`` with `LARGE_BATCH` items at a time: a few milliseconds. Returns all results."""
        async with self._batching:
            self._check_open()
            done: list[Result] = []
            for start in range(0, len(items), LARGE_BATCH):
                done += each(items[start : start + LARGE_BATCH])
                await asyncio.sleep(0)
            return done

    async def insert(self, tasks: Sequence[TaskRecord], now: int) -> list[bool]:
        if not self._open:
            self._check_open()
        if len(tasks) > LARGE_BATCH:
            return await self._in_slices(partial(self._insert, now=now), tasks)
        return self._insert(tasks, now)

    def _insert(self, tasks: Sequence[TaskRecord], now: int) -> list[bool]:
        if now > self._latest:
            self._latest = now
        created = []
        for task in tasks:
            transitions.complete_on_insert(task, now)
            new = self._tasks.add(task)
            created.append(new)
            if new:
                self._add(task, now)
        return created

    async def upsert(self, tasks: Sequence[TaskRecord], now: int) -> list[bool]:
        self._check_open()
        if len(tasks) > LARGE_BATCH:
            return await self._in_slices(partial(self._upsert, now=now), tasks)
        return self._upsert(tasks, now)

    def _upsert(self, tasks: Sequence[TaskRecord], now: int) -> list[bool]:
        created = []
        for task in tasks:
            transitions.complete_on_insert(task, now)
            old = self._tasks.get(task.id)
            created.append(old is None)
            self._tasks.put(task)
            if old is None:
                self._add(task, now)
            else:
                self._replace(old, task, now)
        return created

    async def get(self, task_id: str) -> TaskRecord | None:
        self._check_open()
        return self._tasks.get(task_id)

    async def list_tasks(self, query: TaskQuery) -> TaskPage:
        self._check_open()
        return await list_page(self._topics, self._tasks, query, self._walking)

    async def delete_task(self, task_id: str) -> bool:
        self._check_open()
        task = self._tasks.get(task_id)
        if task is None:
            return False
        self._delete(task)
        return True

    async def delete_tasks(self, topic: str) -> int:
        self._check_open()
        return await self._repeat(partial(self._oldest, topic, self._sequence), self._delete)

    def _oldest(self, name: str, until: int) -> TaskRecord | None:
        """A task of the topic whose ``sequence`` is at most ``until``, or ``None``."""
        topic = self._topics.get(name)
        if topic is not None:
            for tasks in topic.by_state:
                task = tasks.first()
                if task is not None and task.sequence <= until:
                    return task
        return None

    async def commit(self, commits: Sequence[CommitRecord], now: int) -> list[TaskRecord | RatusError]:
        self._check_open()
        if len(commits) == 1:
            return [self._commit(commits[0], now)]
        # Most commits of a batch only complete their task: one change serves them all.
        completed = transitions.complete(now)
        if len(commits) > LARGE_BATCH:
            # Copies: a request between two slices may change the tasks of an earlier one.
            return await self._in_slices(
                lambda some: [copy.copy(self._commit(commit, now, completed)) for commit in some], commits
            )
        if len({commit.id for commit in commits}) == len(commits):
            return [self._commit(commit, now, completed) for commit in commits]
        # Copies: a task is one object, so a later commit to it would change the answer to an earlier one.
        return [copy.copy(self._commit(commit, now, completed)) for commit in commits]

    def _commit(
        self, commit: CommitRecord, now: int, completed: Change | None = None
    ) -> TaskRecord | RatusError:
        task = self._tasks.get(commit.id)
        if task is None:
            return NotFound()
        if completed is not None and transitions.only_completes(task, commit):
            return self._change(task, completed, now)
        try:
            change = transitions.commit(task, commit, now, self.retry, self.random)
        except Conflict as error:
            return error
        if change.hold or task.scheduled > now:
            return self._end_claim(task, change, now)
        return self._change(task, change, now)  # saves a call: nearly all commits

    # ---- claims ----------------------------------------------------------------------------------

    async def claim(self, selection: Selection, now: int) -> list[TaskRecord]:
        self._check_open()
        while True:
            claimed, all_done = self._claim(selection, now)
            if claimed or all_done:
                return claimed
            # Only lapsed and expired tasks, or lanes without one, were handled so far. Due tasks may come
            # behind those that remain.
            await asyncio.sleep(0)
            self._check_open()

    def _claim(self, selection: Selection, now: int) -> tuple[list[TaskRecord], bool]:
        """Claim due tasks. Returns these, and whether the claim is complete.

        It is incomplete after `CLAIM_CHORES` lapsed and expired tasks, or very many lanes: due tasks may come
        behind more of them. Raises `Closed`.
        """
        if now > self._latest:
            self._latest = now
        claimed: list[TaskRecord] = []
        size, chores = 0, CLAIM_CHORES
        reopens: list[int] = []
        # One change serves the whole batch; only the nonce differs.
        deadline = selection.deadline
        if deadline is None:
            deadline = selection.deadline_at(now)
        change = transitions.claim(consumer=selection.consumer, nonce="", deadline=deadline, now=now)
        chooses = selection.where is not None or selection.prefer or selection.order != "due"
        limit = selection.limit
        for name in selection.topics:
            topic = self._topics.get(name)
            if topic is None or topic.paused:
                continue
            while (task := topic.deadlines.first_until(now)) is not None and chores:
                chores -= 1
                self._lapse(task, now)
            choice: Choice | None = None
            if chooses or topic.is_special:
                for label in selection.prefer:
                    if not isinstance(topic, LabelledTopic) or label not in topic.lanes:
                        topic = self._labelled(name)
                        self._use(topic, label)
                choice = Choice(topic, selection, now, self.random)
                before = len(claimed)
            while (task := topic.pending.head(now) if choice is None else choice.next(now)) is not None:
                # The comparison saves a call: most tasks never expire.
                if task.expires is not None and transitions.has_expired(task, now):
                    if not chores:
                        return claimed, False
                    chores -= 1
                    self._expire(task, now)
                    if choice is not None and choice.looked > LOOKED:
                        chores = 0
                    continue
                if limit > 1:
                    size += task.weight()
                    if claimed and size > MAX_PAGE_BYTES:
                        return claimed, True
                change.set["nonce"] = self.nonces()
                if choice is not None and isinstance(topic, LabelledTopic):
                    claimed.append(self._claim_labelled(topic, task, change, now))
                else:
                    claimed.append(self._change(task, change, now))
                if len(claimed) == limit or (choice is not None and choice.looked > LOOKED):
                    return claimed, True
            if choice is not None:
                if choice.unfinished:
                    return claimed, False
                if chores and len(claimed) == before:
                    reopens += self._refused(choice, name, now)
        if reopens and not claimed and chores:
            raise Closed(min(reopens))
        return claimed, chores > 0

    def _claim_labelled(self, topic: LabelledTopic, task: TaskRecord, change: Change, now: int) -> TaskRecord:
        """Make the change of a claim, like `_change`."""
        self._sequence += 1
        topic.claim(task, change, self._sequence, now)
        self.changes += 1
        if self.listener is not None:
            self.listener.available(topic.name)
        return task

    def _refused(self, choice: Choice, topic: str, now: int) -> list[int]:
        """Notify the observer if a limit let a claim have nothing. Returns when that ends, if it is known."""
        closing = choice.refusal(now)
        if closing is None:
            return []
        if self.observer is not None:
            self.observer.refused(topic, closing.reason)
        time = turns.retry_at(closing)
        return [] if time is None else [time]

    async def claim_task(self, task_id: str, selection: Selection, now: int, *, force: bool) -> TaskRecord:
        command = ClaimById(self.nonces(), selection.deadline_at(now), selection.consumer, force)
        return self._carry_out(task_id, command, now)

    async def extend(self, task_id: str, nonce: str, deadline: int, now: int) -> TaskRecord:
        return self._carry_out(task_id, Extend(nonce, deadline), now)

    def _carry_out(self, task_id: str, command: Command, now: int) -> TaskRecord:
        self._check_open()
        task = self._tasks.get(task_id)
        if task is None:
            raise NotFound()
        change = transitions.decide(task, command, now, self.retry, self.random)
        if isinstance(command, ClaimById):
            topic = self._topics[task.topic]
            if isinstance(topic, LabelledTopic) and topic.is_special:
                topic.serve(task, now)
        return self._change(task, change, now)

    async def release(
        self, task_id: str, now: int, nonce: str | None = None, hold: int | None = None
    ) -> bool:
        self._check_open()
        task = self._tasks.get(task_id)
        change = transitions.release(nonce, 0 if hold is None else now + hold)
        if task is None or not transitions.holds(task, change):
            return False
        self._end_claim(task, change, now)
        return True

    async def release_topic(self, topic: str, now: int) -> int:
        self._check_open()
        take = partial(next, self._walk_active(topic, self._sequence), None)
        return await self._repeat(take, lambda task: self._end_claim(task, transitions.release(), now))

    def _walk_active(self, name: str, until: int) -> Iterator[TaskRecord]:
        """The active tasks of a topic in order of creation; each once, even if it is claimed again."""
        after = None
        while (topic := self._topics.get(name)) is not None:
            tasks = topic.by_state[ACTIVE].after(after, 1)
            if not tasks or tasks[0].sequence > until:
                return
            after = tasks[0].sequence
            yield tasks[0]

    async def next_due(self, topic: str, now: int, where: Where | None = None) -> int | None:
        self._check_open()
        found = self._topics.get(topic)
        return None if found is None else found.next_due(now, where)

    # ---- topics ----------------------------------------------------------------------------------

    async def list_topics(self, limit: int, offset: int) -> list[str]:
        self._check_open()
        return list(itertools.islice(self._topics, offset, offset + limit))

    async def known_topics(self, names: Collection[str]) -> set[str]:
        self._check_open()
        return {name for name in names if name in self._topics}

    async def get_topic(self, topic: str, now: int) -> TopicInfo | None:
        self._check_open()
        found = self._topics.get(topic)
        return None if found is None else found.info(now)

    async def survey(self, now: int, visit: Callable[[TopicInfo], None]) -> None:
        self._check_open()
        for count, topic in enumerate(list(self._topics.values()), 1):
            if self._topics.get(topic.name) is topic:
                visit(topic.info(now))
            if count % SURVEYED == 0:
                await asyncio.sleep(0)

    async def delete_topic(self, topic: str) -> int:
        await self.put_record(TOPIC_SETTINGS, topic, None)
        count = await self.delete_tasks(topic)
        self._forget(topic)
        return count

    def _forget(self, name: str) -> None:
        """Forget what the engine knows of a deleted topic beside tasks that have come in since."""
        self._times.pop(name, None)
        topic = self._topics.get(name)
        if isinstance(topic, LabelledTopic):
            topic.forget()

    async def delete_topics(self) -> int:
        self._check_open()
        until = self._sequence
        count = 0
        for topic in list(self._topics):
            await self.put_record(TOPIC_SETTINGS, topic, None)
            count += await self._repeat(partial(self._oldest, topic, until), self._delete)
            self._forget(topic)
        for name in list(self._times):
            self._forget(name)
        return count

    # ---- lanes -----------------------------------------------------------------------------------

    def _use(self, topic: LabelledTopic, label: str) -> None:
        """Let a label come into use."""
        lanes = topic.use(label)
        if lanes is not None:
            self.changes += 1
            self._work_on(topic, [lanes], [])

    def _work_on(self, topic: LabelledTopic, build: list[Lanes], again: list[Lanes]) -> None:
        """Build lanes, look at others again: at once, or where tasks are many in slices between requests."""
        size = len(topic.by_state[PENDING]) + len(topic.by_state[ACTIVE])
        works = [topic.building(lanes, self._last_time) for lanes in build]
        works += [lanes.look_again(self._last_time) for lanes in again]
        if size <= AT_ONCE:
            for work in works:
                for _ in work:
                    pass
            return
        self._works += works
        self._works.append(self._notifying(topic.name))
        if self._worker is None:
            self._worker = asyncio.get_running_loop().create_task(self._do_works())

    def _last_time(self) -> int:
        return self._latest

    def _notifying(self, topic: str) -> Iterator[None]:
        """The last of several works: a claim in the topic may succeed now."""
        if self.listener is not None:
            self.listener.available(topic)
        yield

    async def _do_works(self) -> None:
        """Work on lanes in slices."""
        try:
            while self._works:
                for _ in self._works.popleft():
                    await asyncio.sleep(0)
        finally:
            self._worker = None

    async def list_lanes(
        self, topic: str, label: str, after: str | None, limit: int, now: int
    ) -> list[LaneInfo]:
        self._check_open()
        if topic not in self._topics:
            return []
        found = self._labelled(topic)
        self._use(found, label)
        while not found.lanes[label].is_built:
            await asyncio.sleep(0)
            self._check_open()
            if self._topics.get(topic) is not found or label not in found.lanes:
                return []  # it was deleted meanwhile
        return await list_lanes(found, label, after, limit, now)

    async def lift_holds(self, topic: str, now: int) -> None:
        self._check_open()
        times = self._times.get(topic)
        if times is not None:
            times.lift()
        found = self._topics.get(topic)
        if isinstance(found, LabelledTopic) and found.times:
            found.times.lift()
            self._work_on(found, [], list(found.lanes.values()))
            if self.listener is not None:
                self.listener.available(topic)
        self.changes += 1

    # ---- records ---------------------------------------------------------------------------------

    async def get_record(self, kind: Kind[Members], record_id: str) -> Record[Members] | None:
        self._check_open()
        return self._records.get(kind, record_id)

    async def put_record(
        self, kind: Kind[Members], record_id: str, members: Members | None, expected: int | None = None
    ) -> int:
        self._check_open()
        old = self._records.version(kind, record_id)
        check_version(old, expected)
        version = 0
        if members is not None:
            self._sequence = version = self._sequence + 1
            self._records.put(kind, record_id, members, version)
        elif old:
            self._records.remove(kind, record_id)
        else:
            return 0
        self.changes += 1
        if kind is TOPIC_SETTINGS:
            self._set(record_id, members if isinstance(members, TopicSettings) else TopicSettings())
        return version

    async def list_records(self, kind: Kind[Members], after: str, limit: int) -> list[Record[Members]]:
        self._check_open()
        return self._records.after(kind, after, limit)

    def _set(self, name: str, settings: TopicSettings) -> None:
        """Copy settings to the topic, since a claim looks at the topic alone."""
        topic = self._topics.get(name)
        if topic is None and settings == TopicSettings():
            return
        if topic is None:
            topic = self._topic(name)
        resumed = topic.paused and not settings.paused
        topic.paused = settings.paused
        if settings.limits != topic.limits:
            resumed = True
            topic = self._labelled(name)
            self._work_on(topic, *topic.set_limits(settings.limits))
        self._forget_if_empty(topic)
        if resumed and self.listener is not None:
            self.listener.available(name)

    # ---- chores ----------------------------------------------------------------------------------

    async def recover(self, now: int) -> int:
        self._check_open()
        count = 0
        for topic in list(self._topics.values()):
            count += await self._repeat(
                partial(topic.deadlines.first_until, now), partial(self._lapse, now=now)
            )
        return count

    def _lapse(self, task: TaskRecord, now: int) -> None:
        self._end_claim(task, transitions.lapse(task, now, self.retry, self.random), now)

    async def expire(self, now: int) -> int:
        self._check_open()
        count = 0
        for topic in list(self._topics.values()):
            count += await self._repeat(
                partial(topic.expiries.first_until, now), partial(self._expire, now=now)
            )
        return count

    def _expire(self, task: TaskRecord, now: int) -> None:
        self._change(task, transitions.expire(task, now), now)

    async def purge(self, before: int) -> int:
        self._check_open()
        return await self._repeat(partial(self._committed.first_until, before), self._delete)

    async def maintain(self, now: int) -> None:
        self._check_open()
        for _ in self._forget_times(now):
            await asyncio.sleep(0)
        if self._snapshots is not None and self._snapshots.is_due(now, self.changes):
            await self._save(self._snapshots, now)

    def _forget_times(self, now: int) -> Iterator[None]:
        """Forget times of rates and holds that have passed, in slices."""
        for topic in list(self._topics.values()):
            while isinstance(topic, LabelledTopic) and topic.has_times and topic.forget_times(now):
                yield
        for name, times in list(self._times.items()):
            while times.forget(now):
                yield
            if not times and self._times.get(name) is times:
                del self._times[name]

    # ---- snapshots -------------------------------------------------------------------------------

    async def _load(self, snapshots: Snapshots, now: int) -> None:
        loading = Loading(self._begin_loading, self._load_records, self._load_lanes)
        async for tasks in snapshots.read(loading):
            for task in tasks:
                self._tasks.put(task)
                self._add(task, now)
        for topic in list(self._topics.values()):
            if isinstance(topic, LabelledTopic):
                topic.end_loading()
            self._forget_if_empty(topic)
        snapshots.loaded(now, self.changes)

    def _begin_loading(self, header: Header) -> None:
        self._sequence = header.sequence
        for name in header.topics:  # this keeps their order; `_load` deletes those that have no task
            self._topic(name)
        for name in header.paused:  # in format 1 only
            self._sequence += 1
            self._records.put(TOPIC_SETTINGS, name, TopicSettings(paused=True), self._sequence)
            self._topic(name).paused = True
        for name, labels in header.labels.items():
            for label in labels:
                self._use(self._labelled(name), label)

    def _load_records(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self._records.load(row)
            # A record that was put while the snapshot was written has a larger number than the header says.
            self._sequence = max(self._sequence, row[2])
            if row[0] == TOPIC_SETTINGS.name:
                settings = self._records.get(TOPIC_SETTINGS, row[1])
                assert settings is not None, "it was loaded just now"
                self._set(row[1], settings.members)

    def _load_lanes(self, rows: Iterable[LaneRow]) -> None:
        for name, label, value, served, allowed, held in rows:
            self._sequence = max(self._sequence, served)
            self._labelled(name).load_lane(label, value, served, Times(allowed, held))

    async def _save(self, snapshots: Snapshots, now: int) -> bool:
        labels = {
            topic.name: list(topic.lanes)
            for topic in self._topics.values()
            if isinstance(topic, LabelledTopic) and topic.lanes
        }
        header = Header(list(MEMBERS), self._sequence, list(self._topics), labels=labels)
        records, tasks = self._records.rows(FRAME, FRAME_BYTES), self._walk_all(self._sequence)
        return await snapshots.save(now, self.changes, header, records, self._lane_rows(), tasks)

    def _lane_rows(self) -> Iterator[list[LaneRow]]:
        """What is known of lanes in slices, of each as it is when its slice is asked for."""
        for topic in list(self._topics.values()):
            if isinstance(topic, LabelledTopic) and topic.is_special:
                yield from lane_rows(topic.name, topic.lanes, topic.times, FRAME)
        for name, times in list(self._times.items()):
            yield from lane_rows(name, {}, times, FRAME)

    def _walk_all(self, until: int) -> Iterator[list[TaskRecord]]:
        """All tasks up to a sequence number in slices, each task as it is when its slice is asked for."""
        after = None
        while tasks := self._created.after(after, FRAME):
            size = 0
            for count, task in enumerate(tasks):
                size += task.weight()
                if task.sequence > until or (count and size > FRAME_BYTES):
                    tasks = tasks[:count]
                    break
            if not tasks:
                return
            after = tasks[-1].sequence
            yield tasks
