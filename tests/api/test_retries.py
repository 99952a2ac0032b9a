"""Priorities, attempts, retries, dead letters and expiry, with a clock that stands still."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.clocked import SECOND, START, Clocked
from tests.servers import instant

MILLISECOND = 1000
NO_JITTER: dict[str, Any] = {"jitter": 0}


@pytest.fixture
def app() -> Iterator[Clocked]:
    with Clocked() as running:
        yield running


def since_start(text: str) -> int:
    return instant(text) - START


# ---- order ---------------------------------------------------------------------------------------


def test_order_is_priority_then_schedule_then_creation(app: Clocked) -> None:
    chance = random.Random(3)
    tasks = []
    for number in range(200):
        priority, second = chance.randint(-9, 9), chance.randint(0, 4)
        tasks.append((-priority, second, number))
        members = {"priority": priority, "scheduled": f"2001-01-01T00:00:0{second}Z"}
        app.insert("t", f"{number}", **members)
    for _, _, number in sorted(tasks):
        assert app.claim("t")["_id"] == f"{number}"
    assert app.claim("t") is None


def test_a_task_that_is_not_due_stands_in_nobodys_way(app: Clocked) -> None:
    app.insert("t", "later", priority=9, defer="1s")
    app.insert("t", "lowest", priority=-9)
    app.insert("t", "none")
    assert [app.claim("t")["_id"], app.claim("t")["_id"], app.claim("t")] == ["none", "lowest", None]
    app.clock.advance(SECOND)
    assert app.claim("t")["_id"] == "later"


def test_a_priority_of_zero_is_not_shown(app: Clocked) -> None:
    app.insert("t", "a", priority=0)
    app.insert("t", "b", priority=-1)
    assert "priority" not in app.task("a")
    assert app.task("b")["priority"] == -1


def test_a_task_keeps_its_place_through_everything(app: Clocked) -> None:
    for task_id in "abc":
        app.insert("t", task_id, scheduled="2001-01-01T00:00:00Z")
    app.claim("t")
    app.request("DELETE", "/topics/t/promises/a")
    app.request("PUT", "/topics/t/tasks/b", {"scheduled": "2001-01-01T00:00:00Z"})
    assert [app.claim("t")["_id"] for _ in "abc"] == ["a", "b", "c"]


def test_a_batch_is_in_the_order_given(app: Clocked) -> None:
    data = [{"_id": task_id} for task_id in ("z", "a", "m")]
    app.request("POST", "/topics/t/tasks", {"data": data})
    assert [app.claim("t")["_id"] for _ in data] == ["z", "a", "m"]


# ---- the one failure rule ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "delays"),
    [
        ({"backoff": "constant", "delay": "1.5s"}, [1500, 1500, 1500, 1500]),
        ({"backoff": "linear", "delay": "250ms"}, [250, 500, 750, 1000]),
        ({"backoff": "exponential", "delay": "10ms"}, [10, 20, 40, 80, 160, 320, 640]),
        ({"delay": "1s", "max_delay": "3s"}, [1000, 2000, 3000, 3000]),
        ({"backoff": "linear", "delay": "2s", "max_delay": "5s"}, [2000, 4000, 5000, 5000]),
        ({"backoff": "constant", "delay": "9s", "max_delay": "5s"}, [5000, 5000]),
        ({"delay": "0s"}, [0, 0, 0]),
        ({"max_delay": "0s"}, [0, 0]),
        ({}, [1000, 2000, 4000, 8000]),
    ],
)
def test_the_backoff_is_exact_to_the_millisecond(
    app: Clocked, policy: dict[str, Any], delays: list[int]
) -> None:
    app.insert("t", "a", retry=policy | NO_JITTER)
    for attempt, delay in enumerate(delays, 1):
        assert app.claim("t")["attempts"] == attempt
        app.clock.advance(123 * MILLISECOND)
        failed = app.commit("a", error=f"failure {attempt}")
        assert (failed["state"], failed["attempts"], failed["nonce"]) == (0, attempt, "")
        assert failed["error"] == f"failure {attempt}"
        assert instant(failed["scheduled"]) - instant(failed["committed"]) == delay * MILLISECOND
        if delay:
            app.clock.advance(delay * MILLISECOND - 1)
            assert app.claim("t") is None
            app.clock.advance(1)


def test_the_delay_never_exceeds_the_default_maximum(app: Clocked) -> None:
    app.insert("t", "a", retry=NO_JITTER, attempts=80)
    app.claim("t")
    failed = app.commit("a", error="again")
    assert instant(failed["scheduled"]) - app.clock.now() == 3600 * SECOND


def test_jitter_stays_within_its_bounds(app: Clocked) -> None:
    delays = set()
    for number in range(60):
        app.insert("t", f"{number}", retry={"delay": "10s", "jitter": 0.2})
        app.claim("t")
        failed = app.commit(f"{number}", error="e")
        delays.add(instant(failed["scheduled"]) - app.clock.now())
    assert len(delays) > 30
    assert 8 * SECOND <= min(delays) < 9 * SECOND
    assert 11 * SECOND < max(delays) <= 12 * SECOND


def test_the_default_jitter_is_a_tenth(app: Clocked) -> None:
    delays = []
    for number in range(60):
        app.insert("t", f"{number}")
        app.claim("t")
        delays.append(instant(app.commit(f"{number}", error="e")["scheduled"]) - app.clock.now())
    assert 900 * MILLISECOND <= min(delays) < 950 * MILLISECOND
    assert 1050 * MILLISECOND < max(delays) <= 1100 * MILLISECOND


def test_attempts_run_out_by_errors(app: Clocked) -> None:
    app.insert("t", "a", retry={"max_attempts": 3, "delay": "0s"})
    for attempt in (1, 2):
        app.claim("t")
        assert app.commit("a", error=f"{attempt}")["state"] == 0
    app.claim("t")
    dead = app.commit("a", error="last")
    assert (dead["state"], dead["outcome"], dead["error"], dead["attempts"]) == (3, "failed", "last", 3)
    assert app.claim("t") is None
    letters = app.request("GET", "/topics/t/tasks?state=3&outcome=failed").json["data"]
    assert letters == [dead]


@pytest.mark.parametrize("noticed_by", ["poll", "chores"])
def test_attempts_run_out_by_lapses(app: Clocked, noticed_by: str) -> None:
    """The consumer is killed each time."""
    app.insert("t", "a", retry={"max_attempts": 3, "delay": "1s", "backoff": "constant"} | NO_JITTER)
    for attempt in (1, 2, 3):
        claimed = app.claim("t", timeout="10s")
        assert claimed["attempts"] == attempt
        # Noticed late: the delay counts from the deadline all the same.
        app.clock.advance(10 * SECOND + 400 * MILLISECOND)
        if noticed_by == "chores":
            app.chores()
        else:
            assert app.claim("t") is None
        task = app.task("a")
        assert task["error"] == "deadline exceeded"
        assert task["attempts"] == attempt
        if attempt < 3:
            assert task["state"] == 0
            assert instant(task["scheduled"]) == instant(claimed["deadline"]) + SECOND
            app.clock.advance(600 * MILLISECOND)
    assert (task["state"], task["outcome"]) == (3, "failed")


def test_a_lapse_without_a_policy_has_no_delay_but_counts(app: Clocked) -> None:
    app.insert("t", "a", scheduled="2001-01-01T00:00:00Z")
    for attempt in (1, 2, 3):
        task = app.claim("t", timeout="1s")
        assert (task["attempts"], task["scheduled"]) == (attempt, "2001-01-01T00:00:00Z")
        app.clock.advance(SECOND)


def test_the_servers_defaults() -> None:
    flags = ["--retry-max-attempts", "2", "--retry-delay", "3s", "--retry-max-delay", "4s"]
    with Clocked(*flags) as app:
        app.insert("t", "a", retry=NO_JITTER)
        app.insert("t", "own", retry={"max_attempts": 0, "delay": "1s", "max_delay": "1h"} | NO_JITTER)
        app.insert("t", "none")
        delays = {}
        for task_id in ("a", "own", "none"):
            assert app.claim("t")["_id"] == task_id
            failed = app.commit(task_id, error="e")
            delays[task_id] = instant(failed["scheduled"]) - app.clock.now()
        assert (delays["a"], delays["own"]) == (3 * SECOND, SECOND)
        assert 2.7 * SECOND <= delays["none"] <= 3.3 * SECOND
        app.clock.advance(10 * SECOND)
        for _ in range(3):
            task_id = app.claim("t")["_id"]
            failed = app.commit(task_id, error="e")
            assert failed["state"] == (0 if task_id == "own" else 3)


@pytest.mark.parametrize("member", ["scheduled", "defer"])
def test_a_time_in_the_commit_replaces_the_backoff(app: Clocked, member: str) -> None:
    app.insert("t", "a", retry={"delay": "1h"})
    app.claim("t")
    failed = app.commit(
        "a", error="e", **{member: {"scheduled": "2001-01-01T00:00:00Z", "defer": "5s"}[member]}
    )
    assert failed["attempts"] == 1
    assert (
        failed["scheduled"] == "2001-01-01T00:00:00Z"
        or instant(failed["scheduled"]) == app.clock.now() + 5 * SECOND
    )


def test_a_forced_failure_of_a_pending_task(app: Clocked) -> None:
    app.insert("t", "a", retry={"max_attempts": 1, "delay": "1s"} | NO_JITTER)
    failed = app.commit("a", error="never claimed")
    assert (failed["state"], failed["error"]) == (0, "never claimed")
    assert instant(failed["scheduled"]) - app.clock.now() == SECOND


# ---- giving back, reviving, succeeding -------------------------------------------------------------


def test_giving_back_is_not_failing(app: Clocked) -> None:
    app.insert("t", "a", retry={"max_attempts": 1})
    for give_back in (
        lambda: app.commit("a", state=0),
        lambda: app.request("DELETE", "/topics/t/promises/a"),
        lambda: app.request("DELETE", "/topics/t/promises"),
        lambda: app.commit("a", state=0, nonce=app.task("a")["nonce"], defer="0s"),
    ):
        assert app.claim("t")["attempts"] == 1
        give_back()
        task = app.task("a")
        assert (task["state"], task["nonce"]) == (0, "")
        assert "attempts" not in task
        assert "error" not in task


def test_giving_back_with_an_error_counts(app: Clocked) -> None:
    app.insert("t", "a")
    app.claim("t")
    task = app.commit("a", state=0, error="busy")
    assert (task["state"], task["attempts"], task["error"]) == (0, 1, "busy")


def test_a_release_keeps_what_the_claim_left(app: Clocked) -> None:
    app.insert("t", "a")
    claimed = app.claim("t", consumer="c", timeout="1m")
    assert app.request("DELETE", "/topics/t/promises/a").json == {"deleted": 1}
    assert app.request("DELETE", "/topics/t/promises/a").json == {"deleted": 0}
    task = app.task("a")
    assert {each: task[each] for each in ("consumer", "consumed", "deadline")} == {
        each: claimed[each] for each in ("consumer", "consumed", "deadline")
    }
    assert "consumer" not in app.claim("t")


def test_a_dead_letter_is_revived_afresh(app: Clocked) -> None:
    app.insert("t", "a", retry={"max_attempts": 1})
    app.claim("t")
    assert app.commit("a", error="e")["outcome"] == "failed"
    revived = app.commit("a", state=0)
    assert revived["state"] == 0
    assert not {"attempts", "error", "outcome"} & set(revived)
    assert app.claim("t")["attempts"] == 1


def test_put_revives_too(app: Clocked) -> None:
    for state, left in ((2, {}), (3, {"outcome": "failed", "error": "e"})):
        app.insert("t", f"{state}", state=state, attempts=5, **left)
        task = app.request("PUT", f"/topics/t/promises/{state}", {"timeout": "1m"}).json
        assert (task["state"], task["attempts"]) == (1, 1)
        assert not {"error", "outcome"} & set(task)


def test_put_over_an_active_task_counts_a_lapse(app: Clocked) -> None:
    app.insert("t", "a")
    first = app.claim("t")
    second = app.request("PUT", "/topics/t/promises/a").json
    assert (second["attempts"], second["error"]) == (2, "deadline exceeded")
    assert app.request("PATCH", "/topics/t/tasks/a", {"nonce": first["nonce"]}).status == 409
    assert app.request("PATCH", "/topics/t/tasks/a", {"nonce": second["nonce"]}).status == 200


@pytest.mark.parametrize("state", [1, 2, 3])
def test_a_state_beats_the_failure_rule_and_the_error_is_kept(app: Clocked, state: int) -> None:
    app.insert("t", "a", retry={"max_attempts": 1})
    app.claim("t")
    task = app.commit("a", state=state, error="noted")
    assert (task["state"], task["error"]) == (state, "noted")
    assert "outcome" not in task


def test_a_success_clears_the_error(app: Clocked) -> None:
    app.insert("t", "a", retry={"delay": "0s"})
    app.claim("t")
    app.commit("a", error="first")
    assert app.claim("t")["error"] == "first"
    done = app.commit("a", result={"ok": True})
    assert (done["state"], done["result"], done["attempts"]) == (2, {"ok": True}, 2)
    assert "error" not in done


def test_an_error_is_kept_in_its_first_8_kib(app: Clocked) -> None:
    app.insert("t", "a")
    assert app.commit("a", error="x" * 9000)["error"] == "x" * 8192
    assert app.commit("a", error="é" * 5000)["error"] == "é" * 4096
    assert app.commit("a", error="\U0001f9ea€" * 2000)["error"].encode() == ("\U0001f9ea€" * 1170).encode()
    assert app.commit("a", error="")["state"] == 0


# ---- expiry --------------------------------------------------------------------------------------


def test_an_expired_task_is_never_handed_out(app: Clocked) -> None:
    app.insert("t", "a", ttl="5s")
    app.insert("t", "b", ttl="5s", expires="2999-01-01T00:00:00Z")
    assert since_start(app.task("a")["expires"]) == 5 * SECOND
    assert app.task("b")["expires"] == "2999-01-01T00:00:00Z"
    app.clock.advance(5 * SECOND - 1)
    assert app.claim("t")["_id"] == "a"
    app.commit("a", state=0)
    app.clock.advance(1)
    assert app.claim("t")["_id"] == "b"
    assert app.claim("t") is None
    app.chores()
    task = app.task("a")
    assert (task["state"], task["outcome"]) == (3, "expired")
    assert "error" not in task


def test_a_claim_made_in_time_is_kept(app: Clocked) -> None:
    app.insert("t", "a", ttl="5s")
    nonce = app.claim("t", timeout="1h")["nonce"]
    app.clock.advance(10 * SECOND)
    app.chores()
    assert app.task("a")["state"] == 1
    assert app.commit("a", nonce=nonce)["state"] == 2


def test_a_retry_that_comes_too_late_expires(app: Clocked) -> None:
    app.insert("t", "a", ttl="5s", retry={"delay": "10s"})
    app.claim("t")
    app.commit("a", error="e")
    app.clock.advance(20 * SECOND)
    assert app.claim("t") is None
    app.chores()
    task = app.task("a")
    assert (task["state"], task["outcome"], task["error"]) == (3, "expired", "e")


def test_expired_ones_in_front_hide_nothing(app: Clocked) -> None:
    for number in range(300):
        app.insert("t", f"{number}", ttl="1s", priority=5)
    app.insert("t", "fine")
    app.clock.advance(SECOND)
    # A poll clears away only so many at a time, but it never hands one out.
    found = [task for _ in range(20) if (task := app.claim("t")) is not None]
    assert [task["_id"] for task in found] == ["fine"]


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"ttl": "0s"}, "ttl: it must be longer than 0s"),
        ({"ttl": "-1s"}, "ttl: it must be longer than 0s"),
        ({"ttl": "-1s", "state": 2}, "ttl: it must be longer than 0s"),
        ({"expires": "2001-01-01T00:00:00Z"}, "expires: the task has expired already"),
    ],
)
def test_a_task_that_has_expired_is_not_taken(app: Clocked, members: dict[str, Any], said: str) -> None:
    for method, target, body in (
        ("POST", "/topics/t/tasks/a", members),
        ("PUT", "/topics/t/tasks/a", members),
        ("POST", "/topics/t/tasks", {"data": [{"_id": "good"}, {"_id": "a", **members}]}),
        ("PUT", "/topics/t/tasks", {"data": [{"_id": "good"}, {"_id": "a", **members}]}),
    ):
        reply = app.request(method, target, body)
        assert reply.status == 400
        assert said in reply.json["error"]["message"]
    assert app.request("GET", "/topics/t/tasks").json == {"data": []}
    # One that is done already may be copied.
    app.insert("t", "done", state=2, expires="2001-01-01T00:00:00Z")
