"""What an engine tells its observer: what operators count, once each, whoever caused it."""

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
    Claim,
    CommitRecord,
    RetryPolicy,
    TopicInfo,
)
from tests.engines.contract.desk import HOUR, MINUTE, SECOND, Desk, Eye

pytestmark = pytest.mark.anyio

Step = Callable[[Desk], Awaitable[object]]

NONCE = "n" * 16


async def fill(desk: Desk) -> None:
    """Claims, one of them the last that its task has, a task that expires in a second, and what is done."""
    deadline = desk.now + MINUTE
    last = RetryPolicy(max_attempts=1)
    await desk.add("claimed", topic="claimed", state=ACTIVE, deadline=deadline, nonce=NONCE, attempts=1)
    await desk.add(
        "last try",
        topic="last try",
        state=ACTIVE,
        deadline=deadline,
        nonce=NONCE,
        attempts=1,
        retry=last,
    )
    await desk.add("expiring", topic="expiring", expires=desk.now + SECOND)
    await desk.add("done", topic="done", state=COMPLETED, committed=desk.now)
    await desk.add("dead", topic="dead", state=ARCHIVED)


def later(seconds: int, step: Step) -> Step:
    """A step that is made after some time."""

    async def made(desk: Desk) -> object:
        desk.now += seconds
        return await step(desk)

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


@pytest.mark.parametrize("name", COUNTED)
async def test_it_is_counted(desk: Desk, name: str) -> None:
    step, expected = COUNTED[name]
    await fill(desk)
    desk.engine.observer = eye = Eye()
    await step(desk)
    assert eye.events == Counter(expected)


async def give_back_all(desk: Desk) -> None:
    await desk.engine.release("claimed", desk.now)
    await desk.engine.release_topic("last try", desk.now)


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


@pytest.mark.parametrize("name", NOT_COUNTED)
async def test_it_is_not_counted(desk: Desk, name: str) -> None:
    await fill(desk)
    desk.engine.observer = eye = Eye()
    await NOT_COUNTED[name](desk)
    assert eye.events == Counter()


async def test_a_refused_failure_is_not_counted(desk: Desk) -> None:
    await fill(desk)
    desk.engine.observer = eye = Eye()
    with pytest.raises(Conflict):
        await desk.fail("claimed", "x" * 16)
    await desk.engine.commit([CommitRecord("missing", error="boom")], desk.now)
    assert eye.events == Counter()


async def test_each_commit_of_a_batch_is_counted_by_itself(desk: Desk) -> None:
    await desk.add("1", "2", "3", "4", topic="a")
    await desk.add("5", topic="b", retry=RetryPolicy(max_attempts=1))
    tasks = {task.id: task for task in await desk.claim("a", "b", limit=10)}
    desk.engine.observer = eye = Eye()
    await desk.engine.commit(
        [
            CommitRecord("1", tasks["1"].nonce),
            CommitRecord("2", tasks["2"].nonce, error="boom"),
            CommitRecord("3", "x" * 16, error="boom"),
            CommitRecord("4", error="boom"),
            CommitRecord("4", error="boom"),
            CommitRecord("5", tasks["5"].nonce, error="boom"),
        ],
        desk.now,
    )
    assert eye.events == Counter(
        {("a", "FAILURE"): 3, ("a", "RETRY"): 3, ("b", "FAILURE"): 1, ("b", "DEAD_FAILED"): 1}
    )


async def test_very_many_are_counted_one_by_one(desk: Desk) -> None:
    await desk.add(*map(str, range(1200)), state=ACTIVE, deadline=desk.now)
    await desk.add(*map(str, range(2000, 2700)), topic="expiring", expires=desk.now)
    desk.engine.observer = eye = Eye()
    assert await desk.engine.recover(desk.now) == 1200
    assert await desk.engine.expire(desk.now) == 700
    assert eye.events == Counter(
        {("t", "LAPSE"): 1200, ("t", "RETRY"): 1200, ("expiring", "DEAD_EXPIRED"): 700}
    )


