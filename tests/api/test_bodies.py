"""What a body may leave out or add, and everything that is refused without a change."""

from __future__ import annotations

from typing import Any

import pytest

from ratus.api.parsing import TASK_MEMBERS
from tests.servers import Api, assert_error

PAST, FUTURE = "2001-02-03T04:05:06Z", "2999-01-01T00:00:00Z"


@pytest.mark.parametrize(
    "body", [b"{}", b"null", b" null\r\n\t", b' {"nope": [1, {"a": 2}], "Payload": 3, "PRODUCER": "x"} ']
)
def test_unknown_members_and_wrong_case_are_ignored(api: Api, name: str, body: bytes) -> None:
    assert api.post(f"/v1/topics/{name}/tasks/{name}", body).status == 201
    task = api.task(name)
    assert set(task) == {"_id", "topic", "state", "nonce", "produced", "scheduled"}
    assert (task["_id"], task["topic"], task["state"], task["nonce"]) == (name, name, 0, "")
    assert task["produced"] == task["scheduled"]


def test_null_means_absent(api: Api, name: str) -> None:
    api.insert(name, name, **dict.fromkeys(TASK_MEMBERS))
    assert set(api.task(name)) == {"_id", "topic", "state", "nonce", "produced", "scheduled"}
    assert (
        api.claim(name, **dict.fromkeys(["consumer", "timeout", "deadline", "wait", "limit", "_id"]))["state"]
        == 1
    )
    assert api.commit(name, **dict.fromkeys(TASK_MEMBERS))["state"] == 2


def test_empty_texts_count_as_absent(api: Api, name: str) -> None:
    api.insert(name, name, topic="", nonce="", producer="", consumer="", defer="", ttl="")
    assert set(api.task(name)) == {"_id", "topic", "state", "nonce", "produced", "scheduled"}
    claimed = api.claim(name, consumer="", timeout="", _id="", wait="")
    assert "consumer" not in claimed
    committed = api.commit(name, nonce="", topic="", defer="")
    assert (committed["topic"], committed["scheduled"]) == (name, claimed["scheduled"])


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "nonsense", "image/png"]
)
def test_the_content_type_is_ignored(api: Api, name: str, content_type: str) -> None:
    headers = {"content-type": content_type}
    assert api.post(f"/v1/topics/{name}/tasks/{name}", {"payload": 1}, headers=headers).status == 201
    assert (
        api.post(f"/v1/topics/{name}/promises", {"consumer": "me"}, headers=headers).json["consumer"] == "me"
    )
    assert api.patch(f"/v1/topics/{name}/tasks/{name}", {"state": 3}, headers=headers).json["state"] == 3


def test_chunked_bodies(api: Api, name: str) -> None:
    body = b'7\r\n{"paylo\r\n1\r\na\r\n6\r\nd": 1}\r\n0\r\n\r\n'
    target = f"/v1/topics/{name}/tasks/{name}"
    head = f"POST {target} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".encode()
    assert api.get("/livez").status == 200
    assert api._client is not None
    api._client.send(head + body)
    assert api._client.answer().status == 201
    assert api.task(name)["payload"] == 1


# ---- what is refused -----------------------------------------------------------------------------

