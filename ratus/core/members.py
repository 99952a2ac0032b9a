"""THE table of members: what tasks, commits, promises and topics are made of, each member once.

A `Member` says a member's name, type and default, and where it occurs: in requests, in answers, in records.
Its type says which values there are, how they are described (`schema`) and how an engine keeps them
(`Stored`).
Everything else is derived from this table:

| what | where |
| --- | --- |
| reading requests, one reader for each type | `ratus.api.readers` |
| writing answers | `ratus.api.serializing` |
| rows, documents, frames of snapshots, one conversion for each way of storing | the engines |
| filters of lists | `ratus.api.parsing`, the engines, `scripts.openapi.parameters` |

Records (`ratus.core.records`) and public models (`ratus.core.models`) are typed by hand, so that type
checkers know them; `tests/core/test_members.py` compares them with the table. How to add a member is in
CONTRIBUTING.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import msgspec
from msgspec import Struct

from ratus.core import labels
from ratus.core.limits import MAX_ATTEMPTS, MAX_NAME_BYTES, MAX_PRIORITY, MAX_TOPICS, MIN_PRIORITY
from ratus.core.quoting import quoted
from ratus.core.records import ARCHIVED, EXPIRED, FAILED, PENDING, RetryPolicy
from ratus.core.selection import MAX_PREFERRED, MAX_WHERE_VALUES, ORDERS
from ratus.core.transitions import BACKOFFS, MAX_ERROR_BYTES
from ratus.core.turns import (
    CLOSES_A_LANE,
    CLOSES_A_TOPIC,
    MAX_HOLD,
    MAX_PERIOD,
    Limits,
    PerLabel,
    Rate,
    check_rate,
)

Schema = dict[str, Any]


class Stored(Enum):
    """The ways in which an engine keeps a value. Below each is the type that the value has in a record."""

    TEXT = "text"
    """``str``."""
    INTEGER = "integer"
    """``int`` of at most 64 bits."""
    BOOLEAN = "boolean"
    """``bool``."""
    TIME = "time"
    """``int``: microseconds since 1970-01-01 UTC."""
    JSON = "json"
    """``bytes``: a JSON text."""
    OBJECT = "object"
    """A frozen struct of plain values; `Object.record` is its class."""


# ---- types ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Type:
    """What values a member may have. ``stored`` is how an engine keeps them; ``None``: they are not kept."""

    @property
    def stored(self) -> Stored | None:
        return None

    def schema(self) -> Schema:
        """The JSON schema of a value, with those bounds that are the same for every server."""
        raise NotImplementedError


@dataclass(frozen=True)
class Text(Type):
    """Any text; with a ``pattern`` (a regular expression), a text that it matches as a whole.

    ``form`` describes the pattern in words, for error messages.
    """

    pattern: str = ""
    form: str = ""

    @property
    def stored(self) -> Stored:
        return Stored.TEXT

    def schema(self) -> Schema:
        return {"type": "string", **({"pattern": f"^(?:{self.pattern})$"} if self.pattern else {})}


@dataclass(frozen=True)
class CutText(Text):
    """A text of which the first ``most_bytes`` are kept."""

    most_bytes: int = 0


@dataclass(frozen=True)
class Name(Text):
    """An id or a topic: 1 to 1,024 bytes of UTF-8. Empty counts as not given."""

    def schema(self) -> Schema:
        return {"type": "string", "maxLength": MAX_NAME_BYTES}


@dataclass(frozen=True)
class LabelName(Text):
    """The name of a label."""

    pattern: str = labels.NAME_PATTERN
    form: str = labels.NAME_FORM


@dataclass(frozen=True)
class Choice(Text):
    """One of a few texts; ``or_empty``: an empty one counts as not given."""

    values: tuple[str, ...] = ()
    or_empty: bool = False

    def schema(self) -> Schema:
        return {"type": "string", "enum": list(self.values)}


@dataclass(frozen=True)
class Names(Type):
    """Several names, each once."""

    most: int

    def schema(self) -> Schema:
        return {
            "type": "array",
            "items": {**Name().schema(), "minLength": 1},
            "minItems": 1,
            "maxItems": self.most,
        }


@dataclass(frozen=True)
class LabelNames(Type):
    """One name of a label as a text, or several, each once."""

    most: int

    def schema(self) -> Schema:
        name = LabelName().schema()
        return {"anyOf": [name, {"type": "array", "items": name, "minItems": 1, "maxItems": self.most}]}


@dataclass(frozen=True)
class Integer(Type):
    """An integer from ``low`` to ``high``, both included; ``None``: no bound but the server's settings."""

    low: int | None = None
    high: int | None = None

    @property
    def stored(self) -> Stored:
        return Stored.INTEGER

    def schema(self) -> Schema:
        bounds = {"minimum": self.low, "maximum": self.high}
        return {"type": "integer", **{name: bound for name, bound in bounds.items() if bound is not None}}


