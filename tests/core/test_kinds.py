"""Record kinds: each struct is held to its table, and texts mean what they meant."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from ratus.core.errors import Conflict
from ratus.core.kinds import KINDS, Kind, check_version
from ratus.engine.testkit.sample import FULL, SAMPLE, Sample

ALL: tuple[Kind[Any], ...] = (*KINDS, SAMPLE)


def test_a_kind_has_a_name_of_its_own() -> None:
    names = [kind.name for kind in ALL]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch("[a-z]+(_[a-z]+)*", name) for name in names)


@pytest.mark.parametrize("kind", ALL, ids=repr)
def test_a_struct_has_the_members_of_the_table(kind: Kind[Any]) -> None:
    fields = {field.name: field.default for field in msgspec.structs.fields(kind.struct)}
    assert fields == {member.name: member.default for member in kind.table}


@pytest.mark.parametrize("kind", ALL, ids=repr)
def test_members_are_kept_and_have_names_that_are_free(kind: Kind[Any]) -> None:
    for member in kind.table:
        assert member.type.stored is not None, member.name
        assert not {member.name, member.wire} & {"_id", "version"}


def test_a_text_is_what_was_put() -> None:
    assert SAMPLE.from_json(SAMPLE.to_json(FULL)) == FULL
    assert SAMPLE.to_json(Sample()) == b"{}"
    assert SAMPLE.to_json(Sample(number=2, json=b"[1, 2]")) == b'{"number":2,"json":[1, 2]}'


def test_what_a_newer_version_wrote_beside_is_passed_over() -> None:
    assert SAMPLE.from_json('{"colour":{"a":1},"number":2}') == Sample(number=2)


@pytest.mark.parametrize("version", [0, 5])
def test_the_version_that_was_expected(version: int) -> None:
    check_version(version, None)
    check_version(version, version)
    with pytest.raises(Conflict, match="read it again"):
        check_version(version, 4)
