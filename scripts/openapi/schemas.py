"""The schemas of the document, made from the public models.

A model says what travels; a request and an answer differ in what may be missing. So a model that travels both
ways has two schemas: `Task` is what the server answers, `TaskInput` is what it reads.

- In a request every member may be `null`, which means absent, and nearly all may be left out.
- In an answer no member is `null`, some are always there, and what only travels towards the server is not.
"""

from __future__ import annotations

import copy
from typing import Any, Final

from ratus.core.models import (
    Commit,
    CommitItem,
    CommitResult,
    CommitResults,
    Deleted,
    Error,
    ErrorDetail,
    Extension,
    Lane,
    Lanes,
    LastTask,
    Limits,
    Made,
    PerLabel,
    Poll,
    PollRequest,
    Preview,
    Promise,
    Promises,
    Rate,
    Retry,
    Schedule,
    ScheduledTask,
    Schedules,
    Task,
    Tasks,
    Topic,
    TopicPatch,
    Topics,
    TopicStates,
    Updated,
    Value,
    ValueChanges,
    ValueInput,
    Values,
    WireModel,
)

Schema = dict[str, Any]

# Schemas of the answers, with the members that are always there beside those that the model requires.
_ANSWERS: Final[dict[type[WireModel], tuple[str, ...]]] = {
    Task: ("_id", "topic", "state", "nonce", "produced", "scheduled"),
    Tasks: (),
    Retry: (),
    Promise: ("_id",),
    Promises: (),
    CommitResult: (),
    CommitResults: (),
    Rate: (),
    PerLabel: (),
    Limits: (),
    Lane: ("active", "pending"),
    Lanes: (),
    Topic: (),
    TopicStates: ("pending", "active", "completed", "archived"),
    Topics: (),
    Updated: (),
    Deleted: (),
    Schedule: ("name", "topic"),
    ScheduledTask: (),
    LastTask: (),
    Schedules: (),
    Preview: (),
    Made: (),
    Value: ("revision", "updated"),
    Values: (),
    ErrorDetail: (),
    Error: (),
}

# Schemas of the requests and their names.
_REQUESTS: Final[dict[type[WireModel], str]] = {
    Task: "TaskInput",
    Retry: "RetryInput",
    Promise: "PromiseInput",
    Poll: "Poll",
    PollRequest: "PollRequest",
    Extension: "Extension",
    Commit: "Commit",
    CommitItem: "CommitItem",
    TopicPatch: "TopicPatch",
    Rate: "RateInput",
    PerLabel: "PerLabelInput",
    Limits: "LimitsInput",
    Schedule: "ScheduleInput",
    ScheduledTask: "ScheduledTaskInput",
    ValueInput: "ValueInput",
    ValueChanges: "ValueChanges",
}

# Models whose unknown members are refused.
_STRICT: Final = (TopicPatch, Rate, PerLabel, Limits, Schedule, ScheduledTask, ValueInput, ValueChanges)

# What a reader looks for first stands first.
_ORDER: Final = ("description", "$ref", "anyOf", "allOf", "type", "format", "pattern", "enum", "required")

_PREFIX: Final = "#/components/schemas/"


def reference(name: str) -> Schema:
    """A reference to the schema called `name`."""
    return {"$ref": _PREFIX + name}


def schemas() -> dict[str, Schema]:
    """All schemas of the document by name, in order of their names."""
    found: dict[str, Schema] = {"TaskState": _task_state(), **_batches()}
    for model, always in _ANSWERS.items():
        found[model.__name__] = _answer_schema(model, always)
    for model, name in _REQUESTS.items():
        found[name] = _request_schema(model)
    return dict(sorted(found.items()))


def parameter_schema(model: type[WireModel], member: str) -> Schema:
    """The schema and the description of a member where it travels in the query instead of the body."""
    return _ordered(_without_null(_members(model)[member]))


def _answer_schema(model: type[WireModel], always: tuple[str, ...]) -> Schema:
    members = {}
    required = set(always)
    for name, member in _members(model).items():
        member.pop("readOnly", None)
        if member.pop("writeOnly", False):
            continue
        if "default" not in member:
            required.add(name)
        member.pop("default", None)
        members[name] = _ordered(_without_null(member))
        if name in always and "maxLength" in member:
            members[name]["minLength"] = 1
    return _object(model, members, [name for name in members if name in required])


