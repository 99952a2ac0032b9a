"""The public models of claims: what a consumer asks for, what a claim is, and how one is extended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, StrictInt

from ratus.core.limits import MAX_TOPICS
from ratus.core.models.fields import (
    INPUT_ONLY,
    Name,
    NonNegativeDuration,
    PositiveDuration,
    Time,
    WireModel,
)
from ratus.core.models.labels import Prefer, Where

if TYPE_CHECKING:
    from ratus.core.models.fields import DurationLike, TimeLike


Order = Literal["due", "newest", "random"]


class _Claim(WireModel):
    """How a task is claimed."""

    consumer: str = Field(
        default="",
        description="Who claims; free text. Without one, the consumer of an earlier claim is removed.",
        examples=["https://consumer.example.com"],
    )
    deadline: Time | None = Field(
        default=None,
        description="When the claim lapses; must be after now. Beats `timeout`. Not shown of a task that was "
        "inserted active without one.",
        examples=["2036-01-31T12:10:01.25Z"],
    )
    timeout: PositiveDuration | None = Field(
        default=None,
        description="The claim lapses this long after now. More than 0; default: 10m.",
        examples=["30s"],
        json_schema_extra=INPUT_ONLY,
    )


class Promise(_Claim):
    """A claim on a task: that this consumer will finish it before the deadline."""

    if TYPE_CHECKING:  # arguments may be of more types than attributes are

        def __init__(
            self,
            *,
            id: str = "",
            consumer: str = "",
            deadline: TimeLike | None = None,
            timeout: DurationLike | None = None,
        ) -> None: ...

    id: Name = Field(
        default="",
        validation_alias="_id",
        serialization_alias="_id",
        description="The id of the claimed task; default: the id of the path.",
        examples=["1"],
    )


class Promises(WireModel):
    """A page of the running claims."""

    data: list[Promise] = Field(description="The claims, in order.")


class _Waiting(_Claim):
    """How tasks are claimed that may not be there yet."""

    wait: NonNegativeDuration | None = Field(
        default=None,
        description="Answer as soon as a task is due, and with 404 only after this long. At most the "
        "server's `--promise-max-wait` (60s); default: 0, do not wait.",
        examples=["20s"],
    )
    limit: StrictInt | None = Field(
        default=None,
        ge=1,
        description="Claim up to so many tasks; the answer is then a list, even of one. At most the "
        "server's `--promise-max-limit` (1000). Left out: one task, answered as a task.",
        examples=[50],
        # Only in `openapi.yaml`: a server may be configured with another bound, so the server checks it.
        json_schema_extra={"maximum": 1_000},
    )
    order: Order = Field(
        default="due",
        description="Which task comes first within a priority: `due`, the earliest `scheduled`, then the "
        "first created; `newest`, the latest `scheduled` that is due, then the last created; `random`, any "
        "that is due.",
        examples=["newest"],
    )
    where: Where | None = Field(
        default=None,
        description="Only tasks that have one of these values (at most 16) of this one label.",
        examples=[{"customer": ["acme", "example"]}],
    )
    prefer: Prefer | None = Field(
        default=None,
        description="The values of this label take turns within a priority, that with the fewest active "
        "tasks first, then that served longest ago. Of several labels (at most 3) the first decides, then "
        "the next. With a `where` it may only name the same label.",
        examples=["customer"],
    )


class Poll(_Waiting):
    """A claim on whatever is due next in the topic of the path."""

    id: Name = Field(
        default="",
        validation_alias="_id",
        serialization_alias="_id",
        description="Claim this task if it is pending, in whatever topic, instead of the next one.",
        examples=["1"],
    )


class PollRequest(_Waiting):
    """A claim on whatever is due next in one of several topics."""

    topics: list[Annotated[Name, Field(min_length=1)]] = Field(
        min_length=1,
        max_length=MAX_TOPICS,
        description="Where to look, in order of preference: a task of a later topic is only handed out "
        "while none of an earlier one is due. At most 1,000.",
        examples=[["urgent", "bulk"]],
    )


class Extension(WireModel):
    """A new deadline for a claim that is held."""

    nonce: str = Field(
        default="",
        description="The nonce of the claim. If it is not the task's any more, nothing changes and the "
        "answer is 409. Without one the deadline is moved by force.",
        examples=["hJ3uTq8bX0aYc1Zk"],
    )
    deadline: Time | None = Field(
        default=None,
        description="The new deadline, which must be after now. Beats `timeout`.",
        examples=["2036-01-31T12:20:01.25Z"],
    )
    timeout: PositiveDuration | None = Field(
        default=None,
        description="The new deadline is this long after now. More than 0; default: 10m.",
        examples=["30s"],
    )
