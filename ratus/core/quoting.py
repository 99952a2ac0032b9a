"""Text from outside (a client, a file, the command line), made safe to be shown in a message."""

from __future__ import annotations

from typing import Final

# What an error message shows of a text: enough to recognise it, too little to flood a log.
_SHOWN_LENGTH: Final = 60


def quoted(text: str, longest: int = _SHOWN_LENGTH) -> str:
    """`text` in double quotes for an error message: shortened, and with whatever is not printable escaped."""
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[:longest])
    return f'"{shown}…"' if len(text) > longest else f'"{shown}"'


def printable(text: str) -> str:
    """`text` with whatever is not printable escaped, so that it stays one line and cannot drive a terminal.

    That is line breaks and other control characters, direction marks, unassigned code points and lone
    surrogates. Printable Unicode stays as it is.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
