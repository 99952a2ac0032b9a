"""Tasks by id: what a dictionary does, in parts that are small and alike."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ratus_engines.memdb.by_id import PARTS, ById

from ratus.core.records import TaskRecord


def task(task_id: str) -> TaskRecord:
    return TaskRecord(task_id, "topic", 0, 0)


@given(
    st.lists(st.tuples(st.sampled_from(["add", "put", "remove"]), st.sampled_from(["", "a", "b", "é", "\0"])))
)
def test_it_does_what_a_dictionary_does(steps: list[tuple[str, str]]) -> None:
    found, right = ById(), dict[str, TaskRecord]()
    for what, task_id in steps:
        one = task(task_id)
        if what == "put":
            found.put(one)
            right[task_id] = one
        elif what == "add":
            assert found.add(one) is (task_id not in right)
            right.setdefault(task_id, one)
        elif task_id in right:
            found.remove(one)
            del right[task_id]
        else:
            with pytest.raises(KeyError):
                found.remove(one)
        for each in ("", "a", "b", "é", "\0"):
            assert found.get(each) is right.get(each)


def test_parts_stay_small_and_do_not_collide() -> None:
    found = ById()
    for number in range(100 * PARTS):
        found.put(task(f"task-{number}"))
    sizes = [len(part) for part in found._parts]
    assert sum(sizes) == 100 * PARTS
    # 100 on average, with a standard deviation of 10.
    assert min(sizes) > 30
    assert max(sizes) < 170
    # A dictionary begins its search at the low bits of the hash. Sixteen values for a hundred ids.
    for part in found._parts[:16]:
        assert len({hash(task_id) & 15 for task_id in part}) > 8
