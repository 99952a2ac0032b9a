"""Requests that wait, and what happens to their claims when nobody is there to get them."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api.waiters import Stopwatch, Waiter, Waiters, settle
from tests.servers import Answer, Api, Client, Server, assert_error, instant, request_bytes, serving

SECOND = 1_000_000

# A wait that ends "at once" ends in a millisecond; this is what a busy machine may make of it. All waits here
# are longer by far.
AT_ONCE = 3.0


@pytest.fixture
def waiters(server: Server) -> Iterator[Waiters]:
    with Waiters(server.port) as made:
        yield made


# ---- waking up -----------------------------------------------------------------------------------


def test_what_is_due_is_handed_out_without_waiting(api: Api, waiters: Waiters, name: str) -> None:
    api.insert(name, name)
    watch = Stopwatch()
    assert waiters.poll(name).answer().json["_id"] == name
    assert watch.seconds < AT_ONCE


@pytest.mark.parametrize("where", ["query", "body", "topics"])
def test_a_wait_ends_with_the_task(api: Api, waiters: Waiters, name: str, where: str) -> None:
    waiter = {
        "query": lambda: waiters.request(
            "POST", f"/topics/{name}/promises?wait=20s&consumer=q", {"timeout": "1h"}
        ),
        "body": lambda: waiters.request(
            "POST", f"/v1/topics/{name}/promises", {"wait": "20s", "consumer": "q", "timeout": "1h"}
        ),
        "topics": lambda: waiters.request(
            "POST", "/promises?wait=20s&timeout=1h", {"topics": ["x" + name, name], "consumer": "q"}
        ),
    }[where]()
    assert waiter.is_waiting()
    watch = Stopwatch()
    api.insert(name, name, payload=1)
    task = waiter.answer().json
    assert watch.seconds < AT_ONCE
    assert (task["_id"], task["state"], task["consumer"], task["payload"]) == (name, 1, "q", 1)
    # The timeout counts from the claim.
    assert instant(task["deadline"]) - instant(task["consumed"]) == 3600 * SECOND
    assert instant(task["consumed"]) >= instant(task["produced"])


WAKERS: dict[str, Callable[[Api, str], Any]] = {
    "insert": lambda api, name: api.insert(name, f"{name}x"),
    "batch": lambda api, name: api.post(f"/v1/topics/{name}/tasks", {"data": [{"_id": f"{name}x"}]}),
    "upsert": lambda api, name: api.put(f"/v1/topics/{name}/tasks/{name}", {}),
    "upsert from elsewhere": lambda api, name: api.put(f"/v1/topics//tasks/{name}else", {"topic": name}),
    "release": lambda api, name: api.delete(f"/v1/topics/{name}/promises/{name}"),
    "release all": lambda api, name: api.delete(f"/v1/topics/{name}/promises"),
    "commit": lambda api, name: api.commit(name, state=0),
    "commit from elsewhere": lambda api, name: api.commit(f"{name}else", state=0, topic=name),
    "failure": lambda api, name: api.commit(name, error="e", defer="0s"),
    "batch commit": lambda api, name: api.patch("/v1/topics//tasks", {"data": [{"_id": name, "state": 0}]}),
    "revival": lambda api, name: api.commit(f"{name}dead", state=0),
    "resume": lambda api, name: api.patch(f"/v1/topics/{name}", {"paused": False}),
    "shortened claim": lambda api, name: api.patch(f"/v1/topics/{name}/promises/{name}", {"timeout": "1ms"}),
}


@pytest.mark.parametrize("wake", WAKERS.values(), ids=WAKERS.keys())
def test_everything_that_makes_a_task_available_ends_a_wait(
    api: Api, waiters: Waiters, name: str, wake: Callable[[Api, str], Any], request: pytest.FixtureRequest
) -> None:
    api.insert(name, name)
    api.insert(f"{name}elsewhere", f"{name}else")
    api.insert(name, f"{name}dead", state=3)
    if "resume" in request.node.callspec.id:
        api.patch(f"/v1/topics/{name}", {"paused": True})
    else:
        api.claim(name)
    waiter = waiters.poll(name)
    assert waiter.is_waiting()
    watch = Stopwatch()
    wake(api, name)
    assert waiter.answer().json["topic"] == name
    assert watch.seconds < AT_ONCE


def test_a_task_scheduled_for_later_is_handed_out_right_then(api: Api, waiters: Waiters, name: str) -> None:
    waiter = waiters.poll(name)
    api.insert(name, name, defer="300ms")
    assert waiter.is_waiting()
    task = waiter.answer().json
    late = instant(task["consumed"]) - instant(task["scheduled"])
    assert 0 <= late < 100_000  # microseconds; a tick would take up to a second
    # And the other way round: the task was there first.
    api.commit(name, state=0, defer="200ms")
    task = waiters.poll(name).answer().json
    assert 0 <= instant(task["consumed"]) - instant(task["scheduled"]) < 100_000


def test_the_earliest_of_several_wakes(api: Api, waiters: Waiters, name: str) -> None:
    api.insert(name, f"{name}late", defer="1h")
    polls = [waiters.poll(name) for _ in range(2)]
    api.insert(name, f"{name}second", defer="250ms")
    api.insert(name, f"{name}first", defer="100ms")
    assert [each.answer().json["_id"] for each in polls] == [f"{name}first", f"{name}second"]


def test_a_claim_that_lapses_wakes(api: Api, waiters: Waiters, name: str) -> None:
    api.insert(name, name)
    claimed = api.claim(name, timeout="200ms")
    task = waiters.poll(name).answer().json
    assert 0 <= instant(task["consumed"]) - instant(claimed["deadline"]) < 100_000
    assert (task["attempts"], task["error"]) == (2, "deadline exceeded")


def test_a_wait_ends_with_404_when_its_time_is_over(api: Api, waiters: Waiters, name: str) -> None:
    watch = Stopwatch()
    assert_error(waiters.poll(name, "200ms").answer(), 404)
    assert 0.2 <= watch.seconds < AT_ONCE
    # Nobody waits any more: what comes later stays.
    api.insert(name, name)
    assert api.task(name)["state"] == 0


def test_a_wait_ends_before_its_own_deadline(api: Api, waiters: Waiters, name: str) -> None:
    """A claim must not have lapsed before it is made."""
    deadline = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 2))
    watch = Stopwatch()
    assert_error(waiters.poll(name, "20s", deadline=deadline).answer(), 404)
    assert watch.seconds < 2.5
    api.insert(name, name)
    assert api.task(name)["state"] == 0


@pytest.mark.parametrize("wait", ["60.000001s", "61s", "24h", "-1s", "x", "5", "1d"])
def test_waits_that_are_none(api: Api, name: str, wait: str) -> None:
    api.insert(name, name)
    assert_error(api.post(f"/v1/topics/{name}/promises?wait={wait}"), 400, "wait")
    assert_error(api.post(f"/v1/topics/{name}/promises", {"wait": wait}), 400, "wait")
    assert_error(api.post("/v1/promises", {"wait": wait, "topics": [name]}), 400, "wait")
    assert_error(api.get(f"/v1/topics/{name}/tasks/{name}?wait={wait}"), 400, "wait")
    assert api.task(name)["state"] == 0


@pytest.mark.parametrize("wait", ["60s", "0", "0s", ""])
def test_waits_within_the_bound(api: Api, name: str, wait: str) -> None:
    api.insert(name, name)
    assert api.post(f"/v1/topics/{name}/promises?wait={wait}").json["_id"] == name


def test_the_longest_wait_is_a_setting(tmp_path: Path) -> None:
    with (
        serving(tmp_path, "--promise-max-wait", "1s", "--promise-max-limit", "2") as server,
        Api(server.port) as api,
    ):
        assert_error(api.post("/topics/t/promises?wait=1001ms"), 400, "wait")
        assert_error(api.post("/topics/t/promises?limit=3"), 400, "limit")
        assert_error(api.post("/topics/t/promises?wait=10ms&limit=2"), 404)


# ---- order ---------------------------------------------------------------------------------------


def test_waiters_are_served_in_order_of_arrival(api: Api, waiters: Waiters, name: str) -> None:
    polls = [waiters.poll(name) for _ in range(12)]
    for number in range(6):
        api.insert(name, f"{name}-{number:02}")
    data = [{"_id": f"{name}-{number:02}"} for number in range(6, 12)]
    api.post(f"/v1/topics/{name}/tasks", {"data": data})
    assert [each.answer().json["_id"] for each in polls] == [f"{name}-{number:02}" for number in range(12)]


def test_waiters_of_several_topics_stand_in_each_queue(api: Api, waiters: Waiters, name: str) -> None:
    first = waiters.request("POST", "/promises?wait=20s", {"topics": [f"{name}a", f"{name}b"]})
    second = waiters.request("POST", "/promises?wait=20s", {"topics": [f"{name}b", f"{name}a"]})
    third = waiters.poll(f"{name}a")
    api.insert(f"{name}a", f"{name}1")
    assert first.answer().json["_id"] == f"{name}1"
    assert second.is_waiting()
    api.insert(f"{name}a", f"{name}2")
    assert second.answer().json["_id"] == f"{name}2"
    # It has left the other queue, too.
    fourth = waiters.poll(f"{name}b")
    api.insert(f"{name}b", f"{name}3")
    assert fourth.answer().json["_id"] == f"{name}3"
    assert third.is_waiting()
    api.insert(f"{name}a", f"{name}4")
    assert third.answer().json["_id"] == f"{name}4"


@pytest.mark.parametrize("first", ["a", "b"])
def test_nobody_is_overtaken_through_another_topic(api: Api, waiters: Waiters, name: str, first: str) -> None:
    """Who came first for one topic gets its task, though a later one would prefer it to what it can have."""
    early = waiters.poll(f"{name}b")
    late = waiters.request("POST", "/promises?wait=20s", {"topics": [f"{name}b", f"{name}a"]})
    order = ["a", "b"] if first == "a" else ["b", "a"]
    data = [{"_id": f"{name}{topic}", "topic": f"{name}{topic}"} for topic in order]
    assert api.post("/v1/topics//tasks", {"data": data}).status == 201
    assert early.answer().json["_id"] == f"{name}b"
    assert late.answer().json["_id"] == f"{name}a"


def test_a_wait_for_many_is_answered_with_what_is_there(api: Api, waiters: Waiters, name: str) -> None:
    waiter = waiters.request("POST", f"/v1/topics/{name}/promises?wait=20s&limit=10")
    data = [{"_id": f"{name}{number}"} for number in range(3)]
    api.post(f"/v1/topics/{name}/tasks", {"data": data})
    assert [task["_id"] for task in waiter.answer().json["data"]] == [each["_id"] for each in data]


def test_a_poll_that_does_not_wait_passes_those_who_do_not_need_the_task(
    api: Api, waiters: Waiters, name: str
) -> None:
    waiter = waiters.poll(name)
    assert_error(api.post(f"/v1/topics/{name}/promises"), 404)
    assert waiter.is_waiting()
    api.insert(name, name)
    assert waiter.answer().json["_id"] == name


# ---- clients that are gone -----------------------------------------------------------------------

LEAVE: dict[str, Callable[[Waiter], None]] = {
    "close": Waiter.close,
    "half-close": Waiter.half_close,
    "reset": Waiter.reset,
}


@pytest.mark.parametrize("leave", LEAVE.values(), ids=LEAVE.keys())
@pytest.mark.parametrize("place", [0, 1, 2])
def test_who_is_gone_takes_no_task(
    api: Api, waiters: Waiters, name: str, leave: Callable[[Waiter], None], place: int
) -> None:
    polls = [waiters.poll(name) for _ in range(3)]
    leave(polls.pop(place))
    settle(waiters.port)
    for number in range(3):
        api.insert(name, f"{name}{number}")
    assert [each.answer().json["_id"] for each in polls] == [f"{name}0", f"{name}1"]
    task = api.task(f"{name}2")
    assert task["state"] == 0
    assert "attempts" not in task


@pytest.mark.parametrize("first", ["insert", "departure"])
def test_the_task_that_comes_as_the_client_goes(api: Api, waiters: Waiters, name: str, first: str) -> None:
    """They cross. Either the client got the task before it went, or the task is to be had at once."""
    for number in range(30):
        topic = f"{name}{number}"
        waiter = waiters.poll(topic)
        with Client(waiters.port) as producer:
            producer.get(b"/livez")
            insert = request_bytes("POST", f"/v1/topics/{topic}/tasks/{topic}", b"{}")
            if first == "insert":
                producer.send(insert)
                waiter.half_close()
            else:
                waiter.half_close()
                producer.send(insert)
            assert producer.answer().status == 201
        got = waiter.rest()
        task = api.task(topic)
        if got:
            assert task["nonce"].encode() in got
        else:
            assert (task["state"], task.get("attempts", 0)) == (0, 0)


def test_a_large_claim_for_a_client_that_left(api: Api, waiters: Waiters, name: str) -> None:
    """Its answer is compressed aside; nobody is there when that is done."""
    noise = random.Random(1).randbytes(1_400_000).hex()
    api.insert(name, name, payload=noise)
    client = Client(waiters.port)
    headers = {"accept-encoding": "gzip"}
    client.send(request_bytes("POST", f"/v1/topics/{name}/promises", b"{}", headers))
    settle(waiters.port)
    client.reset()
    watch = Stopwatch()
    task = api.claim(name, wait="10s")
    assert watch.seconds < AT_ONCE
    assert task["payload"] == noise
    assert task["attempts"] == 1


def test_a_second_request_behind_a_wait_ends_it_at_once(api: Api, waiters: Waiters, name: str) -> None:
    waiter = waiters.poll(name)
    watch = Stopwatch()
    waiter.send("GET", "/livez")
    assert_error(waiter.answer(), 404)
    assert waiter.answer().status == 200
    assert watch.seconds < AT_ONCE
    api.insert(name, name)
    assert api.task(name)["state"] == 0


def test_two_waits_sent_together(api: Api, waiters: Waiters, name: str) -> None:
    """The first is pressed from the start, the second may wait."""
    with Client(waiters.port) as client:
        request = request_bytes("POST", f"/v1/topics/{name}/promises?wait=20s")
        client.send(request + request)
        assert_error(client.answer(), 404)
        settle(waiters.port)
        api.insert(name, name)
        assert client.answer().json["_id"] == name


def test_a_pressed_wait_still_takes_what_is_due(api: Api, waiters: Waiters, name: str) -> None:
    api.insert(name, name)
    with Client(waiters.port) as client:
        client.send(
            request_bytes("POST", f"/v1/topics/{name}/promises?wait=20s") + request_bytes("GET", "/livez")
        )
        assert client.answer().json["_id"] == name
        assert client.answer().status == 200


# ---- stopping ------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopping_ends_all_waits_with_503_at_once(tmp_path: Path, number: signal.Signals) -> None:
    with (
        serving(tmp_path, "--shutdown-delay", "500ms") as server,
        Api(server.port) as api,
        Waiters(server.port) as waiting,
    ):
        api.insert("t", "a")
        api.claim("t")
        requests = [waiting.poll("t", "60s") for _ in range(5)]
        requests.append(waiting.request("POST", "/promises?wait=60s", {"topics": ["t", "u"]}))
        requests.append(waiting.request("GET", "/topics/t/tasks/a?wait=60s"))
        watch = Stopwatch()
        server.process.send_signal(number)
        for each in requests:
            assert_error(each.answer(), 503)
        assert watch.seconds < AT_ONCE
        # The port is still open, but nobody can wait any more.
        answer = api.post("/topics/t/promises?wait=60s")
        assert_error(answer, 503)
        assert server.wait() == 0


# ---- waiting for a result ------------------------------------------------------------------------

SETTLERS: dict[str, tuple[Callable[[Api, str], Any], int]] = {
    "completed": (lambda api, name: api.commit(name, result=[1]), 2),
    "archived": (lambda api, name: api.commit(name, state=3), 3),
    "in a batch": (lambda api, name: api.patch("/v1/topics//tasks", {"data": [{"_id": name}]}), 2),
    "failed": (lambda api, name: api.commit(name, error="e"), 3),
    "replaced": (lambda api, name: api.put(f"/v1/topics/{name}/tasks/{name}", {"state": 2}), 2),
}


@pytest.mark.parametrize(("settler", "state"), SETTLERS.values(), ids=SETTLERS.keys())
def test_waiting_for_a_task_to_be_done(
    api: Api, waiters: Waiters, name: str, settler: Callable[[Api, str], Any], state: int
) -> None:
    api.insert(name, name, retry={"max_attempts": 1})
    api.claim(name)
    requests = [waiters.request("GET", f"/v1/topics/{name}/tasks/{name}?wait=20s") for _ in range(3)]
    api.patch(f"/v1/topics//promises/{name}", {"timeout": "1h"})
    assert all(each.is_waiting() for each in requests)
    watch = Stopwatch()
    settler(api, name)
    for each in requests:
        task = each.answer().json
        assert (task["_id"], task["state"]) == (name, state)
    assert watch.seconds < AT_ONCE


def test_a_task_that_is_done_is_not_waited_for(api: Api, waiters: Waiters, name: str) -> None:
    for state in (2, 3):
        api.insert(name, f"{name}{state}", state=state)
        watch = Stopwatch()
        assert api.get(f"/v1/topics/{name}/tasks/{name}{state}?wait=20s").json["state"] == state
        assert watch.seconds < AT_ONCE
    assert_error(api.get(f"/v1/topics/{name}/tasks/{name}?wait=20s"), 404)


def test_deleting_the_task_ends_the_wait(api: Api, waiters: Waiters, name: str) -> None:
    api.insert(name, name)
    waiter = waiters.request("GET", f"/v1/topics/{name}/tasks/{name}?wait=20s")
    api.delete(f"/v1/topics/{name}/tasks/{name}")
    assert_error(waiter.answer(), 404)


def test_when_the_wait_ends_the_task_is_shown_as_it_is(api: Api, name: str) -> None:
    api.insert(name, name)
    watch = Stopwatch()
    assert api.get(f"/v1/topics/{name}/tasks/{name}?wait=150ms").json == api.task(name)
    assert 0.15 <= watch.seconds < AT_ONCE


def test_a_request_behind_ends_that_wait_too(api: Api, waiters: Waiters, name: str) -> None:
    api.insert(name, name)
    waiter = waiters.request("GET", f"/v1/topics/{name}/tasks/{name}?wait=20s")
    waiter.send("GET", "/livez")
    answer: Answer = waiter.answer()
    assert answer.json["state"] == 0
    assert waiter.answer().status == 200
