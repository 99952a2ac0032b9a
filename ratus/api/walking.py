"""A walk through a JSON text in slices, which says where values begin and end and builds none of them.

A large text would hold the event loop for as long as one call of a decoder takes. A `Walk` is made of
generators that pause after a bounded piece of work (`SLICE`), so that other requests have their turn. What it
costs is linear in the bytes, whatever they hold: each byte is looked at a bounded number of times.

Most bytes are passed by compiled regular expressions that take many values in one match. They look no
further ahead than `AHEAD` bytes; what is longer, or nested deeper than they know, is walked step by step.
All their repetitions are possessive: what was matched once is not tried in another way.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import Final, NoReturn, TypeVar

from ratus.core.errors import BadRequest

MAX_DEPTH: Final = 170
MAX_DIGITS: Final = 4300
MAX_SKIPPED_DEPTH: Final = 900
"""How deep the values of unknown members, which are passed over, may be nested; about the decoder's limit."""

SLICE: Final = 32 * 1024
"""Work between two pauses, in bytes that are looked at: one to three milliseconds."""
AHEAD: Final = 8 * 1024
"""How many bytes one regular expression may look at."""
AHEAD_SMALL: Final = 1024
"""How many bytes an expression may look at where it often matches nothing."""
STEP: Final = 64
"""What one step costs beside the bytes it passes: as much as looking at this many bytes."""
NUMBER: Final = 8
"""What each byte of a number costs whose value has to be computed: as much as looking at this many bytes."""

T = TypeVar("T")
Work = Generator[None, None, T]
"""Work that pauses at each `yield` and returns what came of it."""

_S = rb"[ \t\n\r]*+"
_HEX = rb"[0-9a-fA-F]"
# An escape. Surrogates are allowed in pairs only.
_ESCAPE = (
    rb'\\(?:["\\/bfnrt]|u(?:[0-9a-cA-CefEF]' + _HEX + rb"{3}|[dD](?:[0-7]" + _HEX + rb"{2}"
    rb"|[89abAB]" + _HEX + rb"{2}\\u[dD][c-fC-F]" + _HEX + rb"{2})))"
)  # fmt: skip
_LONE = re.compile(rb"\\u[dD]" + _HEX + rb"{3}")
_CHARS = rb'(?:[^"\\\x00-\x1f]++|' + _ESCAPE + rb")*+"
_STRING = rb'"' + _CHARS + rb'"'
_INTEGER = rb"-?(?:0|[1-9][0-9]*+)"
_FRACTION = rb"(?:\.[0-9]++)?+"
# What must follow a number: at the end of the bytes that an expression may look at, the number may go on.
_ENDS = rb"(?=[ \t\n\r,\]}])"
_NUMBER_TEXT = _INTEGER + _FRACTION + rb"(?:[eE][+-]?[0-9]++)?+"
_ANY_NUMBER = _NUMBER_TEXT + _ENDS
# Numbers that are finite doubles by the count of their digits. The four alternatives are below 10 to the
# power of 199, of 8 + 299, of 1 + 307, and below 1.7 times 10 to the power of 308.
_SMALL_NUMBER = (
    rb"-?(?:(?:0|[1-9][0-9]{0,99}+)" + _FRACTION + rb"(?:[eE](?:-[0-9]++|\+?[0-9]{1,2}+))?+" + _ENDS
    + rb"|(?:0|[1-9][0-9]{0,7}+)" + _FRACTION + rb"[eE]\+?[12][0-9]{2}" + _ENDS
    + rb"|[0-9]" + _FRACTION + rb"[eE]\+?30[0-7]" + _ENDS
    + rb"|1(?:\.[0-6][0-9]*+)?+[eE]\+?308" + _ENDS + rb")"
)  # fmt: skip


def _value(number: bytes, levels: int) -> bytes:
    """The expression of a value nested no deeper than ``levels``."""
    scalar = _STRING + rb"|" + number + rb"|true|false|null"
    if not levels:
        return rb"(?:" + scalar + rb")"
    inner = _value(number, levels - 1)
    # Behind each element there is a comma that the end does not follow, or the end.
    array = rb"\[" + _S + rb"(?:" + inner + _S + rb"(?:," + _S + rb"(?!\])|(?=\])))*+\]"
    name = _STRING + _S + rb":" + _S
    members = rb"\{" + _S + rb"(?:" + name + inner + _S + rb"(?:," + _S + rb"(?!\})|(?=\})))*+\}"
    return rb"(?:" + scalar + rb"|" + array + rb"|" + members + rb")"


_LEVELS = 2
"""How deep a value may be nested that one match passes. The expressions double in length with each level."""


