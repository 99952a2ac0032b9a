"""The orders do what `sorted` does."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ratus_engines.memdb import ordered
from ratus_engines.memdb.ordered import ByCreation, ByTime

from ratus.core.records import TaskRecord

# A few chunks of few tasks are as good as many of many.
CHUNKS = st.integers(1, 5)
SEQUENCES = st.integers(1, 40)
# Times are few, so that many tasks have the same.
TIMES = st.integers(-3, 3)
WHAT = st.sampled_from(["add", "add", "remove", "replace"])


def task(sequence: int, time: int = 0) -> TaskRecord:
    return TaskRecord(str(sequence), "topic", 0, time, sequence=sequence)


def by_creation(tasks: dict[int, TaskRecord]) -> list[TaskRecord]:
    return [tasks[sequence] for sequence in sorted(tasks)]


def by_time(tasks: dict[int, TaskRecord]) -> list[TaskRecord]:
    return sorted(tasks.values(), key=lambda task: (task.scheduled, task.sequence))


def check_creation(found: ByCreation[TaskRecord], tasks: dict[int, TaskRecord], probes: range) -> None:
    right = by_creation(tasks)
    assert len(found) == len(right)
    assert found.first() is (right[0] if right else None)
    for probe in probes:
        assert found.after(probe, 3) == [task for task in right if task.sequence > probe][:3]
    for count in (0, 1, 5, len(right), len(right) + 1):
        assert found.after(None, count) == right[:count]


def _same(number: float) -> float:
    return number


def check_time(found: ByTime[TaskRecord], tasks: dict[int, TaskRecord], probes: range) -> None:
    right = by_time(tasks)
    assert len(found) == len(right)
    assert found.first() is (right[0] if right else None)
    for probe in probes:
        until = [task for task in right if task.scheduled <= probe]
        assert found.until(probe) == len(until)
        assert found.first_until(probe) is (until[0] if until else None)
        later = [task.scheduled for task in right if task.scheduled > probe]
        assert found.first_after(probe) == (later[0] if later else None)
        for count in (1, 3, len(right) + 1):
            assert found.head(count, probe) == until[:count]
            assert found.tail(count, probe) == until[::-1][:count]
            for chance in (0.0, 0.5, 0.999):
                some = {task.sequence for task in found.sample(count, probe, partial(_same, chance))}
                assert min(1, len(until)) <= len(some) <= count
                assert some <= {task.sequence for task in until}
                assert len(some) == len(until) or count <= len(until)
    assert found.first_time() == (right[0].scheduled if right else None)
    assert all(found.has(task.scheduled, task) for task in right[:50])
    assert not any(found.has(task.scheduled + 1, task) for task in right[:50])


def emptied(found: ByTime[TaskRecord]) -> list[TaskRecord]:
    """All tasks, as they come when the first is taken again and again."""
    tasks = []
    while (first := found.first()) is not None:
        found.remove(first.scheduled, first)
        tasks.append(first)
    return tasks


@given(steps=st.lists(st.tuples(WHAT, SEQUENCES)), chunk=CHUNKS)
def test_order_of_creation(steps: list[tuple[str, int]], chunk: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ordered, "CHUNK", chunk)
        found: ByCreation[TaskRecord] = ByCreation()
        tasks: dict[int, TaskRecord] = {}
        for what, sequence in steps:
            new = task(sequence)
            if what == "add":
                if sequence not in tasks:
                    tasks[sequence] = new
                    found.add(new)
            elif sequence not in tasks:
                with pytest.raises(KeyError):
                    found.remove(new) if what == "remove" else found.replace(new)
            elif what == "remove":
                found.remove(tasks.pop(sequence))
            else:
                tasks[sequence] = new
                found.replace(new)
            check_creation(found, tasks, range(0, 42, 7))
        check_creation(found, tasks, range(42))


@given(steps=st.lists(st.tuples(st.booleans(), SEQUENCES, TIMES)), chunk=CHUNKS)
def test_order_of_time(steps: list[tuple[bool, int, int]], chunk: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ordered, "CHUNK", chunk)
        found: ByTime[TaskRecord] = ByTime()
        tasks: dict[int, TaskRecord] = {}
        for add, sequence, time in steps:
            if add:
                if sequence not in tasks:
                    tasks[sequence] = task(sequence, time)
                    found.add(time, tasks[sequence])
            elif sequence not in tasks:
                # Neither one that is not there nor one that has the time and place of nobody is found.
                assert not found.discard(time, task(sequence, time))
                with pytest.raises(KeyError):
                    found.remove(time, task(sequence, time))
            else:
                gone = tasks.pop(sequence)
                assert not found.discard(gone.scheduled, task(sequence, gone.scheduled))  # a twin is not it
                assert found.discard(gone.scheduled, gone)
            check_time(found, tasks, range(-4, 5))
        assert emptied(found) == by_time(tasks)


ORDERS: dict[str, Callable[[list[int]], None]] = {
    "ascending": list.sort,
    "descending": lambda numbers: numbers.sort(reverse=True),
    "random": Random(1).shuffle,
}


@pytest.mark.parametrize("order", ORDERS)
def test_many_by_creation(order: str) -> None:
    sequences = list(range(1, 10_001))
    ORDERS[order](sequences)
    found: ByCreation[TaskRecord] = ByCreation()
    tasks = {sequence: task(sequence) for sequence in sequences}
    for added in tasks.values():
        found.add(added)
    probes = range(-1, 10_002, 997)
    check_creation(found, tasks, probes)
    for sequence in sequences[::3] + sequences[1::3]:
        found.remove(tasks.pop(sequence))
    check_creation(found, tasks, probes)
    for sequence in sequences[2::3]:
        found.remove(tasks.pop(sequence))
    check_creation(found, {}, probes)


@pytest.mark.parametrize("same", [1, 10, 5000], ids="{} of a time".format)
@pytest.mark.parametrize("order", ORDERS)
def test_many_by_time(order: str, same: int) -> None:
    sequences = list(range(1, 10_001))
    ORDERS[order](sequences)
    found: ByTime[TaskRecord] = ByTime()
    tasks = {sequence: task(sequence, sequence // same) for sequence in sequences}
    for added in tasks.values():
        found.add(added.scheduled, added)
    probes = range(-1, 10_002 // same, 1 + 997 // same)
    check_time(found, tasks, probes)
    for sequence in sequences[::3] + sequences[1::3]:
        gone = tasks.pop(sequence)
        found.remove(gone.scheduled, gone)
    check_time(found, tasks, probes)
    assert emptied(found) == by_time(tasks)


def test_after_gives_a_copy() -> None:
    found: ByCreation[TaskRecord] = ByCreation()
    tasks = [task(sequence) for sequence in range(1, 10)]
    for added in tasks:
        found.add(added)
    part = found.after(None, 5)
    found.remove(tasks[2])
    assert part == tasks[:5]
