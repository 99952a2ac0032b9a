"""Closes the sockets that the driver forgets.

The driver closes a socket whose connect fails or takes too long, but not one whose connect is cancelled: by a
probe that runs out of time, by a request whose client went away, or because the engine is closed while the
driver connects to a member. Such a socket stays open until it is collected as garbage, which may be never.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import traceback
from typing import Any

from pymongo import pool_shared

# The driver's function that connects. A test fails for a version of the driver without it.
_CONNECT = "_async_create_connection"


def close_when_cancelled() -> None:
    """From now on, have every connect of the driver close its socket when it is cancelled."""
    connect = getattr(pool_shared, _CONNECT, None)
    if connect is None or hasattr(connect, "__wrapped__"):
        return

    @functools.wraps(connect)
    async def closing(*arguments: Any) -> Any:
        try:
            return await connect(*arguments)
        except asyncio.CancelledError as cancelled:
            for frame, _ in traceback.walk_tb(cancelled.__traceback__):
                if frame.f_code is connect.__code__:
                    _close(frame.f_locals.get("sock"))
            raise

    setattr(pool_shared, _CONNECT, closing)


def _close(found: object) -> None:
    if isinstance(found, socket.socket):
        found.close()
