"""Keeping the interpreter's memory in order: no long collections, nothing held for no use."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable

# So many times in a row what is young is collected, which takes a millisecond, and not what is old.
_ALWAYS = 2**31 - 1
# So many times what survived was put to the old: some 40,000 objects, which take 3 ms.
_FEW = 5


def keep_collections_short() -> None:
    """To be called once, at the start: from then on what is old is collected by `tidy` alone.

    With a million tasks that would take 70 ms and more.
    """
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, _ALWAYS)


def tidy() -> None:
    """To be called now and then, from the event loop; takes a few milliseconds at the most.

    What lives long is kept away from the garbage collector. Garbage is collected before, so that none of it
    is kept by this; of the old objects only where few came since the last time, for the server makes hardly
    any circles that get old. Memory that is free is given back to the system, which the C library does not
    do by itself for what lies between things still in use.
    """
    gc.collect(2 if gc.get_count()[2] <= _FEW else 1)
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
