"""Records of every kind. Each kind has a collection beside that of tasks, and each record is a document.

Each member is a field; those at their default are left out. The field ``version`` is the record's version;
the settings of topics that Ratus 0.1 wrote have none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import bson
from bson.raw_bson import RawBSONDocument
from pymongo.errors import DuplicateKeyError

from ratus.core.kinds import Kind, overtaken
from ratus.core.records import Members, Record
from ratus_engines.mongodb.deployment import Deployment
from ratus_engines.mongodb.documents import NOTHING, Document, field_of, reader
from ratus_engines.mongodb.payloads import decoded

# The version of a document without that field. Other versions are nanoseconds since 1970.
_WITHOUT_VERSION = 1


class Records:
    """Reads and writes records. ``versions`` gives numbers that no server has given and none will give."""

    def __init__(self, deployment: Deployment, versions: Callable[[], int]) -> None:
        self._deployment = deployment
        self._versions = versions

    async def get(self, kind: Kind[Members], record_id: str) -> Record[Members] | None:
        """The record, as the primary has it, or ``None``."""
        found = await self._deployment.records(kind).find_one({"_id": record_id})
        return None if found is None else _record(kind, found)

    async def after(self, kind: Kind[Members], record_id: str | None, limit: int) -> list[Record[Members]]:
        """Up to ``limit`` records (0: all) whose ids come after ``record_id``, in order of their ids."""
        condition = {} if record_id is None else {"_id": {"$gt": record_id}}
        cursor = self._deployment.records(kind).find(condition, sort=[("_id", 1)], limit=limit)
        return [_record(kind, found) async for found in cursor]

    async def put(self, kind: Kind[Members], record_id: str, members: Members, expected: int | None) -> int:
        """As `ratus.engine.Engine.put_record` with members: stores a record. Returns its new version."""
        records = self._deployment.records(kind)
        version = self._versions()
        document = _document(kind, record_id, members, version)
        if expected == 0:
            try:
                await records.insert_one(RawBSONDocument(bson.encode(document)))
            except DuplicateKeyError:
                raise overtaken() from None
        elif expected is not None:
            replaced = await records.replace_one(_of_version(record_id, expected), document)
            if not replaced.matched_count:
                raise overtaken()
        else:
            await _put_anyway(records, record_id, document)
        return version

    async def delete(self, kind: Kind[Members], record_id: str, expected: int | None) -> bool:
        """Delete the record. Returns whether there was one. Raises `Conflict` if it has another version."""
        records = self._deployment.records(kind)
        if expected == 0:
            if await records.find_one({"_id": record_id}) is not None:
                raise overtaken()
            return False
        condition = {"_id": record_id} if expected is None else _of_version(record_id, expected)
        deleted = bool((await records.delete_one(condition)).deleted_count)
        if expected is not None and not deleted:
            raise overtaken()
        return deleted


async def _put_anyway(records: Any, record_id: str, document: Document) -> None:
    while True:
        try:
            await records.replace_one({"_id": record_id}, document, upsert=True)
        except DuplicateKeyError:
            continue  # another request inserted it at the same time: replace that one
        return


def _of_version(record_id: str, version: int) -> Document:
    return {"_id": record_id, "version": {"$in": [version, None]} if version == _WITHOUT_VERSION else version}


def _document(kind: Kind[Members], record_id: str, members: Members, version: int) -> Document:
    """The document of a record. Raises `BadRequest` for JSON that cannot be stored."""
    found: Document = {"_id": record_id, "version": version}
    for member in kind.table:
        value = getattr(members, member.name)
        if value != member.default:
            found[member.wire] = field_of(member.type.stored, member.name, value)
    return found


def _record(kind: Kind[Members], document: RawBSONDocument) -> Record[Members]:
    get = decoded(document).get
    fields = {member: get(member.wire, NOTHING) for member in kind.table}
    members = {member.name: reader(member)(value) for member, value in fields.items() if value is not NOTHING}
    version = get("version")
    return Record(
        str(get("_id")),
        _WITHOUT_VERSION if version is None else int(version),
        kind.struct(**members),
    )
