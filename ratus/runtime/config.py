"""The settings of a server: one table of options, filled from flags, the environment and defaults."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from types import MappingProxyType
from typing import Any, Final, Literal, NoReturn

from ratus.core.options import RETENTION, SERVER_GROUPS, Group, Option
from ratus.core.quoting import quoted
from ratus.engine import discovery
from ratus.engine.discovery import Plugin

# Microseconds. With chores more often than a thousand times a second, a server would do nothing else.
_MIN_CHORE_INTERVAL: Final = 1_000

# What a browser sends as `Origin`: scheme, host and perhaps a port, never a path.
_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://[^\s/?#@]+")

# How many characters of a path an error message shows: all, since no system has longer paths.
_LONGEST_PATH: Final = 4096

_URL: Final = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*://)(?P<user>.*@)?(?P<place>[^?#]*)(?P<rest>.*)", re.S)


class UsageError(Exception):
    """A flag or an environment variable is wrong. The message, one line, names it and what is allowed."""


@dataclass(frozen=True)
class Settings:
    """Everything that can be set, checked. Durations are in microseconds, sizes in bytes.

    `cors_origins` is empty when cross-origin requests are off. `engine_options` holds the chosen engine's
    own options and its `retention-period`, by name. What may hold a password is left out of the `repr`.
    """

    engine: str
    port: int
    bind: str
    shutdown_delay: int
    shutdown_timeout: int
    chore_interval: int
    chore_initial_delay: int
    chore_initial_random: bool
    retention_period: int
    retry_max_attempts: int
    retry_delay: int
    retry_max_delay: int
    promise_max_wait: int
    promise_max_limit: int
    pagination_max_limit: int
    pagination_max_offset: int
    max_body_size: int
    max_batch_size: int
    max_connections: int
    max_connections_per_address: int
    max_bodies_in_flight: int
    max_unread_answers: int
    min_body_rate: int
    metrics_max_label_values: int
    trace_headers: bool
    auth_tokens: str = field(repr=False)
    auth_tokens_file: str
    cors_origins: tuple[str, ...]
    tls_certfile: str
    tls_keyfile: str
    log_format: Literal["plain", "json"]
    log_level: Literal["debug", "info", "warning", "error"]
    access_log: bool
    engine_options: Mapping[str, Any] = field(repr=False)


class _Origin(IntEnum):
    """Where a value came from, in order of precedence."""

    FLAG = 0
    ENVIRONMENT = 1
    DEFAULT = 2


@dataclass(frozen=True)
class _Setting:
    """A value and where it came from; `source` names the flag or the variable for an error message."""

    value: Any
    source: str
    origin: _Origin


def catalogue() -> discovery.Catalogue:
    """Every engine that can be used, and for each of the others the reason why not.

    An engine with an option that has the name of one of the server's cannot be used.
    """
    return discovery.load_all(reserved=[option.name for option in _options(SERVER_GROUPS)])


def groups(engines: Iterable[Plugin]) -> tuple[Group, ...]:
    """The whole table: the server's options, then those of each engine, in the order of the help."""
    return (*SERVER_GROUPS, *(Group(f"Engine {e.name}: {e.summary}", _engine_options(e)) for e in engines))


