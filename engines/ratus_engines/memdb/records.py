"""Records of every kind, by kind and id, each as one JSON text."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator

from msgspec import Struct

from ratus.core.kinds import Kind
from ratus.core.records import Members, Record

Row = tuple[str, str, int, bytes]
"""A record in a snapshot: the name of its kind, its id, its version, and its members as a JSON text."""


class _Kept(Struct, frozen=True, gc=False):
    version: int
    text: bytes


class _OfKind:
    """The records of one kind, and their ids in order."""

    __slots__ = ("by_id", "ids")

    def __init__(self) -> None:
        self.by_id: dict[str, _Kept] = {}
        self.ids: list[str] = []

    def put(self, record_id: str, kept: _Kept) -> None:
        if record_id not in self.by_id:
            insort(self.ids, record_id)
        self.by_id[record_id] = kept

    def remove(self, record_id: str) -> None:
        del self.by_id[record_id]
        del self.ids[bisect_left(self.ids, record_id)]


class Records:
    """The records of every kind, each stored as one JSON text."""

    def __init__(self) -> None:
        self._kinds: dict[str, _OfKind] = {}

    def _of(self, kind: str) -> _OfKind:
        found = self._kinds.get(kind)
        if found is None:
            found = self._kinds[kind] = _OfKind()
        return found

    def get(self, kind: Kind[Members], record_id: str) -> Record[Members] | None:
        """The record, or ``None``."""
        kept = self._of(kind.name).by_id.get(record_id)
        return None if kept is None else Record(record_id, kept.version, kind.from_json(kept.text))

    def version(self, kind: Kind[Members], record_id: str) -> int:
        """The version of the record, 0 when there is none."""
        kept = self._of(kind.name).by_id.get(record_id)
        return 0 if kept is None else kept.version

    def put(self, kind: Kind[Members], record_id: str, members: Members, version: int) -> None:
        """Store a record; it replaces the one with its id, if there is one."""
        self._of(kind.name).put(record_id, _Kept(version, kind.to_json(members)))

    def remove(self, kind: Kind[Members], record_id: str) -> None:
        """Delete a record. Raises `KeyError` when there is none."""
        self._of(kind.name).remove(record_id)

    def after(self, kind: Kind[Members], record_id: str, limit: int) -> list[Record[Members]]:
        """Up to ``limit`` records whose ids come after ``record_id``, in order of their ids."""
        records = self._of(kind.name)
        at = bisect_right(records.ids, record_id)
        kept = [(each, records.by_id[each]) for each in records.ids[at : at + limit]]
        return [Record(each, found.version, kind.from_json(found.text)) for each, found in kept]

    # ---- snapshots -------------------------------------------------------------------------------

    def rows(self, most: int, most_bytes: int) -> Iterator[list[Row]]:
        """All records in slices of up to ``most`` records or about ``most_bytes`` bytes.

        Each record is as it is when its slice is asked for.
        """
        for kind, records in list(self._kinds.items()):
            at = 0
            while ids := records.ids[at : at + most]:
                rows: list[Row] = []
                size = 0
                for record_id in ids:
                    kept = records.by_id[record_id]
                    rows.append((kind, record_id, kept.version, kept.text))
                    size += len(kept.text)
                    if size >= most_bytes:
                        break
                yield rows
                at = bisect_right(records.ids, rows[-1][1])

    def load(self, row: Row) -> None:
        """Store a record from a snapshot."""
        kind, record_id, version, text = row
        self._of(kind).put(record_id, _Kept(version, text))
