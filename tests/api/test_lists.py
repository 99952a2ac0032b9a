"""Pages, cursors, filters and the order of lists."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers import Api, Server, assert_error, segment, serving

BOUNDED = ["/v1/topics", "/v1/topics/{}/tasks", "/v1/topics/{}/promises"]


def fill(api: Api, topic: str, count: int, **members: Any) -> list[str]:
    """Insert tasks in one batch; their ids in order of creation."""
    ids = [f"{topic}-{number}" for number in range(count)]
    random.shuffle(ids)
    data = {"data": [{"_id": each, **members} for each in ids]}
    assert api.post(f"/v1/topics/{segment(topic)}/tasks", data).json == {"created": count, "updated": 0}
    return ids


def ids_of(answer: Any) -> list[str]:
    assert answer.status == 200, answer.body
    return [each["_id"] for each in answer.json["data"]]


@pytest.mark.parametrize("kind", ["tasks", "promises"])
def test_pages(api: Api, name: str, kind: str) -> None:
    target = f"/v1/topics/{name}/{kind}"
    ids = fill(api, name, 25, state=1)

    assert ids_of(api.get(target)) == ids[:10]
    # As the Go client asks.
    assert ids_of(api.get(f"{target}?limit=0&offset=0")) == ids[:10]
    assert ids_of(api.get(f"{target}?limit=&offset=")) == ids[:10]
    assert ids_of(api.get(f"{target}?limit=100")) == ids
    assert ids_of(api.get(f"{target}?limit=7&offset=20")) == ids[20:]
    assert ids_of(api.get(f"{target}?offset=25")) == []
    assert ids_of(api.get(f"{target}?offset=10000&limit=1")) == []
    assert ids_of(api.get(f"{target}?limit=1&limit=5&unknown=x")) == ids[:1]
    assert set(api.get(target).json) == {"data"}


def test_pages_of_topics(tmp_path: Path) -> None:
    with serving(tmp_path) as server, Api(server.port) as api:
        assert api.get("/v1/topics").json == {"data": []}
        topics = [f"topic-{number}" for number in range(12)]
        random.shuffle(topics)
        for topic in topics:
            api.insert(topic, topic)
        names = [{"name": topic} for topic in topics]
        assert api.get("/v1/topics").json == {"data": names[:10]}
        assert api.get("/v1/topics?limit=100").json == {"data": names}
        assert api.get("/v1/topics?limit=5&offset=10").json == {"data": names[10:]}
        assert api.get("/v1/topics?offset=12").json == {"data": []}


@pytest.mark.parametrize("target", BOUNDED)
@pytest.mark.parametrize(
    "query",
    [
        "limit=-1",
        "limit=101",
        "limit=abc",
        "limit=1.5",
        "limit=1e2",
        "limit=0x10",
        "limit=99999999999999999999",
        "limit=%D9%A1",
        "limit= 1".replace(" ", "%20"),
        "limit=+1",
        "offset=-1",
        "offset=10001",
        "offset=x",
        "offset=99999999999999999999",
        "offset=%ff",
        "limit=1&offset=-1",
    ],
)
def test_bounds(api: Api, name: str, target: str, query: str) -> None:
    assert_error(api.get(f"{target.format(name)}?{query}"), 400, query.split("&")[-1].partition("=")[0])


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A server with small pages."""
    flags = ["--pagination-max-limit", "5", "--pagination-max-offset", "3"]
    with serving(tmp_path_factory.mktemp("small"), *flags) as server, Api(server.port) as client:
        yield client


def test_configured_bounds(small: Api, name: str) -> None:
    ids = fill(small, name, 9, state=1)
    for kind in ("tasks", "promises"):
        target = f"/v1/topics/{name}/{kind}"
        # The default is the maximum where that is smaller.
        assert ids_of(small.get(target)) == ids[:5]
        assert ids_of(small.get(f"{target}?limit=5&offset=3")) == ids[3:8]
        assert_error(small.get(f"{target}?limit=6"), 400, "limit")
        assert_error(small.get(f"{target}?offset=4"), 400, "offset")


def test_order_is_that_of_creation_through_everything(api: Api, name: str) -> None:
    ids = fill(api, name, 5)
    api.commit(ids[2])
    api.commit(ids[0], state=3)
    api.claim(name)
    assert (
        api.put(
            f"/v1/topics/{name}/tasks/{ids[3]}", {"priority": 9, "scheduled": "1999-01-01T00:00:00Z"}
        ).status
        == 200
    )
    api.commit(ids[4], state=0, topic=f"{name}elsewhere")
    api.commit(ids[4], state=0, topic=name)
    assert ids_of(api.get(f"/v1/topics/{name}/tasks")) == ids
    api.delete(f"/v1/topics/{name}/tasks/{ids[1]}")
    api.insert(name, ids[1])
    assert ids_of(api.get(f"/v1/topics/{name}/tasks")) == [ids[0], *ids[2:], ids[1]]


# ---- filters -------------------------------------------------------------------------------------


