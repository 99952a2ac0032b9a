"""JSON texts with what BSON, the driver and MongoDB have names for, in many spellings and sizes."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st
from ratus_engines.mongodb.payloads import MOST_VALUES

# From 4 KiB on the driver hands out views of a document, not copies.
SIZES = (0, 4_000, 4_060, 4_096, 5_000, 70_000)

# All that extended JSON or a driver makes something of, what escapes are made of, and what MongoDB evaluates.
NAMES = [
    *("$ref", "$id", "$db", "$date", "$oid", "$numberLong", "$numberInt", "$numberDouble", "$numberDecimal"),
    *(
        "$binary",
        "$type",
        "$uuid",
        "$code",
        "$scope",
        "$regularExpression",
        "$regex",
        "$options",
        "$timestamp",
    ),
    *("$minKey", "$maxKey", "$undefined", "$symbol", "$dbPointer", "$literal", "$add", "$set", "$$ROOT", "$"),
    *("", ".", "..", "a.b", "_id", "0", "1", "a", "b", "\0", "a\0", "a\0b", '"', "\\", "\ufffd", "__proto__"),
    *("\ue000", "\ue0000", "\ue0001", "\ue0002", "a\ue0002", "\ue000json", "\ue000\0", "ü", "\U0001f600"),
]
TEXTS = [
    *(
        "",
        "c",
        "i",
        "2020-01-01T00:00:00Z",
        "5f5f5f5f5f5f5f5f5f5f5f5f",
        "NaN",
        "$topic",
        "$$ROOT",
        "-0",
        '"-0"',
    ),
    *("\0", "a\0b", "\ue000", "{}", "[1", '{"a": 1}', '"', '\\"', "\\u0000", "\u2028", "\U0001f600", "1e300"),
]
NUMBERS = [
    *(
        "0",
        "-0",
        "0.0",
        "-0.0",
        "-0e5",
        "1",
        "1.0",
        "1e0",
        "1E5",
        "-1",
        "0.1",
        "1e22",
        "1e23",
        "1e-400",
        "-1e-400",
    ),
    *("2147483647", "2147483648", "-2147483648", "-2147483649", "9007199254740993", "5e-324", "1.7e308"),
    *("9223372036854775807", "-9223372036854775808", "9223372036854775808.0", "0.1234567890123456789"),
    *("1e0000000000000000000001", "1e-00000000000000000000001", "-123456789012345678901.5e3"),
]


def spelled(text: str, way: int) -> str:
    """A string in JSON: as short as can be, in ASCII, or with every character escaped."""
    if way < 2:
        return json.dumps(text, ensure_ascii=bool(way))
    units = text.encode("utf-16-be")
    return '"' + "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2)) + '"'


strings = st.builds(spelled, st.sampled_from(TEXTS) | st.text(max_size=6), st.integers(0, 2))
names = st.builds(spelled, st.sampled_from(NAMES) | st.text(max_size=3), st.integers(0, 2))
numbers = (
    st.sampled_from(NUMBERS)
    | st.integers(-(2**63), 2**63 - 1).map(str)
    | st.floats(allow_nan=False, allow_infinity=False).map(json.dumps)
)
commas = st.sampled_from([",", ", ", " ,\n\t"])
colons = st.sampled_from([":", ": ", "\n:"])

# An object that the driver would take for a reference, whatever else is in it.
references = st.permutations(['"$ref":"c"', '"$id":1', '"b":{"$ref":"d","$id":[]}', '"$db":"x"']).map(
    lambda members: "{" + ",".join(members) + "}"
)
values = st.recursive(
    st.sampled_from(["null", "true", "false", "[]", "{}"]) | strings | numbers | references,
    lambda inner: (
        st.builds(lambda comma, items: f"[{comma.join(items)}]", commas, st.lists(inner, max_size=4))
        | st.builds(
            lambda comma, colon, pairs: (
                "{" + comma.join(f"{name}{colon}{each}" for name, each in pairs) + "}"
            ),
            commas,
            colons,
            st.lists(st.tuples(names, inner), max_size=4),
        )
    ),
    max_leaves=10,
)


def padded(text: str, size: int, place: int) -> bytes:
    """The value made larger: behind or before a string of that size, in a list or an object."""
    if not size:
        return text.encode()
    pad = '"' + "x" * size + '"'
    return (
        f"[{text},{pad}]",
        f"[{pad},{text}]",
        f'{{"q":{text},"pad":{pad}}}',
        f'{{"pad":{pad},"q":{text}}}',
    )[place].encode()


# ``null`` as a whole means that there is none.
payloads = st.builds(
    padded, values.filter(lambda text: text != "null"), st.sampled_from(SIZES), st.integers(0, 3)
)

# What is large to `ratus_engines.mongodb.payloads`, so low that small texts are on either side of it.
limits = st.just({"MOST_VALUES": MOST_VALUES}) | st.fixed_dictionaries(
    {
        "_SHORT": st.sampled_from([0, 8, 40]),
        "MOST_VALUES": st.integers(1, 12),
        "MOST_ESCAPES": st.sampled_from([0, 2, 1_000]),
        "MOST_STRUCTURE": st.sampled_from([4, 12, 5_000]),
        "MOST_BYTES": st.sampled_from([12, 40, 6_000]),
    }
)


def exact(text: bytes | None) -> Any:
    """What a JSON text means: strings, structure, order, equal names, integers by their digits, doubles."""
    if text is None:
        return "nothing"
    return json.loads(
        text,
        object_pairs_hook=lambda pairs: ("object", tuple(pairs)),
        parse_int=lambda digits: ("integer", digits),
        parse_float=lambda digits: ("double", float(digits).hex()),
    )
