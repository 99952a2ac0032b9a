"""Subscribing, with both clients: what becomes of tasks, how many are claimed, how a worker stops."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from ratus import (
    Client,
    Forbidden,
    Retry,
    Task,
    TaskState,
    Unauthorized,
    Worker,
)
from ratus.testing import RatusServer
from tests.client.support import PATIENCE, InBackground, ScriptedServer, answer, connect


@pytest.fixture
def client(kind: str, live: RatusServer) -> Iterator[Any]:
    """A client of the server whose clock runs, of each kind in turn."""
    with connect(kind, live.url) as made:
        yield made


@pytest.fixture
def observer(live: RatusServer) -> Iterator[Client]:
    """Another client, which looks at what the one under test does."""
    with Client(live.url) as made:
        yield made


def wait_until(condition: Any) -> None:
    """Return once the condition holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.005)


def states(client: Client, topic: str = "t") -> tuple[int, int, int, int]:
    """Pending, active, completed, archived."""
    found = client.get_topic(topic).states
    assert found is not None
    return (found.pending, found.active, found.completed, found.archived)


def run(client: Any, count: int, handler: Any, topics: Any = "t", **options: Any) -> None:
    """Subscribe until so many handlers have ended."""
    lock = threading.Lock()
    ended = 0

    def handle(delivery: Any) -> None:
        nonlocal ended
        try:
            handler(delivery)
        finally:
            with lock:
                ended += 1
                if ended >= count:
                    client.stop()

    InBackground(lambda: client.subscribe(topics, handle, **options)).join()


# ---- what becomes of tasks ------------------------------------------------------------------------


def test_every_task_is_handled_once_and_committed(client: Any, observer: Client) -> None:
    observer.insert_tasks((Task(id=str(n), payload=n) for n in range(500)), topic="t")
    handled: list[int] = []
    run(client, 500, lambda delivery: handled.append(delivery.payload), concurrency=8)
    assert sorted(handled) == list(range(500))
    assert states(observer) == (0, 0, 500, 0)


def test_what_a_handler_sets_is_committed(client: Any, observer: Client) -> None:
    observer.insert_tasks([Task(id="1"), Task(id="2")], topic="t")

    def handle(delivery: Any) -> None:
        if delivery.id == "1":
            delivery.set_result({"ok": True})
        else:
            delivery.retry("1h")

    run(client, 2, handle)
    assert observer.get_task("1").result == {"ok": True}
    later = observer.get_task("2")
    assert (later.state, later.attempts) == (TaskState.PENDING, 0)


def test_an_exception_is_a_failure_and_the_worker_lives_on(
    client: Any, observer: Client, caplog: pytest.LogCaptureFixture
) -> None:
    retry = Retry(max_attempts=2, delay="1ms", jitter=0)
    observer.insert_tasks([Task(id="bad", retry=retry), Task(id="worse"), Task(id="good")], topic="t")

    def handle(delivery: Any) -> None:
        if delivery.id == "bad":
            delivery.set_result("half")
            raise ValueError(f"attempt {delivery.attempts}")
        if delivery.id == "worse" and delivery.attempts == 1:
            raise SystemExit(3)

    with caplog.at_level(logging.WARNING, "ratus.client"):
        # The third attempt at "worse" follows a delay of a second by the server's default policy.
        run(client, 5, handle, concurrency=2)
    bad = observer.get_task("bad")
    assert (bad.state, bad.outcome, bad.attempts, bad.result) == (TaskState.ARCHIVED, "failed", 2, None)
    assert bad.error.startswith("ValueError: attempt 2\n\nTraceback")
    assert observer.get_task("good").state is TaskState.COMPLETED
    assert observer.get_task("worse").state is TaskState.COMPLETED
    assert any("'bad'" in record.message and record.exc_info for record in caplog.records)


def test_a_handler_may_settle_by_itself(client: Any, observer: Client) -> None:
    observer.insert_tasks([Task(id="1"), Task(id="2"), Task(id="3")], topic="t")

    def handle(delivery: Any) -> None:
        if delivery.id == "1":
            delivery.archive().commit()
        elif delivery.id == "2":
            if delivery.attempts == 1 and not released:
                released.append(delivery.id)
                delivery.release()
        else:
            delivery.set_result("first").commit()
            raise ValueError("after the commit, which stands")

    released: list[str] = []
    run(client, 4, handle)
    assert observer.get_task("1").state is TaskState.ARCHIVED
    assert observer.get_task("2").state is TaskState.COMPLETED
    third = observer.get_task("3")
    assert (third.state, third.result, third.error) == (TaskState.COMPLETED, "first", "")


