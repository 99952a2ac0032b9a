"""The sorted map does what a dict and `sorted` do."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ratus_engines.memdb import ordered
from ratus_engines.memdb.ordered import SortedMap

KEYS = st.integers(-30, 30)
STEPS = st.lists(st.tuples(st.sampled_from(["add", "remove", "replace"]), KEYS, st.text(max_size=2)))


def check(found: SortedMap[str], right: dict[int, str], keys: range) -> None:
    """Compare everything that can be asked."""
    order = sorted(right)
    assert len(found) == len(right)
    assert list(found) == [right[key] for key in order]
    assert found.first() == (right[order[0]] if order else None)
    for key in keys:
        assert found.rank(key) == sum(other < key for other in order)
        assert found.after(key, 3) == [right[other] for other in order if other > key][:3]
    for count in (0, 1, 5, len(order), len(order) + 1):
        assert found.after(None, count) == [right[other] for other in order][:count]


def apply(found: SortedMap[str], right: dict[int, str], what: str, key: int, value: str) -> None:
    """Do the same to both."""
    if what == "add":
        if key not in right:
            right[key] = value
            found.add(key, value)
    elif key not in right:
        with pytest.raises(KeyError):
            found.remove(key) if what == "remove" else found.replace(key, value)
    elif what == "remove":
        assert found.remove(key) == right.pop(key)
    else:
        right[key] = value
        found.replace(key, value)


@given(steps=STEPS, chunk=st.integers(1, 5))
def test_it_does_what_a_sorted_dict_does(steps: list[tuple[str, int, str]], chunk: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ordered, "CHUNK", chunk)  # so that a few keys are many chunks
        found: SortedMap[str] = SortedMap()
        right: dict[int, str] = {}
        for step in steps:
            apply(found, right, *step)
            check(found, right, range(-31, 32, 7))
        check(found, right, range(-31, 32))


@pytest.mark.parametrize("order", ["ascending", "descending", "random"])
def test_many_keys(order: str) -> None:
    keys = list(range(0, 20_000, 2))
    if order == "descending":
        keys.reverse()
    elif order == "random":
        Random(1).shuffle(keys)
    found: SortedMap[str] = SortedMap()
    right = {key: str(key) for key in keys}
    for key, value in right.items():
        found.add(key, value)
    probes = range(-1, 20_002, 997)
    check(found, right, probes)
    for key in keys[::3] + keys[1::3]:
        apply(found, right, "remove", key, "")
    check(found, right, probes)
    for key in keys[2::3]:
        apply(found, right, "remove", key, "")
    check(found, {}, probes)


def test_after_gives_a_copy() -> None:
    found: SortedMap[str] = SortedMap()
    for key in range(10):
        found.add(key, str(key))
    part = found.after(None, 5)
    found.remove(2)
    assert part == ["0", "1", "2", "3", "4"]
