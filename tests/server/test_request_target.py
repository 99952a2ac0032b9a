"""Splitting request targets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratus.core.errors import BadRequest
from ratus.server.target import split_target


@pytest.mark.parametrize(
    ("target", "raw_path", "path", "query"),
    [
        (b"/", b"/", "/", b""),
        (b"/v1/topics", b"/v1/topics", "/v1/topics", b""),
        (b"//v1/topics", b"//v1/topics", "//v1/topics", b""),
        (b"/v1/topics//tasks/1", b"/v1/topics//tasks/1", "/v1/topics//tasks/1", b""),
        (b"/a%2Fb?c=%2F", b"/a%2Fb", "/a/b", b"c=%2F"),
        (b"/a+b", b"/a+b", "/a+b", b""),
        (b"/%C3%A9%FF", b"/%C3%A9%FF", "/é\ufffd", b""),
        (b"/a%zz%", b"/a%zz%", "/a%zz%", b""),
        (b"/a?b?c", b"/a", "/a", b"b?c"),
        (b"/a?", b"/a", "/a", b""),
        (b"/a#b?c", b"/a", "/a", b""),
        (b"/a?b#c", b"/a", "/a", b"b"),
        (b"/a:b@c", b"/a:b@c", "/a:b@c", b""),
        (b"http://host/path?q", b"/path", "/path", b"q"),
        (b"HTTPS://host:443/path", b"/path", "/path", b""),
        (b"http://host//x", b"//x", "//x", b""),
        (b"http://host", b"/", "/", b""),
        (b"http://host?q=1", b"/", "/", b"q=1"),
        (b"http://host?q=/1", b"/", "/", b"q=/1"),
        (b"http://host#f", b"/", "/", b""),
    ],
)
def test_targets(target: bytes, raw_path: bytes, path: str, query: bytes) -> None:
    assert split_target("GET", target) == (raw_path, path, query)


def test_an_asterisk_is_for_options_only() -> None:
    assert split_target("OPTIONS", b"*") == (b"*", "*", b"")
    with pytest.raises(BadRequest):
        split_target("GET", b"*")


@pytest.mark.parametrize(
    "target",
    [
        *(
            b"",
            b"topics",
            b"?a",
            b"#",
            b"http:/x",
            b"http://",
            b"http:///x",
            b"ftp://host/x",
            b"host:80",
            b"**",
        ),
        *(b"/a b", b"/\x00", b"/\t", b"/\x7f", b"/\x80", b"/caf\xc3\xa9", b"/?\xff", b"http://h\xe9/"),
    ],
)
def test_anything_else_is_a_bad_request(target: bytes) -> None:
    with pytest.raises(BadRequest):
        split_target("GET", target)


@given(st.binary(max_size=40))
def test_nothing_but_a_bad_request_is_raised(target: bytes) -> None:
    try:
        raw_path, _, query = split_target("GET", target)
    except BadRequest:
        return
    assert raw_path.startswith(b"/")
    assert all(0x21 <= byte <= 0x7E for byte in raw_path + query)


@given(
    st.text(st.characters(codec="ascii", exclude_characters=" ?#", exclude_categories=["C"])),
    st.text("ab?/&="),
)
def test_a_path_keeps_every_byte(path: str, query: str) -> None:
    raw_path, _, kept = split_target("GET", f"/{path}?{query}".encode())
    assert (raw_path, kept) == (f"/{path}".encode(), query.encode())
