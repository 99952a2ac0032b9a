"""What was read of a poll's body is kept, and nobody can tell."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratus.api import parsing
from ratus.api.parsing import Poll, Reader
from ratus.api.query import NO_QUERY, Query
from ratus.core.errors import BadRequest
from ratus.runtime.config import parse

SETTINGS = parse([], {})
NOW = 1_800_000_000_000_000
HOUR = 3_600_000_000

BODIES = (
    b"",
    b"null",
    b"{",
    b'{"timeout":"1h"}',
    b'{"timeout":"-1h"}',
    b'{"timeout":"200000h"}',
    b'{"consumer":"c","limit":2,"wait":"1s"}',
    b'{"consumer":5}',
    b'{"limit":0}',
    b'{"wait":"9h"}',
    b'{"_id":"1"}',
    b'{"deadline":"2027-01-15T09:00:00Z"}',
    b'{"topics":["a","b","a"]}',
    b'{"topics":[]}',
    b'{"consumer":"%s","limit":3}' % (b"c" * 300),
)


def read(reader: Reader, poll: tuple[bytes, bytes, str | None, str, int]) -> Poll | str:
    body, query, topic, task_id, now = poll
    try:
        return reader.poll(body, Query(query) if query else NO_QUERY, topic, task_id, now)
    except BadRequest as error:
        return str(error)


polls = st.tuples(
    st.sampled_from(BODIES),
    st.sampled_from([b"", b"", b"timeout=2h", b"limit=7", b"_id=2"]),
    st.sampled_from(["t", "u", None]),
    st.sampled_from(["", "", "1", "2"]),
    # The deadline among the bodies is an hour after the first of these.
    st.sampled_from([NOW, NOW + HOUR - 1, NOW + HOUR, 253_402_300_000_000_000]),
)


@given(st.lists(polls, max_size=20))
def test_a_poll_is_read_as_if_it_were_the_first(
    asked: list[tuple[bytes, bytes, str | None, str, int]],
) -> None:
    reader = Reader(SETTINGS)
    for poll in asked:
        assert read(reader, poll) == read(Reader(SETTINGS), poll)


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parsing, "_KEPT_POLLS", 10)
    reader = Reader(SETTINGS)
    for number in range(100):
        for body, consumer in ((b"%d" % number, str(number)), (b"%300d" % number, f"{number:300}")):
            poll = reader.poll(b'{"consumer":"%b"}' % body, NO_QUERY, "t", "", NOW)
            assert poll.selection.consumer == consumer
        assert len(reader._polls) <= 10
        assert all(len(body) <= 256 for body in reader._polls)
