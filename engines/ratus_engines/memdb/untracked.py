"""Takes lists of tasks out of the work of the garbage collector.

`ordered` calls ``untrack`` for each list in which it keeps tasks. Without that, a full collection would walk
through all tasks in memory while requests wait.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any


def _find_untrack() -> Callable[[list[Any]], None]:
    """CPython's ``PyObject_GC_UnTrack``, or on another interpreter a function that does nothing."""
    try:
        function = ctypes.pythonapi.PyObject_GC_UnTrack
    except AttributeError:
        return lambda tasks: None
    function.argtypes = (ctypes.py_object,)
    function.restype = None
    return function


untrack = _find_untrack()
"""Keep the garbage collector from looking into this list from now on. Only for a list that will hold nothing
but tasks or lanes for as long as it lives.

That is safe: the collector is needed for cycles of references only, and neither a task nor a lane refers to a
list that it is in (for the same reason the collector does not look into a `TaskRecord` or a `Lane` either).
Looking into lists of a million tasks takes the collector 70 ms, most of it waiting for memory. A call takes
half a microsecond, which is little for a list of many tasks, but would be much for every task."""
