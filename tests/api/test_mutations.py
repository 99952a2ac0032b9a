"""Requests that are nearly right: whatever is made of them, none is an internal error."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ratus.api.parsing import COMMIT_MEMBERS, PROMISE_MEMBERS, TASK_MEMBERS
from ratus.core.members import LIMITS, PER, RATE, RETRY, TOPIC, wire_names
from tests.servers import Api, Server, segment

LIMITED = wire_names(LIMITS) | wire_names(PER) | wire_names(RATE)
MEMBERS = sorted(
    TASK_MEMBERS
    | COMMIT_MEMBERS
    | PROMISE_MEMBERS
    | wire_names(RETRY)
    | wire_names(TOPIC)
    | LIMITED
    | {"data", "where.region", "label.region"}
)
TEXTS = st.one_of(
    st.sampled_from(
        ["", "0", "1s", "-1s", "300ms", "1h", "1d", "2026-01-31T12:00:00Z", "0000-01-01T00:00:00+23:59"]
    ),
    st.sampled_from(
        ["linear", "failed", "9999-12-31T23:59:59.9999999Z", "2562047h47m16.854775807s", "\0", "\ud800"]
    ),
    st.text(max_size=5),
)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-12, 12), st.integers(), st.floats(), TEXTS)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(MEMBERS) | st.text(max_size=3), inner, max_size=4),
    ),
    max_leaves=8,
)
BODIES = st.dictionaries(st.sampled_from(MEMBERS), VALUES, max_size=5) | VALUES
PATTERNS = [
    "/topics/{0}",
    "/topics/{0}/lanes",
    "/topics/{0}/tasks",
    "/topics/{0}/tasks/{1}",
    "/topics/{0}/promises",
    "/topics/{0}/promises/{1}",
    "/promises",
]
NAMES = st.sampled_from(["m-a", "m-b", "", "\0", "x" * 1025])
QUERIES = st.dictionaries(
    st.sampled_from([*MEMBERS, "offset", "after", "limit", "wait"]),
    TEXTS | st.integers(-2, 2000).map(str),
    max_size=3,
)


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, str, bytes | None]:
    """A method, a target and a body."""
    names = draw(st.tuples(NAMES, NAMES))
    pattern = draw(st.sampled_from(PATTERNS))
    query = draw(QUERIES)
    # Nobody waits here: a wait of an hour is as good a mistake as any, and one of a second only takes time.
    query = {name: value for name, value in query.items() if name != "wait" or "s" not in value}
    target = "/v1" + pattern.format(*map(segment_of, names))
    if query:
        target += "?" + "&".join(f"{name}={segment_of(value)}" for name, value in query.items())
    body = json.dumps(without_waits(draw(BODIES))).encode()
    cut = draw(st.none() | st.integers(0, len(body)))
    if cut is not None:
        body = (
            body[:cut]
            + draw(st.sampled_from([b"", b"}", b'"', b"\xff", b",", b"[", b"\\", b"null"]))
            + body[cut + 1 :]
        )
    return draw(st.sampled_from(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])), target, body


def segment_of(name: str) -> str:
    return segment(name.encode("utf-8", "surrogatepass").decode("latin-1"))


def without_waits(body: Any) -> Any:
    return {name: value for name, value in body.items() if name != "wait"} if isinstance(body, dict) else body


@given(several=st.lists(requests(), min_size=1, max_size=8))
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_nothing_is_an_internal_error(
    server: Server, api: Api, several: list[tuple[str, str, bytes | None]]
) -> None:
    for method, target, body in several:
        answer = api.request(method, target, body)
        assert answer.status in (200, 201, 400, 404, 405, 409), (method, target, body, answer)
        if answer.status >= 400 and method != "HEAD":
            assert answer.json["error"]["code"] == answer.status
        elif answer.body:
            json.loads(answer.body)
    assert "Traceback" not in server.log
