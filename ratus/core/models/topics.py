"""The public models of a topic: what `GET /topics` answers with, and the body of `PATCH /topics/{topic}`.

Members are described here for `openapi.yaml`; the client returns objects of `Topic` and `Lane`.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, StrictBool, StrictInt

from ratus.core.models.fields import Time, WireModel
from ratus.core.models.limits import Limits

TopicReason = Literal["paused", "concurrency", "rate", "hold", "building"]
LaneReason = Literal["concurrency", "ordered", "rate", "hold"]


class TopicStates(WireModel):
    """How many tasks of a topic are in each state."""

    pending: StrictInt = Field(default=0, ge=0, description="Waiting to be claimed.", examples=[2])
    active: StrictInt = Field(default=0, ge=0, description="Claimed.", examples=[1])
    completed: StrictInt = Field(
        default=0, ge=0, description="Done, and kept for the retention period.", examples=[7]
    )
    archived: StrictInt = Field(default=0, ge=0, description="Set aside; kept until deleted.", examples=[0])


class Topic(WireModel):
    """A queue of tasks. It exists while it has tasks or a setting that is not the default."""

    name: str = Field(description="The name of the topic.", examples=["example"])
    count: StrictInt | None = Field(
        default=None,
        ge=0,
        description="How many tasks it has in all states. Omitted in lists without `details`.",
        examples=[10],
    )
    states: TopicStates | None = Field(
        default=None, description="How many tasks it has in each state. Omitted in lists without `details`."
    )
    due: StrictInt | None = Field(
        default=None,
        ge=0,
        description="How many tasks could be claimed now. Omitted in lists without `details`.",
        examples=[2],
    )
    oldest: Time | None = Field(
        default=None,
        description="The earliest `scheduled` of the tasks that are due; omitted when none is.",
        examples=["2036-01-31T12:00:00Z"],
    )
    paused: StrictBool = Field(
        default=False,
        description="Whether it is paused: it then hands out nothing and accepts inserts and commits. "
        "Omitted in lists without `details`, and while `false`.",
        examples=[True],
    )
    limits: Limits | None = Field(
        default=None,
        description="How much of it may be claimed. Omitted in lists and without limits.",
        examples=[{"concurrency": 50}],
    )
    closed: TopicReason | None = Field(
        default=None,
        description="Why it hands out nothing, as a whole: it is `paused`, its `concurrency` or its `rate` "
        "is used up, a consumer has put it on `hold`, or it is `building` what new limits need. Omitted in "
        "lists and while it is open.",
        examples=["rate"],
    )
    reopens: Time | None = Field(
        default=None,
        description="When it opens again, where that is known.",
        examples=["2036-01-31T12:00:00.6Z"],
    )


class Topics(WireModel):
    """A page of the topics."""

    data: list[Topic] = Field(description="The topics, in a fixed order.")


class TopicPatch(WireModel):
    """A change of a topic's settings. What is left out stays as it is."""

    paused: StrictBool | None = Field(
        default=None,
        description="`true`: hand out no tasks until it is set to `false`.",
        examples=[True],
    )
    limits: Limits | None = Field(
        default=None,
        description="The new limits, which replace the old ones as a whole; `null` or `{}` takes them away.",
        examples=[{"concurrency": 50, "per": {"label": "customer", "concurrency": 2}}],
    )
    hold: None = Field(
        default=None,
        description="`null` ends all holds of the topic and of the values of its labels. It can be nothing "
        "else.",
        examples=[None],
    )


class Lane(WireModel):
    """The tasks of a topic that have the same first value of a label."""

    value: str | None = Field(
        default=None,
        description="The value, an integer as its decimal text; omitted for the tasks without the label.",
        examples=["acme"],
    )
    active: StrictInt = Field(default=0, ge=0, description="How many are claimed.", examples=[2])
    pending: StrictInt = Field(default=0, ge=0, description="How many are pending.", examples=[10])
    closed: LaneReason | None = Field(
        default=None,
        description="Why none of them is handed out: its `concurrency` or its `rate` is used up, a consumer "
        "has put it on `hold`, or they are `ordered` and the first is active or not due. Omitted while it is "
        "open.",
        examples=["concurrency"],
    )
    reopens: Time | None = Field(
        default=None,
        description="When it opens again, where that is known.",
        examples=["2036-01-31T12:00:00.6Z"],
    )


class Lanes(WireModel):
    """A page of the lanes of a topic."""

    data: list[Lane] = Field(
        description="The lanes by value, in order of their code points; at last that without the label."
    )
    next: str = Field(
        default="",
        description="The cursor of the next page, for the query parameter `after`; omitted on the last page.",
        examples=["eyJpZCI6IjEifQ"],
    )
