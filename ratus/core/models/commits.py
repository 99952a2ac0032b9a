"""The public models of commits, which say what became of claimed tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field, StrictInt

from ratus.core.models.fields import Duration, Hold, Json, Name, Time, WireModel
from ratus.core.models.results import ErrorDetail
from ratus.core.models.tasks import State, Task

if TYPE_CHECKING:
    from ratus.core.models.fields import DurationLike, TimeLike
    from ratus.core.models.tasks import TaskState


class Commit(WireModel):
    """What became of a claimed task. Every member may be left out; an empty commit completes the task."""

    if TYPE_CHECKING:  # arguments may be of more types than attributes are

        def __init__(
            self,
            *,
            nonce: str = "",
            topic: str = "",
            state: TaskState | int | None = None,
            scheduled: TimeLike | None = None,
            payload: Any = None,
            defer: DurationLike | None = None,
            error: str | None = None,
            result: Any = None,
            hold: DurationLike | None = None,
        ) -> None: ...

    nonce: str = Field(
        default="",
        description="The nonce of the claim. If it is not the task's any more, nothing changes and the "
        "answer is 409. Without one the commit is forced.",
        examples=["hJ3uTq8bX0aYc1Zk"],
    )
    topic: Name = Field(
        default="",
        description="Move the task to this topic. Empty: it stays where it is.",
        examples=["example"],
    )
    state: State | None = Field(
        default=None,
        description="The new state: 0 gives the task back, 2 completes and 3 archives it. Default: 2, "
        "but with an `error` the retry policy decides.",
        examples=[2],
    )
    scheduled: Time | None = Field(
        default=None,
        description="The new time before which the task is not handed out. Beats `defer`; after a "
        "failure it replaces the delay of the retry policy.",
        examples=["2036-01-31T12:30:00Z"],
    )
    payload: Json = Field(
        default=None,
        description="Replaces the payload. `null` leaves it; an empty text, 0, false, [] and {} replace it.",
        examples=[{"url": "https://example.com/", "depth": 2}],
    )
    defer: Duration | None = Field(
        default=None,
        description="Sets `scheduled` to now plus this, unless `scheduled` is given.",
        examples=["10m"],
    )
    error: str | None = Field(
        default=None,
        description="The text of a failure; its first 8 KiB are kept. Without a `state` the commit is a "
        "failure: with attempts left the task is pending again after the backoff, else it is "
        "archived with `outcome` `failed`.",
        examples=["HTTP 503 from example.com"],
    )
    result: Json = Field(
        default=None,
        description="What came of the task: any JSON. The payload stays as it was.",
        examples=[{"links": 42}],
    )
    hold: Hold | None = Field(
        default=None,
        description="For so long nothing more is handed out of the tasks with the same value of the label "
        "that the topic's limits are `per`; on a topic without such limits, nothing of the whole topic. At "
        "most 24h; of several holds the longest counts. Only with a `nonce`.",
        examples=["30s"],
    )


class CommitItem(Commit):
    """One commit of a batch."""

    if TYPE_CHECKING:  # arguments may be of more types than attributes are

        def __init__(
            self,
            *,
            id: str,
            nonce: str = "",
            topic: str = "",
            state: TaskState | int | None = None,
            scheduled: TimeLike | None = None,
            payload: Any = None,
            defer: DurationLike | None = None,
            error: str | None = None,
            result: Any = None,
            hold: DurationLike | None = None,
        ) -> None: ...

    id: Name = Field(
        validation_alias="_id",
        serialization_alias="_id",
        min_length=1,
        description="The task to commit.",
        examples=["1"],
    )


class Commits(WireModel):
    """A batch of commits. Each stands alone: some may succeed while others do not."""

    data: list[CommitItem] = Field(description="The commits, carried out in this order.")


class CommitResult(WireModel):
    """The answer to one commit of a batch."""

    id: Name = Field(
        validation_alias="_id", serialization_alias="_id", description="The task.", examples=["1"]
    )
    status: StrictInt = Field(
        ge=200, le=599, description="The status that the commit alone would have had.", examples=[200]
    )
    task: Task | None = Field(
        default=None,
        description="The task after the commit; only with `status` 200, and left out once the tasks "
        "before it in the answer have come to 16 MiB: read it by its id.",
    )
    error: ErrorDetail | None = Field(default=None, description="What went wrong; only with other statuses.")


class CommitResults(WireModel):
    """The answers to a batch of commits."""

    data: list[CommitResult] = Field(description="One answer for each commit, in the order given.")
