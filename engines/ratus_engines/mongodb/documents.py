"""Tasks as documents: the fields and types of a Ratus in Go, and those of this one beside them.

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
| rare members (`ratus.core.records.Rare`) | ours | absent from most documents |
| `keys` | ours | array of strings; the labels as entries of an index (see `ratus_engines.mongodb.labels`) |
| `waits` | ours | bool, only where the clock was set back (see `ratus_engines.mongodb.due`) |

A document without a field means the default, so whatever a Go Ratus writes is a task. Dates hold
milliseconds: times are cut to them, never rounded up, so that what is due stays due.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import bson
import msgspec
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.datetime_ms import DatetimeMS
from bson.raw_bson import RawBSONDocument
from msgspec import Struct

from ratus.core import transitions
from ratus.core.errors import BadRequest, PayloadTooLarge
from ratus.core.members import KEPT, RARE, Choice, Member, Object, Stored
from ratus.core.quoting import quoted
from ratus.core.records import TaskRecord
from ratus.core.times import MAX_TIME, MIN_TIME
from ratus.core.transitions import By, Change, NotBy, Require
from ratus_engines.mongodb import labels
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

# ---- the fields, from the table of members ---------------------------------------------------------

# These are stored even when they are empty: a Go Ratus writes them, or an index has them.
_ALWAYS = frozenset({"id", "topic", "state", "nonce", "priority", "sequence"})

_STORED = {name: member.type.stored for name, member in (KEPT | RARE).items()}

_TIMES = frozenset(name for name, stored in _STORED.items() if stored is Stored.TIME)
_VALUES = frozenset(name for name, stored in _STORED.items() if stored is Stored.JSON)
_OBJECTS = frozenset(name for name, stored in _STORED.items() if stored is Stored.OBJECT)

# Members that may be absent when they are empty, also ``nonce``, which a Go Ratus may leave out. A query for
# an empty one has to find absent fields as well.
_ABSENT_WHEN_EMPTY = frozenset(
    name for name, member in KEPT.items() if member.default is not None and name not in _ALWAYS
) | {"nonce"}

# What decisions about a task and notifications need: all but payload and result, which can be megabytes.
WITHOUT_VALUES = {KEPT[name].wire: 0 for name in _VALUES if name in KEPT}


def date(time: int) -> DatetimeMS:
    """A time as a date, cut to the millisecond."""
    return DatetimeMS(time // 1_000)


# ---- tasks ---------------------------------------------------------------------------------------


def document(task: TaskRecord, in_use: Iterable[str] = ()) -> Document:
    """A task as a document. Raises `BadRequest` for a payload or result that cannot be stored.

    ``in_use``: the labels that are in use in the topic.
    """
    found = _document(task)
    if task.rare is not None:
        for name, member in RARE.items():
            if (value := getattr(task.rare, name)) is not None:
                found[member.wire] = _field(name, value)
    if task.rare is not None or in_use:
        keys = labels.keys_of(task.labels, in_use)
        if keys:
            found[labels.FIELD] = keys
    return found


def _document_maker() -> Callable[[TaskRecord], Document]:
    """A function that makes the document of a task, without rare members.

    It is generated, with a line for each member: as quick as a function that is written by hand, where a loop
    over the members takes a third longer.
    """
    lines = ["def make(task):", "found = {}"]
    for name, member in KEPT.items():
        value = f"task.{name}"
        condition = "" if name in _ALWAYS or member.always else f"if {value}: "
        if condition and member.default is None:
            condition = f"if {value} is not None: "
        written = value
        if name in _TIMES:
            written = f"date({value})"
        elif name in _VALUES or name in _OBJECTS:
            written = f"field({name!r}, {value})"
        lines.append(f"{condition}found[{member.wire!r}] = {written}")
    names: dict[str, Any] = {"date": date, "field": _field}
    exec("\n    ".join([*lines, "return found"]), names)  # noqa: S102  # the table's own names
    make: Callable[[TaskRecord], Document] = names["make"]
    return make


def _field(name: str, value: Any) -> Any:
    """The field of a task's member. Raises `BadRequest` for a payload that cannot be stored."""
    return field_of(_STORED[name], name, value)


def field_of(stored: Stored | None, name: str, value: Any) -> Any:
    """The field of a member that has this value. Raises `BadRequest` for JSON that cannot be stored."""
    if stored is Stored.TIME:
        return date(value)
    if stored is Stored.JSON:
        return to_bson(value, name)
    if stored is Stored.OBJECT:
        return _object(value)
    return value


def _object(value: Struct) -> Document:
    return {
        each: _object(inner) if isinstance(inner, Struct) else inner
        for each, inner in msgspec.structs.asdict(value).items()
        if inner is not None
    }


_document = _document_maker()


def encoded(task: TaskRecord, *, placed: bool = True, in_use: Iterable[str] = ()) -> RawBSONDocument:
    """A task ready to be sent, with its place in the order of creation or without. ``in_use``: as `document`.

    Raises `BadRequest` or `PayloadTooLarge`, naming the task, where it cannot be stored.
    """
    try:
        found = document(task, in_use)
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
    # A task that is much smaller need not be encoded to know that it has room.
    if task.weight() + 2 * MOST_ADDED > MAX_DOCUMENT:
        encoded(task)