class _Expressions:
    """Regular expressions that pass values nested no deeper than ``levels``."""

    def __init__(self, number: bytes, levels: int) -> None:
        value = _value(number, levels)
        name = _STRING + _S + rb":" + _S
        self.value = re.compile(_S + value)
        self.more_items = re.compile(rb"(?:" + _S + rb"," + _S + value + rb")*+")
        self.more_members = re.compile(rb"(?:" + _S + rb"," + _S + name + value + rb")*+")


class Rule:
    """What a value may hold, as regular expressions, and how deep it may be nested."""

    def __init__(self, number: bytes, depth: int) -> None:
        self.depth = depth
        self.checked = number is _SMALL_NUMBER
        self._usual = _Expressions(number, _LEVELS)
        self._deepest = _Expressions(number, 0)

    def expressions(self, opened: int) -> _Expressions:
        """The expressions for a place within ``opened`` lists and objects."""
        return self._usual if opened <= self.depth - _LEVELS else self._deepest


JSON: Final = Rule(_ANY_NUMBER, MAX_SKIPPED_DEPTH)
"""The rule of values that are skipped, or are read by a decoder afterwards: any JSON."""
PAYLOAD: Final = Rule(_SMALL_NUMBER, MAX_DEPTH)
"""The rule of payloads and results, which come back as they were sent; see docs/api.md."""

_SMALL_MEMBER = _STRING + _S + rb":" + _S + _value(_SMALL_NUMBER, _LEVELS)
_SMALL_ITEM = rb"\{" + _S + rb"(?:" + _SMALL_MEMBER + _S + rb"(?:," + _S + rb"(?!\})|(?=\})))*+\}"
SMALL_ITEMS: Final = re.compile(rb"(?:" + _S + _SMALL_ITEM + _S + rb",)*+")
"""Objects in a list, a comma behind each, that hold nothing that `PAYLOAD` would refuse."""

_SPACE = re.compile(_S)
_TEXT = re.compile(_CHARS)
_NAME = re.compile(_S + rb'"[^"\\\x00-\x1f]*+"' + _S + rb":")
_NUMBER = re.compile(_NUMBER_TEXT)
_WORD = re.compile(rb"true|false|null")
# Names without brackets, so that the brackets in the match are those that open.
_OPENINGS = re.compile(rb"(?:" + _S + rb"(?:\[|\{" + _S + rb'"[^"\\\x00-\x1f\[\]{}]*+"' + _S + rb":))++")
_CLOSINGS = re.compile(rb"(?:" + _S + rb"[\]}])++")
_NO_OPENINGS = bytes(byte for byte in range(256) if byte not in b"[{")
_SPACES = b" \t\n\r"
_CLOSING_OF = bytes.maketrans(b"[{", b"]}")
_LONGEST_ESCAPE = 12
_OPEN_LIST, _CLOSE_LIST, _OPEN_OBJECT, _CLOSE_OBJECT, _QUOTE, _COMMA, _COLON = b'[]{}",:'
_INFINITE = float("inf")


