"""The worker's log, which never fails: an exception in a program's logging does not end the worker."""

from __future__ import annotations

import logging
import sys
import traceback
from contextlib import suppress
from typing import Final

_logger: Final = logging.getLogger("ratus.client")

_CALLER: Final = 3
"""Frames up to the caller of this module, which the log names as the place of the message."""


def info(message: str, *values: object) -> None:
    """Log a normal event."""
    _log(logging.INFO, message, values, None)


def warning(message: str, *values: object, error: BaseException | None = None) -> None:
    """Log trouble that the worker copes with, and the traceback of `error`."""
    _log(logging.WARNING, message, values, error)


def error(message: str, *values: object) -> None:
    """Log trouble that cost a task its outcome."""
    _log(logging.ERROR, message, values, None)


def _log(level: int, message: str, values: tuple[object, ...], error: BaseException | None) -> None:
    try:
        _logger.log(level, message, *values, exc_info=error, stacklevel=_CALLER)
    except BaseException:
        # A handler, a filter or a formatter of the program raised, in the middle of what the worker does.
        if logging.raiseExceptions:
            with suppress(BaseException):
                traceback.print_exc(file=sys.stderr)
