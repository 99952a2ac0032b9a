"""Chooses between the atomic form of an operation, which a sharded deployment may refuse, and another one."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from pymongo.errors import OperationFailure

from ratus_engines.mongodb.errors import FALLBACK_CODES

logger = logging.getLogger("ratus.engines.mongodb")

Result = TypeVar("Result")

# The operation that `--mongodb-disable-atomic-poll` is about.
POLL = "poll"


class Fallbacks:
    """Remembers for each operation that its atomic form was refused.

    ``automatic``: whether to try the other form then. ``atomic_poll``: whether polls try the atomic form.
    """

    def __init__(self, *, automatic: bool, atomic_poll: bool) -> None:
        self._automatic = automatic
        self.refused: set[str] = set() if atomic_poll else {POLL}

    async def run(
        self, operation: str, atomic: Callable[[], Awaitable[Result]], other: Callable[[], Awaitable[Result]]
    ) -> Result:
        """The result of the atomic form, or of the other one where the deployment refuses the atomic one.

        Raises what these raise; without ``automatic``, the refusal as well.
        """
        if operation not in self.refused:
            try:
                return await atomic()
            except OperationFailure as error:
                if not self._automatic or error.code not in FALLBACK_CODES:
                    raise
                self.refused.add(operation)
                logger.info(
                    "MongoDB refuses %s as one atomic operation (code %s): from now on it takes two",
                    operation,
                    error.code,
                )
        return await other()