async def test_what_two_servers_find_at_the_same_time_is_counted_once(desk: Desk) -> None:
    if not desk.engine.traits.shared:
        pytest.skip("one engine at a time on this data")
    engines = [desk.engine, await desk.start()]
    await desk.add(*map(str, range(1200)), state=ACTIVE, deadline=desk.now)
    eyes = [Eye(), Eye()]
    for engine, eye in zip(engines, eyes, strict=True):
        engine.observer = eye
    claim = Claim(("t",), desk.now + HOUR)
    await asyncio.gather(
        *(engine.recover(desk.now) for engine in engines),
        *(engine.claim(claim, desk.now) for engine in engines),
    )
    assert eyes[0].events + eyes[1].events == Counter({("t", "LAPSE"): 1200, ("t", "RETRY"): 1200})


async def test_without_an_observer_nothing_is_missing(desk: Desk) -> None:
    await fill(desk)
    desk.engine.observer = None
    await desk.fail("claimed", NONCE)
    await desk.engine.recover(desk.now + MINUTE)


# What is known of all topics at once.


async def survey(desk: Desk) -> dict[str, TopicInfo]:
    found: list[TopicInfo] = []
    await desk.engine.survey(desk.now, found.append)
    assert len({info.name for info in found}) == len(found), "a topic was surveyed twice"
    return {info.name: info for info in found}


async def test_a_survey_tells_of_every_topic_what_is_known_of_it(desk: Desk) -> None:
    assert await survey(desk) == {}
    await fill(desk)
    await desk.add("early", "late", topic="due", scheduled=desk.now - HOUR, priority=9)
    await desk.add("earlier", topic="due", scheduled=desk.now - 2 * HOUR)
    await desk.add("not yet", topic="due", scheduled=desk.now + HOUR, priority=-9)
    await desk.engine.set_paused("due", True)
    await desk.engine.set_paused("empty", True)
    names = await desk.topics()
    assert len(names) == 7
    assert await survey(desk) == {name: await desk.info(name) for name in names}
    assert (await survey(desk))["due"] == TopicInfo("due", (4, 0, 0, 0), 3, desk.now - 2 * HOUR, True)


async def test_a_survey_of_many_topics(desk: Desk) -> None:
    names = {f"topic {number}" for number in range(300)}
    await desk.insert(*(desk.task(name, name) for name in names))
    surveyed = await survey(desk)
    assert surveyed.keys() == names
    assert all(
        (info.counts, info.due, info.oldest) == ((1, 0, 0, 0), 1, desk.now) for info in surveyed.values()
    )


async def test_figures_have_names_that_metrics_may_have_and_keep_them(desk: Desk) -> None:
    figures = {figure.name: figure for figure in desk.engine.figures(desk.now)}
    for name, figure in figures.items():
        assert name.replace("_", "").isalnum(), name
        assert name.endswith("_total") is (figure.kind == "counter"), name
        assert figure.help.endswith(".")
    await desk.add("1")
    await desk.reopen()
    assert [figure.name for figure in desk.engine.figures(desk.now)] == list(figures)


async def test_which_topics_are_there(desk: Desk) -> None:
    """Each has a task in some state, or a setting; however many others there are."""
    for number in range(40):
        await desk.add(f"{number}", topic=f"t{number}", state=number % 4)
    await desk.engine.set_paused("paused", True)
    names = ["t0", "t1", "t2", "t3", "t39", "paused", "t40", "gone", ""]
    assert await desk.engine.known_topics(names) == {"t0", "t1", "t2", "t3", "t39", "paused"}
    await desk.engine.set_paused("paused", False)
    await desk.engine.delete_task("0")
    assert await desk.engine.known_topics(["t0", "paused", "t1"]) == {"t1"}
