"""Tasks in each stage of their life, as examples."""

from __future__ import annotations

from typing import Any, Final

NONCE: Final = "hJ3uTq8bX0aYc1Zk"

PENDING: Final[dict[str, Any]] = {
    "_id": "1",
    "topic": "example",
    "state": 0,
    "nonce": "",
    "producer": "https://producer.example.com",
    "produced": "2036-01-31T12:00:00Z",
    "scheduled": "2036-01-31T12:00:00Z",
    "payload": {"url": "https://example.com/"},
    "retry": {"max_attempts": 5},
}

ACTIVE: Final[dict[str, Any]] = {
    **PENDING,
    "state": 1,
    "nonce": NONCE,
    "consumer": "https://consumer.example.com",
    "consumed": "2036-01-31T12:00:01.25Z",
    "deadline": "2036-01-31T12:10:01.25Z",
    "attempts": 1,
}

COMPLETED: Final[dict[str, Any]] = {
    **ACTIVE,
    "state": 2,
    "nonce": "",
    "committed": "2036-01-31T12:00:02.5Z",
    "result": {"links": 42},
}

FAILED: Final[dict[str, Any]] = {
    **ACTIVE,
    "_id": "2",
    "state": 3,
    "nonce": "",
    "committed": "2036-01-31T12:00:02.5Z",
    "attempts": 5,
    "error": "HTTP 503 from example.com",
    "outcome": "failed",
}
