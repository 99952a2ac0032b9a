"""Only the server's own words count. What a proxy or a network answers in its place is trouble on the way.

While what is behind a proxy is replaced, the proxy answers itself: with pages of any status, or redirects.
None of that says anything about a task or a claim.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ratus import Client, Conflict, NotFound, RatusError, Retry, Task, TransportError
from ratus.calls.http1 import Response
from ratus.calls.responses import error_of
from ratus.testing import RatusServer
from tests.client.lossy import Deploying, Forwarding
from tests.client.support import InBackground, ScriptedServer, answer, connect

PAGE = b"<html><body>not here</body></html>"

REFUSALS = {
    **{f"{status} page": answer(status, PAGE) for status in (302, 400, 401, 403, 404, 405, 409, 413, 431)},
    "404 empty": answer(404),
    "409 empty": answer(409),
    "404 text": answer(404, b"default backend - 404"),
    "404 error of another shape": answer(404, b'{"error":"not found"}'),
    "404 message alone": answer(404, b'{"message":"no Route matched with those values"}'),
    "404 message without a code": answer(404, b'{"error":{"message":"not found"}}'),
    "409 code as text": answer(409, b'{"error":{"code":"Conflict","message":"conflict"}}'),
    "409 code of another status": answer(409, b'{"error":{"code":404,"message":"not found"}}'),
    "404 cut short": answer(404, b'{"error":{"code":404,"message":"not fou'),
    "404 null": answer(404, b"null"),
    "404 list": answer(404, b'[{"error":{"code":404,"message":"not found"}}]'),
    "301 elsewhere": answer(301, b"", "location: https://example.com/sign-in"),
    "307 elsewhere": answer(307, b"", "location: https://example.com/v1/"),
}
UNKNOWN = {
    "200 page": answer(200, PAGE),
    "200 empty": answer(200),
    "200 other JSON": answer(200, b'{"status":"ok"}'),
    "200 object": answer(200, b"{}"),
    "200 cut short": answer(200, b'{"_id":"1","topic":"t","sta'),
    "200 another task": answer(200, b'{"_id":"2","topic":"t","state":2}'),
    "204": b"HTTP/1.1 204 No Content\r\n\r\n",
    "500 page": answer(500, PAGE),
    "502 page": answer(502, PAGE),
    "503 page": answer(503, PAGE),
    "504 page": answer(504, PAGE),
}


@pytest.mark.parametrize("foreign", REFUSALS | UNKNOWN)
def test_finished_work_is_not_thrown_away(kind: str, server: RatusServer, foreign: str) -> None:
    with (
        Deploying(server.url, (REFUSALS | UNKNOWN)[foreign], 0) as proxy,
        connect(kind, proxy.url) as client,
    ):
        client.insert_task(Task(id="1", topic="t"))
        delivery = client.poll("t")
        proxy.left = 3
        delivery.extend("1m")
        proxy.left = 3
        assert delivery.set_result("done").commit().state == 2
        assert not delivery.lost


@pytest.mark.parametrize("foreign", REFUSALS | UNKNOWN)
def test_a_commit_is_not_taken_for_done_or_refused(kind: str, server: RatusServer, foreign: str) -> None:
    with (
        Deploying(server.url, (REFUSALS | UNKNOWN)[foreign], 0) as proxy,
        connect(kind, proxy.url, retries=0) as client,
    ):
        client.insert_task(Task(id="1", topic="t"))
        delivery = client.poll("t")
        for call in (delivery.commit, delivery.release, delivery.extend):
            proxy.left = 1
            with pytest.raises(RatusError) as caught:
                call()
            assert not isinstance(caught.value, Conflict | NotFound)
            assert not delivery.lost
            assert not delivery.settled
        assert delivery.commit().state == 2


CALLS: dict[str, Callable[[Any], Any]] = {
    "insert_task": lambda c: c.insert_task(Task(id="2", topic="t")),
    "insert_tasks": lambda c: c.insert_tasks([Task(id="2", topic="t")]),
    "upsert_task": lambda c: c.upsert_task(Task(id="1", topic="t")),
    "delete_task": lambda c: c.delete_task("1"),
    "delete_topics": lambda c: c.delete_topics(),
    "get_task": lambda c: c.get_task("1"),
    "list_tasks": lambda c: c.list_tasks("t"),
    "list_topics": lambda c: c.list_topics(),
    "get_topic": lambda c: c.get_topic("t"),
    "patch_topic": lambda c: c.patch_topic("t", paused=True),
    "patch_task": lambda c: c.patch_task("1"),
    "poll": lambda c: c.poll("t").id,
    "insert_promise": lambda c: c.insert_promise("1").id,
    "delete_promises": lambda c: c.delete_promises("t"),
    "get_metrics": lambda c: len(c.get_metrics()) > 0,
}


@pytest.mark.parametrize("name", CALLS)
def test_every_call_goes_on_when_the_server_is_back(kind: str, server: RatusServer, name: str) -> None:
    with Client(server.url) as direct:
        for data in REFUSALS.values():
            direct.delete_topics()
            direct.insert_task(Task(id="1", topic="t"))
            with Deploying(server.url, data) as proxy, connect(kind, proxy.url) as client:
                CALLS[name](client)
                assert len(proxy.requests) == 4


def test_a_worker_goes_on_when_the_server_is_back(kind: str, live: RatusServer) -> None:
    for data in (REFUSALS["404 page"], REFUSALS["409 empty"], REFUSALS["401 page"], UNKNOWN["200 page"]):
        with Client(live.url) as direct, Deploying(live.url, data, 4) as proxy:
            direct.delete_topics()
            direct.insert_task(Task(id="1", topic="t"))
            with connect(kind, proxy.url) as client:
                # The proxy hands one request on at a time: a long poll would hold up the commit.
                ended = InBackground(lambda: client.subscribe("t", lambda _: client.stop(), wait="10ms"))
                ended.join()
            assert direct.get_task("1").state == 2


@pytest.mark.parametrize("probe", ["get_liveness", "get_readiness"])
def test_a_network_that_wants_a_visitor_to_sign_in_is_no_server(kind: str, probe: str) -> None:
    with (
        ScriptedServer([UNKNOWN["200 page"]]) as portal,
        connect(kind, portal.url) as client,
        pytest.raises(TransportError, match="page for a browser"),
    ):
        getattr(client, probe)()


def test_the_error_says_what_answered() -> None:
    error = error_of(Response(301, b"", "", "https://example.com/"))
    assert isinstance(error, TransportError)
    assert (error.status, error.sent) == (301, False)
    assert "https://example.com/" in str(error)
    error = error_of(Response(500, PAGE))
    assert isinstance(error, TransportError)
    assert (error.status, error.sent) == (500, True)
    assert "not here" in str(error)


def test_a_limit_of_size_of_a_proxy_does_not_stand_a_worker_still(kind: str, live: RatusServer) -> None:
    class Narrow(Forwarding):
        """Takes bodies of so many bytes, as proxies do, and answers others with a page."""

        def own_answer(self, number: int) -> bytes | None:
            body = self.requests[-1].partition(b"\r\n\r\n")[2]
            return REFUSALS["413 page"] if len(body) > 2_000 else None

    def handle(delivery: Any) -> None:
        left.append(delivery.id)
        delivery.set_result("x" * (5_000 if delivery.id == "large" else 10))
        if len(left) == 3:
            client.stop()

    left: list[str] = []
    with (
        Client(live.url) as direct,
        Narrow(live.url, lambda _, data: data) as proxy,
        connect(kind, proxy.url) as client,
    ):
        direct.insert_tasks(
            [Task(id=name, topic="t", retry=Retry(max_attempts=1)) for name in ("small", "large", "last")]
        )
        InBackground(lambda: client.subscribe("t", handle, wait="10ms")).join()
        assert [direct.get_task(name).state for name in ("small", "last")] == [2, 2]
        task = direct.get_task("large")
        assert (task.state, task.outcome) == (3, "failed")
        assert "could not be committed" in task.error
