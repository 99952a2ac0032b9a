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

# So many objects may be looked at with every round: some 6 ms. Tasks in memory are not among them, but 2,000
# connections are, or the polls of 1,000.
_AT_ONCE = 30_000
# After so many rounds everything is looked at: once an hour, at ten seconds a round. With more objects it
# takes longer and happens more rarely, a round for each so many: a million takes 0.2 s, every 28 hours.
_EVERYTHING = 360
_A_ROUND_EACH = 100


def tune_collector() -> None:
    """To be called once, at the start, where tasks are kept in memory: they are looked at in small portions.

    By default a hundred thousand would be at once, which takes 10 ms, and now and then all of them. From now
    on what is old is collected by `Trim` alone.
    """
    gc.set_threshold(_YOUNG, _ONCE, _ALWAYS)


class Trim:
    """To be called at the start and then now and then, from the event loop; takes a few milliseconds.

    What was loaded for the start is put out of the collector's sight for good. Afterwards every call collects
    garbage of every age. Where much lives, what has just been looked at is put out of sight as well, so that
    the next calls do not look at it again, and every now and then it is all brought back: nothing that became
    garbage since is kept for ever. Memory that is free is given back to the system, which the C library does
    not do by itself for what lies between things still in use.
    """

    def __init__(self) -> None:
        self._started = False
        self._more_than_loaded = False
        self._rounds = 0  # since everything was looked at

    def __call__(self) -> None:
        """Collect, see above."""
        self._rounds += 1
        if self._more_than_loaded and self._rounds >= max(
            _EVERYTHING, gc.get_freeze_count() // _A_ROUND_EACH
        ):
            gc.unfreeze()
            self._more_than_loaded = False
            self._rounds = 0
        gc.collect()
        if not gc.get_freeze_count():  # the start, or everything has just been looked at
            gc.freeze()
            self._more_than_loaded, self._started = self._started, True
        elif len(gc.get_objects(generation=2)) > _AT_ONCE:
            gc.freeze()
            self._more_than_loaded = True
        _trim(0)


def _find_trim() -> Callable[[int], int]:
    """The C library's ``malloc_trim``; where it has none (musl, macOS), nothing is done."""
    try:
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):
        return lambda padding: 0
    return trim


_trim = _find_trim()
