"""JSON as BSON and back: exactly, at a cost that grows with the size alone, and as version 0.1 wrote it."""

from __future__ import annotations

from typing import Any
from unittest import mock

import bson
import pytest
from bson import Binary, Code, DatetimeMS, Decimal128, Int64, MaxKey, MinKey, Regex, Timestamp
from bson.raw_bson import RawBSONDocument
from hypothesis import example, given, settings
from ratus_engines.mongodb import documents
from ratus_engines.mongodb import payloads as conversion
from ratus_engines.mongodb.payloads import (
    MOST_ADDED,
    MOST_BYTES,
    MOST_ESCAPES,
    MOST_STRUCTURE,
    MOST_VALUES,
    TEXT_SUBTYPE,
    to_bson,
)

from ratus.core.errors import BadRequest
from ratus.core.records import TaskRecord
from ratus.testing import START
from tests.engines.mongodb.jsontexts import exact, limits, payloads

PAD = "x" * 5_000


def stored(payload: Any) -> RawBSONDocument:
    """A document with this payload, as the driver hands it out."""
    return RawBSONDocument(bson.encode({"_id": "1", "topic": "t", "payload": payload}), documents.RAW)


def is_plain(data: bytes) -> bool:
    return not isinstance(to_bson(data, "payload"), Binary)


def through_bson(data: bytes) -> bytes | None:
    task = TaskRecord("1", "t", START, START, payload=data, result=data)
    found = documents.record(RawBSONDocument(documents.encoded(task).raw, documents.RAW))
    assert found.payload == found.result
    return found.payload


@settings(max_examples=1_000, deadline=None)
@given(payloads, limits)
@example(b'{"a":0,"a":0,"b":"\\u0022\\u0022"}', {"_SHORT": 0})
@example(b'{"q":{"$ref":"c","$id":"i","b":1},"pad":"' + PAD.encode() + b'"}', {"_SHORT": 0})
def test_every_text_means_the_same_afterwards(data: bytes, limits: dict[str, Any]) -> None:
    with mock.patch.multiple(conversion, **limits):
        assert exact(through_bson(data)) == exact(data)


@pytest.mark.parametrize("pad", [b"", b'"' + b"x" * 4_096 + b'",'])
@pytest.mark.parametrize(
    "text",
    [
        b'{"$ref":"c","$id":"i"}',
        b'{"$schema":"s","$date":"2020-01-01T00:00:00Z","a.b":1,"":[-0.0,"-0"]}',
        b'{"a":{"b":1},"c":{"b":2}}',
        b'"a\\u0000b \\u0022 \xee\x80\x80"',
        b"9223372036854775807",
    ],
)
def test_what_bson_can_hold_is_plain_bson_for_other_programs(text: bytes, pad: bytes) -> None:
    assert is_plain(b"[" + pad + text + b"]")


@pytest.mark.parametrize(
    "text", [b'{"a":0,"a":1}', b'{"\\u0000":1}', b'{"\xee\x80\x80":1}', b'[{"b":{"\\uE000":1}}]', b"[-0]"]
)
def test_what_bson_cannot_hold_is_stored_as_its_text(text: bytes) -> None:
    assert to_bson(text, "payload") == Binary(text, TEXT_SUBTYPE)
    assert through_bson(text) == text


def test_binary_data_within_a_value_is_never_a_text() -> None:
    """A text is the whole of a payload or a result; such data within one is another program's."""
    found = documents.record(stored({"a": [Binary(b"{}", TEXT_SUBTYPE)]})).payload
    assert found == b'{"a":["e30="]}'


def of_values(count: int) -> bytes:
    """A list with so many values, the list counted."""
    return b"[" + b",".join([b"0"] * (count - 1)) + b"]"


def spaced(size: int) -> bytes:
    """A list whose text takes so many bytes, nearly all of them white space."""
    return b"[" + b" " * (size - 3) + b"0]"


