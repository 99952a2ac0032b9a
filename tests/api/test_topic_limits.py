"""Labels, turns, limits and holds through the API, on a clock that stands still."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ratus.core.times import format_time
from tests.api.clocked import SECOND, START, Clocked, Reply

ACME = {"customer": "acme"}
RATE = {"rate": {"count": 2, "period": "3s"}}


@pytest.fixture
def api() -> Iterator[Clocked]:
    with Clocked() as server:
        yield server


def at(seconds: float) -> str:
    """A time so many seconds after the beginning, as answers write it."""
    return format_time(START + round(seconds * SECOND))


def poll(api: Clocked, query: str = "", topic: str = "t") -> Reply:
    return api.request("POST", f"/topics/{topic}/promises{query}")


def topic_of(api: Clocked, name: str = "t") -> Any:
    return api.request("GET", f"/topics/{name}").json


def limit(api: Clocked, limits: Any, topic: str = "t") -> None:
    assert api.request("PATCH", f"/topics/{topic}", {"limits": limits}).status == 200


# ---- labels ---------------------------------------------------------------------------------------


def test_labels_are_answered_as_they_were_given(api: Clocked) -> None:
    labels = {"customer": "acmé", "order": 42, "region": ["eu", 7]}
    api.insert("t", "1", labels=labels)
    assert api.task("1")["labels"] == labels
    assert api.claim("t")["labels"] == labels
    assert api.commit("1", labels={"customer": "other"})["labels"] == labels, "commits leave labels"
    assert api.request("PUT", "/topics/t/tasks/1", {"labels": {}}).status == 200
    assert "labels" not in api.task("1"), "a replacement replaces them"


def test_lists_by_label(api: Clocked) -> None:
    for number in range(30):
        labels = {"customer": f"c{number % 3}", "n": [number % 2, "all"]}
        api.insert("t", str(number), labels=labels)
    api.insert("t", "without")

    def listed(query: str) -> list[int]:
        return [
            int(task["_id"]) for task in api.request("GET", f"/topics/t/tasks?limit=100&{query}").json["data"]
        ]

    assert listed("label.customer=c1") == list(range(1, 30, 3))
    assert listed("label.customer=c1&label.n=0&label.n=all") == list(range(4, 30, 6))
    assert listed("label.customer=c1&label.customer=c2") == []
    assert listed("label.customer=c1&state=3") == []
    api.commit("4", state=3)
    assert listed("label.customer=c1&state=3") == [4]
    first = api.request("GET", "/topics/t/tasks?label.n=1&limit=8&after=").json
    rest = api.request("GET", f"/topics/t/tasks?label.n=1&limit=8&after={first['next']}").json
    assert [int(task["_id"]) for task in first["data"] + rest["data"]] == list(range(1, 30, 2))
    assert "next" not in rest


# ---- limits ---------------------------------------------------------------------------------------


def test_limits_are_shown_as_they_were_given_and_taken_away(api: Clocked) -> None:
    limits = {
        "concurrency": 50,
        "rate": {"count": 100, "period": "1m0s", "burst": 10},
        "per": {
            "label": "customer",
            "concurrency": 2,
            "rate": {"count": 10, "period": "1s"},
            "ordered": True,
        },
    }
    reply = api.request("PATCH", "/topics/t", {"limits": limits})
    assert (reply.status, reply.json["limits"], reply.json["count"]) == (200, limits, 0)
    assert topic_of(api)["limits"] == limits
    assert api.request("GET", "/topics").json == {"data": [{"name": "t"}]}
    limit(api, {"per": {"label": "user", "ordered": False}, "concurrency": None})
    assert topic_of(api)["limits"] == {"per": {"label": "user"}}, "they are replaced as a whole"
    nothing: Any
    for nothing in (None, {}):
        limit(api, RATE)
        reply = api.request("PATCH", "/topics/t", {"limits": nothing})
        assert (reply.status, "limits" in reply.json) == (200, False)
        assert api.request("GET", "/topics/t").status == 404, "a topic without task and setting is none"


def test_a_topic_is_changed_at_once_or_not_at_all(api: Clocked) -> None:
    api.request("PATCH", "/topics/t", {"paused": True, "limits": RATE})
    before = topic_of(api)
    assert (before["paused"], before["limits"], before["closed"]) == (True, RATE, "paused")
    for wrong in ({"limits": {"concurrency": 0}}, {"paused": 1}, {"hold": "1s"}, {"pause": False}):
        reply = api.request("PATCH", "/topics/t", {"paused": False, "limits": None, **wrong})
        assert reply.status == 400
        assert next(iter(wrong)) in reply.json["error"]["message"]
        assert topic_of(api) == before
    assert api.request("PATCH", "/topics/t", {"limits": None}).json["paused"] is True


def test_a_closed_topic_says_until_when(api: Clocked) -> None:
    for number in range(3):
        api.insert("t", str(number))
    limit(api, RATE)  # one claim each 1.5 s
    assert poll(api).status == 200
    refused = poll(api)
    assert (refused.status, refused.headers["retry-after"]) == (404, "2"), "rounded up"
    assert refused.json["error"]["message"].startswith("not found: what is due may not be claimed yet")
    assert (topic_of(api)["closed"], topic_of(api)["reopens"]) == ("rate", at(1.5))
    api.clock.advance(int(1.4 * SECOND))
    assert poll(api).headers["retry-after"] == "1"
    api.clock.advance(int(0.1 * SECOND))
    assert "closed" not in topic_of(api)
    assert poll(api).status == 200


def test_where_nothing_is_due_there_is_no_retry_after(api: Clocked) -> None:
    limit(api, RATE)
    assert "retry-after" not in poll(api).headers
    api.insert("u", "1")
    limit(api, {"concurrency": 1}, "u")
    api.insert("u", "2")
    assert poll(api, topic="u").status == 200
    full = poll(api, topic="u")
    assert (full.status, "retry-after" in full.headers) == (404, False), "when a place is free is not known"
    assert topic_of(api, "u")["closed"] == "concurrency"


def test_a_poll_of_several_topics_says_which_reopens_first(api: Clocked) -> None:
    for topic, period in (("slow", "1h"), ("quick", "10s")):
        limit(api, {"rate": {"count": 1, "period": period}}, topic)
        api.insert(topic, f"{topic} 1")
        api.insert(topic, f"{topic} 2")
        assert poll(api, topic=topic).status == 200
    refused = api.request("POST", "/promises", {"topics": ["slow", "quick"]})
    assert (refused.status, refused.headers["retry-after"]) == (404, "10")


def test_a_waiting_poll_is_answered_when_the_rate_allows_it(api: Clocked) -> None:
    api.insert("t", "1")
    api.insert("t", "2")
    limit(api, RATE)
    assert poll(api).status == 200
    waiting = api.begin("POST", "/topics/t/promises?wait=20s")
    assert not waiting.done()
    api.advance(1.5)
    assert waiting.result().status == 200


def test_a_wait_that_ends_while_the_topic_is_closed_says_until_when(api: Clocked) -> None:
    api.insert("t", "1")
    api.insert("t", "2")
    limit(api, {"rate": {"count": 1, "period": "1m"}})
    assert poll(api).status == 200
    waiting = api.begin("POST", "/topics/t/promises?wait=20s")
    api.advance(20)
    refused = waiting.result()
    assert (refused.status, refused.headers["retry-after"]) == (404, "40")


def test_a_waiting_poll_gets_the_place_that_is_freed(api: Clocked) -> None:
    for number in range(3):
        api.insert("t", str(number), labels=ACME)
    limit(api, {"per": {"label": "customer", "concurrency": 1}})
    claimed = poll(api).json
    waiting = api.begin("POST", "/topics/t/promises?wait=20s")
    assert not waiting.done()
    api.commit(claimed["_id"], nonce=claimed["nonce"])
    api.turn()
    assert waiting.result().status == 200


# ---- holds ----------------------------------------------------------------------------------------


def test_a_commit_holds_the_topic_and_a_change_of_it_ends_the_hold(api: Clocked) -> None:
    for number in range(2):
        api.insert("t", str(number))
    claimed = poll(api).json
    api.commit(claimed["_id"], nonce=claimed["nonce"], hold="30s")
    assert (topic_of(api)["closed"], topic_of(api)["reopens"]) == ("hold", at(30))
    assert poll(api).headers["retry-after"] == "30"
    reply = api.request("PATCH", "/topics/t", {"hold": None})
    assert (reply.status, "closed" in reply.json) == (200, False)
    assert poll(api).status == 200


def test_a_release_holds_the_value_of_its_task(api: Clocked) -> None:
    api.insert("t", "1", labels=ACME)
    api.insert("t", "2", labels={"customer": "bolt"})
    limit(api, {"per": {"label": "customer"}})
    claimed = poll(api).json
    target = f"/topics/t/promises/{claimed['_id']}?hold=30s"
    assert api.request("DELETE", target).status == 400
    assert api.task(claimed["_id"])["state"] == 1
    assert api.request("DELETE", f"{target}&nonce=another").status == 409
    assert api.request("DELETE", f"{target}&nonce={claimed['nonce']}").json == {"deleted": 1}
    assert poll(api).json["_id"] == "2", "the other value is open"
    assert poll(api).headers["retry-after"] == "30"
    assert "closed" not in topic_of(api)
    api.clock.advance(30 * SECOND)
    assert poll(api).json["_id"] == "1"


def test_a_batch_of_commits_holds(api: Clocked) -> None:
    for number in range(3):
        api.insert("t", str(number))
    claimed = api.request("POST", "/topics/t/promises?limit=2").json["data"]
    items = [{"_id": task["_id"], "nonce": task["nonce"], "hold": "5s"} for task in claimed]
    items[1]["hold"] = "9s"
    reply = api.request("PATCH", "/topics/t/tasks", {"data": items})
    assert [item["status"] for item in reply.json["data"]] == [200, 200]
    assert topic_of(api)["reopens"] == at(9), "the longest counts"
    without = [{"_id": "2", "hold": "5s"}]
    reply = api.request("PATCH", "/topics/t/tasks", {"data": without})
    assert reply.status == 400
    assert reply.json["error"]["message"].startswith("bad request: data: item 0: hold: only together with")


# ---- lanes ----------------------------------------------------------------------------------------


def test_lanes_are_listed_page_by_page(api: Clocked) -> None:
    for number, customer in enumerate(["b", "a", "a", "", "c"]):
        api.insert("t", str(number), labels={"customer": customer})
    api.insert("t", "without")
    reply = api.request("GET", "/topics/t/lanes")
    assert (reply.status, reply.json["error"]["message"]) == (
        400,
        "bad request: label: name one, as in ?label=customer; the topic has no limits per label",
    )
    limit(api, {"per": {"label": "customer", "concurrency": 1, "rate": {"count": 1, "period": "1h"}}})
    assert poll(api, "?where.customer=a").status == 200
    everything = api.request("GET", "/topics/t/lanes").json
    assert everything == {
        "data": [
            {"value": "", "active": 0, "pending": 1},
            {"value": "a", "active": 1, "pending": 1, "closed": "concurrency"},
            {"value": "b", "active": 0, "pending": 1},
            {"value": "c", "active": 0, "pending": 1},
            {"active": 0, "pending": 1},
        ]
    }
    found: list[Any] = []
    cursor = ""
    while True:
        page = api.request("GET", f"/topics/t/lanes?label=customer&limit=1&after={cursor}").json
        found += page["data"]
        if "next" not in page:
            break
        cursor = page["next"]
    assert found == everything["data"]
    api.commit("1")
    assert api.request("GET", "/topics/t/lanes?limit=2").json["data"][1] == {
        "value": "a",
        "active": 0,
        "pending": 1,
        "closed": "rate",
        "reopens": at(3600),
    }
    other = api.request("GET", f"/topics/t/lanes?label=user&after={cursor}")
    assert (other.status, "of this list" in other.json["error"]["message"]) == (400, True)


def test_a_topic_that_does_not_exist_has_no_lanes(api: Clocked) -> None:
    assert api.request("GET", "/topics/none/lanes?label=a").json == {"data": []}
    assert api.request("GET", "/topics/none").status == 404


# ---- choices --------------------------------------------------------------------------------------


def test_a_waiting_poll_waits_for_what_it_chose(api: Clocked) -> None:
    chosen = api.begin("POST", "/topics/t/promises?wait=20s&where.customer=acme")
    other = api.begin("POST", "/topics/t/promises?wait=20s")
    api.insert("t", "1", labels={"customer": "bolt"})
    api.turn()
    assert (chosen.done(), other.result().json["_id"]) == (False, "1")
    api.insert("t", "2", labels=ACME)
    api.turn()
    assert chosen.result().json["_id"] == "2"


def test_orders_and_turns(api: Clocked) -> None:
    for number, customer in enumerate("aaab"):
        api.insert("t", str(number), labels={"customer": customer, "n": number})
    assert poll(api, "?order=newest").json["_id"] == "3"
    api.insert("t", "4", labels={"customer": "b"})
    turns = api.request(
        "POST", "/topics/t/promises", {"limit": 3, "prefer": ["customer", "n"], "order": "newest"}
    )
    # The customers take turns, and within a's the numbers: the one that came in first was served longest ago.
    assert [task["_id"] for task in turns.json["data"]] == ["0", "4", "1"]
    assert poll(api, "?order=random").json["_id"] == "2"
