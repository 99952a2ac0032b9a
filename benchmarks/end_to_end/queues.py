"""The queues that are compared: what is installed for each, and how its worker process is started."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Queue:
    """One way to run tasks. Commands are given to the interpreter, or to a program of the virtualenv."""

    name: str
    module: str
    worker: tuple[str, ...]
    packages: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    share: float = 1.0
    """Of the tasks, for those that would take minutes; what is compared is a rate."""


RATUS = (
    Queue("ratus, 8 threads", "ratus_peer", ("python", "-c", "import ratus_peer; ratus_peer.work(8)")),
    Queue("ratus, 50 threads", "ratus_peer", ("python", "-c", "import ratus_peer; ratus_peer.work(50)")),
    Queue("ratus, asyncio", "ratus_peer", ("python", "-c", "import ratus_peer; ratus_peer.work_async(100)")),
)

PEERS = (
    Queue(
        "taskiq-redis",
        "taskiq_peer",
        (
            "taskiq",
            *("worker", "taskiq_peer:broker", "--workers", "1", "--max-async-tasks", "100"),
            *("--max-prefetch", "1000", "--no-parse", "--log-level", "ERROR"),
        ),
        ("taskiq", "taskiq-redis", "uvloop"),
    ),
    Queue(
        "dramatiq",
        "dramatiq_peer",
        ("dramatiq", "dramatiq_peer", "--processes", "1", "--threads", "8", "--skip-logging"),
        ("dramatiq[redis]",),
        {"dramatiq_queue_prefetch": "1000"},
    ),
    Queue(
        "huey",
        "huey_peer",
        ("huey_consumer", "huey_peer.huey", "-k", "thread", "-w", "8", "-n", "-q"),
        ("huey", "redis"),
    ),
    Queue("arq", "arq_peer", ("arq", "arq_peer.WorkerSettings"), ("arq",), share=0.2),
    Queue(
        "celery",
        "celery_peer",
        (
            "celery",
            *("-A", "celery_peer", "worker", "--pool", "solo", "--loglevel", "ERROR"),
            *("--without-gossip", "--without-mingle", "--without-heartbeat"),
        ),
        ("celery[redis]",),
        share=0.2,
    ),
    Queue("rq", "rq_peer", ("python", "-c", "import rq_peer; rq_peer.work()"), ("rq",), share=0.1),
)
