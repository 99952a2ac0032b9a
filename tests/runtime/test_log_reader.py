"""A log that is read slowly or not at all: the server goes on, stops, and reports what is missing."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from ratus.runtime import log_writer, logs
from ratus.runtime.log_writer import ATOMIC_BYTES, LogWriter
from tests.servers import PATIENCE, Api, _environment, eventually, free_port

# What a pipe holds unless it is made larger.
PIPE_BYTES = 65_536


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for each in (reader, writer):
        with contextlib.suppress(OSError):
            os.close(each)


def report(count: int) -> bytes:
    return b"%d dropped\n" % count


def fill(writer: int) -> int:
    """Fill a pipe; the number of bytes that it took."""
    os.set_blocking(writer, False)
    size = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            size += os.write(writer, b"." * 512)
    os.set_blocking(writer, True)
    return size


def read_exactly(reader: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += os.read(reader, size - len(data))
    return data


def read_lines(reader: int) -> list[bytes]:
    with open(reader, "rb", closefd=False) as stream:
        return stream.read().splitlines()


def test_a_line_that_finds_no_reader_does_not_make_its_caller_wait(pipe: tuple[int, int]) -> None:
    reader, descriptor = pipe
    filled = fill(descriptor)
    writer = LogWriter(descriptor, report)
    for number in range(1000):
        writer.put(b"line %d\n" % number)
    read_exactly(reader, filled)
    writer.close()
    os.close(descriptor)
    assert read_lines(reader) == [b"line %d" % number for number in range(1000)]


def test_lines_that_do_not_fit_are_counted_in_their_place(pipe: tuple[int, int]) -> None:
    reader, descriptor = pipe
    filled = fill(descriptor)
    writer = LogWriter(descriptor, report, capacity=100)
    for number in range(50):
        writer.put(b"line %04d\n" % number)
    assert writer.dropped == 40
    read_exactly(reader, filled)
    writer.flush()
    writer.put(b"later\n")
    writer.close()
    os.close(descriptor)
    assert read_lines(reader) == [*(b"line %04d" % number for number in range(10)), b"40 dropped", b"later"]


def test_the_report_comes_once_the_reader_has_caught_up_even_if_nothing_else_is_logged(
    pipe: tuple[int, int],
) -> None:
    reader, descriptor = pipe
    filled = fill(descriptor)
    writer = LogWriter(descriptor, report, capacity=10)
    writer.put(b"0123456789\n")
    writer.put(b"lost\n")
    assert read_exactly(reader, filled + len(b"0123456789\n1 dropped\n")).endswith(b"1 dropped\n")
    writer.close()


def test_a_line_longer_than_the_queue_is_written(pipe: tuple[int, int]) -> None:
    reader, descriptor = pipe
    writer = LogWriter(descriptor, report, capacity=10)
    writer.put(b"x" * 5000 + b"\n")
    writer.close()
    os.close(descriptor)
    assert read_lines(reader) == [b"x" * 5000]


def test_a_reader_that_never_reads_is_given_up_once(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writer, "STANDSTILL_SECONDS", 0.01)
    _, descriptor = pipe
    fill(descriptor)
    writer = LogWriter(descriptor, report)
    writer.put(b"unread\n")
    writer.flush()
    monkeypatch.setattr(log_writer, "STANDSTILL_SECONDS", 1e9)
    monkeypatch.setattr(log_writer, "FLUSH_SECONDS", 1e9)
    writer.close()
    writer.put(b"after the end\n")


def test_a_reader_that_reads_slowly_gets_everything(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writer, "FLUSH_SECONDS", PATIENCE)
    monkeypatch.setattr(log_writer, "STANDSTILL_SECONDS", PATIENCE)
    reader, descriptor = pipe
    lines = [b"line %06d" % number for number in range(20_000)]
    found: list[list[bytes]] = []
    thread = threading.Thread(target=lambda: found.append(read_lines(reader)))
    thread.start()
    writer = LogWriter(descriptor, report)
    for line in lines:
        writer.put(line + b"\n")
    writer.close()
    os.close(descriptor)
    thread.join()
    assert found == [lines]


def test_lines_are_joined_to_pieces_that_are_written_whole(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, descriptor = pipe
    filled = fill(descriptor)
    pieces: list[bytes] = []
    write = os.write

    def recorded(number: int, data: bytes) -> int:
        pieces.append(data)
        return write(number, data)

    monkeypatch.setattr(os, "write", recorded)
    writer = LogWriter(descriptor, report)
    for size in (10, 3000, 2000, 50, 9000, 10):
        writer.put(b"x" * (size - 1) + b"\n")
    read_exactly(reader, filled)
    writer.close()
    assert b"".join(pieces).count(b"\n") == 6
    assert all(piece.endswith(b"\n") for piece in pieces)
    assert all(len(piece) <= ATOMIC_BYTES or piece.count(b"\n") == 1 for piece in pieces)


def test_a_pipe_that_was_made_non_blocking_loses_nothing(pipe: tuple[int, int]) -> None:
    reader, descriptor = pipe
    filled = fill(descriptor)
    os.set_blocking(descriptor, False)
    writer = LogWriter(descriptor, report)
    writer.put(b"line\n")
    assert read_exactly(reader, filled + 5).endswith(b"line\n")
    writer.close()


def test_a_forked_process_writes_its_own_lines_and_none_of_its_parent(pipe: tuple[int, int]) -> None:
    code = """