AROUND = {
    "values": (of_values, MOST_VALUES),
    "objects": (lambda count: b"[" + b",".join([b'{"a":0}'] * (count // 2)) + b"]", MOST_VALUES),
    "strings": (lambda count: b"[" + b",".join([b'"[,\\"{"'] * (count - 1)) + b"]", MOST_VALUES),
    "escapes": (lambda count: b'["' + b"\\n" * count + b'"]', MOST_ESCAPES),
    "structure": (spaced, MOST_STRUCTURE),
    "bytes": (lambda size: b'["' + b"," * (size - 4) + b'"]', MOST_BYTES),
}


@pytest.mark.parametrize("kind", AROUND)
def test_a_list_that_takes_long_to_convert_is_stored_as_its_text(kind: str) -> None:
    make, most = AROUND[kind]
    plain, text = make(most - 1), make(most + 2)
    assert is_plain(plain)
    assert exact(through_bson(plain)) == exact(plain)
    assert to_bson(text, "payload") == Binary(text, TEXT_SUBTYPE)
    assert through_bson(text) == text
    deeper = b'{"a":' + text + b"}"
    assert through_bson(deeper) == deeper


@pytest.mark.parametrize(
    "part",
    [b"a", b",", b"[", b'\\"', b"\\\\", b"\\n", b"\\u0000", b"-0 ", b"1e308,", b"9" * 30, "\ue000".encode()],
)
def test_a_long_string_is_plain_whatever_is_in_it(part: bytes) -> None:
    text = b'"' + part * (MOST_BYTES * 2 // len(part)) + b'"'
    assert is_plain(text)
    assert exact(through_bson(text)) == exact(text)


@pytest.mark.parametrize("part", [b",", b"[", b'\\"' + b"x" * 30, b"-0 ", b"1e308,", b"9" * 30])
def test_what_is_within_strings_is_no_value(part: bytes) -> None:
    text = b'{"a":"' + part * (1_000_000 // len(part)) + b'","b":1}'
    assert is_plain(text)
    assert exact(through_bson(text)) == exact(text)


@pytest.mark.parametrize("item", [b'{"a":0,"a":1}', b'{"\\u0000":1}', b"-0", '{"\ue000":1}'.encode()])
@pytest.mark.parametrize("pad", [b'"' + b"-0.1 " * 200_000 + b'"', b"0" + b",0" * 9_000])
def test_what_bson_cannot_hold_is_found_in_large_values(item: bytes, pad: bytes) -> None:
    for text in (b"[%b,%b]" % (pad, item), b"[%b,%b]" % (item, pad)):
        assert not is_plain(text)
        assert through_bson(text) == text


def test_what_is_stored_as_its_text_keeps_its_integers() -> None:
    integer = b"9223372036854775808"
    plain = b"[" + integer + b",0" * (MOST_VALUES - 2) + b"]"
    with pytest.raises(BadRequest, match=r'"result\.0": MongoDB'):
        to_bson(plain, "result")
    text = b"[" + integer + b",0" * MOST_VALUES + b"]"
    assert through_bson(text) == text


@pytest.mark.parametrize("item", [b"0", b"0.0", b"true", b"[]", b"{}", b'""', b"2147483648"])
def test_bson_takes_little_more_than_json(item: bytes) -> None:
    """A commit of less than the limit by this much is not measured before it is written."""
    text = b"[" + b",".join([item] * ((MOST_VALUES - 1) // (2 if item in {b"[]", b"{}"} else 1))) + b"]"
    assert is_plain(text)
    assert len(bson.encode({"p": to_bson(text, "payload")})) < len(text) + MOST_ADDED


@pytest.mark.parametrize("pad", ["", PAD])
@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("\ue0000", "\\u0000"),
        ("a\ue0000b", "a\\u0000b"),
        ("\ue0001", "\ue000"),
        ("\ue0001json", "\ue000json"),
        ("\ue000x", "\ue000x"),
    ],
)
def test_the_escapes_of_version_0_1_are_read(name: str, meant: str, pad: str) -> None:
    found = documents.record(stored({"o": {name: [{name: pad}]}, "s": name})).payload
    assert found is not None
    escaped = name.encode()
    wanted = f'{{"o":{{"{meant}":[{{"{meant}":"{pad}"}}]}},"s":"'.encode() + escaped + b'"}'
    assert exact(found) == exact(wanted)


@pytest.mark.parametrize("pad", ["", PAD])
def test_equal_names_that_version_0_1_wrote_are_read(pad: str) -> None:
    found = documents.record(stored([{"a": 0, "a\ue0002": 1, "a\ue0002\ue0002": {"$ref": "c", "$id": pad}}]))
    assert found.payload == b'[{"a":0,"a":1,"a":{"$ref":"c","$id":"%s"}}]' % pad.encode()


@pytest.mark.parametrize("digits", [4_299, 4_300])
@pytest.mark.parametrize("sign", [b"", b"-"])
@pytest.mark.parametrize("around", [b"%s", b"[%s]", b'{"a":%s}', b'["%%d", %s]'])
def test_the_longest_integers_are_refused(around: bytes, sign: bytes, digits: int) -> None:
    with pytest.raises(BadRequest, match="64 bits"):
        to_bson(around % (sign + b"9" * digits), "payload")


def test_a_refusal_of_a_large_value_names_the_member_alone() -> None:
    data = b'["' + b"x" * 300_000 + b'",9223372036854775808]'
    with pytest.raises(BadRequest, match='"result": MongoDB'):
        to_bson(data, "result")


@pytest.mark.parametrize(
    "item",
    [
        b'"a":0',
        b'"\\u0061":0',
        b'"\\u0000":0',
        b'"\xee\x80\x80":0',
        b'"\xee\x80\x802":0',
        b'"a":{"a":0,"a":0}',
        b'"$ref":{"$ref":0,"$id":0}',
    ],
)
def test_many_equal_names_take_no_longer_than_others(item: bytes) -> None:
    """With a search for a free name among those that were escaped before, the first takes an hour."""
    for count in (100_000, 3_000):
        data = b"{" + b",".join([item] * count) + b"}"
        assert through_bson(data) == data


@pytest.mark.parametrize("item", [b"1e308", b"5e-324", b"1.5E+300"])
def test_numbers_that_take_long_to_read_are_read_in_another_way(item: bytes) -> None:
    data = b"[" + b",".join([item] * 1_000) + b"]"
    assert exact(through_bson(data)) == exact(data)


def test_names_in_many_levels_are_read_once() -> None:
    inner = b'"' + PAD.encode() * 100 + b'"'
    data = b'{"$ref":{"\\u0000":' * 85 + inner + b"}}" * 85
    assert through_bson(data) == data
    found: Any = PAD * 100
    for _ in range(85):
        found = {"$ref": "c", "$id": {"\ue0000": found}}
    read = documents.record(stored(found)).payload
    assert exact(read) == exact(b'{"$ref":"c","$id":{"\\u0000":' * 85 + inner + b"}}" * 85)


def test_bson_that_another_program_wrote_is_as_if_absent_where_it_cannot_be_read() -> None:
    found = {"_id": bson.ObjectId("5f" * 12), "topic": 5, "state": "x", "scheduled": "soon", "retry": [1]}
    task = documents.record(RawBSONDocument(bson.encode(found), documents.RAW))
    assert (task.id, task.topic, task.state, task.scheduled) == ("5f" * 12, "5", 0, 0)
    assert task.retry is None


def test_a_retry_policy_with_doubles_is_read() -> None:
    found = {"_id": "1", "retry": {"max_attempts": 5.0, "delay": 1e6, "jitter": 0.5, "backoff": None}}
    policy = documents.record(RawBSONDocument(bson.encode(found), documents.RAW)).retry
    assert policy is not None
    assert (policy.max_attempts, policy.delay, policy.jitter) == (5, 1_000_000, 0.5)


FOREIGN = {
    "min": MinKey(),
    "max": MaxKey(),
    "timestamp": Timestamp(1, 2),
    "regex": Regex("a", "i"),
    "code": Code("f()"),
    "scoped": Code("f()", {"a": 1}),
    "id": bson.ObjectId("5f" * 12),
    "decimal": Decimal128("NaN"),
    "bytes": b"ab",
    "old": Binary(b"ab", 2),
    "uuid": Binary(b"a" * 16, 4),
    "own": Binary(b"ab", 128),
    "date": DatetimeMS(0),
    "late": DatetimeMS(2**62),
    "long": Int64(1),
    "nan": float("nan"),
    "infinite": float("-inf"),
}
# The driver no longer writes these three: undefined, a symbol, a pointer to a document.
DEPRECATED = b"\x06u\0" + b"\x0es\0\2\0\0\0s\0" + b"\x0cp\0\2\0\0\0c\0" + b"i" * 12


def with_deprecated(raw: bytes) -> bytes:
    """The document with a member more for each deprecated type."""
    return (len(raw) + len(DEPRECATED)).to_bytes(4, "little") + raw[4:-1] + DEPRECATED + b"\0"


@pytest.mark.parametrize("pad", ["", PAD, "\ue000", "\ue000" + PAD])
def test_every_type_of_bson_is_shown(pad: str) -> None:
    inner = RawBSONDocument(with_deprecated(bson.encode({**FOREIGN, "$ref": "c", "\ue000x": pad, "$id": 1})))
    for payload in (inner, [inner], {"in": [inner, [inner]]}, {"pad": pad, "in": inner}):
        found = documents.record(stored(payload)).payload
        assert found is not None
        for text in (b'"id":"5f5f', b'"bytes":"YWI="', b'"own":"YWI="', b'"date":"1970-', b'"nan":null'):
            assert text in found
        exact(found)


@pytest.mark.parametrize("name", FOREIGN)
def test_every_type_of_bson_as_the_whole_payload(name: str) -> None:
    found = documents.record(stored(FOREIGN[name])).payload
    assert found is not None
    exact(found)
