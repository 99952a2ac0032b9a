"""Which callables a worker takes as its handler, and which values a handler must not return.

Calling a coroutine function or a generator function runs nothing: it only makes an object that something else
has to run. A worker that took such a call for work done would complete every task and run none of them.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import suppress
from types import MethodWrapperType
from typing import Any, Final

_SYNC: Final = "the handler of a Client must be a plain function (def)"
_ASYNC: Final = "the handler of an AsyncClient must be a coroutine function (async def)"

_AWAITABLE: Final = re.compile(r"\b(Awaitable|Coroutine|Future)\b")
"""Return annotations of plain functions whose results are awaited."""

_LAMBDA: Final = (lambda: None).__name__


def check_handler(handler: Callable[..., Any]) -> None:
    """Raises `TypeError` for a handler whose call would run nothing in a thread."""
    function = _function_behind(handler, _SYNC)
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(
            f"{_SYNC}: nothing would run the coroutines of {_name(handler)}; "
            "use an AsyncClient, or call asyncio.run within a plain function"
        )
    if inspect.isgeneratorfunction(function):
        raise TypeError(f"{_SYNC}: nothing would run the generators of {_name(handler)}; it must not yield")


def check_coroutine_handler(handler: Callable[..., Any]) -> None:
    """Raises `TypeError` for a handler that is known not to return a coroutine.

    What a lambda returns is not known before it is called, so it is taken; so is a plain function that wraps
    a coroutine function (`functools.wraps`) or is annotated to return an awaitable.
    """
    function = _function_behind(handler, _ASYNC)
    if inspect.isasyncgenfunction(function):
        raise TypeError(f"{_ASYNC}: nothing would run the generators of {_name(handler)}; it must not yield")
    if not (
        inspect.iscoroutinefunction(function)
        or inspect.iscoroutinefunction(inspect.unwrap(function))
        or inspect.iscoroutinefunction(inspect.unwrap(handler))
        or getattr(function, "__name__", "") == _LAMBDA
        or _is_annotated(function)
        or (inspect.isclass(function) and issubclass(function, Awaitable))
    ):
        raise TypeError(
            f"{_ASYNC}: {_name(handler)} is not one; use a Client, or asyncio.to_thread within a coroutine"
        )


def refuse_unrun(returned: object) -> None:
    """Raises `TypeError` for what a handler returned, where it is work that nothing has run."""
    if not isinstance(returned, Generator | AsyncGenerator) and not inspect.isawaitable(returned):
        return
    close = getattr(returned, "close", None)  # an unused coroutine that is not closed warns
    if callable(close):
        with suppress(BaseException):
            close()
    raise TypeError(f"the handler returned a {type(returned).__name__}, which nothing runs")


def _function_behind(handler: Any, needed: str) -> Any:
    """The function that a call of the handler runs: behind partials, methods and `__call__`."""
    if not callable(handler):
        raise TypeError(f"{needed}, not {type(handler).__name__}")
    while not inspect.isclass(handler) and not inspect.iscoroutinefunction(handler):
        if isinstance(handler, functools.partial):
            handler = handler.func
        elif inspect.ismethod(handler):
            handler = handler.__func__
        elif inspect.isroutine(handler) or isinstance(handler, MethodWrapperType):
            break
        else:
            call = inspect.getattr_static(type(handler), "__call__")
            bind = getattr(call, "__get__", None)
            handler = call if bind is None else bind(handler, type(handler))
    return handler


def _is_annotated(function: Any) -> bool:
    annotations = getattr(function, "__annotations__", None)
    return isinstance(annotations, dict) and bool(_AWAITABLE.search(str(annotations.get("return", ""))))


def _name(handler: Any) -> str:
    return getattr(handler, "__qualname__", None) or repr(handler)
