"""Claims that are lost, or nearly: clocks that are set, networks that swallow, and work that is given up."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from ratus import Client, Conflict, Promise, Retry, Task, TaskState
from ratus.calls.claims import Claimed
from ratus.calls.delivery import BaseDelivery
from ratus.testing import RatusServer
from ratus.worker.keeping import commit_seconds, extension_seconds
from tests.client.blackhole import Blackhole
from tests.client.support import PATIENCE, InBackground, connect

AT_ONCE = Retry(delay="1ms", jitter=0)


@pytest.fixture
def observer(live: RatusServer) -> Iterator[Client]:
    """Another client, which looks at what the one under test does."""
    with Client(live.url) as made:
        yield made


@pytest.fixture
def network(live: RatusServer) -> Iterator[Blackhole]:
    """The network between the client under test and the server."""
    with Blackhole(live.url) as made:
        yield made


def wait_until(condition: Any) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.005)


# ---- whose clock counts -----------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [3_600, 20, 1])
def test_a_server_whose_clock_is_set_back_loses_no_claim(
    ratus: Any, server: RatusServer, seconds: int
) -> None:
    ratus.insert_task(Task(id="1", topic="t"))
    claimed = ratus.poll("t", timeout="10s")
    assert server._manual is not None
    server._manual._now -= seconds * 1_000_000
    claimed.extend()
    assert not claimed.lost
    assert claimed.deadline == server.now + timedelta(seconds=10)
    assert claimed.commit().state is TaskState.COMPLETED


def test_a_server_whose_clock_is_set_forth_does_not_lengthen_a_claim(ratus: Any, server: RatusServer) -> None:
    ratus.insert_task(Task(id="1", topic="t"))
    claimed = ratus.poll("t", timeout="1h")
    server.advance("30m")
    claimed.extend("1us")
    assert claimed.lost, "it was extended for a moment, whatever the server's clock says"


def test_the_time_of_an_extension_counts_from_when_it_was_asked_for() -> None:
    delivery = BaseDelivery(Claimed(id="1", nonce="n"), 60.0, "60s")
    promise = Promise(id="1", deadline="2026-01-31T12:00:00Z")
    delivery._extended(promise, time.monotonic() - 59.0, 60.0)
    assert not delivery.lost
    delivery._extended(promise, time.monotonic() - 61.0, 60.0)
    assert delivery.lost


def test_a_deadline_is_a_time_of_the_server(ratus: Any, server: RatusServer) -> None:
    ratus.insert_task(Task(id="1", topic="t"))
    claimed = ratus.poll("t", timeout="10s")
    claimed.extend(deadline=server.now + timedelta(hours=1))
    assert not claimed.lost


# ---- what was seen as lost --------------------------------------------------------------------------


def test_what_was_seen_as_lost_is_not_committed_on_leaving(ratus: Any) -> None:
    ratus.insert_task(Task(id="1", topic="t"))
    with ratus.poll("t", timeout="1us") as delivery:
        assert delivery.lost
    assert not delivery.settled
    assert ratus.get_task("1").state is TaskState.ACTIVE


def test_what_was_seen_as_lost_may_still_be_committed_or_regained(ratus: Any) -> None:
    # Nobody else has claimed it: the server still takes the nonce.
    ratus.insert_tasks([Task(id="1"), Task(id="2")], topic="t")
    first = ratus.poll("t", timeout="1us")
    assert first.lost
    assert first.commit().state is TaskState.COMPLETED
    with ratus.poll("t", timeout="1us") as second:
        assert second.lost
        second.extend("10s")
        assert not second.lost
    assert ratus.get_task("2").state is TaskState.COMPLETED


def test_what_went_to_another_consumer_stays_lost(ratus: Any) -> None:
    ratus.insert_task(Task(id="1", topic="t"))
    with ratus.poll("t") as delivery:
        ratus.upsert_promise("1")
        with pytest.raises(Conflict):
            delivery.extend()
        assert delivery.lost
    assert ratus.get_task("1").state is TaskState.ACTIVE


def test_work_that_was_given_up_while_the_network_was_away_is_not_completed(
    kind: str, network: Blackhole, observer: Client
) -> None:
    observer.insert_task(Task(id="1", topic="t", retry=AT_ONCE))
    runs: list[str] = []

    def handle(delivery: Any) -> None:
        runs.append(delivery.nonce)
        if len(runs) > 1:
            delivery.set_result("second")
            return
        delivery.set_result("given up")
        network.swallow_all()
        wait_until(lambda: delivery.lost)
        network.recover()

    with connect(kind, network.url, request_timeout="1s") as client:
        worker = InBackground(lambda: client.subscribe("t", handle, timeout="600ms", wait="200ms"))
        assert observer.wait_for_task("1", PATIENCE).result == "second"
        client.stop()
        worker.join()
    task = observer.get_task("1")
    assert (task.state, task.attempts, len(runs)) == (TaskState.COMPLETED, 2, 2)


def test_a_handler_that_gives_up_for_a_lost_claim_completes_nothing(
    kind: str, live: RatusServer, observer: Client, caplog: pytest.LogCaptureFixture
) -> None:
    # By the server's clock the claim holds for another minute.
    observer.insert_task(Task(id="1", topic="t"))
    begun = threading.Event()

    def handle(delivery: Any) -> None:
        getattr(delivery, "_target", delivery)._expires = time.monotonic()
        if delivery.lost:
            begun.set()
            return

    with connect(kind, live.url) as client:
        worker = InBackground(lambda: client.subscribe("t", handle))
        assert begun.wait(PATIENCE)
        client.stop()
        worker.join()
    assert observer.get_task("1").state is TaskState.ACTIVE
    assert "given up" in caplog.text


def test_what_lapsed_before_it_was_begun_is_not_begun(
    kind: str, live: RatusServer, observer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if the process had stood still between the claim and the handler.
    observer.insert_task(Task(id="1", topic="t"))
    begun: list[int] = []
    name = "Delivery" if kind == "sync" else "AsyncDelivery"
    module = f"ratus.worker.{'threads' if kind == 'sync' else 'coroutines'}.{name}"
    with connect(kind, live.url) as client:
        real = getattr(__import__("ratus"), name)
        first = iter([True])

        def made(inner: Any, claimed: Any, lease: float, timeout: Any) -> Any:
            return real(inner, claimed, -1.0 if next(first, False) else lease, timeout)

        monkeypatch.setattr(module, made)
        worker = InBackground(lambda: client.subscribe("t", lambda delivery: begun.append(delivery.attempts)))
        assert observer.wait_for_task("1", PATIENCE).state is TaskState.COMPLETED
        client.stop()
        worker.join()
    assert begun == [1], "the first claim was given back, which is no attempt"


# ---- connections that swallow -----------------------------------------------------------------------


def test_extensions_that_hang_hold_up_no_other_and_are_made_anew(
    kind: str, network: Blackhole, observer: Client
) -> None:
    observer.insert_tasks((Task(id=str(n), retry=AT_ONCE) for n in range(4)), topic="t")
    running = threading.Barrier(5)
    swallowed = threading.Event()
    lost: list[bool] = []

    def handle(delivery: Any) -> None:
        running.wait(PATIENCE)
        assert swallowed.wait(PATIENCE)
        first = delivery.deadline
        wait_until(lambda: delivery.deadline > first)
        lost.append(delivery.lost)

    with connect(kind, network.url) as client:
        for each in [InBackground(client.get_metrics) for _ in range(4)]:
            each.join()  # connections that are kept, and will be taken for the extensions
        worker = InBackground(lambda: client.subscribe("t", handle, concurrency=4, timeout="6s"))
        running.wait(PATIENCE)
        network.swallow_existing()
        swallowed.set()
        wait_until(lambda: len(lost) == 4)
        for number in range(4):
            assert observer.wait_for_task(str(number), PATIENCE).attempts == 1
        client.stop()
        worker.join()
    assert lost == [False] * 4


def test_an_outcome_on_a_connection_that_swallows_arrives_while_its_claim_holds(
    kind: str, network: Blackhole, observer: Client
) -> None:
    observer.insert_task(Task(id="1", topic="t"))

    def handle(delivery: Any) -> None:
        network.swallow_existing()

    with connect(kind, network.url) as client:
        for each in [InBackground(client.get_metrics) for _ in range(4)]:
            each.join()
        worker = InBackground(lambda: client.subscribe("t", handle, timeout="6s", wait="1s"))
        task = observer.wait_for_task("1", PATIENCE)
        assert (task.state, task.attempts) == (TaskState.COMPLETED, 1)
        client.stop()
        worker.join()


def test_an_answer_that_did_not_come_casts_doubt_on_the_other_connections(
    kind: str, network: Blackhole
) -> None:
    with connect(kind, network.url, request_timeout="500ms", retries=1) as client:
        for each in [InBackground(client.get_metrics) for _ in range(4)]:
            each.join()
        network.swallow_existing()
        assert "ratus_" in client.get_metrics()


def test_a_try_takes_a_share_of_what_is_left() -> None:
    delivery = BaseDelivery(Claimed(id="1", nonce="n"), 60.0, "60s")
    now = delivery._received
    assert extension_seconds(delivery, 60.0, now + 20, 30.0) == pytest.approx(40 / 3)
    assert extension_seconds(delivery, 60.0, now + 20, 5.0) == 5.0
    assert extension_seconds(delivery, 60.0, now + 59.9, 30.0) == 0.25
    assert extension_seconds(delivery, 60.0, now + 61, 30.0) == 20.0, "after it has lapsed there is no hurry"
    assert commit_seconds([delivery], now + 40, 30.0) == pytest.approx(10.0)
    assert commit_seconds([delivery], now + 61, 30.0) == 30.0
    assert commit_seconds([], now, 30.0) == 30.0
