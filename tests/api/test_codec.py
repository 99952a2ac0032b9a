"""How a body is taken apart, held against the standard library's reader."""

from __future__ import annotations

import contextlib
import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ratus.api import codec
from ratus.core.errors import BadRequest, PayloadTooLarge
from tests.api.test_payloads import JSON_TEXTS, SPACES, meaning

MANY = 100_000
EMPTY_OBJECTS = b"[" + b",".join([b"{}"] * MANY) + b"]"

# Few names, written in many ways, so that some are often the same.
NAMES = st.sampled_from(
    [
        r"a",
        r"\u0061",
        r"b",
        r"\"",
        r"\u0022",
        r"a\"",
        r"\\\"",
        r"\\",
        r"\u005c",
        r"",
        r":",
        r"{",
        r"é",
        r"\u00e9",
    ]
)


@st.composite
def bodies(draw: st.DrawFn) -> str:
    members = draw(st.lists(st.tuples(NAMES, st.one_of(JSON_TEXTS, st.just("null"))), max_size=5))
    space = draw(SPACES)
    return "{" + space + f"{space},".join(f'"{n}"{space}:{space}{v}' for n, v in members) + "}"


def pairs_of(text: str) -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = meaning(text)[1]
    return pairs


def has_twice(text: str) -> bool:
    names = [name for name, _ in pairs_of(text)]
    return len(set(names)) < len(names)


@given(text=bodies())
@example(text=r'{"a\"": 1, "x": {"a": 1, "a": 2}}')
@example(text=r'{"x": "\"", "a\"": 1, "x": "\""}')
@example(text=r'{"a": 1, "a": 12}')
def test_members_are_those_that_the_standard_library_finds(text: str) -> None:
    if has_twice(text):
        with pytest.raises(BadRequest, match="stands twice"):
            codec.read_object(text.encode())
        return
    members = codec.read_object(text.encode()) or {}
    found = [(name, meaning(bytes(raw).decode())) for name, raw in members.items()]
    assert found == pairs_of(text)


@given(texts=st.lists(bodies(), max_size=4))
def test_members_of_items_are_those_that_the_standard_library_finds(texts: list[str]) -> None:
    body = f'{{"data": [{", ".join(texts)}]}}'.encode()
    wrong = [at for at, text in enumerate(texts) if has_twice(text)]
    if wrong:
        with pytest.raises(
            BadRequest, match=f"^bad request: data: item {wrong[0]}: the name .* stands twice"
        ):
            codec.read_items(body, 10)
        return
    items = codec.read_items(body, 10)
    found = [[(name, meaning(bytes(raw).decode())) for name, raw in item.items()] for item in items]
    assert found == [pairs_of(text) for text in texts]


@given(text=JSON_TEXTS)
@example(text="[" * 300 + "]" * 300)
@example(text='["[[[", {"{{\\"[": []}]')
def test_depth(text: str) -> None:
    def depth(value: Any) -> int:
        if isinstance(value, dict):
            return 1 + max(map(depth, value.values()), default=0)
        if isinstance(value, list):
            return 1 + max(map(depth, value), default=0)
        return 0

    # Without the values of names that stand twice: they are nested as well.
    unique = json.loads(text, object_pairs_hook=lambda pairs: {str(at): v for at, (_, v) in enumerate(pairs)})
    assert codec._depth(text.encode()) == depth(unique)


@pytest.mark.parametrize(
    "body",
    [
        rb'{"a\"b": 1, "payload": %b}' % EMPTY_OBJECTS,
        rb'{"payload": 1, "a": {}, "payload": %b}' % EMPTY_OBJECTS,
        rb'{"data": [{"_id": "x", "a\"b": 1, "payload": %b}]}' % EMPTY_OBJECTS,
    ],
    ids=["escaped quote", "twice", "batch"],
)
def test_looking_for_a_name_that_stands_twice_builds_no_payload(body: bytes) -> None:
    def read() -> None:
        with contextlib.suppress(BadRequest):
            codec.read_items(body, MANY)

    # Built, the payload would take more than twenty times as much as its text.
    assert peak_of(read) < 10 * len(body)


