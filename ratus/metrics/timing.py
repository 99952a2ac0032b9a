"""Measures all operations of an engine in one place: none is forgotten, and no engine needs code for it."""

from __future__ import annotations

from collections.abc import Callable
from inspect import iscoroutinefunction
from time import perf_counter
from typing import Any, TypeVar

from ratus.core.errors import RatusError
from ratus.engine import Engine
from ratus.metrics.recorder import Metrics
from ratus.metrics.series import OperationSeries

EngineT = TypeVar("EngineT", bound=Engine)

# Operations that are not measured, since they happen once.
_ONCE = frozenset({"open", "close"})

OPERATIONS = tuple(
    name for name, method in vars(Engine).items() if iscoroutinefunction(method) and name not in _ONCE
)
"""The operations that are measured: every coroutine of the contract but those that run once."""

# An error with a lower status is the caller's (no such task, a wrong nonce), and not counted as the engine's.
_OWN_FAULT = 500


def measure(engine: EngineT, metrics: Metrics) -> EngineT:
    """Measure every operation of the engine from now on, including those that the engine itself calls.

    Replaces the methods of this one object and returns it. A wrapper object would have to repeat the
    contract, and cost each operation one more look-up.
    """
    for name in OPERATIONS:
        setattr(engine, name, _measured(getattr(engine, name), metrics.operation(name)))
    return engine


def _measured(operation: Callable[..., Any], series: OperationSeries) -> Callable[..., Any]:
    observe = series.durations.observe

    async def measured(*arguments: Any, **named: Any) -> Any:
        started = perf_counter()
        try:
            return await operation(*arguments, **named)
        except Exception as error:
            if not isinstance(error, RatusError) or error.status >= _OWN_FAULT:
                series.errors += 1
            raise
        finally:
            observe(perf_counter() - started)

    return measured
