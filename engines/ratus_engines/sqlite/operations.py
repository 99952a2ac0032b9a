"""The operations of the writer thread, from requests to rows. `ratus.core.transitions` decides state changes.

An operation decides before it writes, so one that raises has changed nothing, and the others that share its
transaction go on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from ratus.core import transitions
from ratus.core.errors import Closed, Conflict, NotFound, RatusError
from ratus.core.kinds import TOPIC_SETTINGS, Kind, check_version
from ratus.core.records import ACTIVE, CommitRecord, Members, TaskRecord
from ratus.core.selection import Selection
from ratus.core.transitions import ClaimById, Extend, RetryDefaults
from ratus_engines.sqlite import lanes, statements
from ratus_engines.sqlite.claims import Claims
from ratus_engines.sqlite.lanes import Value
from ratus_engines.sqlite.rows import task_of
from ratus_engines.sqlite.transaction import Transaction

# Tasks a long operation handles in one transaction before other operations run: a few milliseconds of work.
SLICE = 500

# Due tasks of a priority that are counted in one transaction: a millisecond of work.
COUNTED = 10_000

_OF_TOPIC = (
    "tasks.topic = (SELECT topic FROM topics WHERE name = ?) AND state = ? "
    "AND sequence > ? AND sequence <= ? ORDER BY sequence LIMIT ?"
)
_PLACES = statements.places(_OF_TOPIC)
_TASKS = statements.bare_tasks(_OF_TOPIC)
_ANY_PLACES = statements.places("sequence <= ? ORDER BY sequence LIMIT ?")
_PLACE = statements.places("id = ?")
_OLD = statements.places("state = 2 AND committed <= ? ORDER BY committed LIMIT ?", "tasks_completed")
_EXPIRED = statements.bare_tasks(
    "state = 0 AND expires IS NOT NULL AND tasks.topic = ? AND expires <= ? ORDER BY expires LIMIT ?",
    "tasks_expiring",
)

_EARLY_NO_MORE = (
    "SELECT sequence, name, priority, scheduled FROM early JOIN topics USING (topic) "
    "WHERE scheduled <= ? LIMIT ?"
)
_TIMES_OF_TOPIC = (
    "SELECT topic, label, value, allowed, held FROM times "
    "WHERE topic = ? AND (label, value) > (?, ?) ORDER BY label, value LIMIT ?"
)
_TOPICS_BEHIND = "SELECT topic, name FROM topics WHERE topic > ? ORDER BY topic LIMIT ?"
_TIMES_PASSED = "SELECT topic, label, value FROM times WHERE ends <= ? LIMIT ?"
_ANY_TIMES = "SELECT topic, label, value FROM times LIMIT ?"
_REMOVE_TIMES = "DELETE FROM times WHERE topic = ? AND label = ? AND value = ?"

_VERSION = "SELECT version FROM records WHERE kind = ? AND id = ?"

# Places of the index that `keep_due` visits in one transaction while it finds nothing to do.
PLACES = 200

# After any time.
_NEVER = 1 << 62

Tasks: TypeAlias = Sequence[TaskRecord]

Place: TypeAlias = tuple[int, int, int]
"""A topic's number, a priority and a time: a place in the order of pending tasks."""

FIRST_PLACE: Place = (0, 0, 0)