import os
from ratus.runtime.log_writer import LogWriter
writer = LogWriter(2, lambda count: b"")
writer.put(b"parent\\n")
writer.flush()
child = os.fork()
writer.put(b"child\\n" if child == 0 else b"parent again\\n")
writer.close()
if child:
    os.waitpid(child, 0)
"""
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env=_environment(),
        stderr=subprocess.PIPE,
        timeout=PATIENCE,
    )
    assert sorted(found.stderr.splitlines()) == [b"child", b"parent", b"parent again"]


def test_dropped_lines_are_a_metric_and_a_warning(pipe: tuple[int, int]) -> None:
    reader, descriptor = pipe
    filled = fill(descriptor)
    handler = logs.DescriptorHandler(descriptor)
    handler.setFormatter(logs.PlainFormatter())
    root = logging.getLogger()
    root.addHandler(handler)
    before = logs.dropped()
    try:
        for _ in range(3):
            handler.emit(logging.makeLogRecord({"msg": "x" * (log_writer.QUEUE_BYTES - 100)}))
        assert logs.dropped() == before + 2
    finally:
        root.removeHandler(handler)
    threading.Thread(target=handler.close, daemon=True).start()
    read_exactly(reader, filled + log_writer.QUEUE_BYTES - 100)
    text = b""
    while b"dropped" not in text:
        text = text[-100:] + os.read(reader, 65_536)
    assert b" WARNING 2 log lines were dropped here" in text


@contextlib.contextmanager
def server_with_log_pipe(*flags: str) -> Iterator[tuple[subprocess.Popen[bytes], Api]]:
    port = free_port()
    command = [sys.executable, "-m", "ratus", "--port", str(port), "--bind", "127.0.0.1", *flags]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, env=_environment())
    try:
        assert process.stderr is not None
        # What comes first is read, so that the server is known to listen.
        while b"serving on" not in process.stderr.readline():
            assert process.poll() is None
        with Api(port) as api:
            yield process, api
    finally:
        process.kill()
        process.communicate()


LINES_THAT_FILL_THE_PIPE = 2000


@pytest.mark.parametrize("format", ["plain", "json"])
def test_a_log_that_is_not_read_does_not_stop_the_server(format: str) -> None:
    with server_with_log_pipe("--access-log", "--log-format", format) as (process, api):
        for number in range(LINES_THAT_FILL_THE_PIPE):
            assert api.get(f"/v1/topics/t{number}").status == 404
        assert api.get("/livez").status == 200
        api.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0


def test_a_log_that_is_read_again_at_the_end_misses_nothing() -> None:
    with server_with_log_pipe("--access-log") as (process, api):
        for number in range(LINES_THAT_FILL_THE_PIPE):
            api.get(f"/v1/topics/t{number}")
        api.close()
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0
    numbers = [int(each) for each in re.findall(rb"GET /v1/topics/t(\d+) 404", log)]
    assert numbers == list(range(LINES_THAT_FILL_THE_PIPE))


def test_a_second_signal_ends_a_server_whose_log_is_not_read() -> None:
    with server_with_log_pipe("--access-log", "--shutdown-delay", "1h") as (process, api):
        for number in range(LINES_THAT_FILL_THE_PIPE):
            api.get(f"/v1/topics/t{number}")
        process.send_signal(signal.SIGTERM)
        eventually(lambda: api.get("/readyz").status == 503, "the first signal")
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 128 + signal.SIGTERM


def test_errors_without_a_caller_are_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Stray:
        def __del__(self) -> None:
            raise ValueError("in a finalizer")

    def fail() -> None:
        raise ValueError("in a thread")

    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    logs.catch_stray_errors()
    Stray()
    thread = threading.Thread(target=fail, name="stray")
    thread.start()
    thread.join()
    errors = [record.exc_info and str(record.exc_info[1]) for record in caplog.records]
    assert errors == ["in a finalizer", "in a thread"]
    assert "the thread stray failed" in caplog.text