def test_a_forced_commit_overwrites(client: Any, observer: Client) -> None:
    observer.insert_task(Task(id="1", topic="t"))

    def handle(delivery: Any) -> None:
        observer.upsert_task(Task(id="1", topic="t"))  # replaced meanwhile: the nonce is gone
        delivery.force().set_result("forced")

    run(client, 1, handle)
    assert observer.get_task("1").result == "forced"


def test_an_outcome_that_the_server_does_not_take_is_a_failure(client: Any, observer: Client) -> None:
    retry = Retry(max_attempts=1)
    observer.insert_tasks((Task(id=str(n), retry=retry) for n in range(20)), topic="t")

    def handle(delivery: Any) -> None:
        delivery.set_result("x" * 5_000_000 if delivery.id == "7" else "fine")

    run(client, 20, handle, concurrency=4)
    assert states(observer) == (0, 0, 19, 1)
    task = observer.get_task("7")
    assert task.outcome == "failed"
    assert "could not be committed: content too large" in task.error


def test_an_outcome_that_comes_too_late_is_noted(
    client: Any, observer: Client, caplog: pytest.LogCaptureFixture
) -> None:
    observer.insert_task(Task(id="1", topic="t"))
    with caplog.at_level(logging.WARNING, "ratus.client"):
        run(client, 1, lambda delivery: observer.upsert_promise(delivery.id))
    assert "its claim was lost" in caplog.text
    assert observer.get_task("1").state is TaskState.ACTIVE


# ---- how many are claimed, and when ---------------------------------------------------------------


def test_so_many_run_at_a_time_and_no_more(client: Any, observer: Client) -> None:
    observer.insert_tasks((Task(id=str(n)) for n in range(30)), topic="t")
    lock = threading.Lock()
    running = highest = 0

    def handle(delivery: Any) -> None:
        nonlocal running, highest
        with lock:
            running += 1
            highest = max(highest, running)
        time.sleep(0.01)
        with lock:
            running -= 1

    run(client, 30, handle, concurrency=5)
    assert highest == 5


def test_topics_are_worked_on_by_preference(client: Any, observer: Client) -> None:
    observer.insert_tasks(Task(id=f"b{n}", topic="bulk") for n in range(5))
    observer.insert_tasks(Task(id=f"u{n}", topic="urgent") for n in range(5))
    order: list[str] = []
    run(client, 10, lambda delivery: order.append(delivery.topic), topics=["urgent", "bulk"], prefetch=0)
    assert order == ["urgent"] * 5 + ["bulk"] * 5


def test_slow_handlers_claim_nothing_ahead(client: Any, observer: Client) -> None:
    observer.insert_tasks((Task(id=str(n)) for n in range(12)), topic="t")
    most = 0

    def handle(delivery: Any) -> None:
        nonlocal most
        time.sleep(0.15)
        most = max(most, states(observer)[1])  # in the middle, when what was done before is committed
        time.sleep(0.15)

    run(client, 8, handle, concurrency=2)
    assert most <= 2


def test_two_workers_share(kind: str, live: RatusServer, observer: Client) -> None:
    observer.insert_tasks((Task(id=str(n)) for n in range(60)), topic="t")
    shares: Counter[str] = Counter()
    with connect(kind, live.url) as one, connect(kind, live.url) as other:

        def handle(delivery: Any) -> None:
            time.sleep(0.02)
            shares[delivery.task.consumer] += 1

        def work(client: Any, name: str) -> InBackground:
            return InBackground(lambda: client.subscribe("t", handle, consumer=name))

        workers = [work(one, "one"), work(other, "other")]
        wait_until(lambda: states(observer)[2] == 60)
        for client, worker in zip((one, other), workers, strict=True):
            client.stop()
            worker.join()
    assert min(shares["one"], shares["other"]) >= 15


def test_tasks_that_nobody_gets_to_are_given_back(client: Any, observer: Client) -> None:
    # Quick ones make the worker claim ahead; then every handler is held up.
    observer.insert_tasks((Task(id=f"{n:03}") for n in range(300)), topic="t")
    held = threading.Event()

    def handle(delivery: Any) -> None:
        if delivery.id >= "100":
            held.wait(PATIENCE)

    worker = InBackground(lambda: client.subscribe("t", handle, concurrency=2))
    wait_until(lambda: states(observer)[1] > 2)
    wait_until(lambda: states(observer)[1] == 2)
    assert states(observer)[0] == 198
    assert all(task.attempts == 0 for task in observer.iter_tasks("t", state=TaskState.PENDING))
    client.stop()
    held.set()
    worker.join()


