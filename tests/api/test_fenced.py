"""Commits that are only ids and nonces are read on a shorter way, which nobody can tell."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ratus.api import codec
from ratus.api.parsing import Reader
from ratus.core.errors import RatusError
from ratus.runtime.config import parse

READER = Reader(parse([], {}))
NOW = 1_800_000_000_000_000

NAMES = st.sampled_from(['"_id"', '"nonce"', '"state"', '"other"', r'"_\u0069d"', '"n\\"once"', '""'])
VALUES = st.sampled_from(
    [
        '"1"',
        '"abc"',
        '""',
        r'"a\"b"',
        r'"\ud800"',
        '"é"',
        "null",
        "2",
        "true",
        '{"a": "b"}',
        '["_id"]',
        "NaN",
        '"' + "x" * 1025 + '"',
    ]
)
MEMBERS = st.lists(st.tuples(NAMES, VALUES), max_size=5)
FENCED = st.tuples(VALUES, VALUES).map(lambda both: [('"_id"', both[0]), ('"nonce"', both[1])])
SPACES = st.sampled_from(["", " ", "\n\t "])


def written(items: list[list[tuple[str, str]]], space: str) -> bytes:
    objects = [
        "{" + f",{space}".join(f"{name}:{space}{value}" for name, value in item) + "}" for item in items
    ]
    return ('{"data": [' + f"{space},".join(objects) + "]}").encode()


def outcome(body: bytes) -> object:
    try:
        return asyncio.run(READER.commits(body, NOW))
    except RatusError as error:
        return error.status, error.message


@given(items=st.lists(st.one_of(FENCED, MEMBERS), max_size=4), space=SPACES)
@example(items=[[('"_id"', '"1"'), ('"nonce"', '"a"')]], space="")
@example(items=[[('"_id"', '"1"'), ('"nonce"', '"a"'), ('"nonce"', '"b"')]], space="")
def test_both_ways_come_to_the_same(items: list[list[tuple[str, str]]], space: str) -> None:
    body = written(items, space)
    found = outcome(body)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec, "read_fenced", lambda body, most: None)
        assert found == outcome(body)


@pytest.mark.parametrize(
    ("body", "short"),
    [
        (b'{"data": [{"_id": "1", "nonce": "a"}, {"nonce": "b", "_id": "2"}]}', True),
        (b'{"data": []}', True),
        (b'{"data": [{"_id": "1", "nonce": "a", "state": 2}]}', False),
        (b'{"data": [{"_id": "1", "_id": "2", "nonce": "a"}]}', False),
        (b'{"data": [{"_id": "1"}]}', False),
        (b'{"data": [{"_id": "1", "nonce": null}]}', False),
        (b'{"data": null}', False),
        (b"", False),
    ],
)
def test_which_are_read_on_the_short_way(body: bytes, short: bool) -> None:
    assert (codec.read_fenced(body, 10) is not None) is short


def test_a_batch_that_is_too_large_is_left_to_the_other_way() -> None:
    body = written([[('"_id"', f'"{number}"'), ('"nonce"', '"a"')] for number in range(11)], "")
    assert codec.read_fenced(body, 10) is None
    assert codec.read_fenced(body, 11) is not None


def single(body: bytes) -> object:
    try:
        return READER.commit(body, "1", NOW)
    except RatusError as error:
        return error.status, error.message


@given(item=st.one_of(MEMBERS, VALUES.map(lambda value: [('"nonce"', value)])), space=SPACES)
@example(item=[('"nonce"', '"a"')], space=" ")
@example(item=[('"nonce"', '"a"'), ('"nonce"', "1")], space="")
def test_both_ways_of_a_single_commit_come_to_the_same(item: list[tuple[str, str]], space: str) -> None:
    body = space.encode() + written([item], space).removeprefix(b'{"data": [').removesuffix(b"]}")
    found = single(body)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec, "read_nonce", lambda body: None)
        assert found == single(body)


@pytest.mark.parametrize(
    ("body", "nonce"),
    [
        (b'{"nonce": "a"}', "a"),
        (b' {"nonce":""}\n', ""),
        (b'{"other": "a"}', None),
        (b'{"nonce": "a", "state": 2}', None),
        (b'{"nonce": "a"} x', None),
        (b'{"nonce": "\xff"}', None),
        (rb'{"nonce": "\u0061"}', None),
        (b"", None),
    ],
)
def test_which_single_commits_are_read_on_the_short_way(body: bytes, nonce: str | None) -> None:
    assert codec.read_nonce(body) == nonce
