"""Keeping the interpreter's memory in order: no long collections, nothing held for no use."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable

# The interpreter collects what is young when there are so many objects more than the last time. A memory
# engine makes one for about forty tasks, and a collection looks at those as well: 8,000 tasks, 0.4 ms.
_YOUNG = 200
# So many times in a row what is young is collected, and not what is of middle age: it is every other time.
_ONCE = 0
# So many times in a row what is of middle age is collected, and not what is old.
_ALWAYS = 2**31 - 1


def keep_collections_short() -> None:
    """To be called once, at the start, where tasks are kept in memory: they are looked at in small portions.

    By default a hundred thousand would be at once, which takes 10 ms, and now and then all of them: 70 ms and
    more with a million. From now on what is old is collected by `tidy` alone.
    """
    gc.set_threshold(_YOUNG, _ONCE, _ALWAYS)


def tidy() -> None:
    """To be called now and then, from the event loop; takes a few milliseconds at the most.

    What lives long is kept away from the garbage collector. Garbage is collected before, so that none of it
    is kept by this. Where collections are kept short, what is old is only looked at where little came since
    the last time, for requests to a memory engine make no circles. Memory that is free is given back to the
    system, which the C library does not do by itself for what lies between things still in use.
    """
    kept_short = gc.get_threshold()[2] == _ALWAYS
    gc.collect(1 if kept_short and gc.get_count()[2] > 1 else 2)
    gc.freeze()
    _trim(0)


def _find_trim() -> Callable[[int], int]:
    """The C library's ``malloc_trim``; where it has none (musl, macOS), nothing is done."""
    try:
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):
        return lambda padding: 0
    return trim


_trim = _find_trim()
