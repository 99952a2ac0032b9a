"""Requests become complete records: defaults filled in, relative times made absolute, bounds checked.

``now`` is the time of the request in microseconds since the epoch: `ratus.api.dispatch` reads the clock once
for each. Everything wrong is a `BadRequest` that names the member, raised before anything is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from msgspec import Struct

from ratus.api import codec
from ratus.api.codec import Members
from ratus.api.cursors import lanes_list, read_cursor
from ratus.api.large import Turns, opened
from ratus.api.query import NO_QUERY, Query
from ratus.api.readers import (
    MemberReader,
    check_duration,
    check_label,
    check_name,
    filter_of,
    label_names,
    reader_of,
    readers,
    where_of,
)
from ratus.api.strict import OnlyThese, check_parameters, unknown_member
from ratus.api.walking import Work
from ratus.core.durations import format_duration
from ratus.core.errors import BadRequest
from ratus.core.limits import MAX_TOPICS
from ratus.core.members import (
    COMMIT,
    FILTERS,
    HOLD,
    PROMISE,
    SCHEDULE,
    TASK,
    TOPIC,
    Choice,
    Duration,
    wire_names,
)
from ratus.core.quoting import quoted
from ratus.core.records import (
    DEFAULT_TIMEOUT,
    MAX_PAGE_BYTES,
    PENDING,
    CommitRecord,
    TaskQuery,
    TaskRecord,
    written_bytes,
)
from ratus.core.selection import MAX_PREFERRED, ORDERS, Selection, Where
from ratus.core.times import MAX_TIME, MIN_TIME
from ratus.core.turns import Limits
from ratus.core.values import CHANGES_MEMBERS, VALUE_MEMBERS
from ratus.runtime.config import Settings

# Characters of a consumer's name; up to here the name adds no more to an answer than the tasks do.
_LONG_CONSUMER = 1000

# A consumer polls with the same body again and again, so what was read from bodies of up to `_SHORT_POLL`
# bytes is kept: a megabyte for `_KEPT_POLLS` of them.
_SHORT_POLL = 256
_KEPT_POLLS = 1024

# Items of a large batch that are read at a time: a millisecond or two.
_SLICE = 200

Given = TypeVar("Given")
Item = TypeVar("Item")


class Poll(Struct, frozen=True):
    """A request to claim: what is selected, or a task by its id.

    ``wait`` is microseconds. ``listed``: the answer is a list, even of one task.
    """

    selection: Selection
    task_id: str
    wait: int
    listed: bool


class LaneQuery(Struct, frozen=True):
    """Which lanes of a topic to list: a page by a label, after a position (`ratus.api.cursors`)."""

    label: str
    limit: int
    after: str | None


class TopicChange(Struct, frozen=True):
    """A change of a topic: new values of some of its settings, and whether all its holds end."""

    settings: dict[str, Any]
    lifts_holds: bool

    def __bool__(self) -> bool:
        return bool(self.settings) or self.lifts_holds


class Extension(Struct, frozen=True):
    """A claim's new deadline, in microseconds since the epoch. An empty nonce fits every claim."""

    nonce: str
    deadline: int


