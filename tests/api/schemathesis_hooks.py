"""What the document cannot say about requests: which of the valid values make sense together.

Read by schemathesis itself, in a process of its own. It looks again at what a hook has changed, so a request
that becomes valid or invalid here is judged as such.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import schemathesis
from hypothesis import strategies as st
from schemathesis.core.parameters import ParameterLocation

from ratus.core.times import parse_time

# Deadlines and expiries must lie ahead. Offsets and fractions are drawn too.
TIMES = st.builds(
    "{:04d}-{:02d}-{:02d}T{:02d}:{:02d}:{:02d}{}{}".format,
    st.integers(2100, 9998),
    st.integers(1, 12),
    st.integers(1, 28),
    st.integers(0, 23),
    st.integers(0, 59),
    st.integers(0, 59),
    st.sampled_from(["", ".5", ".123456", ".123456789"]),
    st.sampled_from(["Z", "+00:00", "-23:59", "+08:00"]),
)

# Timeouts must be more than 0.
DURATIONS = st.sampled_from(["1ms", "2.5ms", "300us", "1µs", "+1ms", ".001s", "0h0m0.001s", "1ms1us"])

# Of each two that say the same, the first wins and the second is not even read.
WINNERS = {"scheduled": "defer", "expires": "ttl", "deadline": "timeout"}

schemathesis.openapi.format("date-time", TIMES)
schemathesis.openapi.format("go-duration", DURATIONS)


@schemathesis.hook
def before_call(
    context: schemathesis.HookContext, case: schemathesis.Case[Any], kwargs: dict[str, Any]
) -> None:
    """Make what must agree agree, let everything be read, and let nobody wait for long."""
    query, body = dict(case.query), copy.deepcopy(case.body)
    for members in (query, *_objects(body)):
        _let_losers_be_read(members)
        _write_whole_numbers(members)
        _keep_to_what_a_schema_cannot_say(members)
        if members.get("wait") == "20s":
            members["wait"] = "1ms"
        for name in ("deadline", "expires"):
            # Taken from an earlier answer: it was ahead then.
            if isinstance(members.get(name), str) and members[name].startswith("20"):
                members[name] = f"3{members[name][1:]}"
    path = case.operation.path
    for name in query:  # in a query, one value and a list of one are the same
        if name.startswith(("label.", "where.")) and not isinstance(query[name], list):
            query[name] = [str(query[name])]
    if "/values" in path:
        _make_values_agree(case, query, body)
    if "/schedules" in path and isinstance(body, dict):
        _make_schedules_agree(body, is_whole=case.method != "PATCH")
    if path.endswith("/lanes") and not query.get("label"):
        query["label"] = "customer"  # it may only be left out where the topic has limits per label
    # One label of both, or one of the two alone.
    given = [query, body] if isinstance(body, dict) else [query]
    if any(name.partition(".")[0] == "where" for members in given for name in members):
        for members in given:
            members.pop("prefer", None)
    # Nobody can make up a cursor, and one does not go with an offset.
    if query.get("after"):
        query["after"] = ""
    if "after" in query:
        query.pop("offset", None)
    if isinstance(body, dict):
        # The query wins over the body; what is wrong on purpose must be read.
        loser = query if case.meta and case.meta.is_negative_at(ParameterLocation.BODY) else body
        for name in [name for name in body if query.get(name)]:
            del loser[name]
        if query.get("deadline") and "timeout" in body:
            del loser["deadline" if loser is query else "timeout"]
        if query.get("timeout") and _is_time(body.get("deadline")):
            del body["deadline"]
        # An id in the body must be that of the path.
        own = body.get("_id")
        if isinstance(own, str) and case.path_parameters.get("id", own) != own:
            del body["_id"]
        # Assigned anew, for that is how it is noticed.
        case.body = body
    case.query = query


def _make_values_agree(case: schemathesis.Case[Any], query: dict[str, Any], body: Any) -> None:
    """A revision is given once, a wait needs a revision, and a prefix goes with one revision for all."""
    given = [query, body] if isinstance(body, dict) else [query]
    if any(members.get("revision") not in (None, "") for members in given):
        case.headers.pop("If-Match", None)
    if query.get("wait") and not query.get("since"):
        query["since"] = 0
    if isinstance(body, dict) and "changes" in case.operation.path:
        since = body.get("since")
        if isinstance(since, dict):
            since.pop("", None)
        if body.get("prefix") is not None:
            body["since"] = since if isinstance(since, int) else 1
        else:
            body["since"] = since if isinstance(since, dict) and since else {"a": 1}


def _make_schedules_agree(body: dict[str, Any], *, is_whole: bool) -> None:
    """A schedule has a topic, and either an expression with its zone or an interval.

    What an expression and a zone are is not in a schema, nor that the end is behind the start.
    """
    if body.get("start") is not None:
        body.pop("end", None)
    if "topic" in body if not is_whole else not isinstance(body.get("topic"), str):
        body["topic"] = body.get("topic") or "reports"
    for name, right in (("cron", "30 2 * * *"), ("zone", "Europe/Berlin"), ("every", "15m")):
        if isinstance(body.get(name), str):
            body[name] = right
    if body.get("cron") is None and body.get("every") is None:
        if is_whole:
            body["cron"] = "@daily"
            body.pop("every", None)
        else:
            for name in ("cron", "every", "zone"):
                body.pop(name, None)
        return
    others = ("every",) if body.get("cron") is not None else ("cron", "zone")
    for name in others:  # null takes away what the schedule had
        body[name] = None


def _objects(body: Any) -> Iterator[dict[str, Any]]:
    """The objects in a body that are read: itself, the items of its list, the task of a schedule."""
    if isinstance(body, dict):
        yield body
        items = body.get("data")
        if isinstance(items, list):
            yield from (item for item in items if isinstance(item, dict))
        if isinstance(body.get("task"), dict):  # of a schedule
            yield body["task"]


def _keep_to_what_a_schema_cannot_say(members: dict[str, Any]) -> None:
    """A hold goes with a nonce, a burst is within the count, and labels have 16 values in all."""
    if members.get("hold") and not members.get("nonce"):
        members["nonce"] = "n"
    labels = members.get("labels")
    if isinstance(labels, dict):
        for name, value in labels.items():
            labels[name] = value[:2] if isinstance(value, list) else value
    for found in (labels, members.get("where")):
        for values in (found, *found.values()) if isinstance(found, dict) else ():
            _write_whole_numbers(values)
    limits = members.get("limits")
    if isinstance(limits, dict):
        for bound in (limits, limits.get("per")):
            rate = bound.get("rate") if isinstance(bound, dict) else None
            if (
                isinstance(rate, dict)
                and isinstance(rate.get("burst"), int)
                and isinstance(rate.get("count"), int)
            ):
                rate["burst"] = min(rate["burst"], rate["count"])


def _let_losers_be_read(members: dict[str, Any]) -> None:
    for winner, loser in WINNERS.items():
        if members.get(loser) is not None and _is_time(members.get(winner)):
            del members[winner]


def _is_time(value: object) -> bool:
    try:
        return isinstance(value, str) and parse_time(value) is not None
    except ValueError:
        return False


def _write_whole_numbers(members: Any) -> None:
    """Turn `1.0`, an integer to JSON Schema and none to the server, into `1`; also in a list."""
    pairs = (
        members.items()
        if isinstance(members, dict)
        else enumerate(members if isinstance(members, list) else ())
    )
    for name, value in list(pairs):
        if isinstance(value, float) and value.is_integer():
            members[name] = int(value)
        elif name in ("retry", "labels", "where", "since") and isinstance(value, dict):
            _write_whole_numbers(value)
        elif isinstance(value, list) and all(isinstance(each, (int, float, str)) for each in value):
            members[name] = [int(e) if isinstance(e, float) and e.is_integer() else e for e in value]
