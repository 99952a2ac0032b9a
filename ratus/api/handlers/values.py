"""Handlers of values: small JSON that clients share under a name, and wait for."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from ratus.api import codec, serializing
from ratus.api.call import Call, ClientDisconnected, Response
from ratus.api.codec import Members
from ratus.api.cursors import make_cursor, read_cursor
from ratus.api.parsing import Reader
from ratus.api.strict import check_members, check_parameters
from ratus.core.clock import Clock
from ratus.core.errors import BadRequest, NotFound, PayloadTooLarge
from ratus.core.values import (
    CHANGES_MEMBERS,
    MAX_VALUE_BYTES,
    MAX_VALUE_NAME_BYTES,
    MAX_WATCHED,
    VALUE_MEMBERS,
    NamedValue,
)
from ratus.runtime.value_watch import ValueWatch

# The header is a list of entity tags in general; a revision is one.
_IF_MATCH: Final = re.compile(rb'\s*"?([0-9]{1,18})"?\s*')

# Bytes of the names that are waited for, with their revisions: enough for `MAX_WATCHED` long ones, and few
# enough to be read at once.
_MAX_SINCE_BYTES: Final = 256 * 1024

# Marks the cursors of lists of values: no topic has such a name.
_LIST: Final = "\0values\0"


class ValueHandlers:
    """The operations on values."""

    def __init__(self, reader: Reader, clock: Clock, watch: ValueWatch) -> None:
        self._read = reader
        self._clock = clock
        self._watch = watch
        self._values = watch.values

    async def list_values(self, call: Call) -> Response:
        check_parameters(call.query, ("prefix", "limit", "after"))
        limit, _ = self._read.page(call.query)
        prefix = call.query.text("prefix") or ""
        cursor = call.query.text("after")
        after = "" if cursor is None else read_cursor(cursor, _LIST + prefix)
        found, more = await self._values.page(prefix, after, limit)
        next_page = make_cursor(found[-1].name, _LIST + prefix) if more else None
        return Response(200, serializing.values(found, next_page))

    async def get_value(self, call: Call) -> Response:
        check_parameters(call.query, ("since", "wait"))
        name = _checked_name(call.name, "name")
        since, wait = call.query.integer("since"), self._read.wait(call.query)
        if since is None:
            if wait:
                raise BadRequest("wait: say with since beyond which revision the value is waited for")
        else:
            changed = await self._beyond(call, {name: _not_negative(since, "since")}, wait)
            if changed:
                return _answer(changed[0])
        record = await self._values.get(name)
        if record is None or record.deleted:
            raise NotFound("there is no such value")
        return _answer(NamedValue(name, record))

    async def set_value(self, call: Call) -> Response:
        check_parameters(call.query, ())
        name = _checked_name(call.name, "name")
        members = codec.read_object(call.body)
        if members is None:
            raise BadRequest('missing request body: send {"value": …}')
        check_members(members, VALUE_MEMBERS)
        if "value" not in members:
            raise BadRequest('value: it is missing; send {"value": …}, null is a value, too')
        size = len(bytes(members["value"]))
        if size > MAX_VALUE_BYTES:
            raise PayloadTooLarge(f"a value takes at most {MAX_VALUE_BYTES} bytes, not {size}")
        value = codec.value_of(members, "value")
        written = await self._values.put(
            name, value, _expected(call, codec.integer_of(members, "revision")), call.now
        )
        return _answer(written)

    async def delete_value(self, call: Call) -> Response:
        check_parameters(call.query, ("revision",))
        name = _checked_name(call.name, "name")
        expected = _expected(call, call.query.integer("revision"))
        deleted = await self._values.delete(name, expected, call.now)
        return Response(200, serializing.deleted(deleted))

    async def wait_for_values(self, call: Call) -> Response:
        check_parameters(call.query, ())
        members = codec.read_object(call.body) or {}
        check_members(members, CHANGES_MEMBERS)
        wait = self._read.wait(call.query, members)
        prefix = codec.text_of(members, "prefix")
        if prefix is not None:
            since = codec.integer_of(members, "since") or 0
            found = await self._beyond_prefix(call, prefix, _not_negative(since, "since"), wait)
        else:
            found = await self._beyond(call, _revisions(members), wait)
        return Response(200, serializing.values(found))

    async def _beyond(self, call: Call, since: Mapping[str, int], wait: int) -> list[NamedValue]:
        return await self._wait(call, lambda: self._values.beyond_each(since), wait)

    async def _beyond_prefix(self, call: Call, prefix: str, since: int, wait: int) -> list[NamedValue]:
        return await self._wait(call, lambda: self._values.beyond(prefix, since), wait)

    async def _wait(
        self, call: Call, find: Callable[[], Awaitable[list[NamedValue]]], wait: int
    ) -> list[NamedValue]:
        if call.connection.disconnected:
            raise ClientDisconnected()
        if not wait or call.connection.pipelined:
            return await find()
        until = self._clock.monotonic() + wait
        return await self._watch.wait(find, until, call.connection.watch)


def _answer(value: NamedValue) -> Response:
    return Response(200, serializing.value(value), headers=((b"etag", b'"%d"' % value.record.revision),))


def _checked_name(name: str, what: str) -> str:
    if not name:
        raise BadRequest(f"{what} must not be empty")
    if len(name.encode()) > MAX_VALUE_NAME_BYTES:
        raise BadRequest(f"{what} must not be longer than {MAX_VALUE_NAME_BYTES} bytes")
    return name


def _not_negative(revision: int, name: str) -> int:
    if not 0 <= revision < 2**63:
        raise BadRequest(f"{name}: a revision is from 0 to {2**63 - 1}")
    return revision


def _revisions(members: Members) -> dict[str, int]:
    """The revisions of the values that are waited for, by their names."""
    raw = codec.raw_of(members, "since")
    if raw is not None and len(raw) > _MAX_SINCE_BYTES:
        raise BadRequest(f"since: it takes {len(raw)} bytes, more than {_MAX_SINCE_BYTES}; give a prefix")
    names = codec.object_of(members, "since")
    if not names:
        raise BadRequest('since: name values, as in {"since": {"a": 7}}, or give a prefix')
    if len(names) > MAX_WATCHED:
        raise BadRequest(f"since: at most {MAX_WATCHED} values, not {len(names)}; give them a prefix")
    found: dict[str, int] = {}
    for name in names:
        revision = codec.integer_of(names, name)
        if revision is None:
            raise BadRequest("since: a value has no revision beside it; 0 stands before all")
        found[_checked_name(name, "since: a name")] = _not_negative(revision, "since")
    return found


def _expected(call: Call, given: int | None) -> int | None:
    """The revision that a value must have: as given, or by the header ``If-Match``; ``None``: any."""
    if given is not None:
        _not_negative(given, "revision")
    header = call.headers.get(b"if-match")
    if header is None:
        return given
    matched = _IF_MATCH.fullmatch(header)
    if matched is None:
        raise BadRequest('If-Match: give one revision, as in "7"')
    revision = int(matched[1])
    if given is not None and given != revision:
        raise BadRequest("revision: it is another one than that of If-Match; give one of them")
    return revision
