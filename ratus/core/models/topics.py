"""The public models of a topic: what `GET /topics` answers with, and the body of `PATCH /topics/{topic}`.

Members are described here for `openapi.yaml`; the client returns objects of `Topic`.
"""

from __future__ import annotations

from pydantic import Field, StrictBool, StrictInt

from ratus.core.models.fields import Time, WireModel


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
