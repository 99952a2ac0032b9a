"""The threads that extend claims: one for each extension on its way, so that none holds up another."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from ratus.calls.delivery import Delivery
from ratus.calls.sync_connections import Interrupt
from ratus.worker.keeping import EXTENSIONS

_NAME: Final = "ratus-extend"


class ExtensionThreads:
    """Calls `extend` in a thread of its own for each claim that is due; its interrupt ends the request."""

    def __init__(self, extend: Callable[[Delivery, Interrupt], None]) -> None:
        self._extend = extend
        self._running: dict[str, tuple[threading.Thread, Interrupt]] = {}

    def begin(self, delivery: Delivery) -> None:
        """Extend a claim, unless that is on its way already or too many others are."""
        if delivery.nonce in self._running or len(self._running) >= EXTENSIONS:
            return
        interrupt = Interrupt()
        thread = threading.Thread(target=self._run, args=(delivery, interrupt), name=_NAME, daemon=True)
        self._running[delivery.nonce] = (thread, interrupt)
        try:
            thread.start()
        except RuntimeError:  # the system has no thread to spare: tried again at the next tick
            del self._running[delivery.nonce]

    def end(self, seconds: float) -> None:
        """End all extensions under way. Returns after `seconds` at the latest, even if a request hangs."""
        until = time.monotonic() + seconds
        running = list(self._running.values())
        for _, interrupt in running:
            interrupt.cut()
        for thread, _ in running:
            thread.join(max(0.0, until - time.monotonic()))

    def _run(self, delivery: Delivery, interrupt: Interrupt) -> None:
        try:
            self._extend(delivery, interrupt)
        finally:
            del self._running[delivery.nonce]
