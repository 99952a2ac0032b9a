"""The public models: what they read, what they write, what they refuse."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ratus.core import models
from ratus.core.durations import format_duration
from ratus.core.models import (
    Commit,
    CommitItem,
    CommitResults,
    Deleted,
    Error,
    Poll,
    PollRequest,
    Promise,
    Retry,
    Task,
    Tasks,
    TaskState,
    Topic,
    TopicPatch,
    Updated,
    WireModel,
)

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def test_a_task_is_written_as_on_the_wire() -> None:
    task = Task(id="1", topic="example", payload={"a": [1]}, retry=Retry(max_attempts=5), defer="1m30s")

    assert task.to_wire() == {
        "_id": "1",
        "topic": "example",
        "payload": {"a": [1]},
        "retry": {"max_attempts": 5},
        "defer": "1m30s",
    }


def test_a_task_is_read_as_the_server_writes_it() -> None:
    task = Task.model_validate(
        {
            "_id": "1",
            "topic": "example",
            "state": 3,
            "nonce": "",
            "produced": "2026-01-31T12:00:00Z",
            "scheduled": "2026-01-31T13:00:00.000001+01:00",
            "attempts": 3,
            "error": "deadline exceeded",
            "outcome": "failed",
        }
    )

    assert (task.id, task.topic, task.nonce, task.attempts) == ("1", "example", "", 3)
    assert task.state is TaskState.ARCHIVED
    assert task.produced == NOON
    assert task.scheduled == NOON + timedelta(microseconds=1)
    assert task.scheduled.tzinfo is UTC
    assert (task.consumer, task.payload, task.retry, task.consumed) == ("", None, None, None)


def test_what_was_written_reads_back() -> None:
    task = Task(
        id="1",
        topic="example",
        state=TaskState.ACTIVE,
        nonce="hJ3uTq8bX0aYc1Zk",
        producer="p",
        consumer="c",
        produced=NOON,
        scheduled=NOON,
        consumed=NOON,
        deadline=NOON + timedelta(seconds=0.25),
        committed=NOON,
        payload={"deep": [None, {"": 1.5}]},
        priority=-9,
        attempts=2,
        retry=Retry(max_attempts=0, backoff="linear", delay=1.5, max_delay=timedelta(hours=1), jitter=0),
        error="e",
        result=0,
        outcome="expired",
        expires=NOON,
        ttl="24h",
        defer=-5,
        trace={"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
        labels={"customer": "acme", "region": ["eu", "us"], "order": 42},
    )
    wire = json.loads(json.dumps(task.to_wire()))

    assert set(wire) == {field.serialization_alias or name for name, field in Task.model_fields.items()}
    assert Task.model_validate(wire) == task


@given(JSON)
def test_a_payload_is_kept_as_it_is(payload: Any) -> None:
    wire = json.loads(json.dumps(Task(id="1", payload=payload).to_wire()))
    expected = {"_id": "1"} if payload is None else {"_id": "1", "payload": payload}
    # As text, for 0, False and 0.0 are equal.
    assert json.dumps(wire) == json.dumps(expected)


@pytest.mark.parametrize("payload", ["", 0, False, [], {}])
def test_an_empty_payload_is_not_an_absent_one(payload: Any) -> None:
    assert json.dumps(Commit(payload=payload).to_wire()) == json.dumps({"payload": payload})


@pytest.mark.parametrize(
    ("payload", "part"),
    [
        (float("nan"), "finite"),
        ([float("inf")], "finite"),
        ({1: "a"}, "string"),
        ((1, {2}), "JSON"),
        ({"a": {1}}, "JSON"),
        (b"bytes", "JSON"),
        ([NOON, object()], "JSON"),
    ],
)
def test_what_is_not_json_is_no_payload(payload: object, part: str) -> None:
    with pytest.raises(ValidationError, match=part):
        Task(id="1", payload=payload)


def test_null_means_absent_and_unknown_members_are_ignored() -> None:
    wire = {
        "_id": "1",
        "topic": None,
        "state": None,
        "nonce": None,
        "produced": None,
        "priority": None,
        "new": 1,
    }
    assert Task.model_validate(wire) == Task(id="1")
    assert Commit.model_validate({"state": None, "payload": None}) == Commit()


def test_a_name_in_the_wrong_case_is_unknown() -> None:
    assert Task.model_validate({"Topic": "a", "_ID": "1"}) == Task()


def test_members_have_their_python_names_and_their_names_on_the_wire() -> None:
    make: Any = Task  # type checkers know the Python names only
    assert make(_id="1") == Task(id="1")
    assert Task(id="1") == Task.model_validate({"id": "1"}) == Task.model_validate({"_id": "1"})


@pytest.mark.parametrize(
    ("given", "seconds", "text"),
    [
        ("1h30m", 5400, "1h30m0s"),
        ("-5s", -5, "-5s"),
        ("0", 0, "0s"),
        (90, 90, "1m30s"),
        (0.25, 0.25, "250ms"),
        (timedelta(milliseconds=1500), 1.5, "1.5s"),
    ],
)
def test_durations(given: Any, seconds: float, text: str) -> None:
    task = Task(id="1", defer=given)
    assert task.defer == timedelta(seconds=seconds)
    assert task.to_wire()["defer"] == text


@given(st.timedeltas(timedelta(days=-100_000), timedelta(days=100_000)))
def test_every_duration_is_written_to_the_microsecond(duration: timedelta) -> None:
    expected = format_duration(duration // timedelta(microseconds=1))
    assert Task(id="1", defer=duration).to_wire() == {"_id": "1", "defer": expected}
    assert Task.model_validate({"defer": expected}).defer == duration


@pytest.mark.parametrize("given", ["1d", "10", "", True, [1], float("nan"), float("inf"), 1e300])
def test_what_is_no_duration(given: Any) -> None:
    with pytest.raises(ValidationError):
        Task(id="1", defer=given)


@pytest.mark.parametrize(
    ("model", "member"),
    [(Promise, "timeout"), (Poll, "timeout"), (Task, "ttl")],
)
@pytest.mark.parametrize("given", [0, "-1s", timedelta(microseconds=-1)])
def test_what_must_lie_ahead(model: type[WireModel], member: str, given: object) -> None:
    with pytest.raises(ValidationError, match="more than 0"):
        model.model_validate({member: given})


@pytest.mark.parametrize(
    ("model", "member"), [(Retry, "delay"), (Retry, "max_delay"), (Poll, "wait"), (PollRequest, "wait")]
)
def test_what_must_not_be_negative(model: type[WireModel], member: str) -> None:
    with pytest.raises(ValidationError, match="must not be negative"):
        model.model_validate({"topics": ["a"], member: "-1s"})
    assert model.model_validate({"topics": ["a"], member: 0})


def test_times_may_be_datetimes_of_any_zone() -> None:
    there = datetime(2026, 1, 31, 14, 30, tzinfo=timezone(timedelta(hours=2, minutes=30)))
    assert Task(id="1", scheduled=there).to_wire()["scheduled"] == "2026-01-31T12:00:00Z"


@given(st.datetimes(timezones=st.timezones()).filter(lambda time: 1 < time.year < 9999))
def test_every_aware_time_is_written_as_the_same_instant(time: datetime) -> None:
    # Compared in UTC: within one zone Python compares what the clock on the wall shows.
    instant = time.astimezone(UTC)
    wire = Task(id="1", scheduled=time).to_wire()
    assert Task.model_validate(wire).scheduled == instant


@pytest.mark.parametrize(
    ("given", "part"),
    [
        (datetime(2026, 1, 31, 12), "naive"),  # noqa: DTZ001 - it is naive on purpose
        ("2026-01-31T12:00:00", "RFC 3339"),
        ("2026-01-31", "RFC 3339"),
        (0, "aware datetime"),
        (True, "aware datetime"),
        ("0000-01-01T00:00:00Z", "year 1"),
        (datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1))), "years 1 to 9999"),
    ],
)
def test_what_is_no_time(given: Any, part: str) -> None:
    with pytest.raises(ValidationError, match=part):
        Task(id="1", scheduled=given)


@pytest.mark.parametrize("state", list(TaskState))
def test_states(state: TaskState) -> None:
    assert Commit(state=int(state)).state is state
    assert Commit(state=state).to_wire() == {"state": int(state)}


@pytest.mark.parametrize("state", [-1, 4, "1", True, 1.0, "completed"])
def test_what_is_no_state(state: Any) -> None:
    with pytest.raises(ValidationError, match=r"state|0, 1, 2 or 3"):
        Commit(state=state)


@pytest.mark.parametrize("name", ["a" * 1024, "é" * 512, "/ +%\x00", "\U0001f400"])
def test_names(name: str) -> None:
    assert Task(id=name, topic=name).to_wire() == {"_id": name, "topic": name}


@pytest.mark.parametrize(
    ("name", "part"), [("a" * 1025, "1024"), ("é" * 513, "1026 bytes"), ("\ud800", "surrogate")]
)
def test_what_is_no_name(name: str, part: str) -> None:
    with pytest.raises(ValidationError, match=part):
        Task(id=name)
    with pytest.raises(ValidationError, match=part):
        PollRequest(topics=["a", name])


@pytest.mark.parametrize(
    ("model", "members"),
    [
        (Task, {"priority": 10}),
        (Task, {"priority": -10}),
        (Task, {"priority": 1.0}),
        (Task, {"priority": True}),
        (Task, {"attempts": -1}),
        (Task, {"attempts": "1"}),
        (Task, {"outcome": "lost"}),
        (Task, {"_id": 1}),
        (Task, {"retry": 5}),
        (Retry, {"max_attempts": -1}),
        (Retry, {"backoff": "quadratic"}),
        (Retry, {"jitter": 1.1}),
        (Retry, {"jitter": float("nan")}),
        (Poll, {"limit": 0}),
        (PollRequest, {}),
        (PollRequest, {"topics": []}),
        (PollRequest, {"topics": "a"}),
        (CommitItem, {}),
        (CommitItem, {"_id": ""}),
        (TopicPatch, {"paused": 1}),
        (Tasks, {"data": {"_id": "1"}}),
        (Updated, {"created": 1}),
        (Error, {"error": {"code": 200, "message": "fine"}}),
    ],
)
def test_what_is_out_of_bounds(model: type[WireModel], members: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        model.model_validate(members)


def test_a_server_with_other_bounds_decides_itself() -> None:
    assert Poll.model_validate({"limit": 5000, "wait": "5m"}).to_wire() == {"limit": 5000, "wait": "5m0s"}


def test_defaults_are_left_out_at_every_depth() -> None:
    batch = Tasks(data=[Task(id="1"), Task(id="2", retry=Retry())])
    assert batch.to_wire() == {"data": [{"_id": "1"}, {"_id": "2", "retry": {}}]}
    assert Updated(created=0, updated=0).to_wire() == {"created": 0, "updated": 0}
    assert Deleted(deleted=0).to_wire() == {"deleted": 0}
    assert TopicPatch(paused=False).to_wire() == {"paused": False}
    assert Commit(state=TaskState.PENDING, error="").to_wire() == {"state": 0, "error": ""}


def test_the_answers_of_a_batch_of_commits() -> None:
    answer = {
        "data": [
            {"_id": "1", "status": 200, "task": {"_id": "1", "topic": "example", "state": 2, "nonce": ""}},
            {"_id": "2", "status": 409, "error": {"code": 409, "message": "conflict"}},
        ]
    }
    first, second = CommitResults.model_validate(answer).data

    assert first.task is not None
    assert first.task.state is TaskState.COMPLETED
    assert (first.error, second.task) == (None, None)
    assert second.error is not None
    assert second.error.message == "conflict"


def test_what_is_known_of_a_topic() -> None:
    status = {
        "name": "example",
        "count": 10,
        "states": {"pending": 2, "active": 1, "completed": 7, "archived": 0},
        "due": 2,
        "oldest": "2026-01-31T12:00:00Z",
        "paused": False,
    }
    topic = Topic.model_validate(status)

    assert topic.states is not None
    assert (topic.states.pending, topic.states.archived, topic.oldest) == (2, 0, NOON)
    assert Topic.model_validate({"name": "example"}).count is None


MODELS = [model for name in models.__all__ if isinstance(model := getattr(models, name), type)]

# Members that are models themselves, or lists of them, have no example: their own members do.
NESTED = {"data", "error", "task", "states"}


@pytest.mark.parametrize("model", [model for model in MODELS if issubclass(model, WireModel)])
def test_every_member_is_described_and_accepts_its_examples(model: type[WireModel]) -> None:
    examples = {
        field.serialization_alias or name: field.examples or [] for name, field in model.model_fields.items()
    }
    complete = {name: found[0] for name, found in examples.items() if found}
    if "data" in examples:
        complete["data"] = []
    if model is Error:
        complete["error"] = {"code": 404, "message": "not found"}

    for name, field in model.model_fields.items():
        assert field.description, f"{name} has no description"
        assert field.examples or name in NESTED, f"{name} has no example"
    for name, found in examples.items():
        for example in found:
            model.model_validate(complete | {name: example})


def test_the_models_are_exported() -> None:
    assert sorted(models.__all__) == sorted(set(models.__all__))
    for name in models.__all__:
        assert hasattr(models, name)
