"""The log on standard error: one line a record, as plain text or JSON. Clients' text cannot forge a line."""

from __future__ import annotations

import json
import logging
import math
import sys
import threading
from datetime import UTC, datetime
from typing import Any, Final, Literal

from ratus.core.quoting import printable
from ratus.runtime.log_writer import LogWriter

Format = Literal["plain", "json"]
Level = Literal["debug", "info", "warning", "error"]

# What the standard library itself puts into a record; everything else came through `extra`.
_STANDARD: Final = frozenset(vars(logging.LogRecord("", 0, "", 0, "", (), None))) | {
    "message",
    "asctime",
    "taskName",  # new in Python 3.12
    "color_message",  # uvicorn's copy of the message with escape sequences for a terminal
}

logger = logging.getLogger("ratus")

_OWN_LOGGERS: Final = ("ratus", "ratus_engines")
_SERVER_LOGGERS: Final = ("uvicorn", "uvicorn.access", "uvicorn.asgi", "uvicorn.error")


def configure(format: Format, level: Level) -> None:
    """Send every log record of the process to standard error, in this form and from this level up.

    Ratus's own loggers follow `level`; all others, uvicorn's included, say nothing below a warning. Python's
    warnings become log records. May be called again: the last call counts. If standard error is closed,
    cannot be written to or is not read, lines are lost, but nothing fails or waits.
    """
    own_level = logging.getLevelNamesMapping()[level.upper()]
    others_level = max(own_level, logging.WARNING)
    handler = _handler()
    handler.setFormatter(JsonFormatter() if format == "json" else PlainFormatter())
    root = logging.getLogger()
    for old in list(root.handlers):
        if isinstance(old, DescriptorHandler | logging.NullHandler):
            root.removeHandler(old)
            old.close()
    root.addHandler(handler)
    root.setLevel(others_level)
    for name in _OWN_LOGGERS:
        logging.getLogger(name).setLevel(own_level)
    for name in _SERVER_LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(others_level)
    logging.captureWarnings(True)


class DescriptorHandler(logging.Handler):
    """Writes records to a file descriptor, past all buffers of the interpreter; never waits for a reader.

    A buffered stream keeps what it could not write and fails again when the interpreter flushes it at exit,
    which turns a clean stop into exit code 120. Here a line that cannot be written is lost, without an error.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self.writer = LogWriter(descriptor, self._report_dropped)

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the record; never raises."""
        try:
            line = self.format(record)
        except Exception as error:
            # A wrong call of the logger must not raise in the code that logs, and must not go unnoticed.
            line = f"a log record of {record.pathname}:{record.lineno} cannot be written: {error!r}"
            line = self.format(logging.makeLogRecord({"msg": line, "levelname": "ERROR", "name": __name__}))
        self.writer.put((line + "\n").encode("utf-8", "backslashreplace"))

    def flush(self) -> None:
        """Write what is queued; bounded in time, see `LogWriter.flush`."""
        self.writer.flush()

    def close(self) -> None:
        """Write what is queued and end the thread."""
        self.writer.close()
        super().close()

    def _report_dropped(self, count: int) -> bytes:
        message = f"{count} log lines were dropped here: standard error was read too slowly"
        record = logging.makeLogRecord({"msg": message, "levelname": "WARNING", "name": "ratus.runtime.logs"})
        return (self.format(record) + "\n").encode()


def dropped() -> int:
    """How many lines of this process were dropped because standard error was read too slowly."""
    handlers = logging.getLogger().handlers
    return sum(each.writer.dropped for each in handlers if isinstance(each, DescriptorHandler))


def catch_stray_errors() -> None:
    """Log errors in finalizers and threads, which have no caller to raise to. By default Python writes them
    to standard error itself, and would wait there for a reader."""

    def in_finalizer(stray: sys.UnraisableHookArgs) -> None:
        logger.error(
            "%s %r",
            stray.err_msg or "exception ignored in",
            stray.object,
            exc_info=stray.exc_value,
        )

    def in_thread(stray: threading.ExceptHookArgs) -> None:
        name = stray.thread.name if stray.thread is not None else "?"
        if not issubclass(stray.exc_type, SystemExit):
            logger.error("the thread %s failed", name, exc_info=stray.exc_value)

    sys.unraisablehook = in_finalizer
    threading.excepthook = in_thread


class PlainFormatter(logging.Formatter):
    """`2024-11-24T06:03:12.123Z INFO    purged tasks=12`, with the lines of a traceback indented below.

    No text inside a record, wherever it came from, can begin a line of the log.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The record as text."""
        details = "".join(f" {printable(name)}={_plain(value)}" for name, value in _extras(record).items())
        head = f"{_time(record)} {record.levelname:<7} {printable(record.getMessage())}{details}"
        traceback = _traceback(self, record).splitlines()
        return "\n".join([head, *(f"    {printable(line)}" for line in traceback)])


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `time` (RFC 3339, UTC), `level`, `logger`, `message`, the details, `exception`.

    An underscore is appended to the name of a detail that is one of these.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line of JSON, in ASCII."""
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if traceback := _traceback(self, record):
            line["exception"] = traceback
        details = {(f"{name}_" if name in line else name): value for name, value in _extras(record).items()}
        try:
            return json.dumps(line | details, default=str, allow_nan=False)
        except (ValueError, TypeError, RecursionError):
            # A number that is not finite, a key that is no text, or a structure that contains itself.
            return json.dumps(line | {name: str(value) for name, value in details.items()})


def _handler() -> logging.Handler:
    """The handler for standard error. If that is closed, one that drops all records: the number of its
    descriptor may belong to another file by now."""
    try:
        return DescriptorHandler(sys.stderr.fileno()) if sys.stderr is not None else logging.NullHandler()
    except (OSError, ValueError):
        return logging.NullHandler()


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def _extras(record: logging.LogRecord) -> dict[str, Any]:
    """The details of a record: those given with `fields` and those put straight into `extra`."""
    extras = {name: value for name, value in vars(record).items() if name not in _STANDARD}
    given = extras.pop("fields", {})
    return extras | given if isinstance(given, dict) else extras | {"fields": given}


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    parts = [formatter.formatException(record.exc_info)] if record.exc_info else []
    if record.stack_info:
        parts.append(record.stack_info)
    return "\n".join(parts)


def _plain(value: object) -> str:
    """A detail's value: bare where that is unambiguous, else quoted."""
    if isinstance(value, float):
        return f"{value:.6g}" if math.isfinite(value) else str(value)
    text = printable(str(value))
    bare = text and not any(c in text for c in ' "=')
    return text if bare else json.dumps(text, ensure_ascii=False)
