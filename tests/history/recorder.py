"""Clients that use a queue and record every request with its answer; see `checker`."""

from __future__ import annotations

import contextlib
import itertools
import math
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tests.history.checker import Claim, Commit, Delivery, Extend, History, Insert, Left, Request
from tests.server.support import ConnectionEnded
from tests.servers import PATIENCE, Answer, Api, segment

TOPIC = "history"

# Short enough for many claims to lapse in a run, long enough for most not to. In seconds.
CLAIM_TIMEOUT = 1.5

# Answers that say that nothing was changed. Where the server is unavailable that is unknown.
# Any other answer is a fault of the server and ends the run.
REFUSED = range(400, 500)
UNAVAILABLE = 503


class Recorder:
    """Runs clients against the servers at these ports, while the caller makes trouble, and records a history.

    The ports stay the same when a server is restarted. Every client begins with another server, and goes on
    with the next one when its own does not answer.
    """

    def __init__(self, ports: Sequence[int], seed: int, *, producers: int = 2, consumers: int = 4) -> None:
        self.history = History()
        self._ports = ports
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._stop_producing = threading.Event()
        self._stop = threading.Event()
        self._failures: list[BaseException] = []
        work = [self._produce] * producers + [self._consume] * consumers
        self._threads = [
            threading.Thread(target=self._guarded, args=(each, number), daemon=True)
            for number, each in enumerate(work)
        ]
        self._producers = producers

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """The clients run while the block does; then what they inserted is worked off."""
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._stop_producing.set()
            for thread in self._threads[: self._producers]:
                thread.join(PATIENCE)
        try:
            self._drain()
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join(PATIENCE)
        assert not any(thread.is_alive() for thread in self._threads), "a client did not stop"
        if self._failures:
            raise self._failures[0]
        self.history.left = self._read()

    def _guarded(self, work: Callable[[int], None], number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            self._failures.append(error)

    def _record(self, request: Request) -> None:
        with self._lock:
            self.history.requests.append(request)

    # ---- clients ---------------------------------------------------------------------------------------

    def _produce(self, number: int) -> None:
        draw = random.Random(self._random.random())
        caller = _Caller(self._ports, number)
        for count in itertools.count():
            if self._stop_producing.wait(draw.uniform(0, 0.01)):
                break
            tasks = [f"{number}-{count}-{index}" for index in range(draw.choice((1, 1, 5)))]
            priority = draw.choice((0, 0, 0, 5, -3))
            data = [{"_id": task, "priority": priority, "retry": {"delay": "0s"}} for task in tasks]
            started, ended, answer = caller("POST", f"/v1/topics/{TOPIC}/tasks", {"data": data})
            accepted = answer is not None
            for task in tasks:
                self._record(Insert(started, ended, accepted, task, priority))
        caller.close()

    def _consume(self, number: int) -> None:
        draw = random.Random(self._random.random())
        caller = _Caller(self._ports, number)
        while not self._stop.is_set():
            body = {"timeout": f"{CLAIM_TIMEOUT}s", "limit": draw.choice((1, 1, 4)), "wait": "200ms"}
            started, ended, answer = caller("POST", f"/v1/topics/{TOPIC}/promises", body)
            found = [] if answer is None else answer.get("data", [answer])
            deliveries = tuple(
                Delivery(each["_id"], each["nonce"], each["attempts"], each.get("priority", 0))
                for each in found
            )
            if math.isinf(ended) or deliveries:
                noticed = time.monotonic()
                self._record(
                    Claim(started, ended, bool(deliveries), CLAIM_TIMEOUT, deliveries, noticed=noticed)
                )
            for delivery in deliveries:
                self._work(draw, caller, delivery)
        caller.close()

    def _work(self, draw: random.Random, caller: _Caller, delivery: Delivery) -> None:
        """Do with a claim what consumers do: also nothing, and too late."""
        task, nonce = delivery.task, delivery.nonce
        if not self._stop_producing.is_set():
            fate = draw.random()
            if fate < 0.05:
                return  # a consumer that died
            if fate < 0.10:
                # Around the deadline, so that an extension, a lapse and another claim meet.
                self._stop.wait(draw.uniform(0.8, 1.1) * CLAIM_TIMEOUT)
                self._extend(caller, task, nonce)
        outcome = draw.choices(("completed", "failed", "released"), (8, 1, 1))[0]
        commits: dict[str, dict[str, Any]] = {
            "completed": {"state": 2},
            "failed": {"error": "failed"},
            "released": {"state": 0},
        }
        target = f"/v1/topics/{TOPIC}/tasks/{segment(task)}"
        started, ended, answer = caller("PATCH", target, {"nonce": nonce, **commits[outcome]})
        self._record(Commit(started, ended, answer is not None, task, nonce, outcome))

    def _extend(self, caller: _Caller, task: str, nonce: str) -> None:
        timeout = 2 * CLAIM_TIMEOUT
        target = f"/v1/topics/{TOPIC}/promises/{segment(task)}"
        started, ended, answer = caller("PATCH", target, {"nonce": nonce, "timeout": f"{timeout}s"})
        self._record(Extend(started, ended, answer is not None, task, nonce, timeout))

    # ---- the end ---------------------------------------------------------------------------------------

    def _drain(self) -> None:
        """Wait until nothing is pending or active."""
        deadline = time.monotonic() + PATIENCE
        caller = _Caller(self._ports, 0)
        while not self._failures:
            _, _, topic = caller("GET", f"/v1/topics/{TOPIC}", None)
            if topic is not None and not topic["states"]["pending"] and not topic["states"]["active"]:
                break
            assert time.monotonic() < deadline, f"the tasks are not worked off in time: {topic}"
            # The end of all work is nothing that can be waited for.
            time.sleep(0.1)
        caller.close()

    def _read(self) -> dict[str, Left]:
        """All tasks that are there."""
        left: dict[str, Left] = {}
        deadline = time.monotonic() + PATIENCE
        caller, after = _Caller(self._ports, 0), ""
        while True:
            _, _, page = caller("GET", f"/v1/topics/{TOPIC}/tasks?limit=100&after={after}", None)
            if page is None:  # a server may not have found the new primary yet
                assert time.monotonic() < deadline, "the tasks cannot be read"
                continue
            left |= {each["_id"]: Left(each["state"], each.get("attempts", 0)) for each in page["data"]}
            after = page.get("next", "")
            if not after:
                caller.close()
                return left


class _Caller:
    """Sends requests, and says when each was sent and answered."""

    def __init__(self, ports: Sequence[int], number: int) -> None:
        self._servers = itertools.cycle([*ports[number % len(ports) :], *ports[: number % len(ports)]])
        self._api = Api(next(self._servers))

    def __call__(self, method: str, target: str, body: Any) -> tuple[float, float, Any]:
        """When the request was sent, when its answer came (else infinite), its value if it succeeded."""
        started = time.monotonic()
        try:
            answer: Answer | None = self._api.request(method, target, body)
        except (OSError, ConnectionEnded):
            answer = None
        ended = time.monotonic()
        if answer is None or answer.status == UNAVAILABLE:
            self._api.close()
            self._api = Api(next(self._servers))
            # A server that is down refuses at once; the history need not be full of that.
            time.sleep(0.02)
            return started, math.inf, None
        assert answer.status < 300 or answer.status in REFUSED, (
            f"{method} {target}: {answer.status} {answer.body!r}"
        )
        return started, ended, answer.json if answer.status < 300 else None

    def close(self) -> None:
        self._api.close()
