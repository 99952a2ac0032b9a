"""Measuring the engine, in one place, so that no operation is forgotten and no engine has to think of it."""

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

# Opening and closing happen once.
_ONCE = frozenset({"open", "close"})

OPERATIONS = tuple(
    name for name, method in vars(Engine).items() if iscoroutinefunction(method) and name not in _ONCE
)
"""What is measured: every method of the contract that may have to wait."""

# An answer below this status is one to the caller (there is no such task, the nonce is wrong).
_OWN_FAULT = 500


def measure(engine: EngineT, metrics: Metrics) -> EngineT:
    """Have every operation of the engine measured from now on, those that it calls itself included.

    The methods of this one object are replaced. An object in front of it would have to repeat the contract,
    and cost each operation one more look-up.
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
