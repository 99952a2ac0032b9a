"""Every endpoint has a method, on both clients alike; one suite drives both against a live server."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import ratus as package
from ratus import (
    AsyncClient,
    BadRequest,
    Client,
    Commit,
    CommitItem,
    Conflict,
    NotFound,
    Retry,
    Task,
    TaskState,
    TransportError,
)
from ratus.api.routes import ROUTES
from ratus.testing import RatusServer
from tests.client.support import InBackground, connect

# Endpoints whose method has another name, and those that are no business of a program's.
OTHER_NAMES = {"poll_topics": "poll", "get_health": "get_liveness", "wait_for_values": "watch_values"}
FOR_BROWSERS = {"get_docs", "get_asset", "get_openapi_json", "get_openapi_yaml"}


def test_every_route_has_a_method() -> None:
    for route in ROUTES:
        if route.operation not in FOR_BROWSERS:
            assert hasattr(Client, OTHER_NAMES.get(route.operation, route.operation)), route.operation


def test_the_clients_are_twins() -> None:
    def methods(kind: type) -> dict[str, Any]:
        return {
            name: method
            for name, method in inspect.getmembers(kind, inspect.isfunction)
            if not name.startswith("_")
        }

    def signature(method: Any) -> str:
        text = str(inspect.signature(method))
        return text.replace("Async", "").replace("coroutines", "threads")

    twins, others = methods(Client), methods(AsyncClient)
    assert list(twins) == list(others)
    for name, method in twins.items():
        assert signature(method) == signature(others[name]), name
        if name not in ("stop", "watch_values") and not name.startswith("iter_"):
            assert inspect.iscoroutinefunction(others[name]), name


# ---- topics ---------------------------------------------------------------------------------------


def test_topics_are_listed_described_paused_and_deleted(ratus: Any) -> None:
    ratus.insert_tasks([Task(id="1", topic="a"), Task(id="2", topic="a"), Task(id="3", topic="b")])

    assert [topic.name for topic in ratus.list_topics()] == ["a", "b"]
    assert [topic.name for topic in ratus.list_topics(limit=1, offset=1)] == ["b"]

    assert ratus.list_topics(details=True) == [ratus.get_topic("a"), ratus.get_topic("b")]

    topic = ratus.get_topic("a")
    assert (topic.count, topic.states.pending, topic.due, topic.paused) == (2, 2, 2, False)
    assert ratus.patch_topic("a", paused=True).paused
    assert ratus.poll("a") is None
    assert not ratus.patch_topic("a", paused=False).paused
    assert ratus.poll("a").id == "1"

    assert ratus.delete_topic("a") == 2
    assert ratus.delete_topics() == 1
    with pytest.raises(NotFound):
        ratus.get_topic("a")


# ---- tasks ----------------------------------------------------------------------------------------


def test_a_task_is_inserted_read_replaced_and_deleted(ratus: Any) -> None:
    task = Task(id="1", topic="mail", payload={"to": "ann"}, retry=Retry(max_attempts=5), priority=3)

    assert ratus.insert_task(task).created == 1
    with pytest.raises(Conflict, match="already exists"):
        ratus.insert_task(task)
    read = ratus.get_task("1")
    assert (read.topic, read.payload, read.priority, read.state) == ("mail", {"to": "ann"}, 3, 0)
    assert read.retry == Retry(max_attempts=5)

    assert ratus.upsert_task(Task(id="1", topic="mail", payload=[])).updated == 1
    assert ratus.get_task("1").payload == []
    assert ratus.delete_task("1") == 1
    assert ratus.delete_task("1") == 0
    with pytest.raises(NotFound):
        ratus.get_task("1")


@pytest.mark.parametrize("name", ["a/b", "ö?&#%", ".", "..", "a b+c", "//", "\u202e\0", "x" * 1024])
def test_any_name_is_an_id_and_a_topic(ratus: Any, name: str) -> None:
    ratus.insert_task(Task(id=name, topic=name))

    assert ratus.get_task(name).topic == name
    assert ratus.get_topic(name).count == 1
    assert [task.id for task in ratus.list_tasks(name)] == [name]
    delivery = ratus.poll(name)
    assert (delivery.id, delivery.topic) == (name, name)
    assert ratus.get_promise(name).id == name
    assert ratus.delete_task(name) == 1


PAYLOADS = [
    0,
    "",
    False,
    [],
    {},
    -0.0,
    1e22,
    2**64,
    -(10**40),
    "ö\u2028\0",
    {"z": 1, "a": [None, {"b": 0.1}]},
]


@pytest.mark.parametrize("payload", PAYLOADS, ids=str)
def test_payloads_and_results_come_back_as_they_were(ratus: Any, payload: Any) -> None:
    ratus.insert_task(Task(id="1", topic="t", payload=payload))

    delivery = ratus.poll("t")
    assert repr(delivery.payload) == repr(payload)
    done = delivery.set_result(payload).commit()
    assert repr(done.result) == repr(payload)
    assert repr(ratus.get_task("1").payload) == repr(payload)


def test_lists_are_filtered_and_walked(ratus: Any) -> None:
    ratus.insert_tasks((Task(id=str(n), producer="p" if n % 2 else "q") for n in range(25)), topic="t")
    delivery = ratus.poll("t", consumer="c")

    assert [task.id for task in ratus.list_tasks("t")] == [str(n) for n in range(10)]
    assert [task.id for task in ratus.list_tasks("t", limit=2, offset=20)] == ["20", "21"]
    assert [task.id for task in ratus.list_tasks("t", state=TaskState.ACTIVE)] == [delivery.id]
    assert [task.id for task in ratus.list_tasks("t", consumer="c")] == [delivery.id]
    assert all(task.producer == "p" for task in ratus.list_tasks("t", producer="p"))
    assert ratus.list_tasks("t", outcome="failed") == []

    first = ratus.list_tasks("t", limit=20, after="")
    rest = ratus.list_tasks("t", limit=20, after=first.next)
    assert [task.id for task in [*first, *rest]] == [str(n) for n in range(25)]
    assert rest.next == ""


def test_iter_tasks_pages_by_itself(ratus: Any) -> None:
    ratus.insert_tasks((Task(id=str(n)) for n in range(250)), topic="t")

    assert [task.id for task in ratus.iter_tasks("t")] == [str(n) for n in range(250)]
    assert len(list(ratus.iter_tasks("t", page_size=7))) == 250
    assert list(ratus.iter_tasks("none")) == []
    assert list(ratus.iter_tasks("t", state=TaskState.COMPLETED)) == []


def test_batches_of_any_size_are_written(ratus: Any) -> None:
    def tasks() -> Iterator[Task]:
        for n in range(2_500):
            yield Task(id=str(n), topic="t", payload="x" * 1_000)

    assert ratus.insert_tasks(tasks()).created == 2_500
    assert ratus.insert_tasks(tasks()).created == 0
    written = ratus.upsert_tasks([*tasks(), Task(id="new", topic="t")], batch_size=999)
    assert (written.created, written.updated) == (1, 2_500)
    assert ratus.insert_tasks([]).created == 0
    with pytest.raises(ValueError, match="batch_size"):
        ratus.insert_tasks([Task(id="1", topic="t")], batch_size=0)
    assert ratus.delete_tasks("t") == 2_501


def test_a_task_of_a_batch_keeps_its_own_topic(ratus: Any) -> None:
    ratus.insert_tasks([Task(id="1"), Task(id="2", topic="own")], topic="common")

    assert (ratus.get_task("1").topic, ratus.get_task("2").topic) == ("common", "own")
    with pytest.raises(BadRequest, match="topic"):
        ratus.insert_tasks([Task(id="3")])


def test_a_task_is_committed_by_force_and_by_nonce(ratus: Any) -> None:
    ratus.insert_task(Task(id="1", topic="t"))

    assert ratus.patch_task("1").state is TaskState.COMPLETED
    assert ratus.patch_task("1", Commit(state=TaskState.PENDING)).state is TaskState.PENDING
    delivery = ratus.poll("t")
    with pytest.raises(Conflict):
        ratus.patch_task("1", Commit(nonce="another"))
    done = ratus.patch_task("1", Commit(nonce=delivery.nonce, result={"n": 1}))
    assert (done.state, done.result) == (TaskState.COMPLETED, {"n": 1})
    with pytest.raises(NotFound):
        ratus.patch_task("2")


def test_many_tasks_are_committed_and_each_stands_alone(ratus: Any) -> None:
    ratus.insert_tasks((Task(id=str(n)) for n in range(5)), topic="t")
    first, second = ratus.poll_many("t", 2)

    results = ratus.patch_tasks(
        [
            CommitItem(id=first.id, nonce=first.nonce),
            CommitItem(id=second.id, nonce="another"),
            CommitItem(id="none"),
            CommitItem(id="4", state=TaskState.ARCHIVED),
        ]
    )
    assert [(result.id, result.status) for result in results] == [
        (first.id, 200),
        (second.id, 409),
        ("none", 404),
        ("4", 200),
    ]
    assert results[0].task.state is TaskState.COMPLETED
    assert results[1].error.message.startswith("conflict")
    assert results[3].task.state is TaskState.ARCHIVED


def test_a_task_is_waited_for(ratus: Any, server: RatusServer, kind: str) -> None:
    ratus.insert_task(Task(id="1", topic="t"))
    with connect(kind, server.url) as other:
        waiting = InBackground(lambda: other.wait_for_task("1"))
        ratus.poll("t").set_result("done").commit()
        task = waiting.join()
    assert (task.state, task.result) == (TaskState.COMPLETED, "done")
    assert ratus.wait_for_task("1", "1h").state is TaskState.COMPLETED
    assert ratus.get_task("1", wait="20s").state is TaskState.COMPLETED


def test_a_wait_for_a_task_ends(kind: str, live: RatusServer) -> None:
    with connect(kind, live.url) as client:
        client.insert_task(Task(id="1", topic="t"))
        assert client.wait_for_task("1", "50ms").state is TaskState.PENDING
        assert client.wait_for_task("1", 0).state is TaskState.PENDING
        with pytest.raises(NotFound):
            client.wait_for_task("2", "50ms")


# ---- promises -------------------------------------------------------------------------------------


def test_tasks_are_claimed_one_by_one_and_in_numbers(ratus: Any, server: RatusServer) -> None:
    ratus.insert_tasks((Task(id=str(n)) for n in range(5)), topic="t")

    delivery = ratus.poll("t", timeout="30s", consumer="me")
    assert (delivery.id, delivery.attempts, len(delivery.nonce)) == ("0", 1, 16)
    assert delivery.task.consumer == "me"
    assert delivery.deadline == server.now + timedelta(seconds=30)
    deadline = server.now + timedelta(minutes=1)
    assert ratus.poll("t", deadline=deadline).deadline == deadline
    assert [each.id for each in ratus.poll_many("t", 10)] == ["2", "3", "4"]
    assert ratus.poll_many("t", 10) == []
    assert ratus.poll("t") is None


def test_topics_are_claimed_from_by_preference(ratus: Any) -> None:
    ratus.insert_tasks([Task(id="1", topic="bulk"), Task(id="2", topic="urgent")])

    assert ratus.poll(["urgent", "bulk"]).id == "2"
    assert [each.id for each in ratus.poll_many(("urgent", "bulk"), 5)] == ["1"]
    assert ratus.poll(["urgent", "bulk"]) is None


def test_a_poll_waits(kind: str, server: RatusServer) -> None:
    with connect(kind, server.url) as client, connect(kind, server.url) as other:
        client.insert_task(Task(id="1", topic="t", defer="10s"))
        waiting = InBackground(lambda: other.poll("t", wait="20s"))
        server.advance("10s")
        assert waiting.join().id == "1"


def test_a_poll_that_waits_in_vain_gives_none(kind: str, live: RatusServer) -> None:
    with connect(kind, live.url) as client:
        assert client.poll("t", wait="20ms") is None


def test_claims_are_listed_extended_and_released(ratus: Any, server: RatusServer) -> None:
    ratus.insert_tasks((Task(id=str(n)) for n in range(3)), topic="t")
    delivery = ratus.poll("t", timeout="30s", consumer="me")
    ratus.poll("t")

    assert [promise.id for promise in ratus.list_promises("t")] == ["0", "1"]
    assert [promise.id for promise in ratus.list_promises("t", limit=1, offset=1)] == ["1"]
    assert ratus.get_promise("0").consumer == "me"
    promise = ratus.extend_promise("0", nonce=delivery.nonce, timeout="1m")
    assert promise.deadline == server.now + timedelta(minutes=1)
    with pytest.raises(Conflict):
        ratus.extend_promise("0", nonce="another")
    assert ratus.extend_promise("0").deadline == server.now + timedelta(minutes=10)

    with pytest.raises(Conflict):
        ratus.delete_promise("0", nonce="another")
    assert ratus.delete_promise("0", nonce=delivery.nonce) == 1
    with pytest.raises(Conflict):
        ratus.delete_promise("0", nonce=delivery.nonce)
    assert ratus.delete_promise("0") == 0
    assert ratus.delete_promises("t") == 1
    with pytest.raises(NotFound):
        ratus.get_promise("0")
    with pytest.raises(NotFound):
        ratus.extend_promise("none", timeout="1s")


def test_a_task_is_claimed_by_id(ratus: Any) -> None:
    ratus.insert_task(Task(id="1", topic="t", defer="1h"))

    delivery = ratus.insert_promise("1", timeout="1m", consumer="me")
    assert (delivery.id, delivery.task.consumer) == ("1", "me")
    with pytest.raises(Conflict):
        ratus.insert_promise("1")
    with pytest.raises(NotFound):
        ratus.insert_promise("2")
    stolen = ratus.upsert_promise("1")
    assert stolen.nonce != delivery.nonce
    with pytest.raises(Conflict):
        delivery.commit()
    assert delivery.lost
    assert stolen.commit().state is TaskState.COMPLETED
    with pytest.raises(NotFound):
        ratus.upsert_promise("2")


# ---- operation, and what is refused before anything is sent ---------------------------------------


def test_probes_and_metrics(ratus: Any) -> None:
    assert ratus.get_liveness() is None
    assert ratus.get_readiness() is None
    assert "ratus_request_duration_seconds" in ratus.get_metrics()


def test_a_stopped_server_is_neither_live_nor_ready(kind: str) -> None:
    with RatusServer() as server:
        url = server.url
    with connect(kind, url) as client:
        for probe in (client.get_liveness, client.get_readiness):
            with pytest.raises(TransportError) as caught:
                probe()
            assert not caught.value.sent


def test_a_closed_client_says_so(ratus: Any) -> None:
    ratus.get_liveness()
    ratus.close()
    with pytest.raises(TransportError, match="closed"):
        ratus.get_liveness()


def test_the_consumer_is_the_host_unless_told(kind: str, server: RatusServer) -> None:
    with connect(kind, server.url, consumer="own") as client:
        client.insert_tasks([Task(id="1"), Task(id="2")], topic="t")
        assert client.poll("t").task.consumer == "own"
        assert client.poll("t", consumer="").task.consumer == ""
    with connect(kind, server.url) as client:
        assert client.consumer


def test_wrong_arguments_are_refused_before_anything_is_sent(kind: str) -> None:
    naive = datetime(2026, 1, 31, 12)  # noqa: DTZ001 - a naive time is the point
    with connect(kind, "http://127.0.0.1:9") as client:
        calls: list[tuple[type[Exception], str, Any]] = [
            (ValueError, "timeout", lambda: client.poll("t", timeout="1d")),
            (ValueError, "naive", lambda: client.poll("t", deadline=naive)),
            (TypeError, "wait", lambda: client.poll("t", wait=True)),
            (TypeError, "deadline", lambda: client.poll("t", deadline=12)),
            (ValueError, "topics", lambda: client.poll([])),
            (ValueError, "topics", lambda: client.poll("")),
            (ValueError, "limit", lambda: client.poll_many("t", 0)),
            (ValueError, "id", lambda: client.get_task("")),
            (ValueError, "id", lambda: client.insert_task(Task(topic="t"))),
            (ValueError, "id", lambda: client.insert_promise("")),
            (ValueError, "topic", lambda: client.get_topic("")),
            (ValueError, "surrogate", lambda: client.get_task("\ud800")),
            (ValueError, "surrogate", lambda: client.insert_task(Task(id="1", payload="\ud800"))),
            (ValueError, "concurrency", lambda: client.subscribe("t", print, concurrency=0)),
            (ValueError, "prefetch", lambda: client.subscribe("t", print, prefetch=-1)),
            (ValueError, "timeout", lambda: client.subscribe("t", print, timeout="1ms")),
            (ValueError, "grace", lambda: client.subscribe("t", print, grace="-1s")),
            (ValueError, "topics", lambda: client.subscribe("", print)),
        ]
        for kind_of_error, text, call in calls:
            with pytest.raises(kind_of_error, match=text):
                call()


WRONG_SETTINGS: list[tuple[str, dict[str, Any], str]] = [
    ("ftp://example.com", {}, "not one such as"),
    ("example.com", {}, "not one such as"),
    ("http://", {}, "not one such as"),
    ("http://user:secret@example.com", {}, "user name"),
    ("http://example.com/?a=b", {}, "query"),
    ("http://example.com:port", {}, "cannot be read"),
    ("http://example.com/a b", {}, "percent-encoded"),
    ("http://example.com", {"retries": -1}, "retries"),
    ("http://example.com", {"token": "a\nb"}, "token"),
    ("http://example.com", {"request_timeout": 0}, "request_timeout"),
    ("http://example.com", {"connect_timeout": "-1s"}, "connect_timeout"),
]


@pytest.mark.parametrize(("url", "options", "text"), WRONG_SETTINGS)
@pytest.mark.parametrize("client", [Client, AsyncClient])
def test_wrong_settings_are_refused(client: Any, url: str, options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text) as caught:
        client(url, **options)
    assert "secret" not in str(caught.value)


def test_times_may_be_given_in_every_way(ratus: Any, server: RatusServer) -> None:
    ratus.insert_tasks((Task(id=str(n)) for n in range(4)), topic="t")
    for timeout in ("90s", 90, 90.0, timedelta(seconds=90)):
        assert ratus.poll("t", timeout=timeout).deadline == server.now + timedelta(seconds=90)
    ratus.delete_promises("t")
    deadline = server.now + timedelta(hours=1)
    assert ratus.poll("t", deadline=deadline.isoformat().replace("+00:00", "Z")).deadline == deadline
    assert ratus.poll("t", deadline=deadline.astimezone(UTC)).deadline == deadline


def test_the_names_are_where_the_readme_says() -> None:
    assert {"Client", "AsyncClient", "Task", "Commit", "Retry", "TaskState"} <= set(package.__all__)