def parse(
    argv: Sequence[str], environ: Mapping[str, str], engines: discovery.Catalogue | None = None
) -> Settings:
    """The settings that these flags and this environment ask for; a flag beats the environment.

    An engine's own retention period beats the common one of the same origin. `engines` is the catalogue of
    engines, by default of those that are installed. Files that are named are opened once, to see whether they
    can be read. Raises `UsageError`.
    """
    engines = catalogue() if engines is None else engines
    table = groups(engines.plugins.values())
    flags = _read_flags(argv, table)
    settings = {option.name: _resolve(option, flags, environ) for option in _options(table)}
    for name in ("auth-tokens-file", "tls-certfile", "tls-keyfile"):
        _check_readable(settings[name])
    _check_chores(settings["chore-interval"], settings["port"])
    _check_tls(settings["tls-certfile"], settings["tls-keyfile"])

    plugin = _chosen(settings["engine"], engines)
    # Of equals, min() takes the first: the engine's own.
    either = (settings[f"{plugin.name}-{RETENTION.name}"], settings[RETENTION.name])
    retention = min(either, key=lambda setting: setting.origin).value
    own = {option.name: settings[option.name].value for option in plugin.options}
    values = {option.name: settings[option.name].value for option in _options(SERVER_GROUPS)} | {
        "bind": _address(settings["bind"]),
        "cors-origins": _origins(
            settings["cors-origins"],
            secured=bool(settings["auth-tokens"].value or settings["auth-tokens-file"].value),
        ),
        RETENTION.name: retention,
        "engine-options": MappingProxyType(own | {RETENTION.name: retention}),
    }
    return Settings(**{name.replace("-", "_"): value for name, value in values.items()})


def describe(settings: Settings, engines: discovery.Catalogue | None = None) -> dict[str, str]:
    """The server's settings and the chosen engine's, as text by option name, for a log; secrets masked."""
    engines = catalogue() if engines is None else engines
    shown = {}
    for option in _options(SERVER_GROUPS):
        value = getattr(settings, option.name.replace("-", "_"))
        shown[option.name] = _shown(option, " ".join(value) if isinstance(value, tuple) else value)
    for option in engines.get(settings.engine).options:
        shown[option.name] = _shown(option, settings.engine_options[option.name])
    return shown


def flag_parser(table: Iterable[Group], **arguments: Any) -> argparse.ArgumentParser:
    """A parser of the flags of `table`, which leaves their values as text; it also writes their help.

    `arguments` go to `argparse.ArgumentParser`. What the parser refuses is raised as a `UsageError`.
    """
    parser = _FlagParser(allow_abbrev=False, add_help=False, argument_default=argparse.SUPPRESS, **arguments)
    for group in table:
        section = parser.add_argument_group(group.title)
        for option in group.options:
            names = [option.short, option.flag] if option.short else [option.flag]
            note = f"[{option.environment}; default {option.default_text or 'none'}]"
            # A switch without a value is true.
            arity: dict[str, Any] = {"nargs": "?", "const": "true"} if option.kind == "switch" else {}
            section.add_argument(
                *names,
                dest=option.name,
                metavar=option.metavar,
                help=f"{option.help} {note}".replace("%", "%%"),
                **arity,
            )
    return parser


class _FlagParser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        if message.endswith("expected one argument"):
            message += "; join a value that begins with a hyphen to its flag with ="
        raise UsageError(message.removeprefix("argument "))


def _options(table: Iterable[Group]) -> list[Option]:
    return [option for group in table for option in group.options]


def _engine_options(plugin: Plugin) -> tuple[Option, ...]:
    """The plugin's own options and the retention period, which every engine can have of its own."""
    retention = replace(
        RETENTION,
        name=f"{plugin.name}-{RETENTION.name}",
        help=f"like {RETENTION.flag}, for this engine only",
    )
    return (*plugin.options, retention)


def _read_flags(argv: Sequence[str], table: Sequence[Group]) -> dict[str, str]:
    """The text of each flag in `argv`, by the option's name."""
    arguments: list[str] = []
    for argument in argv:
        previous = arguments[-1] if arguments else ""
        # argparse takes a value such as -5s for a flag unless it is joined to its own flag with "=". No flag
        # begins with a hyphen and a digit or point.
        if re.match(r"-[0-9.]", argument) and previous.startswith("-") and "=" not in previous:
            arguments[-1] = f"{previous}={argument}"
        else:
            arguments.append(argument)
    found, rest = flag_parser(table).parse_known_args(arguments)
    if rest:
        raise UsageError(_unexpected(rest[0], arguments, [option.flag for option in _options(table)]))
    return dict(vars(found))


