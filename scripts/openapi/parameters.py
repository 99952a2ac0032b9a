"""The parameters of paths and queries. What also travels in a body is described there, in the models."""

from __future__ import annotations

from typing import Any, Final

from ratus.core.labels import NAME_PATTERN
from ratus.core.members import FILTERS, LabelName
from ratus.core.models import Commit, Extension, Poll, Task, WireModel
from ratus.core.selection import MAX_PREFERRED
from scripts.openapi.schemas import parameter_schema

_PATH: Final[dict[str, dict[str, Any]]] = {
    "topic": {
        "description": "The topic; 1 to 1,024 bytes of UTF-8, percent-encoded. A slash in it travels as "
        "`%2F`, a plus sign is a plus sign. Where an id follows the segment may also be "
        "empty, as in `/v1/topics//tasks/1`: ids are global, so the topic of the path is "
        "not looked at.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 1024},
        "example": "example",
    },
    "name": {
        "description": "The name of the value or schedule; 1 to 900 bytes of UTF-8, percent-encoded. A slash "
        "in it travels as `%2F`, a plus sign is a plus sign.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 900},
        "example": "nightly",
    },
    "id": {
        "description": "The id of the task; 1 to 1,024 bytes of UTF-8, percent-encoded. A slash in it "
        "travels as `%2F`, a plus sign is a plus sign.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 1024},
        "example": "1",
    },
}

_VALUES: Final[dict[str, dict[str, Any]]] = {
    "value_prefix": {
        "name": "prefix",
        "description": "Only values whose names begin so.",
        "schema": {"type": "string"},
    },
    "list_after": {
        "name": "after",
        "description": "The `next` of the page before, unchanged; left out for the first page.",
        "schema": {"type": "string"},
    },
    "value_since": {
        "name": "since",
        "description": "Answer with the value as soon as its revision is larger than this.",
        "schema": {"type": "integer", "minimum": 0, "maximum": 999_999_999_999_999_999},
    },
    "value_wait": {
        "name": "wait",
        "description": "How long to wait for a larger revision than `since`. At most the server's "
        "`--promise-max-wait` (60s).",
    },
    "value_revision": {
        "name": "revision",
        "description": "Only if the value has this revision. As the header `If-Match`.",
        "schema": {"type": "integer", "minimum": 0, "maximum": 999_999_999_999_999_999},
    },
    "value_if_match": {
        "name": "If-Match",
        "in": "header",
        "description": "Only if the value has this revision, in quotes, as in the header `ETag`.",
        "schema": {"type": "string", "pattern": '^"?[0-9]{1,18}"?$'},
    },
}

_PAGES: Final[dict[str, dict[str, Any]]] = {
    "page_limit": {
        "name": "limit",
        "description": "At most so many items; 0 means the default. The bound is the server's "
        "`--pagination-max-limit` (100). A page ends early, after at least one item, at 16 MiB.",
        "schema": {"type": "integer", "minimum": 0, "maximum": 100, "default": 10},
    },
    "page_offset": {
        "name": "offset",
        "description": "Skip so many items. The bound is the server's `--pagination-max-offset` (10000). "
        "Only stable while nothing is deleted.",
        "schema": {"type": "integer", "minimum": 0, "maximum": 10000, "default": 0},
    },
    "page_after": {
        "name": "after",
        "description": "Walk through the list by cursor: empty for the first page, then the `next` of the "
        "page before, unchanged. Never skips or repeats a task that stays. Not together "
        "with an `offset`.",
        "allowEmptyValue": True,
        "schema": {"type": "string"},
    },
    "topic_details": {
        "name": "details",
        "description": "Whether each topic comes with its counts and settings.",
        "schema": {"type": "boolean", "default": False},
    },
    "task_wait": {
        "name": "wait",
        "description": "Answer as soon as the task is completed or archived, and with the task as it is only "
        "after this long. At most the server's `--promise-max-wait` (60s).",
    },
}

