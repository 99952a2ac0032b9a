"""Settings from flags, environment and defaults: precedence, spelling, checks, secrets."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratus.core.options import SERVER_GROUPS, Option
from ratus.engine.discovery import Catalogue, Plugin, UnusablePlugin
from ratus.runtime import config
from ratus.runtime.app import limits
from ratus.runtime.config import Settings, UsageError

HOUR = 3_600_000_000


def no_engine(values: Mapping[str, Any]) -> Any:
    raise AssertionError("reading the settings creates no engine")


MEMDB = Plugin(
    "memdb",
    "in memory",
    (
        Option("memdb-snapshot-path", "text", "", "file"),
        Option(
            "memdb-snapshot-interval", "duration", 300_000_000, "time between snapshots", minimum=1_000_000
        ),
    ),
    no_engine,
)
MONGODB = Plugin(
    "mongodb",
    "in MongoDB",
    (
        Option("mongodb-uri", "text", "mongodb://127.0.0.1:27017", "connection string", secret=True),
        Option("mongodb-disable-atomic-poll", "switch", False, "claim optimistically"),
    ),
    no_engine,
)
ENGINES = Catalogue(
    {"memdb": MEMDB, "mongodb": MONGODB}, {"broken": UnusablePlugin("broken", "it is broken")}
)

TABLE = [option for group in config.groups(ENGINES.plugins.values()) for option in group.options]


def parse(*argv: str, **environ: str) -> Settings:
    return config.parse(argv, environ, ENGINES)


def settings_or_error(argv: list[str], environ: dict[str, str]) -> Settings | UsageError:
    try:
        return config.parse(argv, environ, ENGINES)
    except UsageError as error:
        return error


def refusal(*argv: str, **environ: str) -> str:
    with pytest.raises(UsageError) as caught:
        parse(*argv, **environ)
    message = str(caught.value)
    assert message.isprintable()
    return message


@pytest.fixture(scope="module")
def readable(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("files") / "readable"
    path.write_text("content")
    return str(path)


def another_value(option: Option, readable: str) -> str:
    """A text that is allowed for the option and is not its default."""
    if option.name in ("auth-tokens-file", "tls-certfile", "tls-keyfile"):
        return readable
    special = {"engine": "mongodb", "bind": "::1", "cors-origins": "https://example.org"}
    return (
        special.get(option.name)
        or {
            "text": "something",
            "duration": "2h5m",
            "integer": "77",
            "size": "2MiB",
            "switch": "true",
            "choice": option.choices[-1] if option.choices else "",
        }[option.kind]
    )


def companions(option: Option, readable: str) -> tuple[str, ...]:
    """Flags without which the option is not accepted or cannot be seen in the settings."""
    if option.name.startswith("tls-"):
        return (f"--tls-certfile={readable}", f"--tls-keyfile={readable}")
    return ("--engine=mongodb",) if option.name.startswith("mongodb-") else ()


def test_every_option_of_the_server_is_a_member_of_the_settings_and_the_reverse() -> None:
    names = {option.name.replace("-", "_") for group in SERVER_GROUPS for option in group.options}
    assert names | {"engine_options"} == {field.name for field in dataclasses.fields(Settings)}


def test_defaults() -> None:
    settings = parse()
    assert settings.engine == "memdb"
    assert (settings.port, settings.bind) == (80, "0.0.0.0")
    assert (settings.chore_interval, settings.chore_initial_delay) == (10_000_000, 0)
    assert settings.chore_initial_random is False
    assert settings.retention_period == 72 * HOUR
    assert settings.cors_origins == ()
    assert settings.max_body_size == 4 * 2**20
    assert settings.auth_tokens == settings.auth_tokens_file == ""
    assert settings.engine_options == {
        "memdb-snapshot-path": "",
        "memdb-snapshot-interval": 300_000_000,
        "retention-period": 72 * HOUR,
    }


@pytest.mark.parametrize("option", TABLE, ids=lambda option: option.name)
def test_flag_and_environment_mean_the_same_for_every_option(option: Option, readable: str) -> None:
    value = another_value(option, readable)
    others = companions(option, readable)
    by_environment = config.parse(
        [o for o in others if not o.startswith(option.flag)], {option.environment: value}, ENGINES
    )
    assert parse(*others, option.flag, value) == by_environment
    assert parse(*others, f"{option.flag}={value}") == by_environment
    without = () if option.name.startswith("tls-") else others
    assert by_environment != parse(*without)


@pytest.mark.parametrize("option", TABLE, ids=lambda option: option.name)
def test_a_flag_beats_the_environment_even_with_the_default(option: Option, readable: str) -> None:
    others = tuple(o for o in companions(option, readable) if not o.startswith(option.flag))
    value = another_value(option, readable)
    if option.name.startswith("tls-"):
        assert "needs" in refusal(*others, f"{option.flag}=", **{option.environment: value})
        return
    both = parse(*others, f"{option.flag}={option.default_text}", **{option.environment: value})
    assert both == parse(*others)


@pytest.mark.parametrize(
    "option", [option for option in TABLE if not option.empty_is_a_value], ids=lambda option: option.name
)
def test_an_empty_environment_variable_counts_as_unset(option: Option) -> None:
    assert parse(**{option.environment: ""}) == parse()


def test_flag_spellings() -> None:
    assert parse("-p", "8000").port == parse("-p=8000").port == parse("--port", "8000").port == 8000
    assert parse("-b", "::1").bind == "::1"
    assert parse("--port", "1", "--port", "2").port == 2
    assert parse("--access-log").access_log is True
    assert parse("--access-log=true").access_log is True
    assert parse("--access-log=false", ACCESS_LOG="true").access_log is False
    assert parse("--access-log", "--port", "1").port == 1


@pytest.mark.parametrize(
    ("text", "value"), [("1", True), ("YES", True), ("true", True), ("0", False), ("No", False)]
)
def test_switches_in_the_environment(text: str, value: bool) -> None:
    assert parse(CHORE_INITIAL_RANDOM=text).chore_initial_random is value


def test_every_engines_options_are_accepted_whichever_engine_is_chosen() -> None:
    settings = parse("--mongodb-uri", "mongodb://db", MONGODB_DISABLE_ATOMIC_POLL="true")
    assert settings == parse()
    chosen = parse("--engine=mongodb", "--mongodb-uri", "mongodb://db", MEMDB_SNAPSHOT_PATH="/data/ratus.db")
    assert chosen.engine_options == {
        "mongodb-uri": "mongodb://db",
        "mongodb-disable-atomic-poll": False,
        "retention-period": 72 * HOUR,
    }


@pytest.mark.parametrize(
    ("argv", "environ", "hours"),
    [
        ([], {}, 72),
        (["--retention-period=1h"], {}, 1),
        (["--retention-period=1h", "--memdb-retention-period=2h"], {}, 2),
        (["--memdb-retention-period=2h", "--mongodb-retention-period=3h"], {}, 2),
        (["--mongodb-retention-period=3h"], {}, 72),
        (["--engine=mongodb", "--memdb-retention-period=2h", "--mongodb-retention-period=3h"], {}, 3),
        ([], {"RETENTION_PERIOD": "1h"}, 1),
        ([], {"RETENTION_PERIOD": "1h", "MEMDB_RETENTION_PERIOD": "2h"}, 2),
        (["--memdb-retention-period=3h"], {"RETENTION_PERIOD": "1h", "MEMDB_RETENTION_PERIOD": "2h"}, 3),
        # A flag beats the environment, an engine's own variable included, which a container image may set.
        (["--retention-period=3h"], {"MEMDB_RETENTION_PERIOD": "2h"}, 3),
        (["--retention-period=3h"], {"RETENTION_PERIOD": "1h"}, 3),
        (["--retention-period=0"], {"RETENTION_PERIOD": "1h"}, 0),
        ([], {"RETENTION_PERIOD": "1h", "MEMDB_RETENTION_PERIOD": ""}, 1),
    ],
)
def test_the_engines_own_retention_period_wins(argv: list[str], environ: dict[str, str], hours: int) -> None:
    settings = config.parse(argv, environ, ENGINES)
    assert settings.retention_period == hours * HOUR
    assert settings.engine_options["retention-period"] == hours * HOUR


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--port", "-1"], ["--port", "-1", "at least 0", "65535"]),
        (["--port=65536"], ["--port", "65535"]),
        (["--port", "http"], ["--port", '"http"', "whole number"]),
        (["--port="], ["--port", '""']),
        (["--port"], ["--port", "expected one argument"]),
        (["--port", "--bind", "::"], ["--port", "expected one argument"]),
        (["--chore-interval", "-5s"], ["--chore-interval", "-5s", "at least 0s"]),
        (["--chore-interval", "10"], ["--chore-interval", '"10"', "unit"]),
        (["--chore-interval", "1ns"], ["--chore-interval", "shorter than a microsecond"]),
        (["--chore-interval", "10us"], ["--chore-interval", "at least 1ms"]),
        (["--chore-interval=0", "--port=0"], ["--chore-interval", "port 0", "nothing to do"]),
        (["--retention-period=-1h"], ["--retention-period", "-1h"]),
        (["--mongodb-retention-period=-1h"], ["--mongodb-retention-period", "-1h"]),
        (["--retry-max-attempts=-1"], ["--retry-max-attempts"]),
        (["--pagination-max-limit=0"], ["--pagination-max-limit", "at least 1"]),
        (["--pagination-max-offset=-1"], ["--pagination-max-offset", "at least 0"]),
        (["--promise-max-limit=0"], ["--promise-max-limit", "at least 1"]),
        (["--promise-max-wait=25h"], ["--promise-max-wait", "at most 24h"]),
        (["--max-body-size=1023"], ["--max-body-size", "at least 1KiB"]),
        (["--max-body-size=2GiB"], ["--max-body-size", "at most 1GiB"]),
        (["--max-batch-size=0"], ["--max-batch-size", "at least 1"]),
        (["--metrics-max-label-values=0"], ["--metrics-max-label-values", "at least 1"]),
        (["--access-log=perhaps"], ["--access-log", '"perhaps"']),
        (["--log-level=loud"], ["--log-level", "debug, info, warning, error"]),
        (["--log-format=xml"], ["--log-format", "plain, json"]),
        (["--memdb-snapshot-interval=1ms"], ["--memdb-snapshot-interval", "at least 1s"]),
        (["--engine=redis"], ["--engine", '"redis"', "memdb, mongodb"]),
        (["--engine="], ["--engine", '""', "memdb, mongodb"]),
        (["--engine=broken"], ["--engine", "it is broken"]),
        (["--bind="], ["--bind", "address"]),
        (["--bind=a b"], ["--bind", "address"]),
        (["--auth-tokens-file=/nowhere/at/all"], ["--auth-tokens-file", "/nowhere/at/all", "No such file"]),
        (["--auth-tokens-file=/"], ["--auth-tokens-file", "directory"]),
        (["--auth-tokens-file=a\0b"], ["--auth-tokens-file", "null"]),
        (["--cors-origins=https://example.org/"], ["--cors-origins", '"https://example.org/"', "origin"]),
        (["--cors-origins=example.org"], ["--cors-origins", "origin"]),
        (["--cors-origins=*,https://example.org"], ["--cors-origins", "alone"]),
        (["--cors-origins=none https://example.org"], ["--cors-origins", "alone"]),
        (["--prt=80"], ['unknown flag "--prt"', "--port"]),
        (["--pagination-max-lim=80"], ["unknown flag", "--pagination-max-limit"]),
        (["-x"], ['unknown flag "-x"']),
        (["8000"], ["unexpected argument"]),
        (["--cors-origins", "https://a.example", "https://b.example"], ["after --cors-origins", "quote"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_is_wrong_is_named_in_one_line(argv: list[str], expected: list[str]) -> None:
    message = refusal(*argv)
    for part in expected:
        assert part in message


@pytest.mark.parametrize(
    "option", [option for option in TABLE if option.kind != "text"], ids=lambda option: option.name
)
def test_an_error_in_the_environment_names_the_variable(option: Option) -> None:
    assert refusal(**{option.environment: "junk!"}).startswith(f"environment variable {option.environment}: ")


def test_errors_of_checked_texts_name_the_variable_too(readable: str) -> None:
    assert refusal(TLS_CERTFILE=readable) == "environment variable TLS_CERTFILE: needs --tls-keyfile as well"
    assert refusal(TLS_KEYFILE=readable) == "environment variable TLS_KEYFILE: needs --tls-certfile as well"
    assert "environment variable ENGINE: " in refusal(ENGINE="redis")
    assert "environment variable BIND: " in refusal(BIND=" ")
    assert "environment variable AUTH_TOKENS_FILE: " in refusal(AUTH_TOKENS_FILE="/nowhere")


def test_an_unreadable_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "tokens"
    path.write_text("secret")

    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patched:  # ends with the test's own lines: pytest opens files, too
        patched.setattr("builtins.open", denied)  # root may read whatever the mode says
        assert refusal(f"--auth-tokens-file={path}").endswith("Permission denied")


@pytest.mark.parametrize(
    ("text", "origins"),
    [
        ("*", ("*",)),
        ("", ()),
        ("none", ()),
        (" , ", ()),
        ("https://a.example", ("https://a.example",)),
        (
            "https://a.example, http://localhost:3000\nhttps://a.example",
            ("https://a.example", "http://localhost:3000"),
        ),
        ("moz-extension://1f2e", ("moz-extension://1f2e",)),
        ("http://[::1]:8080", ("http://[::1]:8080",)),
    ],
)
def test_cors_origins(text: str, origins: tuple[str, ...]) -> None:
    assert parse(f"--cors-origins={text}").cors_origins == origins
    assert parse(CORS_ORIGINS=text).cors_origins == origins


def test_cors_origins_follow_the_tokens() -> None:
    assert parse().cors_origins == parse("--cors-origins=auto").cors_origins == ()
    assert parse("--auth-tokens=secret").cors_origins == ("*",)
    assert parse("--auth-tokens=secret", "--cors-origins=auto").cors_origins == ("*",)
    assert parse(AUTH_TOKENS_FILE=os.devnull).cors_origins == ("*",)
    assert parse("--auth-tokens=secret", "--cors-origins=none").cors_origins == ()


def test_an_ipv6_address_may_have_its_brackets() -> None:
    assert parse("--bind=[::1]").bind == "::1"


def test_one_role_alone_is_allowed() -> None:
    assert parse("--port=0").port == 0
    assert parse("--chore-interval=0").chore_interval == 0


@given(
    st.lists(
        st.sampled_from([o.flag for o in TABLE] + ["-p", "-b", "--", "-", "x", "1", "-1", "=", "5s"])
        | st.text()
    )
)
def test_any_command_line_gives_settings_or_a_usage_error(argv: list[str]) -> None:
    found = settings_or_error(argv, {})
    assert isinstance(found, Settings) or str(found).isprintable()


@given(st.fixed_dictionaries({}, optional={o.environment: st.text() for o in TABLE}))
def test_any_environment_gives_settings_or_a_usage_error(environ: dict[str, str]) -> None:
    found = settings_or_error([], environ)
    assert isinstance(found, Settings) or str(found).startswith(("environment variable ", "--"))
    assert isinstance(found, Settings) or str(found).isprintable()


def test_secrets_are_in_neither_repr_nor_description() -> None:
    uri = "mongodb://user:hunter2@db.example/ratus?tlsCertificateKeyFilePassword=hunter2"
    settings = parse("--engine=mongodb", "--auth-tokens=hunter2", "--mongodb-uri", uri)
    shown = config.describe(settings, ENGINES)
    assert "hunter2" not in repr(settings)
    assert "hunter2" not in str(shown)
    assert shown["auth-tokens"] == "***"
    assert shown["mongodb-uri"] == "mongodb://***@db.example/ratus?***"


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("", ""),
        ("mongodb://127.0.0.1:27017", "mongodb://127.0.0.1:27017"),
        ("mongodb+srv://a:b@cluster.example", "mongodb+srv://***@cluster.example"),
        ("mongodb://a:p@ss/w?rd@db:1/x", "mongodb://***@db:1/x"),
        ("a:hunter2@db", "***"),
    ],
)
def test_how_a_connection_string_is_masked(uri: str, shown: str) -> None:
    settings = parse("--engine=mongodb", f"--mongodb-uri={uri}")
    assert config.describe(settings, ENGINES)["mongodb-uri"] == shown


def test_a_stray_argument_is_not_repeated_for_it_may_be_a_secret() -> None:
    assert "hunter2" not in refusal("--auth-tokens", "one", "hunter2")
    assert "hunter2" not in refusal("--auth-token=hunter2")


def test_the_description_reads_back_to_the_same_settings(readable: str) -> None:
    settings = parse("--port=8000", "--cors-origins=https://a.example https://b.example", "--retry-delay=90s")
    argv = [f"--{name}={text}" for name, text in config.describe(settings, ENGINES).items()]
    assert parse(*argv) == settings


def test_settings_cannot_be_changed() -> None:
    settings = parse()
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.port = 1  # type: ignore[misc]  # the point of the test
    with pytest.raises(TypeError):
        settings.engine_options["retention-period"] = 1  # type: ignore[index]  # the point of the test


def test_the_limits_of_connections_are_those_of_the_settings() -> None:
    flags = ("--max-connections=1", "--max-connections-per-address=2", "--max-bodies-in-flight=8MiB")
    settings = config.parse([*flags, "--max-unread-answers=4", "--min-body-rate=5"], {})
    guards = limits(settings)
    assert (guards.connections, guards.connections_per_address) == (1, 2)
    assert (guards.body_bytes, guards.unread_bytes, guards.body_rate) == (8 * 2**20, 4, 5)
    # One body of the longest can always be sent, and 0 stays without a limit.
    assert limits(config.parse(["--max-bodies-in-flight=1"], {})).body_bytes == 4 * 2**20
    assert limits(config.parse(["--max-bodies-in-flight=0"], {})).body_bytes == 0
