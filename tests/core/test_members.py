"""Records and public models are typed by hand; here they are held to the table of members."""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from collections.abc import Iterable
from typing import Any, get_type_hints

import msgspec
import pytest

from ratus.calls.claims import Claimed
from ratus.core import models
from ratus.core.members import (
    COMMIT,
    FILTERS,
    KEPT,
    LANE,
    LIMITS,
    PER,
    PROMISE,
    RARE,
    RATE,
    RETRY,
    TASK,
    TOPIC,
    Duration,
    Member,
    State,
    Stored,
)
from ratus.core.records import (
    CommitRecord,
    LaneInfo,
    Rare,
    RareMember,
    RetryPolicy,
    TaskQuery,
    TaskRecord,
    TopicInfo,
)
from ratus.core.turns import Limits, PerLabel, Rate

TABLES = {
    "task": TASK,
    "commit": COMMIT,
    "promise": PROMISE,
    "topic": TOPIC,
    "retry": RETRY,
    "limits": LIMITS,
    "per": PER,
    "rate": RATE,
    "lane": LANE,
}

HELD = {
    Stored.TEXT: str,
    Stored.INTEGER: int,
    Stored.BOOLEAN: bool,
    Stored.TIME: int,
    Stored.JSON: bytes,
    Stored.OBJECT: RetryPolicy,
}

CHOICE = ("order", "where", "prefer")

# What a request may say: all of it, or what has its place at some paths only.
GIVEN: dict[type[models.WireModel], tuple[tuple[Member, ...], set[str]]] = {
    models.Retry: (RETRY, set()),
    models.Task: (TASK, set()),
    models.Commit: (COMMIT, {"id"}),
    models.CommitItem: (COMMIT, set()),
    models.Promise: (PROMISE, {"wait", "limit", "topics", "nonce", *CHOICE}),
    models.Poll: (PROMISE, {"topics", "nonce"}),
    models.PollRequest: (PROMISE, {"id", "nonce"}),
    models.Extension: (PROMISE, {"id", "consumer", "wait", "limit", "topics", *CHOICE}),
    models.TopicPatch: (TOPIC, {"name", "count", "states", "due", "oldest"}),
    models.Rate: (RATE, set()),
    models.PerLabel: (PER, set()),
    models.Limits: (LIMITS, set()),
}

# Members of a request that are done and not kept.
DONE: dict[type[models.WireModel], set[str]] = {models.TopicPatch: {"hold"}}

SHOWN: dict[type[models.WireModel], tuple[Member, ...]] = {
    models.Task: TASK,
    models.Promise: PROMISE,
    models.Topic: TOPIC,
    models.Lane: LANE,
}


def defaults_of(record: type[msgspec.Struct]) -> dict[str, Any]:
    """Members of a record with their defaults; those without one, with ``None``."""
    return {
        field.name: None if field.default is msgspec.NODEFAULT else field.default
        for field in msgspec.structs.fields(record)
    }


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_a_member_stands_once_in_a_table(table: tuple[Member, ...]) -> None:
    assert len({member.name for member in table}) == len({member.wire for member in table}) == len(table)


def test_a_task_is_kept_with_the_members_of_the_table() -> None:
    required = {"id": None, "topic": None}
    kept = {name: member.default for name, member in KEPT.items()} | {"rare": None}
    assert defaults_of(TaskRecord) == kept | required


def test_rare_members_are_kept_apart() -> None:
    assert defaults_of(Rare) == dict.fromkeys(RARE)
    assert all(isinstance(inspect.getattr_static(TaskRecord, name), RareMember) for name in RARE)
    # Memory is given out in units of 16 bytes: the pointer to them fits into what a task took before.
    assert sys.getsizeof(TaskRecord("1", "t", 0, 0)) <= 192


def test_a_commit_is_kept_with_the_members_of_the_table() -> None:
    kept = {member.name: member.default for member in COMMIT if member.kept}
    assert defaults_of(CommitRecord) == kept | {"id": None}


def test_a_retry_policy_is_kept_with_the_members_of_the_table() -> None:
    assert defaults_of(RetryPolicy) == {member.name: None for member in RETRY}


@pytest.mark.parametrize(
    ("record", "table"), [(TaskRecord, KEPT.values()), (Rare, RARE.values()), (CommitRecord, COMMIT)]
)
def test_values_are_kept_as_their_types_say(record: type[msgspec.Struct], table: Iterable[Member]) -> None:
    hints = get_type_hints(record)
    for member in table:
        if member.kept:
            assert member.type.stored is not None, member.name
            held = HELD[member.type.stored]
            required = member.name in ("produced", "scheduled") and record is TaskRecord
            kind: Any = held | None if member.default is None and not required else held
            assert hints[member.name] == kind, member.name


def test_what_is_known_of_a_topic_has_the_members_of_the_table() -> None:
    others = {"states": "counts"}
    # `closed` has both members of answers, and how many lanes there are is for metrics only.
    known = {others.get(member.name, member.name) for member in TOPIC} - {"count", "reopens"} | {"lanes"}
    assert set(TopicInfo.__struct_fields__) == known


