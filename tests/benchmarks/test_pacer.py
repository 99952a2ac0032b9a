"""The load generator keeps its rate whatever the server does, and tells what became of each request."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks import pacer
from tests.benchmarks.needs import need

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@contextlib.contextmanager
def answering(answer: Callable[[int], bytes | None]) -> Iterator[int]:
    """A server on one thread that answers the nth request so; with nothing it closes the connection."""
    count = 0
    lock = threading.Lock()
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:

        def serve(client: socket.socket) -> None:
            nonlocal count
            with client:
                while client.recv(65536):
                    with lock:
                        number, count = count, count + 1
                        text = answer(number)
                    if text is None:
                        return
                    client.sendall(text)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    threading.Thread(target=serve, args=(client,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


REQUEST = pacer.request("POST", "/", b"{}")


@pytest.fixture(autouse=True)
def _compiler() -> None:
    need("cc")


def test_requests_are_due_at_the_rate() -> None:
    with answering(lambda number: OK) as port:
        paced = pacer.send(port, [REQUEST] * 100, connections=4, rate=500)
    last = 99 / 500 * 1e6
    # On a busy machine the generator itself stands still now and then.
    assert last - 2 <= paced.due[-1] <= last + paced.standstills + 2
    assert all(sent >= due for sent, due in zip(paced.sent, paced.due, strict=True))
    assert paced.failed == 0
    assert paced.seconds >= 99 / 500


def test_a_pause_is_charged_for_all_who_had_to_wait() -> None:
    def pause_once(number: int) -> bytes:
        if number == 10:
            time.sleep(0.2)
        return OK

    with answering(pause_once) as port:
        paced = pacer.send(port, [REQUEST] * 100, connections=1, rate=200)
    waited = [latency for latency in paced.latencies if latency > 100_000]
    # At 200 a second, twenty are due in the first half of the pause; fewer where the machine keeps the
    # generator from working as well. One that waits for answers would have sent a single one.
    assert len(waited) >= 5


def test_what_keeps_the_generator_from_working_is_not_charged() -> None:
    def stop_the_generator(number: int) -> bytes:
        if number == 10:
            generator = _child()
            os.kill(generator, signal.SIGSTOP)
            time.sleep(0.2)
            os.kill(generator, signal.SIGCONT)
        return OK

    with answering(stop_the_generator) as port:
        paced = pacer.send(port, [REQUEST] * 100, connections=4, rate=200)
    assert paced.longest_standstill >= 200_000
    assert paced.standstills >= paced.longest_standstill
    # Not sooner than at the rate, and those after the standstill not all at once.
    assert all(after - before >= 4_998 for before, after in itertools.pairwise(paced.due))
    # Only the one under way is charged; of forty that would have been due in the meantime, a busy machine may
    # keep some waiting.
    assert sum(latency > 100_000 for latency in paced.latencies) < 10


def test_what_keeps_the_server_from_running_is_not_charged(tmp_path: Path) -> None:
    account = tmp_path / "schedstat"
    account.write_bytes(b"1000 000000400 5\n")

    def stand_still(number: int) -> bytes:
        if number == 10:
            time.sleep(0.2)
            with account.open("r+b") as file:
                file.write(b"1000 200000400 6\n")
        return OK

    with answering(stand_still) as port:
        paced = pacer.send(port, [REQUEST] * 100, connections=4, rate=200, account=account)
    assert paced.longest_of_server == paced.of_server == 200_000
    # By so much what came later is due later: the first of them after a gap. Those that became due meanwhile
    # are charged.
    gaps = [after - before for before, after in itertools.pairwise(paced.due)]
    first = gaps.index(max(gaps)) + 1
    assert gaps[first - 1] >= 100_000
    assert any(latency > 100_000 for latency in paced.latencies[:first])
    assert (99 / 200 + 0.2) * 1e6 - 2 <= paced.due[-1] <= 99 / 200 * 1e6 + paced.standstills + 2


def _child() -> int:
    """The generator that this process has started."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            found = re.match(r"(\d+) \(pacer-.*\) [^Z] (\d+) ", stat.read_text())
            if found is not None and int(found[2]) == os.getpid():
                return int(found[1])
    raise AssertionError("the generator does not run")


def test_without_a_rate_every_request_is_sent_as_soon_as_can_be() -> None:
    with answering(lambda number: OK) as port:
        paced = pacer.send(port, [REQUEST] * 50, connections=2)
    assert paced.failed == 0
    assert len(paced.latencies) == 50
    assert paced.rate > 50


def test_refusals_and_lost_connections_are_failures() -> None:
    def answer(number: int) -> bytes | None:
        return {3: b"HTTP/1.1 409 Conflict\r\ncontent-length: 0\r\n\r\n", 5: None}.get(number, OK)

    with answering(answer) as port:
        paced = pacer.send(port, [REQUEST] * 10, connections=1, rate=200)
    assert sorted(paced.status) == [0, *[200] * 8, 409]
    assert paced.failed == 2


def test_bodies_are_kept_in_the_order_of_the_answers() -> None:
    def answer(number: int) -> bytes:
        return b'HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n{"n":%d}' % (number % 10)

    with answering(answer) as port:
        paced = pacer.send(port, [REQUEST] * 5, connections=1, keep_bodies=True)
    assert paced.bodies == [b'{"n":%d}' % number for number in range(5)]


def test_an_answer_in_pieces_is_put_together() -> None:
    body = b"x" * 300_000
    with answering(
        lambda number: b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
    ) as port:
        paced = pacer.send(port, [REQUEST] * 3, connections=1, keep_bodies=True)
    assert paced.bodies == [body] * 3
