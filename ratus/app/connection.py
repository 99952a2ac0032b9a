"""How an app reaches its tasks: on a server, by one client for all threads and one for all event loops."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, Final

from ratus.app.background import Background, Settled
from ratus.calls import requests
from ratus.calls.inputs import DurationLike, json_bytes
from ratus.calls.steps import SETTLED, Steps, call, insert_items, wait_for_task
from ratus.client import AsyncClient, Client
from ratus.core.errors import Conflict
from ratus.core.models import Task, TaskState

CANCELLED: Final = "cancelled"
"""The `error` of a task that was cancelled."""

_CANCEL_SECONDS: Final = 10.0
"""Seconds for which a pending task is claimed while it is being cancelled."""

_CANCEL_ATTEMPTS: Final = 10
"""How often a task may change hands while it is being cancelled."""


class Connection(ABC):
    """Where the tasks of an app are."""

    @abstractmethod
    def insert(self, items: Iterable[bytes]) -> None:
        """Insert tasks, each as JSON; those whose id exists are passed over."""

    @abstractmethod
    async def insert_async(self, items: Iterable[bytes]) -> None:
        """As `insert`, on whatever event loop."""

    @abstractmethod
    def get(self, task_id: str) -> Task:
        """A task as it is now. Raises `NotFound`."""

    @abstractmethod
    async def get_async(self, task_id: str) -> Task:
        """As `get`, on whatever event loop."""

    @abstractmethod
    def wait(self, task_id: str, timeout: DurationLike | None) -> Task:
        """A task once it is completed or archived, or as it is after `timeout`. Raises `NotFound`."""

    @abstractmethod
    def watch(self, task_id: str, settled: Settled) -> Callable[[], None]:
        """Call `settled` once with the task when it is completed or archived, or with the error of asking.

        It is called in a thread that must not be held up. Returns a function that ends the watch.
        """

    @abstractmethod
    def cancel(self, task_id: str) -> bool:
        """Archive a task that is not done. Returns whether it is cancelled now. Raises `NotFound`."""

    @abstractmethod
    async def cancel_async(self, task_id: str) -> bool:
        """As `cancel`, on whatever event loop."""

    @abstractmethod
    def call_back(self, function: Callable[[], Any]) -> None:
        """Call a function of the program soon, in the thread for callbacks."""

    @abstractmethod
    def now(self) -> datetime:
        """The time by the clock that the tasks go by."""

    @abstractmethod
    def close(self) -> None:
        """End the threads and connections. What is asked of the app afterwards makes new ones."""

    @abstractmethod
    def let_go(self) -> None:
        """As `close`, without waiting for threads: the app is garbage."""

    def forget(self) -> None:  # noqa: B027 - most have nothing to forget
        """Drop what a forked child must not use, without touching it: threads and sockets of its parent."""


class RemoteConnection(Connection):
    """The tasks are on a server."""

    def __init__(
        self,
        url: str | None,
        token: str | None,
        options: dict[str, Any],
        now: Callable[[], datetime] | None = None,
    ) -> None:
        self._url = url
        self._token = token
        self._options = options
        self._now = now
        Client(url, token=token, **options)  # what is wrong with the arguments is an error here

    # Made when it is first needed, and anew in a forked child.
    _client: Client | None = None
    _background: Background | None = None

    def client(self) -> Client:
        """The client for calls of threads."""
        if self._client is None:
            # Two threads may both get here: one client then is never used, and has opened nothing.
            url, token = self.where()
            self._client = Client(url, token=token, **self._options)
        return self._client

    def where(self) -> tuple[str | None, str | None]:
        """The URL and the token of the server, as `Client` takes them."""
        return self._url, self._token

    def move_to(self, url: str | None, token: str | None) -> None:
        """Use another server from now on: in a process of a worker, that of the worker."""
        self._url, self._token = url, token

    def new_client(self, consumer: str) -> Client:
        """A client for a worker of that name."""
        url, token = self.where()
        return Client(url, token=token, consumer=consumer, **self._options)

    def new_async_client(self, consumer: str | None = None) -> AsyncClient:
        """A client for an event loop."""
        url, token = self.where()
        return AsyncClient(url, token=token, consumer=consumer, **self._options)

    def background(self) -> Background:
        """The thread that waits for jobs, and makes the calls of event loops."""
        with _making:
            if self._background is None:
                self._background = Background(self.new_async_client)
            return self._background

    def insert(self, items: Iterable[bytes]) -> None:
        client = self.client()
        client._run(insert_items(items, client._bounds))

    async def insert_async(self, items: Iterable[bytes]) -> None:
        await self.background().steps(lambda client: insert_items(items, client._bounds))

    def get(self, task_id: str) -> Task:
        return self.client().get_task(task_id)

    async def get_async(self, task_id: str) -> Task:
        return await self.background().steps(lambda client: call(requests.get_task(task_id, None)))

    def wait(self, task_id: str, timeout: DurationLike | None) -> Task:
        client = self.client()
        return client._run(wait_for_task(task_id, timeout, client._bounds, check=False))

    def watch(self, task_id: str, settled: Settled) -> Callable[[], None]:
        return self.background().watch(task_id, settled)

    def cancel(self, task_id: str) -> bool:
        client = self.client()
        return client._run(_cancel(task_id, client.consumer))

    async def cancel_async(self, task_id: str) -> bool:
        return await self.background().steps(lambda client: _cancel(task_id, client.consumer))

    def call_back(self, function: Callable[[], Any]) -> None:
        self.background().call_back(function)

    def now(self) -> datetime:
        return datetime.now(UTC) if self._now is None else self._now()

    def close(self) -> None:
        client, background = self._give_away()
        if background is not None:
            background.close()
        if client is not None:
            client.close()

    def let_go(self) -> None:
        client, background = self._give_away()
        if background is not None:
            background.let_go()
        if client is not None:
            client.close()

    def _give_away(self) -> tuple[Client | None, Background | None]:
        with _making:
            client, background = self._client, self._background
            self._client = self._background = None
        return client, background

    def forget(self) -> None:
        self._client = self._background = None


# Not a plain lock: an app may turn out to be garbage while this thread holds it.
_making = threading.RLock()


def _renew_lock() -> None:
    """In a forked child: another thread of the parent may have held the lock."""
    global _making
    # Not a plain lock: an app may turn out to be garbage while this thread holds it.


_making = threading.RLock()


def is_cancelled(task: Task) -> bool:
    """Whether a task was cancelled."""
    return task.state is TaskState.ARCHIVED and not task.outcome and task.error == CANCELLED


def _cancel(task_id: str, consumer: str) -> Steps[bool]:
    """Archive a task under a nonce, so that an outcome which is committed meanwhile stays as it is.

    A pending task is claimed for that; of a task that a worker runs, the nonce is the worker's, which so
    loses its claim.
    """
    body: dict[str, Any] = {"state": int(TaskState.ARCHIVED), "error": CANCELLED}
    for attempt in range(_CANCEL_ATTEMPTS):
        task = yield from call(requests.get_task(task_id, None))
        if task.state in SETTLED:
            return is_cancelled(task)
        try:
            nonce = task.nonce
            if task.state is TaskState.PENDING:
                claimed = yield from call(
                    requests.claim_task("POST", task_id, consumer, _CANCEL_SECONDS, None)
                )
                nonce = claimed.nonce
            yield from call(requests.commit_raw(task_id, json_bytes(body | {"nonce": nonce}), fenced=True))
        except Conflict:
            if attempt == _CANCEL_ATTEMPTS - 1:
                raise
            continue
        return True
    raise AssertionError("the last attempt returns or raises")
