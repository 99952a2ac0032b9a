"""What is synchronous and what is asynchronous have the same methods, arguments and promises."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

import ratus

PAIRS = [
    (ratus.Client, ratus.AsyncClient),
    (ratus.Delivery, ratus.AsyncDelivery),
    (ratus.Worker, ratus.AsyncWorker),
    (ratus.Transport, ratus.AsyncTransport),
]

WITHOUT_CALLS = {"stop"}
"""What returns at once and so is not awaited, besides what deliveries do without a server."""


def plain(text: object) -> str:
    """A text of either twin as that of the synchronous one."""
    return re.sub(r"\bAsync(?=[A-Z])|\bSync(?=Calls\b)", "", str(text))


def methods(kind: type[Any]) -> dict[str, Any]:
    """What a class promises: its public methods and properties, and how it is made, entered and left."""
    special = {"__init__": "__init__", "__enter__": "__enter__", "__exit__": "__exit__"}
    special |= {"__aenter__": "__enter__", "__aexit__": "__exit__"}
    return {
        special.get(name, name): value
        for name, value in inspect.getmembers(kind)
        if (name in special or not name.startswith("_")) and (callable(value) or isinstance(value, property))
    }


def arguments(method: Any) -> list[tuple[Any, ...]]:
    """The arguments of a method, and as the last of them what it returns."""
    signature = inspect.signature(method)
    return [
        *(
            (each.name, each.kind, each.default, plain(each.annotation))
            for each in signature.parameters.values()
        ),
        ("return", plain(signature.return_annotation)),
    ]


EACH = [
    pytest.param(name, twins, id=f"{twins[0].__name__}.{name}")
    for twins in PAIRS
    for name in methods(twins[0])
]


@pytest.mark.parametrize(("kind", "twin"), PAIRS)
def test_twins_have_the_same_methods(kind: type[Any], twin: type[Any]) -> None:
    assert methods(kind).keys() == methods(twin).keys()


@pytest.mark.parametrize(("name", "twins"), EACH)
def test_twins_take_and_promise_the_same(name: str, twins: tuple[type[Any], type[Any]]) -> None:
    one, other = (methods(kind)[name] for kind in twins)
    assert plain(inspect.getdoc(other)) == plain(inspect.getdoc(one))
    if isinstance(one, property):
        assert one is other, "a property needs no server, so it is inherited by both"
        return
    assert arguments(other) == arguments(one)


@pytest.mark.parametrize(("name", "twins"), EACH)
def test_a_twin_is_awaited_where_it_makes_calls(name: str, twins: tuple[type[Any], type[Any]]) -> None:
    one, other = (methods(kind)[name] for kind in twins)
    assert not inspect.iscoroutinefunction(one)
    assert not inspect.isasyncgenfunction(one)
    is_shared = one is other
    is_awaited = inspect.iscoroutinefunction(other) or inspect.isasyncgenfunction(other)
    assert is_awaited is not (is_shared or name in WITHOUT_CALLS or name == "__init__")
    assert inspect.isasyncgenfunction(other) is inspect.isgeneratorfunction(one)