def test_filters(api: Api, name: str) -> None:
    for number in range(12):
        members = {"state": number % 4, "producer": f"p{number % 3}"}
        if number % 4 in (1, 2):
            members["consumer"] = f"c&{number % 2}"
        if number % 4 == 3:
            members["outcome"] = ("failed", "expired")[number % 2 - 1 if number < 6 else 1]
        api.insert(name, f"{name}{number:02}", **members)
    everything = api.get(f"/v1/topics/{name}/tasks?limit=100").json["data"]
    assert len(everything) == 12

    filters: dict[str, Callable[[Any], bool]] = {
        "state=0": lambda task: task["state"] == 0,
        "state=3": lambda task: task["state"] == 3,
        "producer=p1": lambda task: task["producer"] == "p1",
        "producer=nobody": lambda task: False,
        "consumer=c%260": lambda task: task.get("consumer") == "c&0",
        "outcome=failed": lambda task: task.get("outcome") == "failed",
        "outcome=expired": lambda task: task.get("outcome") == "expired",
        "state=3&outcome=expired": lambda task: task.get("outcome") == "expired",
        "state=1&producer=p2&consumer=c%261": lambda task: (task["state"], task["producer"]) == (1, "p2"),
        "state=&producer=&consumer=&outcome=": lambda task: True,
        "State=0": lambda task: True,
    }
    for query, matches in filters.items():
        expected = [task for task in everything if matches(task)]
        target = f"/v1/topics/{name}/tasks?{query}"
        assert api.get(f"{target}&limit=100").json["data"] == expected, query
        assert api.get(f"{target}&limit=2&offset=1").json["data"] == expected[1:3], query


@pytest.mark.parametrize(
    "query",
    ["state=4", "state=-1", "state=pending", "state=1.0", "outcome=done", "outcome=Failed", "producer=%ff"],
)
def test_filters_that_are_none(api: Api, name: str, query: str) -> None:
    assert_error(api.get(f"/v1/topics/{name}/tasks?{query}"), 400, query.partition("=")[0])


# ---- cursors -------------------------------------------------------------------------------------


def walk(api: Api, topic: str, query: str) -> Iterator[list[Any]]:
    """The pages of a topic, by cursor."""
    cursor: str | None = ""
    while cursor is not None:
        answer = api.get(f"/v1/topics/{segment(topic)}/tasks?{query}&after={cursor}")
        assert answer.status == 200, answer.body
        yield answer.json["data"]
        cursor = answer.json.get("next")


def test_a_walk_while_others_delete_and_insert(api: Api, name: str) -> None:
    """Whatever stays is seen exactly once, in order; an offset would skip as many as were deleted."""
    ids = fill(api, name, 1000)
    chance = random.Random(7)
    goes = chance.sample(ids, 400)
    left, seen = set(goes), list[str]()
    for number, page in enumerate(walk(api, name, "limit=37")):
        seen += [task["_id"] for task in page]
        # Some anywhere, and the one that the cursor stands on.
        for gone in {*chance.sample(goes, 25), seen[-1]} & left:
            left.remove(gone)
            assert api.delete(f"/v1/topics/{name}/tasks/{gone}").json == {"deleted": 1}
        if number < 3:
            api.insert(name, f"{name}late{number}")
    assert len(left) < 200
    assert len(seen) == len(set(seen))
    late = [f"{name}late{number}" for number in range(3)]
    assert [each for each in seen if each not in goes] == [*(each for each in ids if each not in goes), *late]


@pytest.mark.parametrize(("count", "pages"), [(0, 1), (9, 1), (20, 2), (21, 3)])
def test_the_last_page_has_no_next(api: Api, name: str, count: int, pages: int) -> None:
    if count:
        fill(api, name, count)
    walked = list(walk(api, name, "limit=10"))
    assert sum(map(len, walked)) == count
    # A page that is full may be followed by one that is empty.
    assert pages <= len(walked) <= pages + 1
    assert all(walked[: pages - 1])


def test_a_walk_with_a_filter(api: Api, name: str) -> None:
    ids = fill(api, name, 60)
    chosen = [each for number, each in enumerate(ids) if number % 7 == 3]
    for each in chosen:
        api.commit(each, state=3)
    assert [task["_id"] for page in walk(api, name, "state=3&limit=4") for task in page] == chosen


@pytest.mark.parametrize(
    "cursor", ["x", "AAAA", "%00", "MQ", "1", "%F0%9F%A7%AA", "AAAAAAAAAAAAAAAAAAAA", "%ff"]
)
def test_cursors_from_elsewhere(api: Api, name: str, cursor: str) -> None:
    fill(api, name, 3)
    assert_error(api.get(f"/v1/topics/{name}/tasks?after={cursor}"), 400, "after")


def test_the_cursor_of_another_topic(api: Api, name: str) -> None:
    fill(api, name, 3)
    fill(api, f"{name}other", 3)
    cursor = api.get(f"/v1/topics/{name}/tasks?limit=1&after=").json["next"]
    assert len(ids_of(api.get(f"/v1/topics/{name}/tasks?after={cursor}"))) == 2
    assert_error(api.get(f"/v1/topics/{name}other/tasks?after={cursor}"), 400, "after")
    assert_error(api.get(f"/v1/topics/{name}/tasks?after={cursor}x"), 400, "after")
    assert_error(api.get(f"/v1/topics/{name}/tasks?after={cursor}&offset=1"), 400, "offset")


# ---- sizes ---------------------------------------------------------------------------------------


def test_lists_and_claims_end_early_at_16_mib(server: Server, name: str) -> None:
    """But never before the first item."""
    big = "x" * (3 * 1024 * 1024)
    with Api(server.port) as api:
        for number in range(7):
            api.insert(name, f"{name}{number}", payload=big)
        assert len(ids_of(api.get(f"/v1/topics/{name}/tasks"))) == 5
        assert [len(page) for page in walk(api, name, "limit=100")] == [5, 2]
        assert len(ids_of(api.post(f"/v1/topics/{name}/promises?limit=100"))) == 5
        assert len(ids_of(api.post(f"/v1/topics/{name}/promises?limit=100"))) == 2
        assert len(ids_of(api.get(f"/v1/topics/{name}/promises"))) >= 5
        assert api.delete(f"/v1/topics/{name}").json == {"deleted": 7}
