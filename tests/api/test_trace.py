"""The trace context of a task: kept and given back, never looked into."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ratus.core.models import Task
from tests.servers import Api, assert_error

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE = {"traceparent": PARENT, "tracestate": "rojo=00f067aa0ba902b7", "baggage": "user=%C3%A9,tier=1"}

MALFORMED: dict[str, Any] = {
    "no object": PARENT,
    "a list": [TRACE],
    "a number": {"traceparent": 7},
    "an unknown member": {**TRACE, "trace_state": "a=1"},
    "an empty parent": {"traceparent": ""},
    "a short parent": {"traceparent": PARENT[:-1]},
    "capital letters": {"traceparent": PARENT.upper()},
    "no trace": {"traceparent": f"00-{'0' * 32}-b7ad6b7169203331-01"},
    "no parent": {"traceparent": f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01"},
    "version ff": {"traceparent": f"ff{PARENT[2:]}"},
    "more than version 00 has": {"traceparent": f"{PARENT}-x"},
    "a line break behind it": {"traceparent": f"{PARENT}\n"},
    "a line break within": {"baggage": "a=1\r\nx: y"},
    "letters beyond ASCII": {"tracestate": "a=é"},
    "more than 8 KiB": {"baggage": "a" * 8192},
}


def test_it_comes_back_wherever_a_task_does(api: Api, name: str) -> None:
    api.insert(name, name, trace=TRACE, payload=[1])
    assert api.task(name)["trace"] == TRACE
    assert api.get(f"/topics/{name}/tasks").json["data"][0]["trace"] == TRACE
    claimed = api.claim(name)
    assert claimed["trace"] == TRACE
    assert api.commit(name, nonce=claimed["nonce"])["trace"] == TRACE


def test_a_batch_may_have_some_with_and_some_without(api: Api, name: str) -> None:
    data = [{"_id": f"{name} 1"}, {"_id": f"{name} 2", "trace": TRACE}, {"_id": f"{name} 3"}]
    assert api.post(f"/topics/{name}/tasks", {"data": data}).status == 201
    claimed = api.post(f"/topics/{name}/promises", {"limit": 3}).json["data"]
    assert [task.get("trace") for task in claimed] == [None, TRACE, None]
    assert "trace" not in claimed[0]
    commits = [{"_id": task["_id"], "nonce": task["nonce"]} for task in claimed]
    results = api.patch(f"/topics/{name}/tasks", {"data": commits}).json["data"]
    assert [result["task"].get("trace") for result in results] == [None, TRACE, None]


def test_a_replacement_brings_its_own_or_none(api: Api, name: str) -> None:
    api.insert(name, name, trace=TRACE)
    other = {"traceparent": f"cc{PARENT[2:]}-of-a-later-version"}
    api.put(f"/topics/{name}/tasks/{name}", {"trace": other})
    assert api.task(name)["trace"] == other
    api.put(f"/topics/{name}/tasks/{name}", {"payload": 1})
    assert "trace" not in api.task(name)


@pytest.mark.parametrize("nothing", [None, {}, {"traceparent": None}])
def test_nothing_in_it_is_none(api: Api, name: str, nothing: Any) -> None:
    api.insert(name, name, trace=nothing)
    assert "trace" not in api.task(name)


@pytest.mark.parametrize("trace", MALFORMED.values(), ids=MALFORMED)
@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
def test_a_malformed_one_is_refused_and_named(api: Api, name: str, trace: Any, *, large: bool) -> None:
    body = {"trace": trace, "payload": "x" * 100_000 if large else ""}
    answer = api.post(f"/topics/{name}/tasks/{name}", body)
    assert_error(answer, 400)
    assert "trace" in answer.json["error"]["message"]
    assert api.get(f"/topics/{name}/tasks/{name}").status == 404


def test_a_name_that_stands_twice_is_refused(api: Api, name: str) -> None:
    text = json.dumps(TRACE)[:-1] + ', "baggage": "b=2"}'
    assert_error(api.post(f"/topics/{name}/tasks/{name}", f'{{"trace": {text}}}'.encode()), 400)


def test_a_commit_leaves_it(api: Api, name: str) -> None:
    api.insert(name, name, trace=TRACE)
    other = {"traceparent": PARENT.replace("b7ad", "b7ae")}
    assert api.commit(name, state=0, trace=other)["trace"] == TRACE


def test_a_model_refuses_what_the_server_refuses() -> None:
    assert Task(id="1", trace=TRACE).to_wire()["trace"] == TRACE
    for trace in MALFORMED.values():
        with pytest.raises(ValueError, match="trace"):
            Task(id="1", trace=trace)


def test_a_model_reads_what_a_newer_server_may_say() -> None:
    newer = {**TRACE, "span": "1"}
    assert Task.model_validate({"_id": "1", "trace": newer}).trace == newer
