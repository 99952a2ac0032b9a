"""Log lines: their form, that nobody can forge one, and that a lost standard error harms nothing."""

from __future__ import annotations

import json
import logging
import math
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratus.core.log_fields import fields
from ratus.core.quoting import printable
from ratus.runtime import logs

ROOT = Path(__file__).parents[2]
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
LOGGERS = ("", "ratus", "ratus_engines", "uvicorn", "uvicorn.access", "uvicorn.asgi", "uvicorn.error")

logger = logging.getLogger("ratus.test")


@pytest.fixture
def _logging_restored() -> Iterator[None]:
    """`configure` changes the whole process; this puts back what was there."""
    root = logging.getLogger()
    handlers = list(root.handlers)
    levels = {name: logging.getLogger(name).level for name in LOGGERS}
    yield
    for handler in set(root.handlers) - set(handlers):
        root.removeHandler(handler)
        handler.close()
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    logging.captureWarnings(False)


@pytest.fixture
def configured(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, _logging_restored: None
) -> Callable[..., Callable[[], list[str]]]:
    """Configures the log and returns a function that reads the lines written since."""

    def configure(format: logs.Format = "plain", level: logs.Level = "info") -> Callable[[], list[str]]:
        logs.configure(format, level)

        def read() -> list[str]:
            for handler in logging.getLogger().handlers:
                handler.flush()
            return capfd.readouterr().err.splitlines()

        return read

    return configure


def record(message: object = "hello", *args: object, **members: Any) -> logging.LogRecord:
    made = logging.LogRecord("ratus.test", logging.INFO, "file.py", 7, message, args, None)
    made.created = 1_732_435_200.1239
    vars(made).update(members)
    return made


def plain(made: logging.LogRecord) -> str:
    return logs.PlainFormatter().format(made)


def as_json(made: logging.LogRecord) -> dict[str, Any]:
    line = logs.JsonFormatter().format(made)
    assert line.isascii()
    assert line.isprintable()
    found: dict[str, Any] = json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    return found


def written(made: logging.LogRecord, formatter: logging.Formatter) -> str:
    """What the handler writes; less than a pipe holds."""
    reader, writer = os.pipe()
    handler = logs.DescriptorHandler(writer)
    handler.setFormatter(formatter)
    handler.emit(made)
    handler.close()
    os.close(writer)
    with open(reader, encoding="utf-8") as stream:
        return stream.read()


def raised(error: BaseException) -> Any:
    try:
        raise error
    except BaseException:
        return sys.exc_info()


def test_a_plain_line() -> None:
    assert plain(record("purged %d tasks", 12)) == "2024-11-24T08:00:00.123Z INFO    purged 12 tasks"


def test_the_details_of_a_plain_line() -> None:
    details = {
        "tasks": 12,
        "seconds": 0.25,
        "name": "two words",
        "empty": "",
        "quote": 'a"b',
        "none": None,
        "equals": "a=b",
    }
    assert plain(record(**fields(**details))).partition("hello")[2] == (
        ' tasks=12 seconds=0.25 name="two words" empty="" quote="a\\"b" none=None equals="a=b"'
    )
    assert plain(record(topic="mail")).endswith("hello topic=mail")


def test_a_json_line() -> None:
    assert as_json(record("purged %d tasks", 12, topic="mail", **fields(seconds=0.25, ids=["a", "b"]))) == {
        "time": "2024-11-24T08:00:00.123Z",
        "level": "info",
        "logger": "ratus.test",
        "message": "purged 12 tasks",
        "topic": "mail",
        "seconds": 0.25,
        "ids": ["a", "b"],
    }


def test_a_detail_cannot_replace_a_member_of_the_line() -> None:
    line = as_json(record(**fields(time="never", message="forged", level="critical")))
    assert (line["message"], line["level"]) == ("hello", "info")
    assert (line["message_"], line["level_"], line["time_"]) == ("forged", "critical", "never")


def test_fields_take_the_names_that_logging_itself_refuses(
    configured: Callable[..., Callable[[], list[str]]],
) -> None:
    read = configured("json")
    logger.info("hello", extra=fields(name="a", args="b", message="c"))
    line = json.loads(read()[0])
    assert (line["name"], line["args"], line["message_"]) == ("a", "b", "c")


@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, {1: {2}}, {(1, 2): 3}, object(), b"bytes", Path("/x")],
    ids=lambda value: type(value).__name__,
)
def test_any_detail_can_be_written(value: object) -> None:
    as_json(record(**fields(value=value)))
    assert "\n" not in plain(record(**fields(value=value)))


def test_a_structure_that_holds_itself_can_be_written() -> None:
    loop: list[object] = []
    loop.append(loop)
    assert as_json(record(**fields(loop=loop)))["loop"] == "[[...]]"


def test_a_traceback_is_indented_below_its_line_and_one_member_in_json() -> None:
    made = record(exc_info=raised(ValueError("first\n2024-11-24T08:00:00.123Z INFO    forged\x1b[31m")))
    first, *rest = plain(made).split("\n")
    assert first == "2024-11-24T08:00:00.123Z INFO    hello"
    assert rest
    assert all(line.startswith("    ") and line.isprintable() for line in rest)
    assert as_json(made)["exception"].startswith("Traceback (most recent call last):\n")


