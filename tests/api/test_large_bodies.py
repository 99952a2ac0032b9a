"""Large bodies are read in slices, by the same rules as small ones, and no slice is long."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ratus.api import codec, large
from ratus.api.parsing import TASK_MEMBERS
from ratus.core.errors import BadRequest, PayloadTooLarge
from ratus.core.members import RETRY, wire_names
from tests.api.test_bodies import MALFORMED, UNBEARABLE
from tests.api.test_payloads import JSON_TEXTS, SPACES

EXAMPLES = int(os.environ.get("RATUS_FUZZ_EXAMPLES", "25"))

# Few tokens, so that most mutations are nearly JSON.
TOKENS = [
    *(b"[", b"]", b"{", b"}", b",", b":", b'"', b"\\", b" ", b"\n", b"-", b".", b"e", b"E", b"0", b"1", b"9"),
    *(b'"a"', b'"a":', b"null", b"true", b"false", b"1e308", b"1e309", b"-1.5e-400", b"NaN", b"Infinity"),
    *(b"\\ud800", b"\\udc00", b"\\ud83e\\uddea", b"\\u0041", b"\\n", b"\\x", b"\x00", b"\t", b"\x7f"),
    *("é".encode(), "🧪".encode(), b"\xc3", b"\xff", b"\xed\xa0\x80", b"9" * 4301, b"9" * 101, b"[" * 171),
]


@st.composite
def nearly_json(draw: st.DrawFn) -> bytes:
    """A JSON text with a few bytes changed, as often as not."""
    text = draw(JSON_TEXTS).encode()
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(text)))
        cut = draw(st.integers(0, 3))
        text = text[:at] + draw(st.sampled_from([b"", *TOKENS])) + text[at + cut :]
    return text


def outcome(read: Callable[[], Any]) -> Any:
    """What came of it: `BadRequest` and `PayloadTooLarge` without their words."""
    try:
        return read()
    except (BadRequest, PayloadTooLarge) as error:
        return type(error)


def finished(work: Any) -> Any:
    """What work returns once it is done."""
    while True:
        try:
            next(work)
        except StopIteration as done:
            return done.value


def in_slices(body: bytes, wanted: frozenset[str], most: int | None = None) -> bytes:
    opened: bytes = finished(large.opened(body, wanted, most))
    return opened


@pytest.fixture(params=[8, 8192], ids="looking {} bytes ahead".format)
def ahead(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cuts at all places: every token is split somewhere."""
    monkeypatch.setattr("ratus.api.walking.AHEAD", max(14, request.param))
    monkeypatch.setattr("ratus.api.walking.AHEAD_SMALL", request.param)
    monkeypatch.setattr("ratus.api.large.AHEAD", request.param)
    monkeypatch.setattr("ratus.api.large.SMALL", 0)


def value_in_slices(text: bytes) -> bytes:
    body = b'{"payload":%b}' % text
    members = codec.read_object(in_slices(body, frozenset({"payload"})))
    assert members is not None
    return codec.value_of(members, "payload") or b"null"


def value_at_once(text: bytes) -> bytes:
    members = codec.read_object(b'{"payload":%b}' % text)
    assert members is not None
    return codec.value_of(members, "payload") or b"null"


def same_value(text: bytes) -> None:
    assert outcome(lambda: value_in_slices(text)) == outcome(lambda: value_at_once(text))


