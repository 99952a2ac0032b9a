"""A model of the queue, written as simply as possible: a dict of dicts, and a loop for everything.

It shares nothing with the program but the names of the members, so that a mistake in the program is not
repeated here. The order of creation is the order of the dict. The model makes no nonces: `claim` is given the
one that the engine made.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

Task = dict[str, Any]

TEN_MINUTES = 600_000_000


class Model:
    """The state of the queue, and what each operation does to it.

    ``random`` is what every source of randomness gives; the other arguments are the server's defaults, with
    delays in microseconds.
    """

    def __init__(self, max_attempts: int, delay: int, max_delay: int, random: float) -> None:
        self.tasks: dict[str, Task] = {}
        self.paused: set[str] = set()
        self.records: dict[str, tuple[int, Any]] = {}  # of one kind, by id: version and members
        self.events: Counter[tuple[str, str]] = Counter()  # what operators count, by topic
        self.max_attempts, self.delay, self.max_delay, self.random = max_attempts, delay, max_delay, random

    # ---- tasks -----------------------------------------------------------------------------------

    def of(self, topic: str, *states: int) -> list[Task]:
        return [
            t for t in self.tasks.values() if t["topic"] == topic and (not states or t["state"] in states)
        ]

    def put(self, task: Task, now: int) -> bool:
        new = task["id"] not in self.tasks
        self.tasks[task["id"]] = task
        if task["state"] == 1 and task["deadline"] is None:
            task.update(deadline=now + TEN_MINUTES, implied=True)
        if task["state"] == 2 and task["committed"] is None:
            task["committed"] = now
        return new

    def insert(self, task: Task, now: int) -> bool:
        return task["id"] not in self.tasks and self.put(task, now)

    def delete(self, tasks: list[Task]) -> int:
        for task in tasks:
            del self.tasks[task["id"]]
        return len(tasks)

    # ---- claims ----------------------------------------------------------------------------------

    def due(self, topics: tuple[str, ...], now: int) -> list[str]:
        """The ids that a claim without a limit would give, in order; lapsed claims are taken back."""
        found: list[str] = []
        for topic in dict.fromkeys(topics):
            if topic in self.paused:
                continue
            self.recover(now, topic)
            tasks = [t for t in self.of(topic, 0) if t["scheduled"] <= now and not self.expired(t, now)]
            tasks.sort(key=lambda t: (-t["priority"], t["scheduled"]))  # stable: then creation
            found += [t["id"] for t in tasks]
        return found

    def claim(self, task_id: str, nonce: str, consumer: str, deadline: int, now: int) -> Task:
        task = self.tasks[task_id]
        if task["state"] == 1:
            task["error"] = "deadline exceeded"
            self.events[task["topic"], "LAPSE"] += 1
        if task["state"] in (2, 3):
            task.update(attempts=0, error="", outcome="")
        task.update(state=1, nonce=nonce, consumer=consumer, consumed=now, deadline=deadline, implied=False)
        task["attempts"] += 1
        return task

    def release(self, tasks: list[Task]) -> int:
        for task in tasks:
            task.update(state=0, nonce="", attempts=max(0, task["attempts"] - 1))
        return len(tasks)

    # ---- commits ---------------------------------------------------------------------------------

    def commit(self, commit: Task, now: int) -> Task | str:
        answer = self._commit(commit, now)
        if not isinstance(answer, str) and commit["error"] is not None:
            self.count("FAILURE", answer)
        return answer

    def count(self, what: str, task: Task) -> None:
        """Count the event ``what``, a failure or a lapse, and what became of the task by it."""
        self.events[task["topic"], what] += 1
        if task["state"] == 0:
            self.events[task["topic"], "RETRY"] += 1
        elif task["state"] == 3 and task["outcome"] == "failed":
            self.events[task["topic"], "DEAD_FAILED"] += 1

    def _commit(self, commit: Task, now: int) -> Task | str:
        task = self.tasks.get(commit["id"])
        if task is None:
            return "NotFound"
        if commit["nonce"] and commit["nonce"] != task["nonce"]:
            return "Conflict"
        before = task["state"]
        task.update(nonce="", committed=now)
        for name in ("payload", "result", "scheduled"):
            if commit[name] is not None:
                task[name] = commit[name]
        if commit["topic"]:
            task["topic"] = commit["topic"]
        if commit["state"] is None and commit["error"] is not None:
            self.fail(task, commit["error"], now)
            if commit["scheduled"] is not None:
                task["scheduled"] = commit["scheduled"]
            return task
        task["state"] = 2 if commit["state"] is None else commit["state"]
        if task["state"] == 0 and before != 1:
            task.update(attempts=0, error="", outcome="")
        elif task["state"] == 0 and commit["error"] is None:
            task["attempts"] = max(0, task["attempts"] - 1)
        if task["state"] != 0:
            task["outcome"] = ""
        if task["state"] == 2:
            task["error"] = ""
        if commit["error"] is not None:
            task["error"] = commit["error"]
        if task["state"] == 1 and task["deadline"] is None:
            task.update(deadline=now + TEN_MINUTES, implied=True)
        return task

    def fail(self, task: Task, error: str, since: int | None) -> None:
        own = task["retry"] or {}
        task.update(error=error, nonce="")
        limit = own.get("max_attempts", self.max_attempts)
        if limit and task["attempts"] >= limit:
            task.update(state=3, outcome="failed")
            return
        task.update(state=0, outcome="")
        if since is not None:
            factor = {"constant": 1, "linear": max(1, task["attempts"])}.get(own.get("backoff", ""))
            delay = own.get("delay", self.delay) * (factor or 2 ** max(0, task["attempts"] - 1))
            delay = min(delay, own.get("max_delay", self.max_delay))
            task["scheduled"] = since + round(delay * (1 + own.get("jitter", 0.1) * (2 * self.random - 1)))

    # ---- chores ----------------------------------------------------------------------------------

    def expired(self, task: Task, now: int) -> bool:
        return bool(task["state"] == 0 and task["expires"] is not None and task["expires"] <= now)

    def recover(self, now: int, topic: str | None = None) -> int:
        lapsed = [t for t in self.tasks.values() if t["state"] == 1 and t["deadline"] <= now]
        lapsed = [t for t in lapsed if topic is None or t["topic"] == topic]
        for task in lapsed:
            self.fail(task, "deadline exceeded", task["deadline"] if task["retry"] is not None else None)
            self.count("LAPSE", task)
        return len(lapsed)

    def expire(self, now: int) -> int:
        expired = [t for t in self.tasks.values() if self.expired(t, now)]
        for task in expired:
            task.update(state=3, outcome="expired")
            self.events[task["topic"], "DEAD_EXPIRED"] += 1
        return len(expired)

    def purge(self, before: int) -> int:
        return self.delete([t for t in self.tasks.values() if t["state"] == 2 and t["committed"] <= before])

    # ---- what is known ---------------------------------------------------------------------------

    def topics(self) -> set[str]:
        return {t["topic"] for t in self.tasks.values()} | self.paused

    def next_due(self, topic: str) -> int | None:
        times = [t["scheduled"] for t in self.of(topic, 0)] + [t["deadline"] for t in self.of(topic, 1)]
        return None if topic in self.paused else min(times, default=None)
