"""The public models of a task, its state and its retry policy."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StrictInt, ValidationInfo, WithJsonSchema

from ratus.core.limits import MAX_ATTEMPTS, MAX_PRIORITY, MIN_PRIORITY
from ratus.core.members import TRACE
from ratus.core.models.fields import (
    INPUT_ONLY,
    Duration,
    Json,
    Name,
    NonNegativeDuration,
    PositiveDuration,
    Time,
    WireModel,
    is_made,
)
from ratus.core.models.labels import Labels

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratus.core.models.fields import DurationLike, TimeLike
    from ratus.core.models.labels import LabelValue


class TaskState(IntEnum):
    """Where a task is in its life: 0 pending, 1 active, 2 completed, 3 archived."""

    PENDING = 0
    ACTIVE = 1
    COMPLETED = 2
    ARCHIVED = 3


class Priority(IntEnum):
    """Names for some priorities. A task may have any integer from -9 to 9, larger first; 0 by default."""

    LOWEST = MIN_PRIORITY
    LOW = -5
    NORMAL = 0
    HIGH = 5
    HIGHEST = MAX_PRIORITY


def _not_text_or_bool(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("a state is one of the integers 0 pending, 1 active, 2 completed and 3 archived")
    return value


State = Annotated[TaskState, BeforeValidator(_not_text_or_bool)]
Outcome = Literal["failed", "expired"]
Backoff = Literal["constant", "linear", "exponential"]


def _checked_trace(trace: dict[str, str], info: ValidationInfo) -> dict[str, str]:
    if is_made(info):
        TRACE.check(trace)
    return trace


Trace = Annotated[dict[str, str], AfterValidator(_checked_trace), WithJsonSchema(TRACE.schema())]


class Retry(WireModel):
    """What happens after a failure: how often and how soon a task is tried again.

    A member that is left out takes the server's default. The delay after failure *n* is `delay` (constant),
    `delay * n` (linear) or `delay * 2**(n-1)` (exponential), at most `max_delay`, then changed by up to plus
    or minus `jitter` of itself.
    """

    if TYPE_CHECKING:  # arguments may be of more types than attributes are

        def __init__(
            self,
            *,
            max_attempts: int | None = None,
            backoff: Backoff | None = None,
            delay: DurationLike | None = None,
            max_delay: DurationLike | None = None,
            jitter: float | None = None,
        ) -> None: ...

    max_attempts: StrictInt | None = Field(
        default=None,
        ge=0,
        le=MAX_ATTEMPTS,
        description="Failures and lapses after which the task is archived with `outcome` `failed`. 0 "
        "means without limit. Default: the server's `--retry-max-attempts` (0).",
        examples=[5],
    )
    backoff: Backoff | None = Field(
        default=None,
        description="How the delay grows from one failure to the next. Default: `exponential`.",
        examples=["exponential"],
    )
    delay: NonNegativeDuration | None = Field(
        default=None,
        description="The delay after the first failure. Default: the server's `--retry-delay` (1s).",
        examples=["1s"],
    )
    max_delay: NonNegativeDuration | None = Field(
        default=None,
        description="No delay is longer than this. Default: the server's `--retry-max-delay` (1h).",
        examples=["1h"],
    )
    jitter: float | None = Field(
        default=None,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="The share of itself by which a delay is changed at random, so that tasks that "
        "failed together do not come back together. Default: 0.1.",
        examples=[0.1],
    )


class Task(WireModel):
    """A unit of work in a topic."""

    if TYPE_CHECKING:  # arguments may be of more types than attributes are

        def __init__(
            self,
            *,
            id: str = "",
            topic: str = "",
            state: TaskState | int = TaskState.PENDING,
            nonce: str = "",
            producer: str = "",
            consumer: str = "",
            produced: TimeLike | None = None,
            scheduled: TimeLike | None = None,
            consumed: TimeLike | None = None,
            deadline: TimeLike | None = None,
            committed: TimeLike | None = None,
            payload: Any = None,
            defer: DurationLike | None = None,
            priority: int = 0,
            attempts: int = 0,
            retry: Retry | None = None,
            error: str = "",
            result: Any = None,
            outcome: Outcome | None = None,
            expires: TimeLike | None = None,
            ttl: DurationLike | None = None,
            trace: Mapping[str, str] | None = None,
            labels: Mapping[str, LabelValue] | None = None,
        ) -> None: ...

    id: Name = Field(
        default="",
        validation_alias="_id",
        serialization_alias="_id",
        description="Chosen by the producer; one namespace over all topics. 1 to 1,024 bytes of UTF-8.",
        examples=["1"],
    )
    topic: Name = Field(
        default="",
        description="The topic the task belongs to. Left out or empty: the topic of the path. 1 to 1,024 "
        "bytes of UTF-8.",
        examples=["example"],
    )
    state: State = Field(
        default=TaskState.PENDING,
        description="0 pending, 1 active, 2 completed, 3 archived.",
        examples=[0],
    )
    nonce: str = Field(
        default="",
        description="The fencing token of the running claim: 16 random characters while the task is "
        "active, empty otherwise. A commit that carries it only counts while the claim is "
        "still held.",
        examples=["hJ3uTq8bX0aYc1Zk"],
    )
    producer: str = Field(
        default="", description="Who made the task; free text.", examples=["https://producer.example.com"]
    )
    consumer: str = Field(
        default="",
        description="Who claimed the task last; free text.",
        examples=["https://consumer.example.com"],
    )
    produced: Time | None = Field(
        default=None,
        description="When the task was accepted; the producer may set it.",
        examples=["2036-01-31T12:00:00Z"],
    )
    scheduled: Time | None = Field(
        default=None,
        description="Not handed out before this. Default: now. Beats `defer`.",
        examples=["2036-01-31T12:00:00Z"],
    )
    consumed: Time | None = Field(
        default=None, description="When the task was last claimed.", examples=["2036-01-31T12:00:01.25Z"]
    )
    deadline: Time | None = Field(
        default=None,
        description="When the running claim lapses and the task is handed out again.",
        examples=["2036-01-31T12:10:01.25Z"],
    )
    committed: Time | None = Field(
        default=None,
        description="When the task was last committed. Retention counts from here.",
        examples=["2036-01-31T12:00:02.5Z"],
    )
    payload: Json = Field(
        default=None,
        description="What the task is about: any JSON, given back as it was sent. At most 170 levels of "
        "nesting, integers of at most 4,300 digits (MongoDB: 64 bits), other numbers within "
        "the range of a double.",
        examples=[{"url": "https://example.com/"}],
    )
    defer: Duration | None = Field(
        default=None,
        description="Sets `scheduled` to now plus this, unless `scheduled` is given.",
        examples=["10m"],
        json_schema_extra=INPUT_ONLY,
    )
    priority: StrictInt = Field(
        default=0,
        ge=MIN_PRIORITY,
        le=MAX_PRIORITY,
        description="Due tasks are handed out by priority, larger first, then by `scheduled`, then in "
        "order of creation. Omitted while 0.",
        examples=[5],
    )
    attempts: StrictInt = Field(
        default=0,
        ge=0,
        le=MAX_ATTEMPTS,
        description="Claims that ended in a failure or a lapse, plus the running one. Kept by the "
        "server. Omitted while 0.",
        examples=[1],
    )
    retry: Retry | None = Field(
        default=None,
        description="The task's own retry policy.",
        examples=[{"max_attempts": 5, "delay": "1s"}],
    )
    error: str = Field(
        default="",
        description="The text of the last failure, its first 8 KiB; `deadline exceeded` after a lapse. A "
        "success clears it.",
        examples=["HTTP 503 from example.com"],
    )
    result: Json = Field(
        default=None,
        description="What came of the task: any JSON, under the same rules as the payload.",
        examples=[{"links": 42}],
    )
    outcome: Outcome | None = Field(
        default=None,
        description="Why the server archived the task: `failed`, its attempts are used up, or `expired`, "
        "it was not claimed in time. Kept by the server.",
        examples=["failed"],
    )
    expires: Time | None = Field(
        default=None,
        description="A task still pending after this is never handed out and is archived with `outcome` "
        "`expired`. Beats `ttl`.",
        examples=["2036-02-01T12:00:00Z"],
    )
    ttl: PositiveDuration | None = Field(
        default=None,
        description="Sets `expires` to now plus this, unless `expires` is given.",
        examples=["24h"],
        json_schema_extra=INPUT_ONLY,
    )
    trace: Trace | None = Field(
        default=None,
        description="The trace context that the task was made in: `traceparent`, `tracestate` and `baggage` "
        "as W3C's headers have them, at most 8 KiB. Kept and given back, never looked into.",
        examples=[{"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}],
    )
    labels: Labels | None = Field(
        default=None,
        description="Names with values by which the task is found, takes turns and is limited: at most 8 "
        "names of 1 to 64 of `A-Z a-z 0-9 . _ - /`; a value is a text of at most 256 bytes, an integer "
        "(equal to its decimal text) or an array of those, at most 16 values in all. Not changed by commits.",
        examples=[{"customer": "acme", "region": ["eu", "us"], "order": 42}],
    )


class Tasks(WireModel):
    """Several tasks: a batch to insert, a page of a list, or what one claim got."""

    data: list[Task] = Field(description="The tasks, in order.")
    next: str = Field(
        default="",
        description="The cursor of the next page, for the query parameter `after`: given where that was, "
        "except on the last page.",
        examples=["eyJpZCI6IjEifQ"],
    )
