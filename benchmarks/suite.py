"""All benchmarks, in the order in which they run."""

from __future__ import annotations

from benchmarks import (
    batches,
    bodies,
    engines,
    growth,
    http_latency,
    http_metrics,
    http_million,
    http_rates,
    lanes,
    mongodb_claims,
    snapshots,
    sqlite_processes,
    waiting,
)
from benchmarks.benchmark import Benchmark, Scale
from benchmarks.end_to_end import http_libraries, throughput

QUICK, FULL = Scale.QUICK, Scale.FULL

BENCHMARKS = (
    Benchmark(
        "http-rates",
        "How many requests a second, as a ratio to bare ASGI, by engine and number of connections?",
        http_rates.measure,
        {QUICK: 100, FULL: 900},
        needs=("wrk", "mongod"),
    ),
    Benchmark(
        "http-latency",
        "How long does a request take at 70 % of the top rate, and the unluckiest of a thousand?",
        http_latency.measure,
        {QUICK: 55, FULL: 390},
        needs=("gcc", "mongod"),
        unprinted=frozenset({"http-latency-distribution"}),
    ),
    Benchmark(
        "http-million",
        "What do a million tasks cost in memory, rates and pauses, and how long is a start?",
        http_million.measure,
        {QUICK: 60, FULL: 110},
        needs=("gcc",),
        unprinted=frozenset({"http-million-timeline"}),
    ),
    Benchmark(
        "http-metrics",
        "Does a scrape of /metrics with a thousand topics stall requests?",
        http_metrics.measure,
        {QUICK: 20, FULL: 45},
        needs=("gcc",),
    ),
    Benchmark(
        "waiting",
        "How fast is a task handed to a request that waits, and what do idle waiters cost?",
        waiting.measure,
        {QUICK: 20, FULL: 110},
        needs=("wrk", "mongod"),
    ),
    Benchmark(
        "engines",
        "What does an operation of the memory engine cost, and a task in bytes, as their number grows?",
        engines.measure,
        {QUICK: 8, FULL: 60},
    ),
    Benchmark(
        "growth",
        "Are the engines as fast with millions of tasks as with ten thousand?",
        growth.measure,
        {FULL: 300},
        needs=("mongod",),
    ),
    Benchmark(
        "lanes",
        "What does a claim by labels, in turns or under limits cost beside a plain one, and does that grow?",
        lanes.measure,
        {FULL: 240},
    ),
    Benchmark(
        "snapshots",
        "How long do writing and reading a snapshot take, and do operations notice?",
        snapshots.measure,
        {QUICK: 3, FULL: 20},
    ),
    Benchmark(
        "batches",
        "What does a batch save its client?",
        batches.measure,
        {QUICK: 3, FULL: 10},
    ),
    Benchmark(
        "bodies",
        "For how long does a body that is made to take long hold up other requests?",
        bodies.measure,
        {QUICK: 25, FULL: 35},
    ),
    Benchmark(
        "sqlite-processes",
        "What does each of several processes on one SQLite file get?",
        sqlite_processes.measure,
        {FULL: 15},
    ),
    Benchmark(
        "mongodb-claims",
        "How do claims of the mongodb engine compare with the bare driver's?",
        mongodb_claims.measure,
        {FULL: 80},
        needs=("mongod",),
    ),
    Benchmark(
        "end-to-end",
        "How many tasks a second does a worker execute, beside nine other queues?",
        throughput.measure,
        {FULL: 260},
        needs=("redis-server", "postgresql"),
    ),
    Benchmark(
        "http-libraries",
        "How many requests a second do HTTP libraries get through, beside the client's own?",
        http_libraries.measure,
        {FULL: 60},
    ),
)
