"""The composition root: settings, an engine and a clock become an application and its service."""

from __future__ import annotations

import logging
import resource
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ratus.api.auth import SHORT, Tokens
from ratus.api.dispatch import Api
from ratus.api.handlers import Handlers
from ratus.api.parsing import Reader
from ratus.core.clock import SECOND, Clock, SystemClock
from ratus.core.transitions import RetryDefaults
from ratus.engine import Engine, discovery
from ratus.metrics import Metrics, TopicStats, measure, scrape
from ratus.runtime import logs
from ratus.runtime.chores import Chores
from ratus.runtime.clock_watch import ClockWatch
from ratus.runtime.config import Settings
from ratus.runtime.long_polls import LongPollQueue
from ratus.runtime.scheduler import Scheduler, make_with
from ratus.runtime.service import Service
from ratus.runtime.value_watch import ValueWatch
from ratus.server.connection_limits import ConnectionLimits

logger = logging.getLogger("ratus")

# Open files that are kept free of clients' connections: for snapshots, databases and their connection pools,
# the log, probes.
SPARE_FILES = 128

PROBES = frozenset(prefix + path for prefix in (b"", b"/v1") for path in (b"/livez", b"/readyz", b"/healthz"))

# How many lists are made at the same time. Serializing one of 12 MB takes 20 ms, so where the engine answers
# at once, one list is made between two turns of the event loop. With a database several are under way, so
# that they do not all wait for a slow one.
_LISTS_AT_ONCE = 1
_LISTS_AT_ONCE_IN_A_DATABASE = 8


def build(
    settings: Settings,
    *,
    engine: Engine | None = None,
    clock: Clock | None = None,
    trim: Callable[[], None] = lambda: None,
) -> tuple[Api, Service]:
    """The application and its service; nothing is opened yet.

    ``trim`` is called once everything is loaded, and with every round of chores. The command, which owns its
    process, passes `ratus.runtime.gc_tuning.Trim`. By default nothing is done: a server within another
    program must not change how that program's garbage is collected.

    Raises `discovery.PluginError` for an engine that cannot be loaded, and `ValueError` or `OSError` for
    tokens that cannot be read.
    """
    clock = clock or SystemClock()
    engine = engine or create_engine(settings)
    tokens = read_tokens(settings)
    metrics = Metrics(settings.metrics_max_label_values, engine=engine.traits.name)
    measure(engine, metrics)
    engine.observer = metrics
    long_polls = LongPollQueue(engine, clock)
    value_watch = ValueWatch(engine, clock)
    reader = Reader(settings)
    scheduler = Scheduler(
        engine,
        clock,
        make_with(reader.task, clock),
        lambda task: metrics.produced(task.topic, task.producer),
        runs=bool(settings.chore_interval),
    )

    def clock_stepped() -> None:
        long_polls.clock_stepped()
        scheduler.clock_stepped()

    clock_watch = ClockWatch(clock, clock_stepped)
    topic_stats = TopicStats(engine, clock, metrics, draining=lambda: handlers.draining)
    _register(metrics, engine, clock, long_polls, value_watch, scheduler, clock_watch)
    handlers = Handlers(
        engine=engine,
        long_polls=long_polls,
        value_watch=value_watch,
        scheduler=scheduler,
        reader=reader,
        metrics=metrics,
        clock=clock,
        scrape=lambda: scrape(metrics, topic_stats),
    )
    api = Api(
        handlers,
        metrics=metrics,
        clock=clock,
        tokens=tokens,
        give_back=long_polls.give_back,
        max_body_size=settings.max_body_size,
        cors_origins=settings.cors_origins,
        log_requests=settings.access_log,
        lists_at_once=_LISTS_AT_ONCE if engine.traits.immediate else _LISTS_AT_ONCE_IN_A_DATABASE,
    )
    chores = Chores(
        engine,
        clock,
        metrics,
        interval=settings.chore_interval,
        initial_delay=settings.chore_initial_delay,
        initial_random=settings.chore_initial_random,
        retention=settings.retention_period,
        more={"values": lambda now: value_watch.values.tidy(now, settings.retention_period)},
        trim=trim,
    )
    service = Service(
        engine=engine,
        clock=clock,
        long_polls=long_polls,
        value_watch=value_watch,
        scheduler=scheduler,
        chores=chores,
        handlers=handlers,
        api=api,
        metrics=metrics,
        topic_stats=topic_stats,
        clock_watch=clock_watch,
        read_tokens=lambda: read_tokens(settings),
        trim=trim,
        shutdown_delay_seconds=settings.shutdown_delay / SECOND,
        shutdown_timeout_seconds=settings.shutdown_timeout / SECOND,
    )
    return api, service