def record(found: Mapping[str, Any]) -> TaskRecord:
    """The task in a stored document. Fields left out by a projection are at their default.

    Another program may have written any type into a field: a value that cannot be read counts as absent, or
    is converted to a string where the member is a text.
    """
    get = (decoded(found) if isinstance(found, RawBSONDocument) else found).get
    task = _record(get)
    for name, field, read in _RARE_READERS:
        if (value := get(field)) is not None:
            setattr(task, name, read(value))
    return task


NOTHING = object()


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


def _plain(value: Any) -> Any:
    # Integers of 64 bits have a class of their own in the driver, and MongoDB's shell writes doubles.
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items() if inner is not None}
    if isinstance(value, bool):
        return value
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return int(value)
    return value


def _object_reader(kind: Object) -> Callable[[Any], Any]:
    choices = {member.name: member.type.values for member in kind.members if isinstance(member.type, Choice)}

    def read(members: Any) -> Any:
        if not isinstance(members, dict):
            return None
        try:
            found = msgspec.convert(_plain(members), kind.record)
        except msgspec.ValidationError:
            return None
        known = all(getattr(found, name) in (None, *values) for name, values in choices.items())
        return found if known else None

    return read


def reader(member: Member) -> Callable[[Any], Any]:
    """A function that reads the field of a member. It takes ``None``, too, except for a payload or result."""
    if isinstance(member.type, Object):
        return _object_reader(member.type)
    readers: dict[Stored | None, Callable[[Any], Any]] = {
        Stored.TEXT: _text,
        Stored.INTEGER: _integer,
        Stored.BOOLEAN: bool,
        Stored.TIME: _time,
        Stored.JSON: to_json,
    }
    return readers[member.type.stored]


def _record_maker() -> Callable[[Callable[..., Any]], TaskRecord]:
    """A function that makes a task of the ``get`` of a document, without rare members.

    It is generated, with an expression for each member: as quick as a function that is written by hand.
    """
    names: dict[str, Any] = {"TaskRecord": TaskRecord, "nothing": NOTHING}
    values = []
    for name in TaskRecord.__struct_fields__:
        if name == "rare":
            values.append("None")
            continue
        member = KEPT[name]
        names[f"read_{name}"] = reader(member)
        value = f"read_{name}(get({member.wire!r}))"
        if member.type.stored is Stored.JSON:  # a stored null is a payload
            value = f"None if (value := get({member.wire!r}, nothing)) is nothing else read_{name}(value)"
        elif member.type.stored is Stored.TIME and member.always:
            value += " or 0"
        values.append(value)
    source = f"lambda get: TaskRecord({', '.join(values)})"
    make: Callable[[Callable[..., Any]], TaskRecord] = eval(source, names)  # noqa: S307  # the table's own names
    return make


_record = _record_maker()
_RARE_READERS = tuple((name, member.wire, reader(member)) for name, member in RARE.items())


# ---- changes -------------------------------------------------------------------------------------


def member(name: str, value: Any) -> Any:
    """The condition that a member has this value. An empty one is also found where the field is absent."""
    if not value and name in _ABSENT_WHEN_EMPTY:
        return {"$in": [value, None]}
    return value


def conditions(require: Require) -> Document:
    """Requirements (see `transitions.meets`) as a query: the guard of a change, or what has lapsed."""
    found: Document = {}
    for name, value in require.items():
        if isinstance(value, By):
            found[name] = {"$lte": date(value.time)}
        elif isinstance(value, NotBy):
            found[name] = {"$not": {"$lte": date(value.time)}}
        elif name in _OBJECTS:
            found |= _same_object(name, value)
        elif name in _TIMES and value is not None:
            found[name] = _same_time(value)
        else:
            found[name] = member(name, value)
    return found


def _same_object(name: str, value: Struct | None) -> Document:
    """The condition for an equal object, member by member: as a whole, the order of members counts, too."""
    if value is None:
        return {name: {"$not": {"$type": "object"}}}
    return {f"{name}.{each}": setting for each, setting in msgspec.structs.asdict(value).items()}


def _same_time(time: int) -> Any:
    """The condition that a date is this time. The first and the last time stand for any date beyond them, as
    `record` reads them."""
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
        else:
            present[name] = _field(name, value)
    if change.attempts < 0:
        # Never below zero, which needs an update with expressions. In these a text may mean a field, so
        # values are literals.
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

    For MongoDB this is half the work of one update a task.
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


def replacement(task: TaskRecord, in_use: Iterable[str] = ()) -> list[Document]:
    """An update that replaces a task as a whole, keeping its place in the order of creation, or inserts it.

    ``in_use``: as `document`. A document without a ``sequence`` (a Go Ratus wrote it) goes on without one.
    """
    new = encoded(task, placed=False, in_use=in_use)
    is_new = {"$eq": [{"$type": "$state"}, "missing"]}
    place = {"$cond": [is_new, {"$literal": task.sequence}, "$sequence"]}
    return [{"$replaceWith": {"$mergeObjects": [{"$literal": new}, {"sequence": place}]}}]
