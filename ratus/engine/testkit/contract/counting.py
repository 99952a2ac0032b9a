"""What an engine notifies its observer of: what operators count, once each, whatever caused it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest

from ratus.core.errors import Conflict
from ratus.core.records import (
    ACTIVE,
    ARCHIVED,
    COMPLETED,
    PENDING,
    CommitRecord,
    RetryPolicy,
    TopicInfo,
)
from ratus.core.selection import Selection
from ratus.core.turns import Closing, Reason
from ratus.engine.testkit.base import EngineTests
from ratus.engine.testkit.harness import HOUR, MINUTE, SECOND, CountingObserver, Harness

Step = Callable[[Harness], Awaitable[object]]

NONCE = "n" * 16


async def fill(harness: Harness) -> None:
    """Add tasks: claimed, claimed on its last attempt, expiring in a second, completed, archived."""
    deadline = harness.now + MINUTE
    last = RetryPolicy(max_attempts=1)
    await harness.add("claimed", topic="claimed", state=ACTIVE, deadline=deadline, nonce=NONCE, attempts=1)
    await harness.add(
        "last try",
        topic="last try",
        state=ACTIVE,
        deadline=deadline,
        nonce=NONCE,
        attempts=1,
        retry=last,
    )
    await harness.add("expiring", topic="expiring", expires=harness.now + SECOND)
    await harness.add("done", topic="done", state=COMPLETED, committed=harness.now)
    await harness.add("dead", topic="dead", state=ARCHIVED)


def later(seconds: int, step: Step) -> Step:
    """A step that is made after some time."""

    async def made(harness: Harness) -> object:
        harness.now += seconds
        return await step(harness)

    return made


COUNTED: dict[str, tuple[Step, dict[tuple[str, str], int]]] = {
    "a failure": (
        lambda d: d.fail("claimed", NONCE),
        {("claimed", "FAILURE"): 1, ("claimed", "RETRY"): 1},
    ),
    "a failure without a text": (
        lambda d: d.fail("claimed", NONCE, error=""),
        {("claimed", "FAILURE"): 1, ("claimed", "RETRY"): 1},
    ),
    "the last failure": (
        lambda d: d.fail("last try", NONCE),
        {("last try", "FAILURE"): 1, ("last try", "DEAD_FAILED"): 1},
    ),
    "a forced failure": (
        lambda d: d.fail("done"),
        {("done", "FAILURE"): 1, ("done", "RETRY"): 1},
    ),
    "a failure that moves the task": (
        lambda d: d.fail("claimed", NONCE, topic="new"),
        {("new", "FAILURE"): 1, ("new", "RETRY"): 1},
    ),
    "an error and back to pending": (
        lambda d: d.fail("claimed", NONCE, state=PENDING),
        {("claimed", "FAILURE"): 1, ("claimed", "RETRY"): 1},
    ),
    "an error and still active": (
        lambda d: d.fail("claimed", NONCE, state=ACTIVE),
        {("claimed", "FAILURE"): 1},
    ),
    "an error and completed": (
        lambda d: d.fail("claimed", NONCE, state=COMPLETED),
        {("claimed", "FAILURE"): 1},
    ),
    "an error and put aside": (
        lambda d: d.fail("claimed", NONCE, state=ARCHIVED),
        {("claimed", "FAILURE"): 1},
    ),
    "a claim over a claim": (
        lambda d: d.claim_task("claimed", force=True),
        {("claimed", "LAPSE"): 1},
    ),
    "a lapse that a chore finds": (
        later(MINUTE, lambda d: d.engine.recover(d.now)),
        {
            ("claimed", "LAPSE"): 1,
            ("claimed", "RETRY"): 1,
            ("last try", "LAPSE"): 1,
            ("last try", "DEAD_FAILED"): 1,
        },
    ),
    "a lapse that a claim finds": (
        later(MINUTE, lambda d: d.claim("claimed")),
        {("claimed", "LAPSE"): 1, ("claimed", "RETRY"): 1},
    ),
    "the last lapse, found by a claim": (
        later(MINUTE, lambda d: d.claim("last try")),
        {("last try", "LAPSE"): 1, ("last try", "DEAD_FAILED"): 1},
    ),
    "an expiry that a chore finds": (
        later(SECOND, lambda d: d.engine.expire(d.now)),
        {("expiring", "DEAD_EXPIRED"): 1},
    ),
    "an expiry that a claim finds": (
        later(SECOND, lambda d: d.claim("expiring")),
        {("expiring", "DEAD_EXPIRED"): 1},
    ),
    "a claim of an expired task by force": (
        later(SECOND, lambda d: d.claim_task("expiring", force=True)),
        {("expiring", "DEAD_EXPIRED"): 1},
    ),
}


async def give_back_all(harness: Harness) -> None:
    await harness.engine.release("claimed", harness.now)
    await harness.engine.release_topic("last try", harness.now)


NOT_COUNTED: dict[str, Step] = {
    "a completion": lambda d: d.commit("claimed", NONCE),
    "putting aside": lambda d: d.commit("claimed", state=ARCHIVED),
    "giving back by commit": lambda d: d.commit("claimed", NONCE, state=PENDING),
    "a revival": lambda d: d.commit("dead", state=PENDING),
    "a claim by force of what is done": lambda d: d.claim_task("done", force=True),
    "giving back": give_back_all,
    "a claim in time": lambda d: d.claim("expiring"),
    "more time": lambda d: d.engine.extend("claimed", NONCE, d.now + HOUR, d.now),
    "a dead letter from elsewhere": lambda d: d.add("new", state=ARCHIVED, outcome="failed", error="boom"),
    "a replacement": lambda d: d.upsert(d.task("claimed", "claimed")),
    "chores with nothing to do": lambda d: asyncio.gather(d.engine.recover(d.now), d.engine.expire(d.now)),
    "deleting": lambda d: d.engine.delete_topics(),
}


# `Engine.survey`, which reads the counts of all topics at once.


async def survey(harness: Harness) -> dict[str, TopicInfo]:
    found: list[TopicInfo] = []
    await harness.engine.survey(harness.now, found.append)
    assert len({info.name for info in found}) == len(found), "a topic was surveyed twice"
    return {info.name: info for info in found}


class CountingTests(EngineTests):
    """What an engine notifies its observer of: what operators count, once each, whatever caused it."""

    @pytest.mark.parametrize("name", COUNTED)
    async def test_an_event_is_counted(self, harness: Harness, name: str) -> None:
        step, expected = COUNTED[name]
        await fill(harness)
        harness.engine.observer = observer = CountingObserver()
        await step(harness)
        assert observer.events == Counter(expected)

    @pytest.mark.parametrize("name", NOT_COUNTED)
    async def test_what_is_no_event_is_not_counted(self, harness: Harness, name: str) -> None:
        await fill(harness)
        harness.engine.observer = observer = CountingObserver()
        await NOT_COUNTED[name](harness)
        assert observer.events == Counter()

    async def test_a_refused_failure_is_not_counted(self, harness: Harness) -> None:
        await fill(harness)
        harness.engine.observer = observer = CountingObserver()
        with pytest.raises(Conflict):
            await harness.fail("claimed", "x" * 16)
        await harness.engine.commit([CommitRecord("missing", error="boom")], harness.now)
        assert observer.events == Counter()

    async def test_each_commit_of_a_batch_is_counted_by_itself(self, harness: Harness) -> None:
        await harness.add("1", "2", "3", "4", topic="a")
        await harness.add("5", topic="b", retry=RetryPolicy(max_attempts=1))
        tasks = {task.id: task for task in await harness.claim("a", "b", limit=10)}
        harness.engine.observer = observer = CountingObserver()
        await harness.engine.commit(
            [
                CommitRecord("1", tasks["1"].nonce),
                CommitRecord("2", tasks["2"].nonce, error="boom"),
                CommitRecord("3", "x" * 16, error="boom"),
                CommitRecord("4", error="boom"),
                CommitRecord("4", error="boom"),
                CommitRecord("5", tasks["5"].nonce, error="boom"),
            ],
            harness.now,
        )
        assert observer.events == Counter(
            {("a", "FAILURE"): 3, ("a", "RETRY"): 3, ("b", "FAILURE"): 1, ("b", "DEAD_FAILED"): 1}
        )

    async def test_very_many_events_are_counted_one_by_one(self, harness: Harness) -> None:
        await harness.add(*map(str, range(1200)), state=ACTIVE, deadline=harness.now)
        await harness.add(*map(str, range(2000, 2700)), topic="expiring", expires=harness.now)
        harness.engine.observer = observer = CountingObserver()
        assert await harness.engine.recover(harness.now) == 1200
        assert await harness.engine.expire(harness.now) == 700
        assert observer.events == Counter(
            {("t", "LAPSE"): 1200, ("t", "RETRY"): 1200, ("expiring", "DEAD_EXPIRED"): 700}
        )

    async def test_what_two_servers_find_at_the_same_time_is_counted_once(self, harness: Harness) -> None:
        if not harness.engine.traits.shared:
            pytest.skip("one engine at a time on this data")
        engines = [harness.engine, await harness.start()]
        await harness.add(*map(str, range(1200)), state=ACTIVE, deadline=harness.now)
        observers = [CountingObserver(), CountingObserver()]
        for engine, observer in zip(engines, observers, strict=True):
            engine.observer = observer
        selection = Selection(("t",), harness.now + HOUR)
        await asyncio.gather(
            *(engine.recover(harness.now) for engine in engines),
            *(engine.claim(selection, harness.now) for engine in engines),
        )
        assert observers[0].events + observers[1].events == Counter(
            {("t", "LAPSE"): 1200, ("t", "RETRY"): 1200}
        )

    async def test_without_an_observer_nothing_is_missing(self, harness: Harness) -> None:
        await fill(harness)
        harness.engine.observer = None
        await harness.fail("claimed", NONCE)
        await harness.engine.recover(harness.now + MINUTE)

    async def test_a_survey_tells_of_every_topic_what_is_known_of_it(self, harness: Harness) -> None:
        assert await survey(harness) == {}
        await fill(harness)
        await harness.add("early", "late", topic="due", scheduled=harness.now - HOUR, priority=9)
        await harness.add("earlier", topic="due", scheduled=harness.now - 2 * HOUR)
        await harness.add("not yet", topic="due", scheduled=harness.now + HOUR, priority=-9)
        await harness.engine.set_paused("due", True)
        await harness.engine.set_paused("empty", True)
        names = await harness.topics()
        assert len(names) == 7
        assert await survey(harness) == {name: await harness.info(name) for name in names}
        assert (await survey(harness))["due"] == TopicInfo(
            "due", (4, 0, 0, 0), 3, harness.now - 2 * HOUR, True, closed=Closing(Reason.PAUSED)
        )

    async def test_a_survey_of_many_topics(self, harness: Harness) -> None:
        names = {f"topic {number}" for number in range(300)}
        await harness.insert(*(harness.task(name, name) for name in names))
        surveyed = await survey(harness)
        assert surveyed.keys() == names
        assert all(
            (info.counts, info.due, info.oldest) == ((1, 0, 0, 0), 1, harness.now)
            for info in surveyed.values()
        )

    async def test_figures_have_names_that_metrics_may_have_and_keep_them(self, harness: Harness) -> None:
        figures = {figure.name: figure for figure in harness.engine.metrics(harness.now)}
        for name, figure in figures.items():
            assert name.replace("_", "").isalnum(), name
            assert name.endswith("_total") is (figure.kind == "counter"), name
            assert figure.help.endswith(".")
        await harness.add("1")
        await harness.reopen()
        assert [figure.name for figure in harness.engine.metrics(harness.now)] == list(figures)

    async def test_which_topics_are_there(self, harness: Harness) -> None:
        """Known are topics with a task in any state or a setting, however many other topics there are."""
        for number in range(40):
            await harness.add(f"{number}", topic=f"t{number}", state=number % 4)
        await harness.engine.set_paused("paused", True)
        names = ["t0", "t1", "t2", "t3", "t39", "paused", "t40", "gone", ""]
        assert await harness.engine.known_topics(names) == {"t0", "t1", "t2", "t3", "t39", "paused"}
        await harness.engine.set_paused("paused", False)
        await harness.engine.delete_task("0")
        assert await harness.engine.known_topics(["t0", "paused", "t1"]) == {"t1"}
