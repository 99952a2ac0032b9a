"""The HTTP/1.1 server: limits against slow, silent and oversized clients, and an orderly start and stop.

``run`` serves an ASGI application and its service until a signal ends it; ``ConnectionLimits`` holds every
limit of a connection; ``Connection`` is what the application may learn about its peer.
"""

from __future__ import annotations

from ratus.server.connection import Connection
from ratus.server.connection_limits import ConnectionLimits
from ratus.server.lifecycle import LifecycleHooks, run

__all__ = ["Connection", "ConnectionLimits", "LifecycleHooks", "run"]