class GroupedWrites:
    """Operations that serve all requests of one group of the writer together.

    They take the arguments of every request, in the order of arrival, and give the answers in that order.
    """

    def __init__(self, retry: RetryDefaults, random: Callable[[], float], nonces: Callable[[], str]) -> None:
        self._retry = retry
        self._random = random
        self._nonces = nonces

    def insert(self, transaction: Transaction, requests: Sequence[tuple[Tasks, int]]) -> list[list[bool]]:
        together: list[TaskRecord] = []
        for tasks, now in requests:
            for task in tasks:
                transitions.complete_on_insert(task, now)
            together += tasks
        created = iter(transaction.insert(together))
        return [[next(created) for _ in tasks] for tasks, _ in requests]

    def upsert(self, transaction: Transaction, requests: Sequence[tuple[Tasks, int]]) -> list[list[bool]]:
        known = transaction.load(task.id for tasks, _ in requests for task in tasks)
        fresh: dict[str, TaskRecord] = {}
        # Lanes are served in the order in which tasks come to them: where there are lanes, tasks are stored
        # one by one, and otherwise new ones together.
        names = {task.topic for tasks, _ in requests for task in tasks}
        one_by_one = any(transaction.topic(name).labels & lanes.IN_USE for name in names)
        answers = []
        for tasks, now in requests:
            created = []
            for task in tasks:
                transitions.complete_on_insert(task, now)
                old = known.get(task.id)
                created.append(old is None and task.id not in fresh)
                if old is None and one_by_one:
                    transaction.insert([task])
                    known[task.id] = task
                elif old is None:
                    fresh[task.id] = task  # where an id comes twice, the later task replaces the earlier one
                else:
                    transaction.replace(old, task)
                    known[task.id] = task
            answers.append(created)
        transaction.insert(list(fresh.values()))
        return answers

    def commit(
        self, transaction: Transaction, requests: Sequence[tuple[Sequence[CommitRecord], int]]
    ) -> list[list[TaskRecord | RatusError]]:
        tasks = transaction.load(commit.id for commits, _ in requests for commit in commits)
        answers = []
        for commits, now in requests:
            answer: list[TaskRecord | RatusError] = []
            for commit in commits:
                task = tasks.get(commit.id)
                if task is None:
                    answer.append(NotFound())
                    continue
                try:
                    change = transitions.commit(task, commit, now, self._retry, self._random)
                except Conflict as error:
                    answer.append(error)
                    continue
                tasks[task.id] = task = transaction.change(task, change)
                answer.append(task)
            answers.append(answer)
        return answers

    def claim(
        self, transaction: Transaction, requests: Sequence[tuple[Selection, int]]
    ) -> list[list[TaskRecord] | Closed | None]:
        return Claims(transaction, self._retry, self._random, self._nonces).serve(requests)


