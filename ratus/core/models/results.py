"""The bodies of answers that hold no task, claim or topic: numbers of tasks written or deleted, errors.

Members are described here for `openapi.yaml`; the client returns objects of `Updated`.
"""

from __future__ import annotations

from pydantic import Field, StrictInt

from ratus.core.models.fields import WireModel


class Updated(WireModel):
    """How many tasks were written."""

    created: StrictInt = Field(ge=0, description="Tasks that are new.", examples=[1])
    updated: StrictInt = Field(ge=0, description="Tasks that were replaced.", examples=[0])


class Deleted(WireModel):
    """How much was deleted or released."""

    deleted: StrictInt = Field(ge=0, description="Tasks deleted, or claims released.", examples=[1])


class ErrorDetail(WireModel):
    """What went wrong."""

    code: StrictInt = Field(ge=400, le=599, description="The HTTP status.", examples=[404])
    message: str = Field(
        description="The kind of error, then what was wrong and what to do.", examples=["not found"]
    )


class Error(WireModel):
    """The body of every answer that is not a success."""

    error: ErrorDetail = Field(description="The kind of error, and what was wrong.")
