"""What an engine promises: `ratus.engine.contract`. How one is found by its name: `ratus.engine.discovery`.

The modules that hold the engines' plugins are loaded with every start of the command and have to be quick, so
each name of this package is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ratus.engine.contract import (
        CLAIM_CHORES,
        LARGE_BATCH,
        Engine,
        EngineMetric,
        Health,
        Listener,
        Observer,
        Traits,
    )
    from ratus.engine.discovery import MissingDriver, Option, Plugin

__all__ = [
    "CLAIM_CHORES",
    "LARGE_BATCH",
    "Engine",
    "EngineMetric",
    "Health",
    "Listener",
    "MissingDriver",
    "Observer",
    "Option",
    "Plugin",
    "Traits",
]

_OF_PLUGINS = ("MissingDriver", "Option", "Plugin")


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module("ratus.engine.discovery" if name in _OF_PLUGINS else "ratus.engine.contract")
    globals()[name] = value = getattr(module, name)
    return value
