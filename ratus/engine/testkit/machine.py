"""Random operations of several consumers on an engine and on the model, compared after every step.

Everything is drawn from one source of randomness: the tests hand in one that Hypothesis controls, so that a
difference shrinks to a few steps, or a seeded one for long runs. The clock only goes forward.
"""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, TypeVar

from msgspec import structs

from ratus.core.errors import Closed, Conflict, RatusError
from ratus.core.kinds import TOPIC_SETTINGS
from ratus.core.records import (
    CommitRecord,
    Rare,
    Record,
    RetryPolicy,
    TaskQuery,
    TaskRecord,
    TopicInfo,
    TopicSettings,
)
from ratus.core.selection import Selection, Where
from ratus.core.transitions import RetryDefaults
from ratus.core.turns import Closing, Limits, PerLabel, Rate, Reason
from ratus.engine import Engine
from ratus.engine.testkit.contract.rare_members import with_all
from ratus.engine.testkit.harness import CountingObserver, MakeEngine, fixed, members, value
from ratus.engine.testkit.model import Model, Task, labels
from ratus.engine.testkit.sample import FULL, SAMPLE, Sample
from ratus.testing import START

Answer = TypeVar("Answer")

# Few of each, so that operations meet the same task again and again.
IDS = [f"task {number}" for number in range(12)]
TOPICS = ["a", "b", "c"]
RECORDS = [" ", "A", "a", "aa", "é", "\U0001f600"]
CONSUMERS = ["", "first", "second", "third"]
JSON = [None, b"1", b"null", b'{"b":[],"a":{}}']
ERRORS = [None, None, "", "boom"]
# A coarse grid of time, so that things often fall due at the very time of an operation.
STEP = 10_000
DEFAULTS = RetryDefaults(max_attempts=4, delay=2 * STEP, max_delay=20 * STEP)
RANDOM = 0.75
# Delays times 1 + jitter / 2 are whole milliseconds, as the engines and the model keep them.
POLICIES = [
    None,
    RetryPolicy(),
    RetryPolicy(max_attempts=2, backoff="constant", delay=4 * STEP),
    RetryPolicy(max_attempts=0, backoff="linear", delay=STEP, max_delay=3 * STEP, jitter=0.2),
    RetryPolicy(backoff="exponential", delay=0, jitter=1.0),
    RetryPolicy(max_attempts=1),
]

# Values of labels that are equal, values of arrays, tasks without a label.
LABELS = [
    b'{"c":"x"}',
    b'{"c":"x","r":"e"}',
    b'{"c":"7"}',
    b'{"c":7,"r":["w","e"]}',
    b'{"c":["y","x"]}',
    b'{"r":"e"}',
    b'{"c":"","r":[]}',
]
NAMES = ["c", "r"]
WHERE = [
    Where("c", ("x",)),
    Where("c", ("7", "y")),
    Where("r", ("e",)),
    Where("r", ("w", "none")),
    Where("none", ("x",)),
]
# Steps between two claims are whole milliseconds, as engines keep them.
RATES = [Rate(1, 3 * STEP), Rate(2, 8 * STEP, 2), Rate(3, 10_000 * 3, 3)]
LIMITS = [
    Limits(concurrency=1),
    Limits(concurrency=3, rate=RATES[0]),
    Limits(rate=RATES[1]),
    Limits(per=PerLabel("c", concurrency=1)),
    Limits(per=PerLabel("c", rate=RATES[0])),
    Limits(per=PerLabel("r", concurrency=2, rate=RATES[2])),
    Limits(per=PerLabel("c", ordered=True)),
    Limits(concurrency=2, rate=RATES[2], per=PerLabel("c", concurrency=2, rate=RATES[1], ordered=True)),
]

