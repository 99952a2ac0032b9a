"""Random requests, valid and not, to servers on all engines in lock-step: they answer alike.

What may differ is said in docs/api.md: the order of lists, and integers of over 64 bits on MongoDB.
`RATUS_LOCKSTEP_EXAMPLES=2000` tries more, `RATUS_OTHER_EXAMPLES=1` others; `RATUS_LOCKSTEP_STEPS` are the
requests of each. A failure shrinks to the fewest requests, and says which.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ratus.core import transitions
from ratus.core.records import RetryPolicy
from ratus.core.transitions import RetryDefaults
from ratus.testing import ManualClock
from tests.api.lockstep import START, Lane, Lockstep
from tests.engines.mongodb import servers

EXAMPLES = int(os.environ.get("RATUS_LOCKSTEP_EXAMPLES", "6"))
STEPS = int(os.environ.get("RATUS_LOCKSTEP_STEPS", "20"))

PHASES = (Phase.explicit, Phase.generate, Phase.shrink)

TOPICS = ("t", "u")
IDS = ("a", "b", "c", "d")


@pytest.fixture(scope="module")
def without_jitter() -> Iterator[None]:
    """Every engine has a source of randomness of its own; the delays of retries are to be the same."""
    backoff = transitions.backoff

    def middle(policy: RetryPolicy, failures: int, defaults: RetryDefaults, _: object) -> int:
        return backoff(policy, failures, defaults, lambda: 0.5)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(transitions, "backoff", middle)
        yield


@pytest.fixture(scope="module")
def lockstep(tmp_path_factory: pytest.TempPathFactory, without_jitter: None) -> Iterator[Lockstep]:
    """One server on each engine that can be had here; MongoDB is left out where there is none."""
    clock = ManualClock(START)
    with asyncio.Runner() as runner:
        place: Path = tmp_path_factory.mktemp("lockstep")
        lanes = [
            Lane(runner, clock),
            Lane(runner, clock, "--engine", "sqlite", "--sqlite-path", str(place / "ratus.db")),
        ]
        if (uri := servers.shared_uri()) is not None:
            database = f"ratus_lockstep_{os.getpid()}"
            servers.fresh(database)
            lanes.append(
                Lane(
                    runner, clock, "--engine", "mongodb", "--mongodb-uri", uri, "--mongodb-database", database
                )
            )
        try:
            yield Lockstep(lanes, clock)
        finally:
            for lane in lanes:
                lane.close()
            servers.sweep()


def written(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.sampled_from(["$date", "$oid", "", "\0", "a.b", "1", "é", "\U0001f9ea"]),
)
NAMES = st.one_of(
    st.text(max_size=4), st.sampled_from(["$ref", "$id", "$db", "$numberLong", "", "_id", "a.b", "\0", "$"])
)
PAYLOADS = st.recursive(
    SCALARS,
    lambda values: st.one_of(st.lists(values, max_size=3), st.dictionaries(NAMES, values, max_size=3)),
    max_leaves=6,
)
MILLISECONDS = st.sampled_from([-1000, -1, 0, 1, 500, 1000, 5000, 600_000])
LATER = MILLISECONDS.map(lambda at: f"LATER({at})")
DURATIONS = st.sampled_from(["0s", "1ms", "1s", "5s", "10m", "-1s", "", "1d", "x"])
TEXTS = st.sampled_from(["", "me", "you", "é" * 9])
RETRIES = st.fixed_dictionaries(
    {},
    optional={
        "max_attempts": st.sampled_from([0, 1, 2, -1]),
        "backoff": st.sampled_from(["constant", "linear", "exponential", "none"]),
        "delay": DURATIONS,
        "jitter": st.sampled_from([0, 0.5, 2]),
    },
)
# Few labels with few values, so that tasks share lanes; "l" and "m" take turns and are limited.
LABELS = st.sampled_from(
    [
        None,
        {},
        *({"l": value} for value in ("x", "y", 1, "1", ["x", "y"], [], "", 1.5)),
        {"l": "x", "m": "p"},
        {"l": "x", "m": "q"},
        {"l": "y", "m": "p"},
        {"m": "p"},
        {"bad name": "x"},
    ]
)
WHERE = st.sampled_from(
    [{"l": "x"}, {"l": ["y", 1]}, {"l": ""}, {"m": ["p", "q"]}, {"none": "x"}, {}, {"l": []}]
)
PREFER = st.sampled_from(["l", "m", ["l", "m"], ["m", "l"], "none", [], ["l", "m", "n", "o"]])
HOLDS = st.sampled_from(["1s", "5s", "10m", "0s", "25h"])
A_SECOND = {"count": 1, "period": "1s"}
LIMITS = st.sampled_from(
    [
        None,
        {},
        {"concurrency": 1},
        {"concurrency": 2},
        {"rate": A_SECOND},
        {"rate": {"count": 2, "period": "10s", "burst": 2}},
        {"per": {"label": "l"}},
        {"per": {"label": "l", "concurrency": 1}},
        {"per": {"label": "m", "concurrency": 2, "rate": A_SECOND}},
        {"per": {"label": "l", "ordered": True}},
        {"concurrency": 3, "rate": A_SECOND, "per": {"label": "l", "concurrency": 1, "ordered": True}},
        {"concurrency": 0},
        {"rate": {"count": 1}},
        {"rate": {"count": 1, "period": "1s", "burst": 2}},
        {"per": {"concurrency": 1}},
        {"unknown": 1},
    ]
)
SETTINGS: dict[str, st.SearchStrategy[Any]] = {
    "paused": st.sampled_from([True, False, None, 1]),
    "limits": LIMITS,
    "hold": st.sampled_from([None, "1s"]),
}
NONCES = st.sampled_from(["", "wrong", *(f"NONCE({each})" for each in IDS)])
# Any JSON is right in these, but MongoDB holds integers of 64 bits only.
_FREE = ("unknown", "payload", "result")
STRANGE: st.SearchStrategy[Any] = st.sampled_from([None, True, 1.5, "text", [], {}, -1, 10**30])
MEMBERS: dict[str, st.SearchStrategy[Any]] = {
    "state": st.sampled_from([0, 1, 2, 3, 4]),
    "scheduled": LATER,
    "defer": DURATIONS,
    "payload": PAYLOADS,
    "error": TEXTS,
    "result": PAYLOADS,
}
TASK: dict[str, st.SearchStrategy[Any]] = MEMBERS | {
    "nonce": st.sampled_from(["", "given"]),
    "topic": st.sampled_from(["", *TOPICS]),
    "producer": TEXTS,
    "consumer": TEXTS,
    "produced": LATER,
    "consumed": LATER,
    "deadline": LATER,
    "committed": LATER,
    "priority": st.sampled_from([0, 1, -9, 9, 10]),
    "attempts": st.sampled_from([0, 1, 2]),
    "retry": RETRIES,
    "outcome": st.sampled_from(["", "failed", "expired", "other"]),
    "expires": LATER,
    "ttl": DURATIONS,
    "labels": LABELS,
    "unknown": PAYLOADS,
}
COMMIT: dict[str, st.SearchStrategy[Any]] = MEMBERS | {
    "nonce": NONCES,
    "hold": HOLDS,
    "topic": st.sampled_from(["", *TOPICS]),
}
PROMISE: dict[str, st.SearchStrategy[Any]] = {
    "consumer": TEXTS,
    "timeout": st.sampled_from(["1s", "5s", "10m", "", "0s", "x"]),
    "deadline": LATER,
    "limit": st.sampled_from([1, 2, 5, 0]),
    # Not "random": engines may differ then.
    "order": st.sampled_from(["due", "newest", "first"]),
    "where": WHERE,
    "prefer": PREFER,
    "nonce": NONCES,
}


def few(members: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """An object with up to four of these members, each seldom of a strange kind."""

    @st.composite
    def chosen(draw: st.DrawFn) -> dict[str, Any]:
        names = draw(st.lists(st.sampled_from(sorted(members)), max_size=4, unique=True))
        odd = draw(st.integers(0, 19)) == 0
        return {name: draw(STRANGE if odd and name not in _FREE else members[name]) for name in names}

    return chosen()


def items(members: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """A batch."""
    one = st.builds(lambda name, rest: {"_id": name, **rest}, st.sampled_from(IDS), few(members))
    return st.builds(lambda data: {"data": data}, st.lists(one, max_size=4))


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, str, bytes]:
    """A request: method, target, body."""
    topic, task_id = draw(st.sampled_from(TOPICS)), draw(st.sampled_from(IDS))
    tasks, promises = f"/topics/{topic}/tasks", f"/topics/{topic}/promises"
    one, claim = f"{tasks}/{task_id}", f"{promises}/{task_id}"
    page = draw(
        st.sampled_from(
            [
                "?limit=100",
                "?limit=100&state=0",
                "?limit=100&after=",
                "?limit=100&consumer=me",
                "?limit=101",
                "?limit=100&label.l=x",
                "?limit=100&label.l=x&label.m=p&state=0",
                "?limit=100&label.l=x&label.l=y&after=",
                "?label.bad+name=x",
            ]
        )
    )
    kind = draw(st.integers(0, 26))
    request: tuple[str, str, bytes]
    if kind < 3:
        request = ("POST", one, written(draw(few(TASK))))
    elif kind < 5:
        request = ("PUT", one, written(draw(few(TASK))))
    elif kind < 7:
        request = (draw(st.sampled_from(["POST", "PUT"])), tasks, written(draw(items(TASK))))
    elif kind < 9:
        request = ("PATCH", one, written(draw(few(COMMIT))))
    elif kind < 11:
        request = ("PATCH", tasks, written(draw(items(COMMIT))))
    elif kind < 15:
        request = ("POST", promises, written(draw(few(PROMISE))))
    elif kind < 16:
        wish = draw(few(PROMISE)) | {"topics": draw(st.lists(st.sampled_from(TOPICS), max_size=3))}
        request = ("POST", "/promises", written(wish))
    elif kind < 18:
        request = (draw(st.sampled_from(["POST", "PUT", "PATCH"])), claim, written(draw(few(PROMISE))))
    elif kind < 19:
        held = f"{claim}?nonce={draw(NONCES)}&hold={draw(HOLDS)}"
        target = draw(st.sampled_from([one, claim, held, promises, tasks, f"/topics/{topic}"]))
        request = ("DELETE", target, b"")
    elif kind < 23:
        # Unknown members are refused here, so what is damaged below is, too.
        request = ("PATCH", f"/topics/{topic}", written(draw(few(SETTINGS))))
    else:
        target = draw(
            st.sampled_from(
                [
                    tasks + page,
                    f"{promises}?limit=100",
                    one,
                    claim,
                    f"/topics/{topic}",
                    f"/topics/{topic}/lanes",
                    f"/topics/{topic}/lanes?label=l&limit=2",
                    "/topics",
                ]
            )
        )
        request = ("GET", target, b"")
    method, target, body = request
    if body and draw(st.integers(0, 15)) == 0:  # bytes that were damaged
        at = draw(st.integers(0, len(body)))
        body = (
            body[:at]
            + draw(st.sampled_from([b"", b"\xff", b'"', b"}", b"\\ud800", b",", b"1e999"]))
            + body[at + 1 :]
        )
    return method, target, body


STEP = st.one_of(
    requests(), requests(), requests(), st.sampled_from([1, 999, 5000, 600_000]), st.just("chores")
)


def test_all_engines_answer_alike(lockstep: Lockstep) -> None:
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=PHASES,
        print_blob=False,
    )
    @given(steps=st.lists(STEP, min_size=STEPS // 2, max_size=STEPS))
    def check(steps: list[tuple[str, str, bytes] | int | str]) -> None:
        lockstep.begin()
        for step in steps:
            if isinstance(step, tuple):
                lockstep.ask(*step)
            elif isinstance(step, int):
                lockstep.advance(step)
            else:
                lockstep.chores()
        lockstep.check(TOPICS, IDS)

    check()
