"""A test harness for an engine: the engine, a clock that the test sets, and short forms of the operations."""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from ratus.core.errors import RatusError
from ratus.core.records import CommitRecord, TaskPage, TaskQuery, TaskRecord, TopicInfo
from ratus.core.selection import Selection
from ratus.core.transitions import Event
from ratus.core.turns import Reason
from ratus.engine import Engine
from ratus.testing import START

MakeEngine = Callable[..., Engine]
"""Constructs an engine that is not open yet. Takes ``retry``, ``random`` and ``nonces``, as `Engine` does."""

# Times in the suite are whole milliseconds, which every engine keeps.
MILLISECOND = 1_000
SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE

TIMES = ("produced", "scheduled", "consumed", "deadline", "committed", "expires")


class Harness:
    """An engine and a clock.

    ``engine`` is set by the fixture; ``now`` is the time of the next operation, in microseconds since 1970,
    and only the test moves it.

    Records that come from the engine are copied at once, so a test may keep them: the engine's own may change
    with its next step.
    """

    engine: Engine

    def __init__(self, make: MakeEngine) -> None:
        self.make = make
        self.now = START
        self._open: list[Engine] = []

    # ---- life ------------------------------------------------------------------------------------

    async def start(self, **options: Any) -> Engine:
        """Open one more engine on the same data. Jitter changes no delay, unless ``random`` is given."""
        engine = self.make(**{"random": fixed(0.5), **options})
        await engine.open(self.now)
        self._open.append(engine)
        return engine

    async def reopen(self, **options: Any) -> None:
        """Close the engine, and open another one on the same data, with other options if need be."""
        self._open.remove(self.engine)
        await self.engine.close(self.now)
        self.engine = await self.start(**options)

    async def end(self) -> None:
        """Close all engines."""
        while self._open:
            await self._open.pop().close(self.now)

    # ---- tasks -----------------------------------------------------------------------------------

    def task(self, task_id: str, topic: str = "t", **members: Any) -> TaskRecord:
        """A task that is due now, unless the members say otherwise."""
        members = {"produced": self.now, "scheduled": self.now, **members}
        return TaskRecord(id=task_id, topic=topic, **members)

    async def insert(self, *tasks: TaskRecord) -> list[bool]:
        return await self.engine.insert([copy.copy(task) for task in tasks], self.now)

    async def upsert(self, *tasks: TaskRecord) -> list[bool]:
        return await self.engine.upsert([copy.copy(task) for task in tasks], self.now)

    async def add(self, *ids: str, topic: str = "t", **members: Any) -> None:
        """Insert new tasks that differ only in their ids."""
        assert all(await self.insert(*(self.task(task_id, topic, **members) for task_id in ids)))

    async def get(self, task_id: str) -> TaskRecord:
        """The task, which has to be there."""
        task = await self.engine.get(task_id)
        assert task is not None, f"task {task_id!r} is gone"
        return copy.copy(task)

    async def is_gone(self, task_id: str) -> bool:
        return await self.engine.get(task_id) is None

    async def page(self, topic: str = "t", limit: int = 1000, **members: Any) -> TaskPage:
        page = await self.engine.list_tasks(TaskQuery(topic, limit, **members))
        return TaskPage([copy.copy(task) for task in page.tasks], page.next)

    async def ids(self, topic: str = "t", limit: int = 1000, **members: Any) -> list[str]:
        """The ids of all tasks of a topic, page after page, in the engine's order."""
        found: list[str] = []
        after: str | None = None
        while True:
            page = await self.page(topic, limit, after=after, **members)
            found += [task.id for task in page.tasks]
            after = page.next
            if after is None:
                return found

    async def info(self, topic: str = "t") -> TopicInfo:
        """What is known of a topic, which has to be there."""
        info = await self.engine.get_topic(topic, self.now)
        assert info is not None, f"topic {topic!r} is gone"
        return info

    async def topics(self) -> list[str]:
        return sorted(await self.engine.list_topics(1000, 0))

    # ---- claims and commits ------------------------------------------------------------------------

    async def claim(
        self, *topics: str, limit: int = 1, consumer: str = "", timeout: int = 10 * MINUTE, **chosen: Any
    ) -> list[TaskRecord]:
        """Claim what is due, in the topic ``t`` unless others are given.

        ``chosen``: ``order``, ``where`` and ``prefer`` of the selection.
        """
        selection = Selection(topics or ("t",), self.now + timeout, consumer, limit, **chosen)
        return [copy.copy(task) for task in await self.engine.claim(selection, self.now)]

    async def claim_ids(self, *topics: str, limit: int = 1000, **chosen: Any) -> list[str]:
        return [task.id for task in await self.claim(*topics, limit=limit, **chosen)]

    async def claim_one(self, topic: str = "t", timeout: int = 10 * MINUTE) -> TaskRecord:
        """The next due task, which has to be there."""
        (task,) = await self.claim(topic, timeout=timeout)
        return task

    async def claim_task(
        self, task_id: str, *, force: bool = False, consumer: str = "", timeout: int = 10 * MINUTE
    ) -> TaskRecord:
        selection = Selection((), self.now + timeout, consumer)
        return copy.copy(await self.engine.claim_task(task_id, selection, self.now, force=force))

    async def commit(self, task_id: str, nonce: str = "", **members: Any) -> TaskRecord:
        """Commit; raises what the engine answers for this one commit."""
        (answer,) = await self.engine.commit([CommitRecord(task_id, nonce, **members)], self.now)
        if isinstance(answer, RatusError):
            raise answer
        return copy.copy(answer)

    async def fail(self, task_id: str, nonce: str = "", error: str = "boom", **members: Any) -> TaskRecord:
        return await self.commit(task_id, nonce, error=error, **members)


class RecordingListener:
    """An `engine.listener` that records its notifications.

    ``topics``: those in which a task became available. ``tasks``: the ids of tasks that were settled.
    ``gaps``: how often notifications may have been missed.
    """

    def __init__(self) -> None:
        self.topics: list[str] = []
        self.tasks: list[str] = []
        self.gaps = 0

    def available(self, topic: str, task: TaskRecord | None = None) -> None:
        self.topics.append(topic)

    def settled(self, task_id: str) -> None:
        self.tasks.append(task_id)

    def missed(self) -> None:
        self.gaps += 1


class CountingObserver:
    """An `engine.observer` that counts.

    ``events`` is how often each event happened in each topic, ``refusals`` how often a claim was refused in a
    topic for each reason.
    """

    def __init__(self) -> None:
        self.events: Counter[tuple[str, str]] = Counter()
        self.refusals: Counter[tuple[str, str]] = Counter()

    def record(self, topic: str, events: Sequence[Event]) -> None:
        self.events.update((topic, event.name) for event in events)

    def refused(self, topic: str, reason: Reason) -> None:
        self.refusals[topic, reason.value] += 1


def members(task: TaskRecord) -> dict[str, Any]:
    """A task's members without ``sequence``, which is the engine's own; payload and result by `value`."""
    found = {name: getattr(task, name) for name in TaskRecord.__struct_fields__ if name != "sequence"}
    return {**found, "payload": value(task.payload), "result": value(task.result)}


def value(text: bytes | None) -> Any:
    """A JSON text in a form that is equal only to that of a text that means exactly the same.

    The order of members counts, an integer differs from a float, and no text differs from ``null``.
    """
    if text is None:
        return "nothing"
    return repr(json.loads(text, object_pairs_hook=lambda pairs: ("object", pairs)))


def fixed(number: float) -> Callable[[], float]:
    """A source of randomness that always gives this number."""
    return lambda: number
