"""Labels, what a poll chooses, limits and holds, as both clients send them and read them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from ratus import HTTPRequest, HTTPResponse, Limits, PerLabel, Rate, Task
from tests.client.support import connect
from tests.client.test_transports import scripted

URL = "http://127.0.0.1:8000"
TOPIC = {"name": "t", "limits": {"concurrency": 2, "rate": {"count": 5, "period": "1m0s"}}, "closed": "rate"}
CLAIMED = {"_id": "1", "topic": "t", "state": 1, "nonce": "n", "labels": {"customer": "acme"}}
COMMITTED = {"_id": "1", "topic": "t", "state": 2, "nonce": ""}


def ok(body: Any) -> HTTPResponse:
    return HTTPResponse(200, body=json.dumps(body).encode())


def sent(kind: str, call: Callable[[Any], Any], *answers: Any) -> tuple[Any, list[HTTPRequest]]:
    """What a call returns, and the requests that it sends, which are answered with these bodies."""
    transport = scripted(kind, *map(ok, answers))
    with connect(kind, URL, transport=transport) as client:
        return call(client), transport.requests


def body_of(request: HTTPRequest) -> Any:
    return json.loads(request.body)


def test_labels_of_a_task(kind: str) -> None:
    task = Task(id="1", topic="t", labels={"customer": "acme", "region": ("eu", "us"), "order": 42})
    _, (request,) = sent(kind, lambda client: client.insert_task(task), {"created": 1, "updated": 0})
    assert body_of(request)["labels"] == {"customer": "acme", "region": ["eu", "us"], "order": 42}


@pytest.mark.parametrize(
    "labels", [{"a b": "x"}, {"a": 1.5}, {"a": True}, {"a": "x" * 257}, {f"n{n}": "" for n in range(9)}]
)
def test_labels_that_the_server_would_refuse(labels: Any) -> None:
    with pytest.raises(ValueError, match="labels"):
        Task(id="1", labels=labels)


def test_lists_by_label(kind: str) -> None:
    wanted = {"customer": "a&b", "region": ["eu", "us"], "order": 42}
    _, requests = sent(
        kind,
        lambda client: [client.list_tasks("t", labels=wanted), list(client.iter_tasks("t", labels=wanted))],
        {"data": []},
        {"data": []},
    )
    for request in requests:
        assert request.target.endswith(
            "label.customer=a%26b&label.region=eu&label.region=us&label.order=42"
        ), request.target


@pytest.mark.parametrize("topics", ["t", ["t", "u"]])
def test_a_poll_chooses(kind: str, topics: Any) -> None:
    delivery, (request,) = sent(
        kind,
        lambda client: client.poll(
            topics, order="newest", where={"region": ("eu", "us")}, prefer="region", consumer="me"
        ),
        {"data": [CLAIMED]},
    )
    assert body_of(request) == {
        "consumer": "me",
        "limit": 1,
        "order": "newest",
        "where": {"region": ["eu", "us"]},
        "prefer": ["region"],
        **({} if topics == "t" else {"topics": topics}),
    }
    assert delivery.task.labels == {"customer": "acme"}


def test_a_poll_that_chooses_nothing_says_nothing(kind: str) -> None:
    _, (request,) = sent(kind, lambda client: client.poll_many("t", 5, consumer="me"), {"data": []})
    assert body_of(request) == {"consumer": "me", "limit": 5}


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"order": "first"}, "order: 'first' is none of due, newest, random"),
        ({"where": {}}, "where: name one label"),
        ({"where": {"a": 1, "b": 2}}, "where: name one label"),
        ({"where": {"a": []}}, "where: a: give 1 to 16 values, not 0"),
        ({"where": {"a": list(range(17))}}, "where: a: give 1 to 16 values, not 17"),
        ({"where": {"a b": 1}}, 'where: "a b" is not a name of a label'),
        ({"prefer": []}, "prefer: name 1 to 3 labels, not 0"),
        ({"prefer": ["a", "b", "c", "d"]}, "prefer: name 1 to 3 labels, not 4"),
        ({"prefer": "a,b"}, 'prefer: "a,b" is not a name of a label'),
        ({"prefer": "a", "where": {"b": 1}}, "prefer: together with where"),
    ],
)
def test_choices_that_are_refused(kind: str, choice: Any, message: str) -> None:
    calls: list[Callable[[Any], Any]] = [
        lambda client: client.poll("t", **choice),
        lambda client: client.subscribe("t", print, **choice),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=message.replace("(", r"\(")):
            sent(kind, call)


@pytest.mark.parametrize("choice", [{"where": "eu"}, {"prefer": 5}, {"prefer": [5]}])
def test_choices_of_another_type(kind: str, choice: Any) -> None:
    with pytest.raises(TypeError, match=next(iter(choice))):
        sent(kind, lambda client: client.poll("t", **choice))


# ---- limits and lanes -----------------------------------------------------------------------------


def test_limits_are_set_and_read(kind: str) -> None:
    limits = Limits(
        concurrency=2, rate=Rate(count=5, period="1m", burst=2), per=PerLabel(label="customer", ordered=True)
    )
    topic, (request,) = sent(kind, lambda client: client.set_limits("t", limits), TOPIC)
    assert (request.method, request.target) == ("PATCH", "/v1/topics/t")
    assert body_of(request) == {
        "limits": {
            "concurrency": 2,
            "rate": {"count": 5, "period": "1m0s", "burst": 2},
            "per": {"label": "customer", "ordered": True},
        }
    }
    assert topic.limits == Limits(concurrency=2, rate=Rate(count=5, period=60))
    assert (topic.closed, topic.reopens) == ("rate", None)


def test_limits_are_taken_away(kind: str) -> None:
    _, requests = sent(
        kind, lambda client: [client.set_limits("t", limits) for limits in (None, Limits())], TOPIC, TOPIC
    )
    assert [body_of(request) for request in requests] == [{"limits": {}}, {"limits": {}}]


def test_all_of_a_topic_is_changed_at_once(kind: str) -> None:
    _, (request,) = sent(
        kind,
        lambda client: client.patch_topic("t", paused=True, limits=Limits(concurrency=1), lift_holds=True),
        TOPIC,
    )
    assert body_of(request) == {"paused": True, "limits": {"concurrency": 1}, "hold": None}


@pytest.mark.parametrize(
    "make",
    [
        lambda: Rate(count=5, period="1m", burst=6),
        lambda: Rate(count=0, period="1m"),
        lambda: Rate(count=5, period="9000h"),
        lambda: Limits(concurrency=0),
        lambda: PerLabel(label="a b"),
        lambda: Limits(concurency=1),  # type: ignore[call-arg]
    ],
)
def test_limits_that_the_server_would_refuse(make: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        make()


def test_limits_are_an_object(kind: str) -> None:
    with pytest.raises(TypeError, match="give a Limits, not a dict"):
        sent(kind, lambda client: client.set_limits("t", {"concurrency": 1}))


def test_lanes_are_listed_and_walked(kind: str) -> None:
    held = {"value": "b", "active": 2, "pending": 0, "closed": "hold"}
    first = {"data": [{"value": "a", "active": 0, "pending": 2}, held], "next": "c"}
    second = {"data": [{"active": 1, "pending": 0}]}
    page, (request,) = sent(kind, lambda client: client.list_lanes("t", "customer", limit=2), first)
    assert request.target == "/v1/topics/t/lanes?label=customer&limit=2"
    assert ([lane.value for lane in page], page.next) == (["a", "b"], "c")
    lanes, requests = sent(kind, lambda client: list(client.iter_lanes("t")), first, second)
    assert [(lane.value, lane.active, lane.pending, lane.closed) for lane in lanes] == [
        ("a", 0, 2, None),
        ("b", 2, 0, "hold"),
        (None, 1, 0, None),
    ]
    assert [request.target for request in requests] == [
        "/v1/topics/t/lanes?limit=100&after=",
        "/v1/topics/t/lanes?limit=100&after=c",
    ]


# ---- holds ----------------------------------------------------------------------------------------

OUTCOMES: dict[str, Callable[[Any], Any]] = {
    "commit": lambda delivery: delivery.commit(),
    "abstain": lambda delivery: delivery.abstain().commit(),
    "failure": lambda delivery: delivery.fail("429").commit(),
    "release": lambda delivery: delivery.release(),
}


@pytest.mark.parametrize("end", OUTCOMES.values(), ids=OUTCOMES)
def test_every_outcome_carries_the_hold(kind: str, end: Callable[[Any], Any]) -> None:
    _, (_, request) = sent(
        kind, lambda client: end(client.poll("t").hold("30s")), {"data": [CLAIMED]}, COMMITTED
    )
    assert (body_of(request)["hold"], body_of(request)["nonce"]) == ("30s", "n")


def test_a_failure_that_comes_in_the_place_of_an_outcome_carries_the_hold(kind: str) -> None:
    def fail(client: Any) -> None:
        with client.poll("t") as delivery:
            delivery.set_result("half")
            delivery.hold(60)
            raise TimeoutError("429")

    transport = scripted(kind, ok({"data": [CLAIMED]}), ok(COMMITTED))
    with connect(kind, URL, transport=transport) as client, pytest.raises(TimeoutError):
        fail(client)
    body = body_of(transport.requests[1])
    assert (body["hold"], "result" in body) == ("1m0s", False)
    assert body["error"].startswith("TimeoutError: 429")


def test_reset_forgets_the_hold(kind: str) -> None:
    _, (_, request) = sent(
        kind, lambda client: client.poll("t").hold("30s").reset().commit(), {"data": [CLAIMED]}, COMMITTED
    )
    assert body_of(request) == {"nonce": "n"}


@pytest.mark.parametrize("hold", ["0s", "-1s", "24h1s", "soon"])
def test_holds_that_are_refused(kind: str, hold: str) -> None:
    calls: list[Callable[[Any], Any]] = [
        lambda client: client.poll("t").hold(hold),
        lambda client: client.delete_promise("1", nonce="n", hold=hold),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="hold: "):
            sent(kind, call, {"data": [CLAIMED]})


def test_a_release_by_id_carries_the_hold(kind: str) -> None:
    _, (request,) = sent(
        kind, lambda client: client.delete_promise("1", nonce="n", hold="30s"), {"deleted": 1}
    )
    assert request.target == "/v1/topics//promises/1?nonce=n&hold=30s"
    with pytest.raises(ValueError, match="hold: give the nonce"):
        sent(kind, lambda client: client.delete_promise("1", hold="30s"))


def test_a_worker_sends_the_hold_of_a_handler_that_fails(kind: str) -> None:
    """`429`: the handler holds, and raises; the failure that is committed for it holds as well."""
    commits: list[Any] = []

    def handle(delivery: Any) -> None:
        delivery.hold("30s")
        client.stop()
        raise ConnectionRefusedError("429")

    class Server(type(scripted(kind))):  # type: ignore[misc]
        def send(self, request: HTTPRequest) -> Any:
            if request.method == "PATCH":
                commits.extend(body_of(request)["data"])
                self._script = iter([ok({"data": [{"_id": "1", "status": 200}]})])
            else:
                polls.append(body_of(request))
                self._script = iter([ok({"data": [CLAIMED] if len(polls) == 1 else []})])
            return super().send(request)

    polls: list[Any] = []
    with connect(kind, URL, transport=Server([])) as client:
        client.subscribe(
            "t",
            handle,
            prefer=["customer", "user"],
            order="random",
            **({"signals": False} if kind == "sync" else {}),
        )
    assert (polls[0]["prefer"], polls[0]["order"]) == (["customer", "user"], "random")
    (commit,) = commits
    assert (commit["hold"], commit["nonce"]) == ("30s", "n")
    assert commit["error"].startswith("ConnectionRefusedError: 429")
