"""A model of the queue, written as simply as possible: a dict of dicts, and a loop for everything.

It shares nothing with the program but the names of the members, so that a mistake in the program is not
repeated here. The order of creation is the order of the dict. The model makes no nonces: `claim` is given the
one that the engine made.
"""

from __future__ import annotations

import json
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
        self.limits: dict[str, Any] = {}  # of topics, as the API has them, with periods in microseconds
        self.times: dict[tuple[Any, ...], dict[str, int]] = {}  # of rate and hold, by topic or lane
        self.in_use: dict[tuple[str, str], dict[str | None, int]] = {}  # by topic and label: values, served
        self.numbers: dict[str, int] = {}  # of tasks, in the order of creation
        self.number = 0  # the last that was given to a task, or for a turn

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
        if new:
            self.number += 1
            self.numbers[task["id"]] = self.number
        self.settle()
        return new

    def insert(self, task: Task, now: int) -> bool:
        return task["id"] not in self.tasks and self.put(task, now)

    def delete(self, tasks: list[Task]) -> int:
        for task in tasks:
            del self.tasks[task["id"]]
        self.settle()
        return len(tasks)

    # ---- claims ----------------------------------------------------------------------------------

    def candidates(self, topics: tuple[str, ...], wanted: dict[str, Any], now: int) -> list[str]:
        """The ids of which a claim has to give one next; several only where the order is random.

        ``wanted`` has ``order``, ``where`` (a label and its values, or ``None``) and ``prefer``. Lapsed
        claims have been taken back.
        """
        for topic in topics:
            found = self.open_tasks(topic, wanted, now)
            if found:
                return self.in_turn(topic, found, wanted)
        return []

    def due(self, topic: str, wanted: dict[str, Any], now: int) -> list[Task]:
        """The due tasks that match, in line."""
        tasks = [t for t in self.of(topic, 0) if t["scheduled"] <= now and not self.expired(t, now)]
        if wanted["where"] is not None:
            label, values = wanted["where"]
            tasks = [t for t in tasks if set(labels(t, label)) & set(values)]
        return sorted(tasks, key=lambda t: (-t["priority"], t["scheduled"]))  # stable: then creation

    def open_tasks(self, topic: str, wanted: dict[str, Any], now: int) -> list[Task]:
        """Those of `due` that no limit closes."""
        if topic in self.paused or self.closed(topic, now):
            return []
        per = self.limits.get(topic, {}).get("per")
        tasks = self.due(topic, wanted, now)
        return [t for t in tasks if per is None or self.lane_is_open(t, per, now)]

    def in_turn(self, topic: str, tasks: list[Task], wanted: dict[str, Any]) -> list[str]:
        """Which of the tasks come next, by the order and the turns that are wanted."""
        tasks = [t for t in tasks if t["priority"] == tasks[0]["priority"]]
        per = self.limits.get(topic, {}).get("per")
        names = ([per["label"]] if per else []) + [
            name for name in wanted["prefer"] if per is None or name != per["label"]
        ]
        for at, name in enumerate(names):
            served = self.in_use[topic, name]

            def standing(task: Task, name: str = name, served: dict[str | None, int] = served) -> Any:
                return self.active(topic, name, lane(task, name)), served[lane(task, name)]

            turn = lane(min(tasks, key=standing), name)
            tasks = [t for t in tasks if lane(t, name) == turn]
            if at == 0:
                tasks = self.ordered(tasks, wanted["order"])
        if not names:
            tasks = self.ordered(tasks, wanted["order"])
        return [t["id"] for t in (tasks if wanted["order"] == "random" else tasks[:1])]

    def ordered(self, tasks: list[Task], order: str) -> list[Task]:
        if order == "newest":
            return sorted(tasks, key=lambda t: (t["scheduled"], self.numbers[t["id"]]), reverse=True)
        return tasks

    # ---- limits ----------------------------------------------------------------------------------

    def active(self, topic: str, label: str, value: str | None) -> int:
        return sum(lane(t, label) == value for t in self.of(topic, 1))

    def closing(
        self, key: tuple[Any, ...], bound: Any, active: int, now: int
    ) -> tuple[str, int | None] | None:
        """Why a topic or a lane is closed, and when it reopens."""
        times = self.times.get(key, {})
        if bound.get("concurrency") is not None and active >= bound["concurrency"]:
            return "concurrency", None
        rate, at = bound.get("rate"), 0
        if rate is not None and "allowed" in times:
            step = -(-rate["period"] // rate["count"])
            at = min(times["allowed"], now + rate["burst"] * step) - (rate["burst"] - 1) * step
        if times.get("held", 0) > now and times["held"] >= at:
            return "hold", times["held"]
        return ("rate", at) if at > now else None

    def closed(self, topic: str, now: int) -> tuple[str, int | None] | None:
        """Why the topic as a whole is closed by its limits."""
        return self.closing((topic,), self.limits.get(topic, {}), len(self.of(topic, 1)), now)

    def lane_closed(self, topic: str, value: str | None, now: int) -> tuple[str, int | None] | None:
        """Why a lane of the limits per label is closed."""
        per = self.limits[topic]["per"]
        active = self.active(topic, per["label"], value)
        found = self.closing((topic, per["label"], value), per, active, now)
        if found is not None and found[0] == "concurrency":
            return found
        if per["ordered"] and value is not None:
            if active:
                return "ordered", None
            line = [t for t in self.of(topic, 0) if lane(t, per["label"]) == value]
            line = sorted((t for t in line if not self.expired(t, now)), key=lambda t: self.numbers[t["id"]])
            if line and line[0]["scheduled"] > now:
                return "ordered", line[0]["scheduled"]
        return found

    def lane_is_open(self, task: Task, per: Any, now: int) -> bool:
        """Whether a due task may be claimed as far as its lane is concerned."""
        value = lane(task, per["label"])
        if self.lane_closed(task["topic"], value, now) is not None:
            return False
        if not per["ordered"] or value is None:
            return True
        line = [t for t in self.of(task["topic"], 0) if lane(t, per["label"]) == value]
        first = min((t for t in line if not self.expired(t, now)), key=lambda t: self.numbers[t["id"]])
        return first is task

    def reopens(self, topics: tuple[str, ...], wanted: dict[str, Any], now: int) -> int | None:
        """When the first rate or hold ends that closes a due task that matches; ``None``: there is none."""
        times = []
        for topic in topics:
            tasks = [] if topic in self.paused else self.due(topic, wanted, now)
            per = self.limits.get(topic, {}).get("per")
            closed = self.closed(topic, now)
            found = [closed] if tasks and closed else []
            if not closed and per:
                found = [f for t in tasks if (f := self.lane_closed(topic, lane(t, per["label"]), now))]
            times += [when for reason, when in found if reason in ("rate", "hold") and when is not None]
        return min(times, default=None)

    def count_claim(self, task: Task, now: int) -> None:
        """A claim of the task was made: it uses up rates, and gives its lanes their turn."""
        topic = task["topic"]
        limits = self.limits.get(topic, {})
        per = limits.get("per") or {}
        for key, bound in (
            ((topic,), limits),
            ((topic, per.get("label"), lane(task, per["label"]) if per else None), per),
        ):
            rate = bound.get("rate")
            if rate is not None:
                step = -(-rate["period"] // rate["count"])
                times = self.times.setdefault(key, {})
                times["allowed"] = max(now, min(times.get("allowed", 0), now + rate["burst"] * step)) + step
        for (of, label), served in self.in_use.items():
            if of == topic:
                self.number += 1
                served[lane(task, label)] = self.number

    def hold(self, task: Task, until: int) -> None:
        """Hand out nothing more of what the task is in, until then."""
        per = self.limits.get(task["topic"], {}).get("per")
        key = (task["topic"],) if per is None else (task["topic"], per["label"], lane(task, per["label"]))
        times = self.times.setdefault(key, {})
        times["held"] = max(times.get("held", 0), until)

    def lift_holds(self, topic: str) -> None:
        for key, times in self.times.items():
            if key[0] == topic:
                times.pop("held", None)

    # ---- lanes -----------------------------------------------------------------------------------

    def use(self, topic: str, label: str) -> None:
        """The label comes into use, if it is not yet: its lanes are made of the tasks that there are."""
        if topic not in self.topics() or (topic, label) in self.in_use:
            return
        served: dict[str | None, int] = {}
        for task in self.of(topic, 0, 1):
            number = self.numbers[task["id"]]
            served[lane(task, label)] = min(served.get(lane(task, label), number), number)
        self.in_use[topic, label] = served

    def settle(self) -> None:
        """Forget lanes without a task that is pending or active, and make those that a task has come to."""
        for (topic, label), served in self.in_use.items():
            values = {lane(t, label) for t in self.of(topic, 0, 1)}
            for value in set(served) - values:
                del served[value]
            for value in values - set(served):
                self.number += 1
                served[value] = self.number

    def forget(self, topic: str) -> None:
        """The topic is deleted: its settings, and what is known of its lanes."""
        self.paused.discard(topic)
        self.limits.pop(topic, None)
        self.in_use = {key: served for key, served in self.in_use.items() if key[0] != topic}
        self.times = {key: times for key, times in self.times.items() if key[0] != topic}

    def lanes(self, topic: str, label: str, now: int) -> list[tuple[str | None, int, int, Any]]:
        """Every lane of a label in order, those without a task that a rate or a hold closes among them."""
        per = self.limits.get(topic, {}).get("per")
        limited = per is not None and per["label"] == label
        values = set(self.in_use.get((topic, label), {}))
        if limited:
            values |= {
                key[2]
                for key in self.times
                if key[:2] == (topic, label) and self.lane_closed(topic, key[2], now)
            }
        return [
            (
                value,
                self.active(topic, label, value),
                sum(lane(t, label) == value for t in self.of(topic, 0)),
                self.lane_closed(topic, value, now) if limited else None,
            )
            for value in sorted(values, key=lambda value: (value is None, value or ""))
        ]

    # ---- claims by id and giving back ------------------------------------------------------------

    def claim(self, task_id: str, nonce: str, consumer: str, deadline: int, now: int) -> Task:
        task = self.tasks[task_id]
        if task["state"] == 1:
            task["error"] = "deadline exceeded"
            self.events[task["topic"], "LAPSE"] += 1
        if task["state"] in (2, 3):
            task.update(attempts=0, error="", outcome="")
        task.update(state=1, nonce=nonce, consumer=consumer, consumed=now, deadline=deadline, implied=False)
        task["attempts"] += 1
        self.settle()
        self.count_claim(task, now)
        return task

    def release(self, tasks: list[Task], until: int = 0) -> int:
        for task in tasks:
            if until:
                self.hold(task, until)
            task.update(state=0, nonce="", attempts=max(0, task["attempts"] - 1))
        return len(tasks)

    # ---- commits ---------------------------------------------------------------------------------

    def commit(self, commit: Task, now: int) -> Task | str:
        answer = self._commit(commit, now)
        self.settle()
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
        if commit["hold"] is not None:
            self.hold(task, now + commit["hold"])
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
        self.settle()
        return len(lapsed)

    def expire(self, now: int) -> int:
        expired = [t for t in self.tasks.values() if self.expired(t, now)]
        for task in expired:
            task.update(state=3, outcome="expired")
            self.events[task["topic"], "DEAD_EXPIRED"] += 1
        self.settle()
        return len(expired)

    def purge(self, before: int) -> int:
        return self.delete([t for t in self.tasks.values() if t["state"] == 2 and t["committed"] <= before])

    # ---- what is known ---------------------------------------------------------------------------

    def topics(self) -> set[str]:
        return {t["topic"] for t in self.tasks.values()} | self.paused | set(self.limits)

    def next_due(self, topic: str) -> int | None:
        """The earliest time at which a claim may succeed, where no limit and no hold closes anything."""
        times = [t["scheduled"] for t in self.of(topic, 0)] + [t["deadline"] for t in self.of(topic, 1)]
        return None if topic in self.paused else min(times, default=None)

    def opens(self, topic: str, wanted: dict[str, Any], now: int) -> int | None:
        """The first time from now on at which a claim gets a task or takes back a lapsed one."""
        if topic in self.paused:
            return None
        ends = [t["deadline"] for t in self.of(topic, 1)]
        moments: set[int] = {now, *ends, *(t["scheduled"] for t in self.of(topic, 0))}
        for key, times in self.times.items():
            if key[0] == topic:
                moments.update(times.values())
                bounds = [self.limits.get(topic, {}), self.limits.get(topic, {}).get("per") or {}]
                for rate in (bound.get("rate") for bound in bounds):
                    if rate is not None and "allowed" in times:
                        step = -(-rate["period"] // rate["count"])
                        moments.update(times["allowed"] - count * step for count in range(rate["burst"]))
        for moment in sorted(moment for moment in moments if moment >= now):
            if self.open_tasks(topic, wanted, moment) or any(end <= moment for end in ends):
                return moment
        return None


def labels(task: Task, label: str) -> list[str]:
    """The values of a label of a task, as texts."""
    text = None if task["rare"] is None else task["rare"].labels
    found = {} if text is None else json.loads(text)
    values = found.get(label, [])
    return [str(value) for value in (values if isinstance(values, list) else [values])]


def lane(task: Task, label: str) -> str | None:
    """The value by which a task takes turns: the first, ``None`` without the label."""
    values = labels(task, label)
    return values[0] if values else None