def _after(base: int, duration: int, name: str) -> int:
    time = base + duration
    if not MIN_TIME <= time <= MAX_TIME:
        raise BadRequest(f"{name}: {format_duration(duration)} from then is outside the years 0 to 9999")
    return time


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads requests within the limits of the settings."""

    settings: Settings
    _turns: Turns = field(default_factory=Turns)
    _polls: dict[bytes, tuple[Poll, Members]] = field(default_factory=dict)

    async def opened(self, operation: str, body: bytes) -> bytes:
        """A large body, checked and taken apart in slices; the other methods take it like any other body."""
        wanted = _WANTED.get(operation, frozenset())
        most = self.settings.max_batch_size if operation in _BATCHES else None
        return await self._turns.take(opened(body, wanted, most))

    # ---- tasks -------------------------------------------------------------------------------------

    def task(self, body: bytes, topic: str, task_id: str, now: int) -> TaskRecord:
        """The task in a body; the body's topic beats the path's, an id given twice must be the same."""
        members = codec.read_object(body)
        if members is None:
            if not body.strip():
                raise BadRequest("missing request body")
            members = {}
        return self._task(members, topic, task_id, now)

    async def tasks(self, body: bytes, topic: str, now: int) -> list[TaskRecord]:
        """The tasks in the ``data`` of a body."""
        return await self._each(body, lambda members: self._task(members, topic, "", now))

    async def _each(self, body: bytes, read: Callable[[Members], Item]) -> list[Item]:
        """The items in the ``data`` of a body, each read by ``read``."""
        if isinstance(body, codec.Opened):
            return await self._turns.take(self._slices(body.items, read))
        if not body.strip():
            raise BadRequest("missing request body")
        return self._all(codec.read_items(body, self.settings.max_batch_size), read)

    def _slices(self, items: Sequence[Given], read: Callable[[Given], Item]) -> Work[list[Item]]:
        """Each item read, `_SLICE` of them at a time."""
        done: list[Item] = []
        for start in range(0, len(items), _SLICE):
            done += self._all(items[start : start + _SLICE], read, start)
            yield
        return done

    def _all(self, items: Iterable[Given], read: Callable[[Given], Item], first: int = 0) -> list[Item]:
        """Each item read; an error names the item by its index, which is ``first`` for the first."""
        done: list[Item] = []
        try:
            for item in items:
                done.append(read(item))  # noqa: PERF401  # an error needs to know how far we came
        except BadRequest as error:
            raise BadRequest(f"data: item {first + len(done)}: {error.detail}") from None
        return done

    def _task(self, members: Members, topic: str, task_id: str, now: int) -> TaskRecord:
        given = codec.text_of(members, "_id")
        if given and task_id and given != task_id:
            raise BadRequest("task ID is inconsistent with the path parameter")
        task_id = check_name(given or task_id, "task ID")
        topic = check_name(codec.text_of(members, "topic") or topic, "topic")
        scheduled = _scheduled(members, now)
        record = TaskRecord(task_id, topic, now, now if scheduled is None else scheduled)
        _fill(record, members, _TASK_READERS)
        if record.expires is None and "ttl" in members:
            ttl = _ttl_of(members, "ttl")
            if ttl is not None:
                record.expires = _after(now, ttl, "ttl")
        if record.expires is not None and record.expires <= now and record.state == PENDING:
            raise BadRequest("expires: the task has expired already; give a time after now, or none")
        return record

    # ---- commits -----------------------------------------------------------------------------------

    def commit(self, body: bytes, task_id: str, now: int) -> CommitRecord:
        """The commit in a body. An empty body completes the task, whatever the nonce of its claim is."""
        nonce = codec.read_nonce(body)
        if nonce is not None:
            return CommitRecord(task_id, nonce)
        members = codec.read_object(body) or {}
        given = codec.text_of(members, "_id")
        if given and given != task_id:
            raise BadRequest("task ID is inconsistent with the path parameter")
        return _commit(members, task_id, now)

    async def commits(self, body: bytes, now: int) -> list[CommitRecord]:
        """The commits in the ``data`` of a body."""
        fenced = codec.read_fenced(body, self.settings.max_batch_size)
        if fenced is not None:
            return self._all(fenced, lambda item: CommitRecord(check_name(item.id, "task ID"), item.nonce))

        def read(members: Members) -> CommitRecord:
            return _commit(members, check_name(codec.text_of(members, "_id") or "", "task ID"), now)

        return await self._each(body, read)

    # ---- promises ----------------------------------------------------------------------------------

    def poll(self, body: bytes, query: Query, topic: str | None, task_id: str, now: int) -> Poll:
        """What a consumer asks for, in the body or the query; the query wins.

        ``topic`` is the path's; ``None`` where the topics are in the body.
        """
        if query is NO_QUERY and len(body) <= _SHORT_POLL:
            found = self._polls.get(body)
            if found is None:
                found = self._poll(body, query)
                if len(self._polls) >= _KEPT_POLLS:
                    self._polls.clear()
                self._polls[body] = found
        else:
            found = self._poll(body, query)
        poll, members = found
        if task_id and poll.task_id and poll.task_id != task_id:
            raise BadRequest("promise ID is inconsistent with the path parameter")
        selection = poll.selection
        if selection.deadline is None:
            _after(now, selection.timeout, "timeout")
        elif selection.deadline <= now:
            raise BadRequest("deadline: it must be after now")
        return Poll(
            selection.among((topic,) if topic is not None else _topics(members)),
            task_id or poll.task_id,
            poll.wait,
            poll.listed,
        )

    def _poll(self, body: bytes, query: Query) -> tuple[Poll, Members]:
        """A poll without its topics: what depends on the body and the query alone, not on path and time.

        The topics are in the path, or in the body's members, which are returned as well.
        """
        members = codec.read_object(body) or {}
        given = query.text("_id") or codec.text_of(members, "_id") or ""
        deadline, timeout = self._deadline(members, query)
        consumer = query.text("consumer")
        if consumer is None:
            consumer = codec.text_of(members, "consumer") or ""
        wait, limit = self.wait(query, members), self._limit(members, query, consumer)
        order, where, prefer = self._choice(members, query)
        selection = Selection((), deadline, consumer, limit or 1, timeout, order, where, prefer)
        return Poll(selection, given, wait, limit is not None), members

    def _choice(self, members: Members, query: Query) -> tuple[str, Where | None, tuple[str, ...]]:
        """Which tasks a poll chooses: ``order``, ``where`` and ``prefer``."""
        order, where, prefer = (read(members, name) for name, read in _CHOICE_READERS)
        if query:
            order = _order_filter(query, "order") or order
            if wanted := query.beginning("where."):
                where = where_of(wanted, "where")
            if names := query.text("prefer"):
                prefer = label_names(names.split(","), MAX_PREFERRED, "prefer")
        if where is not None and prefer and prefer != (where.label,):
            raise BadRequest(
                f"prefer: together with where it may only name the same label, {quoted(where.label)}; "
                "leave one of the two out"
            )
        return order or "due", where, prefer or ()

    def extension(self, body: bytes, query: Query, task_id: str, now: int) -> Extension:
        """A claim's new deadline, by default ten minutes from now."""
        members = codec.read_object(body) or {}
        given = query.text("_id") or codec.text_of(members, "_id")
        if given and given != task_id:
            raise BadRequest("promise ID is inconsistent with the path parameter")
        deadline, timeout = self._deadline(members, query)
        if deadline is None:
            deadline = _after(now, timeout, "timeout")
        elif deadline <= now:
            raise BadRequest("deadline: it must be after now")
        return Extension(query.text("nonce") or codec.text_of(members, "nonce") or "", deadline)

    def _deadline(self, members: Members, query: Query) -> tuple[int | None, int]:
        """The deadline if one is given (the timeout is not read then), and the timeout."""
        text = query.text("deadline")
        deadline = codec.time_of(members, "deadline") if text is None else codec.time_from(text, "deadline")
        if deadline is not None:
            return deadline, DEFAULT_TIMEOUT
        text = query.text("timeout")
        timeout = (
            codec.duration_of(members, "timeout") if text is None else codec.duration_from(text, "timeout")
        )
        if timeout is None:
            return None, DEFAULT_TIMEOUT
        if timeout <= 0:
            raise BadRequest("timeout: it must be longer than 0s")
        return None, timeout

    def wait(self, query: Query, members: Members | None = None) -> int:
        """How long to wait for an answer, in microseconds; 0: not at all."""
        text = query.text("wait")
        wait = codec.duration_from(text, "wait") if text is not None else None
        if wait is None:
            wait = codec.duration_of(members, "wait") if members else None
        if wait is None:
            return 0
        longest = self.settings.promise_max_wait
        if not 0 <= wait <= longest:
            raise BadRequest(f"wait: it must be from 0s to {format_duration(longest)}")
        return wait

    def _limit(self, members: Members, query: Query, consumer: str) -> int | None:
        """How many tasks to claim, ``None`` if that is not given. A consumer with a long name gets fewer,
        since each of them will hold the name."""
        limit = query.integer("limit")
        if limit is None:
            limit = codec.integer_of(members, "limit")
        highest = self.settings.promise_max_limit
        if limit is not None and not 1 <= limit <= highest:
            raise BadRequest(f"limit: it must be from 1 to {highest}")
        if limit is not None and len(consumer) > _LONG_CONSUMER:
            limit = min(limit, max(1, MAX_PAGE_BYTES // written_bytes(consumer)))
        return limit

    # ---- lists and topics --------------------------------------------------------------------------

    def page(self, query: Query) -> tuple[int, int]:
        """Limit and offset of a list."""
        settings = self.settings
        limit = query.integer("limit") or min(10, settings.pagination_max_limit)
        offset = query.integer("offset") or 0
        if limit < 0:
            raise BadRequest("limit must not be negative")
        if offset < 0:
            raise BadRequest("offset must not be negative")
        if limit > settings.pagination_max_limit:
            raise BadRequest(f"exceeded maximum allowed limit of {settings.pagination_max_limit}")
        if offset > settings.pagination_max_offset:
            raise BadRequest(f"exceeded maximum allowed offset of {settings.pagination_max_offset}")
        return limit, offset

    def task_query(self, query: Query, topic: str) -> TaskQuery:
        """Which tasks to list. If ``after`` is given, even empty, the list is paged by cursor."""
        limit, offset = self.page(query)
        if not query:
            return TaskQuery(topic, limit)
        cursor = query.text("after")
        if offset and "after" in query:
            raise BadRequest("give after or offset, not both")
        filters = {name: read(query, name) for name, read in _FILTER_READERS}
        labels = tuple(
            (check_label(name, f"label.{name}"), value)
            for name, values in query.beginning("label.").items()
            for value in values
        )
        after = None if cursor is None else read_cursor(cursor, topic)
        return TaskQuery(topic, limit, offset, after, labels=labels, **filters)

    def lane_query(self, query: Query, topic: str, label: str | None) -> LaneQuery:
        """Which lanes of a topic to list; ``label`` is that of its limits ``per`` label, if it has any."""
        check_parameters(query, _LANE_PARAMETERS)
        limit, _ = self.page(query)
        given = query.text("label") or label
        if given is None:
            raise BadRequest("label: name one, as in ?label=customer; the topic has no limits per label")
        check_label(given, "label")
        cursor = query.text("after")
        after = None if cursor is None else read_cursor(cursor, lanes_list(topic, given))
        return LaneQuery(given, limit, after)

    def settings_of_topic(self, body: bytes, topic: str) -> TopicChange:
        """The settings of a topic that a body changes. Raises `BadRequest` for a member that is none."""
        if isinstance(body, codec.Opened):  # its unknown members were passed over
            raise BadRequest(f"the settings of a topic take less than these {len(body)} bytes")
        members = codec.read_object(body) or {}
        settings: dict[str, Any] = {}
        for name in members:
            if name == "hold":
                if codec.raw_of(members, name) is not None:
                    raise BadRequest(
                        "hold: it can only be null, which ends all holds; commits and releases make them"
                    )
            elif name in _SETTING_READERS:
                read, member = _SETTING_READERS[name]
                settings[member] = read(members, name)
            else:
                raise unknown_member(name, (*_SETTING_READERS, "hold"))
        if settings.get("paused", True) is None:
            del settings["paused"]
        if settings.get("limits") == Limits():
            settings["limits"] = None
        change = TopicChange(settings, "hold" in members)
        if change:
            check_name(topic, "topic")
        return change

    def release(self, query: Query) -> tuple[str | None, int | None]:
        """The nonce under which a claim is released, and how long its lane is held, in microseconds."""
        nonce, text = query.text("nonce"), query.text("hold")
        if text is None:
            return nonce, None
        hold = codec.duration_from(text, "hold")
        check_duration(HOLD, hold, "hold")
        _check_held(nonce)
        return nonce, hold


# ---- readers of a member --------------------------------------------------------------------------


def _fill(record: Struct, members: Members, readers: Mapping[str, tuple[MemberReader, str]]) -> None:
    """Read the members that are there into a record. Those without a reader are ignored."""
    for name in members:
        found = readers.get(name)
        if found is not None:
            read, member = found
            value = read(members, name)
            if value is not None:
                setattr(record, member, value)


def _commit(members: Members, task_id: str, now: int) -> CommitRecord:
    record = CommitRecord(task_id)
    _fill(record, members, _COMMIT_READERS)
    if "scheduled" in members or "defer" in members:
        record.scheduled = _scheduled(members, now)
    if record.hold is not None:
        _check_held(record.nonce)
    return record


def _check_held(nonce: str | None) -> None:
    """Raise `BadRequest` for a hold without the nonce of a claim: only who holds a claim may make one."""
    if not nonce:
        raise BadRequest("hold: only together with the nonce of the claim; give it, or leave the hold out")


def _scheduled(members: Members, now: int) -> int | None:
    """The time in ``scheduled``, or else ``defer`` from now. ``defer`` is not read if the first is given."""
    scheduled = codec.time_of(members, "scheduled") if "scheduled" in members else None
    if scheduled is None and "defer" in members:
        defer = codec.duration_of(members, "defer")
        if defer is not None:
            scheduled = _after(now, defer, "defer")
    return scheduled


def _topics(members: Members) -> tuple[str, ...]:
    topics = codec.texts_of(members, "topics")
    if not topics:
        raise BadRequest('topics: name one or more, such as {"topics": ["urgent", "bulk"]}')
    if len(topics) > MAX_TOPICS:
        raise BadRequest(f"topics: at most {MAX_TOPICS}, not {len(topics)}")
    for topic in topics:
        check_name(topic, "topic")
    return tuple(dict.fromkeys(topics))


# Members that are not read by `_fill`: ids and topics may come from the path, and times may be relative.
_APART = frozenset({"id", "topic", "scheduled", "defer", "ttl"})
_TASK_READERS = readers(TASK, without=_APART)
_COMMIT_READERS = readers(COMMIT, without=_APART - {"topic"})
_CHOICE_READERS = [
    (member.wire, reader_of(member.type)) for member in PROMISE if member.name in ("order", "where", "prefer")
]
_order_filter = filter_of(Choice(values=ORDERS))
_SETTING_READERS = readers(TOPIC)
_LANE_PARAMETERS = ("label", "after", "limit")
_FILTER_READERS = [(member.name, filter_of(member.type)) for member in FILTERS]

_ttl_of = reader_of(Duration(least=1))

TASK_MEMBERS = wire_names(TASK)
COMMIT_MEMBERS = wire_names(COMMIT)
PROMISE_MEMBERS = wire_names(PROMISE)

# The members that each operation reads of a large body. A batch has them in each object in its ``data``.
_BATCHES = frozenset({"insert_tasks", "upsert_tasks", "patch_tasks"})
_WANTED = {
    **dict.fromkeys(("insert_tasks", "upsert_tasks", "insert_task", "upsert_task"), TASK_MEMBERS),
    **dict.fromkeys(("patch_tasks", "patch_task"), COMMIT_MEMBERS),
    **dict.fromkeys(
        ("poll", "poll_topics", "insert_promise", "upsert_promise", "extend_promise"), PROMISE_MEMBERS
    ),
    "patch_topic": wire_names(TOPIC),
    "set_value": OnlyThese(VALUE_MEMBERS),
    "wait_for_values": OnlyThese(CHANGES_MEMBERS),
    **dict.fromkeys(("put_schedule", "patch_schedule", "preview_schedule"), OnlyThese(wire_names(SCHEDULE))),
}
