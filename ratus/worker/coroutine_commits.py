"""The task of an asynchronous worker that commits; see `thread_commits`."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TypeAlias

from ratus.calls import requests
from ratus.calls.async_calls import AsyncCalls
from ratus.calls.delivery import AsyncDelivery
from ratus.calls.retrying import Attempts, Repeat
from ratus.core.errors import NotFound, RatusError
from ratus.worker import log
from ratus.worker.commits import (
    FULL,
    LINGER_SECONDS,
    Outcome,
    find_unfit,
    instead,
    is_fatal,
    is_too_much,
    note_lost,
    sort_statuses,
    take_batch,
)
from ratus.worker.keeping import commit_seconds

_Outcome: TypeAlias = Outcome[AsyncDelivery]


class CoroutineCommitter:
    """Commits what handlers leave, for as long as it takes; a server that is away is waited for.

    `on_progress` is called after each batch, `on_fatal` when the server will never take what it is given.
    """

    def __init__(
        self,
        client: AsyncCalls,
        *,
        on_progress: Callable[[], None],
        on_fatal: Callable[[BaseException], None],
    ) -> None:
        self._client = client
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
        """Begin."""
        self._task = asyncio.create_task(self._run(), name="ratus-commits")

    def put(self, outcome: _Outcome) -> None:
        """Commit this soon."""
        self._waiting.append(outcome)
        self._some.set()
        if len(self._waiting) >= FULL:
            self._full.set()

    async def finish(self, seconds: float, enough: asyncio.Event) -> None:
        """Send what is left, for at most so long or until `enough`; what is not sent by then lapses."""
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
        """End now."""
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
                await self._send(self._sending)
                if not self._fatal:
                    self._sending = []
                self._on_progress()
            if self._finishing:
                return

    async def _send(self, batch: list[_Outcome]) -> None:
        fenced = [outcome for outcome in batch if not outcome.forced]
        for outcome in batch:
            if outcome.forced:
                await self._send_forced(outcome)
        client = self._client
        failures = 0
        attempts = Attempts(Repeat.NEVER, 0, client._backoff)
        while fenced and not self._fatal:
            request = requests.commit_statuses([outcome.item for outcome in fenced])
            claims = (outcome.delivery for outcome in fenced)
            patience = commit_seconds(claims, time.monotonic(), client._request_seconds)
            try:
                statuses = await client._call(request, attempts, patience=patience)
                done, refused, again = sort_statuses(fenced, statuses)
            except RatusError as error:
                if is_too_much(error):
                    await self._divide(fenced, error)
                    return
                if is_fatal(error) or client._closed:
                    self._on_fatal(error)
                    self._fatal = True
                    return
                if failures == 0:
                    log.warning("outcomes cannot be committed, trying again: %s", error)
                failures += 1
                await asyncio.sleep(client._backoff.pause(failures))
                continue
            for outcome in done:
                outcome.delivery._done()
            for outcome, reason in refused:
                await self._examine(outcome, reason, lost_answer=attempts.lost)
            for outcome, reason in find_unfit(fenced, statuses):
                await self._replace(outcome, reason)
            fenced = again
            if again:
                failures += 1
                await asyncio.sleep(client._backoff.pause(failures))

    async def _divide(self, batch: list[_Outcome], error: RatusError) -> None:
        """A batch was refused as a whole: find the commit that is the reason."""
        if len(batch) > 1:
            middle = len(batch) // 2
            await self._send(batch[:middle])
            await self._send(batch[middle:])
            return
        (outcome,) = batch
        await self._replace(outcome, error.message)

    async def _replace(self, outcome: _Outcome, reason: str) -> None:
        """One commit was refused for what it holds."""
        other = instead(outcome, reason)
        if other is not None:
            await self._send([other])

    async def _examine(self, outcome: _Outcome, reason: str, *, lost_answer: bool) -> None:
        """One commit was refused; after a lost answer it may be the second of two that meant the same."""
        delivery = outcome.delivery
        try:
            if lost_answer and await delivery._find() is not None:
                delivery._done()
                return
        except RatusError as error:
            log.warning("what became of task %r could not be found out: %s", delivery.id, error)
        note_lost(delivery, reason)

    async def _send_forced(self, outcome: _Outcome) -> None:
        """A commit without a nonce must not be sent twice, so it goes alone."""
        delivery = outcome.delivery
        try:
            await delivery.commit()
        except NotFound as error:
            note_lost(delivery, error.message)
        except RatusError as error:
            if is_too_much(error):
                await self._replace(outcome, error.message)
                return
            log.error("the forced commit of task %r failed: %s", delivery.id, error)
