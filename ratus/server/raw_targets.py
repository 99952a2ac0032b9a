"""Percent-encodes raw UTF-8 in request targets (``GET /topics/käse``) before the HTTP parser sees it.

The parser, llhttp, refuses such targets. `parsing` calls ``feed_raw`` for bytes that hold something outside
of ASCII, and is the ``Reader``.
"""

from __future__ import annotations

import codecs
import re
from typing import Protocol

_OUTSIDE_ASCII = re.compile(rb"[\x80-\xff]")

# The end of a method, the beginning of a path or of http://, and its first byte that is not ASCII. This may
# also match within a body; `Reader.within_target` decides.
_RAW_TARGET = re.compile(rb" (?<=[A-Z]{3} ) *+(?:/|[Hh][Tt][Tt][Pp])[!-~]*+[\x80-\xff]")

_END_OF_TARGET = re.compile(rb"[ \r\n]")

_EMPTY_LINE = re.compile(rb"\n\r?\n")


class Reader(Protocol):
    """The parser of a connection, and where it is in the request after the bytes that it was fed."""

    def feed(self, data: bytes) -> None:
        """Give the parser these bytes. Raises httptools.HttpParserError for what it refuses."""

    def within_target(self) -> bool:
        """Whether the next byte continues a request target."""

    def missing(self) -> int:
        """How many bytes of the body in work are still to come; 0 for a chunked body, and outside of
        bodies."""


def feed_raw(reader: Reader, data: bytes, begun: bool) -> bytes:
    """Feed ``data`` to the parser, with raw UTF-8 in request targets percent-encoded.

    Ratus in Go takes such targets, and some clients send them. All else is fed as it is, and so are bytes of
    a target that are not UTF-8: the parser refuses them. ``begun`` says that ``data`` continues a head.

    Returns the first bytes of a UTF-8 sequence whose other bytes are not in ``data``, mostly none. They were
    not fed: the caller puts them before what it receives next. Raises httptools.HttpParserError for what the
    parser refuses.

    The parser alone decides where a message begins; otherwise a body could be taken for a request. So a
    pattern finds what looks like a raw target, then the parser says whether it is one. That is done at most
    once in each message, so that the cost is linear.
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
            # Go on behind this head or chunked body: both end with an empty line.
            empty = _EMPTY_LINE.search(data, start)
            following = len(data) if empty is None else empty.end()
        found = _RAW_TARGET.search(data, following)
    reader.feed(data[fed:])
    return b""


def _encode(part: bytes, final: bool) -> tuple[bytes, bytes]:
    """A part of a target percent-encoded, and the bytes at its end that begin a UTF-8 sequence without ending
    it.

    ``final``: the target ends here. What is not UTF-8 is returned as it is.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        decoder.decode(part, final)
    except UnicodeDecodeError:
        return part, b""
    held = decoder.getstate()[0]
    whole = part[: len(part) - len(held)]
    return _OUTSIDE_ASCII.sub(lambda match: b"%%%02X" % match[0][0], whole), held
