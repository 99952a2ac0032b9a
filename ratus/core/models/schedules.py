"""The public models of a schedule: what makes a task again and again.

Members are described here for `openapi.yaml`; the client takes and returns objects of `Schedule`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, StrictBool, StrictInt

from ratus.core.limits import MAX_PRIORITY, MAX_SCHEDULE_NAME_BYTES, MIN_PRIORITY
from ratus.core.models.fields import (
    ANSWER_ONLY,
    Duration,
    DurationLike,
    Json,
    PositiveDuration,
    Time,
    TimeLike,
    WireModel,
)
from ratus.core.models.labels import Labels, LabelValue
from ratus.core.models.tasks import Retry, TaskState

Overlap = Literal["allow", "skip"]
CatchUp = Literal["last", "all"]


class ScheduledTask(WireModel):
    """What each task of a schedule has. All else follows from the tick."""

    if TYPE_CHECKING:  # arguments may be of more types than attributes are

        def __init__(
            self,
            *,
            payload: Any = None,
            priority: int = 0,
            retry: Retry | None = None,
            labels: Mapping[str, LabelValue] | None = None,
            ttl: DurationLike | None = None,
            producer: str = "",
        ) -> None: ...

    payload: Json = Field(default=None, description="What it is about: any JSON.", examples=[{"days": 1}])
    priority: StrictInt = Field(
        default=0, ge=MIN_PRIORITY, le=MAX_PRIORITY, description="Larger first.", examples=[3]
    )
    retry: Retry | None = Field(default=None, description="Its retry policy.", examples=[{"max_attempts": 5}])
    labels: Labels | None = Field(default=None, description="Its labels.", examples=[{"customer": "acme"}])
    ttl: PositiveDuration | None = Field(
        default=None, description="It expires so long after its tick, unless it is claimed.", examples=["1h"]
    )
    producer: str = Field(default="", description="The name of what makes it.", examples=["schedules"])


class LastTask(WireModel):
    """The last task that a schedule made."""

    id: str = Field(
        validation_alias="_id",
        serialization_alias="_id",
        description="Its id: the name of the schedule, and the time of the tick.",
        examples=["nightly@2036-01-31T01:30:00Z"],
    )
    state: TaskState | None = Field(
        default=None, description="Its state; omitted when it was deleted.", examples=[2]
    )
    outcome: str = Field(
        default="", description="Why the server archived it; omitted when it did not.", examples=["failed"]
    )


class Schedule(WireModel):
    """Makes a task at each of its ticks: by a cron expression in a time zone, or by an interval."""

    if TYPE_CHECKING:  # arguments may be of more types than attributes are

        def __init__(
            self,
            *,
            name: str = "",
            topic: str = "",
            task: ScheduledTask | None = None,
            cron: str = "",
            zone: str = "",
            every: DurationLike | None = None,
            start: TimeLike | None = None,
            end: TimeLike | None = None,
            overlap: Overlap = "allow",
            catch_up: CatchUp = "last",
            paused: bool = False,
        ) -> None: ...

    name: str = Field(
        default="",
        max_length=MAX_SCHEDULE_NAME_BYTES,
        description="The name of the schedule.",
        examples=["nightly"],
        json_schema_extra=ANSWER_ONLY,
    )
    topic: str = Field(default="", description="The topic of its tasks.", examples=["reports"])
    task: ScheduledTask | None = Field(default=None, description="What each task has.")
    cron: str = Field(
        default="",
        max_length=256,
        description="An expression of five fields (minute, hour, day of month, month, day of week), or of "
        "six with seconds first; or `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`. This or `every`.",
        examples=["30 2 * * *"],
    )
    zone: str = Field(
        default="",
        description="The IANA name of the time zone that `cron` is read in. Default: UTC.",
        examples=["Europe/Berlin"],
    )
    every: Duration | None = Field(
        default=None,
        description="The interval, at least 1s, counted from `start`, by default from 1970. This or `cron`.",
        examples=["15m"],
    )
    start: Time | None = Field(
        default=None, description="No tick comes before.", examples=["2036-01-31T12:00:00Z"]
    )
    end: Time | None = Field(
        default=None, description="No tick comes after.", examples=["2037-01-31T12:00:00Z"]
    )
    overlap: Overlap = Field(
        default="allow",
        description="`skip`: no task while the last one is pending or active.",
        examples=["skip"],
    )
    catch_up: CatchUp = Field(
        default="last",
        description="Which ticks are made up after no server ran: the `last`, or `all` of the last 1,000.",
        examples=["all"],
    )
    paused: StrictBool = Field(default=False, description="Whether it makes no tasks.", examples=[True])
    next: Time | None = Field(
        default=None,
        description="The next tick; omitted when it is paused, and when none comes any more.",
        examples=["2036-02-01T01:30:00Z"],
        json_schema_extra=ANSWER_ONLY,
    )
    last: LastTask | None = Field(
        default=None,
        description="The last task that it made; omitted before the first one.",
        examples=[{"_id": "nightly@2036-01-31T01:30:00Z", "state": 2}],
        json_schema_extra=ANSWER_ONLY,
    )


class Schedules(WireModel):
    """A page of the schedules."""

    data: list[Schedule] = Field(description="The schedules, by name.")
    next: str = Field(
        default="",
        description="Where the next page begins: give it as `after`. Omitted on the last page.",
        examples=["MTIz"],
    )


class Preview(WireModel):
    """What a schedule would do."""

    ticks: list[Time] = Field(
        description="Its next five ticks, fewer when it ends before.",
        examples=[["2036-02-01T01:30:00Z", "2036-02-02T01:30:00Z"]],
    )
    words: str = Field(
        description="The expression or the interval as a sentence.",
        examples=["At 02:30 every day, in Europe/Berlin"],
    )


class Made(WireModel):
    """The task that a run by hand made."""

    id: str = Field(
        validation_alias="_id",
        serialization_alias="_id",
        description="The id of the task.",
        examples=["nightly@2036-01-31T12:00:00.104212Z"],
    )
