"""Consumers of topics with limits, and a check of all that they were answered.

A consumer knows of a claim only what it was answered: it holds its place at the latest from when the answer
came, and at least until it asks for the end of the claim or the deadline comes. Between these two moments the
claim counts. A limit that such claims exceed was exceeded; what was claimed without an answer is not seen.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tests.server.support import ConnectionEnded
from tests.servers import PATIENCE, Api, eventually, instant

LIMITED, ORDERED = "limited", "ordered"

CUSTOMERS = [f"c{number}" for number in range(5)]

CONCURRENCY, PER_CUSTOMER = 6, 2

# Claims in a period, of one customer: fast enough for the run, slow enough to be in the way now and then.
RATE_COUNT, RATE_PERIOD, RATE_BURST = 60, 200_000, 3

LIMITS: dict[str, Any] = {
    LIMITED: {
        "concurrency": CONCURRENCY,
        "per": {
            "label": "customer",
            "concurrency": PER_CUSTOMER,
            "rate": {"count": RATE_COUNT, "period": f"{RATE_PERIOD}us", "burst": RATE_BURST},
        },
    },
    ORDERED: {"per": {"label": "customer", "ordered": True}},
}

# Tasks of each topic that are there at any time, and how long a claim lasts in milliseconds.
STOCK, CLAIM_TIMEOUT = 60, 400

# What a poll of the limited topic may choose beside the limits.
CHOICES: list[dict[str, Any]] = [
    {},
    {},
    {"order": "newest"},
    {"prefer": "user"},
    {"where": {"customer": CUSTOMERS[:3]}},
    {"where": {"user": "u1"}},
]


def now() -> int:
    """Microseconds since 1970 of the clock that the servers have, too."""
    return time.time_ns() // 1000


@dataclass
class Held:
    """A claim that was answered. Times are microseconds; ``ends``: when its consumer asks for its end."""

    topic: str
    customer: str
    task: str
    produced: int
    consumed: int
    deadline: int
    answered: int
    ends: int | None = None

    @property
    def until(self) -> int:
        """At least until when it holds its place."""
        return self.deadline if self.ends is None else min(self.ends, self.deadline)


class Consumers:
    """Threads that insert, claim and end claims at servers that may be killed, up to so many claims."""

    def __init__(self, ports: Sequence[int], claims: int, seed: int, count: int = 8) -> None:
        self.held: list[Held] = []
        self._ports = ports
        self._claims = claims
        self._ids = itertools.count()
        self._lock = threading.Lock()
        self._failures: list[BaseException] = []
        self._draw = random.Random(seed)
        self._threads = [
            threading.Thread(target=self._guarded, args=(number, self._draw.random()), daemon=True)
            for number in range(count)
        ]

    @property
    def done(self) -> bool:
        """Whether enough claims were answered, or something failed."""
        return len(self.held) >= self._claims or bool(self._failures)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """The topics get their limits and tasks; then the consumers work, at least while the block does."""
        with Api(self._ports[0]) as api:
            for topic, limits in LIMITS.items():
                answer = api.patch(f"/topics/{topic}", {"limits": limits})
                assert answer.status == 200, answer.body
                for _ in range(STOCK):
                    self._insert(api, topic, self._draw)
        for thread in self._threads:
            thread.start()
        yield
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive(), "a consumer hangs"
        if self._failures:
            raise self._failures[0]

    def _guarded(self, number: int, seed: float) -> None:
        draw = random.Random(seed)
        try:
            for port in itertools.chain.from_iterable(
                (self._ports[number % len(self._ports)], *self._ports) for _ in itertools.count()
            ):
                if self.done:
                    return
                with contextlib.suppress(OSError, ConnectionEnded), Api(port) as api:
                    while not self.done:
                        self._consume(api, draw)
                time.sleep(0.01)  # a server that was killed refuses connections at once
        except BaseException as failure:
            self._failures.append(failure)

    def _insert(self, api: Api, topic: str, draw: random.Random) -> None:
        with self._lock:
            task_id = f"{topic}-{next(self._ids):06}"
        labels = {"customer": draw.choice(CUSTOMERS), "user": draw.choice(["u1", "u2"])}
        task = {"labels": labels, "priority": draw.choice((0, 0, 0, 1)), "retry": {"delay": "10ms"}}
        answer = api.post(f"/topics/{topic}/tasks/{task_id}", task)
        assert answer.status in (201, 503), answer.body

    def _consume(self, api: Api, draw: random.Random) -> None:
        topic = draw.choice((LIMITED, LIMITED, ORDERED))
        choice = draw.choice(CHOICES) if topic == LIMITED else {}
        limit = draw.choice((1, 1, 2, 4))
        wait = draw.choice((0, 0, 100))
        body = {
            "consumer": "c",
            "timeout": f"{CLAIM_TIMEOUT}ms",
            "limit": limit,
            "wait": f"{wait}ms",
            **choice,
        }
        answer = api.post(f"/topics/{topic}/promises", body)
        if answer.status in (404, 503):
            return
        assert answer.status == 200, answer.body
        answered = now()
        claims = [self._note(topic, task, answered) for task in answer.json["data"]]
        for claim, task in zip(claims, answer.json["data"], strict=True):
            if draw.random() < 0.3:
                time.sleep(draw.uniform(0, 0.01))
            self._end(api, claim, task, draw)

    def _note(self, topic: str, task: dict[str, Any], answered: int) -> Held:
        produced, consumed, deadline = (instant(task[name]) for name in ("produced", "consumed", "deadline"))
        claim = Held(topic, task["labels"]["customer"], task["_id"], produced, consumed, deadline, answered)
        with self._lock:
            self.held.append(claim)
        return claim

    def _end(self, api: Api, claim: Held, task: dict[str, Any], draw: random.Random) -> None:
        """Complete the task, and insert another; or let it fail, give it back, let the claim lapse."""
        then = draw.random()
        if then < 0.05:
            return
        claim.ends = now()
        path = f"/topics/{claim.topic}"
        if then < 0.15:
            answer = api.delete(f"{path}/promises/{task['_id']}?nonce={task['nonce']}")
        elif then < 0.25:
            answer = api.patch(f"{path}/tasks/{task['_id']}", {"nonce": task["nonce"], "error": "boom"})
        else:
            answer = api.patch(f"{path}/tasks/{task['_id']}", {"nonce": task["nonce"]})
            self._insert(api, claim.topic, draw)
        # The claim may have lapsed meanwhile, or the server may have been asked before it was killed.
        assert answer.status in (200, 404, 409, 503), answer.body

    # ---- afterwards ------------------------------------------------------------------------------

    def check_places(self, api: Api) -> None:
        """When every claim has ended, as many tasks can be claimed as the limits say."""
        for _ in range(STOCK):
            for topic in LIMITS:
                self._insert(api, topic, self._draw)
        eventually(lambda: _active(api, LIMITED) + _active(api, ORDERED) == 0, "the last claims to lapse")
        claimed = _claim_all(api, LIMITED, CONCURRENCY)
        assert len(claimed) == CONCURRENCY
        api.patch(f"/topics/{LIMITED}", {"limits": {"per": LIMITS[LIMITED]["per"]}})
        claimed += _claim_all(api, LIMITED, PER_CUSTOMER * len(CUSTOMERS) - CONCURRENCY)
        assert Counter(claimed) == dict.fromkeys(CUSTOMERS, PER_CUSTOMER)
        assert sorted(_claim_all(api, ORDERED, len(CUSTOMERS))) == CUSTOMERS


def _active(api: Api, topic: str) -> int:
    """How many tasks are active, once a poll has let those lapse whose time has come."""
    answer = api.post(f"/topics/{topic}/promises", {"where": {"customer": "nobody"}})
    assert answer.status == 404, answer.body
    active: int = api.get(f"/topics/{topic}").json["states"]["active"]
    return active


def _claim_all(api: Api, topic: str, count: int) -> list[str]:
    """The customers of all tasks that can be claimed: ``count`` of them, and then no more."""
    found: list[str] = []

    def poll() -> list[str]:
        answer = api.post(f"/topics/{topic}/promises", {"limit": 100, "timeout": "1h"})
        assert answer.status in (200, 404), answer.body
        return [task["labels"]["customer"] for task in answer.json["data"]] if answer.status == 200 else []

    def has_all() -> bool:
        found.extend(poll())  # a rate, or the delay of a retry, lets some come later
        return len(found) >= count

    eventually(has_all, f"{count} claims of {topic}")
    assert not poll()
    return found


def excesses(held: Iterable[Held]) -> list[str]:
    """What is wrong with these claims, in words."""
    found: list[str] = []
    by_topic: dict[str, list[Held]] = defaultdict(list)
    by_customer: dict[tuple[str, str], list[Held]] = defaultdict(list)
    for claim in held:
        by_topic[claim.topic].append(claim)
        by_customer[claim.topic, claim.customer].append(claim)
    found += _too_many(by_topic[LIMITED], CONCURRENCY, "claims of the topic")
    for (topic, customer), claims in by_customer.items():
        most = PER_CUSTOMER if topic == LIMITED else 1
        found += _too_many(claims, most, f"claims of {customer} in {topic}")
        if topic == LIMITED:
            found += _too_fast([claim.consumed for claim in claims], customer)
    return found


def _too_many(claims: Iterable[Held], most: int, what: str) -> list[str]:
    """Moments at which more claims were held than allowed."""
    moments: list[tuple[int, int, Callable[[], str]]] = []
    for claim in claims:
        if claim.answered < claim.until:
            moments += [(claim.answered, 1, claim.__repr__), (claim.until, -1, claim.__repr__)]
    found = []
    count = 0
    for moment, by, describe in sorted(moments, key=lambda each: each[:2]):
        count += by
        if count > most:
            found.append(f"{count} {what} at {moment}, with {describe()}")
    return found


def _too_fast(times: list[int], customer: str) -> list[str]:
    """Windows of the rate's period that hold too many claims."""
    times.sort()
    most = RATE_COUNT + RATE_BURST - 1
    return [
        f"{most + 1} claims of {customer} in {last - first} us from {first}"
        for first, last in zip(times, times[most:], strict=False)
        if last - first < RATE_PERIOD
    ]
