"""Tuning of the garbage collector: short collections, and free memory given back to the system."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable

# The three thresholds of `gc.set_threshold`. The young generation is collected when there are this many
# tracked objects more than after the last collection. A memory engine makes one for about forty tasks, and a
# collection looks at those tasks as well: 8,000 tasks, 0.4 ms.
_YOUNG = 200
# How many collections of the young generation go by without one of the middle generation; with 0, every other
# collection is of both.
_ONCE = 0
# How many collections of the middle generation go by without one of the old generation: it is left to `Trim`.
_ALWAYS = 2**31 - 1

# How many objects of the old generation every round may look at: some 6 ms. Tasks in memory are not among
# them. About 2,000 connections make so many objects, or 1,000 connections with polls.
_AT_ONCE = 30_000
# Rounds after which frozen objects are looked at, too: once an hour, at ten seconds a round. With many
# objects that takes longer and is done more rarely, after one round for each `_A_ROUND_EACH` frozen objects:
# a million takes 0.2 s, every 28 hours.
_EVERYTHING = 360
_A_ROUND_EACH = 100


def tune_collector() -> None:
    """Set the collector's thresholds for a process that keeps tasks in memory. To be called once, at start.

    Each collection then looks at few tasks. With Python's defaults it would look at a hundred thousand at
    once, which takes 10 ms, and now and then at all of them. From now on the old generation is collected by
    `Trim` alone.
    """
    gc.set_threshold(_YOUNG, _ONCE, _ALWAYS)


class Trim:
    """Collects garbage and gives free memory back to the system, once a call.

    To be called after loading and then with every round of chores, from the event loop; a call takes a few
    milliseconds. The first call freezes what was loaded (`gc.freeze`): later collections do not look at it.
    Each later call collects garbage of every generation. If it has looked at many objects, it freezes those
    as well, so that the next calls do not look at them again. After a number of such rounds all objects are
    unfrozen and looked at once, so that none that became garbage is kept for ever.

    The C library does not give back by itself the free memory between blocks that are still in use, so each
    call ends with ``malloc_trim``.
    """

    def __init__(self) -> None:
        self._started = False
        self._more_than_loaded = False  # whether more is frozen than what was loaded
        self._rounds = 0  # since everything was looked at

    def __call__(self) -> None:
        """Run one round."""
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
    """The C library's ``malloc_trim``, or where it has none (musl, macOS) a function that does nothing."""
    try:
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):
        return lambda padding: 0
    return trim


_trim = _find_trim()
