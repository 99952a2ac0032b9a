"""Bounds that are part of the contract: the same for the server, its clients and the specification."""

from __future__ import annotations

from typing import Final

MAX_NAME_BYTES: Final = 1_024
"""The longest id or topic, in bytes of UTF-8; long enough for any URL that is worth queueing."""

MAX_TOPICS: Final = 1_000
"""The most topics in one claim: an engine may have to look into each."""

MIN_PRIORITY: Final = -9
MAX_PRIORITY: Final = 9
"""The lowest and the highest priority: few enough levels for a claim to look at the head of each."""

MAX_ATTEMPTS: Final = 2**31 - 1
"""The largest number of attempts: it fits the 32-bit integers that every database has."""

MAX_SCHEDULE_NAME_BYTES: Final = 900
"""The longest name of a schedule, in bytes of UTF-8: with the time of a tick it makes the id of a task."""
