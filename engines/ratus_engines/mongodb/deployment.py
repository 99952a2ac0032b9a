"""The connection to a MongoDB deployment: its settings, its time limits, and whether it serves."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import re
import warnings
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote_plus

import pymongo
from bson.errors import InvalidDocument
from bson.raw_bson import RawBSONDocument
from pymongo import AsyncMongoClient, ReadPreference
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import InvalidName, OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.uri_parser import parse_uri
from pymongo.write_concern import WriteConcern

from ratus.core.errors import ServiceUnavailable
from ratus.core.kinds import TOPIC_SETTINGS, Kind
from ratus.engine import Health
from ratus_engines.mongodb import indexes
from ratus_engines.mongodb.documents import RAW
from ratus_engines.mongodb.errors import is_missing_hint, reason, translate
from ratus_engines.mongodb.sockets import close_when_cancelled

logger = logging.getLogger("ratus.engines.mongodb")

# Seconds that an operation takes at most. The driver gives up a little before the ten seconds that are
# promised, so that the answer is sent by then.
LIMIT = 9.5

# Seconds that `Deployment.health` takes at most: the contract allows a second.
PROBE_LIMIT = 0.8

_NOT_REACHED = "MongoDB was not reached yet"
_PREPARING = "its collection is being prepared"

# Seconds between two tries to prepare the collection while the database is away.
_RETRY = 0.5

# Options of the driver where the URI does not set them. Each is named as the URI would write it.
_DEFAULTS: Mapping[str, Any] = {
    "appname": "ratus",
    "retrywrites": True,
    "retryreads": True,
    "readconcernlevel": "majority",
    # An answered write is in the journal. On a replica set the majority implies that; a single server does it
    # only if asked.
    "w": "majority",
    "journal": True,
    "serverselectiontimeoutms": LIMIT * 1000,
    "connecttimeoutms": 5_000,
    # Members are asked more often than by default (10 s), so that a new primary is found soon.
    "heartbeatfrequencyms": 2_000,
}
_DURABILITY = frozenset({"w", "journal", "wtimeoutms"})

_BAD_VALUE = 2

_LOCAL = ReadConcern("local")

# Length from which on a piece of a user name or password is hidden: shorter ones give nothing away.
_SHORTEST_SECRET = 3


def client(uri: str) -> AsyncMongoClient[dict[str, Any]]:
    """A client that has not connected to anything yet. Raises `ValueError` for a URI that cannot be used."""
    close_when_cancelled()
    given = _options(uri)
    if given & _DURABILITY:
        given |= _DURABILITY
    options = {name: value for name, value in _DEFAULTS.items() if name not in given}
    try:
        with warnings.catch_warnings(record=True) as complaints:
            warnings.simplefilter("always")
            made: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(uri, **options)
    except (PyMongoError, ValueError, TypeError, OSError) as error:
        raise ValueError(f"the MongoDB URI cannot be used: {_discreet(uri, str(error))}") from None
    names = _complained_of(uri)
    for complaint in complaints:
        text = str(complaint.message)
        named = names.get(text)
        if named:
            # The driver may give one text for several options, which are named in turn, or repeat a text for
            # one option.
            text = f"{named.pop(0) if len(named) > 1 else named[0]}: {text}"
        logger.warning("the MongoDB URI: %s", _discreet(uri, text))
    return made


def _options(uri: str) -> set[str]:
    return {name.partition("=")[0].lower() for name in _given(uri)}


def _given(uri: str) -> list[str]:
    return re.split("[&;]", uri.partition("?")[2])


def _complained_of(uri: str) -> dict[str, list[str]]:
    """The options that the driver warns of, in their order, by the text of the warning.

    From 4.20.1 on the driver does not name them. So each option is parsed by itself.
    """
    found: dict[str, list[str]] = {}
    for option in _given(uri):
        with warnings.catch_warnings(record=True) as complaints:
            warnings.simplefilter("always")
            try:
                parse_uri(f"mongodb://host/?{option}", warn=True)
            except (PyMongoError, ValueError, TypeError, OSError):
                continue  # this option needs another one; the URI as a whole was accepted
        for text in {str(complaint.message) for complaint in complaints}:
            found.setdefault(text, []).append(option.partition("=")[0])
    return found


def _discreet(uri: str, text: str) -> str:
    """A text about a URI, or a fixed one if it has a piece of the user name or the password in it."""
    secret = uri.partition("://")[2].rpartition("@")[0]
    for piece in re.split(r"[^\w]+", f"{secret} {unquote_plus(secret)}"):
        if len(piece) >= _SHORTEST_SECRET and piece in text:
            return "it is malformed (what is wrong is not shown, because it is near the password)"
    return text


def background(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """A task that does not inherit the time limit of the request that happens to start it."""
    return asyncio.get_running_loop().create_task(work, context=contextvars.Context())


def _notice_cancellation() -> None:
    """Raise `asyncio.CancelledError` if the driver swallowed a cancellation.

    Before Python 3.12 ``asyncio.wait_for`` does, when a cancellation comes together with an answer.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def stop(task: asyncio.Task[None] | None) -> None:
    """Cancel a task, again and again if the driver swallows that, and wait for its end."""
    while task is not None and not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=_RETRY)


