"""Times and durations as they come in and go out."""

from __future__ import annotations

import time

import pytest

from tests.servers import Api, assert_error, instant

SECOND = 1_000_000


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00Z"),
        ("2026-01-31T12:00:00.1Z", "2026-01-31T12:00:00.1Z"),
        ("2026-01-31T12:00:00.123456789Z", "2026-01-31T12:00:00.123456Z"),
        ("2026-01-31T12:00:00.9999999Z", "2026-01-31T12:00:00.999999Z"),
        ("2026-01-31T12:00:00.100000Z", "2026-01-31T12:00:00.1Z"),
        ("2026-01-31T12:00:00+05:30", "2026-01-31T06:30:00Z"),
        ("2026-01-31T12:00:00.5-23:59", "2026-02-01T11:59:00.5Z"),
        ("2026-01-31T12:00:00-00:00", "2026-01-31T12:00:00Z"),
        ("1969-12-31T23:59:59.999999Z", "1969-12-31T23:59:59.999999Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ("0000-01-01T00:00:00Z", "0000-01-01T00:00:00Z"),
        ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"),
        ("2024-02-29T00:00:00Z", "2024-02-29T00:00:00Z"),
    ],
)
def test_times_go_out_in_utc(api: Api, name: str, given: str, shown: str) -> None:
    members = dict.fromkeys(["produced", "scheduled", "consumed", "deadline", "committed"], given)
    api.insert(name, name, state=2, **members)
    task = api.task(name)
    assert {member: task[member] for member in members} == dict.fromkeys(members, shown)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "now",
        "2026-01-31",
        "2026-01-31 12:00:00Z",
        "2026-01-31t12:00:00Z",
        "2026-01-31T12:00:00z",
        "2026-01-31T12:00:00",
        "2026-01-31T12:00Z",
        "2026-01-31T12:00:00.Z",
        "2026-1-31T12:00:00Z",
        "2026-02-29T12:00:00Z",
        "2026-00-10T12:00:00Z",
        "2026-01-31T24:00:00Z",
        "2026-01-31T12:60:00Z",
        "2026-01-31T12:00:60Z",
        "2026-01-31T12:00:00+24:00",
        "2026-01-31T12:00:00+05:60",
        "2026-01-31T12:00:00+0530",
        "2026-01-31T12:00:00+5:30",
        "2026-01-31T12:00:00 Z",
        "2026-01-31T12:00:00ZZ",
        "02026-01-31T12:00:00Z",
        "10000-01-01T00:00:00Z",
        "-001-01-01T00:00:00Z",
        "0000-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
        "\u0662\u0660\u0662\u0666-01-31T12:00:00Z",
        "1769860800",
    ],
)
def test_what_is_no_time(api: Api, name: str, text: str) -> None:
    for member in ("produced", "scheduled", "consumed", "deadline", "committed", "expires"):
        assert_error(api.post(f"/v1/topics/{name}/tasks/{name}", {member: text}), 400, member)
    assert_error(api.get(f"/v1/topics//tasks/{name}"), 404)
    api.insert(name, name)
    assert_error(api.patch(f"/v1/topics//tasks/{name}", {"scheduled": text}), 400, "scheduled")
    assert_error(api.post(f"/v1/topics/{name}/promises", {"deadline": text}), 400, "deadline")
    assert_error(api.patch(f"/v1/topics//promises/{name}", {"deadline": text}), 400, "deadline")
    assert api.task(name)["state"] == 0


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [
        ("300ms", 300_000),
        ("1.5s", 1_500_000),
        ("1h30m", 5400 * SECOND),
        ("-5s", -5 * SECOND),
        ("+5s", 5 * SECOND),
        ("0", 0),
        ("0s", 0),
        ("1h1m1s1ms1us1ns", 3661 * SECOND + 1001),
        ("1.s", SECOND),
        (".5s", SECOND // 2),
        ("2us", 2),
        ("2\u00b5s", 2),
        ("2\u03bcs", 2),
        ("1999ns", 1),
        ("100000h", 100_000 * 3600 * SECOND),
    ],
)
def test_durations_are_those_of_go(api: Api, name: str, text: str, microseconds: int) -> None:
    api.insert(name, name, defer=text)
    task = api.task(name)
    assert instant(task["scheduled"]) - instant(task["produced"]) == microseconds
    if microseconds > 0:
        claimed = api.post(f"/v1/topics//promises/{name}", {"timeout": text}).json
        assert instant(claimed["deadline"]) - instant(claimed["consumed"]) == microseconds
    deferred = api.commit(name, state=0, defer=text)
    assert instant(deferred["scheduled"]) - instant(deferred["committed"]) == microseconds


