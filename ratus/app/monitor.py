"""What a worker has done, counted by task for Prometheus, and logged task by task where that is asked for."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterable
from typing import Final

from ratus.app.execution import Execution
from ratus.calls.delivery import BaseDelivery
from ratus.core.models import TaskState

SUCCEEDED: Final = "succeeded"
FAILED: Final = "failed"
ARCHIVED: Final = "archived"
GIVEN_BACK: Final = "given_back"
LOST: Final = "lost"

_logger: Final = logging.getLogger("ratus.worker")


class Monitor:
    """Is notified of every execution; see `ratus.app.runner.Observer`. Threads share it."""

    def __init__(self, *, log_tasks: bool = False) -> None:
        self._log_tasks = log_tasks
        self._lock = threading.Lock()
        self._running: Counter[str] = Counter()
        self._ended: Counter[tuple[str, str]] = Counter()
        self._seconds: Counter[str] = Counter()
        self._unknown = 0
        self._misfits = 0

    def unknown(self, name: str) -> None:
        """A task was given back, since there is no function of its name."""
        with self._lock:
            self._unknown += 1

    def misfit(self, name: str) -> None:
        """A task was archived, since its payload does not fit the function."""
        with self._lock:
            self._misfits += 1

    def begun(self, execution: Execution) -> None:
        """A function is about to be called."""
        with self._lock:
            self._running[execution.name] += 1

    def ended(self, execution: Execution, seconds: float, delivery: BaseDelivery, *, failed: bool) -> None:
        """A function has ended after so many seconds."""
        outcome = _outcome(delivery, failed=failed)
        with self._lock:
            self._running[execution.name] -= 1
            self._ended[execution.name, outcome] += 1
            # Counters hold integers only for type checkers.
            self._seconds[execution.name] += seconds  # type: ignore[assignment]
        if self._log_tasks:
            _logger.info(
                "%s %s %s after %.3f s (attempt %d)",
                execution.name,
                execution.id,
                outcome.replace("_", " "),
                seconds,
                execution.attempts,
            )

    def exposition(self) -> str:
        """The counts in the text format of Prometheus."""
        with self._lock:
            running, ended, seconds = dict(self._running), dict(self._ended), dict(self._seconds)
            unknown, misfits = self._unknown, self._misfits
        return "".join(
            (
                *_family(
                    "ratus_worker_running",
                    "gauge",
                    "Number of executions under way.",
                    (({"task": name}, count) for name, count in running.items()),
                ),
                *_family(
                    "ratus_worker_executions_total",
                    "counter",
                    "Number of executions that have ended, by outcome.",
                    (({"task": name, "outcome": how}, count) for (name, how), count in ended.items()),
                ),
                *_family(
                    "ratus_worker_seconds_total",
                    "counter",
                    "Seconds that the executions have taken.",
                    (({"task": name}, count) for name, count in seconds.items()),
                ),
                *_family(
                    "ratus_worker_unknown_total",
                    "counter",
                    "Number of tasks given back because no task function has their name.",
                    [({}, unknown)],
                ),
                *_family(
                    "ratus_worker_misfits_total",
                    "counter",
                    "Number of tasks archived because their arguments do not fit.",
                    [({}, misfits)],
                ),
            )
        )


def _outcome(delivery: BaseDelivery, *, failed: bool) -> str:
    if delivery.lost:
        return LOST
    state = (delivery._changes or {}).get("state")
    if state == TaskState.ARCHIVED:
        return ARCHIVED
    if state == TaskState.PENDING:
        return GIVEN_BACK
    return FAILED if failed else SUCCEEDED


def _family(
    name: str, kind: str, text: str, samples: Iterable[tuple[dict[str, str], float]]
) -> Iterable[str]:
    yield f"# HELP {name} {text}\n# TYPE {name} {kind}\n"
    for labels, value in samples:
        inside = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
        yield f"{name}{{{inside}}} {value}\n" if inside else f"{name} {value}\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