MALFORMED = [
    b"{",
    b"}",
    b"[]",
    b'"text"',
    b"1",
    b"true",
    b"nul",
    b"{}{}",
    b"{} x",
    b"{},",
    b"\xef\xbb\xbf{}",
    b'{"payload": }',
    b'{"payload": 1,}',
    b'{"payload" 1}',
    b"{'payload': 1}",
    b'{payload: 1}',
    b'{"payload": 01}',
    b'{"payload": 1.}',
    b'{"payload": .5}',
    b'{"payload": +1}',
    b'{"payload": 0x10}',
    b'{"payload": 1e}',
    b'{"payload": -}',
    b'{"payload": NaN}',
    b'{"payload": -Infinity}',
    b'{"payload": Infinity}',
    b'{"payload": "\t"}',
    b'{"payload": "\x00"}',
    b'{"payload": "a\nb"}',
    b'{"payload": "\\x41"}',
    b'{"payload": "\\u12G4"}',
    b'{"payload": "\\u12"}',
    b'{"payload": "\\"}',
    b'{"payload": "\\ud800"}',
    b'{"payload": "\\udc00\\ud800"}',
    b'{"payload": "\\ud800\\u0041"}',
    b'{"payload": {"\\udfff": 1}}',
    b'{"payload": "\xff"}',
    b'{"payload": "\xc0\x80"}',
    b'{"payload": "\xed\xa0\x80"}',
    b'{"payload": "\xf4\x90\x80\x80"}',
    b'{"payload": "\xe2\x82"}',
    b'{"payload": 1} \xff',
    b'{"payload": [1, 2}',
    b'{"payload": {"a": 1, }}',
    b'{"payload": tru}',
    b"\x00{}",
    b"{}\x00",
    b'{"payload": 1}//comment',
    b'{"payload": /* comment */ 1}',
    b'{"payload": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    b'{"payload": ' + b"[" * 100_000,
    b"[" * 100_000,
    # In members that nobody reads, too: whoever wrote it meant something.
    b'{"x": }',
    b'{"x": [1, 2}',
    b'{"x": NaN}',
    b'{"x": 01}',
    b'{"x": 1.}',
    b'{"x": 1e}',
    b'{"x": tru}',
    b'{"x": "\\q"}',
    b'{"x": "\\u12G4"}',
    b'{"x": "a\nb"}',
    b'{"x": "\x00"}',
    b'{"x": "\xff"}',
    b'{"\xff": 1}',
    b'{"a\nb": 1}',
    b'{"x": ["\xed\xa0\x80"]}',
    b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    b'{"x": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}",
    # A name twice.
    b'{"payload": 1, "payload": 1}',
    b'{"payload": 1, "\\u0070ayload": 2}',
    b'{"x": 1, "x": 2}',
    b'{"x": "\\"", "a\\"": 1, "x": "\\""}',
    b'{"": 1, "": 2}',
    b'{"producer": "a", "producer": null}',
    b'{"producer": null, "producer": "a"}',
]  # fmt: skip

# JSON, but no payload or result.
UNBEARABLE = [
    b"1e400",
    b'[1, {"a": -1e999}]',
    b"9" * 400 + b".5",
    b"9" * 4301,
    b"-" + b"9" * 4301,
    b"[" + b"9" * 4301 + b"]",
    b"[" * 171 + b"]" * 171,
    b'{"a":' * 171 + b"1" + b"}" * 171,
    b'["\\\\", ' + b"[" * 170 + b"]" * 170 + b"]",
]


def shown(body: Any) -> str:
    return repr(body)[:60]


@pytest.mark.parametrize("body", MALFORMED, ids=shown)
def test_malformed_bodies_change_nothing(api: Api, name: str, body: bytes) -> None:
    topic = f"/v1/topics/{name}"
    target = f"{topic}/tasks/{name}"
    for method in ("POST", "PUT"):
        assert_error(api.request(method, target, body), 400)
        assert_error(api.request(method, f"{topic}/tasks", body), 400)
        # As one of a batch, behind one that is fine.
        batch = b'{"data": [{"_id": "%b-good"}, %b]}' % (name.encode(), body)
        assert_error(api.request(method, f"{topic}/tasks", batch), 400)
    assert api.get(f"{topic}/tasks").json == {"data": []}

    api.insert(name, name, payload="kept", retry={"max_attempts": 7})
    before = api.task(name)
    for method, path in (
        ("PUT", target),
        ("PATCH", target),
        ("POST", f"{topic}/promises"),
        ("POST", f"{topic}/promises/{name}"),
        ("PUT", f"{topic}/promises/{name}"),
        ("PATCH", f"{topic}/promises/{name}"),
        ("PATCH", f"{topic}/tasks"),
        ("PATCH", topic),
        ("POST", "/v1/promises"),
    ):
        assert_error(api.request(method, path, body), 400)
    commits = b'{"data": [{"_id": "%b"}, %b]}' % (name.encode(), body)
    assert_error(api.patch(f"{topic}/tasks", commits), 400)
    assert api.task(name) == before


@pytest.mark.parametrize("value", UNBEARABLE, ids=shown)
@pytest.mark.parametrize("member", [b"payload", b"result"])
def test_values_that_could_not_come_back_change_nothing(
    api: Api, name: str, member: bytes, value: bytes
) -> None:
    target = f"/v1/topics/{name}/tasks/{name}"
    body = b'{"%b": %b}' % (member, value)
    batch = b'{"data": [{"_id": "%b"}, {"_id": "%b", "%b": %b}]}' % (
        name.encode(),
        name.encode(),
        member,
        value,
    )
    for method in ("POST", "PUT"):
        assert_error(api.request(method, target, body), 400, member.decode())
        assert_error(api.request(method, f"/v1/topics/{name}/tasks", batch), 400, member.decode())
    assert_error(api.get(target), 404)
    api.insert(name, name)
    assert_error(api.patch(target, body), 400, member.decode())
    assert_error(api.patch(f"/v1/topics/{name}/tasks", batch), 400, member.decode())
    assert api.task(name)["state"] == 0


WRONG_TYPES: dict[str, list[Any]] = {
    "_id": [1, True, ["a"], {}],
    "topic": [1, False, ["a"], {}],
    "state": ["0", "pending", 1.5, True, -1, 4, 10**30, [0]],
    "nonce": [1, ["n"], {}],
    "producer": [1, ["p"], {}],
    "consumer": [1, ["c"], {}],
    "produced": [1, "", "yesterday", "2026-01-31", ["2026-01-31T12:00:00Z"]],
    "scheduled": [0, "", "2026-01-31T12:00:00", "2026-13-01T00:00:00Z"],
    "consumed": [0, "now"],
    "deadline": [0, "2026-01-31T12:00:00+24:00"],
    "committed": [0, "2026-02-30T12:00:00Z"],
    "defer": [5, "5", "1d", "abc", "1h 5m", ["5s"]],
    "priority": ["1", 1.5, 10, -10, True, 10**400, [1]],
    "attempts": ["1", 1.5, -1, 2**31, True],
    "retry": ["5", 5, [], True],
    "error": [1, ["e"], {}],
    "outcome": [1, "finished", "Failed", []],
    "expires": [0, "soon"],
    "ttl": [60, "60", "1w"],
}


@pytest.mark.parametrize(
    ("member", "value"), [(m, v) for m, vs in WRONG_TYPES.items() for v in vs], ids=shown
)
def test_wrong_types_in_tasks(api: Api, name: str, member: str, value: Any) -> None:
    topic = f"/v1/topics/{name}"
    for method in ("POST", "PUT"):
        assert_error(api.request(method, f"{topic}/tasks/{name}", {member: value}), 400, member)
        batch = {"data": [{"_id": f"{name}-good"}, {"_id": name, member: value}]}
        assert_error(api.request(method, f"{topic}/tasks", batch), 400, member)
    assert api.get(f"{topic}/tasks").json == {"data": []}


RETRIES: list[Any] = [
    {"max_attempts": -1},
    {"max_attempts": "3"},
    {"max_attempts": 1.5},
    {"max_attempts": 2**31},
    {"backoff": "fibonacci"},
    {"backoff": "Exponential"},
    {"backoff": ""},
    {"backoff": 2},
    {"delay": "-1s"},
    {"delay": 1},
    {"delay": "1d"},
    {"max_delay": "-1ns1us"},
    {"max_delay": "-1m"},
    {"max_delay": 60},
    {"jitter": -0.1},
    {"jitter": 1.1},
    {"jitter": "0.1"},
    {"jitter": True},
]


@pytest.mark.parametrize("retry", RETRIES, ids=shown)
def test_retry_policies_that_are_none(api: Api, name: str, retry: Any) -> None:
    assert_error(api.post(f"/v1/topics/{name}/tasks/{name}", {"retry": retry}), 400)
    assert_error(api.post(f"/v1/topics/{name}/tasks", {"data": [{"_id": name, "retry": retry}]}), 400)
    assert_error(api.get(f"/v1/topics//tasks/{name}"), 404)


@pytest.mark.parametrize(
    "retry", [b'{"delay": "1s", "delay": "1s"}', b'{"delay": "1s", "d\\u0065lay": "2s"}', b'{"x": 1, "x": 1}']
)
def test_a_name_twice_in_a_retry_policy(api: Api, name: str, retry: bytes) -> None:
    assert_error(api.post(f"/v1/topics/{name}/tasks/{name}", b'{"retry": %b}' % retry), 400, "twice")
    batch = b'{"data": [{"_id": "%b", "retry": %b}]}' % (name.encode(), retry)
    assert_error(api.post(f"/v1/topics/{name}/tasks", batch), 400, "twice")


def test_a_name_twice_around_a_batch(api: Api, name: str) -> None:
    body = b'{"data": [{"_id": "%b1"}], "data": [{"_id": "%b2"}]}' % (name.encode(), name.encode())
    for method in ("POST", "PUT", "PATCH"):
        assert_error(api.request(method, f"/v1/topics/{name}/tasks", body), 400, "twice")
    assert api.get(f"/v1/topics/{name}/tasks").json == {"data": []}


def test_a_name_twice_in_a_payload_is_the_payloads_affair(api: Api, name: str) -> None:
    body = b'{"payload": {"a": 1, "a": 2}}'
    assert api.post(f"/v1/topics/{name}/tasks/{name}", body).status == 201
    assert b'{"a": 1, "a": 2}' in api.get(f"/v1/topics/{name}/tasks/{name}").body


@pytest.mark.parametrize(
    "data", [1, "x", {}, [1], ["x"], [[]], [None], [{"_id": "a"}, None], True], ids=shown
)
def test_batches_that_are_none(api: Api, name: str, data: Any) -> None:
    for method in ("POST", "PUT", "PATCH"):
        assert_error(api.request(method, f"/v1/topics/{name}/tasks", {"data": data}), 400)
    assert api.get(f"/v1/topics/{name}/tasks").json == {"data": []}


@pytest.mark.parametrize("body", [b"", b"   \r\n"])
def test_inserts_need_a_body(api: Api, name: str, body: bytes) -> None:
    for method in ("POST", "PUT"):
        assert_error(api.request(method, f"/v1/topics/{name}/tasks/{name}", body), 400, "body")
        assert_error(api.request(method, f"/v1/topics/{name}/tasks", body), 400, "body")


@pytest.mark.parametrize("body", [b"{}", b"null", b'{"data": null}', b'{"data": []}'])
def test_empty_batches(api: Api, name: str, body: bytes) -> None:
    for method in ("POST", "PUT"):
        answer = api.request(method, f"/v1/topics/{name}/tasks", body)
        assert (answer.status, answer.json) == (200, {"created": 0, "updated": 0})
    assert api.patch(f"/v1/topics/{name}/tasks", body).json == {"data": []}


def test_ids_of_path_and_body(api: Api, name: str) -> None:
    target = f"/v1/topics/{name}/tasks/{name}"
    for method in ("POST", "PUT", "PATCH"):
        assert_error(api.request(method, target, {"_id": f"{name}x"}), 400, "inconsistent")
    assert api.post(target, {"_id": name}).status == 201
    assert api.patch(target, {"_id": name, "state": 0}).status == 200
    for method in ("POST", "PUT", "PATCH"):
        promise = f"/v1/topics/{name}/promises/{name}"
        assert_error(api.request(method, promise, {"_id": f"{name}x"}), 400, "inconsistent")
        assert_error(api.request(method, f"{promise}?_id={name}x"), 400, "inconsistent")
    assert api.post(f"/v1/topics/{name}/promises/{name}", {"_id": name}).status == 200


def test_the_topic_of_the_body_beats_that_of_the_path(api: Api, name: str) -> None:
    assert api.post(f"/v1/topics/{name}a/tasks/{name}1", {"topic": f"{name}b"}).status == 201
    assert (
        api.post(
            f"/v1/topics/{name}a/tasks",
            {"data": [{"_id": f"{name}2", "topic": f"{name}b"}, {"_id": f"{name}3"}]},
        ).status
        == 201
    )
    assert [api.task(f"{name}{number}")["topic"] for number in "123"] == [f"{name}b", f"{name}b", f"{name}a"]


def test_members_are_stored_as_given(api: Api, name: str) -> None:
    """That is how tasks are copied between servers."""
    members = {
        "state": 1,
        "nonce": "copied nonce of any length",
        "producer": "p",
        "consumer": "c",
        "produced": PAST,
        "scheduled": "2002-02-03T04:05:06.123456Z",
        "consumed": "2003-02-03T04:05:06.5Z",
        "deadline": FUTURE,
        "committed": "2004-02-03T04:05:06Z",
        "payload": {"b": [1, None], "a": "é"},
        "priority": -9,
        "attempts": 4,
        "retry": {
            "max_attempts": 5,
            "backoff": "linear",
            "delay": "1.5s",
            "max_delay": "1h0m0s",
            "jitter": 0.25,
        },
        "error": "once",
        "result": [0],
        "outcome": "failed",
        "expires": FUTURE,
    }
    api.insert(name, name, **members)
    task = api.task(name)
    assert task == {"_id": name, "topic": name, **members}
    # What was read can be written somewhere else, as it is.
    assert api.put(f"/v1/topics/{name}/tasks/{name}", task).json == {"created": 0, "updated": 1}
    assert api.task(name) == task
    assert api.patch(f"/v1/topics/{name}/tasks/{name}", {"nonce": members["nonce"]}).status == 200


def test_put_replaces_the_whole_task(api: Api, name: str) -> None:
    api.insert(
        name, name, payload=1, producer="p", priority=3, retry={"delay": "1s"}, expires=FUTURE, error="e"
    )
    api.claim(name, consumer="c")
    assert api.put(f"/v1/topics/{name}/tasks/{name}", {"payload": 2}).json == {"created": 0, "updated": 1}
    assert set(api.task(name)) == {"_id", "topic", "state", "nonce", "produced", "scheduled", "payload"}


def test_a_batch_may_name_an_id_twice(api: Api, name: str) -> None:
    data = {"data": [{"_id": name, "payload": 1}, {"_id": name, "payload": 2}]}
    assert api.post(f"/v1/topics/{name}/tasks", data).json == {"created": 1, "updated": 0}
    assert api.task(name)["payload"] == 1
    assert api.put(f"/v1/topics/{name}/tasks", data).json == {"created": 0, "updated": 2}
    assert api.task(name)["payload"] == 2


def test_a_body_where_none_belongs_is_ignored(api: Api, name: str) -> None:
    api.insert(name, name)
    assert api.request("GET", f"/v1/topics/{name}", b"{broken").json["count"] == 1
    assert api.request("DELETE", f"/v1/topics/{name}/tasks/{name}", b"[" * 1000).json == {"deleted": 1}
    assert api.get("/livez").status == 200
