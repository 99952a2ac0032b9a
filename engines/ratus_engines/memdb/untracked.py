"""Lists of tasks, out of the sight of the garbage collector."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

from ratus.core.records import TaskRecord


def _find_untrack() -> Callable[[list[TaskRecord]], None]:
    """The interpreter's own ``PyObject_GC_UnTrack``; where it is not to be had, the lists stay in sight."""
    try:
        function = ctypes.pythonapi.PyObject_GC_UnTrack
    except AttributeError:
        return lambda tasks: None
    function.argtypes = (ctypes.py_object,)
    function.restype = None
    return function


untrack = _find_untrack()
"""Keep the collector from looking at a list that holds tasks alone, now and ever.

A task holds nothing that could hold the list (`TaskRecord` is not looked at either), so it is no part of a
circle. Looking at a million tasks takes the collector 70 ms, most of it waiting for memory. A call takes half
a microsecond, which is little for a chunk, but not for every task."""