def test_an_idle_worker_makes_one_request_per_wait_however_many_threads_it_has(
    client: Any, live: RatusServer, observer: Client
) -> None:
    worker = InBackground(lambda: client.subscribe("t", lambda delivery: None, concurrency=100, wait="250ms"))
    time.sleep(1.1)
    client.stop()
    worker.join()
    lines = [line for line in observer.get_metrics().splitlines() if "duration_seconds_count" in line]
    polls = sum(float(line.rpartition(" ")[2]) for line in lines if "promises" in line)
    assert 1 <= polls <= 6, "four waits of a quarter of a second, one that was interrupted, one to spare"
    assert not [line for line in lines if "/tasks" in line]


def test_a_server_that_does_not_wait_is_not_hammered(kind: str) -> None:
    empty = answer(404, b'{"error":{"code":404,"message":"not found"}}')
    with ScriptedServer([empty] * 1_000) as server, connect(kind, server.url) as client:
        worker = InBackground(lambda: client.subscribe("t", lambda delivery: None))
        time.sleep(0.7)
        client.stop()
        worker.join()
        assert len(server.requests) <= 3


# ---- keeping claims -------------------------------------------------------------------------------


def test_a_claim_is_extended_while_its_handler_runs(client: Any, observer: Client) -> None:
    observer.insert_task(Task(id="1", topic="t"))
    seen: list[Any] = []

    def handle(delivery: Any) -> None:
        first = delivery.deadline
        wait_until(lambda: delivery.deadline > first)
        time.sleep(0.4)
        seen.append((delivery.lost, delivery.attempts))

    run(client, 1, handle, timeout="300ms")
    assert seen == [(False, 1)]
    task = observer.get_task("1")
    assert (task.state, task.attempts, task.error) == (TaskState.COMPLETED, 1, "")


def test_a_handler_is_told_that_its_claim_is_lost(client: Any, observer: Client) -> None:
    observer.insert_task(Task(id="1", topic="t"))
    lost: list[bool] = []

    def handle(delivery: Any) -> None:
        observer.upsert_promise(delivery.id)
        wait_until(lambda: delivery.lost)
        lost.append(True)

    run(client, 1, handle, timeout="500ms")
    assert lost == [True]
    assert observer.get_task("1").state is TaskState.ACTIVE


# ---- stopping -------------------------------------------------------------------------------------


def test_stopping_an_idle_worker_takes_no_time(client: Any, observer: Client) -> None:
    worker = InBackground(lambda: client.subscribe("t", lambda delivery: None, concurrency=4, wait="60s"))
    time.sleep(0.1)  # it waits for tasks by now, or will be stopped before it does
    begun = time.monotonic()
    client.stop()
    worker.join()
    assert time.monotonic() - begun < 30, "the poll that was waiting is answered at once"
    observer.insert_task(Task(id="1", topic="t"))
    delivery = observer.poll("t")
    assert delivery is not None
    assert delivery.attempts == 1, "the interrupted poll claimed nothing"


def test_what_runs_may_finish_and_nothing_new_is_begun(client: Any, observer: Client) -> None:
    observer.insert_tasks((Task(id=str(n)) for n in range(10)), topic="t")
    begun, go = threading.Semaphore(0), threading.Event()

    def handle(delivery: Any) -> None:
        begun.release()
        go.wait(PATIENCE)

    worker = InBackground(lambda: client.subscribe("t", handle, concurrency=2))
    for _ in range(2):
        assert begun.acquire(timeout=PATIENCE)
    client.stop()
    client.stop()  # twice is as good as once
    time.sleep(0.05)
    assert worker.alive
    go.set()
    worker.join()
    assert states(observer) == (8, 0, 2, 0)
    assert all(task.attempts == 0 for task in observer.iter_tasks("t", state=TaskState.PENDING))


def test_what_outlives_the_grace_period_is_released(
    client: Any, observer: Client, caplog: pytest.LogCaptureFixture
) -> None:
    observer.insert_task(Task(id="1", topic="t"))
    begun, ended, go = threading.Event(), threading.Event(), threading.Event()
    lost: list[bool] = []

    def handle(delivery: Any) -> None:
        begun.set()
        go.wait(PATIENCE)
        lost.append(delivery.lost)
        ended.set()

    worker = InBackground(lambda: client.subscribe("t", handle, grace="50ms"))
    assert begun.wait(PATIENCE)
    client.stop()
    with caplog.at_level(logging.WARNING, "ratus.client"):
        worker.join()
    task = observer.get_task("1")
    assert (task.state, task.attempts) == (TaskState.PENDING, 0)
    assert "'1'" in caplog.text
    go.set()
    assert ended.wait(PATIENCE)
    assert lost == [True]
    assert observer.get_task("1").state is TaskState.PENDING


