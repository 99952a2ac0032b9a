"""Payloads as BSON and changes as updates; on mongomock, which knows no asynchronous client."""

from __future__ import annotations

import json
from typing import Any

import bson
import mongomock
import pytest
from bson.datetime_ms import DatetimeMS
from bson.raw_bson import RawBSONDocument
from hypothesis import given
from hypothesis import strategies as st
from ratus_engines.mongodb import documents
from ratus_engines.mongodb.payloads import to_bson, to_json

from ratus.core import transitions
from ratus.core.errors import BadRequest, PayloadTooLarge
from ratus.core.records import RetryPolicy, TaskRecord
from ratus.engine.testkit.harness import MILLISECOND, TIMES, members, value
from ratus.testing import START

INTEGERS = st.integers(-(2**63), 2**63 - 1)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
# Names that BSON or the driver has trouble with.
NAMES = TEXTS | st.sampled_from(
    ["", "$ref", "$id", "$db", "a.b", "\0", "a\0", "\ue000", "\ue0000", "\ue0002", "\ue000\0"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | INTEGERS | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.lists(st.tuples(NAMES, inner), max_size=4).map(tuple),
    max_leaves=12,
)


def written(found: Any) -> str:
    """A value as JSON; a tuple is an object, in which a name may stand twice."""
    if isinstance(found, tuple):
        return "{" + ", ".join(f"{json.dumps(name)}: {written(inner)}" for name, inner in found) + "}"
    if isinstance(found, list):
        return "[" + ", ".join(map(written, found)) + "]"
    return json.dumps(found)


def through_bson(data: bytes) -> bytes:
    return to_json(
        RawBSONDocument(bson.encode({"payload": to_bson(data, "payload")}), documents.RAW)["payload"]
    )


@given(VALUES)
def test_every_value_comes_back_as_it_was(found: Any) -> None:
    data = written(found).encode()
    assert value(through_bson(data)) == value(data)


@given(VALUES)
def test_names_in_unescaped_unicode_too(found: Any) -> None:
    data = json.dumps(json.loads(written(found)), ensure_ascii=False).encode()
    assert value(through_bson(data)) == value(data)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("9223372036854775808", "payload"),
        ("-9223372036854775809", "payload"),
        ('{"a": [0, {"b": 18446744073709551616}]}', "payload.a.1.b"),
        ("[" + "9" * 4300 + "]", "payload.0"),
    ],
)
def test_longer_integers_are_refused_by_name(text: str, place: str) -> None:
    with pytest.raises(BadRequest, match=f'"{place}".* 64 bits'):
        to_bson(text.encode(), "payload")


@pytest.mark.parametrize(
    "text", ['"9223372036854775808"', "9223372036854775808.0", "1e19", "0.1234567890123456789"]
)
def test_long_digits_that_are_no_integer_are_none(text: str) -> None:
    assert value(through_bson(text.encode())) == value(text.encode())


def test_a_task_that_cannot_be_stored_is_named() -> None:
    with pytest.raises(BadRequest, match='task "1": "result"'):
        documents.encoded(TaskRecord("1", "t", START, START, result=b"9223372036854775808"))
    long = b'"' + b"x" * (17 * 1024 * 1024) + b'"'
    with pytest.raises(PayloadTooLarge, match='task "1"'):
        documents.encoded(TaskRecord("1", "t", START, START, payload=long))


@pytest.mark.parametrize("time", [START, START + 999, START - 1, -1, 0, -999])
def test_times_are_cut_never_rounded_up(time: int) -> None:
    times: dict[str, Any] = dict.fromkeys(TIMES, time)
    task = TaskRecord("1", "t", **times)
    found = documents.record(RawBSONDocument(documents.encoded(task).raw, documents.RAW))
    for name in TIMES:
        assert 0 <= time - getattr(found, name) < MILLISECOND


# ---- filters and updates on mongomock ----------------------------------------------------------------------


@pytest.fixture
def collection() -> Any:
    """A collection of mongomock: enough to try a filter and an update on."""
    return mongomock.MongoClient().db.tasks


def put(collection: Any, task: TaskRecord) -> None:
    collection.insert_one(json_safe(documents.document(task)))


def json_safe(found: Any) -> Any:
    """The driver's own dates are unknown to mongomock."""
    if isinstance(found, dict):
        return {name: json_safe(inner) for name, inner in found.items()}
    if isinstance(found, list):
        return [json_safe(inner) for inner in found]
    return found.as_datetime() if hasattr(found, "as_datetime") else found


class Moment:
    """A date of mongomock, read as the driver's."""

    def __init__(self, date: Any) -> None:
        self._date = date

    def __int__(self) -> int:
        return int(DatetimeMS(self._date))


def got(collection: Any) -> TaskRecord:
    found = collection.find_one({"_id": "1"})
    return documents.record(
        {name: Moment(inner) if hasattr(inner, "year") else inner for name, inner in found.items()}
    )


TASKS = [
    TaskRecord("1", "t", START, START),
    TaskRecord("1", "t", START, START, expires=START + 1_000),
    TaskRecord("1", "t", START, START, state=1, nonce="N" * 16, consumer="c", deadline=START, attempts=1),
    TaskRecord("1", "t", START, START, state=1, nonce="N" * 16, attempts=3, error="boom", implied=True),
    TaskRecord("1", "t", START, START, state=3, outcome="failed", attempts=2, retry=RetryPolicy(delay=0)),
]
CHANGES = [
    transitions.claim(consumer="", nonce="M" * 16, deadline=START, now=START),
    transitions.claim(consumer="", nonce="M" * 16, deadline=START, now=START + 1_000),
    transitions.claim(consumer="$me", nonce="M" * 16, deadline=START, now=START),
    transitions.extend(nonce="N" * 16, deadline=START),
    transitions.Change(transitions.lapsed(START - 1_000), {"state": 0}),
    transitions.Change(transitions.lapsed(START), {"state": 0}),
    transitions.Change({"state": 3, "attempts": 2}, {"state": 0, "attempts": 0, "error": "", "outcome": ""}),
    transitions.Change({"attempts": 0, "nonce": ""}, {"state": 2, "result": b"[1]", "committed": START}),
]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("task", TASKS)
def test_a_change_is_the_same_as_an_update(
    collection: Any, task: TaskRecord, change: transitions.Change
) -> None:
    put(collection, task)
    changes = documents.update(change)
    result = collection.update_one(
        json_safe({"_id": "1", **documents.conditions(change.require)}), json_safe(changes)
    )
    applies = transitions.holds(task, change)
    assert result.matched_count == applies
    expected = TaskRecord(**{name: getattr(task, name) for name in TaskRecord.__struct_fields__})
    if applies:
        transitions.apply(expected, change)
    assert members(got(collection)) == members(expected)


@pytest.mark.parametrize("name", ["producer", "consumer", "outcome"])
def test_a_filter_for_nothing_finds_what_is_absent(collection: Any, name: str) -> None:
    collection.insert_many([{"_id": 1}, {"_id": 2, name: ""}, {"_id": 3, name: "x"}, {"_id": 4, name: None}])

    def ids(wanted: str) -> set[int]:
        return {found["_id"] for found in collection.find({name: documents.member(name, wanted)})}

    assert ids("") == {1, 2, 4}
    assert ids("x") == {3}