# How often each operation is drawn. Claims and commits most, so that tasks live a little.
WEIGHTS = {
    "advance": 8,
    "insert": 8,
    "upsert": 3,
    "claim": 16,
    "commit": 14,
    "claim_task": 4,
    "extend": 3,
    "release": 3,
    "delete_task": 2,
    "recover": 2,
    "expire": 2,
    "purge": 2,
    "pages": 2,
    "set_paused": 2,
    "set_limits": 3,
    "lift_holds": 1,
    "lanes": 1,
    "put_settings": 2,
    "put_record": 4,
    "record_pages": 1,
    "release_topic": 1,
    "delete_tasks": 0.3,
    "delete_topic": 0.3,
    "delete_topics": 0.1,
    "reopen": 0.2,
}


class RandomMachine:
    """Makes random steps on an engine and on the model, and compares the two.

    ``draw`` is the only source of randomness. ``trace`` holds the last steps, for the message of a failure.
    """

    engine: Engine

    def __init__(self, make: MakeEngine, draw: Random) -> None:
        self._make = make
        self.draw = draw
        self.now = START
        self.model = Model(DEFAULTS.max_attempts, DEFAULTS.delay, DEFAULTS.max_delay, RANDOM)
        self.claims: list[tuple[str, str]] = []  # ids and nonces that consumers hold, stale ones among them
        self.nonces: set[str] = set()
        self.versions: list[int] = []  # every one that a record had
        self.observer = CountingObserver()
        self.trace: list[str] = []
        self._steps: dict[str, Callable[[], Awaitable[None]]] = {
            name: getattr(self, f"_{name}") for name in WEIGHTS
        }

    async def open(self) -> None:
        """Open an engine. The caller closes ``engine`` in the end."""
        self.engine = self._make(retry=DEFAULTS, random=fixed(RANDOM))
        self.engine.observer = self.observer
        await self.engine.open(self.now)

    async def run(self, steps: int, compare_every: int = 1) -> None:
        """Make this many random steps. Raises `AssertionError`, with the steps as a note, at a difference.

        The answer of a step is always compared with the model; everything else that can be read from the
        engine only after every ``compare_every`` steps, and at the end.
        """
        names, weights = list(WEIGHTS), list(WEIGHTS.values())
        try:
            for number in range(1, steps + 1):
                (name,) = self.draw.choices(names, weights)
                await self._steps[name]()
                self.model.settle()
                await self._clean()
                if number % compare_every == 0 or number == steps:
                    await self._compare()
        except Exception as error:
            error.add_note("\n".join(self.trace[-200:]))
            raise

    # ---- drawing ---------------------------------------------------------------------------------

    def _record(self, *what: object) -> None:
        self.trace.append(" ".join(map(repr, what)))
        del self.trace[:-400]

    def _one(self, choices: Any) -> Any:
        return self.draw.choice(choices)

    def _rarely(self) -> bool:
        return self.draw.random() < 0.2

    def _time(self, low: int, high: int) -> int:
        return self.now + self.draw.randint(low, high) * STEP

    def _task(self) -> TaskRecord:
        odd = self._rarely()  # in any state, as one that is copied from another server
        return TaskRecord(
            id=self._one(IDS),
            topic=self._one(TOPICS),
            produced=self.now,
            scheduled=self._time(-2, 2) if self._rarely() else self.now,
            state=self._one((0, 1, 2, 3)) if odd else 0,
            nonce=self._one(("", "A" * 16)) if odd else "",
            producer=self._one(("", "p")),
            consumer=self._one(CONSUMERS) if odd else "",
            consumed=self._time(-3, 0) if odd else None,
            deadline=self._time(-2, 4) if odd and self._rarely() else None,
            committed=self._time(-3, 0) if odd and self._rarely() else None,
            payload=self._one(JSON),
            priority=self._one((0, 0, 0, -9, 1, 9)),
            attempts=self._one((0, 1, 3)) if odd else 0,
            retry=self._one(POLICIES),
            error=self._one(("", "boom")) if odd else "",
            outcome=self._one(("", "failed", "expired")) if odd else "",
            expires=self._time(-1, 5) if self._one((False, False, True)) else None,
            rare=self._one((None, None, with_all(), *(Rare(labels=labels) for labels in LABELS))),
        )

    def _wanted(self) -> dict[str, Any]:
        """What a consumer chooses."""
        chosen: dict[str, Any] = {"order": self._one(("due", "due", "due", "newest", "random"))}
        kind = self._one((None, None, "where", "prefer", "both"))
        if kind == "where":
            chosen["where"] = self._one(WHERE)
        if kind == "prefer":
            chosen["prefer"] = self._one((("c",), ("r",), ("c", "r"), ("r", "c")))
        if kind == "both":
            chosen["where"] = self._one(WHERE[:4])
            chosen["prefer"] = (chosen["where"].label,)
        return chosen

    async def _use(self, topics: Any, labels: Any) -> None:
        """Let labels come into use where the topic exists, in the engine and in the model.

        A claim does that, too, in those topics that it comes to: which these are is left to the engine.
        """
        for topic in dict.fromkeys(topics):
            for label in labels:
                if topic in self.model.topics():
                    await self.engine.list_lanes(topic, label, None, 1, self.now)
                    self.model.use(topic, label)

    def _claimed(self) -> tuple[str, str]:
        """A claim that a consumer holds or held, or a task without one."""
        if self.claims and not self._rarely():
            return self._one(self.claims[-8:])  # type: ignore[no-any-return]  # the lists above hold anything
        return self._one(IDS), self._one(("", "", "A" * 16, "Z" * 16))

    # ---- what producers do -------------------------------------------------------------------------

    async def _advance(self) -> None:
        self.now += self.draw.randint(1, 4) * STEP
        self._record("advance to", self.now - START)

    async def _insert(self) -> None:
        await self._store(self.engine.insert, self.model.insert)

    async def _upsert(self) -> None:
        await self._store(self.engine.upsert, self.model.put)

    async def _store(
        self,
        store: Callable[[list[TaskRecord], int], Awaitable[list[bool]]],
        store_in_model: Callable[[Task, int], bool],
    ) -> None:
        tasks = [self._task() for _ in range(self._one((1, 1, 2, 5)))]
        self._record(store.__name__, tasks)
        expected = [store_in_model(as_model(task), self.now) for task in tasks]
        assert await store(tasks, self.now) == expected

    # ---- what consumers do -------------------------------------------------------------------------

    async def _claim(self) -> None:
        topics = tuple(dict.fromkeys(self._one(TOPICS) for _ in range(self._one((1, 1, 2, 3)))))
        chosen = self._wanted()
        selection = Selection(
            topics, self._time(1, 6), self._one(CONSUMERS), self._one((1, 1, 2, 20)), **chosen
        )
        self._record("claim", selection)
        await self._use(topics, selection.prefer)
        for topic in topics:
            if topic not in self.model.paused:
                self.model.recover(self.now, topic)
        answer = await attempt(self.engine.claim(selection, self.now))
        wanted = as_wanted(selection)
        if isinstance(answer, RatusError):
            assert isinstance(answer, Closed)
            assert not self.model.candidates(topics, wanted, self.now)
            assert answer.reopens == self.model.reopens(topics, wanted, self.now)
        else:
            for task in map(copy.copy, answer):
                assert task.id in self.model.candidates(topics, wanted, self.now)
                self._took(task, selection)
            if len(answer) < selection.limit:
                assert not self.model.candidates(topics, wanted, self.now)
            if not answer:
                assert self.model.reopens(topics, wanted, self.now) is None
        # How many other tasks a claim recovers or archives (which topics it reaches, how many expired tasks
        # it meets) is left to the engine, so the rest is done here before the engine is compared.
        await self.engine.recover(self.now)
        await self.engine.expire(self.now)
        self.model.recover(self.now)
        self.model.expire(self.now)

    def _took(self, task: TaskRecord, selection: Selection) -> None:
        assert task.nonce not in self.nonces
        assert len(task.nonce) == 16
        self.nonces.add(task.nonce)
        self.claims.append((task.id, task.nonce))
        del self.claims[:-20]
        expected = self.model.claim(
            task.id, task.nonce, selection.consumer, selection.deadline_at(self.now), self.now
        )
        assert members(task) == seen(expected)

    async def _claim_task(self) -> None:
        # An expired task now and then: a random pick rarely finds one before a claim or a chore archives it.
        expired = [name for name, task in self.model.tasks.items() if self.model.expired(task, self.now)]
        task_id = self._one(expired if expired and self._rarely() else IDS)
        force = self._one((False, True))
        selection = Selection((), self._time(1, 6), self._one(CONSUMERS))
        self._record("claim", task_id, force, selection)
        task = self.model.tasks.get(task_id)
        refusal = ""
        if task is None:
            refusal = "NotFound"
        elif not force and (task["state"] != 0 or self.model.expired(task, self.now)):
            refusal = "Conflict"
        elif self.model.expired(task, self.now):
            task.update(state=3, outcome="expired")
            self.model.events[task["topic"], "DEAD_EXPIRED"] += 1
        answer = await attempt(self.engine.claim_task(task_id, selection, self.now, force=force))
        if isinstance(answer, RatusError):
            assert type(answer).__name__ == refusal
        else:
            assert not refusal
            self._took(copy.copy(answer), selection)

    async def _commit(self) -> None:
        commits = []
        for _ in range(self._one((1, 1, 1, 3))):
            task_id, nonce = self._claimed()
            plain = self.draw.random() < 0.4
            commits.append(
                CommitRecord(
                    task_id,
                    "" if self._rarely() else nonce,
                    topic="" if plain else self._one(("", "", *TOPICS)),
                    state=None if plain else self._one((None, 0, 1, 2, 3)),
                    scheduled=self._time(-2, 4) if not plain and self._rarely() else None,
                    payload=None if plain else self._one(JSON),
                    error=self._one(ERRORS),
                    result=None if plain else self._one(JSON),
                    hold=self.draw.randint(1, 5) * STEP if self._rarely() and self._rarely() else None,
                )
            )
        self._record("commit", commits)
        expected = [
            self.model.commit({n: getattr(commit, n) for n in commit.__struct_fields__}, self.now)
            for commit in commits
        ]
        answers = await self.engine.commit(commits, self.now)
        # Several commits to one task: the answer to the first may be the record that the last one changed.
        last = {commit.id: number for number, commit in enumerate(commits)}
        assert len(answers) == len(expected)
        for number, (commit, answer, right) in enumerate(zip(commits, answers, expected, strict=True)):
            if isinstance(answer, RatusError) or isinstance(right, str):
                assert type(answer).__name__ == right
            elif number == last[commit.id]:
                assert members(answer) == seen(right)
            else:
                assert answer.id == commit.id

    async def _extend(self) -> None:
        task_id, nonce = self._claimed()
        deadline = self._time(1, 6)
        self._record("extend", task_id, nonce, deadline)
        task = self.model.tasks.get(task_id)
        refusal = ""
        if task is None:
            refusal = "NotFound"
        elif task["state"] != 1 or (nonce and task["nonce"] != nonce):
            refusal = "Conflict"
        answer = await attempt(self.engine.extend(task_id, nonce, deadline, self.now))
        if isinstance(answer, RatusError):
            assert type(answer).__name__ == refusal
        else:
            assert not refusal
            assert task is not None
            task.update(deadline=deadline, implied=False)
            assert members(answer) == seen(task)

    async def _release(self) -> None:
        task_id, nonce = self._claimed()
        given = self._one((None, nonce))
        hold = self.draw.randint(1, 5) * STEP if self._rarely() else None
        self._record("release", task_id, given, hold)
        tasks = [t for t in self.model.tasks.values() if t["id"] == task_id and t["state"] == 1]
        until = 0 if hold is None else self.now + hold
        done = self.model.release([t for t in tasks if given in (None, t["nonce"])], until)
        assert await self.engine.release(task_id, self.now, given, hold) is bool(done)

    async def _release_topic(self) -> None:
        topic = self._one(TOPICS)
        self._record("release all of", topic)
        expected = self.model.release(self.model.of(topic, 1))
        assert await self.engine.release_topic(topic, self.now) == expected

    # ---- what operators and chores do ----------------------------------------------------------------

    async def _delete_task(self) -> None:
        task_id = self._one(IDS)
        self._record("delete", task_id)
        task = self.model.tasks.pop(task_id, None)
        assert await self.engine.delete_task(task_id) is (task is not None)

    async def _delete_tasks(self) -> None:
        topic = self._one(TOPICS)
        self._record("delete the tasks of", topic)
        assert await self.engine.delete_tasks(topic) == self.model.delete(self.model.of(topic))

    async def _delete_topic(self) -> None:
        topic = self._one(TOPICS)
        self._record("delete topic", topic)
        count = self.model.delete(self.model.of(topic))
        self.model.forget(topic)
        assert await self.engine.delete_topic(topic) == count

    async def _delete_topics(self) -> None:
        self._record("delete everything")
        count = self.model.delete(list(self.model.tasks.values()))
        for topic in TOPICS:
            self.model.forget(topic)
        assert await self.engine.delete_topics() == count

    async def _set_paused(self) -> None:
        topic, paused = self._one(TOPICS), self._rarely()
        self._record("pause" if paused else "resume", topic)
        (self.model.paused.add if paused else self.model.paused.discard)(topic)
        await self.engine.set_paused(topic, paused)

    async def _set_limits(self) -> None:
        topic, limits = self._one(TOPICS), self._one((None, *LIMITS))
        self._record("set limits of", topic, limits)
        await self.engine.change_settings(topic, limits=limits)
        await self._limited(topic, limits)

    async def _limited(self, topic: str, limits: Limits | None) -> None:
        """The limits of a topic are these now."""
        if limits is None:
            self.model.limits.pop(topic, None)
        else:
            self.model.limits[topic] = structs.asdict(limits) | {
                "rate": as_rate(limits.rate),
                "per": None
                if limits.per is None
                else structs.asdict(limits.per) | {"rate": as_rate(limits.per.rate)},
            }
            if limits.per is not None:
                await self._use([topic], [limits.per.label])

    async def _lift_holds(self) -> None:
        topic = self._one(TOPICS)
        self._record("lift the holds of", topic)
        await self.engine.lift_holds(topic, self.now)
        self.model.lift_holds(topic)

    async def _lanes(self) -> None:
        """Follow the pages of the list of lanes."""
        topic, label, limit = self._one(TOPICS), self._one(NAMES), self._one((1, 2, 3))
        self._record("pages of the lanes of", topic, label, limit)
        await self._use([topic], [label])
        found: list[tuple[str | None, int, int, Any]] = []
        after: str | None = None
        while True:
            page = await self.engine.list_lanes(topic, label, after, limit, self.now)
            found += [(lane.value, lane.active, lane.pending, as_closed(lane.closed)) for lane in page]
            if len(page) < limit or page[-1].value is None:  # the lane without a value is the last
                break
            after = page[-1].value
        assert found == self.model.lanes(topic, label, self.now)

    async def _put_settings(self) -> None:
        """Put settings as `change_settings` does, but expect any version: what is there, older, or none."""
        topic, paused = self._one(TOPICS), self._rarely()
        limits = self._one((None, None, *LIMITS))
        found = await self.engine.get_record(TOPIC_SETTINGS, topic)
        there = TopicSettings() if found is None else found.members
        assert there.paused == (topic in self.model.paused)
        assert (there.limits is None) == (topic not in self.model.limits)
        version = 0 if found is None else found.version
        expected = self._expected(version)
        self._record("put settings of", topic, paused, limits, expected)
        settings = TopicSettings(paused, limits)
        new = None if settings == TopicSettings() else settings
        answer = await attempt(self.engine.put_record(TOPIC_SETTINGS, topic, new, expected))
        self._check_version(answer, version, expected, is_there=new is not None)
        if not isinstance(answer, RatusError):
            (self.model.paused.add if paused else self.model.paused.discard)(topic)
            await self._limited(topic, limits)

    async def _put_record(self) -> None:
        record_id, members = self._one(RECORDS), self._one((None, Sample(), FULL, Sample(number=-1)))
        version = self.model.records.get(record_id, (0, None))[0]
        expected = self._expected(version)
        self._record("put record", record_id, members, expected)
        answer = await attempt(self.engine.put_record(SAMPLE, record_id, members, expected))
        self._check_version(answer, version, expected, is_there=members is not None)
        if isinstance(answer, RatusError):
            return
        if members is None:
            self.model.records.pop(record_id, None)
        else:
            self.model.records[record_id] = (answer, members)

    def _expected(self, version: int) -> int | None:
        """What the writer of a record expects: what is there, anything, nothing, or what was there."""
        return self._one((version, version, None, 0, *self.versions[-3:]))  # type: ignore[no-any-return]  # the lists above hold anything

    def _check_version(
        self, answer: int | RatusError, version: int, expected: int | None, *, is_there: bool
    ) -> None:
        if isinstance(answer, RatusError):
            assert isinstance(answer, Conflict)
            assert expected not in (None, version)
            return
        assert expected in (None, version)
        assert (answer != 0) == is_there
        if is_there:
            assert answer not in self.versions
            self.versions.append(answer)

    async def _record_pages(self) -> None:
        """Follow the pages of the list of records."""
        limit = self._one((1, 2, 3))
        self._record("pages of records", limit)
        found: list[tuple[str, int, Any]] = []
        page: list[Record[Sample]] = []
        while not found or len(page) == limit:
            page = await self.engine.list_records(SAMPLE, found[-1][0] if found else "", limit)
            found += [(record.id, record.version, record.members) for record in page]
            if not page:
                break
        assert found == [(name, *self.model.records[name]) for name in sorted(self.model.records)]

    async def _recover(self) -> None:
        self._record("recover")
        assert await self.engine.recover(self.now) == self.model.recover(self.now)

    async def _expire(self) -> None:
        self._record("expire")
        assert await self.engine.expire(self.now) == self.model.expire(self.now)

    async def _purge(self) -> None:
        before = self._time(-6, 0)
        self._record("purge", before)
        assert await self.engine.purge(before) == self.model.purge(before)

    async def _reopen(self) -> None:
        self._record("close and open again")
        await self.engine.close(self.now)
        await self.open()

    async def _pages(self) -> None:
        """Follow the pages of a filtered list."""
        topic, limit = self._one(TOPICS), self._one((1, 2, 3))
        filters = {
            "state": self._one((None, 0, 1, 2, 3)),
            "outcome": self._one((None, None, "", "failed", "expired")),
            "producer": self._one((None, None, "", "p")),
            "consumer": self._one((None, None, "", "first")),
        }
        pairs = self._one(((), (), (("c", "x"),), (("c", "7"), ("r", "e")), (("c", "x"), ("c", "y"))))
        self._record("pages of", topic, limit, filters, pairs)
        found, after = [], None
        while True:
            query = TaskQuery(topic, limit, after=after, labels=pairs, **filters)
            page = await self.engine.list_tasks(query)
            assert len(page.tasks) <= limit
            found += [task.id for task in page.tasks]
            after = page.next
            if after is None:
                break
        matching = [
            t["id"]
            for t in self.model.of(topic)
            if all(wanted is None or t[name] == wanted for name, wanted in filters.items())
            and all(text in labels(t, name) for name, text in pairs)
        ]
        assert sorted(found) == sorted(matching)

    # ---- comparing -----------------------------------------------------------------------------------

    async def _compare(self) -> None:
        """Assert that everything that can be read from the engine is what the model says."""
        count = 0
        for topic in TOPICS:
            page = await self.engine.list_tasks(TaskQuery(topic, 1000))
            right = self.model.of(topic)
            assert {t.id: members(t) for t in page.tasks} == {t["id"]: seen(t) for t in right}
            assert len(page.tasks) == len(right)
            count += len(right)
            found = await self.engine.get_topic(topic, self.now)
            assert (None if found is None else structs.replace(found, lanes=0)) == self._info(topic)
            await self._compare_next_due(topic)
        assert count == len(self.model.tasks)
        assert set(await self.engine.list_topics(100, 0)) == self.model.topics()
        assert self.observer.events == self.model.events
        surveyed: list[TopicInfo] = []
        await self.engine.survey(self.now, surveyed.append)
        infos = {info.name: structs.replace(info, lanes=0) for info in surveyed}
        assert infos == {t: self._info(t) for t in self.model.topics()}
        assert len(surveyed) == len(self.model.topics())
        record_id = self._one(RECORDS)
        record = await self.engine.get_record(SAMPLE, record_id)
        kept = None if record is None else (record.version, record.members)
        assert kept == self.model.records.get(record_id)
        task_id = self._one(IDS)
        task = await self.engine.get(task_id)
        assert (None if task is None else task.topic) == self.model.tasks.get(task_id, {}).get("topic")

    async def _compare_next_due(self, topic: str) -> None:
        """Exact where nothing is limited; else never later than the first time at which a claim works."""
        where = self._one((None, *WHERE))
        due = await self.engine.next_due(topic, self.now, where)
        if where is None and topic not in self.model.limits and not self.model.closed(topic, self.now):
            assert due == self.model.next_due(topic)
            return
        wanted = {"order": "due", "where": where and (where.label, where.values), "prefer": ()}
        opens = self.model.opens(topic, wanted, self.now)
        assert opens is None or (due is not None and due <= opens)

    async def _clean(self) -> None:
        """A topic without task and setting may be forgotten, with its labels in use; so that is done."""
        for topic in TOPICS:
            if topic not in self.model.topics() and any(key[0] == topic for key in self.model.in_use):
                await self.engine.delete_topic(topic)
                self.model.forget(topic)

    def _info(self, topic: str) -> TopicInfo | None:
        if topic not in self.model.topics():
            return None
        counts = [len(self.model.of(topic, state)) for state in range(4)]
        due = [t["scheduled"] for t in self.model.of(topic, 0) if t["scheduled"] <= self.now]
        return TopicInfo(
            topic,
            (counts[0], counts[1], counts[2], counts[3]),
            len(due),
            min(due, default=None),
            topic in self.model.paused,
            self._limits(topic),
            self._closed(topic),
        )

    def _limits(self, topic: str) -> Limits | None:
        found = self.model.limits.get(topic)
        if found is None:
            return None
        per = found["per"]
        return Limits(
            found["concurrency"],
            made_rate(found["rate"]),
            None if per is None else PerLabel(**per | {"rate": made_rate(per["rate"])}),
        )

    def _closed(self, topic: str) -> Closing | None:
        if topic in self.model.paused:
            return Closing(Reason.PAUSED)
        closed = self.model.closed(topic, self.now)
        return None if closed is None else Closing(Reason(closed[0]), closed[1])