def test_a_worker_is_stopped_before_it_runs_and_runs_once(live: RatusServer) -> None:
    with Client(live.url) as client:
        worker = Worker(client, "t", lambda delivery: None)
        worker.stop()
        InBackground(worker.run).join()
        with pytest.raises(RuntimeError, match="only once"):
            worker.run()


# ---- a server that is away, or says no ------------------------------------------------------------


def test_a_worker_waits_for_its_server(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    with RatusServer() as gone:
        url = gone.url
    handled = threading.Event()
    with connect(kind, url, pauses=True) as client, caplog.at_level(logging.INFO, "ratus.client"):
        worker = InBackground(lambda: client.subscribe("t", lambda delivery: handled.set()))
        wait_until(lambda: "cannot claim tasks" in caplog.text)
        with RatusServer(real_clock=True, port=int(url.rpartition(":")[2])) as server:
            with Client(server.url) as observer:
                observer.insert_task(Task(id="1", topic="t"))
                assert handled.wait(PATIENCE)
                wait_until(lambda: states(observer) == (0, 0, 1, 0))
            client.stop()
            worker.join()
    assert caplog.text.count("cannot claim tasks") == 1, "not one line for each attempt"
    assert "claiming tasks again" in caplog.text


def test_outcomes_are_kept_while_the_server_is_away(kind: str, tmp_path: Any) -> None:
    flags = ("--memdb-snapshot-path", str(tmp_path / "snapshot"))
    first = RatusServer(*flags, real_clock=True)
    first.start()
    port = int(first.url.rpartition(":")[2])
    begun, go, handled = threading.Event(), threading.Event(), []

    def handle(delivery: Any) -> None:
        handled.append(delivery.nonce)
        begun.set()
        go.wait(PATIENCE)

    with connect(kind, first.url, pauses=True) as client:
        client.insert_task(Task(id="1", topic="t"))
        worker = InBackground(lambda: client.subscribe("t", handle))
        assert begun.wait(PATIENCE)
        first.stop()
        go.set()
        time.sleep(0.1)
        with RatusServer(*flags, real_clock=True, port=port) as second, Client(second.url) as observer:
            wait_until(lambda: states(observer) == (0, 0, 1, 0))
            client.stop()
            worker.join()
    assert len(handled) == 1


def test_a_worker_that_may_not_work_ends_with_the_servers_error(kind: str) -> None:
    with RatusServer("--auth-tokens", "small:produce+read") as server:
        for token, error in (("", Unauthorized), ("small", Forbidden)):
            with connect(kind, server.url, token=token) as client, pytest.raises(error):
                InBackground(lambda client=client: client.subscribe("t", print)).join()  # type: ignore[misc]


def test_a_server_that_hands_out_few_at_once_is_asked_for_few(kind: str) -> None:
    with (
        RatusServer("--promise-max-limit", "3", real_clock=True) as server,
        connect(kind, server.url) as client,
        server.client() as observer,
    ):
        observer.insert_tasks((Task(id=str(n)) for n in range(200)), topic="t")
        run(client, 200, lambda delivery: None, concurrency=8)
        assert states(observer) == (0, 0, 200, 0)


@pytest.mark.parametrize("part", ["_hand_out", "_extend"])
def test_a_defect_ends_the_worker_and_does_not_let_it_stand_still(
    kind: str, part: str, live: RatusServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any) -> None:
        raise ZeroDivisionError

    worker = "threads.Worker" if kind == "sync" else "coroutines.AsyncWorker"
    monkeypatch.setattr(f"ratus.worker.{worker}.{part}", broken)
    with connect(kind, live.url) as client:
        client.insert_task(Task(id="1", topic="t"))
        go = threading.Event()
        running = InBackground(
            lambda: client.subscribe("t", lambda delivery: go.wait(2), timeout="300ms", grace=0)
        )
        with pytest.raises(ZeroDivisionError):
            running.join()
        go.set()


def test_commits_that_are_not_allowed_end_the_worker(kind: str) -> None:
    claimed = answer(200, b'{"data":[{"_id":"1","topic":"t","nonce":"n"}]}')
    no = answer(403, b'{"error":{"code":403,"message":"forbidden"}}')
    empty = answer(404, b'{"error":{"code":404,"message":"not found"}}')

    class Mixed(ScriptedServer):
        """Claims are answered, commits are not allowed."""

        def _pick(self) -> Iterator[bytes]:
            handed_out = False
            while True:
                if b"/promises " in self.requests[-1]:
                    yield empty if handed_out else claimed
                    handed_out = True
                else:
                    yield no

        def __init__(self) -> None:
            super().__init__(self._pick())

    with Mixed() as server, connect(kind, server.url) as client, pytest.raises(Forbidden):
        InBackground(lambda: client.subscribe("t", lambda delivery: None)).join()
