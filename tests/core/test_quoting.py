"""What messages show of other people's texts."""

from __future__ import annotations

import pytest

from ratus.core.quoting import quoted


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", '""'),
        ("12\u00b5s", '"12\u00b5s"'),
        ("a\r\n\x1b[31m\u202e", r'"a\r\n\x1b[31m\u202e"'),
        ("x" * 60, '"' + "x" * 60 + '"'),
        ("x" * 61, '"' + "x" * 60 + '…"'),
    ],
)
def test_quotes_safely(text: str, shown: str) -> None:
    assert quoted(text) == shown
