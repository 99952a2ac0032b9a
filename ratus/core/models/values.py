"""The public models of a value: small JSON that clients share under a name.

Members are described here for `openapi.yaml`; the client returns objects of `Value`.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import Field, StrictBool, StrictInt, WithJsonSchema

from ratus.core.models.fields import Duration, Json, Time, WireModel
from ratus.core.values import MAX_VALUE_NAME_BYTES

_REVISION: Final = {"type": "integer", "minimum": 0}

_Since = Annotated[
    Any,
    WithJsonSchema(
        {"oneOf": [{"type": "null"}, _REVISION, {"type": "object", "additionalProperties": _REVISION}]}
    ),
]


class Value(WireModel):
    """Small JSON that clients share under a name: a switch, a cursor, a configuration that workers watch."""

    name: str = Field(
        description="The name of the value.", examples=["feature/dark"], max_length=MAX_VALUE_NAME_BYTES
    )
    value: Json = Field(
        default=None,
        description="Any JSON of up to 64 KiB, `null` included, under the same rules as a payload. Omitted "
        "when the value was deleted.",
        examples=[{"on": True}],
    )
    revision: StrictInt = Field(
        default=0,
        ge=0,
        description="A number that grows with every change of any value, and is never given twice.",
        examples=[1800000000000000],
    )
    updated: Time | None = Field(
        default=None, description="When it was set or deleted.", examples=["2036-01-31T12:00:00Z"]
    )
    deleted: StrictBool = Field(
        default=False,
        description="Whether it was deleted. Those who wait for changes get to know it for the server's "
        "`--retention-period` (72h).",
        examples=[True],
    )


class Values(WireModel):
    """A page of values, or those that have changed."""

    data: list[Value] = Field(
        description="The values: in a list in order of their names, of changes in order of their revisions."
    )
    next: str = Field(
        default="",
        description="Where the next page begins: give it as `after`. Omitted on the last page.",
        examples=["MTIz"],
    )


class ValueInput(WireModel):
    """What a value is to be."""

    value: Json = Field(description="Any JSON of up to 64 KiB, `null` included.", examples=[{"on": True}])
    revision: StrictInt | None = Field(
        default=None,
        ge=0,
        description="Set it only if it has this revision; 0: only if there is none. As the header "
        "`If-Match`. Left out: whatever it is.",
        examples=[0],
    )


class ValueChanges(WireModel):
    """Which values to wait for: those named in `since`, or those whose names begin with `prefix`."""

    since: _Since = Field(
        default=0,
        description="With a `prefix`: the revision beyond which values are waited for. Otherwise an object "
        "of up to 100 names, each with the revision beyond which it is waited for.",
        examples=[{"feature/dark": 1800000000000000}],
    )
    prefix: str | None = Field(
        default=None, description="Wait for all values whose names begin so.", examples=["feature/"]
    )
    wait: Duration | None = Field(
        default=None,
        description="Answer only after this long if nothing changes. At most the server's "
        "`--promise-max-wait` (60s). Left out: answer at once.",
        examples=["20s"],
    )
