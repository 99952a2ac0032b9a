"""Help for testing programs that use Ratus.

- `RatusServer`: a real server within the test's process, on a free port, in memory, with a clock that the
  test moves.
- `AppTesting`: the same for an `App`, whose tasks run when the test says; made by `App.testing`.
- `ratus.testing.fixtures`: these as fixtures of pytest, `ratus_server`, `ratus_client` and `ratus_testing`.
- `ManualClock`: that clock by itself, for tests that build the server from its parts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ratus.testing.clock import START, ManualClock, ManualTimer

if TYPE_CHECKING:
    from ratus.testing.apps import AppTesting
    from ratus.testing.server import RatusServer

__all__ = ["START", "AppTesting", "ManualClock", "ManualTimer", "RatusServer"]


def __getattr__(name: str) -> Any:
    # Imported late: a test that only needs the clock should not wait for the import of the whole server.
    if name == "RatusServer":
        from ratus.testing.server import RatusServer

        return RatusServer
    if name == "AppTesting":
        from ratus.testing.apps import AppTesting

        return AppTesting
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
