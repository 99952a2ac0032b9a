"""The queues that are compared: what is installed for each, how it is set, and how its worker is started.

Each is set for speed as its own documentation says. What that costs in safety differs, and is said here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

IN_MEMORY = "none: Redis in memory"


@dataclass(frozen=True)
class Queue:
    """One way to run tasks. Commands are given to the interpreter, or to a program of the virtualenv."""

    name: str
    module: str
    worker: tuple[str, ...]
    server: str
    """What keeps its tasks: ratus (with an engine), redis, postgresql, or nothing but files."""
    settings: str
    documentation: str
    durable: str
    """What of an acknowledged task survives a power cut."""
    packages: tuple[str, ...] = ()
    """What is installed for it; the first is asked for its version."""
    environment: Mapping[str, str] = field(default_factory=dict)
    share: float = 1.0
    """Of the tasks, for those that would take minutes: all take longer than Ratus, which has them all."""

    @property
    def is_ours(self) -> bool:
        """Whether it is Ratus."""
        return self.module.startswith("ratus_")


def _ratus(engine: str, workers: str, call: str, durable: str) -> Queue:
    return Queue(
        f"ratus {engine}, {workers}",
        "ratus_peer",
        ("python", "-c", f"import ratus_peer; ratus_peer.{call}"),
        f"ratus {engine}",
        "nothing but the concurrency",
        "docs/client.md",
        durable,
    )


QUEUES = (
    _ratus("memdb", "asyncio", "work_async(100)", "none, or the last snapshot"),
    _ratus("memdb", "8 threads", "work(8)", "none, or the last snapshot"),
    Queue(
        "ratus memdb, App, 8 threads",
        "ratus_app_peer",
        ("python", "-c", "import ratus_app_peer; ratus_app_peer.work(8)"),
        "ratus memdb",
        "nothing but the concurrency; the arguments and results of functions are converted",
        "docs/app.md",
        "none, or the last snapshot",
    ),
    _ratus("sqlite", "asyncio", "work_async(100)", "all: each answer is on disk"),
    _ratus("sqlite", "8 threads", "work(8)", "all: each answer is on disk"),
    Queue(
        "taskiq",
        "taskiq_peer",
        (
            "taskiq",
            *("worker", "taskiq_peer:broker", "--workers", "1", "--max-async-tasks", "100"),
            *("--max-prefetch", "1000", "--no-parse", "--log-level", "ERROR"),
        ),
        "redis",
        "list broker, uvloop, 100 at once, prefetch 1,000, no parsing of parameters, no results",
        "https://taskiq-python.github.io/guide/cli.html",
        IN_MEMORY,
        ("taskiq", "taskiq-redis", "uvloop", "hiredis"),
        share=0.2,
    ),
    Queue(
        "dramatiq",
        "dramatiq_peer",
        ("dramatiq", "dramatiq_peer", "--processes", "1", "--threads", "8", "--skip-logging"),
        "redis",
        "8 threads, prefetch 1,000, no results",
        "https://dramatiq.io/advanced.html",
        IN_MEMORY,
        ("dramatiq", "redis", "hiredis"),
        {"dramatiq_queue_prefetch": "1000"},
        share=0.3,
    ),
    Queue(
        "huey",
        "huey_peer",
        ("huey_consumer", "huey_peer.huey", "-k", "thread", "-w", "8", "-n", "-q"),
        "redis",
        "8 threads, blocking queue, no periodic tasks, no results",
        "https://huey.readthedocs.io/en/latest/consumer.html",
        IN_MEMORY,
        ("huey", "redis", "hiredis"),
        share=0.2,
    ),
    Queue(
        "saq",
        "saq_peer",
        ("saq", "saq_peer.settings", "--workers", "1", "--quiet"),
        "redis",
        "100 at once, no results",
        "https://saq-py.readthedocs.io/en/latest/settings.html",
        IN_MEMORY,
        # It imports typing_extensions without asking for it.
        ("saq[redis]", "typing-extensions", "hiredis"),
        share=0.1,
    ),
    Queue(
        "arq",
        "arq_peer",
        ("arq", "arq_peer.WorkerSettings"),
        "redis",
        "100 at once, queue read by 1,000, polled every 10 ms, no results",
        "https://arq-docs.helpmanual.io/#worker",
        IN_MEMORY,
        ("arq", "hiredis"),
        share=0.1,
    ),
    Queue(
        "celery",
        "celery_peer",
        (
            "celery",
            *("-A", "celery_peer", "worker", "--pool", "solo", "--loglevel", "ERROR"),
            *("--without-gossip", "--without-mingle", "--without-heartbeat"),
        ),
        "redis",
        "solo pool, unlimited prefetch, no gossip, mingle, heartbeat or rate limits, no results",
        "https://docs.celeryq.dev/en/stable/userguide/optimizing.html",
        IN_MEMORY,
        ("celery[redis]", "packaging", "hiredis"),
        share=0.08,
    ),
    Queue(
        "rq",
        "rq_peer",
        ("python", "-c", "import rq_peer; rq_peer.work()"),
        "redis",
        "SimpleWorker (no fork for each job), pushed in bulk, no results",
        "https://python-rq.org/docs/workers/",
        IN_MEMORY,
        ("rq", "redis", "hiredis"),
        share=0.02,
    ),
    Queue(
        "procrastinate",
        "procrastinate_peer",
        ("python", "-c", "import procrastinate_peer; procrastinate_peer.work()"),
        "postgresql",
        "30 at once, deferred in batches, finished jobs deleted",
        "https://procrastinate.readthedocs.io/en/stable/howto/production/delete_finished_jobs.html",
        "all: synchronous_commit is on",
        ("procrastinate", "psycopg[binary]"),
        share=0.02,
    ),
    Queue(
        "queue-sqlite",
        "queue_sqlite_peer",
        ("python", "-c", "import queue_sqlite_peer; queue_sqlite_peer.work()"),
        "files",
        "standard scheduler, 8 threads, 4 shards",
        "https://github.com/chakcy/queue_sqlite",
        "not the latest: synchronous is NORMAL",
        ("queue-sqlite",),
        share=0.3,
    ),
)