class SingleWrites:
    """Operations that serve one request each. One that works in slices returns how many tasks it handled."""

    def __init__(self, retry: RetryDefaults, random: Callable[[], float], nonces: Callable[[], str]) -> None:
        self._retry = retry
        self._random = random
        self._nonces = nonces

    # ---- one task --------------------------------------------------------------------------------

    def delete_task(self, transaction: Transaction, task_id: str) -> bool:
        return self._delete(transaction, transaction.read(_PLACE, (task_id,))) > 0

    def claim_task(
        self, transaction: Transaction, task_id: str, selection: Selection, now: int, force: bool
    ) -> TaskRecord:
        task = self._load(transaction, task_id)
        command = ClaimById(self._nonces(), selection.deadline_at(now), selection.consumer, force)
        return transaction.claim(task, transitions.claim_by_id(task, command, now), now)

    def extend(
        self, transaction: Transaction, task_id: str, nonce: str, deadline: int, now: int
    ) -> TaskRecord:
        task = self._load(transaction, task_id)
        change = transitions.decide(task, Extend(nonce, deadline), now, self._retry, self._random)
        return transaction.change(task, change)

    def release(self, transaction: Transaction, task_id: str, nonce: str | None, hold: int = 0) -> bool:
        """Give a task back. ``hold``: until when its lane or topic hands out nothing."""
        task = transaction.load([task_id]).get(task_id)
        change = transitions.release(nonce, hold)
        if task is None or not transitions.holds(task, change):
            return False
        transaction.change(task, change)
        return True

    @staticmethod
    def _load(transaction: Transaction, task_id: str) -> TaskRecord:
        task = transaction.load([task_id]).get(task_id)
        if task is None:
            raise NotFound()
        return task

    # ---- topics ----------------------------------------------------------------------------------

    def forget_settings(self, transaction: Transaction) -> None:
        """Delete the settings of every topic."""
        for (name,) in transaction.read("SELECT id FROM records WHERE kind = ?", (TOPIC_SETTINGS.name,)):
            transaction.put_record(TOPIC_SETTINGS, name, None)

    def count_due(self, transaction: Transaction, name: str, now: int) -> bool:
        """Count a slice of the tasks that have fallen due since the last count.

        Returns whether all are counted. Tasks that fall due at the same moment are counted together.
        """
        topic = transaction.topic(name)
        if not topic.number or topic.due_until == now:
            return True
        if topic.due_until > now:
            # The clock was set back since the last count, or another server counted, whose clock is ahead.
            values = (topic.number, now, topic.due_until)
            ((fewer,),) = transaction.read(statements.COUNT_DUE, values)
            transaction.count_due(topic, now, -fewer)
            return True
        values = (topic.number, topic.due_until, now)
        ((soon,),) = transaction.read(statements.SOON_DUE, (*values, COUNTED))
        until = now if soon is None else soon
        ((more,),) = transaction.read(statements.COUNT_DUE, (topic.number, topic.due_until, until))
        transaction.count_due(topic, until, more)
        return until == now

    # ---- labels and lanes ------------------------------------------------------------------------

    def use_label(self, transaction: Transaction, name: str, label: str) -> bool:
        """Take a label into use, where the topic exists. Returns whether its lanes can be read."""
        topic = transaction.topic(name)
        return not topic.number or transaction.lanes.use(topic, label).built

    def build(self, transaction: Transaction, name: str) -> bool:
        """Build a slice of the lanes of a topic. Returns whether all are built."""
        topic = transaction.topic(name)
        for label in transaction.lanes.in_use(topic).values():
            if not label.built:
                transaction.lanes.build(topic, label)
                return False
        return True

    def lift_holds(
        self, transaction: Transaction, name: str, after: tuple[str, Value | int]
    ) -> tuple[str, Value | int] | None:
        """End holds of a topic, a slice of its lanes, and of the times behind a label and a value.

        Returns the label and the value behind which there may be more times, or ``None`` at the end.
        """
        lifted = transaction.lift_holds(transaction.topic(name), SLICE)
        rows = transaction.read(_TIMES_OF_TOPIC, (name, *after, SLICE))
        for topic, label, value, allowed, _ in rows:
            transaction.write(_REMOVE_TIMES, (topic, label, value))
            transaction.lanes.put_times(topic, label, value, allowed, 0)
        if len(rows) == SLICE:
            return rows[-1][1], rows[-1][2]
        return after if lifted == SLICE else None

    def forget_times(self, transaction: Transaction, name: str) -> int:
        """Delete the times of rate and hold of a topic that has been deleted."""
        topic = transaction.topic(name)
        if topic.number:  # there are new tasks already
            topic.allowed = topic.held = 0
            topic.changed = topic.marked = True
        rows = transaction.read(_TIMES_OF_TOPIC, (name, "", lanes.BEFORE_ALL, SLICE))
        for row in rows:
            transaction.write(_REMOVE_TIMES, row[:3])
        return len(rows)

    def forget_all_times(self, transaction: Transaction) -> int:
        """Delete the times of rate and hold of all topics."""
        return self._forget_times(transaction, transaction.read(_ANY_TIMES, (SLICE,)))

    def forget_passed_times(self, transaction: Transaction, now: int) -> int:
        """Delete the times of rate and hold that have passed."""
        return self._forget_times(transaction, transaction.read(_TIMES_PASSED, (now, SLICE)))

    @staticmethod
    def _forget_times(transaction: Transaction, rows: Sequence[Sequence[Any]]) -> int:
        for row in rows:
            transaction.write(_REMOVE_TIMES, row)
        return len(rows)

    # ---- records ---------------------------------------------------------------------------------

    def put_record(
        self,
        transaction: Transaction,
        kind: Kind[Members],
        record_id: str,
        members: Members | None,
        expected: int | None,
    ) -> int:
        found = transaction.read(_VERSION, (kind.name, record_id))
        version = found[0][0] if found else 0
        check_version(version, expected)
        if members is None and not version:
            return 0
        return transaction.put_record(kind, record_id, members)

    # ---- clocks ------------------------------------------------------------------------------------

    def keep_due(self, transaction: Transaction, place: Place, now: int, latest: int) -> Place | None:
        """Keep pending tasks due that were due before the clock was set back from ``latest`` to ``now``.

        One slice, behind a place. Returns the place behind which the next one begins, or ``None`` at the end.
        """
        for _ in range(PLACES):
            found = transaction.read(statements.NEXT_PENDING, place)
            if not found:
                return None
            topic, priority, scheduled = found[0]
            if scheduled <= now:
                place = (topic, priority, now)
            elif scheduled > latest:
                place = (topic, priority, _NEVER)
            else:
                after = scheduled - 1
                values = (topic, priority, after, latest, SLICE)
                soon = transaction.read(statements.PENDING_FROM, values)
                until = soon[0][0] if soon else latest
                transaction.keep_due(topic, priority, after, until)
                return (topic, priority, until)
        return place

    def bound_rates(self, transaction: Transaction, after: int, now: int) -> int | None:
        """Let no rate close a topic for long because the clock was ahead: a slice, behind a topic's number.

        Returns the number behind which the next one begins, or ``None`` at the end.
        """
        rows = transaction.read(_TOPICS_BEHIND, (after, SLICE))
        for _, name in rows:
            transaction.bound_rate(transaction.topic(name), now)
        return rows[-1][0] if len(rows) == SLICE else None

    def bound_rates_of_lanes(self, transaction: Transaction, after: int, now: int) -> int | None:
        """The same for lanes."""
        return transaction.lanes.bound_rates(after, now, SLICE)

    def forget_early(self, transaction: Transaction, now: int) -> int:
        """Delete rows of ``early`` whose tasks are due by the clock again. Returns how many."""
        if not transaction.has_early:
            return 0
        rows = transaction.read(_EARLY_NO_MORE, (now, SLICE))
        transaction.forget_early(rows)
        return len(rows)

    # ---- the file ----------------------------------------------------------------------------------

    def probe(self, transaction: Transaction) -> None:
        """Write something that means nothing, to see whether writing works again."""
        transaction.touch()

    def free_pages(self, transaction: Transaction) -> tuple[int, int]:
        """How many pages of the file hold nothing, and how many there are."""
        ((free,),) = transaction.read("PRAGMA freelist_count")
        ((pages,),) = transaction.read("PRAGMA page_count")
        return free, pages

    def give_back(self, transaction: Transaction, pages: int) -> None:
        """Cut so many free pages off the file."""
        for _ in range(pages):
            # Python's module stops after the first page, whatever number is given.
            transaction.read("PRAGMA incremental_vacuum(1)")

    # ---- slices of what may concern very many tasks ------------------------------------------------

    def last(self, transaction: Transaction) -> int:
        """The last number that was given out: tasks that are inserted later get larger ones."""
        return transaction.last

    def delete_of_topic(self, transaction: Transaction, name: str, until: int) -> int:
        """Delete tasks of a topic with numbers up to ``until``."""
        places: list[Sequence[Any]] = []
        for state in range(4):
            places += transaction.read(_PLACES, (name, state, 0, until, SLICE - len(places)))
        return self._delete(transaction, places)

    def delete_any(self, transaction: Transaction, until: int) -> int:
        """Delete tasks of any topic with numbers up to ``until``."""
        return self._delete(transaction, transaction.read(_ANY_PLACES, (until, SLICE)))

    def purge(self, transaction: Transaction, before: int) -> int:
        """Delete completed tasks that were committed at or before a time."""
        return self._delete(transaction, transaction.read(_OLD, (before, SLICE)))

    def release_of_topic(
        self, transaction: Transaction, name: str, after: int, until: int
    ) -> tuple[int, int]:
        """Release active tasks with numbers after one and up to another. Also returns the last number."""
        for row in (rows := transaction.read(_TASKS, (name, ACTIVE, after, until, SLICE))):
            task = task_of(row)
            transaction.change(task, transitions.release())
            after = task.sequence
        return len(rows), after

    def recover(self, transaction: Transaction, topic: int, now: int) -> int:
        """Take back those claims in the topic of this number whose deadline has come."""
        rows = transaction.read(statements.LAPSED, (topic, now, SLICE))
        for task in map(task_of, rows):
            transaction.change(task, transitions.lapse(task, now, self._retry, self._random))
        return len(rows)

    def expire(self, transaction: Transaction, topic: int, now: int) -> int:
        """Archive pending tasks of the topic of this number that have expired."""
        rows = transaction.read(_EXPIRED, (topic, now, SLICE))
        for task in map(task_of, rows):
            transaction.change(task, transitions.expire(task, now))
        return len(rows)

    @staticmethod
    def _delete(transaction: Transaction, places: Sequence[Sequence[Any]]) -> int:
        for place in places:
            transaction.delete(*place)
        return len(places)
