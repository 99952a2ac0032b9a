"""Values: small JSON that clients share under a name."""

from __future__ import annotations

from typing import Any, Final

from scripts.openapi.operations.operation import Answer, Body, Operation

TAG: Final = {
    "name": "values",
    "description": "Small JSON that clients share under a name, and wait for: a switch, a cursor, a "
    "configuration that workers watch. Not a database.",
}

_VALUE: Final[dict[str, Any]] = {
    "name": "feature/dark",
    "value": {"on": True},
    "revision": 1800000000000000,
    "updated": "2027-01-15T08:00:00Z",
}

_DELETED: Final = {
    "name": "feature/dark",
    "deleted": True,
    "revision": 1800000000000001,
    "updated": "2027-01-15T08:00:00Z",
}

_CONDITION: Final = "The value has another revision than the one given. Nothing was changed."

OPERATIONS: Final = {
    "list_values": Operation(
        tag="values",
        summary="List values",
        description="The values whose names begin with a prefix, by default all, in order of their names.",
        query=("value_prefix", "page_limit", "list_after"),
        answers={200: Answer("A page of values.", ("Values",), {"one": {"data": [_VALUE]}})},
    ),
    "get_value": Operation(
        tag="values",
        summary="Read a value",
        description="With `since`, the answer comes as soon as the value has a larger revision, and only "
        "then says that it was deleted; when the `wait` ends, it is the value as it is. The header `ETag` "
        "has the revision.",
        query=("value_since", "value_wait"),
        answers={200: Answer("The value.", ("Value",), {"set": _VALUE, "deleted": _DELETED})},
        errors={404: "There is no such value."},
    ),
    "set_value": Operation(
        tag="values",
        summary="Set a value",
        description="Set a value to any JSON of up to 64 KiB. With a `revision`, or with the header "
        "`If-Match`, only if it has this revision; 0: only if there is none. Revisions grow with every "
        "change of any value and are never given twice, also not after a deletion.",
        query=("value_if_match",),
        body=Body(
            "ValueInput",
            "The value, and the revision that it must have.",
            {"set": {"value": {"on": True}}, "new": {"value": 1, "revision": 0}},
            nullable=False,
        ),
        answers={200: Answer("The value as it is now.", ("Value",), {"set": _VALUE})},
        errors={409: _CONDITION},
    ),
    "delete_value": Operation(
        tag="values",
        summary="Delete a value",
        description="Those who wait for its changes get to know that it was deleted, for the server's "
        "`--retention-period` (72h).",
        query=("value_revision", "value_if_match"),
        answers={200: Answer("How many values were deleted.", ("Deleted",), {"one": {"deleted": 1}})},
        errors={409: _CONDITION},
    ),
    "wait_for_values": Operation(
        tag="values",
        summary="Wait for values to change",
        description="All values that are beyond the given revisions, in order of their revisions, as soon "
        "as there are some; an empty list when the `wait` ends. Of several changes of one value, those in "
        "between may be skipped, the last never is.",
        body=Body(
            "ValueChanges",
            "Which values, beyond which revisions, and how long to wait.",
            {
                "names": {"since": {"feature/dark": 1800000000000000, "cursor": 0}, "wait": "20s"},
                "prefix": {"prefix": "feature/", "since": 1800000000000000, "wait": "20s"},
            },
            nullable=False,
        ),
        answers={200: Answer("What has changed.", ("Values",), {"changed": {"data": [_VALUE, _DELETED]}})},
    ),
}
