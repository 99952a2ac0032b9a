"""What a claim takes next where it chooses: by an order, ``where``, or turns (`ratus.core.turns`).

A *line* is pending tasks in the order of claiming, with an index that leads to its head: those of a topic, of
a value of a label, of a lane. However many tasks and lanes there are, the next task is found by a few looks
into such indexes, each time anew: a claim changes whose turn it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from heapq import merge
from typing import Any, Protocol

from msgspec import Struct

from ratus.core import turns
from ratus.core.labels import Pair
from ratus.core.records import TaskRecord
from ratus.core.selection import Selection, Where
from ratus.core.turns import FIRST_TASKS, WHERE_TASKS, Closing, PerLabel, Reason
from ratus.engine import CLAIM_CHORES
from ratus_engines.sqlite import lanes, statements
from ratus_engines.sqlite.lanes import Lane, Value, value_of
from ratus_engines.sqlite.rows import task_of
from ratus_engines.sqlite.transaction import Topic, Transaction

# Lanes that have to be looked at again, of which a claim looks at so many before it takes the next task.
WOKEN = 100

# Above any priority.
_HIGHEST = 1 << 62

Random = Callable[[], float]

Place = tuple[int, int]
"""``scheduled`` and number of a task: its place in line within a priority."""


class LineStatements(Struct, frozen=True):
    """How the lines in a table are read. Parameters are those of the line (``of``), then those named.

    ``level``: the highest priority below one. ``due``, ``newest``: the first due tasks of a priority by a
    time, up to a limit, in order. ``early``, ``newest_early``: the same of tasks kept due whatever the clock
    says. ``first_from``: the first task of a priority scheduled from a time on, and not after another;
    ``number_from``: the first number, from one on, of the tasks of a priority with the same ``scheduled``;
    ``last_number``: the last of these.
    """

    level: str
    due: str
    newest: str
    early: str
    newest_early: str
    first_from: str
    number_from: str
    last_number: str


def _line_statements(table: str, of: str, early_table: str = "") -> LineStatements:
    if early_table:
        level = f"FROM {table} WHERE {of} AND priority = ?"
        # Those that are due by the clock again are found like all others.
        of_early = f"FROM {early_table} WHERE topic = ? AND priority = ? AND scheduled > ?"
    else:
        level = f"FROM {table} WHERE {of} AND priority = ? AND early = 0"
        of_early = f"FROM {table} WHERE {of} AND priority = ? AND early = 1 AND ? IS NOT NULL"
    early = f"SELECT scheduled, sequence {of_early}"
    return LineStatements(
        level=f"SELECT priority FROM {table} WHERE {of} AND priority < ? ORDER BY priority DESC LIMIT 1",
        due=f"SELECT scheduled, sequence {level} AND scheduled <= ? ORDER BY scheduled, sequence LIMIT ?",
        newest=f"SELECT scheduled, sequence {level} AND scheduled <= ? "
        "ORDER BY scheduled DESC, sequence DESC LIMIT ?",
        early=f"{early} ORDER BY scheduled, sequence LIMIT ?",
        newest_early=f"{early} ORDER BY scheduled DESC, sequence DESC LIMIT ?",
        first_from=f"SELECT scheduled {level} AND scheduled >= ? AND scheduled <= ? "
        "ORDER BY scheduled LIMIT 1",
        number_from=f"SELECT sequence {level} AND scheduled = ? AND sequence >= ? ORDER BY sequence LIMIT 1",
        last_number=f"SELECT sequence {level} AND scheduled = ? ORDER BY sequence DESC LIMIT 1",
    )


_OF_LABEL = "topic = ? AND name = ? AND value = ?"

OF_TOPIC = _line_statements("tasks INDEXED BY tasks_pending", "state = 0 AND topic = ?", "early")
OF_VALUE = _line_statements("waiting", _OF_LABEL)
OF_OTHERS = _line_statements("waiting INDEXED BY waiting_other", f"NOT first AND {_OF_LABEL}")
OF_LANE = _line_statements("lines", "lane = ?")

_BY_NUMBER = statements.tasks("tasks.sequence = ?")
_EXPIRY = "SELECT expires FROM tasks WHERE sequence = ?"


class Reads(Protocol):
    """Reads rows: a `Transaction`, or a connection that cannot write."""

    def read(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        """All rows of a statement."""
        ...

    @property
    def has_early(self) -> bool:
        """Whether there are tasks that are due whatever the clock says."""
        ...


class Line:
    """A line, read within a transaction. ``of`` are the parameters of its statements."""

    def __init__(self, transaction: Reads, found_by: LineStatements, of: Sequence[Any]) -> None:
        self._transaction = transaction
        self._by = found_by
        self._of = tuple(of)

    def first_priority(self, now: int, below: int = _HIGHEST) -> int | None:
        """The highest priority below one of which a task is due; ``None``: of none."""
        level: int = below
        while rows := self._transaction.read(self._by.level, (*self._of, level)):
            ((level,),) = rows
            if self.first(level, "due", now, 1):
                return level
        return None

    def first(
        self, priority: int, order: str, now: int, count: int, random: Random | None = None
    ) -> list[Place]:
        """The first due tasks of a priority in an order, up to so many."""
        if order == "random" and random is not None:
            return self._any(priority, now, random)
        newest = order == "newest"
        values = (*self._of, priority, now, count)
        found = self._transaction.read(self._by.newest if newest else self._by.due, values)
        if not self._transaction.has_early:
            return found
        kept = self._transaction.read(self._by.newest_early if newest else self._by.early, values)
        return _merged([found, kept], newest=newest)[:count]

    def _any(self, priority: int, now: int, random: Random) -> list[Place]:
        """Any due task of a priority: one at a random place between the first and the last."""
        read = self._transaction.read
        if self._transaction.has_early:
            kept = read(self._by.early, (*self._of, priority, now, CLAIM_CHORES))
            if kept and (random() < 0.5 or not read(self._by.due, (*self._of, priority, now, 1))):
                return [kept[_between(0, len(kept) - 1, random)]]
        first = read(self._by.due, (*self._of, priority, now, 1))
        if not first:
            return []
        ((last, _),) = read(self._by.newest, (*self._of, priority, now, 1))
        start = _between(first[0][0], last, random)
        ((scheduled,),) = read(self._by.first_from, (*self._of, priority, start, last))
        same = (*self._of, priority, scheduled)
        ((low,),) = read(self._by.number_from, (*same, 0))
        ((high,),) = read(self._by.last_number, same)
        ((sequence,),) = read(self._by.number_from, (*same, _between(low, high, random)))
        return [(scheduled, sequence)]


def _between(low: int, high: int, random: Random) -> int:
    return min(high, low + int(random() * (high - low + 1)))


class Lines:
    """Several lines as one; a task may stand in more than one of them."""

    def __init__(self, lines: Sequence[Line]) -> None:
        self._lines = lines

    def first(
        self, order: str, now: int, count: int, random: Random | None = None, below: int = _HIGHEST
    ) -> tuple[int, list[Place]]:
        """The highest priority (below one) of a due task, and its first tasks in an order, up to so many."""
        levels = [
            (line, level) for line in self._lines if (level := line.first_priority(now, below)) is not None
        ]
        if not levels:
            return 0, []
        priority = max(level for _, level in levels)
        lines = [line for line, level in levels if level == priority]
        if order == "random" and random is not None:
            return priority, lines[_between(0, len(lines) - 1, random)].first(
                priority, order, now, count, random
            )
        parts = [line.first(priority, order, now, count) for line in lines]
        found = parts[0] if len(parts) == 1 else _merged(parts, newest=order == "newest")
        return priority, found[:count]

    def in_line(self, now: int, count: int) -> list[tuple[int, list[Place]]]:
        """The first due tasks of any priority: priorities with their tasks, ``count`` tasks together."""
        found: list[tuple[int, list[Place]]] = []
        below = _HIGHEST
        while count:
            below, places = self.first("due", now, count, below=below)
            if not places:
                break
            found.append((below, places))
            count -= len(places)
        return found


def _merged(parts: Iterable[list[Place]], *, newest: bool) -> list[Place]:
    return list(dict.fromkeys(merge(*parts, reverse=newest)))


class Choice:
    """What a selection takes of a topic, task by task. The caller changes each task before the next `take`.

    ``refusal``: after `take` found nothing, why a limit of the lanes closes what is due; ``None``: nothing
    is due, or no limit closes it. ``again``: `take` gave up after `CLAIM_CHORES` lanes; make another claim.
    """

    def __init__(self, transaction: Transaction, topic: Topic, selection: Selection, random: Random) -> None:
        self._transaction = transaction
        self._lanes = transaction.lanes
        self._topic = topic
        self._order = selection.order
        self._where = selection.where
        self._random = random
        self._per = per = None if topic.limits is None else topic.limits.per
        self._names: list[str] = []
        self._is_building = False
        for name in turns.names_in_turn(per, selection.prefer):
            if not self._lanes.use(topic, name).built:
                # Until a label is built tasks go in line, but a limit has to be kept: nothing goes then.
                self._is_building = per is not None and per.label == name
                break
            self._names.append(name)
        self._in_line = Lines(
            [Line(transaction, OF_TOPIC, (topic.number,))]
            if self._where is None
            else self._of_values(OF_VALUE, self._where)
        )
        self._woken = 0
        self._expired_head: list[Place] = []
        self._pairs: dict[int, Sequence[Pair]] = {}
        self.refusal: Closing | None = None
        self.again = False

    def take(self, now: int) -> TaskRecord | None:
        """The next task, which may have expired; ``None``: there is none."""
        self.refusal = None
        if self._is_building:
            self.refusal = Closing(Reason.BUILDING) if self.is_due(now) else None
            return None
        if not self._names:
            _, places = self._in_line.first(self._order, now, 1, self._random)
        elif self._where is None:
            places = self._next_turn(now)
        elif self._where.label == self._names[0]:
            places = self._next_turn_of_values(self._where, now)
        else:
            places = self._next_turn_in_line(now)
        if not places:
            return None
        at = _between(0, len(places) - 1, self._random) if self._order == "random" else 0
        return self._load(places[at][1])

    def is_due(self, now: int) -> bool:
        """Whether a task that matches is due, and has not expired."""
        below = _HIGHEST
        while True:
            level, places = self._in_line.first("due", now, 1, below=below)
            if not places:
                return False
            if self._is_alive(places[0][1], now):
                return True
            _, places = self._in_line.first("due", now, CLAIM_CHORES, below=below)
            if any(self._is_alive(sequence, now) for _, sequence in places):
                return True
            below = level

    def _is_alive(self, sequence: int, now: int) -> bool:
        ((expires,),) = self._transaction.read(_EXPIRY, (sequence,))
        return expires is None or expires > now

    def _load(self, sequence: int) -> TaskRecord:
        (row,) = self._transaction.read(_BY_NUMBER, (sequence,))
        return task_of(row)

    def _of_values(self, found_by: LineStatements, where: Where) -> list[Line]:
        return [
            Line(self._transaction, found_by, (self._topic.number, where.label, value))
            for value in dict.fromkeys(where.values)
        ]

    # ---- turns of all lanes ----------------------------------------------------------------------

    def _next_turn(self, now: int) -> list[Place]:
        label = self._lanes.in_use(self._topic)[self._names[0]]
        while True:
            self._lanes.settle(now)
            woken = self._lanes.wake(self._topic, label, now, WOKEN)
            self._woken += woken
            rows = self._transaction.read(lanes.READY, (label.number,))
            if rows:
                lane = self._lanes.of_row(self._topic, label, rows[0])
                if places := self._of_lane(lane, now):
                    return places
                # The lane was looked at by a later time than that of this claim.
                self._lanes.look_again(lane)
            elif woken < WOKEN:
                return self._refuse(label.number, now)
            if self._woken > CLAIM_CHORES:
                self.again = True
                return []

    def _of_lane(self, lane: Lane, now: int) -> list[Place]:
        """The task of a lane whose turn it is, as the first of a list."""
        priority = lane.priority
        assert priority is not None, "the lane is ready"
        if lane.is_ordered:
            return self._head(lane, now)
        line = Line(self._transaction, OF_LANE, (lane.number,))
        if len(self._names) == 1:
            return line.first(priority, self._order, now, 1, self._random)
        return self._narrow(line.first(priority, self._order, now, FIRST_TASKS), 1)

    def _head(self, lane: Lane, now: int) -> list[Place]:
        """The head of an ordered lane, if it is due or has expired."""
        ((sequence, _, early, scheduled, expires),) = self._transaction.read(
            lanes.FIRST_CREATED, (lane.number,)
        )
        if early or scheduled <= now or (expires is not None and expires <= now):
            return [(scheduled, sequence)]
        return []

    def _narrow(self, places: list[Place], first: int) -> list[Place]:
        """Those of a value of each further name, the value whose turn it is."""
        for name in self._names[first:]:
            if len(places) > 1:
                places = turns.next_turn(places[:FIRST_TASKS], self._value(name), self._standing(name))
        return places

    def _value(self, name: str) -> Callable[[Place], Value]:
        return lambda place: value_of(self._pairs_of(place[1]), name)

    def _pairs_of(self, sequence: int) -> Sequence[Pair]:
        """The labels of a task, read once: the first tasks in line are nearly the same at each `take`."""
        pairs = self._pairs.get(sequence)
        if pairs is None:
            pairs = self._pairs[sequence] = self._lanes.pairs(self._topic, sequence)
        return pairs

    def _standing(self, name: str) -> Callable[[Any], tuple[int, int]]:
        label = self._lanes.in_use(self._topic)[name]

        def standing(value: Any) -> tuple[int, int]:
            lane = self._lanes.lane(self._topic, label, value)
            assert lane is not None, "a pending task stands in a lane of each label that is built"
            return lane.active, lane.served

        return standing

    def _refuse(self, label: int, now: int) -> list[Place]:
        """Set `refusal` where no lane is ready. Gives an expired task where that is what is due."""
        per = self._per
        if per is None:
            return []
        rows = self._transaction.read(lanes.SHUT, (label,))
        if not rows:
            self.refusal = _full(per) if self.is_due(now) else None
            return []
        lane = self._lanes.of_row(self._topic, self._lanes.in_use(self._topic)[per.label], rows[0])
        self.refusal = lane.closing(now)
        return self._expired(lane, now)

    def _expired(self, lane: Lane, now: int) -> list[Place]:
        """The due task of a closed lane that would come next, if it has expired."""
        if lane.is_ordered:
            places = self._head(lane, now)
        else:
            _, places = Lines([Line(self._transaction, OF_LANE, (lane.number,))]).first("due", now, 1)
        return [place for place in places if not self._is_alive(place[1], now)]

    # ---- turns of the lanes of some values -------------------------------------------------------

    def _next_turn_of_values(self, where: Where, now: int) -> list[Place]:
        """Turns of the lanes of the values that are wanted, and of others with a task that has one, too."""
        label = self._lanes.in_use(self._topic)[where.label]
        ready: list[tuple[int, Lane]] = []
        closed: list[Closing | None] = []
        for value in dict.fromkeys(where.values):
            lane = self._lanes.lane(self._topic, label, value)
            if lane is None:
                continue
            self._lanes.look_at(lane, now)
            if lane.priority is not None:
                ready.append((lane.priority, lane))
            elif lane.shut:
                if expired := self._expired(lane, now):
                    return expired
                closed.append(lane.closing(now))
        others = self._in_lanes(Lines(self._of_values(OF_OTHERS, where)), now, where.values)
        if self._expired_head:
            return [self._expired_head.pop()]
        ready += [(priority, lane) for lane, priority, _, closing in others if closing is None]
        closed += [closing for _, _, _, closing in others]
        if not ready:
            self.refusal = self._first_to_reopen(closed, now)
            return []
        _, lane = min(ready, key=lambda found: (-found[0], found[1].active, found[1].served))
        if lane.value in where.values:
            return self._of_lane(lane, now)
        return self._narrow(self._sorted(next(found for of, _, found, _ in others if of is lane)), 1)

    def _next_turn_in_line(self, now: int) -> list[Place]:
        """Turns among the first tasks in line that match."""
        found = self._in_lanes(self._in_line, now, ())
        if self._expired_head:
            return [self._expired_head.pop()]
        ready = [(priority, lane, places) for lane, priority, places, closing in found if closing is None]
        if not ready:
            self.refusal = self._first_to_reopen([closing for _, _, _, closing in found], now)
            return []
        _, _, places = min(ready, key=lambda found: (-found[0], found[1].active, found[1].served))
        return self._narrow(self._sorted(places), 1)

    def _in_lanes(
        self, lines: Lines, now: int, without: Sequence[str]
    ) -> list[tuple[Lane, int, list[Place], Closing | None]]:
        """The first tasks of these lines by their lanes, but for lanes of some values.

        Of each lane, the highest priority of a task, the tasks of that priority, and why the lane is closed.
        In an ordered lane, only its head counts, and what is behind it is closed. A head that has expired is
        put into ``_expired_head``, to be archived first.
        """
        label = self._lanes.in_use(self._topic)[self._names[0]]
        value = self._value(label.name)
        heads: dict[int, list[Place]] = {}
        found: dict[tuple[int, bool], tuple[Lane, int, list[Place], Closing | None]] = {}
        for priority, places in lines.in_line(now, WHERE_TASKS):
            for place in places:
                of = value(place)
                if of in without:
                    continue
                lane = self._lanes.lane(self._topic, label, of)
                assert lane is not None, "a pending task stands in a lane of each label that is built"
                closing = lane.closing(now)
                if lane.is_ordered and (closing is None or closing.reopens is not None):
                    if lane.number not in heads:
                        heads[lane.number] = self._head(lane, now)
                        for head in heads[lane.number]:
                            if not self._is_alive(head[1], now):
                                self._expired_head.append(head)
                    if not heads[lane.number]:
                        closing = Closing(Reason.ORDERED)
                    elif place not in heads[lane.number]:
                        closing = closing or Closing(Reason.ORDERED)
                if closing is not None and not self._is_alive(place[1], now):
                    continue
                key = (lane.number, closing is None)
                if key not in found:
                    found[key] = (lane, priority, [], closing)
                if found[key][1] == priority:
                    found[key][2].append(place)
        return list(found.values())

    def _sorted(self, places: list[Place]) -> list[Place]:
        return sorted(places, reverse=True) if self._order == "newest" else places

    def _first_to_reopen(self, closings: Iterable[Closing | None], now: int) -> Closing | None:
        """Why what is due is closed: by that which reopens first, if that is known of one."""
        per = self._per
        found = [closing for closing in closings if closing is not None]
        timed = [closing for closing in found if turns.retry_at(closing) is not None]
        if timed:
            return min(timed, key=lambda closing: closing.reopens or 0)
        if found:
            return found[0]
        return _full(per) if per is not None and self.is_due(now) else None


def _full(per: PerLabel) -> Closing:
    return Closing(Reason.ORDERED if per.ordered else Reason.CONCURRENCY)


def chooses(selection: Selection) -> bool:
    """Whether a selection takes other tasks than the first in line."""
    return selection.order != "due" or selection.where is not None or bool(selection.prefer)
