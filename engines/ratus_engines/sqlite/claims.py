"""Claiming: the due tasks of topics, within their limits, for all claims of one transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ratus.core import transitions, turns
from ratus.core.errors import Closed
from ratus.core.records import MAX_PAGE_BYTES, TaskRecord
from ratus.core.selection import Selection
from ratus.core.transitions import RetryDefaults
from ratus.core.turns import Closing
from ratus.engine import CLAIM_CHORES
from ratus_engines.sqlite import statements
from ratus_engines.sqlite.choosing import Choice, chooses
from ratus_engines.sqlite.rows import task_of
from ratus_engines.sqlite.transaction import Topic, Transaction

# Tasks that are fetched at once; a batch of claims may want more, and gets them in several fetches.
MOST_AHEAD = 1000

# Above any priority.
_HIGHEST = 1 << 62

_NEXT_LEVEL = (
    "SELECT max(priority) FROM tasks INDEXED BY tasks_pending WHERE state = 0 AND topic = ? AND priority < ?"
)
_HEAD = statements.tasks(
    "state = 0 AND tasks.topic = ? AND priority = ? AND scheduled <= ? ORDER BY scheduled, sequence LIMIT ?",
    "tasks_pending",
)


class Claims:
    """Carries out claims in one transaction, in which nothing else happens meanwhile.

    Callers that ask at the same time differ by microseconds in their ``now``. Tasks are fetched for all
    callers at once, and each caller gets the first ones that are due at its own ``now``.
    """

    def __init__(
        self,
        transaction: Transaction,
        retry: RetryDefaults,
        random: Callable[[], float],
        nonces: Callable[[], str],
    ) -> None:
        self._transaction = transaction
        self._retry = retry
        self._random = random
        self._nonces = nonces
        self._due: dict[str, _DueTasks] = {}
        self._first_deadlines: dict[str, int | None] = {}

    def serve(self, requests: Sequence[tuple[Selection, int]]) -> list[list[TaskRecord] | Closed | None]:
        """The claimed tasks of each request, in order; a request is a `Selection` and the time.

        `Closed`, to be raised, where the contract says so. ``None`` for a request that met `CLAIM_CHORES`
        expired tasks or lanes before a due one: make it again.
        """
        wanted: dict[str, int] = {}
        latest = 0
        for selection, now in requests:
            latest = max(latest, now)
            if not chooses(selection):
                for name in selection.topics:
                    wanted[name] = wanted.get(name, 0) + selection.limit
        for name, count in wanted.items():
            topic = self._transaction.topic(name)
            if topic.number and not topic.paused and (topic.limits is None or topic.limits.per is None):
                self._due[name] = _DueTasks(self._transaction, topic, latest, min(count, MOST_AHEAD))
        return [self._claim(selection, now) for selection, now in requests]

    def _claim(self, selection: Selection, now: int) -> list[TaskRecord] | Closed | None:
        transaction = self._transaction
        claimed: list[TaskRecord] = []
        size = expired = 0
        reopens: int | None = None
        deadline = selection.deadline_at(now)
        chosen = chooses(selection)
        for name in selection.topics:
            topic = transaction.topic(name)
            if not topic.number or topic.paused:
                continue
            self._take_back(topic, now)
            due = None if chosen else self._due.get(name)
            source = due or Choice(transaction, topic, selection, self._random)
            before = len(claimed)
            refusal: Closing | None = None
            while True:
                if topic.limits is not None or topic.held:
                    refusal = topic.closing(now)
                if refusal is not None and isinstance(source, Choice):
                    refusal = refusal if source.is_due(now) else None
                    break
                task = source.take(now)
                if task is None:
                    refusal = None
                    if isinstance(source, Choice):
                        if source.again:
                            return claimed or None
                        refusal = source.refusal
                    break
                if due is None and name in self._due:
                    self._due[name].forget()  # this may be one of the tasks that were fetched
                if transitions.has_expired(task, now):
                    transaction.change(task, transitions.expire(task, now))
                    expired += 1
                    if expired == CLAIM_CHORES:
                        return claimed or None
                    continue
                if refusal is not None and due is not None:
                    due.put_back(task)
                    break
                size += task.weight()
                if claimed and size > MAX_PAGE_BYTES:
                    if due is not None:
                        due.put_back(task)
                    return claimed
                change = transitions.claim(
                    consumer=selection.consumer, nonce=self._nonces(), deadline=deadline, now=now
                )
                claimed.append(transaction.claim(task, change, now))
                first = self._first_deadlines[name]
                if first is None or deadline < first:
                    self._first_deadlines[name] = deadline
                if len(claimed) == selection.limit:
                    return claimed
            if refusal is not None and len(claimed) == before:
                transaction.notifications.refused.append((name, refusal.reason))
                if (time := turns.retry_at(refusal)) is not None:
                    reopens = time if reopens is None else min(reopens, time)
        return claimed if claimed or reopens is None else Closed(reopens)

    def _take_back(self, topic: Topic, now: int) -> None:
        """Let claims of the topic lapse whose deadline has passed; up to `CLAIM_CHORES`."""
        transaction = self._transaction
        if topic.name not in self._first_deadlines:
            self._look_for_deadline(topic)
        first = self._first_deadlines[topic.name]
        if first is None or first > now:
            return
        for row in transaction.read(statements.LAPSED, (topic.number, now, CLAIM_CHORES)):
            task = task_of(row)
            transaction.change(task, transitions.lapse(task, now, self._retry, self._random))
        self._look_for_deadline(topic)
        if topic.name in self._due:
            self._due[topic.name].forget()

    def _look_for_deadline(self, topic: Topic) -> None:
        ((first,),) = self._transaction.read(statements.FIRST_DEADLINE, (topic.number,))
        self._first_deadlines[topic.name] = first


class _DueTasks:
    """The due tasks of a topic in the order of claiming: larger priority, then ``scheduled``, then creation.

    They are fetched ``count`` at a time, up to those due at ``until``, the latest time of all callers.
    """

    def __init__(self, transaction: Transaction, topic: Topic, until: int, count: int) -> None:
        self.topic = topic
        self._transaction = transaction
        self._until = until
        self._count = count
        self._tasks: list[TaskRecord] = []
        self._early: set[int] = set()  # numbers of tasks that are due whatever the clock says
        self._complete = False

    def take(self, now: int) -> TaskRecord | None:
        """Take the first due task, or ``None``. The caller must change it or put it back before the next."""
        for until in (self._until, now):
            for at, task in enumerate(self._tasks):
                if task.scheduled <= now or task.sequence in self._early:
                    del self._tasks[at]
                    return task
            if self._complete:
                return None
            # The fetched tasks are not due yet for this caller, but tasks behind them may be.
            self._fetch(until)
        return self._tasks.pop(0) if self._tasks else None

    def put_back(self, task: TaskRecord) -> None:
        self._tasks.insert(0, task)

    def forget(self) -> None:
        """Drop the fetched tasks, so that those that have become pending meanwhile are fetched, too."""
        self._tasks = []
        self._complete = False

    def _fetch(self, until: int) -> None:
        tasks: list[TaskRecord] = []
        size = 0
        level: int | None = _HIGHEST
        has_early = self._transaction.has_early
        while True:
            ((level,),) = self._transaction.read(_NEXT_LEVEL, (self.topic.number, level))
            if level is None:
                break
            values = (self.topic.number, level, until, self._count - len(tasks))
            for row in self._transaction.rows(_HEAD, values):
                task = task_of(row)
                tasks.append(task)
                size += task.weight()
                if size > MAX_PAGE_BYTES:
                    break
            if has_early and len(tasks) < self._count and size <= MAX_PAGE_BYTES:
                # Tasks that are kept due come last: they are scheduled after all that are due by the clock.
                values = (self.topic.number, level, until, self._count - len(tasks))
                for row in self._transaction.rows(statements.EARLY, values):
                    task = task_of(row)
                    tasks.append(task)
                    self._early.add(task.sequence)
                    size += task.weight()
                    if size > MAX_PAGE_BYTES:
                        break
            if len(tasks) == self._count or size > MAX_PAGE_BYTES:
                self._tasks, self._complete = tasks, False
                return
        self._tasks, self._complete = tasks, until == self._until
