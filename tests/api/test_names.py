"""Ids and topics: any Unicode text of 1 to 1,024 bytes, one segment of the path, compared whole."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.api.conftest import unique
from tests.servers import Api, assert_error, segment

LONGEST = 1024

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)


def percent_encoded(name: str) -> str:
    """Every byte escaped, whether it needs it or not."""
    return "".join(f"%{byte:02X}" for byte in name.encode())


@given(topic=NAMES, task_id=NAMES)
@example(topic="\0", task_id="\0")
@example(topic="/", task_id="a/b//c")
@example(topic="..", task_id=".")
@example(topic="a+b c", task_id="+")
@example(topic="%2F", task_id="%")
@example(topic="?", task_id="#")
@example(topic="\u202e\u0000\U0001f9ea", task_id="e\u0301")
@example(topic='"\\', task_id="\r\n\t")
@settings(max_examples=100, deadline=None)
def test_any_text_is_a_name(api: Api, topic: str, task_id: str) -> None:
    # The id is made unique in front, the topic behind, so that both ends are whatever was drawn.
    task_id, topic = unique() + task_id, topic + unique()

    for encode in (segment, percent_encoded):
        path = f"/v1/topics/{encode(topic)}/tasks/{encode(task_id)}"
        assert api.put(path, {"payload": 1}).status in (200, 201)
        task = api.get(path).json
        assert (task["_id"], task["topic"]) == (task_id, topic)
    assert api.get(f"/v1/topics/{segment(topic)}").json["name"] == topic
    assert api.claim(topic)["_id"] == task_id
    assert api.get(f"/v1/topics/x/promises/{segment(task_id)}").json["_id"] == task_id
    assert api.delete(f"/v1/topics/{percent_encoded(topic)}").json == {"deleted": 1}


@given(name=NAMES)
@settings(max_examples=30, deadline=None)
def test_names_in_bodies_are_names_in_paths(api: Api, name: str) -> None:
    name += unique()
    assert api.post("/v1/topics//tasks", {"data": [{"_id": name, "topic": name}]}).status == 201
    assert api.task(name)["topic"] == name
    assert api.get(f"/v1/topics/{segment(name)}/tasks").json["data"][0]["_id"] == name


@pytest.mark.parametrize("letter", ["a", "é", "€", "\U0001f9ea", "\0"])
def test_the_longest_names_fully_escaped(api: Api, name: str, letter: str) -> None:
    size = len(letter.encode())
    long = name + "x" * ((LONGEST - len(name)) % size) + letter * ((LONGEST - len(name)) // size)
    assert len(long.encode()) == LONGEST
    path = f"/v1/topics/{percent_encoded(long)}/tasks/{percent_encoded(long)}"

    assert api.post(path, {}).status == 201
    assert api.get(path).json["_id"] == long
    assert api.post(f"/v1/topics/{percent_encoded(long)}/promises/{percent_encoded(long)}").status == 200

    too_long = "x" + long
    for target in (
        f"/v1/topics/{percent_encoded(too_long)}/tasks/{name}",
        f"/v1/topics/{name}/tasks/{percent_encoded(too_long)}",
        f"/v1/topics/{segment(too_long)}",
        f"/v1/topics/{segment(too_long)}/tasks",
        f"/v1/topics/{name}/promises/{segment(too_long)}",
    ):
        assert_error(api.get(target), 400, "1024 bytes")
        assert_error(api.delete(target), 400, "1024 bytes")


def test_names_that_are_too_long_in_bodies(api: Api, name: str) -> None:
    long = "x" * (LONGEST + 1)
    target = f"/v1/topics/{name}/tasks"
    for members in ({"_id": long}, {"_id": name, "topic": long}):
        assert_error(api.post(target, {"data": [{"_id": name + "good"}, members]}), 400, "1024 bytes")
    assert_error(api.post(f"{target}/{name}", {"topic": long}), 400, "1024 bytes")
    assert_error(api.post("/v1/promises", {"topics": [name, long]}), 400, "1024 bytes")
    assert api.get(target).json == {"data": []}
    api.insert(name, name)
    assert_error(api.patch(f"{target}/{name}", {"topic": long}), 400, "1024 bytes")
    assert_error(api.patch(target, {"data": [{"_id": long}]}), 400, "1024 bytes")
    assert api.task(name)["state"] == 0


def test_segments_are_matched_before_they_are_decoded(api: Api, name: str) -> None:
    api.insert(name, f"{name}/tasks/b")

    assert api.get(f"/v1/topics/{name}/tasks/{name}%2Ftasks%2Fb").json["_id"] == f"{name}/tasks/b"
    assert api.get(f"/v1/topics/{name}/tasks/{name}%2ftasks%2fb").status == 200
    assert_error(api.get(f"/v1/topics/{name}/tasks/{name}/tasks/b"), 404)
    # A slash that is escaped separates nothing.
    assert_error(api.get(f"/v1/topics/{name}%2Ftasks/{name}"), 404)


def test_dots_are_names_like_others(api: Api, name: str) -> None:
    api.insert(name, f"{name}.")
    for path in (
        f"/v1/topics/./tasks/{name}.",
        f"/v1/topics/../tasks/{name}.",
        f"/v1/topics/%2E%2e/tasks/{name}.",
    ):
        assert api.get(path).json["topic"] == name


@pytest.mark.parametrize("rest", ["", "%2F", "%2Fx%20y"])
def test_plus_is_a_plus(api: Api, name: str, rest: str) -> None:
    api.insert(name, f"{name}+{rest.replace('%2F', '/').replace('%20', ' ')}")

    assert api.get(f"/v1/topics/{name}/tasks/{name}+{rest}").status == 200
    assert api.get(f"/v1/topics/{name}/tasks/{name}%2B{rest}").status == 200
    assert_error(api.get(f"/v1/topics/{name}/tasks/{name}%20{rest}"), 404)


def test_plus_in_topics(api: Api, name: str) -> None:
    api.insert(f"{name}+", name)
    assert api.get(f"/v1/topics/{name}+").json["name"] == f"{name}+"
    assert_error(api.get(f"/v1/topics/{name}%20"), 404)


def test_the_empty_topic_addresses_by_id_alone(api: Api, name: str) -> None:
    for prefix in ("", "/v1"):
        assert_error(api.post(f"{prefix}/topics//tasks/{name}", {}), 400, "topic")
        assert api.put(f"{prefix}/topics//tasks/{name}", {"topic": name}).status in (200, 201)
        assert api.get(f"{prefix}/topics//tasks/{name}").json["topic"] == name
        assert api.post(f"{prefix}/topics//promises/{name}").status == 200
        assert api.get(f"{prefix}/topics//promises/{name}").json["_id"] == name
        assert api.put(f"{prefix}/topics//promises/{name}").status == 200
        assert api.patch(f"{prefix}/topics//promises/{name}").status == 200
        assert api.delete(f"{prefix}/topics//promises/{name}").json == {"deleted": 1}
        assert api.patch(f"{prefix}/topics//tasks/{name}").json["state"] == 2
        assert api.delete(f"{prefix}/topics//tasks/{name}").json == {"deleted": 1}
    assert_error(api.post("/v1/topics//promises"), 404)
    assert api.get("/v1/topics//tasks").json == {"data": []}
    assert_error(api.get("/v1/topics/"), 404)
    assert_error(api.patch("/v1/topics/", {"paused": True}), 400, "topic")


def test_an_empty_id_is_no_id(api: Api, name: str) -> None:
    for members in ({}, {"_id": ""}, {"_id": None}):
        assert_error(api.post(f"/v1/topics/{name}/tasks", {"data": [members]}), 400, "ID")


@pytest.mark.parametrize("path", ["tasks", "promises"])
@pytest.mark.parametrize(
    "bad", ["%", "%2", "%zz", "%g0", "%%41", "a%", "%C3%28", "%FF", "%ED%A0%80", "%C0%80", "%F5%80%80%80"]
)
def test_escapes_that_are_none_are_400(api: Api, path: str, bad: str) -> None:
    assert_error(api.get(f"/v1/topics/a/{path}/{bad}"), 400)
    assert_error(api.get(f"/v1/topics/{bad}/{path}"), 400)


def test_names_are_compared_whole(api: Api, name: str) -> None:
    """Not up to a NUL, not normalised, not folded."""
    alike = [name, f"{name}\0", f"{name}\0b", f"{name}é", f"{name}e\u0301", f"{name} ", name.upper()]
    for each in alike:
        api.insert(each, each)
    for number, each in enumerate(alike):
        assert api.get(f"/v1/topics/{segment(each)}").json["count"] == 1
        assert api.delete(f"/v1/topics/{segment(each)}/tasks/{segment(each)}").json == {"deleted": 1}
        left = [api.get(f"/v1/topics//tasks/{segment(other)}").status for other in alike[number + 1 :]]
        assert left == [200] * len(left)


def test_an_id_is_one_over_all_topics(api: Api, name: str) -> None:
    api.insert(f"{name}a", name, payload=1)

    assert_error(api.post(f"/v1/topics/{name}b/tasks/{name}", {"payload": 2}), 409)
    answer = api.post(f"/v1/topics/{name}b/tasks", {"data": [{"_id": name, "payload": 3}]})
    assert (answer.status, answer.json) == (200, {"created": 0, "updated": 0})
    assert api.task(name)["payload"] == 1
    assert api.get(f"/v1/topics/{name}wrong/tasks/{name}").json["topic"] == f"{name}a"
    assert api.put(f"/v1/topics/{name}b/tasks/{name}", {}).json == {"created": 0, "updated": 1}
    assert api.task(name)["topic"] == f"{name}b"
    assert_error(api.get(f"/v1/topics/{name}a"), 404)


def test_the_query_is_decoded_as_forms_are(api: Api, name: str) -> None:
    api.insert(name, name)
    task = api.post(f"/v1/topics/{name}/promises?consumer=a+b%2Bc&%63onsumer=second&timeout=1m").json
    assert task["consumer"] == "a b+c"
    assert_error(api.post(f"/v1/topics/{name}/promises?consumer=%ff"), 400, "consumer")
    assert_error(api.post(f"/v1/topics/{name}/promises?consumer=%zz"), 400, "consumer")
    assert quote(name) == name