def _request_schema(model: type[WireModel]) -> Schema:
    members = {}
    required = []
    for name, member in _members(model).items():
        member.pop("writeOnly", None)
        if member.pop("readOnly", False):
            continue
        if "default" not in member:
            required.append(name)
            members[name] = _ordered(_renamed(member))
            continue
        member = _renamed(_empty_is_absent(_without_null(member)))
        if member.get("default") == "":
            del member["default"]
        members[name] = _ordered(_with_null(member))
    schema = _object(model, members, required)
    return {**schema, "additionalProperties": False} if model in _STRICT else schema


def _batches() -> dict[str, Schema]:
    """The batches. A task in one is as it is alone, but with its id, for which there is no path."""
    item = {
        "description": "A task of a batch: as alone, but its id is required.",
        "allOf": [
            reference("TaskInput"),
            {
                "type": "object",
                "required": ["_id"],
                "properties": {"_id": {"type": "string", "minLength": 1}},
            },
        ],
    }
    return {
        "TaskItem": item,
        "TasksInput": _batch("TaskItem", "A batch of tasks. It is written as a whole or not at all."),
        "Commits": _batch("CommitItem", "A batch of commits. Each stands alone: some may fail."),
    }


def _batch(item: str, description: str) -> Schema:
    data = {
        "description": "The items, at most the server's `--max-batch-size` (10,000). Left out: none.",
        "type": ["array", "null"],
        "items": reference(item),
        "maxItems": 10_000,
    }
    return {"description": description, "type": "object", "properties": {"data": data}}


def _task_state() -> Schema:
    schema = copy.deepcopy(Task.model_json_schema()["$defs"]["TaskState"])
    del schema["title"]
    return {**schema, "x-enum-varnames": ["pending", "active", "completed", "archived"]}


def _members(model: type[WireModel]) -> dict[str, Schema]:
    """The members of a model as pydantic describes them, without the titles it makes up."""
    schema = model.model_json_schema(by_alias=True, ref_template=_PREFIX + "{model}")
    members: dict[str, Schema] = copy.deepcopy(schema["properties"])
    for member in members.values():
        member.pop("title", None)
    return members


def _object(model: type[WireModel], members: dict[str, Schema], required: list[str]) -> Schema:
    schema: Schema = {"description": " ".join((model.__doc__ or "").split()), "type": "object"}
    if required:
        schema["required"] = required
    return {**schema, "properties": members}


def _without_null(member: Schema) -> Schema:
    """`member` as it is when it is there: the alternative `null` and a default of `null` taken away."""
    if "anyOf" not in member:
        return member
    kinds = [alternative for alternative in member["anyOf"] if alternative != {"type": "null"}]
    rest = {key: value for key, value in member.items() if key != "anyOf"}
    if rest.get("default", 0) is None:
        del rest["default"]
    return {**(kinds[0] if len(kinds) == 1 else {"anyOf": kinds}), **rest}


def _with_null(member: Schema) -> Schema:
    """`member` with `null` as an alternative, and its own members likewise. A schema that allows anything
    allows `null` already."""
    if "properties" in member:
        inner = {name: _ordered(_with_null(each)) for name, each in member["properties"].items()}
        member = {**member, "properties": inner}
    if "anyOf" in member:
        return {**member, "anyOf": [*member["anyOf"], {"type": "null"}]}
    if member.get("type") == "null":
        return member
    if "enum" in member:
        return {**member, "type": [member["type"], "null"], "enum": [*member["enum"], None]}
    if "type" in member:
        return {**member, "type": [member["type"], "null"]}
    if "$ref" in member:
        rest = {key: value for key, value in member.items() if key != "$ref"}
        return {"anyOf": [{"$ref": member["$ref"]}, {"type": "null"}], **rest}
    return member


def _empty_is_absent(member: Schema) -> Schema:
    """`member`, where it is a duration with a pattern, with the empty text, which counts as absent."""
    return {**member, "pattern": f"^$|{member['pattern']}"} if "pattern" in member else member


def _renamed(member: Schema) -> Schema:
    """`member` with its references to models turned to the schemas of requests."""
    names = {_PREFIX + model.__name__: _PREFIX + name for model, name in _REQUESTS.items()}
    if member.get("$ref") in names:
        return {**member, "$ref": names[member["$ref"]]}
    if "items" in member:
        return {**member, "items": _renamed(member["items"])}
    return member


def _ordered(member: Schema) -> Schema:
    first = {key: member[key] for key in _ORDER if key in member}
    return first | member