def _database(
    client: AsyncMongoClient[dict[str, Any]], name: str, collection: str
) -> AsyncDatabase[dict[str, Any]]:
    """The database of this name. Raises `ValueError` if its name or the collection's is not allowed."""
    try:
        found = client[name]
        found.get_collection(collection)
    except InvalidName as error:
        raise ValueError(
            f"the database {name!r} or its collection {collection!r} cannot be: {error}; "
            "check --mongodb-database and --mongodb-collection"
        ) from None
    return found


def _of_kind(collection: str, kind: Kind[Any]) -> str:
    """The name of the collection of the records of a kind, beside that of tasks."""
    return f"{collection}_{kind.name}"


class Deployment:
    """A client, the collections, and the indexes that are there. ``retention`` is in microseconds.

    - ``tasks``: for writing, and for reading what clients get: what a majority has. ``settings``: the
      settings of topics.
    - ``current``, `records`: as the primary has it at this moment, for deciding what to write.
      What a majority has may be some milliseconds old, and a change decided by that is refused as too late.
    - ``hints``: the names of the indexes that exist, for hints of queries.
    """

    def __init__(
        self, uri: str, *, database: str, collection: str, retention: int, create_indexes: bool
    ) -> None:
        self.client = client(uri)
        self.limit = self.client.options.timeout or LIMIT
        data = _database(self.client, database, collection)
        self.tasks: AsyncCollection[RawBSONDocument] = data.get_collection(collection, codec_options=RAW)  # type: ignore[assignment]  # the driver types collections by their client
        self.settings: AsyncCollection[dict[str, Any]] = data[_of_kind(collection, TOPIC_SETTINGS)]
        self.current = self.tasks.with_options(read_preference=ReadPreference.PRIMARY, read_concern=_LOCAL)
        self._data = data
        self.hints: frozenset[str] = frozenset()
        self._retention = retention
        self._create_indexes = create_indexes
        self._journal_is_wanted = bool(_options(uri) & _DURABILITY)
        self._prepared = asyncio.Event()
        self._trouble = _NOT_REACHED
        self._preparing: asyncio.Task[None] | None = None

    # ---- life ------------------------------------------------------------------------------------

    def open(self) -> None:
        """Start to connect and to prepare the collection, in the background, however long that takes."""
        self._preparing = background(self._prepare())

    async def close(self) -> None:
        await stop(self._preparing)
        await self.client.close()

    async def _prepare(self) -> None:
        while not self._prepared.is_set():
            try:
                await self._do_without_journal()
                await self.look_for_indexes()
            except PyMongoError as error:
                if self._trouble != reason(error):
                    self._trouble = reason(error)
                    logger.warning("MongoDB is not ready: %s; trying again", self._trouble)
                await asyncio.sleep(_RETRY)
            except Exception:
                logger.exception("preparing the collection failed; trying again")
                await asyncio.sleep(_RETRY)
            else:
                self._trouble = _PREPARING
                self._prepared.set()

    async def _do_without_journal(self) -> None:
        """Stop asking for the journal where a server keeps none and so refuses writes.

        Nothing is changed where the URI has options on durability.
        """
        if self._journal_is_wanted:
            return
        try:
            await self.settings.delete_one({"_id": None})
        except OperationFailure as error:
            if error.code != _BAD_VALUE or "journal" not in str(error):
                raise
            logger.warning("this MongoDB keeps no journal: when it is killed, answered writes may be lost")
            concern = WriteConcern(w="majority")
            self.tasks = self.tasks.with_options(write_concern=concern)
            self.settings = self.settings.with_options(write_concern=concern)

    async def look_for_indexes(self) -> None:
        """Make missing indexes and put those that exist into ``hints``. Raises errors of the driver."""
        self.hints, notes = await indexes.ensure(
            self.tasks, retention=self._retention, create=self._create_indexes
        )
        for note in notes:
            logger.warning("%s", note)

    # ---- use -------------------------------------------------------------------------------------

    def records(self, kind: Kind[Any]) -> AsyncCollection[RawBSONDocument]:
        """The collection of the records of a kind. MongoDB creates it with the first record."""
        return self._data.get_collection(  # type: ignore[return-value]  # the driver types collections by their client
            _of_kind(self.tasks.name, kind),
            codec_options=RAW,
            read_preference=ReadPreference.PRIMARY,
            read_concern=_LOCAL,
            write_concern=self.settings.write_concern,
        )

    @property
    def lanes(self) -> AsyncCollection[dict[str, Any]]:
        """The collection of lanes, and of topics in use. MongoDB creates it with the first document."""
        return self._data.get_collection(
            f"{self.tasks.name}_lanes",
            read_preference=ReadPreference.PRIMARY,
            read_concern=_LOCAL,
            write_concern=self.settings.write_concern,
        )

    @contextmanager
    def limited(self, seconds: float | None = None) -> Iterator[None]:
        """The time limit of one operation, retries included; errors of the driver become Ratus's.

        ``seconds``: a longer limit, for an operation that no request waits for.

        The driver tries again as often as there is time. A retried write has the transaction number of the
        first try, so that a database that keeps track of these carries it out once.
        """
        try:
            with pymongo.timeout(self.limit if seconds is None else seconds):
                yield
                _notice_cancellation()
        except (PyMongoError, InvalidDocument) as error:
            if not is_missing_hint(error):
                raise translate(error) from error
            # An index was dropped. The next operations wait until it is there again, or is no longer in
            # ``hints``.
            if self._prepared.is_set():
                self._trouble = "an index is gone"
                self._prepared.clear()
                self._preparing = background(self._prepare())
            raise ServiceUnavailable("an index is gone; ask again") from error

    async def aggregate(
        self, pipeline: Sequence[Mapping[str, Any]], index: str, *, at_once: int | None = None
    ) -> list[RawBSONDocument]:
        """What a pipeline over the tasks gives, using an index where it is there.

        ``at_once``: how many answers the database sends together, where there may be very many.
        """
        hint = self.hint(index)
        # Unlike a query, an aggregation does not accept ``None`` as a hint.
        options: dict[str, Any] = {} if hint is None else {"hint": hint}
        if at_once is not None:
            options["batchSize"] = at_once
        cursor = await self.tasks.aggregate(pipeline, **options)
        return await cursor.to_list()

    def hint(self, name: str) -> str | None:
        """The name of the index as a hint for a query, or ``None`` where the index does not exist."""
        return name if name in self.hints else None

    async def prepared(self) -> None:
        """Wait until the collection was prepared. Raises `ServiceUnavailable` when that takes too long."""
        if not self._prepared.is_set():
            try:
                await asyncio.wait_for(self._prepared.wait(), self.limit)
            except TimeoutError:
                raise ServiceUnavailable(f"MongoDB is not ready: {self._trouble}") from None

    async def health(self) -> Health:
        """Ask the deployment whether there is a primary that takes writes; answers within a second."""
        answer: dict[str, Any] | None = None
        try:
            async with asyncio.timeout(PROBE_LIMIT):
                with pymongo.timeout(PROBE_LIMIT):
                    answer = await self.client.admin.command("hello")
                    if self._trouble == _NOT_REACHED:
                        self._trouble = _PREPARING
                    await self._prepared.wait()
        except TimeoutError:
            if answer is not None:
                return Health(False, f"MongoDB is not ready: {self._trouble}")
            if self._prepared.is_set():
                return Health(False, "MongoDB does not answer in time")
            return Health(False, f"MongoDB does not answer in time: {self._trouble}")
        except PyMongoError as error:
            return Health(False, f"MongoDB cannot be reached: {reason(error)}")
        # ``ismaster`` is the older name of the field. The router of a sharded cluster counts as a primary.
        if not answer.get("isWritablePrimary", answer.get("ismaster")):
            return Health(False, "there is no primary at this moment")
        return Health(True)
