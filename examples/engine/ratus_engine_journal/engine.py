"""A whole engine, kept short: a dict of tasks, a journal of changes, and loops over all tasks.

It is durable and passes the contract suite, and it is slow: a claim looks at every task, and every write
waits for the disk by itself. What an engine for real work does better is in the comments that begin with
"Better:".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from ratus.core import transitions, turns
from ratus.core.errors import BadRequest, Closed, Conflict, NotFound, RatusError, ServiceUnavailable
from ratus.core.kinds import TOPIC_SETTINGS, Kind, check_version
from ratus.core.records import (
    ACTIVE,
    COMPLETED,
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
from ratus.core.transitions import (
    Change,
    ClaimById,
    Command,
    Expire,
    Extend,
    Lapse,
    Release,
    Require,
    RetryDefaults,
)
from ratus.core.turns import Closing, Reason
from ratus.engine import CLAIM_CHORES, Engine, Health, Traits
from ratus_engine_journal.journal import Journal, RecordLine
from ratus_engine_journal.lanes import Lanes
from ratus_engine_journal.step import State, Step


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
        self._opened: State | None = None  # None while it is not open

    # ---- life ------------------------------------------------------------------------------------

    async def open(self, now: int) -> None:
        state = State(now)
        for line in self._journal.open():
            state.take(line)
        state.forget_lanes(now)
        state.due = {
            task.id for task in state.tasks.values() if task.state == PENDING and task.scheduled <= now
        }
        self._journal.begin(state.lines())
        self._opened = state

    async def close(self, now: int) -> None:
        self._opened = None
        self._journal.close()

    async def health(self) -> Health:
        return Health(True) if self._opened is not None else Health(False, "the journal is not open")

    @property
    def _state(self) -> State:
        if self._opened is None:
            raise ServiceUnavailable("the journal is not open")
        return self._opened

    # ---- the one way to change anything ----------------------------------------------------------

    def _step(self, now: int | None = None) -> Step:
        """A new step, at the time of the last one where an operation is not given the time."""
        return Step(self._state, self._state.now if now is None else now)

    def _take(self, step: Step) -> None:
        """Write the step to disk, then take it into memory, then notify the listener and the observer."""
        # Better: let steps that come at the same time share one wait for the disk, in a thread of its own.
        state = self._state
        before = {task_id: state.tasks.get(task_id) for task_id in step.tasks}
        lines = step.lines()
        self._journal.write(lines)
        for line in lines:
            state.take(line)
        state.due.difference_update(step.tasks)
        state.due.update(task_id for task_id, is_due in step.due.items() if is_due)
        state.now, state.latest = step.now, max(state.latest, step.now)
        self._notify(step, before)

    def _notify(self, step: Step, before: dict[str, TaskRecord | None]) -> None:
        if self.observer is not None:
            for topic, events in step.events:
                self.observer.record(topic, events)
        if self.listener is None:
            return
        for task_id, task in step.tasks.items():
            if task is None or task.state >= COMPLETED:
                self.listener.settled(task_id)
            elif task.state == PENDING:
                self.listener.available(task.topic, task)
            else:  # it can be claimed again at its deadline
                self.listener.available(task.topic)
            old = before[task_id]
            if old is not None and old.state < COMPLETED and step.state.limits(old.topic) is not None:
                # Better: only where a place became free.
                self.listener.available(old.topic)

    def _decide(self, task: TaskRecord, command: Command, now: int) -> Change:
        return transitions.decide(task, command, now, self.retry, self.random)

    def _carry_out(self, task_id: str, command: Command, now: int) -> TaskRecord:
        step = self._step(now)
        task = step.get(task_id)
        if task is None:
            raise NotFound()
        changed = step.change(task, self._decide(task, command, now))
        if isinstance(command, ClaimById):
            step.count_claim(changed)
        self._take(step)
        return changed

    def _carry_out_all(self, tasks: Sequence[TaskRecord], command: Command, now: int) -> int:
        # Better: in slices, so that other calls run in between.
        step = self._step(now)
        for task in tasks:
            step.change(task, self._decide(task, command, now))
        self._take(step)
        return len(tasks)

    def _delete(self, tasks: Sequence[TaskRecord]) -> int:
        step = self._step()
        for task in tasks:
            step.delete(task)
        self._take(step)
        return len(tasks)

    def _where(self, require: Require) -> list[TaskRecord]:
        # Better: an index by time, as only some of the tasks can have lapsed or expired.
        return [task for task in self._state.tasks.values() if transitions.meets(task, require)]

    # ---- tasks -----------------------------------------------------------------------------------

    async def insert(self, tasks: Sequence[TaskRecord], now: int) -> list[bool]:
        return self._put(tasks, now, replace=False)

    async def upsert(self, tasks: Sequence[TaskRecord], now: int) -> list[bool]:
        return self._put(tasks, now, replace=True)

    def _put(self, tasks: Sequence[TaskRecord], now: int, *, replace: bool) -> list[bool]:
        step = self._step(now)
        created = []
        for task in tasks:
            old = step.get(task.id)
            created.append(old is None)
            if old is None or replace:
                transitions.complete_on_insert(task, now)
                task.sequence = step.number() if old is None else old.sequence
                step.put(task)
        self._take(step)
        return created

    async def get(self, task_id: str) -> TaskRecord | None:
        return self._state.tasks.get(task_id)

    async def list_tasks(self, query: TaskQuery) -> TaskPage:
        after = 0
        if query.after is not None:
            if not re.fullmatch("[0-9]{1,15}", query.after):
                raise BadRequest("the cursor is not one that this server gave")
            after = int(query.after)
        tasks = self._step().of(query.topic)
        fitting = [task for task in tasks if task.sequence > after and query.matches(task)]
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
        task = self._state.tasks.get(task_id)
        return task is not None and self._delete([task]) == 1

    async def delete_tasks(self, topic: str) -> int:
        return self._delete(self._step().of(topic))

    async def commit(self, commits: Sequence[CommitRecord], now: int) -> list[TaskRecord | RatusError]:
        step = self._step(now)
        answers = [self._commit(step, commit, now) for commit in commits]
        self._take(step)
        return answers

    def _commit(self, step: Step, commit: CommitRecord, now: int) -> TaskRecord | RatusError:
        task = step.get(commit.id)
        if task is None:
            return NotFound()
        try:
            return step.change(task, self._decide(task, commit, now))
        except Conflict as error:
            return error

    # ---- claims ----------------------------------------------------------------------------------

    async def claim(self, selection: Selection, now: int) -> list[TaskRecord]:
        step = self._step(now)
        if now < step.state.now:
            step.bound_rates()
        claimed: list[TaskRecord] = []
        refusals: dict[str, Closing] = {}
        limit, size = selection.limit, 0
        for topic in dict.fromkeys(selection.topics):
            if len(claimed) == limit or step.state.settings_of(topic).paused:
                continue
            self._do_chores(step, topic)
            if step.has_topic(topic):
                for label in selection.prefer:
                    step.use(topic, label)
            lanes = Lanes(step, topic)
            line = lanes.line(selection.where)
            before = len(claimed)
            while line and len(claimed) < limit:
                task = lanes.next(line, selection, self.random)
                if task is None:
                    if len(claimed) == before:
                        refusals[topic] = lanes.refusal(line)
                    break
                size += task.weight()
                if claimed and size > MAX_PAGE_BYTES:
                    limit = len(claimed)
                    break
                line.remove(task)
                task = step.change(task, self._decide(task, self._command(selection, now), now))
                step.count_claim(task)
                claimed.append(task)
        self._take(step)
        if self.observer is not None:
            for topic, closing in refusals.items():
                self.observer.refused(topic, closing.reason)
        times = [time for closing in refusals.values() if (time := turns.retry_at(closing)) is not None]
        if times and not claimed:
            raise Closed(min(times))
        return claimed

    def _do_chores(self, step: Step, topic: str) -> None:
        """Take back the lapsed claims of a topic, and archive what has expired."""
        lapsed = [task for task in step.of(topic, ACTIVE) if transitions.has_lapsed(task, step.now)]
        for task in lapsed[:CLAIM_CHORES]:  # so that one poll does not recover a million tasks
            step.change(task, self._decide(task, Lapse(), step.now))
        # Better: only those that stand before a due one.
        for task in step.of(topic, PENDING):
            if transitions.has_expired(task, step.now):
                step.change(task, self._decide(task, Expire(), step.now))

    def _command(self, selection: Selection, now: int, force: bool = False) -> ClaimById:
        return ClaimById(self.nonces(), selection.deadline_at(now), selection.consumer, force)

    async def claim_task(self, task_id: str, selection: Selection, now: int, *, force: bool) -> TaskRecord:
        return self._carry_out(task_id, self._command(selection, now, force), now)

    async def extend(self, task_id: str, nonce: str, deadline: int, now: int) -> TaskRecord:
        return self._carry_out(task_id, Extend(nonce, deadline), now)

    async def release(
        self, task_id: str, now: int, nonce: str | None = None, hold: int | None = None
    ) -> bool:
        try:
            self._carry_out(task_id, Release(nonce, 0 if hold is None else now + hold), now)
        except (NotFound, Conflict):
            return False
        return True

    async def release_topic(self, topic: str, now: int) -> int:
        return self._carry_out_all(self._step(now).of(topic, ACTIVE), Release(), now)

    async def next_due(self, topic: str, now: int, where: Where | None = None) -> int | None:
        step = self._step(now)
        if step.state.settings_of(topic).paused:
            return None
        times = [task.deadline for task in step.of(topic, ACTIVE)] + [Lanes(step, topic).next_due(where)]
        return min((time for time in times if time is not None), default=None)

    # ---- topics ----------------------------------------------------------------------------------

    def _topics(self) -> set[str]:
        return {task.topic for task in self._state.tasks.values()}.union(self._state.settings)

    async def list_topics(self, limit: int, offset: int) -> list[str]:
        return sorted(self._topics())[offset : offset + limit]

    async def get_topic(self, topic: str, now: int) -> TopicInfo | None:
        # Better: counters that are updated with every change, since dashboards ask often.
        step = self._step(now)
        if not step.has_topic(topic):
            return None
        tasks = step.of(topic)
        counts = [sum(task.state == state for task in tasks) for state in range(4)]
        due = [task.scheduled for task in tasks if step.is_due(task)]
        settings = step.state.settings_of(topic)
        return TopicInfo(
            topic,
            (counts[0], counts[1], counts[2], counts[3]),
            len(due),
            min(due, default=None),
            settings.paused,
            settings.limits,
            Closing(Reason.PAUSED) if settings.paused else Lanes(step, topic).closing(),
            sum(lane.topic == topic and lane.served > 0 for lane in step.state.lanes.values()),
        )

    async def delete_topic(self, topic: str) -> int:
        return self._delete_topics({topic})

    async def delete_topics(self) -> int:
        return self._delete_topics(self._topics().union(key[0] for key in self._state.lanes))

    def _delete_topics(self, topics: set[str]) -> int:
        step = self._step()
        tasks = [task for task in self._state.tasks.values() if task.topic in topics]
        for task in tasks:
            step.delete(task)
        for topic in topics:
            step.forget(topic)
        self._take(step)
        return len(tasks)

    # ---- lanes -----------------------------------------------------------------------------------

    async def list_lanes(
        self, topic: str, label: str, after: str | None, limit: int, now: int
    ) -> list[LaneInfo]:
        step = self._step(now)
        if step.has_topic(topic):
            step.use(topic, label)
            self._take(step)
        lanes = Lanes(step, topic).infos(label)
        return [lane for lane in lanes if after is None or lane.value is None or lane.value > after][:limit]

    async def lift_holds(self, topic: str, now: int) -> None:
        step = self._step(now)
        for key, lane in step.state.lanes.items():
            if lane.topic == topic and lane.held:
                step.set_lane(key, held=0)
        self._take(step)
        if step.lanes and self.listener is not None:
            self.listener.available(topic)

    # ---- records ---------------------------------------------------------------------------------

    async def get_record(self, kind: Kind[Members], record_id: str) -> Record[Members] | None:
        found = self._state.records.get((kind.name, record_id))
        return None if found is None else _record(kind, found)

    async def put_record(
        self, kind: Kind[Members], record_id: str, members: Members | None, expected: int | None = None
    ) -> int:
        found = self._state.records.get((kind.name, record_id))
        check_version(0 if found is None else found.version, expected)
        step = self._step()
        if members is not None:
            new = RecordLine(kind.name, record_id, step.number(), kind.to_json(members).decode())
        elif found is not None:
            new = RecordLine(kind.name, record_id)
        else:
            return 0
        step.records.append(new)
        if (
            isinstance(members, TopicSettings)
            and members.limits is not None
            and members.limits.per is not None
        ):
            step.use(record_id, members.limits.per.label)
        self._take(step)
        if kind is TOPIC_SETTINGS and self.listener is not None:
            self.listener.available(record_id)
        return new.version

    async def list_records(self, kind: Kind[Members], after: str, limit: int) -> list[Record[Members]]:
        # Better: keep the ids in order.
        records = self._state.records
        ids = sorted(each for name, each in records if name == kind.name and each > after)
        return [_record(kind, records[kind.name, each]) for each in ids[:limit]]

    # ---- chores ----------------------------------------------------------------------------------

    async def recover(self, now: int) -> int:
        return self._carry_out_all(self._where(transitions.lapsed(now)), Lapse(), now)

    async def expire(self, now: int) -> int:
        return self._carry_out_all(self._where(transitions.expired(now)), Expire(), now)

    async def purge(self, before: int) -> int:
        return self._delete(self._where(transitions.purgeable(before)))

    async def maintain(self, now: int) -> None:
        # Better: begin the journal anew when most of its lines are outdated, not only at the next start.
        self._state.forget_lanes(now)


def _record(kind: Kind[Members], line: RecordLine) -> Record[Members]:
    assert line.members is not None, "only lines of records that are there are kept"
    return Record(line.id, line.version, kind.from_json(line.members))