@dataclass(frozen=True)
class State(Integer):
    """A task's state, from 0 pending to 3 archived."""

    low: int = PENDING
    high: int = ARCHIVED

    def schema(self) -> Schema:
        return {"$ref": "#/$defs/TaskState"}


@dataclass(frozen=True)
class Number(Type):
    """A number from ``low`` to ``high``, both included."""

    low: float
    high: float

    def schema(self) -> Schema:
        return {"type": "number", "minimum": self.low, "maximum": self.high}


@dataclass(frozen=True)
class Boolean(Type):
    """``true`` or ``false``."""

    @property
    def stored(self) -> Stored:
        return Stored.BOOLEAN

    def schema(self) -> Schema:
        return {"type": "boolean"}


@dataclass(frozen=True)
class Time(Type):
    """An instant: RFC 3339 text on the wire."""

    @property
    def stored(self) -> Stored:
        return Stored.TIME

    def schema(self) -> Schema:
        return {"type": "string", "format": "date-time"}


@dataclass(frozen=True)
class Duration(Type):
    """A length of time: a Go duration on the wire.

    ``least`` and ``most`` are in microseconds; ``None``: there is no such bound.
    """

    least: int | None = None
    most: int | None = None

    @property
    def stored(self) -> Stored:
        return Stored.INTEGER

    def schema(self) -> Schema:
        return {"type": "string", "format": "go-duration"}


@dataclass(frozen=True)
class Json(Type):
    """Any JSON value, given back as the bytes that it was sent as."""

    @property
    def stored(self) -> Stored:
        return Stored.JSON

    def schema(self) -> Schema:
        return {}


@dataclass(frozen=True)
class Object(Type):
    """An object with members of its own, kept as ``record``.

    Unknown members are ignored, and all may be left out. Where it is ``strict``, unknown members are refused,
    those that are ``always`` there have to be given, and ``check`` raises `ValueError` for a record that is
    wrong as a whole.
    """

    model: str
    """The name of its public model."""
    members: tuple[Member, ...]
    record: type[Struct]
    strict: bool = False
    check: Callable[[Any], None] | None = None

    @property
    def stored(self) -> Stored:
        return Stored.OBJECT

    def schema(self) -> Schema:
        return {"$ref": f"#/$defs/{self.model}"}


@dataclass(frozen=True)
class Texts(Type):
    """An object whose members are all texts: any may be left out, and others are refused.

    Its JSON text takes at most ``most_bytes``. Both servers and clients validate it with `check`.
    """

    members: tuple[Member, ...]
    most_bytes: int

    @property
    def stored(self) -> Stored:
        return Stored.JSON

    def schema(self) -> Schema:
        return {
            "type": "object",
            "properties": {member.wire: member.type.schema() for member in self.members},
            "additionalProperties": False,
        }

    def check(self, texts: Mapping[str, str]) -> None:
        """Raise `ValueError` for an unknown member or a malformed text, and for too large an object."""
        known = {member.wire: member.type for member in self.members if isinstance(member.type, Text)}
        for name, text in texts.items():
            if name not in known:
                raise ValueError(f"{quoted(name)} is unknown; use {', '.join(known)}")
            kind = known[name]
            if kind.pattern and not re.fullmatch(kind.pattern, text):
                raise ValueError(f"{name}: {quoted(text)} is malformed; give {kind.form}")
        size = len(msgspec.json.encode(texts))
        if size > self.most_bytes:
            raise ValueError(f"it takes {size} bytes, more than {self.most_bytes}")


@dataclass(frozen=True)
class Labels(Type):
    """Labels of a task (`ratus.core.labels`), kept as the JSON text of their object."""

    @property
    def stored(self) -> Stored:
        return Stored.JSON

    def schema(self) -> Schema:
        return {**_labels_schema(labels.MAX_LABEL_VALUES), "maxProperties": labels.MAX_LABELS}


@dataclass(frozen=True)
class OneLabel(Type):
    """One label with up to ``most`` values, of which a task has to have one."""

    most: int

    def schema(self) -> Schema:
        return {**_labels_schema(self.most, 1), "minProperties": 1, "maxProperties": 1}


