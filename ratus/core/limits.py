"""Bounds that are part of the contract: the same for the server, its clients and the specification."""

from __future__ import annotations

from typing import Final

MAX_NAME_BYTES: Final = 1_024
"""The longest id or topic, in bytes of UTF-8; long enough for any URL that is worth queueing."""

MAX_TOPICS: Final = 1_000
"""Topics in one claim at most; each may cost a look."""

MIN_PRIORITY: Final = -9
MAX_PRIORITY: Final = 9
"""Few enough levels for a claim to look at the head of each."""

MAX_ATTEMPTS: Final = 2**31 - 1
"""More attempts than anybody makes, and few enough for every database's integer."""
