"""Settings: what an option is, which kinds of values options have, and the table of the server's options."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from ratus.core.durations import format_duration, parse_duration
from ratus.core.quoting import quoted

NAME: Final = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
"""The name of an option or an engine: lower-case words joined by hyphens."""

# Eighteen digits are more than any setting needs and few enough to be converted at once.
_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,18}")
_SIZE: Final = re.compile(r"([0-9]{1,18})(|KiB|MiB|GiB)")
_SIZE_UNITS: Final = {"": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}

_SWITCH: Final = {
    **dict.fromkeys(("true", "t", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "f", "no", "off", "0"), False),
}

_PLACEHOLDERS: Final = {
    "text": "TEXT",
    "duration": "DURATION",
    "integer": "NUMBER",
    "size": "SIZE",
    "switch": "true|false",
}

# Counts travel as JSON numbers and are kept by databases; all of these hold 32 bits.
_MAX_COUNT: Final = 2**31 - 1

# Bytes. A body is held in memory while it is read: room for a small task at least, a gibibyte at most.
_MIN_BODY: Final = 2**10
_MAX_BODY: Final = 2**30

# Bytes that the server may hold for all clients together: a tebibyte is more than machines have.
_MAX_HELD: Final = 2**40

# Microseconds. A request that is held open for longer than a day is a connection that was forgotten.
_MAX_WAIT: Final = 24 * 3600 * 1_000_000


@dataclass(frozen=True)
class Option:
    """One setting: from it come the flag, the environment variable, the check, the help and the documents.

    `memdb-snapshot-path` is the flag `--memdb-snapshot-path` and the environment variable
    `MEMDB_SNAPSHOT_PATH`. A duration's value is an int of microseconds, a size's an int of bytes, a switch's
    a bool; the default of a duration or a size may also be written as on the command line (`"5m"`, `"4MiB"`).

    `minimum` and `maximum` bound numbers, durations and sizes, inclusively. A `secret` text is never shown.
    An empty environment variable counts as unset, unless the option says that empty is a value.

    Raises `ValueError` when the default does not fit or the name is not lower-case words joined by hyphens.
    """

    name: str
    kind: Literal["text", "duration", "integer", "size", "switch", "choice"]
    default: str | int | bool
    help: str
    choices: tuple[str, ...] = ()
    placeholder: str = ""
    secret: bool = False
    short: str = ""
    minimum: int | None = None
    maximum: int | None = None
    empty_is_a_value: bool = False

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ValueError(f"option {quoted(self.name)}: a name is lower-case words joined by hyphens")
        if (self.kind == "choice") != bool(self.choices):
            raise ValueError(f"option {self.name}: choices belong to the kind choice, and it needs them")
        if self.secret and self.kind != "text":
            raise ValueError(f"option {self.name}: only a text can be secret")
        expected = {"switch": bool, "text": str, "choice": str}.get(self.kind, int)
        try:
            default = self.default_value
            suits = type(default) is expected and self.read(self.default_text) == default
        except ValueError as error:
            raise ValueError(f"option {self.name}: its default does not fit: {error}") from None
        if not suits:
            raise ValueError(f"option {self.name}: the default {self.default!r} is not of kind {self.kind}")

    @property
    def flag(self) -> str:
        """The flag, `--name`."""
        return f"--{self.name}"

    @property
    def environment(self) -> str:
        """The environment variable, `NAME`."""
        return self.name.upper().replace("-", "_")

    @property
    def metavar(self) -> str:
        """The placeholder of the value in the help."""
        return self.placeholder or "|".join(self.choices) or _PLACEHOLDERS[self.kind]

    @property
    def default_value(self) -> str | int | bool:
        """The default as `create` receives it: durations in microseconds, sizes in bytes."""
        if isinstance(self.default, str) and self.kind in ("duration", "size"):
            return self.read(self.default)
        return self.default

    @property
    def default_text(self) -> str:
        """The default as it would be written on the command line."""
        return self.default if isinstance(self.default, str) else self.show(self.default)

    def read(self, text: str) -> str | int | bool:
        """The value that `text` means, within the bounds.

        Raises `ValueError` with a message that fits after the name of the flag.
        """
        match self.kind:
            case "text":
                return text
            case "choice":
                if (choice := text.lower()) not in self.choices:
                    raise ValueError(f"{quoted(text)} is not one of {', '.join(self.choices)}")
                return choice
            case "switch":
                if (switch := _SWITCH.get(text.lower())) is None:
                    raise ValueError(f"{quoted(text)} is neither true nor false")
                return switch
            case "integer":
                if not _INTEGER.fullmatch(text):
                    raise ValueError(f"{quoted(text)} is not a whole number")
                return self._bounded(int(text))
            case "size":
                if not (match := _SIZE.fullmatch(text)):
                    raise ValueError(
                        f"{quoted(text)} is not a size; write bytes, or a number with KiB, MiB or GiB"
                    )
                return self._bounded(int(match[1]) * _SIZE_UNITS[match[2]])
            case "duration":
                value = parse_duration(text)
                # 0 often means "never", which is the opposite of very short.
                if value == 0 and re.search("[1-9]", text):
                    raise ValueError(f"{quoted(text)} is shorter than a microsecond; it must be 0 or longer")
                return self._bounded(value)

    def show(self, value: str | int | bool) -> str:
        """`value` as it would be written on the command line."""
        match self.kind:
            case "switch":
                return "true" if value else "false"
            case "size":
                return _format_size(int(value))
            case "duration":
                return _short_duration(int(value))
            case _:
                return str(value)

    def _bounded(self, value: int) -> int:
        low, high = self.minimum, self.maximum
        if (low is None or low <= value) and (high is None or value <= high):
            return value
        allowed = [
            *([] if low is None else [f"at least {self.show(low)}"]),
            *([] if high is None else [f"at most {self.show(high)}"]),
        ]
        raise ValueError(f"{self.show(value)} is out of bounds: it must be {' and '.join(allowed)}")


@dataclass(frozen=True)
class Group:
    """Options that belong together, under the title that they have in the help."""

    title: str
    options: tuple[Option, ...]


RETENTION: Final = Option(
    "retention-period",
    "duration",
    "72h",
    "how long completed tasks are kept, counted from their commit",
    minimum=0,
)


SERVER_GROUPS: Final = (
    Group(
        "Server",
        (
            Option("engine", "text", "memdb", "the storage engine, by name", placeholder="NAME"),
            Option(
                "port",
                "integer",
                80,
                "port to listen on; 0: no API, this instance only does chores",
                placeholder="PORT",
                short="-p",
                minimum=0,
                maximum=65535,
            ),
            Option(
                "bind",
                "text",
                "0.0.0.0",  # noqa: S104 - the documented default, the same as that of Ratus
                "address to listen on",
                placeholder="ADDRESS",
                short="-b",
            ),
            Option(
                "shutdown-delay",
                "duration",
                "0s",
                "how long the port stays open after a signal to stop, while /readyz already says 503, so "
                "that load balancers notice",
                minimum=0,
            ),
            Option(
                "shutdown-timeout",
                "duration",
                "60s",
                "longest time that a stop may take after that delay; then the log says what hangs, and the "
                "process ends with exit code 1; 0: no bound",
                minimum=0,
            ),
        ),
    ),
    Group(
        "Chores",
        (
            Option(
                "chore-interval",
                "duration",
                "10s",
                "time between two rounds of chores, which recover lapsed claims and purge old tasks; 0: no "
                "chores on this instance",
                minimum=0,
            ),
            Option(
                "chore-initial-delay",
                "duration",
                "0s",
                "delay before the first round, so that many instances do not all begin at once",
                minimum=0,
            ),
            Option(
                "chore-initial-random", "switch", False, "draw the initial delay at random, up to that value"
            ),
            RETENTION,
        ),
    ),
    Group(
        "Retries, for tasks that do not say otherwise themselves",
        (
            Option(
                "retry-max-attempts",
                "integer",
                0,
                "failures after which a task is archived; 0: never",
                minimum=0,
                maximum=_MAX_COUNT,
            ),
            Option("retry-delay", "duration", "1s", "delay after the first failure", minimum=0),
            Option("retry-max-delay", "duration", "1h", "longest delay after a failure", minimum=0),
        ),
    ),
    Group(
        "Limits",
        (
            Option(
                "promise-max-wait",
                "duration",
                "60s",
                "longest wait that a request may ask for; 0: no waiting",
                minimum=0,
                maximum=_MAX_WAIT,
            ),
            Option(
                "promise-max-limit",
                "integer",
                1000,
                "most tasks claimed by one request",
                minimum=1,
                maximum=_MAX_COUNT,
            ),
            Option(
                "pagination-max-limit",
                "integer",
                100,
                "most items on one page of a list",
                minimum=1,
                maximum=_MAX_COUNT,
            ),
            Option(
                "pagination-max-offset",
                "integer",
                10000,
                "most items that a list may skip",
                minimum=0,
                maximum=_MAX_COUNT,
            ),
            Option(
                "max-body-size",
                "size",
                "4MiB",
                "longest request body: bytes, or a number with KiB, MiB or GiB",
                minimum=_MIN_BODY,
                maximum=_MAX_BODY,
            ),
            Option(
                "max-batch-size",
                "integer",
                10000,
                "most tasks in one request",
                minimum=1,
                maximum=_MAX_COUNT,
            ),
            Option(
                "max-connections",
                "integer",
                16384,
                "most connections that are open at a time; 0: as many as the limit of open files allows. "
                "128 files are always kept for other uses",
                minimum=0,
                maximum=_MAX_COUNT,
            ),
            Option(
                "max-connections-per-address",
                "integer",
                0,
                "most connections of one client address; 0: as many as of all. All clients behind a proxy "
                "have its address",
                minimum=0,
                maximum=_MAX_COUNT,
            ),
            Option(
                "max-bodies-in-flight",
                "size",
                "256MiB",
                "most bytes of request bodies that are on their way on all connections together, and at "
                "least one of the longest; 0: any number",
                minimum=0,
                maximum=_MAX_HELD,
            ),
            Option(
                "max-unread-answers",
                "size",
                "256MiB",
                "most bytes of answers that clients leave unread before no more lists are made; 0: any "
                "number",
                minimum=0,
                maximum=_MAX_HELD,
            ),
            Option(
                "min-body-rate",
                "size",
                "100",
                "bytes a second that a request body must come at, averaged over more than 30 s; 0: any rate",
                minimum=0,
                maximum=_MAX_BODY,
            ),
            Option(
                "metrics-max-label-values",
                "integer",
                1000,
                "most topics, producers and consumers that metrics tell apart; later ones count as other",
                minimum=1,
                maximum=_MAX_COUNT,
            ),
        ),
    ),
    Group(
        "Tracing",
        (
            Option(
                "trace-headers",
                "switch",
                False,
                "tasks without a trace get the traceparent and tracestate of the request's headers, which a "
                "service mesh puts everywhere",
            ),
        ),
    ),
    Group(
        "Security",
        (
            Option(
                "auth-tokens",
                "text",
                "",
                "tokens, one of which every request must bear, separated by spaces or commas; TOKEN may do "
                "everything, TOKEN:produce+consume+read only that. Everybody on the machine can see flags: "
                "prefer the file or the environment",
                placeholder="TOKENS",
                secret=True,
            ),
            Option(
                "auth-tokens-file",
                "text",
                "",
                "file of such tokens, read again on SIGHUP",
                placeholder="PATH",
            ),
            Option(
                "cors-origins",
                "text",
                "auto",
                "origins, such as https://example.org, whose pages may call the API in a browser, separated "
                "by spaces or commas; *: all; none, or empty: no page of another origin; auto: all where "
                "tokens are set, none without",
                placeholder="ORIGINS",
                empty_is_a_value=True,
            ),
            Option("tls-certfile", "text", "", "certificate chain (PEM): serve HTTPS", placeholder="PATH"),
            Option("tls-keyfile", "text", "", "private key of the certificate (PEM)", placeholder="PATH"),
        ),
    ),
    Group(
        "Logging",
        (
            Option("log-format", "choice", "plain", "lines for people, or JSON", choices=("plain", "json")),
            Option(
                "log-level",
                "choice",
                "info",
                "the least that is worth a line",
                choices=("debug", "info", "warning", "error"),
            ),
            Option("access-log", "switch", False, "log every request (costs about half of the throughput)"),
        ),
    ),
)
"""The server's own options, in the order of the help."""


def _format_size(size: int) -> str:
    """The size in the largest unit that needs no fraction."""
    for unit, scale in reversed(_SIZE_UNITS.items()):
        if size >= scale and size % scale == 0:
            return f"{size // scale}{unit}"
    return str(size)


def _short_duration(microseconds: int) -> str:
    """Go's notation without the zeros that are usually left out: `72h`, not `72h0m0s`."""
    text = format_duration(microseconds)
    if text.endswith("m0s"):
        text = text.removesuffix("0s")
    if text.endswith("h0m"):
        text = text.removesuffix("0m")
    return text