def peak_of(action: Callable[[], object]) -> int:
    """The most memory, in bytes, that an action had at any time."""
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_too_many_items_are_refused_before_they_are_taken_apart() -> None:
    item = b'{"a": 1, "a": 1}'
    body = b'{"data": [%b]}' % b",".join([item] * 11)
    with pytest.raises(PayloadTooLarge, match="may hold 10 items, not 11"):
        codec.read_items(body, 10)
    with pytest.raises(BadRequest, match="stands twice"):
        codec.read_items(body, 11)


def test_braces_in_payloads_are_no_items() -> None:
    body = b'{"data": [{"payload": [{}, {}, "{{{{"]}, {}]}'
    assert len(codec.read_items(body, 2)) == 2


# ---- what a refusal says -------------------------------------------------------------------------


def refusal(read: Callable[[], object]) -> str:
    with pytest.raises(BadRequest) as caught:
        read()
    return caught.value.detail


LONE = "lone surrogate, which is no character; leave it out or send the pair"


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (rb'{"payload": "\ud800"}', "payload: "),
        (rb'{"a": "\ud83e\uddea", "payload": ["x", {"y": "\uDFFFz"}]}', "payload: "),
        (rb'{"a": "\\ud800", "error": "\ud800\ud800"}', "error: "),
        (rb'{"a": "\\", "b": "\\\\\udc00"}', "b: "),
        (rb'{"a\\b": "\ud800"}', "a__b: "),
        (rb'{"\ud800": 1}', "the name of a member: "),
        (rb'{"data": [{"_id": "x"}, {"_id": "y", "payload": "\ud800"}]}', "data: item 1: payload: "),
        (rb'{"data": "\ud800"}', ""),
    ],
)
def test_lone_surrogates_are_called_so(body: bytes, where: str) -> None:
    assert refusal(lambda: codec.read_object(body)) == where + LONE


def test_what_else_is_wrong_with_a_lone_surrogate_comes_first() -> None:
    assert "byte 7" in refusal(lambda: codec.read_object(rb'{"a": nul, "payload": "\ud800"}'))


@pytest.mark.parametrize(
    ("read", "said"),
    [
        (lambda: codec.read_object(b"[]"), "expected an object, got a list"),
        (lambda: codec.read_object(b"1.5"), "expected an object, got a number"),
        (lambda: codec.read_items(b'{"data": {}}', 9), "data: expected a list, got an object"),
        (lambda: codec.read_items(b'{"data": [{}, 5]}', 9), "data: item 1: expected an object, got a number"),
        (lambda: codec.read_items(b'{"data": [{}, null]}', 9), "data: item 1: expected an object, got null"),
        (lambda: codec.text_of(members(b'["a"]'), "x"), "x: expected a text, got a list"),
        (lambda: codec.texts_of(members(b'["a", 1]'), "x"), "x: item 1: expected a text, got a number"),
        (lambda: codec.integer_of(members(b'"1"'), "x"), "x: expected an integer, got a text"),
        (
            lambda: codec.integer_of(members(b"1.0"), "x"),
            "x: expected an integer, got one with a point or an exponent",
        ),
        (lambda: codec.number_of(members(b"true"), "x"), "x: expected a number, got true or false"),
        (lambda: codec.boolean_of(members(b"1"), "x"), "x: expected true or false, got a number"),
        (
            lambda: codec.value_of(members(b'[{"a": 1e400}]'), "x"),
            "x: a number is out of range (beyond a double); give a smaller one, or a text",
        ),
        (
            lambda: codec.value_of(members(b"9" * 4301), "x"),
            "x: a number is out of range (more than 4300 digits); give a smaller one, or a text",
        ),
    ],
)  # fmt: skip
def test_wrong_types_in_plain_words(read: Callable[[], object], said: str) -> None:
    assert refusal(read) == said


def members(value: bytes) -> codec.Members:
    return codec.read_object(b'{"x": %b}' % value) or {}