def _labels_schema(most: int, least: int | None = None) -> Schema:
    """The schema of an object of labels, of whose arrays each has from ``least`` to ``most`` values."""
    value = [
        {"type": "string", "maxLength": labels.MAX_VALUE_BYTES},
        {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1},
    ]
    several: Schema = {"type": "array", "items": {"anyOf": value}, "maxItems": most}
    if least is not None:
        several["minItems"] = least
    return {
        "type": "object",
        "propertyNames": {"pattern": f"^(?:{labels.NAME_PATTERN})$"},
        "additionalProperties": {"anyOf": [*value, several]},
    }


# ---- members --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Member:
    """One member of a task, a commit, a promise, a topic or another record.

    ``wire`` is its name in JSON, which is ``name`` unless given.
    ``default`` is what a record holds where the member was not given. Answers leave it out then, unless it is
    ``always`` there; ``hidden_by`` names a member of the record that hides this one where it is true.
    ``given`` and ``shown``: it occurs in requests and in answers. ``kept``: records and engines have it.
    ``is_filter``: lists can be narrowed to a value of it. ``rare``: few tasks have it, so that records keep
    it in `ratus.core.records.Rare`; its default is ``None``.
    """

    name: str
    type: Type
    default: Any = None
    wire: str = ""
    given: bool = True
    shown: bool = True
    kept: bool = True
    always: bool = False
    hidden_by: str = ""
    is_filter: bool = False
    rare: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "wire", self.wire or self.name)


RETRY: Final = (
    Member("max_attempts", Integer(0, MAX_ATTEMPTS)),
    Member("backoff", Choice(values=BACKOFFS)),
    Member("delay", Duration(least=0)),
    Member("max_delay", Duration(least=0)),
    Member("jitter", Number(0, 1)),
)
"""A task's retry policy. ``None``: the server's default."""

_HEADER = Text(r"[\t -~]*", form="printable ASCII, as the header has it")

TRACE: Final = Texts(
    (
        Member(
            "traceparent",
            Text(
                r"(?!ff|00.{54})[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-[!-~]*)?",
                form="version-trace-parent-flags in small hexadecimal digits, as W3C Trace Context has it",
            ),
        ),
        Member("tracestate", _HEADER),
        Member("baggage", _HEADER),
    ),
    most_bytes=8 * 1024,
)
"""The trace context that a task was made in: the headers of W3C Trace Context and W3C Baggage."""

TASK: Final = (
    Member("id", Name(), default="", wire="_id", always=True),
    Member("topic", Name(), default="", always=True),
    Member("state", State(), default=PENDING, always=True, is_filter=True),
    Member("nonce", Text(), default="", always=True),
    Member("produced", Time(), always=True),
    Member("scheduled", Time(), always=True),
    Member("producer", Text(), default="", is_filter=True),
    Member("consumer", Text(), default="", is_filter=True),
    Member("consumed", Time()),
    Member("deadline", Time(), hidden_by="implied"),
    Member("committed", Time()),
    Member("expires", Time()),
    Member("priority", Integer(MIN_PRIORITY, MAX_PRIORITY), default=0),
    Member("attempts", Integer(0, MAX_ATTEMPTS), default=0),
    Member("retry", Object("Retry", RETRY, RetryPolicy)),
    Member("error", CutText(most_bytes=MAX_ERROR_BYTES), default=""),
    Member("outcome", Choice(values=(FAILED, EXPIRED), or_empty=True), default="", is_filter=True),
    Member("payload", Json()),
    Member("result", Json()),
    Member("trace", TRACE, rare=True),
    Member("labels", Labels(), rare=True),
    # Members of requests that are converted into ``scheduled`` and ``expires`` when the request is read.
    Member("defer", Duration(), shown=False, kept=False),
    Member("ttl", Duration(least=1), shown=False, kept=False),
    # Internal members, which occur in records only.
    Member("implied", Boolean(), default=False, given=False, shown=False),
    Member("sequence", Integer(), default=0, given=False, shown=False),
)
"""Members of a task, those of answers in the order in which they are written."""

HOLD: Final = Duration(least=1, most=MAX_HOLD)
"""How long the lane of a task, or its topic, is held."""

COMMIT: Final = (
    Member("id", Name(), default="", wire="_id"),
    Member("nonce", Text(), default=""),
    Member("topic", Name(), default=""),
    Member("state", State()),
    Member("scheduled", Time()),
    Member("payload", Json()),
    Member("error", CutText(most_bytes=MAX_ERROR_BYTES)),
    Member("result", Json()),
    Member("hold", HOLD),
    Member("defer", Duration(), kept=False),
)
"""Members of a commit. ``None`` leaves what the task has; an empty nonce forces."""