_LABEL: Final = {"type": "string", "maxLength": 256}

# OpenAPI has no parameter whose name is a pattern, so these are shown for one name.
_LABELS: Final[dict[str, dict[str, Any]]] = {
    "task_label": {
        "name": "label.customer",
        "description": "Only tasks whose label `customer` has this value; any name may stand in its place. "
        "An empty value is a value. Given several times, with one name or several: tasks that have all.",
        "schema": {"type": "array", "items": _LABEL},
        "example": ["acme"],
    },
    "claim_where": {
        "name": "where.region",
        "description": "Only tasks whose label `region` has this value, or one of these where it is given "
        "several times, at most 16; any name may stand in its place. Beats the member `where` of the body.",
        "schema": {"type": "array", "items": _LABEL, "maxItems": 16},
    },
    "claim_prefer": {
        "name": "prefer",
        "description": "Turns by the values of this label, or of up to three with commas between them. Beats "
        "the member of the body.",
        "schema": {"type": "string", "pattern": f"^{NAME_PATTERN}(?:,{NAME_PATTERN}){{0,2}}$"},
    },
    "lane_label": {
        "name": "label",
        "description": "The label whose values are listed. Default: that of the topic's limits `per` label.",
        "schema": LabelName().schema(),
        "example": "customer",
    },
    "lane_after": {
        "name": "after",
        "description": "The `next` of the page before, unchanged; empty for the first page.",
        "allowEmptyValue": True,
        "schema": {
            "type": "string",
            "pattern": f"^{NAME_PATTERN}(?:,{NAME_PATTERN}){{0,{MAX_PREFERRED - 1}}}$",
        },
    },
}


def _of_model(model: type[WireModel], member: str, description: str = "") -> dict[str, Any]:
    """A query parameter that is a member of a model."""
    schema = parameter_schema(model, member)
    schema.pop("examples", None)
    schema.pop("writeOnly", None)
    text = schema.pop("description")
    if schema.get("default") in ("", 0):
        del schema["default"]
    return {"name": member, "description": description or text, "schema": schema}


def _query() -> dict[str, dict[str, Any]]:
    claims = {f"claim_{name.strip('_')}": _of_model(Poll, name) for name in ("_id", "consumer", "timeout")}
    claims |= {f"claim_{name}": _of_model(Poll, name) for name in ("deadline", "wait", "limit")}
    claims["claim_order"] = _of_model(Poll, "order")
    claims["claim_nonce"] = _of_model(Extension, "nonce")
    for parameter in claims.values():
        parameter["description"] += " Beats the member of the body."
    filters = {
        f"task_{member.name}": _of_model(Task, member.name, f"Only tasks whose `{member.name}` is this.")
        for member in FILTERS
    }
    wait = {"task_wait": {**_PAGES["task_wait"], "schema": claims["claim_wait"]["schema"]}}
    hold = _of_model(Commit, "hold")
    hold["description"] += " With a release as with a commit."
    wait["value_wait"] = {**_VALUES["value_wait"], "schema": claims["claim_wait"]["schema"]}
    return {**_PAGES, **_LABELS, **_VALUES, **wait, **filters, **claims, "claim_hold": hold}


def parameters() -> dict[str, dict[str, Any]]:
    """All parameters of the document by key: `topic` and `id` of paths, the others of queries."""
    paths = {name: {"name": name, "in": "path", "required": True, **text} for name, text in _PATH.items()}
    optional = {"in": "query", "required": False, "allowEmptyValue": True}
    queries = {key: {"name": text["name"], **optional, **text} for key, text in _query().items()}
    for parameter in queries.values():
        if parameter["in"] == "header":  # which is never empty
            del parameter["allowEmptyValue"]
    return {**paths, **queries}


def reference(key: str) -> dict[str, str]:
    """A reference to the parameter with this key."""
    return {"$ref": f"#/components/parameters/{key}"}
