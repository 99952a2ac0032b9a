"""Raw UTF-8 in request targets: percent-encoded on its way to the parser, which refuses it."""

from __future__ import annotations

import codecs
import re
from typing import Protocol

_OUTSIDE_ASCII = re.compile(rb"[\x80-\xff]")

# A method, the beginning of a path or of http://, and the first byte of it that is not ASCII.
_RAW_TARGET = re.compile(rb" (?<=[A-Z]{3} ) *+(?:/|[Hh][Tt][Tt][Pp])[!-~]*+[\x80-\xff]")

_END_OF_TARGET = re.compile(rb"[ \r\n]")

_EMPTY_LINE = re.compile(rb"\n\r?\n")


class Reader(Protocol):
    """The parser of a connection, and what it says of the bytes that it was given."""

    def feed(self, data: bytes) -> None:
        """Give the parser these bytes. Raises httptools.HttpParserError for what it refuses."""

    def within_target(self) -> bool:
        """Whether the next byte continues a request target."""

    def missing(self) -> int:
        """So many bytes of a body are still to come; 0 where that is not known, and outside of bodies."""


def feed_raw(reader: Reader, data: bytes, begun: bool) -> bytes:
    """Feed ``data``, percent-encoding raw UTF-8 in request targets; return the bytes that have to wait.

    Ratus in Go takes such targets, and some clients send them. Bytes of a target that are not UTF-8 are fed
    as they are, for the parser to refuse; all other bytes are fed as they are too. What has to wait is the
    beginning of a UTF-8 sequence that ``data`` ends within: it belongs before what comes next. ``begun`` says
    that ``data`` continues a head.

    Where a message begins is decided by the parser alone, or a body could be taken for a request. What looks
    like a raw target is where the parser is asked, at most once in each message, so that the cost is linear.
    """
    fed = 0
    found = (_OUTSIDE_ASCII if begun else _RAW_TARGET).search(data)
    while found is not None:
        start = found.end() - 1
        reader.feed(data[fed:start])
        fed = start
        if reader.within_target():
            ended = _END_OF_TARGET.search(data, start)
            fed = following = len(data) if ended is None else ended.start()
            encoded, held = _encode(data[start:fed], final=ended is not None)
            reader.feed(encoded)
            if held:
                return held
        elif missing := reader.missing():
            following = start + missing
        else:
            # Heads and chunked bodies end with an empty line.
            empty = _EMPTY_LINE.search(data, start)
            following = len(data) if empty is None else empty.end()
        found = _RAW_TARGET.search(data, following)
    reader.feed(data[fed:])
    return b""


def _encode(part: bytes, final: bool) -> tuple[bytes, bytes]:
    """A part of a target percent-encoded, and the beginning of a sequence that it ends within."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        decoder.decode(part, final)
    except UnicodeDecodeError:
        return part, b""
    held = decoder.getstate()[0]
    whole = part[: len(part) - len(held)]
    return _OUTSIDE_ASCII.sub(lambda match: b"%%%02X" % match[0][0], whole), held
