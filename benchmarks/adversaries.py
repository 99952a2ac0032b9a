"""Requests whose bodies are made to take long: what a careless or hostile client may send.

Each is a method, a target and a way to make its body, up to so many bytes long. The benchmark `bodies`
measures how long each holds the event loop; tests/api/test_slices.py holds how much is done at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

TASK = "/topics/t/tasks/a"
TASKS = "/topics/t/tasks"
PROMISES = "/topics/t/promises"
ITEMS = 10_000
"""As many as a batch may hold."""


@dataclass(frozen=True)
class Adversary:
    """A request with a body of up to ``size`` bytes, made by ``make``."""

    name: str
    method: str
    target: str
    make: Callable[[int], bytes]


def repeated(part: bytes, before: bytes, after: bytes) -> Callable[[int], bytes]:
    """A part as often as there is room for it."""
    return lambda size: before + part * max(1, (size - len(before) - len(after)) // len(part)) + after


def numbered(
    part: Callable[[int], bytes], before: bytes, after: bytes, most: int | None = None
) -> Callable[[int], bytes]:
    """As `repeated`, each part made of its number, up to so many of them."""

    def make(size: int) -> bytes:
        count = max(1, (size - len(before) - len(after)) // len(part(1_000_000)))
        return before + b",".join(part(number) for number in range(min(count, most or count))) + after

    return make


def _listed(name: str, part: bytes) -> Adversary:
    """A list as the payload of a task."""
    return Adversary(name, "PUT", TASK, repeated(part + b",", b'{"payload":[', b"0]}"))


def _text(name: str, part: bytes, after: bytes = b"") -> Adversary:
    """A text as the payload of a task."""
    return Adversary(name, "PUT", TASK, repeated(part, b'{"payload":"', after + b'"}'))


def _member(name: str, method: str, target: str, part: bytes, before: bytes, after: bytes) -> Adversary:
    return Adversary(name, method, target, repeated(part, before, after))


def _item(text: bytes) -> Callable[[int], bytes]:
    """A text with the number in the place of each #."""
    return lambda number: text.replace(b"#", b"%d" % number)


_zero = _item(b'"#":0')


def _batch(name: str, part: bytes, method: str = "PUT", most: int | None = ITEMS) -> Adversary:
    return Adversary(name, method, TASKS, numbered(_item(part), b'{"data":[', b"]}", most))


ADVERSARIES = (
    _listed("numbers 1e308", b"1e308"),
    _listed("numbers 1.5e300", b"1.5e300"),
    _listed("numbers near the largest", b"1.7976931348623157e308"),
    _listed("numbers near the smallest", b"2.2250738585072011e-308"),
    _listed("numbers of 101 digits", b"9" * 101),
    _listed("numbers of 4,300 digits", b"9" * 4300),
    _listed("fractions of 800 digits", b"0." + b"3" * 800),
    _listed("halves of 2 to the 53", b"9007199254740993.0"),
    _listed("lists of one 1e308", b"[1e308]"),
    _listed("lists of one borderline number", b"[1.79e308]"),
    _listed("small numbers", b"1"),
    _listed("negative numbers", b"-1"),
    _listed("literals", b"true"),
    _listed("empty texts", b'""'),
    _listed("empty lists", b"[]"),
    _listed("empty objects", b"{}"),
    _listed("small objects", b'{"a":1}'),
    _listed("170 levels of lists, repeated", b"[" * 169 + b"]" * 169),
    _listed("170 levels of objects, repeated", b'{"":' * 169 + b"1" + b"}" * 169),
    _listed("lists that open by threes", b"[[[1],1],1]"),
    _listed("lists that open by fours", b'[[[[{"a":1},1],1],1],1]'),
    _member("levels without end", "PUT", TASK, b"[", b'{"payload":', b""),
    _member("levels without end, skipped", "PUT", TASK, b'{"a":[', b'{"x":', b""),
    _text("letters", b"a"),
    _text("escapes", b"\\n"),
    _text("escapes by number", b"\\u0041"),
    _text("surrogate pairs", b"\\ud83e\\uddea"),
    _text("surrogate pairs and a lone one", b"\\ud83e\\uddea", b"\\ud800"),
    _text("characters of two bytes", "é".encode()),
    _text("characters of four bytes, the last cut", "🧪".encode(), b"\xf0\x9f"),
    _member("white space", "PUT", TASK, b" \n", b'{"payload":', b"1}"),
    _member("white space between", "PUT", TASK, b"0 \n\t,", b'{"payload":[', b"0]}"),
    Adversary("unknown names", "PUT", TASK, numbered(_zero, b"{", b"}")),
    Adversary("unknown names, the last twice", "PUT", TASK, numbered(_zero, b'{"a":0,', b',"a":0}')),
    _member("one name, again and again", "PUT", TASK, b'"a":0,', b"{", b'"b":0}'),
    _member("one name in a payload", "PUT", TASK, b'"a":0,', b'{"payload":{', b'"b":0}}'),
    Adversary("names in a retry policy", "PUT", TASK, numbered(_zero, b'{"retry":{', b"}}")),
    _member("an error text", "PATCH", TASK, b"\\u00e9", b'{"error":"', b'"}'),
    _member("an error with a lone surrogate", "PATCH", TASK, b"\\ud83e\\uddea", b'{"error":"', b'\\ud800"}'),
    _member("a time of many digits", "PUT", TASK, b"3", b'{"scheduled":"2030-01-01T00:00:00.', b'Z"}'),
    _member("a priority of many digits", "PUT", TASK, b"3", b'{"priority":', b"}"),
    _member("a result of 1e308", "PATCH", TASK, b"1e308,", b'{"result":[', b"0]}"),
    _member("a result of 1e308, cut", "PATCH", TASK, b"1e308,", b'{"result":[', b""),
    _member("names of topics", "POST", "/promises", b'"",', b'{"topics":[', b'""]}'),
    _member("lists in a poll", "POST", PROMISES, b"[1],", b'{"x":[', b"0]}"),
    _member("lists in a topic's settings", "PATCH", "/topics/t", b"[1],", b'{"x":[', b"0]}"),
    _batch("a batch of tasks", b'{"_id":"#"}'),
    _batch("a batch of tasks, a topic each", b'{"_id":"#","topic":"t#","producer":"p#"}'),
    _batch("a batch of tasks with 1e308", b'{"_id":"#","payload":[1e308,1e308,1.79e308]}'),
    _batch("a batch of tasks with policies", b'{"_id":"#","retry":{"delay":"1s","jitter":0.5}}'),
    _batch("a batch of too many", b"{}", most=None),
    _batch("a batch of commits", b'{"_id":"#"}', "PATCH"),
    _batch("a batch of failures", b'{"_id":"#","error":"e"}', "PATCH"),
    _member("a batch of one", "PUT", TASKS, b"[1e308],", b'{"data":[{"_id":"b","payload":[', b"0]}]}"),
)  # fmt: skip