def _unexpected(argument: str, arguments: Sequence[str], known: Sequence[str]) -> str:
    """The error message for an unknown argument. Only a flag is shown: another may be half of a secret."""
    if argument.startswith("-") and argument.strip("-"):
        flag = argument.partition("=")[0]
        alike = difflib.get_close_matches(flag, known, n=1)
        return f"unknown flag {quoted(flag)}" + (f", did you mean {alike[0]}?" if alike else "")
    before = next((a for a in reversed(arguments[: arguments.index(argument)]) if a.startswith("-")), "")
    place = f" after {before.partition('=')[0]}" if before else ""
    return f"unexpected argument{place}: each flag takes one value, quote a value that holds spaces"


def _resolve(option: Option, flags: Mapping[str, str], environ: Mapping[str, str]) -> _Setting:
    text: str | None
    if (text := flags.get(option.name)) is not None:
        source, origin = option.flag, _Origin.FLAG
    elif (text := environ.get(option.environment)) or (text is not None and option.empty_is_a_value):
        source, origin = f"environment variable {option.environment}", _Origin.ENVIRONMENT
    else:
        return _Setting(option.default_value, option.flag, _Origin.DEFAULT)
    try:
        return _Setting(option.read(text), source, origin)
    except ValueError as error:
        raise UsageError(f"{source}: {error}") from None


def _chosen(engine: _Setting, engines: discovery.Catalogue) -> Plugin:
    try:
        return engines.get(engine.value)
    except discovery.PluginError as error:
        raise UsageError(f"{engine.source}: {error}") from None


def _check_readable(path: _Setting) -> None:
    if not path.value:
        return
    try:
        with open(path.value, "rb") as file:
            file.read(1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(
            f"{path.source}: cannot read {quoted(path.value, _LONGEST_PATH)}: {reason}"
        ) from None


def _check_chores(interval: _Setting, port: _Setting) -> None:
    if interval.value == 0 and port.value == 0:
        raise UsageError(f"{interval.source}: 0 together with port 0 leaves this instance nothing to do")
    if 0 < interval.value < _MIN_CHORE_INTERVAL:
        raise UsageError(f"{interval.source}: must be 0 or at least 1ms")


def _check_tls(certificate: _Setting, key: _Setting) -> None:
    if bool(certificate.value) != bool(key.value):
        present, absent = (certificate, key) if certificate.value else (key, certificate)
        raise UsageError(f"{present.source}: needs {absent.source} as well")


def _address(bind: _Setting) -> str:
    """The address without the brackets that an IPv6 address has in a URL."""
    address: str = bind.value
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    if not address or not address.isprintable() or " " in address:
        raise UsageError(f"{bind.source}: {quoted(bind.value)} is not an address to listen on")
    return address


def _origins(setting: _Setting, *, secured: bool) -> tuple[str, ...]:
    """The origins whose pages may call the API.

    ``auto`` means all of them on a server with tokens (`secured`), and none on a server without.
    """
    if setting.value == "auto":
        return ("*",) if secured else ()
    origins = tuple(dict.fromkeys(re.split(r"[\s,]+", setting.value.strip(" \t\r\n,"))))
    if origins in (("",), ("none",)):
        return ()
    if origins == ("*",):
        return origins
    for origin in origins:
        if origin in ("*", "none", "auto"):
            raise UsageError(f"{setting.source}: {origin} must stand alone")
        if not _ORIGIN.fullmatch(origin):
            raise UsageError(
                f"{setting.source}: {quoted(origin)} is not an origin; write scheme and host, and the port "
                "if any, as in https://example.org:8443"
            )
    return origins


def _shown(option: Option, value: str | int | bool) -> str:
    text = option.show(value)
    if not option.secret or not text:
        return text
    if not (url := _URL.fullmatch(text)):
        return "***"
    # The options of a connection string can hold passwords too.
    return url["scheme"] + ("***@" if url["user"] else "") + url["place"] + ("?***" if url["rest"] else "")
