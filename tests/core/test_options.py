"""An option's names, kinds, bounds and defaults, and the server's table."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratus.core.options import SERVER_GROUPS, Option


def option(kind: Any = "text", default: Any = "", **members: Any) -> Option:
    return Option("memdb-thing", kind, default, "help", **members)


def test_flag_and_environment_come_from_the_name() -> None:
    thing = Option("memdb-snapshot-path", "text", "", "help")
    assert thing.flag == "--memdb-snapshot-path"
    assert thing.environment == "MEMDB_SNAPSHOT_PATH"


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("text", "", ""),
        ("text", " as it is ", " as it is "),
        ("duration", "5m", 300_000_000),
        ("duration", "1.5s", 1_500_000),
        ("duration", "0", 0),
        ("integer", "0", 0),
        ("integer", "-3", -3),
        ("integer", "+7", 7),
        ("size", "1024", 1024),
        ("size", "1KiB", 1024),
        ("size", "4MiB", 4_194_304),
        ("size", "2GiB", 2_147_483_648),
        ("switch", "true", True),
        ("switch", "TRUE", True),
        ("switch", "1", True),
        ("switch", "yes", True),
        ("switch", "on", True),
        ("switch", "false", False),
        ("switch", "0", False),
        ("switch", "no", False),
        ("switch", "off", False),
    ],
)
def test_a_text_is_read_by_its_kind(kind: Any, text: str, value: object) -> None:
    defaults: dict[str, Any] = {"text": "", "switch": False}
    read = option(kind, defaults.get(kind, 0)).read(text)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("duration", ""),
        ("duration", "10"),
        ("duration", "1d"),
        ("duration", "1ns"),
        ("duration", "-0.9us"),
        ("integer", ""),
        ("integer", "ten"),
        ("integer", "1_000"),
        ("integer", " 5"),
        ("integer", "5.0"),
        ("integer", "٣"),
        ("integer", "9" * 5000),
        ("size", ""),
        ("size", "-1"),
        ("size", "4MB"),
        ("size", "4 MiB"),
        ("size", "1.5MiB"),
        ("switch", ""),
        ("switch", "maybe"),
        ("switch", "2"),
    ],
)
def test_what_is_not_of_the_kind_is_refused_in_one_short_line(kind: Any, text: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        option(kind, False if kind == "switch" else 0).read(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_a_choice_is_one_of_its_choices_in_any_case() -> None:
    level = option("choice", "info", choices=("debug", "info"))
    assert level.read("DEBUG") == "debug"
    with pytest.raises(ValueError, match='"loud" is not one of debug, info'):
        level.read("loud")


def test_bounds_are_inclusive_and_named() -> None:
    port = option("integer", 80, minimum=0, maximum=65535)
    assert port.read("0") == 0
    assert port.read("65535") == 65535
    for text in ("-1", "65536"):
        with pytest.raises(
            ValueError, match=rf"^{text} is out of bounds: it must be at least 0 and at most 65535"
        ):
            port.read(text)
    with pytest.raises(ValueError, match=r"^-5s is out of bounds: it must be at least 0s$"):
        option("duration", 0, minimum=0).read("-5s")
    with pytest.raises(ValueError, match=r"^1KiB is out of bounds: it must be at most 1000$"):
        option("size", 0, maximum=1000).read("1KiB")


@pytest.mark.parametrize(
    ("kind", "default", "text"),
    [
        ("duration", "72h", "72h"),
        ("duration", 72 * 3_600_000_000, "72h"),
        ("duration", 600_000_000, "10m"),
        ("duration", 5_400_000_000, "1h30m"),
        ("duration", 3_610_000_000, "1h0m10s"),
        ("duration", 0, "0s"),
        ("size", 4 * 2**20, "4MiB"),
        ("size", 1000, "1000"),
        ("switch", True, "true"),
        ("integer", 7, "7"),
        ("text", "ratus", "ratus"),
    ],
)
def test_a_default_is_shown_as_it_would_be_written(kind: Any, default: Any, text: str) -> None:
    assert option(kind, default).default_text == text


@given(st.integers(min_value=-(2**62) // 1000, max_value=2**62 // 1000))
def test_every_duration_is_shown_so_that_it_reads_back(microseconds: int) -> None:
    duration = option("duration", 0)
    assert duration.read(duration.show(microseconds)) == microseconds


@given(st.integers(min_value=0, max_value=2**59))
def test_every_size_is_shown_so_that_it_reads_back(size: int) -> None:
    assert option("size", 0).read(option("size", 0).show(size)) == size


@pytest.mark.parametrize(
    "name", ["", "Memdb-path", "memdb_path", "memdb--path", "-memdb", "memdb-", "9lives", "a b"]
)
def test_a_name_is_lower_case_words_joined_by_hyphens(name: str) -> None:
    with pytest.raises(ValueError, match="lower-case words"):
        Option(name, "text", "", "help")


@pytest.mark.parametrize(
    "members",
    [
        {"kind": "integer", "default": "80"},
        {"kind": "integer", "default": True},
        {"kind": "text", "default": 5},
        {"kind": "switch", "default": "true"},
        {"kind": "duration", "default": "soon"},
        {"kind": "duration", "default": False},
        {"kind": "integer", "default": 0, "minimum": 1},
        {"kind": "choice", "default": "a"},
        {"kind": "choice", "default": "c", "choices": ("a", "b")},
        {"kind": "text", "default": "a", "choices": ("a", "b")},
        {"kind": "integer", "default": 1, "secret": True},
    ],
    ids=str,
)
def test_an_option_that_contradicts_itself_is_refused(members: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="option memdb-thing"):
        option(**members)


def test_the_table_has_the_documented_names_and_defaults() -> None:
    shown = {o.name: (o.environment, o.default_text) for group in SERVER_GROUPS for o in group.options}
    assert shown == {
        "engine": ("ENGINE", "memdb"),
        "port": ("PORT", "80"),
        "bind": ("BIND", "0.0.0.0"),
        "shutdown-delay": ("SHUTDOWN_DELAY", "0s"),
        "shutdown-timeout": ("SHUTDOWN_TIMEOUT", "60s"),
        "chore-interval": ("CHORE_INTERVAL", "10s"),
        "chore-initial-delay": ("CHORE_INITIAL_DELAY", "0s"),
        "chore-initial-random": ("CHORE_INITIAL_RANDOM", "false"),
        "retention-period": ("RETENTION_PERIOD", "72h"),
        "retry-max-attempts": ("RETRY_MAX_ATTEMPTS", "0"),
        "retry-delay": ("RETRY_DELAY", "1s"),
        "retry-max-delay": ("RETRY_MAX_DELAY", "1h"),
        "promise-max-wait": ("PROMISE_MAX_WAIT", "60s"),
        "promise-max-limit": ("PROMISE_MAX_LIMIT", "1000"),
        "pagination-max-limit": ("PAGINATION_MAX_LIMIT", "100"),
        "pagination-max-offset": ("PAGINATION_MAX_OFFSET", "10000"),
        "max-body-size": ("MAX_BODY_SIZE", "4MiB"),
        "max-batch-size": ("MAX_BATCH_SIZE", "10000"),
        "max-connections": ("MAX_CONNECTIONS", "16384"),
        "max-connections-per-address": ("MAX_CONNECTIONS_PER_ADDRESS", "0"),
        "max-bodies-in-flight": ("MAX_BODIES_IN_FLIGHT", "256MiB"),
        "max-unread-answers": ("MAX_UNREAD_ANSWERS", "256MiB"),
        "min-body-rate": ("MIN_BODY_RATE", "100"),
        "metrics-max-label-values": ("METRICS_MAX_LABEL_VALUES", "1000"),
        "trace-headers": ("TRACE_HEADERS", "false"),
        "auth-tokens": ("AUTH_TOKENS", ""),
        "auth-tokens-file": ("AUTH_TOKENS_FILE", ""),
        "cors-origins": ("CORS_ORIGINS", "auto"),
        "tls-certfile": ("TLS_CERTFILE", ""),
        "tls-keyfile": ("TLS_KEYFILE", ""),
        "log-format": ("LOG_FORMAT", "plain"),
        "log-level": ("LOG_LEVEL", "info"),
        "access-log": ("ACCESS_LOG", "false"),
    }
