"""Middleware and lifespans: generator functions of the program, entered around calls and around the work."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Surrounding:
    """A generator function that yields once, as something to enter."""

    enter: Callable[..., Any]
    """Returns a context manager; an asynchronous one where `is_async`."""

    is_async: bool

    @classmethod
    def of(cls, function: Callable[..., Any], name: str) -> Surrounding:
        """Raises `TypeError`, which begins with `name`, for what is no generator function."""
        if inspect.isasyncgenfunction(function):
            return cls(asynccontextmanager(function), is_async=True)
        if inspect.isgeneratorfunction(function):
            return cls(contextmanager(function), is_async=False)
        raise TypeError(f"{name}: give a generator function that yields once, not {function!r}")