def _register(
    metrics: Metrics,
    engine: Engine,
    clock: Clock,
    long_polls: LongPollQueue,
    value_watch: ValueWatch,
    scheduler: Scheduler,
    clock_watch: ClockWatch,
) -> None:
    """Register the metrics that other objects keep. Raises `ValueError` for one of the engine that is not
    valid."""
    metrics.register(
        "ratus_waiting_requests",
        "gauge",
        "Number of requests that wait for a task to claim (task), for one to be done (result), or for a "
        "value to change (value).",
        lambda: [
            ({"wants": "task"}, long_polls.polls),
            ({"wants": "result"}, long_polls.result_waiters),
            ({"wants": "value"}, value_watch.waiters),
        ],
    )
    metrics.register(
        "ratus_schedules",
        "gauge",
        "Number of schedules with a tick to come, as far as this server knows.",
        lambda: [({}, scheduler.known)],
    )
    metrics.register(
        "ratus_schedule_ticks_total",
        "counter",
        "Number of ticks of schedules that this server made a task of (made), or left out (skipped) because "
        "the last task was not done or it was too late.",
        lambda: [({"outcome": "made"}, scheduler.made), ({"outcome": "skipped"}, scheduler.skipped)],
    )
    metrics.register(
        "ratus_log_lines_dropped_total",
        "counter",
        "Number of log lines dropped since standard error was read too slowly.",
        lambda: [({}, logs.dropped())],
    )

    metrics.register(
        "ratus_clock_steps_total",
        "counter",
        "How often the clock of the machine was set while the server ran.",
        lambda: [
            ({"direction": "forward"}, clock_watch.forward),
            ({"direction": "back"}, clock_watch.back),
        ],
    )

    def value(name: str) -> list[tuple[dict[str, str], float]]:
        return [({}, figure.value) for figure in engine.metrics(clock.now()) if figure.name == name]

    for figure in engine.metrics(clock.now()):
        metrics.register(f"ratus_{figure.name}", figure.kind, figure.help, partial(value, figure.name))


def limits(settings: Settings) -> ConnectionLimits:
    """The limits of connections that the settings ask for."""
    bodies = settings.max_bodies_in_flight
    return ConnectionLimits(
        connections=_connections(settings.max_connections),
        connections_per_address=settings.max_connections_per_address,
        body_bytes=max(bodies, settings.max_body_size) if bodies else 0,
        unread_bytes=settings.max_unread_answers,
        body_rate=settings.min_body_rate,
        probes=PROBES,
    )


def _connections(wanted: int) -> int:
    """How many connections to allow (0: any number): ``wanted`` of them, or fewer, so that some of the files
    that the process may open are left."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return wanted
    most = files - min(SPARE_FILES, files // 2)
    return min(wanted, most) if wanted else most


def create_engine(settings: Settings) -> Engine:
    """The engine that the settings name. Raises `discovery.PluginError`."""
    retry = RetryDefaults(settings.retry_max_attempts, settings.retry_delay, settings.retry_max_delay)
    return discovery.load(settings.engine).create({**settings.engine_options, "retry": retry})


def read_tokens(settings: Settings) -> Tokens:
    """The tokens of the setting and of the file together.

    Raises `OSError` if the file cannot be read, and `ValueError` for a token that is not valid, or if there
    is none although one of the two was given.
    """
    tokens = Tokens.parse(settings.auth_tokens, "--auth-tokens")
    if settings.auth_tokens_file:
        try:
            text = Path(settings.auth_tokens_file).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise ValueError(f"{settings.auth_tokens_file} is not a text file in UTF-8") from None
        except OSError as error:
            raise OSError(f"cannot read {settings.auth_tokens_file}: {error.strerror}") from error
        tokens += Tokens.parse(text, settings.auth_tokens_file)
    if not tokens and (settings.auth_tokens or settings.auth_tokens_file):
        # The operator meant to require tokens: an empty file must not switch them off.
        raise ValueError("--auth-tokens and --auth-tokens-file hold no token; write one or give neither")
    if tokens.short:
        logger.warning(
            "%d of %d tokens have fewer than %d characters and may be guessed; make longer ones, for example "
            'with python3 -c "import secrets; print(secrets.token_urlsafe(32))"',
            tokens.short,
            len(tokens),
            SHORT,
        )
    return tokens