def test_what_is_known_of_a_lane_has_the_members_of_the_table() -> None:
    assert set(LaneInfo.__struct_fields__) == {member.name for member in LANE} - {"reopens"}


@pytest.mark.parametrize(("record", "table"), [(Rate, RATE), (PerLabel, PER), (Limits, LIMITS)])
def test_limits_are_kept_with_the_members_of_the_table(
    record: type[msgspec.Struct], table: tuple[Member, ...]
) -> None:
    assert defaults_of(record) == {member.name: member.default for member in table}


def test_lists_are_narrowed_by_the_filters_of_the_table() -> None:
    names = {member.name for member in FILTERS}
    assert set(TaskQuery.__struct_fields__) == {"topic", "limit", "offset", "after", "labels"} | names
    for member in FILTERS:
        value: Any = 2 if isinstance(member.type, State) else "wanted"
        task = TaskRecord("1", "t", 0, 0)
        query = TaskQuery("t", 1, **{member.name: value})
        assert not query.matches(task), member.name
        setattr(task, member.name, value)
        assert query.matches(task), member.name


@pytest.mark.parametrize("model", GIVEN, ids=lambda model: model.__name__)
def test_a_model_has_the_members_of_the_table(model: type[models.WireModel]) -> None:
    table, absent = GIVEN[model]
    wanted = {
        member.name: member.wire
        for member in table
        if (member.given or (member.shown and model in SHOWN)) and member.name not in absent
    }
    found = {name: field.serialization_alias or name for name, field in model.model_fields.items()}
    assert found == wanted | {name: name for name in DONE.get(model, ())}
    if "__init__" in inspect.getsource(model):
        assert arguments_of(model) == set(wanted)


def arguments_of(model: type[models.WireModel]) -> set[str]:
    """The arguments of the ``__init__`` that type checkers see."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(model)))
    (init,) = (
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "__init__"
    )
    return {argument.arg for argument in init.args.kwonlyargs}


def test_a_topic_has_the_members_of_the_table() -> None:
    assert set(models.Topic.model_fields) == {member.name for member in TOPIC}


@pytest.mark.parametrize("model", [*GIVEN, models.Topic], ids=lambda model: model.__name__)
def test_a_model_describes_members_as_their_types_do(model: type[models.WireModel]) -> None:
    table = GIVEN[model][0] if model in GIVEN else TOPIC
    described = model.model_json_schema(by_alias=True)["properties"]
    for member in table:
        if member.wire in described and member.name != "states":
            assert plain(described[member.wire]) == member.type.schema(), member.name


def plain(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema without what is said about it, and without what depends on where it is."""
    alternatives = [each for each in schema.get("anyOf", ()) if each != {"type": "null"}]
    schema = {name: value for name, value in schema.items() if name != "anyOf"}
    if len(alternatives) == 1:
        schema = {**alternatives[0], **schema}
    elif alternatives:
        schema = {**schema, "anyOf": alternatives}
    said = ("title", "description", "examples", "default", "writeOnly")
    bare = {name: value for name, value in schema.items() if name not in said}
    if bare.get("format") == "go-duration":
        del bare["pattern"]
    if member_is_bounded_by_settings(bare):
        del bare["maximum"]
    if bare.get("minLength") == 1:  # where it has to be given
        del bare["minLength"]
    return bare


def member_is_bounded_by_settings(schema: dict[str, Any]) -> bool:
    return schema.get("minimum") == 1 and schema.get("maximum") == 1_000


@pytest.mark.parametrize("model", SHOWN, ids=lambda model: model.__name__)
def test_what_only_travels_towards_the_server_is_marked(model: type[models.WireModel]) -> None:
    described = model.model_json_schema(by_alias=True)["properties"]
    for member in SHOWN[model]:
        if member.wire in described:
            assert described[member.wire].get("writeOnly", False) == (not member.shown), member.name


def test_durations_are_as_long_as_their_types_allow() -> None:
    tables = (
        (RETRY, models.Retry),
        (TASK, models.Task),
        (PROMISE, models.Poll),
        (COMMIT, models.Commit),
        (RATE, models.Rate),
    )
    for table, model in tables:
        for member in table:
            if isinstance(member.type, Duration):
                most = member.type.most
                for microseconds in (-1, 0, 1, most or 1, (most or 0) + 1):
                    allowed = (member.type.least is None or microseconds >= member.type.least) and (
                        most is None or microseconds <= most
                    )
                    assert accepts(model, member.name, f"{microseconds}us") == allowed, member.name


def accepts(model: type[models.WireModel], name: str, value: object) -> bool:
    others = {"count": 1} if model is models.Rate else {}
    try:
        model.model_validate(others | {name: value})
    except ValueError:
        return False
    return True


def test_a_claimed_task_has_the_members_of_answers() -> None:
    fields = {field.name: field.encode_name for field in msgspec.structs.fields(Claimed)}
    assert fields == {member.name: member.wire for member in TASK if member.shown}
