"""Payloads and results come back as they were sent."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.api.conftest import unique
from tests.servers import Api

NUMBERS = st.one_of(
    st.integers().map(str),
    st.integers(1, 4300).map(lambda digits: "7" * digits),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.from_regex(r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,2})?", fullmatch=True),
    st.sampled_from(
        ["-0", "-0.0", "1.0", "1E+2", "1e-400", "0e999", "2.50", "9007199254740993", "1e308", "5e-324"]
    ),
)
LETTERS = st.characters(exclude_categories=["Cs"])


@st.composite
def texts(draw: st.DrawFn) -> str:
    """A JSON string, its letters escaped or not as it comes."""
    written = '"'
    for letter in draw(st.text(LETTERS, max_size=20)):
        must = letter in '"\\' or letter < " "
        if must or draw(st.booleans()):
            raw = letter.encode("utf-16-be").hex()
            written += "".join(f"\\u{raw[at : at + 4]}" for at in range(0, len(raw), 4))
        else:
            written += letter
    return written + draw(st.sampled_from(["", '\\"', "\\\\", "\\/", "\\b\\f\\n\\r\\t", "[{", "}]"])) + '"'


SPACES = st.sampled_from(["", " ", "\n", "\t ", "\r\n"])


@st.composite
def arrays(draw: st.DrawFn, values: st.SearchStrategy[str]) -> str:
    space = draw(SPACES)
    return f"[{space}{f'{space},'.join(draw(st.lists(values, max_size=4)))}{space}]"


@st.composite
def objects(draw: st.DrawFn, values: st.SearchStrategy[str]) -> str:
    space = draw(SPACES)
    members = draw(st.lists(st.tuples(texts(), values), max_size=4))
    return "{" + space + ",".join(f"{key}{space}:{space}{value}" for key, value in members) + "}"


JSON_TEXTS = st.recursive(
    st.one_of(st.sampled_from(["true", "false"]), NUMBERS, texts()),
    lambda values: st.one_of(arrays(values), objects(st.one_of(values, st.just("null")))),
    max_leaves=15,
)


def meaning(text: str) -> Any:
    """A JSON text with everything that has to survive: the order and number of members, each number."""
    return json.loads(
        text, object_pairs_hook=lambda pairs: ("object", pairs), parse_int=int, parse_float=float
    )


def member(body: bytes, name: str) -> str:
    """The text of a member that is the last of a task."""
    match = re.search(rb'"%b":(.*)\}$' % name.encode(), body, re.DOTALL)
    assert match is not None
    return match[1].decode()


@given(text=JSON_TEXTS)
@example(text='{"z": 1, "a": [], "m": {}}')
@example(text="[" * 170 + "]" * 170)
@example(text="9" * 4300)
@example(text="-" + "9" * 4300)
@example(text="[-" + "9" * 4300 + ",\n-" + "9" * 4300 + ", -1]")
@example(text="0." + "0" * 5000 + "1")
@example(text="1" * 300 + "." + "1" * 5000)
@example(text="1" * 4400 + "e-4400")
@example(text=r'"\ud83e\uddea \u0000"')
@example(text='""')
@example(text="0")
@example(text="false")
@example(text="[]")
@example(text="{}")
@settings(max_examples=150, deadline=None)
def test_any_json_text_comes_back(api: Api, text: str) -> None:
    name = unique()
    target = f"/v1/topics/{name}/tasks/{name}"
    body = b'{"payload":%b}' % text.encode()
    assert api.post(target, body).status == 201

    read = api.get(target).body
    assert meaning(member(read, "payload")) == meaning(text)
    # Signs of zero are equal in Python, and a number's text is the best proof of the same number.
    assert member(read, "payload") == text
    claimed = api.post(f"/v1/topics/{name}/promises").body
    assert member(claimed, "payload") == text
    committed = api.patch(target, b'{"result":%b}' % text.encode()).body
    assert member(committed, "result") == text
    assert committed.count(text.encode()) >= 2
    listed = api.get(f"/v1/topics/{name}/tasks").body
    assert listed == b'{"data":[%b]}' % committed


@pytest.mark.parametrize("opening", ["[", '{"a":', '[{"a":', '{"\\\\":'])
def test_the_deepest_nesting(api: Api, name: str, opening: str) -> None:
    levels = opening.count("[") + opening.count("{")
    closing = opening.translate(str.maketrans("[{", "]}", '"a\\:'))[::-1]

    def nested(depth: int) -> bytes:
        inner = "1" if opening.endswith(":") else ""
        text = opening * (depth // levels) + inner + closing * (depth // levels)
        if depth % levels:
            text = f"[{text}]"
        return text.encode()

    target = f"/v1/topics/{name}/tasks/{name}"
    for kind in (b'{"payload": %b}', b'{"result": %b}'):
        assert api.put(target, kind % nested(170)).status in (200, 201)
        assert api.put(target, kind % nested(171)).status == 400
        assert api.patch(target, kind % nested(170)).status == 200
        assert api.patch(target, kind % nested(171)).status == 400
    # Brackets in texts are no levels.
    assert api.patch(target, b'{"payload": ["%b", "\\"%b"]}' % (b"[" * 300, b"{" * 300)).status == 200


@pytest.mark.parametrize("value", ["", 0, False, [], {}])
def test_a_commit_replaces_the_payload_with_anything_but_null(api: Api, name: str, value: Any) -> None:
    api.insert(name, name, payload={"kept": True})
    assert api.commit(name, payload=None)["payload"] == {"kept": True}
    assert api.commit(name, payload=value)["payload"] == value
    assert api.task(name)["payload"] == value


def test_a_payload_of_null_is_none(api: Api, name: str) -> None:
    assert api.post(f"/v1/topics/{name}/tasks/{name}", b'{"payload": null}').status == 201
    assert "payload" not in api.task(name)
    api.commit(name, payload=[None, {"a": None}])
    assert api.task(name)["payload"] == [None, {"a": None}]


def test_a_result_leaves_the_payload(api: Api, name: str) -> None:
    api.insert(name, name, payload=[1])
    task = api.commit(name, result={"size": 3})
    assert (task["payload"], task["result"]) == ([1], {"size": 3})
    assert api.commit(name, result=None)["result"] == {"size": 3}


def test_a_payload_of_megabytes(api: Api, name: str) -> None:
    payload = "é\U0001f9ea" * 600_000
    body = json.dumps({"payload": payload}, ensure_ascii=False).encode()
    assert api.post(f"/v1/topics/{name}/tasks/{name}", body).status == 201
    assert api.task(name)["payload"] == payload