NO_DURATIONS = [
    "1d",
    "10",
    "abc",
    " 1s",
    "1s ",
    "1 s",
    "s",
    ".s",
    "-",
    "+",
    "--1s",
    "1S",
    "1w",
    "1e3s",
    "1,5s",
    "1s-1s",
    "9999999h",
    "1sec",
    "\u0661s",
    "1s\0",
]


@pytest.mark.parametrize("text", NO_DURATIONS)
def test_what_is_no_duration(api: Api, name: str, text: str) -> None:
    for member in ("defer", "ttl"):
        assert_error(api.post(f"/v1/topics/{name}/tasks/{name}", {member: text}), 400, member)
    api.insert(name, name)
    assert_error(api.patch(f"/v1/topics//tasks/{name}", {"defer": text}), 400, "defer")
    for method, path in (("POST", ""), ("POST", f"/{name}"), ("PUT", f"/{name}"), ("PATCH", f"/{name}")):
        assert_error(
            api.request(method, f"/v1/topics/{name}/promises{path}", {"timeout": text}), 400, "timeout"
        )
    assert_error(api.post(f"/v1/topics/{name}/promises", {"wait": text}), 400, "wait")
    assert api.task(name)["state"] == 0


def test_the_loser_is_not_even_parsed(api: Api, name: str) -> None:
    given = "2020-01-01T00:00:00Z"
    api.insert(name, name, scheduled=given, defer="not a duration")
    assert api.task(name)["scheduled"] == given
    later = "2998-01-01T00:00:00Z"
    assert api.claim(name, deadline=later, timeout="not a duration")["deadline"] == later
    target = f"/v1/topics/{name}/promises/{name}"
    assert api.patch(target, {"deadline": later, "timeout": "x"}).json["deadline"] == later
    assert api.put(f"{target}?deadline={later}&timeout=x", {}).json["deadline"] == later
    assert api.commit(name, state=0, scheduled=given, defer="x")["scheduled"] == given


def test_the_query_beats_the_body(api: Api, name: str) -> None:
    api.insert(name, name)
    target = f"/v1/topics/{name}/promises/{name}"
    claimed = api.put(f"{target}?timeout=1h&consumer=query", {"timeout": "1m", "consumer": "body"}).json
    assert claimed["consumer"] == "query"
    assert instant(claimed["deadline"]) - instant(claimed["consumed"]) == 3600 * SECOND
    # Each member by itself; an empty one is absent.
    claimed = api.put(f"{target}?timeout=&consumer=", {"timeout": "1m", "consumer": "body"}).json
    assert claimed["consumer"] == "body"
    assert instant(claimed["deadline"]) - instant(claimed["consumed"]) == 60 * SECOND
    # A deadline beats a timeout, wherever they stand.
    late = "2998-01-01T00:00:00Z"
    assert api.put(f"{target}?timeout=1h", {"deadline": late}).json["deadline"] == late
    assert api.put(f"{target}?deadline={late}", {"deadline": "2997-01-01T00:00:00Z"}).json["deadline"] == late
    # The body is read all the same.
    assert_error(api.put(f"{target}?timeout=1h", b"{broken"), 400)


@pytest.mark.parametrize("members", [{}, {"timeout": ""}, {"timeout": None}])
def test_a_claim_lasts_ten_minutes_unless_told(api: Api, name: str, members: dict[str, object]) -> None:
    api.insert(name, name)
    claimed = api.claim(name, **members)
    assert instant(claimed["deadline"]) - instant(claimed["consumed"]) == 600 * SECOND


def test_durations_are_checked_before_the_task_is_looked_up(api: Api, name: str) -> None:
    for method in ("POST", "PUT", "PATCH"):
        target = f"/v1/topics/{name}/promises/{name}"
        assert_error(api.request(method, target, {"timeout": "abc"}), 400)
        assert_error(api.request(method, f"{target}?timeout=abc"), 400)
    assert_error(api.post(f"/v1/topics/{name}/promises?timeout=abc"), 400)
    assert_error(api.patch(f"/v1/topics/{name}/tasks/{name}", {"defer": "abc"}), 400)


@pytest.mark.parametrize("defer", ["2562047h", "-2562047h"])
def test_times_beyond_the_calendar(api: Api, name: str, defer: str) -> None:
    """292 years from now are well inside the calendar, in both directions."""
    api.insert(name, name, defer=defer)
    assert api.get(f"/v1/topics/{name}/tasks").status == 200


def test_now_is_now(api: Api, name: str) -> None:
    before = time.time_ns() // 1000
    api.insert(name, name)
    claimed = api.claim(name)
    committed = api.commit(name)
    after = time.time_ns() // 1000
    moments = [
        before,
        *(instant(claimed[each]) for each in ("produced", "consumed")),
        instant(committed["committed"]),
        after,
    ]
    assert moments == sorted(moments)
