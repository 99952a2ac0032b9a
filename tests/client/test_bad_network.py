"""Behind a network that drops, delays and cuts, every task is executed and committed, none twice."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Any

import pytest

from ratus import Client, Conflict, RatusError, Task, TaskState
from ratus.testing import RatusServer
from tests.client.proxy import Proxy
from tests.client.support import PATIENCE, InBackground, connect

TASKS = 200


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_task_is_executed_and_committed_and_none_twice_under_one_nonce(
    kind: str, seed: int, live: RatusServer
) -> None:
    lock = threading.Lock()
    executed: Counter[tuple[str, str]] = Counter()

    def handle(delivery: Any) -> None:
        with lock:
            executed[delivery.id, delivery.nonce] += 1
        time.sleep(0.001)
        delivery.set_result(delivery.payload)

    options: dict[str, Any] = {"request_timeout": "250ms", "pauses": True}
    with (
        Proxy(live.url, seed=seed, troubles=100) as proxy,
        connect(kind, proxy.url, retries=20, **options) as producer,
        connect(kind, proxy.url, **options) as one,
        connect(kind, proxy.url, **options) as other,
        Client(live.url) as observer,
    ):
        # A claim whose answer was lost comes back when it lapses, so claims are short here.
        settings: dict[str, Any] = {"concurrency": 4, "timeout": "500ms", "wait": "500ms", "prefetch": 0}
        workers = [
            InBackground(lambda worker=worker: worker.subscribe("t", handle, **settings))  # type: ignore[misc]
            for worker in (one, other)
        ]
        for first in range(0, TASKS, 10):
            producer.insert_tasks([Task(id=str(n), topic="t", payload=n) for n in range(first, first + 10)])
        deadline = time.monotonic() + PATIENCE
        while True:
            states = observer.get_topic("t").states
            assert states is not None
            if states.completed == TASKS:
                break
            assert time.monotonic() < deadline, (states, proxy.counts)
            time.sleep(0.02)
        for worker, running in zip((one, other), workers, strict=True):
            worker.stop()
            running.join()
        results = {task.id: task.result for task in observer.iter_tasks("t")}
    assert sum(proxy.counts.values()) >= 20, f"the network was too good: {proxy.counts}"
    assert set(executed.values()) == {1}
    assert {task_id for task_id, _ in executed} == {str(n) for n in range(TASKS)}
    assert results == {str(n): n for n in range(TASKS)}


@pytest.mark.parametrize("seed", [4, 5])
def test_single_calls_end_or_raise_an_error_of_the_tree(kind: str, seed: int, live: RatusServer) -> None:
    unsure: list[str] = []
    with (
        Proxy(live.url, seed=seed, troubles=150) as proxy,
        connect(kind, proxy.url, retries=30, request_timeout="200ms") as client,
        connect(kind, proxy.url, retries=0, request_timeout="200ms") as hasty,
        Client(live.url) as observer,
    ):
        for n in range(60):
            try:
                client.insert_task(Task(id=str(n), topic="t"))
            except Conflict as conflict:
                unsure.append(str(conflict))
            for call in (
                hasty.list_topics,
                lambda n=n: hasty.get_task(str(n)),
                lambda: hasty.poll("t", timeout="1m"),
            ):
                try:
                    call()
                except RatusError:
                    pass
            delivery = observer.insert_promise(str(n)) if observer.get_task(str(n)).state == 0 else None
            if delivery is not None:
                delivery.release()
        assert {task.id for task in observer.iter_tasks("t")} == {str(n) for n in range(60)}
        while (delivery := observer.poll("t")) is not None:
            delivery.commit()
        for state in (TaskState.ACTIVE, TaskState.COMPLETED):
            for task in observer.iter_tasks("t", state=state):
                assert task.attempts == 1
        assert proxy.counts["answers lost"] > 0
    assert len(unsure) < 60
    assert all("an earlier attempt" in each for each in unsure)