PROMISE: Final = (
    Member("id", Name(), default="", wire="_id", always=True),
    Member("consumer", Text(), default=""),
    Member("deadline", Time(), hidden_by="implied"),
    Member("timeout", Duration(least=1), shown=False),
    # Only in polls, which claim whatever task is due next.
    Member("wait", Duration(least=0), shown=False),
    Member("limit", Integer(1), shown=False),
    Member("topics", Names(MAX_TOPICS), shown=False),
    Member("order", Choice(values=ORDERS), default="due", shown=False),
    Member("where", OneLabel(MAX_WHERE_VALUES), shown=False),
    Member("prefer", LabelNames(MAX_PREFERRED), shown=False),
    # Only where a claim is extended or released.
    Member("nonce", Text(), default="", shown=False),
)
"""Members of claims and of the requests that make, extend or release one. Answers have those of a claim."""

MAX_CONCURRENCY: Final = 1_000_000
"""The largest limit of concurrency: the number of active tasks that engines are measured with."""

MAX_RATE_COUNT: Final = 1_000_000_000
"""The largest count of a rate: a thousand times what a server hands out in a second, for an hour or so."""

RATE: Final = (
    Member("count", Integer(1, MAX_RATE_COUNT), always=True),
    Member("period", Duration(least=1, most=MAX_PERIOD), always=True),
    Member("burst", Integer(1, MAX_RATE_COUNT), default=1),
)
"""The members of a rate: ``count`` claims a ``period``."""

_RATE: Final = Object("Rate", RATE, Rate, strict=True, check=check_rate)

PER: Final = (
    Member("label", LabelName(), always=True),
    Member("concurrency", Integer(1, MAX_CONCURRENCY)),
    Member("rate", _RATE),
    Member("ordered", Boolean(), default=False),
)
"""The members of the limits of each value of a label."""

LIMITS: Final = (
    Member("concurrency", Integer(1, MAX_CONCURRENCY)),
    Member("rate", _RATE),
    Member("per", Object("PerLabel", PER, PerLabel, strict=True)),
)
"""The members of a topic's limits."""

TOPIC: Final = (
    Member("name", Text(), given=False, always=True),
    Member("count", Integer(0), given=False),
    Member("states", Type(), given=False),
    Member("due", Integer(0), given=False),
    Member("oldest", Time(), given=False),
    Member("paused", Boolean(), default=False),
    Member("limits", Object("Limits", LIMITS, Limits, strict=True)),
    Member("closed", Choice(values=tuple(reason.value for reason in CLOSES_A_TOPIC)), given=False),
    Member("reopens", Time(), given=False),
)
"""Members of a topic; those that requests may have (``given``) are its settings."""

LANE: Final = (
    Member("value", Text()),
    Member("active", Integer(0), default=0, always=True),
    Member("pending", Integer(0), default=0, always=True),
    Member("closed", Choice(values=tuple(reason.value for reason in CLOSES_A_LANE))),
    Member("reopens", Time()),
)
"""Members of a lane of a topic. ``value`` is ``None`` for the tasks without the label."""

VALUE: Final = (
    Member("value", Json()),
    Member("revision", Integer(0), default=0),
    Member("updated", Time()),
    Member("deleted", Boolean(), default=False, given=False),
)
"""Members of a value, beside its name. A ``value`` of ``None`` is JSON's null."""

# Times are integers here, since a database may keep times less exactly than the ids of ticks name them.
SCHEDULE: Final = (
    Member("topic", Name(), default=""),
    Member("task", Json()),
    Member("cron", Text(), default=""),
    Member("zone", Text(), default=""),
    Member("every", Integer()),
    Member("start", Integer()),
    Member("end", Integer()),
    Member("overlap", Choice(values=("allow", "skip")), default="allow"),
    Member("catch_up", Choice(values=("last", "all")), default="last"),
    Member("paused", Boolean(), default=False),
    Member("next", Integer(), given=False),
    Member("last", Text(), default="", given=False),
    Member("making", Json(), given=False, shown=False),
    Member("decided", Integer(), given=False, shown=False),
)
"""Members of a schedule, beside its name."""


# ---- parts of the table ---------------------------------------------------------------------------

KEPT: Final = {member.name: member for member in TASK if member.kept and not member.rare}
"""The members of a task's record by name, beside ``rare``."""

RARE: Final = {member.name: member for member in TASK if member.rare}
"""The members of `ratus.core.records.Rare` by name."""

FILTERS: Final = tuple(member for member in TASK if member.is_filter)
"""The members by which lists of tasks can be filtered."""


def wire_names(members: tuple[Member, ...]) -> frozenset[str]:
    """The names that members have in requests."""
    return frozenset(member.wire for member in members if member.given)
