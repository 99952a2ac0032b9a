"""The public models of a topic's limits: how much of it may be claimed.

Programs give them to `Client.set_limits`, and find them in a `Topic`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Self

from pydantic import AfterValidator, Field, StrictBool, StrictInt, WithJsonSchema, model_validator

from ratus.core import labels, turns
from ratus.core.members import MAX_CONCURRENCY, MAX_RATE_COUNT
from ratus.core.members import LabelName as LabelNameType
from ratus.core.models.fields import Period, WireModel

if TYPE_CHECKING:
    from ratus.core.models.fields import DurationLike


def _label_name(name: str) -> str:
    labels.check_name(name)
    return name


LabelName = Annotated[str, AfterValidator(_label_name), WithJsonSchema(LabelNameType().schema())]


class Rate(WireModel):
    """So many claims in a period, evenly spread: the next is allowed `period / count` after the last."""

    if TYPE_CHECKING:  # arguments may be of more types than attributes are

        def __init__(self, *, count: int, period: DurationLike, burst: int = 1) -> None: ...

    count: StrictInt = Field(
        ge=1, le=MAX_RATE_COUNT, description="Claims in a period, retries included.", examples=[100]
    )
    period: Period = Field(description="The period; at most 366 days.", examples=["1m"])
    burst: StrictInt = Field(
        default=1,
        ge=1,
        le=MAX_RATE_COUNT,
        description="How many claims are saved up while none are made, from 1 to `count`. Any period holds "
        "at most `count + burst - 1`.",
        examples=[10],
    )

    @model_validator(mode="after")
    def _burst_is_in_count(self) -> Self:
        turns.check_rate(turns.Rate(self.count, 1, self.burst))
        return self


class PerLabel(WireModel):
    """The limits of each value of a label; a topic that has them hands out in turns by that label."""

    if TYPE_CHECKING:  # arguments may be of more types than attributes are

        def __init__(
            self,
            *,
            label: str,
            concurrency: int | None = None,
            rate: Rate | None = None,
            ordered: bool = False,
        ) -> None: ...

    label: LabelName = Field(
        description="The label. Tasks without it are one value of their own; an array counts by its first "
        "value.",
        examples=["customer"],
    )
    concurrency: StrictInt | None = Field(
        default=None,
        ge=1,
        le=MAX_CONCURRENCY,
        description="So many tasks of each value are active at a time.",
        examples=[2],
    )
    rate: Rate | None = Field(
        default=None,
        description="So many claims of each value in a period.",
        examples=[{"count": 10, "period": "1s"}],
    )
    ordered: StrictBool = Field(
        default=False,
        description="`true`: the tasks of a value one after the other, in order of creation, each once the "
        "one before is completed, archived or deleted. Tasks without the label are not ordered.",
        examples=[True],
    )


class Limits(WireModel):
    """How much of a topic may be claimed. What is left out is not limited."""

    if TYPE_CHECKING:  # arguments may be of more types than attributes are

        def __init__(
            self,
            *,
            concurrency: int | None = None,
            rate: Rate | None = None,
            per: PerLabel | None = None,
        ) -> None: ...

    concurrency: StrictInt | None = Field(
        default=None,
        ge=1,
        le=MAX_CONCURRENCY,
        description="So many tasks of the topic are active at a time.",
        examples=[50],
    )
    rate: Rate | None = Field(
        default=None,
        description="So many claims of the topic in a period.",
        examples=[{"count": 100, "period": "1m", "burst": 1}],
    )
    per: PerLabel | None = Field(
        default=None,
        description="The limits of each value of a label.",
        examples=[{"label": "customer", "concurrency": 2}],
    )