async def attempt(step: Awaitable[Answer]) -> Answer | RatusError:
    """What a step returns, or the `RatusError` that it raises."""
    try:
        return await step
    except RatusError as error:
        return error


def as_wanted(selection: Selection) -> dict[str, Any]:
    """What a selection chooses, as the model takes it."""
    where = selection.where
    return {
        "order": selection.order,
        "where": None if where is None else (where.label, where.values),
        "prefer": selection.prefer,
    }


def as_rate(rate: Rate | None) -> dict[str, int] | None:
    return None if rate is None else structs.asdict(rate)


def made_rate(rate: dict[str, int] | None) -> Rate | None:
    return None if rate is None else Rate(**rate)


def as_closed(closed: Closing | None) -> tuple[str, int | None] | None:
    return None if closed is None else (closed.reason.value, closed.reopens)


def as_model(task: TaskRecord) -> Task:
    """A record as the model keeps it."""
    found = {name: getattr(task, name) for name in TaskRecord.__struct_fields__ if name != "sequence"}
    if task.retry is not None:
        policy = task.retry
        names = [name for name in policy.__struct_fields__ if getattr(policy, name) is not None]
        found["retry"] = {name: getattr(policy, name) for name in names}
    return found


def seen(task: Task) -> dict[str, Any]:
    """A task of the model as `members` shows the engine's."""
    retry = None if task["retry"] is None else RetryPolicy(**task["retry"])
    return {**task, "retry": retry, "payload": value(task["payload"]), "result": value(task["result"])}
