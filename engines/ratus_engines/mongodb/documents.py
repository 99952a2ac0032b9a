"""Tasks as documents: the fields and types of a Ratus in Go, and ours beside them.

| field | whose | type |
| --- | --- | --- |
| `_id`, `topic`, `nonce` | Go's | string |
| `state` | Go's | int |
| `producer`, `consumer` | Go's | string, absent when empty |
| `produced`, `scheduled`, `consumed`, `deadline` | Go's | date |
| `payload` | Go's | any |
| `priority`, `sequence` | ours | int; always stored |
| `attempts` | ours | int, absent before the first claim |
| `committed`, `expires`, `retry`, `error`, `result`, `outcome`, `implied` | ours | absent at their default |
| `waits` | ours | bool, only where the clock was set back (see `ratus_engines.mongodb.due`) |

A document without a field means the default, so whatever a Go Ratus writes is a task. Dates hold
milliseconds: times are cut to them, never rounded up, so that what is due stays due.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import bson
import msgspec
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.datetime_ms import DatetimeMS
from bson.raw_bson import RawBSONDocument

from ratus.core import transitions
from ratus.core.errors import BadRequest, PayloadTooLarge
from ratus.core.quoting import quoted
from ratus.core.records import RetryPolicy, TaskRecord
from ratus.core.times import MAX_TIME, MIN_TIME
from ratus.core.transitions import BACKOFFS, Change
from ratus_engines.mongodb.payloads import MOST_ADDED, decoded, to_bson, to_json
from ratus_engines.mongodb.raw import RawDocument

Document = dict[str, Any]

# Payloads are needed as they are stored, and the driver's own dates end with the year 9999 and begin with 1.
RAW: CodecOptions[RawBSONDocument] = CodecOptions(
    document_class=RawDocument,
    datetime_conversion=DatetimeConversion.DATETIME_MS,
    unicode_decode_error_handler="replace",
)

# MongoDB stores 16 MiB. A task grows after it was inserted: a nonce, a consumer, an error, times.
MAX_DOCUMENT = 16 * 1024 * 1024 - 64 * 1024

# Members that are absent when they hold nothing; a filter for nothing has to find both.
_ABSENT_WHEN_EMPTY = frozenset({"producer", "consumer", "error", "outcome", "implied", "attempts", "nonce"})

_TIMES = frozenset({"produced", "scheduled", "consumed", "deadline", "committed", "expires"})
_VALUES = frozenset({"payload", "result"})

# What deciding about a task needs, and what listeners are told; payloads can be megabytes.
WITHOUT_VALUES = {"payload": 0, "result": 0}


def date(time: int) -> DatetimeMS:
    """A time as a date, cut to the millisecond."""
    return DatetimeMS(time // 1_000)


# ---- tasks ---------------------------------------------------------------------------------------


def document(task: TaskRecord) -> Document:
    """A task as it is stored. Raises `BadRequest` for a payload that cannot be."""
    found: Document = {"_id": task.id, "topic": task.topic, "state": task.state, "nonce": task.nonce}
    if task.producer:
        found["producer"] = task.producer
    if task.consumer:
        found["consumer"] = task.consumer
    found["produced"] = date(task.produced)
    found["scheduled"] = date(task.scheduled)
    if task.consumed is not None:
        found["consumed"] = date(task.consumed)
    if task.deadline is not None:
        found["deadline"] = date(task.deadline)
    if task.payload is not None:
        found["payload"] = to_bson(task.payload, "payload")
    found["priority"] = task.priority
    found["sequence"] = task.sequence
    if task.attempts:
        found["attempts"] = task.attempts
    if task.committed is not None:
        found["committed"] = date(task.committed)
    if task.expires is not None:
        found["expires"] = date(task.expires)
    if task.retry is not None:
        found["retry"] = {
            name: value for name, value in msgspec.structs.asdict(task.retry).items() if value is not None
        }
    if task.error:
        found["error"] = task.error
    if task.result is not None:
        found["result"] = to_bson(task.result, "result")
    if task.outcome:
        found["outcome"] = task.outcome
    if task.implied:
        found["implied"] = True
    return found


def encoded(task: TaskRecord, *, placed: bool = True) -> RawBSONDocument:
    """A task ready to be sent, with its place in the order of creation or without.

    Raises `BadRequest` or `PayloadTooLarge`, naming the task, where it cannot be stored.
    """
    try:
        found = document(task)
        if not placed:
            del found["sequence"]
        raw = bson.encode(found)
    except BadRequest as error:
        raise BadRequest(f"task {quoted(task.id)}: {error.detail}") from None
    if len(raw) > MAX_DOCUMENT:
        raise PayloadTooLarge(
            f"task {quoted(task.id)} takes {len(raw)} bytes as a document, "
            f"more than the {MAX_DOCUMENT} that MongoDB can store"
        )
    return RawBSONDocument(raw)


def check_room(task: TaskRecord, change: Change) -> None:
    """Raise `PayloadTooLarge` where the task as changed would have no room to grow any more."""
    task = copy.copy(task)
    transitions.apply(task, change)
    # What is much shorter need not be looked at more closely.
    if task.weight() + 2 * MOST_ADDED > MAX_DOCUMENT:
        encoded(task)


def record(found: Mapping[str, Any]) -> TaskRecord:
    """The task that a stored document is. Fields left out by a projection are at their default.

    Another program may have written anything into a field: what cannot be read is as if it was absent, or
    for a text, its text.
    """
    get = (decoded(found) if isinstance(found, RawBSONDocument) else found).get
    payload, result = get("payload", _NOTHING), get("result", _NOTHING)
    return TaskRecord(
        _text(get("_id")),
        _text(get("topic")),
        _time(get("produced")) or 0,
        _time(get("scheduled")) or 0,
        _integer(get("state")),
        _text(get("nonce")),
        _text(get("producer")),
        _text(get("consumer")),
        _time(get("consumed")),
        _time(get("deadline")),
        _time(get("committed")),
        None if payload is _NOTHING else to_json(payload),
        _integer(get("priority")),
        _integer(get("attempts")),
        _policy(get("retry")),
        _text(get("error")),
        None if result is _NOTHING else to_json(result),
        _text(get("outcome")),
        _time(get("expires")),
        bool(get("implied")),
        _integer(get("sequence")),
    )


_NOTHING = object()


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)


def _integer(value: Any) -> int:
    if value is None:
        return 0
    try:
        return int(value)  # a 64-bit integer has a class of its own in the driver
    except (TypeError, ValueError, OverflowError):
        return 0


def _time(value: Any) -> int | None:
    if value is None:
        return None
    try:
        time = int(value) * 1_000
    except (TypeError, ValueError, OverflowError):
        return None
    return time if MIN_TIME <= time <= MAX_TIME else MIN_TIME if time < MIN_TIME else MAX_TIME


def _policy(members: Any) -> RetryPolicy | None:
    if not isinstance(members, dict):
        return None
    # Integers of 64 bits have a class of their own in the driver, and MongoDB's shell writes doubles.
    plain = {
        name: int(value)
        if isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        else value
        for name, value in members.items()
        if value is not None
    }
    try:
        policy = msgspec.convert(plain, RetryPolicy)
    except msgspec.ValidationError:
        return None
    return policy if policy.backoff in (None, *BACKOFFS) else None


# ---- changes -------------------------------------------------------------------------------------


def member(name: str, value: Any) -> Any:
    """The condition that a member has this value, which documents without the member may mean."""
    if not value and name in _ABSENT_WHEN_EMPTY:
        return {"$in": [value, None]}
    return value


def guard(change: Change) -> Document:
    """The conditions under which a change applies."""
    conditions: Document = {}
    for name, value in change.require.items():
        if name == "retry":
            conditions |= _same_policy(value)
        elif name in _TIMES and value is not None:
            conditions[name] = _same_time(value)
        else:
            conditions[name] = member(name, value)
    return conditions


def _same_policy(policy: RetryPolicy | None) -> Document:
    """Member by member: as a whole it would have to be stored in the same order, too."""
    if policy is None:
        return {"retry": {"$not": {"$type": "object"}}}
    return {f"retry.{name}": setting for name, setting in msgspec.structs.asdict(policy).items()}


def _same_time(time: int) -> Any:
    """The date of a time; of the first or the last one, any that is read as it (see `record`)."""
    if time <= MIN_TIME:
        return {"$lte": date(MIN_TIME)}
    return {"$gte": date(MAX_TIME)} if time >= MAX_TIME else date(time)


def update(change: Change) -> Document | list[Document]:
    """A change as an update. Raises `BadRequest` for a payload that cannot be stored."""
    present: Document = {}
    absent: list[str] = []
    for name, value in change.set.items():
        if value is None or (not value and name in _ABSENT_WHEN_EMPTY and name != "nonce"):
            absent.append(name)
        elif name in _TIMES:
            present[name] = date(value)
        elif name in _VALUES:
            present[name] = to_bson(value, name)
        else:
            present[name] = value
    if change.attempts < 0:
        # Never below zero, which only an expression can say. In it, texts would be names of fields.
        fewer = {"$max": [0, {"$add": [{"$ifNull": ["$attempts", 0]}, change.attempts]}]}
        literals = {name: {"$literal": value} for name, value in present.items()}
        stages: list[Document] = [{"$set": {**literals, "attempts": fewer}}]
        return [*stages, {"$unset": absent}] if absent else stages
    changes: Document = {"$set": present}
    if absent:
        changes["$unset"] = dict.fromkeys(absent, "")
    if change.attempts:
        changes["$inc"] = {"attempts": change.attempts}
    return changes


def updates(changes: Mapping[str, Change]) -> list[Document]:
    """One update for tasks by their ids, each with a change of its own that adds one attempt.

    For MongoDB this is half the work of an update for each.
    """
    sets: list[Document] = []
    absent: set[str] = set()
    for change in changes.values():
        each = update(change)
        assert isinstance(each, dict), "only what adds an attempt"
        assert each["$inc"] == {"attempts": 1}, "only what adds one attempt"
        sets.append(each["$set"])
        absent |= each.get("$unset", {}).keys()
    place = {"$indexOfArray": [{"$literal": list(changes)}, "$_id"]}
    own = {"$arrayElemAt": [{"$literal": sets}, place]}
    attempts = {"attempts": {"$add": [{"$ifNull": ["$attempts", 0]}, 1]}}
    merged: Document = {"$replaceWith": {"$mergeObjects": ["$$ROOT", own, attempts]}}
    return [{"$unset": sorted(absent)}, merged] if absent else [merged]


def replacement(task: TaskRecord) -> list[Document]:
    """An update that replaces a task whole, or inserts it, and keeps the place in the order of creation.

    A document without a ``sequence`` (a Go Ratus wrote it) goes on without one.
    """
    new = encoded(task, placed=False)
    is_new = {"$eq": [{"$type": "$state"}, "missing"]}
    place = {"$cond": [is_new, {"$literal": task.sequence}, "$sequence"]}
    return [{"$replaceWith": {"$mergeObjects": [{"$literal": new}, {"sequence": place}]}}]
