"""What is repeated after which failure, and what a repeated call says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ratus import (
    Commit,
    CommitItem,
    Conflict,
    NotFound,
    ServiceUnavailable,
    Task,
    TransportError,
)
from ratus.calls.retrying import FIRST_PAUSE, LONGEST_PAUSE, Attempts, Backoff, Repeat
from ratus.testing import RatusServer
from tests.client.lossy import Cutting
from tests.client.support import ScriptedServer, answer, connect

TASK = b'{"_id":"1","topic":"t"}'
AWAY = answer(503, b'{"error":{"code":503,"message":"service unavailable: stopping"}}')
LATE = answer(409, b'{"error":{"code":409,"message":"conflict: taken"}}')
GONE = answer(404, b'{"error":{"code":404,"message":"not found"}}')
BUSY = answer(429, b'{"error":{"code":429,"message":"too many requests: wait a moment"}}')
SLOW = answer(408, b'{"error":{"code":408,"message":"request timeout"}}')
ELSEWHERE = answer(404, b"<html>no such service</html>")
LOST = None

Call = Callable[[Any], Any]

ALWAYS: dict[str, tuple[Call, bytes]] = {
    "get_task": (lambda c: c.get_task("1"), TASK),
    "list_tasks": (lambda c: c.list_tasks("t"), b'{"data":[]}'),
    "list_topics": (lambda c: c.list_topics(), b'{"data":[]}'),
    "insert_task": (lambda c: c.insert_task(Task(id="1", topic="t")), b'{"created":1,"updated":0}'),
    "insert_tasks": (lambda c: c.insert_tasks([Task(id="1", topic="t")]), b'{"created":1,"updated":0}'),
    "commit with a nonce": (lambda c: c.patch_task("1", Commit(nonce="n")), TASK),
    "commits with nonces": (lambda c: c.patch_tasks([CommitItem(id="1", nonce="n")]), b'{"data":[]}'),
    "extend with a nonce": (lambda c: c.extend_promise("1", nonce="n"), b'{"_id":"1"}'),
}
CLAIMS: dict[str, tuple[Call, bytes]] = {
    "poll": (lambda c: c.poll("t"), b'{"data":[{"_id":"1","topic":"t"}]}'),
    "insert_promise": (lambda c: c.insert_promise("1"), TASK),
}
UNSENT: dict[str, tuple[Call, bytes]] = {
    "upsert_task": (lambda c: c.upsert_task(Task(id="1", topic="t")), b'{"created":1,"updated":0}'),
    "upsert_tasks": (lambda c: c.upsert_tasks([Task(id="1", topic="t")]), b'{"created":1,"updated":0}'),
    "delete_task": (lambda c: c.delete_task("1"), b'{"deleted":1}'),
    "delete_tasks": (lambda c: c.delete_tasks("t"), b'{"deleted":1}'),
    "delete_topic": (lambda c: c.delete_topic("t"), b'{"deleted":1}'),
    "delete_topics": (lambda c: c.delete_topics(), b'{"deleted":1}'),
    "patch_topic": (lambda c: c.patch_topic("t", paused=True), b'{"name":"t"}'),
    "forced commit": (lambda c: c.patch_task("1"), TASK),
    "forced commits": (lambda c: c.patch_tasks([CommitItem(id="1")]), b'{"data":[]}'),
    "forced claim": (lambda c: c.upsert_promise("1"), TASK),
    "forced extension": (lambda c: c.extend_promise("1"), b'{"_id":"1"}'),
    "forced release": (lambda c: c.delete_promise("1"), b'{"deleted":1}'),
    "release of a topic": (lambda c: c.delete_promises("t"), b'{"deleted":1}'),
}


@pytest.mark.parametrize("name", ALWAYS)
def test_what_is_safe_is_repeated(kind: str, name: str) -> None:
    call, body = ALWAYS[name]
    with ScriptedServer([LOST, AWAY, LOST, answer(200, body)]) as server:
        with connect(kind, server.url) as client:
            call(client)
        assert len(server.requests) == 4
        assert len(set(server.requests)) == 1


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_is_repeated_when_it_was_refused_but_not_when_its_answer_was_lost(
    kind: str, name: str
) -> None:
    call, body = CLAIMS[name]
    with ScriptedServer([AWAY, AWAY, answer(200, body)]) as server:
        with connect(kind, server.url) as client:
            assert call(client).id == "1"
        assert len(server.requests) == 3
    with ScriptedServer([LOST, answer(200, body)]) as server:
        with connect(kind, server.url) as client, pytest.raises(TransportError):
            call(client)
        assert len(server.requests) == 1


@pytest.mark.parametrize("name", UNSENT)
@pytest.mark.parametrize(("failure", "error"), [(LOST, TransportError), (AWAY, ServiceUnavailable)])
def test_what_could_undo_the_work_of_others_is_not_repeated(
    kind: str, name: str, failure: bytes | None, error: type[Exception]
) -> None:
    call, body = UNSENT[name]
    with ScriptedServer([failure, answer(200, body)]) as server:
        with connect(kind, server.url) as client, pytest.raises(error):
            call(client)
        assert len(server.requests) == 1


@pytest.mark.parametrize("name", ALWAYS | CLAIMS | UNSENT)
def test_a_refusal_of_what_was_not_begun_is_repeated_by_every_call(kind: str, name: str) -> None:
    call, body = (ALWAYS | CLAIMS | UNSENT)[name]
    for data in (BUSY, SLOW, ELSEWHERE):
        with ScriptedServer([data, data, answer(200, body)]) as server:
            with connect(kind, server.url) as client:
                call(client)
            assert len(server.requests) == 3


def test_probes_are_never_repeated(kind: str) -> None:
    for name in ("get_liveness", "get_readiness"):
        with ScriptedServer([AWAY, answer(200)]) as server:
            with connect(kind, server.url) as client, pytest.raises(ServiceUnavailable):
                getattr(client, name)()
            assert len(server.requests) == 1


def test_the_number_of_repetitions_is_bounded(kind: str) -> None:
    for retries in (0, 1, 5):
        with ScriptedServer([AWAY] * 20) as server:
            with connect(kind, server.url, retries=retries) as client, pytest.raises(ServiceUnavailable):
                client.get_task("1")
            assert len(server.requests) == retries + 1


def test_other_errors_are_not_repeated(kind: str) -> None:
    for data, error in ((LATE, Conflict), (GONE, NotFound)):
        with ScriptedServer([data, data]) as server:
            with connect(kind, server.url) as client, pytest.raises(error):
                client.get_task("1")
            assert len(server.requests) == 1


def test_a_refusal_after_a_lost_answer_says_that_it_may_have_been_done(kind: str) -> None:
    for script, text in (
        ([LOST, LATE], r"^conflict: taken; an earlier attempt .* may have been carried out$"),
        ([LATE], r"^conflict: taken$"),
    ):
        with (
            ScriptedServer(script) as server,
            connect(kind, server.url) as client,
            pytest.raises(Conflict, match=text),
        ):
            client.insert_task(Task(id="1", topic="t"))


def test_a_commit_whose_answer_was_lost_is_recognised(kind: str, server: RatusServer) -> None:
    with connect(kind, server.url) as client, Cutting(server.url, 1) as proxy:
        client.insert_task(Task(id="1", topic="t"))
        with connect(kind, proxy.url) as other:
            delivery = other.poll("t", consumer="me")
            task = delivery.set_result(7).commit()
        assert (task.state, task.result) == (2, 7)
        assert delivery.settled
        assert not delivery.lost
        # The claim, the commit and its repetition, and the look at what became of the task.
        assert len(proxy.requests) == 4


def test_a_release_whose_answer_was_lost_is_recognised(kind: str, server: RatusServer) -> None:
    with connect(kind, server.url) as client, Cutting(server.url, 1) as proxy:
        client.insert_task(Task(id="1", topic="t"))
        with connect(kind, proxy.url) as other:
            delivery = other.poll("t")
            delivery.release()
        assert delivery.settled
        again = client.poll("t")
        assert (again.id, again.attempts) == ("1", 1)


def test_a_lost_answer_does_not_hide_that_somebody_else_has_the_task(kind: str, server: RatusServer) -> None:
    with connect(kind, server.url) as client:
        client.insert_task(Task(id="1", topic="t"))
        with ScriptedServer([LOST, LATE, answer(200, TASK)]) as scripted, connect(kind, scripted.url) as bad:
            delivery = client.poll("t")
            inner = getattr(delivery, "_target", delivery)
            inner._client = getattr(bad, "_target", bad)
            if kind == "async":
                delivery._run = bad._run
            with pytest.raises(Conflict):
                delivery.commit()
            assert delivery.lost


def test_a_connection_that_cannot_be_made_is_tried_again_by_every_call(kind: str) -> None:
    with RatusServer() as server:
        url = server.url
    pauses = 0

    def chance() -> float:
        nonlocal pauses
        pauses += 1
        return 2.0

    with connect(kind, url) as client:
        getattr(client, "_target", client)._backoff = Backoff(chance)
        for call, _ in (*CLAIMS.values(), *UNSENT.values()):
            pauses = 0
            with pytest.raises(TransportError) as caught:
                call(client)
            assert not caught.value.sent
            assert pauses == 5


# ---- the pure part --------------------------------------------------------------------------------


def test_pauses_double_up_to_the_longest_and_half_of_each_is_left_to_chance() -> None:
    longest = [Backoff(random=lambda: 0.0).pause(failures) for failures in range(1, 30)]
    shortest = [Backoff(random=lambda: 1.0).pause(failures) for failures in range(1, 30)]
    assert longest[:4] == [FIRST_PAUSE, FIRST_PAUSE * 2, FIRST_PAUSE * 4, FIRST_PAUSE * 8]
    assert max(longest) == longest[-1] == LONGEST_PAUSE
    assert shortest == [pause / 2 for pause in longest]


@pytest.mark.parametrize("repeat", Repeat)
def test_what_surely_never_arrived_is_repeated_unless_never(repeat: Repeat) -> None:
    attempts = Attempts(repeat, 1, Backoff())
    pause = attempts.pause(TransportError(sent=False))
    assert (pause is None) is (repeat is Repeat.NEVER)
    assert not attempts.lost
    assert attempts.pause(TransportError(sent=False)) is None, "one repetition is allowed"
