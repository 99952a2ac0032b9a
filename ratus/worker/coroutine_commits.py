"""The task of an asynchronous worker that commits; see `thread_commits`."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TypeAlias

from ratus.calls.async_calls import AsyncCalls
from ratus.calls.delivery import AsyncDelivery
from ratus.worker import log
from ratus.worker.commits import FULL, LINGER_SECONDS, Outcome, take_batch
from ratus.worker.sending import BatchSender

_Outcome: TypeAlias = Outcome[AsyncDelivery]


class CoroutineCommitter:
    """Commits the outcomes that `put` is given. While the server is away it tries again, until `give_up`.

    `on_progress` is called after each batch; `on_fatal` with an error after which no batch can be committed,
    such as a refused token.
    """

    def __init__(
        self,
        client: AsyncCalls,
        *,
        on_progress: Callable[[], None],
        on_fatal: Callable[[BaseException], None],
    ) -> None:
        self._client = client
        self._sender: BatchSender[AsyncDelivery] = BatchSender(
            client, is_ended=lambda: self._fatal, on_fatal=self._end
        )
        self._on_progress = on_progress
        self._on_fatal = on_fatal
        self._waiting: deque[_Outcome] = deque()
        self._sending: list[_Outcome] = []
        self._some = asyncio.Event()
        self._full = asyncio.Event()
        self._finishing = False
        self._fatal = False
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        """How many outcomes wait to be sent."""
        return len(self._waiting)

    def start(self) -> None:
        """Start the task that commits."""
        self._task = asyncio.create_task(self._run(), name="ratus-commits")

    def put(self, outcome: _Outcome) -> None:
        """Have an outcome committed with the next batch. Returns at once."""
        self._waiting.append(outcome)
        self._some.set()
        if len(self._waiting) >= FULL:
            self._full.set()

    async def finish(self, seconds: float, enough: asyncio.Event) -> None:
        """Send what is left, for at most `seconds` or until `enough` is set; then give up.

        The claims of outcomes that were not sent lapse at their deadlines; their number is logged.
        """
        assert self._task is not None, "it was started"
        self._finishing = True
        self._full.set()
        self._some.set()
        interrupted = asyncio.ensure_future(enough.wait())
        try:
            await asyncio.wait(
                {self._task, interrupted}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            interrupted.cancel()
            self.give_up()
        await asyncio.wait({self._task}, timeout=seconds)
        if left := len(self._waiting) + len(self._sending):
            log.warning("stopped with %d outcomes uncommitted; their tasks will run again", left)

    def give_up(self) -> None:
        """Cancel the task that commits, and with it the request under way."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        try:
            await self._commit_all()
        except Exception as error:
            # A worker that does not commit must not go on claiming.
            self._on_fatal(error)

    async def _commit_all(self) -> None:
        while not self._fatal:
            await self._some.wait()
            if not self._finishing:
                with suppress(TimeoutError):
                    async with asyncio.timeout(LINGER_SECONDS):
                        await self._full.wait()
            self._some.clear()
            self._full.clear()
            while self._waiting and not self._fatal:
                self._sending = take_batch(self._waiting)
                await self._client._run(self._sender.send(self._sending))
                if not self._fatal:
                    self._sending = []
                self._on_progress()
            if self._finishing:
                return

    def _end(self, error: BaseException) -> None:
        self._on_fatal(error)
        self._fatal = True
