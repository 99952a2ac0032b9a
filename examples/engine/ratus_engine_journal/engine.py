"""A whole engine, kept short: a dict of tasks, a journal of changes, and loops over all tasks.

It is durable and passes the contract suite, and it is slow: a claim looks at every task, and every write
waits for the disk by itself. What an engine for real work does better is in the comments that begin with
"Better:".
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Sequence

from ratus.core import transitions
from ratus.core.errors import BadRequest, Conflict, NotFound, RatusError, ServiceUnavailable
from ratus.core.kinds import TOPIC_SETTINGS, Kind, check_version
from ratus.core.records import (
    ACTIVE,
    COMPLETED,
    MAX_PAGE_BYTES,
    PENDING,
    CommitRecord,
    Members,
    Record,
    TaskPage,
    TaskQuery,
    TaskRecord,
    TopicInfo,
)
from ratus.core.selection import Selection
from ratus.core.transitions import (
    Change,
    ClaimById,
    Command,
    Event,
    Expire,
    Extend,
    Lapse,
    Release,
    Require,
    RetryDefaults,
)
from ratus.engine import CLAIM_CHORES, Engine, Health, Traits
from ratus_engine_journal.journal import Journal, Line, RecordLine


class Step:
    """One atomic step: its changes are kept here until `JournalEngine._take` writes and applies them."""

    def __init__(self) -> None:
        self.tasks: dict[str, TaskRecord] = {}
        self.gone: list[str] = []
        self.events: list[tuple[str, tuple[Event, ...]]] = []

    def change(self, task: TaskRecord, change: Change) -> TaskRecord:
        """Carry a change out on a copy of the task, which is what the task is from now on."""
        task = copy.copy(task)
        transitions.apply(task, change)
        self.tasks[task.id] = task
        if change.events:
            self.events.append((task.topic, change.events))
        return task


class JournalEngine(Engine):
    """Keeps tasks in memory and every change in a file."""

    traits = Traits(name="journal", durable=True, shared=False)

    def __init__(
        self,
        path: str,
        *,
        retry: RetryDefaults | None = None,
        random: Callable[[], float] | None = None,
        nonces: Callable[[], str] | None = None,
    ) -> None:
        super().__init__(retry=retry, nonces=nonces, **({"random": random} if random else {}))
        self._journal = Journal(path)
        self._kept: dict[str, TaskRecord] | None = None  # in order of creation; None while it is not open
        self._records: dict[tuple[str, str], RecordLine] = {}  # by the name of their kind and their id
        self._paused: set[str] = set()  # as the records of topic settings say
        self._sequence = 0  # the last number that was given to a task or to a version of a record
        # Tasks that were due when they became pending: they stay due when the clock is set back.
        self._due: set[str] = set()
        self._now = self._latest = 0

    # ---- life ------------------------------------------------------------------------------------

    async def open(self, now: int) -> None:
        kept: dict[str, TaskRecord] = {}
        for line in self._journal.open():
            if line.put is not None:
                kept[line.put.id] = line.put
            elif line.gone is not None:
                kept.pop(line.gone, None)
            elif line.record is not None:
                self._keep_record(line.record)
            self._sequence = max(self._sequence, *_numbers(line))
        self._journal.begin(
            [
                Line(last=self._sequence),
                *(Line(put=task) for task in kept.values()),
                *(Line(record=record) for record in self._records.values()),
            ]
        )
        self._kept = kept
        self._now = now
        self._due = {task.id for task in kept.values() if task.state == PENDING and task.scheduled <= now}

    async def close(self, now: int) -> None:
        self._kept = None
        self._records = {}
        self._paused = set()
        self._sequence = 0
        self._journal.close()

    async def health(self) -> Health:
        return Health(True) if self._kept is not None else Health(False, "the journal is not open")

    def _check_open(self) -> None:
        if self._kept is None:
            raise ServiceUnavailable("the journal is not open")

    @property
    def _tasks(self) -> dict[str, TaskRecord]:
        self._check_open()
        assert self._kept is not None
        return self._kept

    def _of(self, topic: str, *states: int) -> list[TaskRecord]:
        # Better: an index by topic and state, in the order of claiming.
        return [t for t in self._tasks.values() if t.topic == topic and (not states or t.state in states)]

    def _where(self, require: Require, topic: str | None = None) -> list[TaskRecord]:
        # Better: an index by time, as only some of the tasks can have lapsed or expired.
        tasks = self._tasks.values() if topic is None else self._of(topic)
        return [task for task in tasks if transitions.meets(task, require)]

    # ---- the one way to change anything ----------------------------------------------------------

    def _take(self, step: Step) -> None:
        """Write the step to disk, then take it into memory, then notify the listener and the observer."""
        # Better: let steps that come at the same time share one wait for the disk, in a thread of its own.
        tasks = self._tasks
        self._latest = max(self._latest, self._now)
        again = {task.id for task in step.tasks.values() if self._is_due_again(tasks.get(task.id), task)}
        self._journal.write(
            [
                *(Line(put=task) for task in step.tasks.values()),
                *(Line(gone=task_id) for task_id in step.gone),
            ]
        )
        tasks.update(step.tasks)
        for task_id in step.gone:
            del tasks[task_id]
        self._due.difference_update(step.tasks, step.gone)
        self._due |= again.union(task.id for task in step.tasks.values() if self._is_due(task, self._now))
        if self.observer is not None:
            for topic, events in step.events:
                self.observer.record(topic, events)
        if self.listener is not None:
            for task in step.tasks.values():
                if task.state < COMPLETED:  # an active one, too: it can be claimed again at its deadline
                    self.listener.available(task.topic)
                else:
                    self.listener.settled(task.id)
            for task_id in step.gone:
                self.listener.settled(task_id)

    def _decide(self, task: TaskRecord, command: Command, now: int) -> Change:
        return transitions.decide(task, command, now, self.retry, self.random)

    def _carry_out(self, task_id: str, command: Command, now: int) -> TaskRecord:
        task = self._tasks.get(task_id)
        if task is None:
            raise NotFound()
        step = Step()
        changed = step.change(task, self._decide(task, command, now))
        self._now = now
        self._take(step)
        return changed

    def _carry_out_all(self, tasks: Sequence[TaskRecord], command: Command, now: int) -> int:
        # Better: in slices, so that other calls run in between.
        step = Step()
        for task in tasks:
            step.change(task, self._decide(task, command, now))
        self._now = now
        self._take(step)
        return len(tasks)

    def _delete(self, tasks: Sequence[TaskRecord]) -> int:
        step = Step()
        step.gone = [task.id for task in tasks]
        self._take(step)
        return len(tasks)

    # ---- tasks -----------------------------------------------------------------------------------

    async def insert(self, tasks: Sequence[TaskRecord], now: int) -> list[bool]:
        return self._put(tasks, now, replace=False)

    async def upsert(self, tasks: Sequence[TaskRecord], now: int) -> list[bool]:
        return self._put(tasks, now, replace=True)

    def _put(self, tasks: Sequence[TaskRecord], now: int, *, replace: bool) -> list[bool]:
        self._now = now
        step = Step()
        created = []
        sequence = self._sequence
        for task in tasks:
            old = step.tasks.get(task.id) or self._tasks.get(task.id)
            created.append(old is None)
            if old is not None and not replace:
                continue
            transitions.complete_on_insert(task, now)
            if old is None:
                sequence += 1
            task.sequence = sequence if old is None else old.sequence
            step.tasks[task.id] = task
        self._take(step)
        self._sequence = sequence
        return created

    async def get(self, task_id: str) -> TaskRecord | None:
        return self._tasks.get(task_id)

    async def list_tasks(self, query: TaskQuery) -> TaskPage:
        after = 0
        if query.after is not None:
            if not re.fullmatch("[0-9]{1,15}", query.after):
                raise BadRequest("the cursor is not one that this server gave")
            after = int(query.after)
        fitting = [task for task in self._of(query.topic) if task.sequence > after and query.matches(task)]
        fitting = sorted(fitting, key=lambda task: task.sequence)[query.offset :]
        page: list[TaskRecord] = []
        size = 0
        for task in fitting[: query.limit]:
            size += task.weight()
            if page and size > MAX_PAGE_BYTES:
                break
            page.append(task)
        return TaskPage(page, str(page[-1].sequence) if len(page) < len(fitting) else None)

    async def delete_task(self, task_id: str) -> bool:
        task = self._tasks.get(task_id)
        return task is not None and self._delete([task]) == 1

    async def delete_tasks(self, topic: str) -> int:
        return self._delete(self._of(topic))

    async def commit(self, commits: Sequence[CommitRecord], now: int) -> list[TaskRecord | RatusError]:
        self._now = now
        step = Step()
        answers = [self._commit(step, commit, now) for commit in commits]
        self._take(step)
        return answers

    def _commit(self, step: Step, commit: CommitRecord, now: int) -> TaskRecord | RatusError:
        task = step.tasks.get(commit.id) or self._tasks.get(commit.id)
        if task is None:
            return NotFound()
        try:
            return step.change(task, self._decide(task, commit, now))
        except Conflict as error:
            return error

    # ---- claims ----------------------------------------------------------------------------------

    async def claim(self, selection: Selection, now: int) -> list[TaskRecord]:
        self._now = now
        step = Step()
        claimed: list[TaskRecord] = []
        size = 0
        for topic in dict.fromkeys(selection.topics):
            if topic in self._paused:
                continue
            pending = self._of(topic, PENDING)
            lapsed = self._where(transitions.lapsed(now), topic)
            for task in lapsed[:CLAIM_CHORES]:  # so that one poll does not recover a million tasks
                taken_back = step.change(task, self._decide(task, Lapse(), now))
                if taken_back.state == PENDING:
                    pending.append(taken_back)
                    if self._is_due_again(task, taken_back):
                        self._due.add(task.id)
            pending.sort(key=lambda task: (-task.priority, task.scheduled, task.sequence))
            for task in pending:
                if len(claimed) == selection.limit:
                    break
                if not self._is_due(task, now):
                    continue
                if transitions.has_expired(task, now):
                    step.change(task, self._decide(task, Expire(), now))
                    continue
                size += task.weight()
                if claimed and size > MAX_PAGE_BYTES:
                    break
                claimed.append(step.change(task, self._decide(task, self._command(selection, now), now)))
        self._take(step)
        return claimed

    def _command(self, selection: Selection, now: int, force: bool = False) -> ClaimById:
        return ClaimById(self.nonces(), selection.deadline_at(now), selection.consumer, force)

    async def claim_task(self, task_id: str, selection: Selection, now: int, *, force: bool) -> TaskRecord:
        return self._carry_out(task_id, self._command(selection, now, force), now)

    async def extend(self, task_id: str, nonce: str, deadline: int, now: int) -> TaskRecord:
        return self._carry_out(task_id, Extend(nonce, deadline), now)

    async def release(self, task_id: str, now: int, nonce: str | None = None) -> bool:
        try:
            self._carry_out(task_id, Release(nonce), now)
        except (NotFound, Conflict):
            return False
        return True

    async def release_topic(self, topic: str, now: int) -> int:
        return self._carry_out_all(self._of(topic, ACTIVE), Release(), now)

    async def next_due(self, topic: str) -> int | None:
        times = [task.scheduled for task in self._of(topic, PENDING)]
        times += [task.deadline for task in self._of(topic, ACTIVE) if task.deadline is not None]
        return None if topic in self._paused else min(times, default=None)

    def _is_due(self, task: TaskRecord, now: int) -> bool:
        return task.state == PENDING and (task.scheduled <= now or task.id in self._due)

    def _is_due_again(self, old: TaskRecord | None, task: TaskRecord) -> bool:
        """Whether a task became pending again and was due before: the clock may have been set back since."""
        if old is None or task.state != PENDING or task.scheduled != old.scheduled:
            return False
        return transitions.was_due(task, self._latest)

    # ---- topics ----------------------------------------------------------------------------------

    async def list_topics(self, limit: int, offset: int) -> list[str]:
        names = {task.topic for task in self._tasks.values()} | self._paused
        return sorted(names)[offset : offset + limit]

    async def get_topic(self, topic: str, now: int) -> TopicInfo | None:
        # Better: counters that are updated with every change, since dashboards ask often.
        tasks = self._of(topic)
        if not tasks and topic not in self._paused:
            return None
        counts = [sum(task.state == state for task in tasks) for state in range(4)]
        due = [task.scheduled for task in tasks if self._is_due(task, now)]
        return TopicInfo(
            topic,
            (counts[0], counts[1], counts[2], counts[3]),
            len(due),
            min(due, default=None),
            topic in self._paused,
        )

    async def delete_topic(self, topic: str) -> int:
        await self.put_record(TOPIC_SETTINGS, topic, None)
        return self._delete(self._of(topic))

    async def delete_topics(self) -> int:
        for topic in list(self._paused):
            await self.put_record(TOPIC_SETTINGS, topic, None)
        return self._delete(list(self._tasks.values()))

    # ---- records ---------------------------------------------------------------------------------

    async def get_record(self, kind: Kind[Members], record_id: str) -> Record[Members] | None:
        self._check_open()
        found = self._records.get((kind.name, record_id))
        return None if found is None else _record(kind, found)

    async def put_record(
        self, kind: Kind[Members], record_id: str, members: Members | None, expected: int | None = None
    ) -> int:
        self._check_open()
        found = self._records.get((kind.name, record_id))
        check_version(0 if found is None else found.version, expected)
        if members is not None:
            new = RecordLine(kind.name, record_id, self._sequence + 1, kind.to_json(members).decode())
        elif found is not None:
            new = RecordLine(kind.name, record_id)
        else:
            return 0
        self._journal.write([Line(record=new)])
        self._sequence = max(self._sequence, new.version)
        self._keep_record(new)
        if kind is TOPIC_SETTINGS and self.listener is not None:
            self.listener.available(record_id)
        return new.version

    async def list_records(self, kind: Kind[Members], after: str, limit: int) -> list[Record[Members]]:
        # Better: keep the ids in order.
        self._check_open()
        ids = sorted(each for name, each in self._records if name == kind.name and each > after)
        return [_record(kind, self._records[kind.name, each]) for each in ids[:limit]]

    def _keep_record(self, line: RecordLine) -> None:
        if line.members is None:
            self._records.pop((line.kind, line.id), None)
        else:
            self._records[line.kind, line.id] = line
        if line.kind == TOPIC_SETTINGS.name:
            settings = None if line.members is None else TOPIC_SETTINGS.from_json(line.members)
            if settings is not None and settings.paused:
                self._paused.add(line.id)
            else:
                self._paused.discard(line.id)

    # ---- chores ----------------------------------------------------------------------------------

    async def recover(self, now: int) -> int:
        return self._carry_out_all(self._where(transitions.lapsed(now)), Lapse(), now)

    async def expire(self, now: int) -> int:
        return self._carry_out_all(self._where(transitions.expired(now)), Expire(), now)

    async def purge(self, before: int) -> int:
        return self._delete(self._where(transitions.purgeable(before)))

    async def maintain(self, now: int) -> None:
        # Better: begin the journal anew when most of its lines are outdated, not only at the next start.
        self._check_open()


def _record(kind: Kind[Members], line: RecordLine) -> Record[Members]:
    assert line.members is not None, "only lines of records that are there are kept"
    return Record(line.id, line.version, kind.from_json(line.members))


def _numbers(line: Line) -> list[int]:
    """The numbers of tasks and of versions that a line shows to be taken."""
    return [
        line.last,
        0 if line.put is None else line.put.sequence,
        0 if line.record is None else line.record.version,
    ]
