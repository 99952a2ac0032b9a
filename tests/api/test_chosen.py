"""Labels, what a poll chooses, limits and holds, as requests say them: what is read, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ratus.api.parsing import Poll, Reader
from ratus.api.query import NO_QUERY, Query
from ratus.core.errors import BadRequest
from ratus.core.labels import MAX_LABELS, MAX_VALUE_BYTES
from ratus.core.records import CommitRecord, TaskRecord
from ratus.core.selection import Where
from ratus.core.turns import Limits, PerLabel, Rate
from ratus.runtime import config

NOW = 1_800_000_000_000_000
SECOND = 1_000_000
READ = Reader(config.parse([], {}))


def body(members: Any) -> bytes:
    return json.dumps(members).encode()


def task(**members: Any) -> TaskRecord:
    return READ.task(body(members), "t", "1", NOW)


def poll(query: bytes = b"", /, **members: Any) -> Poll:
    return READ.poll(body(members), Query(query) if query else NO_QUERY, "t", "", NOW)


def commit(**members: Any) -> CommitRecord:
    return READ.commit(body(members), "1", NOW)


# ---- labels ---------------------------------------------------------------------------------------


def test_labels_are_kept_as_they_were_sent() -> None:
    assert READ.task(b'{"labels": {"b": "\\u00e9",\n "a": [1, "x"] }}', "t", "1", NOW).labels == (
        '{"b":"é","a":[1,"x"]}'.encode()
    )


@pytest.mark.parametrize("labels", [None, {}])
def test_no_labels(labels: Any) -> None:
    assert task(labels=labels).rare is None


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([], "labels: expected an object, got a list"),
        ("a", "labels: expected an object, got a text"),
        ({"a b": "x"}, 'labels: "a b" is not a name of a label; use 1 to 64 of A-Z a-z 0-9 . _ - /'),
        ({"": "x"}, 'labels: "" is not a name of a label'),
        ({"n" * 65: "x"}, "is not a name of a label"),
        ({"a": None}, "labels: a: a value is a text, an integer, or an array of these"),
        ({"a": True}, "labels: a: a value is a text, an integer, or an array of these"),
        ({"a": 1.5}, "labels: a: a value is a text, an integer, or an array of these"),
        ({"a": {"b": "c"}}, "labels: a: a value is a text, an integer, or an array of these"),
        ({"a": [["b"]]}, "labels: a: a value is a text, an integer, or an array of these"),
        ({"a": 2**63}, "labels: a: an integer must fit 64 bits; give a text instead"),
        ({"a": "é" * 129}, "labels: a: a value must not be longer than 256 bytes"),
        ({f"n{number}": "x" for number in range(9)}, "labels: there are 9 names; at most 8 are allowed"),
        ({"a": [*range(16)], "b": 1}, "labels: there are 17 values; at most 16 are allowed"),
        ({"a": " " * 40_000}, "labels: it takes"),
    ],
)
def test_labels_that_are_refused(labels: Any, message: str) -> None:
    with pytest.raises(BadRequest) as refused:
        task(labels=labels)
    assert message in refused.value.detail


def test_a_label_that_stands_twice_is_refused() -> None:
    with pytest.raises(BadRequest, match='labels: the name "a" stands twice'):
        READ.task(b'{"labels": {"a": 1, "a": 2}}', "t", "1", NOW)


def test_the_largest_labels_are_taken() -> None:
    largest = {f"{number}" * 64: ["\U0001f600" * (MAX_VALUE_BYTES // 4)] * 2 for number in range(MAX_LABELS)}
    labels = READ.task(json.dumps({"labels": largest}).encode(), "t", "1", NOW).labels
    assert labels is not None
    assert json.loads(labels) == largest


def test_commits_do_not_change_labels() -> None:
    assert not hasattr(commit(labels={"a": "b"}), "labels")


# ---- what a poll chooses --------------------------------------------------------------------------


def test_a_poll_chooses_nothing_by_default() -> None:
    selection = poll().selection
    assert (selection.order, selection.where, selection.prefer) == ("due", None, ())


@pytest.mark.parametrize(
    ("members", "query", "where"),
    [
        ({"where": {"region": "eu"}}, b"", Where("region", ("eu",))),
        ({"where": {"n": [1, "1", 2]}}, b"", Where("n", ("1", "2"))),
        ({}, b"where.region=eu", Where("region", ("eu",))),
        ({}, b"where.region=eu&where.region=us%2B", Where("region", ("eu", "us+"))),
        ({}, b"where%2Eregion=", Where("region", ("",))),
        ({"where": {"region": "eu"}}, b"where.zone=1", Where("zone", ("1",))),
        ({"where": None}, b"", None),
    ],
)
def test_where(members: Any, query: bytes, where: Where) -> None:
    assert poll(query, **members).selection.where == where


@pytest.mark.parametrize(
    ("members", "query", "prefer"),
    [
        ({"prefer": "customer"}, b"", ("customer",)),
        ({"prefer": ["customer", "user", "customer"]}, b"", ("customer", "user")),
        ({}, b"prefer=customer,user", ("customer", "user")),
        ({"prefer": "a"}, b"prefer=b", ("b",)),
        ({"prefer": "a", "where": {"a": "x"}}, b"", ("a",)),
        ({"prefer": None}, b"", ()),
    ],
)
def test_prefer(members: Any, query: bytes, prefer: tuple[str, ...]) -> None:
    assert poll(query, **members).selection.prefer == prefer


def test_order() -> None:
    assert poll(order="newest").selection.order == "newest"
    assert poll(b"order=random", order="newest").selection.order == "random"


def test_what_a_poll_of_several_topics_chooses() -> None:
    members = {"topics": ["a", "b"], "order": "random", "where": {"x": 1}}
    for _ in range(2):  # read, and found among what was read before
        selection = READ.poll(body(members), NO_QUERY, None, "", NOW).selection
        assert (selection.topics, selection.order, selection.where) == (
            ("a", "b"),
            "random",
            Where("x", ("1",)),
        )


@pytest.mark.parametrize(
    ("members", "query", "message"),
    [
        ({"order": "first"}, b"", 'order: "first" is unknown; use due, newest or random'),
        ({}, b"order=first", "order: use due, newest or random"),
        ({"where": "eu"}, b"", "where: expected an object, got a text"),
        ({"where": {}}, b"", 'where: name one label, such as {"region": ["eu", "us"]}; none is given'),
        ({"where": {"a": 1, "b": 2}}, b"", "where: name one label"),
        ({}, b"where.a=1&where.b=2", "; 2 are given"),
        ({"where": {"a": []}}, b"", "where: a: give 1 to 16 values, not 0"),
        ({"where": {"a": [*range(17)]}}, b"", "where: a: give 1 to 16 values, not 17"),
        ({"where": {"a": None}}, b"", "where: a value is a text, an integer, or an array of these"),
        ({"where": {"a": 1.5}}, b"", "where: a value is a text, an integer, or an array of these"),
        ({"where": {"a b": 1}}, b"", 'where: "a b" is not a name of a label'),
        ({}, b"where.=1", 'where: "" is not a name of a label'),
        ({}, b"where.a=%", "where.a: a % is not followed by two hexadecimal digits"),
        ({"prefer": 1}, b"", "prefer: expected a text, got a number"),
        ({"prefer": []}, b"", "prefer: name 1 to 3 labels, not 0"),
        ({"prefer": ["a", "b", "c", "d"]}, b"", "prefer: name 1 to 3 labels, not 4"),
        ({"prefer": "a,b"}, b"", 'prefer: "a,b" is not a name of a label'),
        ({}, b"prefer=a,,b", 'prefer: "" is not a name of a label'),
        (
            {"prefer": "a", "where": {"b": 1}},
            b"",
            'prefer: together with where it may only name the same label, "b"; leave one of the two out',
        ),
        ({"prefer": ["a", "b"], "where": {"a": 1}}, b"", "prefer: together with where"),
        ({"prefer": "a"}, b"where.b=1", "prefer: together with where"),
    ],
)
def test_choices_that_are_refused(members: Any, query: bytes, message: str) -> None:
    with pytest.raises(BadRequest) as refused:
        poll(query, **members)
    assert message in refused.value.detail


# ---- lists ----------------------------------------------------------------------------------------


def test_lists_by_label() -> None:
    query = Query(b"label.customer=acme&label.region=eu&label.region=us&state=0&label.empty=")
    found = READ.task_query(query, "t")
    assert found.labels == (("customer", "acme"), ("region", "eu"), ("region", "us"), ("empty", ""))
    assert found.state == 0


def test_lists_by_a_label_that_is_none() -> None:
    with pytest.raises(BadRequest, match=r'label\.a b: "a b" is not a name of a label'):
        READ.task_query(Query(b"label.a+b=1"), "t")


def test_lists_of_lanes() -> None:
    assert READ.lane_query(Query(b""), "t", "customer").label == "customer"
    assert READ.lane_query(Query(b"label=user&limit=5"), "t", "customer").label == "user"
    with pytest.raises(BadRequest, match=r"label: name one, as in [?]label=customer"):
        READ.lane_query(Query(b""), "t", None)
    with pytest.raises(BadRequest, match='"labels" is unknown; use after, label, limit'):
        READ.lane_query(Query(b"labels=user"), "t", "customer")
    with pytest.raises(BadRequest, match="after: this cursor is not of this list"):
        READ.lane_query(Query(b"after=x"), "t", "customer")


# ---- limits and holds -----------------------------------------------------------------------------

WHOLE = {
    "concurrency": 50,
    "rate": {"count": 100, "period": "1m", "burst": 10},
    "per": {
        "label": "customer",
        "concurrency": 2,
        "rate": {"count": 10, "period": "1s"},
        "ordered": True,
    },
}


def settings(members: Any) -> dict[str, Any]:
    return READ.settings_of_topic(body(members), "t").settings


def test_limits() -> None:
    per = PerLabel("customer", 2, Rate(10, SECOND), True)
    assert settings({"limits": WHOLE}) == {"limits": Limits(50, Rate(100, 60 * SECOND, 10), per)}
    assert settings({"limits": {"per": {"label": "a"}}}) == {"limits": Limits(per=PerLabel("a"))}


@pytest.mark.parametrize("limits", [None, {}, {"concurrency": None, "rate": None, "per": None}])
def test_no_limits(limits: Any) -> None:
    assert settings({"limits": limits}) == {"limits": None}


def test_what_a_change_of_a_topic_changes() -> None:
    change = READ.settings_of_topic(body({"paused": True, "limits": None, "hold": None}), "t")
    assert (change.settings, change.lifts_holds) == ({"paused": True, "limits": None}, True)
    assert not READ.settings_of_topic(b"", "t")
    assert not READ.settings_of_topic(b'{"paused": null}', "t")
    with pytest.raises(BadRequest, match="topic must not be empty"):
        READ.settings_of_topic(b'{"hold": null}', "")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"pause": True}, '"pause" is unknown; use hold, limits, paused'),
        ({"name": "x"}, '"name" is unknown'),
        ({"hold": "30s"}, "hold: it can only be null, which ends all holds; commits and releases make them"),
        ({"limits": 5}, "limits: expected an object, got a number"),
        (
            {"limits": {"concurency": 5}},
            'limits: the member "concurency" is unknown; use concurrency, per, rate',
        ),
        ({"limits": {"concurrency": 0}}, "limits: concurrency: 0 is not from 1 to 1000000"),
        ({"limits": {"concurrency": "5"}}, "limits: concurrency: expected an integer, got a text"),
        ({"limits": {"rate": {"count": 5}}}, "limits: rate: period is missing; give count and period"),
        ({"limits": {"rate": {"period": "1s"}}}, "limits: rate: count is missing; give count and period"),
        ({"limits": {"rate": {"count": None, "period": "1s"}}}, "limits: rate: count is missing"),
        ({"limits": {"rate": {"count": 0, "period": "1s"}}}, "limits: rate: count: 0 is not from 1 to"),
        (
            {"limits": {"rate": {"count": 5, "period": "0s"}}},
            "limits: rate: period: it must be longer than 0s",
        ),
        (
            {"limits": {"rate": {"count": 5, "period": "8785h"}}},
            "limits: rate: period: it must not be longer than 8784h0m0s",
        ),
        (
            {"limits": {"rate": {"count": 5, "period": "1m", "burst": 6}}},
            "limits: rate: burst: 6 is not from 1 to 5, the count",
        ),
        (
            {"limits": {"rate": {"count": 5, "period": "1m", "burst": 0}}},
            "limits: rate: burst: 0 is not from 1",
        ),
        (
            {"limits": {"rate": {"count": 5, "period": "1m", "bursts": 1}}},
            'limits: rate: the member "bursts" is unknown',
        ),
        ({"limits": {"per": {"concurrency": 5}}}, "limits: per: label is missing; give label"),
        ({"limits": {"per": {"label": "a b"}}}, 'limits: per: label: "a b" is not a name of a label'),
        ({"limits": {"per": {"label": "a", "burst": 5}}}, 'limits: per: the member "burst" is unknown'),
        ({"limits": {"per": {"label": "a", "ordered": 1}}}, "limits: per: ordered: expected true or false"),
        (
            {"limits": {"per": {"label": "a", "rate": {"count": 1, "period": "1s", "burst": 2}}}},
            "limits: per: rate: burst: 2 is not from 1 to 1, the count",
        ),
    ],
)
def test_settings_that_are_refused(members: Any, message: str) -> None:
    with pytest.raises(BadRequest) as refused:
        READ.settings_of_topic(body(members), "t")
    assert message in refused.value.detail


def test_holds() -> None:
    assert commit(nonce="n", hold="30s").hold == 30 * SECOND
    assert commit(nonce="n", hold="24h").hold == 24 * 3600 * SECOND
    assert commit(nonce="n", hold=None).hold is None
    assert READ.release(Query(b"nonce=n&hold=1.5s")) == ("n", 1_500_000)
    assert READ.release(Query(b"nonce=n")) == ("n", None)
    assert READ.release(NO_QUERY) == (None, None)


WITHOUT = "hold: only together with the nonce of the claim; give it, or leave the hold out"


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"hold": "30s"}, WITHOUT),
        ({"hold": "30s", "nonce": ""}, WITHOUT),
        ({"hold": "0s", "nonce": "n"}, "hold: it must be longer than 0s"),
        ({"hold": "24h1us", "nonce": "n"}, "hold: it must not be longer than 24h0m0s"),
        ({"hold": "soon", "nonce": "n"}, 'hold: invalid duration "soon"'),
    ],
)
def test_holds_that_are_refused(members: Any, message: str) -> None:
    with pytest.raises(BadRequest) as refused:
        commit(**members)
    assert message in refused.value.detail
    query = "&".join(f"{name}={value}" for name, value in members.items())
    with pytest.raises(BadRequest) as refused:
        READ.release(Query(query.encode()))
    assert message in refused.value.detail
