"""The suite is complete: nothing of it is left out or hidden by something else of the same name."""

from __future__ import annotations

import pkgutil
from collections import Counter
from importlib import import_module
from inspect import iscoroutinefunction

from ratus.engine import Engine
from ratus.engine.testkit import EngineContract, contract
from ratus.engine.testkit.base import EngineTests
from ratus.engine.testkit.contract.life import CALLS


def test_every_method_of_an_engine_is_tried() -> None:
    operations = {name for name, method in vars(Engine).items() if iscoroutinefunction(method)}
    assert {*CALLS, "open", "close", "health"} == operations


def test_every_class_is_part_of_the_suite() -> None:
    for module in pkgutil.iter_modules(contract.__path__, contract.__name__ + "."):
        import_module(module.name)
    assert set(EngineTests.__subclasses__()) <= set(EngineContract.__mro__)


def test_no_test_hides_another() -> None:
    names = Counter(
        name for kind in EngineContract.__mro__ for name in vars(kind) if name.startswith("test_")
    )
    assert len(names) > 200
    assert [name for name, times in names.items() if times > 1] == []