@pytest.mark.usefixtures("ahead")
class TestTheSameRules:
    """Held against the decoder that reads small bodies."""

    @pytest.mark.parametrize(
        "text", [*UNBEARABLE, *(body[12:-1] for body in MALFORMED if body[:12] == b'{"payload": ')]
    )
    def test_what_is_refused(self, text: bytes) -> None:
        same_value(text)

    def test_payloads(self) -> None:
        @settings(max_examples=EXAMPLES, deadline=None)
        @given(text=nearly_json())
        @example(text=b"[1e308,-1e308,1e309]")
        @example(text=b"[1,1e308 , 2e400]")
        @example(text=b"[ 1e5 ,\n1e6]")
        @example(text=b"[" * 170 + b"]" * 170)
        @example(text=b"[" * 171 + b"]" * 171)
        @example(text=b'{"a":' * 170 + b"1" + b"}" * 170)
        @example(text=b'{"a":' * 171 + b"1" + b"}" * 171)
        @example(text=b"-" + b"9" * 4300)
        @example(text=b"[-" + b"9" * 4301 + b"]")
        @example(text=b"0." + b"0" * 5000 + b"1")
        @example(text=b"1" * 4400 + b"e-4400")
        @example(text=b"1" * 400 + b".5")
        @example(text=b"[[[[[]]]],[{}],{},{ },[ ]]")
        @example(text=b"[1,]")
        @example(text=b'{"a":1,}')
        @example(text=b"[[1}]")
        @example(text=b'[[[[{"a":[[1],1]}],1],1],1]')
        def check(text: bytes) -> None:
            same_value(text)

        check()

    def test_bodies_and_batches(self) -> None:
        names = st.sampled_from(
            [*sorted(TASK_MEMBERS), "x", r"\u0070ayload", r"a\"", "é", "data", "retry", ""]
        )

        @st.composite
        def objects(draw: st.DrawFn) -> bytes:
            members = draw(st.lists(st.tuples(names, st.one_of(nearly_json(), st.just(b"null"))), max_size=4))
            space = draw(SPACES).encode()
            return b"{" + b",".join(b'%b"%b":%b%b' % (space, n.encode(), space, v) for n, v in members) + b"}"

        @settings(max_examples=EXAMPLES, deadline=None)
        @given(items=st.lists(st.one_of(objects(), nearly_json()), max_size=5), space=SPACES)
        @example(items=[b'{"a":1,"a":1}'], space="")
        @example(items=[b'{"_id":"1"}', b'{"_id":"2","_id":"3"}'], space=" ")
        @example(items=[b'{"_id":"1"}'] * 5, space="")
        @example(items=[b'{"_id":"1"}', b"5"], space="")
        @example(items=[b'{"payload":1e400}', b'{"x":1e400}'], space="")
        @example(items=[b'{"retry":{"delay":"1s","x":[1e400],"delay":"1s"}}'], space="")
        def check(items: list[bytes], space: str) -> None:
            for item in items:
                same_members(partial(one, item), partial(one_in_slices, item))
            body = b'{"data":%b[%b]}' % (space.encode(), f",{space}".encode().join(items))
            same_members(
                lambda: codec.read_items(body, 4),
                lambda: codec.read_items(in_slices(body, TASK_MEMBERS, 4), 4),
            )

        check()


def one(body: bytes) -> list[codec.Members]:
    return [codec.read_object(body) or {}]


def one_in_slices(body: bytes) -> list[codec.Members]:
    return one(in_slices(body, TASK_MEMBERS))


def same_members(
    at_once: Callable[[], list[codec.Members]], sliced: Callable[[], list[codec.Members]]
) -> None:
    assert outcome(lambda: read(sliced())) == outcome(lambda: read(at_once()))


def read(items: list[codec.Members]) -> list[dict[str, Any]]:
    """What a task's members are read as: slices check values and policies on the way, others do it here."""
    found: list[dict[str, Any]] = []
    for members in items:
        wanted = {name: raw for name, raw in members.items() if name in TASK_MEMBERS}
        values = {name: codec.value_of(wanted, name) for name in large.VALUES}
        policy = members.get("retry")
        if policy is not None and (isinstance(policy, dict) or bytes(policy)[:1] == b"{"):
            policy = codec.object_of(members, "retry") or {}
            wanted["retry"] = b"".join(
                bytes(policy[name]) for name in sorted(policy) if name in wire_names(RETRY)
            )
        found.append({name: bytes(raw) for name, raw in wanted.items()} | values)
    return found