def test_a_stack_is_shown_like_a_traceback() -> None:
    made = record(stack_info="Stack (most recent call last):\n  here")
    assert plain(made).endswith("hello\n    Stack (most recent call last):\n      here")
    assert as_json(made)["exception"] == "Stack (most recent call last):\n  here"


@given(st.text(), st.text(), st.text(min_size=1))
def test_no_text_can_begin_a_line_or_drive_a_terminal(message: str, value: str, name: str) -> None:
    made = record(message, **fields(**{name: value}))
    assert plain(made).isprintable()
    line = as_json(made)
    assert line["message"] == message
    assert (line[name] if name not in ("time", "level", "logger", "message") else line[f"{name}_"]) == value


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text", "plain text"),
        ("größer 任务", "größer 任务"),
        ("a\nb\r\tc", "a\\nb\\r\\tc"),
        ("\x1b[2J\x7f\x9b", "\\x1b[2J\\x7f\\x9b"),
        ("a\u2028b\u202ec", "a\\u2028b\\u202ec"),
        ("\ud800", "\\ud800"),
    ],
)
def test_printable(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_a_line_goes_to_standard_error(configured: Callable[..., Callable[[], list[str]]]) -> None:
    read = configured()
    logger.info("one\nline")
    (line,) = read()
    time, rest = line.split(" ", 1)
    assert TIME.fullmatch(time)
    assert rest == "INFO    one\\nline"


@pytest.mark.parametrize(
    ("level", "own", "others"),
    [
        ("debug", ["debug", "info", "warning", "error"], ["warning", "error"]),
        ("info", ["info", "warning", "error"], ["warning", "error"]),
        ("warning", ["warning", "error"], ["warning", "error"]),
        ("error", ["error"], ["error"]),
    ],
)
def test_the_level_is_that_of_our_own_loggers(
    configured: Callable[..., Callable[[], list[str]]], level: logs.Level, own: list[str], others: list[str]
) -> None:
    read = configured("json", level)
    names = (
        "ratus.runtime.chores",
        "ratus_engines.memdb",
        "uvicorn.error",
        "uvicorn.access",
        "pymongo.command",
        "asyncio",
    )
    for name in names:
        for method in ("debug", "info", "warning", "error"):
            getattr(logging.getLogger(name), method)("x")
    found: dict[str, list[str]] = {name: [] for name in names}
    for line in map(json.loads, read()):
        found[line["logger"]].append(line["level"])
    assert found == {name: own if name.startswith("ratus") else others for name in names}


def test_uvicorns_own_handlers_are_replaced(configured: Callable[..., Callable[[], list[str]]]) -> None:
    theirs = logging.getLogger("uvicorn")
    theirs.addHandler(logging.StreamHandler())
    theirs.propagate = False
    read = configured()
    logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
    assert len(read()) == 1


def test_the_last_configuration_counts(configured: Callable[..., Callable[[], list[str]]]) -> None:
    configured("plain", "debug")
    read = configured("json", "warning")
    logger.info("no")
    logger.warning("yes")
    (line,) = read()
    assert json.loads(line)["message"] == "yes"


def test_warnings_of_python_become_lines(configured: Callable[..., Callable[[], list[str]]]) -> None:
    read = configured("json")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)
        logging.captureWarnings(True)
        warnings.warn("something is old", DeprecationWarning, stacklevel=1)
    (line,) = read()
    assert json.loads(line)["logger"] == "py.warnings"
    assert "something is old" in json.loads(line)["message"]


@pytest.mark.parametrize("formatter", [logs.PlainFormatter(), logs.JsonFormatter()], ids=["plain", "json"])
def test_a_wrong_call_is_reported_with_its_place(formatter: logging.Formatter) -> None:
    line = written(record("%d tasks", "many"), formatter)
    assert "file.py:7 cannot be written: TypeError" in line
    assert line.count("\n") == 1


def test_a_long_line_is_written_whole() -> None:
    assert written(record("x" * 30_000), logs.PlainFormatter()).endswith(" " + "x" * 30_000 + "\n")


STOP_CLEANLY = """
import logging, sys
from ratus.runtime import logs
logs.configure("plain", "info")
for number in range(100):
    logging.getLogger("ratus").info("line %d", number)
"""


def exit_code(stderr: int | None, *, before: str = "") -> int:
    command = [sys.executable, "-c", f"{before}\n{STOP_CLEANLY}"]
    return subprocess.run(command, env={"PYTHONPATH": str(ROOT)}, stderr=stderr, check=False).returncode


def test_a_closed_pipe_does_not_change_the_exit_code() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    assert exit_code(writer) == 0
    os.close(writer)


def test_a_full_disk_does_not_change_the_exit_code() -> None:
    with open("/dev/full", "wb") as full:
        assert exit_code(full.fileno()) == 0


def test_a_missing_standard_error_does_not_change_the_exit_code() -> None:
    assert exit_code(None, before="import sys; sys.stderr = None") == 0
    assert exit_code(None, before="import sys; sys.stderr.close()") == 0


def test_lines_do_not_go_to_a_file_that_got_the_number_of_standard_error(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    command = 'exec "$0" -c "$1" 2>&-'
    code = f"import os; assert os.open({str(path)!r}, os.O_CREAT | os.O_WRONLY) == 2\n" + STOP_CLEANLY
    subprocess.run(["bash", "-c", command, sys.executable, code], env={"PYTHONPATH": str(ROOT)}, check=True)
    assert path.read_bytes() == b""