class Walk:
    """A place in a JSON text, and generators that move it on. They raise `BadRequest` for a malformed text.

    ``at`` is the index of the next byte that was not passed.
    """

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data = data
        self.at = at
        self.left = SLICE
        """Work until the next pause."""

    def spend(self, work: int) -> Work[None]:
        """Count work that was done, and pause if none is left of the slice."""
        self.left -= work
        if self.left <= 0:
            yield
            self.left = SLICE

    def malformed(self, expected: str = "") -> NoReturn:
        """Raise `BadRequest` for what stands at this place."""
        if self.at >= len(self.data):
            raise BadRequest("JSON is malformed: it ends too early")
        wanted = f", expected {expected}" if expected else ""
        raise BadRequest(f"JSON is malformed: invalid character (byte {self.at}){wanted}")

    def peek(self) -> Work[int]:
        """Pass white space; return the byte behind it, which is not passed, or -1 at the end."""
        data, at = self.data, self.at
        while at < len(data):
            if data[at] not in _SPACES:
                return data[at]
            self.at = _SPACE.match(data, at, at + AHEAD).end()  # type: ignore[union-attr]  # it matches nothing, too
            yield from self.spend(self.at - at)
            at = self.at
        return -1

    def string(self) -> Work[None]:
        """Pass a string, from its opening quote, which is the next byte."""
        data, start = self.data, self.at
        self.at += 1
        while True:
            end = self.at + AHEAD
            at = _TEXT.match(data, self.at, end).end()  # type: ignore[union-attr]  # as in peek
            yield from self.spend(STEP + at - self.at)
            self.at = at
            if at < len(data) and data[at] == _QUOTE:
                self.at += 1
                return
            if end < len(data) and at > end - _LONGEST_ESCAPE:
                continue  # the match may have been cut within an escape
            if _LONE.match(data, at) is not None:
                raise BadRequest("lone surrogate, which is no character; leave it out or send the pair")
            self.malformed("" if at < len(data) else f"the end of the text that begins at byte {start}")

    def name(self) -> Work[None]:
        """Pass a member's name and the colon."""
        at = self.at
        found = _NAME.match(self.data, at, at + AHEAD)
        if found is not None:
            self.at = found.end()
            yield from self.spend(STEP + self.at - at)
            return
        if (yield from self.peek()) != _QUOTE:
            self.malformed("the name of a member")
        yield from self.string()
        if (yield from self.peek()) != _COLON:
            self.malformed("a colon")
        self.at += 1

    def value(self, rule: Rule) -> Work[None]:
        """Pass a value and the white space before it."""
        # The steps that are taken for each of many small lists are written out here: a call of a generator
        # for each would double their cost.
        data = self.data
        opened = bytearray()
        while True:
            at = self.at
            found = rule.expressions(len(opened)).value.match(data, at, at + AHEAD_SMALL)
            if found is not None:
                self.at = found.end()
            elif (found := _OPENINGS.match(data, at, at + AHEAD)) is not None:
                self.at = found.end()
                opened += found[0].translate(None, _NO_OPENINGS)
                if len(opened) > rule.depth:
                    raise BadRequest(f"nested deeper than {rule.depth} levels")
                self.left -= STEP + self.at - at
                if data[self.at - 1] != _OPEN_LIST or (yield from self.peek()) != _CLOSE_LIST:
                    continue
                opened.pop()
                self.at += 1
            elif not (yield from self._rare(rule, opened)):
                continue
            self.left -= STEP + self.at - at
            # A value has ended: pass what follows it in its list or object, and the ends of those.
            while opened:
                at = self.at
                expressions = rule.expressions(len(opened))
                if opened[-1] == _OPEN_LIST:
                    self.at = expressions.more_items.match(data, at, at + AHEAD).end()  # type: ignore[union-attr]  # as in peek
                else:
                    self.at = expressions.more_members.match(data, at, at + AHEAD).end()  # type: ignore[union-attr]  # as in peek
                found = _CLOSINGS.match(data, self.at, self.at + AHEAD)
                if found is None:
                    break
                closing = found[0].translate(None, _SPACES)
                count = min(len(closing), len(opened))
                if opened[-count:][::-1].translate(_CLOSING_OF) != closing[:count]:
                    self.malformed()
                del opened[-count:]
                if count == len(closing):
                    self.at = found.end()
                else:  # the other brackets close what holds this value: find the end of the value
                    for _ in range(count):
                        yield from self.peek()
                        self.at += 1
                self.left -= STEP + self.at - at
                if self.left <= 0:
                    yield
                    self.left = SLICE
            if not opened:
                return
            if (yield from self.peek()) != _COMMA:
                self.malformed(
                    f"a comma or the end of the {'list' if opened[-1] == _OPEN_LIST else 'object'}"
                )
            self.at += 1
            self.left -= STEP + self.at - at
            if self.left <= 0:
                yield
                self.left = SLICE
            if opened[-1] != _OPEN_LIST:
                yield from self.name()

    def _rare(self, rule: Rule, opened: bytearray) -> Work[bool]:
        """Pass a value that the expressions do not match, and return true. False: no value has ended, since
        an object was opened, or only white space was passed."""
        at = self.at
        first = yield from self.peek()
        if first == _OPEN_OBJECT:
            # The object is empty, or its first name is long or unusual.
            self.at += 1
            opened.append(first)
            if len(opened) > rule.depth:
                raise BadRequest(f"nested deeper than {rule.depth} levels")
            if (yield from self.peek()) == _CLOSE_OBJECT:
                opened.pop()
                self.at += 1
                return True
            yield from self.name()
            return False
        if first == _QUOTE:
            yield from self.string()
        elif (found := _NUMBER.match(self.data, self.at)) is not None:
            self.at = found.end()
            yield from self.spend(STEP + NUMBER * len(found[0]))
            if rule.checked:
                check_number(found[0])
        elif (found := _WORD.match(self.data, self.at)) is not None:
            self.at = found.end()
        elif self.at == at or first != _OPEN_LIST:
            self.malformed()
        else:  # a list, which the expressions did not match for the white space before it
            return False
        return True


def check_number(text: bytes) -> None:
    """Raise `BadRequest` for a number that could not come back as the same: one that is no finite double, or
    a very long integer."""
    if text.isdigit() or text[1:].isdigit():
        if len(text) - (text[0] == ord("-")) > MAX_DIGITS:
            _out_of_range(f"more than {MAX_DIGITS} digits")
    elif abs(float(text)) == _INFINITE:
        _out_of_range("beyond a double")


def _out_of_range(limit: str) -> NoReturn:
    raise BadRequest(f"a number is out of range ({limit}); give a smaller one, or a text")
