"""How a storage engine is found by its name, and how it says which settings it takes.

An engine is an entry point in the group `ratus.engines` that loads to a `Plugin`:

    [project.entry-points."ratus.engines"]
    memdb = "ratus_engines.memdb:plugin"

The command line loads every plugin there is, because it accepts every engine's flags whichever engine is
chosen. A module that holds a plugin must therefore be quick to import: the driver, and whatever else is
heavy, is imported by `Plugin.create`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ratus.core.options import NAME, RETENTION, Option
from ratus.core.quoting import quoted

if TYPE_CHECKING:
    from ratus.engine import Engine

__all__ = [
    "GROUP",
    "Catalogue",
    "MissingDriver",
    "Option",
    "Plugin",
    "PluginError",
    "UnknownEngine",
    "UnusablePlugin",
    "discover",
    "load",
    "load_all",
]

GROUP: Final = "ratus.engines"
"""The entry-point group in which engines are looked for."""

# The engines that ship with Ratus, so that a source checkout in which nothing is installed has them too.
_BUILT_IN: Final = {
    "memdb": "ratus_engines.memdb:plugin",
    "mongodb": "ratus_engines.mongodb:plugin",
    "sqlite": "ratus_engines.sqlite:plugin",
}


class PluginError(Exception):
    """The chosen engine cannot be used; the text is one line for the operator."""


class UnknownEngine(PluginError):
    """No installed package has an engine of this name."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        super().__init__(f"unknown engine {quoted(name)}: the engines here are {', '.join(sorted(known))}")


class UnusablePlugin(PluginError):
    """There is an engine of this name, but what its entry point loads to cannot be used."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"engine {name} cannot be used: {reason}")


class MissingDriver(PluginError):
    """The engine is there, but the library by which it talks to its database is not installed.

    `create` of an engine raises it. `driver` is the library's name, `install` the command that installs it.
    """

    def __init__(self, engine: str, *, driver: str, install: str) -> None:
        super().__init__(f"engine {engine} needs {driver}, which is not installed: run {install}")


@dataclass(frozen=True)
class Plugin:
    """A storage engine as the server finds it.

    The names of its options begin with its own name and a hyphen. `create` receives the value of each of them
    by its full name, and beside them what the server sets for every engine: `retention-period` in
    microseconds (every engine has `--NAME-retention-period` without declaring it) and `retry`, the
    `RetryDefaults`. `create` connects to nothing; it raises `MissingDriver` when its library is not installed
    and `ValueError` for settings that do not go together.

    `backup`, where an engine has it, writes a consistent copy of the engine's data to a path at which there
    is nothing yet, also while servers use the data. Its arguments are the values of the engine's options,
    which say where the data is; the path; and a function that it calls now and then with how much is done and
    how much there is in all. When the copy cannot be made it raises `StartupError` and leaves nothing at the
    path.
    """

    name: str
    summary: str
    options: tuple[Option, ...]
    create: Callable[[Mapping[str, Any]], Engine]
    backup: Callable[[Mapping[str, Any], Path, Callable[[int, int], None]], None] | None = None


@dataclass(frozen=True)
class Catalogue:
    """Every engine that can be used, and why each of the others cannot; both by name."""

    plugins: Mapping[str, Plugin]
    problems: Mapping[str, UnusablePlugin] = field(default_factory=dict)

    def get(self, name: str) -> Plugin:
        """The plugin of this name; raises `UnknownEngine` or `UnusablePlugin`."""
        if name in self.problems:
            raise self.problems[name]
        if name not in self.plugins:
            raise UnknownEngine(name, self.plugins)
        return self.plugins[name]


def discover() -> dict[str, EntryPoint]:
    """The entry point of every engine, by name; imports none.

    No package can take a built-in engine's name.
    """
    found = {entry.name: entry for entry in entry_points(group=GROUP)}
    built_in = {name: EntryPoint(name, value, GROUP) for name, value in _BUILT_IN.items()}
    others = {name: found[name] for name in sorted(found) if name not in built_in}
    return built_in | others


def load(name: str) -> Plugin:
    """The plugin of this name; raises `UnknownEngine` or `UnusablePlugin`."""
    entries = discover()
    if name not in entries:
        raise UnknownEngine(name, entries)
    return _load(entries[name])


def load_all(reserved: Collection[str] = ()) -> Catalogue:
    """Load every engine. One that cannot be used becomes a problem in the catalogue; the others still load.

    `reserved` are the names of options that belong to the server.
    """
    plugins: dict[str, Plugin] = {}
    problems: dict[str, UnusablePlugin] = {}
    taken = set(reserved)
    for name, entry in discover().items():
        try:
            plugin = _load(entry)
            names = _option_names(plugin)
            if clash := sorted(taken.intersection(names)):
                owner = "the server or another engine"
                raise UnusablePlugin(name, f"its option {clash[0]} already belongs to {owner}")
        except UnusablePlugin as problem:
            problems[name] = problem
        else:
            plugins[name] = plugin
            taken.update(names)
    return Catalogue(plugins, problems)


def _load(entry: EntryPoint) -> Plugin:
    try:
        plugin = entry.load()
    # A module of another package may fail in any way while it is imported, sys.exit() included.
    except (Exception, SystemExit) as error:
        reason = " ".join(str(error).split())
        raise UnusablePlugin(
            entry.name, f"loading {entry.value} failed with {type(error).__name__}: {reason}"
        ) from error
    if reason := _fault(entry, plugin):
        raise UnusablePlugin(entry.name, reason)
    assert isinstance(plugin, Plugin)
    return plugin


def _fault(entry: EntryPoint, plugin: object) -> str:
    """What is wrong with the plugin that the entry point loaded to; empty when nothing is."""
    if not isinstance(plugin, Plugin):
        return f"{entry.value} is {type(plugin).__name__}, not a ratus.engine.discovery.Plugin"
    if plugin.name != entry.name or not NAME.fullmatch(plugin.name):
        return (
            f"its plugin is named {quoted(plugin.name)} and its entry point {quoted(entry.name)}; "
            "both must be the same lower-case words joined by hyphens"
        )
    names = _option_names(plugin)
    for name in names:
        if not name.startswith(f"{plugin.name}-"):
            return f"its option {name} must begin with {plugin.name}-"
        if names.count(name) > 1:
            return f"its option {name} is there twice (retention-period is every engine's already)"
    return ""


def _option_names(plugin: Plugin) -> list[str]:
    return [*(option.name for option in plugin.options), f"{plugin.name}-{RETENTION.name}"]
