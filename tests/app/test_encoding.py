"""How calls travel: arguments and results by the hints of the function, and what is refused where."""

from __future__ import annotations

import enum
import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel

from ratus.app.encoding import Misfit, Signature, read_call


class Colour(enum.Enum):
    RED = "red"


@dataclass
class Page:
    url: str
    body: bytes
    at: datetime


class Mail(BaseModel):
    to: str
    copies: list[str] = []


def call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What the function returns for arguments that have made the trip, as the caller reads it."""
    signature = Signature(function, "f")
    payload = signature.payload(args, kwargs)
    json.loads(payload)
    values, names = signature.arguments(read_call(msgspec.Raw(payload)))
    return signature.load_result(json.loads(signature.dump_result(function(*values, **names))))


NOW = datetime(2026, 1, 31, 12, 0, 0, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (int, 2**70),
        (float, 0.1),
        (float, 3),
        (bool, True),
        (str, "grün\0"),
        (bytes, b"\x00\xff\xfb"),
        (datetime, NOW),
        (date, NOW.date()),
        (timedelta, timedelta(microseconds=90_000_001)),
        (uuid.UUID, uuid.UUID(int=7)),
        (Decimal, Decimal("1.10")),
        (Path, Path("/a/b")),
        (Colour, Colour.RED),
        (Page, Page("u", b"\xff\xfe", NOW)),
        (list[Page], [Page("u", b"\xff\xfe", NOW)]),
        (Mail, Mail(to="ann", copies=["bob"])),
        (dict[str, Mail], {"a": Mail(to="ann")}),
        (tuple[int, str], (1, "a")),
        (set[int], {1, 2}),
        (int | None, None),
        (Mail | int, 5),
        (Any, {"a": [1, 2.5, None, True]}),
    ],
)
def test_a_value_comes_back_as_its_hint_has_it(hint: Any, value: Any) -> None:
    def echo(x: Any) -> Any:
        assert x == value
        assert type(x) is type(value) or hint is float
        return x

    echo.__annotations__ = {"x": hint, "return": hint}
    assert call(echo, value) == value
    assert call(echo, x=value) == value


def test_without_hints_values_are_plain_json() -> None:
    def echo(x, *, y):  # type: ignore[no-untyped-def]
        return [x, y]

    assert call(echo, (1, "a"), y=Page("u", b"", NOW).at) == [[1, "a"], "2026-01-31T12:00:00.000005Z"]


def test_many_and_named_arguments_have_their_hints() -> None:
    def echo(first: int, /, *rest: Decimal, flag: bool = False, **others: Path) -> list[Any]:
        assert all(isinstance(each, Decimal) for each in rest)
        assert all(isinstance(each, Path) for each in others.values())
        return [first, *map(str, rest), flag, *map(str, others.values())]

    found = call(echo, 1, Decimal(2), Decimal(3), flag=True, a=Path("x"))
    assert found == [1, "2", "3", True, "x"]


def test_the_wire_form_is_that_of_the_documents() -> None:
    def resize(image: int, width: int = 640) -> None: ...

    signature = Signature(resize, "images.resize")
    assert json.loads(signature.payload((7,), {"width": 320})) == {
        "task": "images.resize",
        "args": [7],
        "kwargs": {"width": 320},
    }
    assert json.loads(signature.payload((7,), {})) == {"task": "images.resize", "args": [7]}


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((), {}, "missing a required argument: 'image'"),
        ((1, 2, 3), {}, "too many positional arguments"),
        ((1,), {"height": 2}, "unexpected keyword argument 'height'"),
        (("seven",), {}, "argument image: Input should be a valid integer"),
        ((1,), {"width": 1.5}, "argument width: Input should be a valid integer"),
        ((1, object()), {}, "argument width"),
    ],
)
def test_arguments_that_do_not_fit_are_a_type_error(
    args: tuple[Any, ...], kwargs: dict[str, Any], message: str
) -> None:
    def resize(image: int, width: int = 640) -> None: ...

    with pytest.raises(TypeError, match=message):
        Signature(resize, "resize").payload(args, kwargs)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800", b"bytes", {1: 2}, {1}, object()])
def test_what_json_cannot_hold_is_an_error_at_the_push(value: Any) -> None:
    def plain(x) -> None: ...  # type: ignore[no-untyped-def]

    with pytest.raises(TypeError, match=r"f\(\): argument x: "):
        Signature(plain, "f").payload((value,), {})


def test_what_could_not_be_read_again_is_an_error_at_the_push() -> None:
    class Loose(BaseModel):
        x: float

    def take(x: Loose) -> None: ...

    take.__annotations__["x"] = Loose
    with pytest.raises(TypeError, match="argument x: x: "):
        Signature(take, "f").payload((Loose(x=float("nan")),), {})


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"", "is not the call of a task"),
        (b"7", "is not the call of a task"),
        (b'{"args": []}', "is not the call of a task"),
        (b'{"task": "f", "args": 7}', "is not the call of a task"),
        (b'{"task": "f", "args": ["seven"]}', "image: Input should be a valid integer"),
        (b'{"task": "f"}', "missing a required argument: 'image'"),
        (b'{"task": "f", "args": [1], "kwargs": {"height": 1}}', "unexpected keyword argument"),
        (b'{"task": "f", "args": [1], "kwargs": {"width": null}}', "width: Input should be"),
    ],
)
def test_a_payload_that_does_not_fit_says_why(payload: bytes, message: str) -> None:
    def resize(image: int, width: int = 640) -> None: ...

    with pytest.raises(Misfit, match=message):
        Signature(resize, "f").arguments(read_call(msgspec.Raw(payload)))


def test_a_result_that_does_not_fit_is_an_error() -> None:
    def count() -> int: ...  # type: ignore[empty-body]

    signature = Signature(count, "f")
    with pytest.raises(ValueError, match="the result of f does not fit: Input should be a valid integer"):
        signature.dump_result("many")


def test_hints_that_cannot_be_read_or_converted_are_named() -> None:
    def unknown(x: int) -> None: ...

    unknown.__annotations__["x"] = "Missing"
    with pytest.raises(TypeError, match="the type hints of f cannot be read: name 'Missing'"):
        Signature(unknown, "f")

    class Strange: ...

    def strange(x: int) -> None: ...

    strange.__annotations__["x"] = Strange
    with pytest.raises(TypeError, match=r"the parameter 'x' of f has the hint .*Strange"):
        Signature(strange, "f")
