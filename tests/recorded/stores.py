"""What each engine keeps its tasks in: how a server is started on it, and how it is kept as files."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bson
import pytest
from bson.codec_options import CodecOptions
from bson.json_util import dumps
from bson.raw_bson import RawBSONDocument
from pymongo.collection import Collection

from tests.engines.mongodb import servers

# The collections that a server keeps under its default settings.
COLLECTIONS = ("tasks", "tasks_topics")


class FileStore:
    """An engine that keeps everything in one file."""

    def __init__(self, engine: str, option: str, file: str) -> None:
        self.engine = engine
        self._option = option
        self.file = file

    @contextmanager
    def flags(self, folder: Path) -> Iterator[list[str]]:
        """The flags of a server whose data are in this folder."""
        yield ["--engine", self.engine, self._option, str(folder / self.file)]

    def save(self, folder: Path, target: Path) -> None:
        """Keep the data of a server that has stopped."""
        left = {path.name for path in folder.iterdir() if path.name.startswith(self.file)}
        assert not left & {f"{self.file}-wal", f"{self.file}-journal"}, left
        shutil.copyfile(folder / self.file, target / self.file)

    def load(self, source: Path, folder: Path) -> None:
        """Put what was kept where a server will look for it."""
        shutil.copyfile(source / self.file, folder / self.file)


class MongodbStore:
    """A database on the shared deployment, kept as one file of BSON documents a collection."""

    engine = "mongodb"

    def _database(self, folder: Path) -> str:
        return f"ratus_recorded_{os.getpid()}_{folder.name}".replace(".", "_")[:60]

    @contextmanager
    def flags(self, folder: Path) -> Iterator[list[str]]:
        """The flags of a server whose data are in the database of this folder."""
        uri = servers.shared_uri()
        if uri is None:
            if os.environ.get("CI"):
                pytest.fail(servers.ABSENT)
            pytest.skip(servers.ABSENT)
        database = self._database(folder)
        try:
            yield ["--engine", "mongodb", "--mongodb-uri", uri, "--mongodb-database", database]
        finally:
            servers.shared_client().drop_database(database)

    def save(self, folder: Path, target: Path) -> None:
        """Keep the documents of each collection in their order, and what indexes they have."""
        database = servers.shared_client()[self._database(folder)]
        indexes = {}
        for name in COLLECTIONS:
            documents = _raw(database[name]).find().sort("_id")
            (target / f"{name}.bson").write_bytes(b"".join(each.raw for each in documents))
            indexes[name] = [
                {key: value for key, value in index.items() if key not in {"v", "ns"}}
                for index in database[name].list_indexes()
            ]
        (target / "indexes.json").write_text(dumps(indexes, indent=1) + "\n")

    def load(self, source: Path, folder: Path) -> None:
        """Insert the documents as they were, and make the indexes."""
        database = servers.shared_client()[self._database(folder)]
        for name, indexes in json.loads((source / "indexes.json").read_text()).items():
            documents = bson.decode_all((source / f"{name}.bson").read_bytes(), CodecOptions(RawBSONDocument))
            database.create_collection(name)
            if documents:
                database.get_collection(name, codec_options=CodecOptions(RawBSONDocument)).insert_many(
                    documents
                )
            made = [index for index in indexes if index["name"] != "_id_"]
            if made:
                database.command("createIndexes", name, indexes=made)


def _raw(collection: Collection[dict[str, Any]]) -> Collection[RawBSONDocument]:
    """The same collection, whose documents are read and written byte by byte."""
    options: CodecOptions[RawBSONDocument] = CodecOptions(RawBSONDocument)
    return collection.with_options(codec_options=options)


STORES: dict[str, FileStore | MongodbStore] = {
    "memdb": FileStore("memdb", "--memdb-snapshot-path", "memdb.snapshot"),
    "sqlite": FileStore("sqlite", "--sqlite-path", "ratus.db"),
    "mongodb": MongodbStore(),
}
