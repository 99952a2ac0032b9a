"""What a scrape of /metrics does to the requests beside it, when there are a thousand topics.

Every topic has been produced into, consumed from and committed to, by a producer and a consumer of its own,
so that all series are there. Requests come at a constant rate while another client scrapes now and then; a
stall is the longest latency of the requests that were due or under way during a scrape. The same is asked
of stretches without a scrape: there the machine stalls, not the scrape.
"""

from __future__ import annotations

import http.client
import threading
import time
from dataclasses import dataclass

from benchmarks import pacer, services, traffic
from benchmarks.benchmark import Rows, Scale, Tables
from benchmarks.pacer import Paced
from benchmarks.progress import step
from benchmarks.statistic import median, percentile

CONNECTIONS = 64
RATE = 2_000.0
"""Requests a second: few enough for a stall to be the scrape's, many enough for each stall to hit some."""
PAUSE = 0.25
"""Seconds between scrapes."""
BAR_MS = 10.0


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    topics: int
    seconds: float


SIZES = {
    Scale.SMOKE: Sizes(20, 0.6),
    Scale.QUICK: Sizes(1_000, 8.0),
    Scale.FULL: Sizes(1_000, 20.0),
}


def measure(scale: Scale) -> Tables:
    """One row with scrapes, one without."""
    sizes = SIZES[scale]
    with services.ratus() as server:
        step(f"{sizes.topics:,} topics with all their series")
        _make_topics(server.port, sizes.topics)
        rows: Rows = []
        for scraping in (False, True):
            step(f"{sizes.seconds:g} s of requests {'with' if scraping else 'without'} scrapes")
            scraper = _Scraper(server.port, scrape=scraping)
            scraper.start()
            name = f"load-{scraping}"
            requests = traffic.inserts("topic-0", name, range(int(RATE * sizes.seconds)))
            try:
                paced = pacer.send(server.port, requests, connections=CONNECTIONS, rate=RATE)
            finally:
                scraper.stop()
            stalls = sorted(_longest(paced, *span) for span in scraper.spans if _inside(paced, span))
            latencies = sorted(paced.latencies)
            rows.append(
                {
                    "topics": sizes.topics,
                    "scrapes": len(stalls) if scraping else 0,
                    "scrape ms": median((end - start) / 1e6 for start, end in scraper.spans)
                    if scraping
                    else None,
                    "scrape KB": scraper.size / 1000 if scraping else None,
                    "p50 ms": percentile(latencies, 50) / 1000,
                    "p99.9 ms": percentile(latencies, 99.9) / 1000,
                    "longest ms": latencies[-1] / 1000,
                    "typical stall ms": median(stalls) if stalls else None,
                    "longest stall ms": stalls[-1] if stalls else None,
                    f"over {BAR_MS:g} ms": sum(latency > BAR_MS * 1000 for latency in latencies),
                    "refused": paced.failed,
                }
            )
    return {"http-metrics": rows}


def _make_topics(port: int, count: int) -> None:
    for number in range(count):
        topic = f"topic-{number}"
        task = b'{"data":[{"_id":"m-%d","producer":"producer-%d","payload":1}]}' % (number, number)
        traffic.post(port, f"/v1/topics/{topic}/tasks", task)
        claimed = traffic.post(port, f"/v1/topics/{topic}/promises", b'{"consumer":"consumer-%d"}' % number)
        commit = b'{"nonce":"%s","state":0}' % claimed["nonce"].encode()
        traffic.post(port, f"/v1/topics/{topic}/tasks/{claimed['_id']}", commit, "PATCH")


def _inside(paced: Paced, span: tuple[int, int]) -> bool:
    return span[0] > paced.clock and span[1] < paced.clock + paced.due[-1] * 1000


def _longest(paced: Paced, start: int, end: int) -> float:
    """Milliseconds that the unluckiest request took of those that were due or under way meanwhile."""
    first, last = (start - paced.clock) // 1000, (end - paced.clock) // 1000
    concerned = (
        done - due for due, done in zip(paced.due, paced.done, strict=True) if due <= last and done >= first
    )
    return max(concerned, default=0) / 1000


class _Scraper(threading.Thread):
    """Scrapes until it is stopped, or only takes the time that it would have waited."""

    def __init__(self, port: int, *, scrape: bool) -> None:
        super().__init__(daemon=True)
        self.spans: list[tuple[int, int]] = []
        self.size = 0
        self._port = port
        self._scrape = scrape
        self._stopping = threading.Event()

    def run(self) -> None:
        while not self._stopping.wait(PAUSE):
            begun = time.monotonic_ns()
            if self._scrape:
                self._fetch()
                self.spans.append((begun, time.monotonic_ns()))
            else:
                self.spans.append((begun, begun + 100_000_000))

    def _fetch(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            connection.request("GET", "/metrics")
            answer = connection.getresponse()
            if answer.status != 200:
                raise RuntimeError(f"GET /metrics: {answer.status}")
            self.size = len(answer.read())
        finally:
            connection.close()

    def stop(self) -> None:
        """Return when it has ended."""
        self._stopping.set()
        self.join()
