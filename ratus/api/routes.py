"""Every route on one screen: method, pattern, the handler's name, and the scopes that may use it.

``:topic``, ``:id`` and ``:name`` stand for one segment of the path, matched before it is percent-decoded; a
topic's may be empty. Routes with ``versioned`` exist under ``/v1`` as well. A route without scopes needs
no token.
"""

from __future__ import annotations

from dataclasses import dataclass

PRODUCE, CONSUME, READ, ADMIN = "produce", "consume", "read", "admin"
SCOPES = (PRODUCE, CONSUME, READ, ADMIN)


@dataclass(frozen=True, slots=True)
class Route:
    """One method on one pattern. ``scopes``: a token needs one of them, or admin."""

    method: str
    pattern: str
    operation: str
    scopes: tuple[str, ...]
    versioned: bool = True


ROUTES = (
    Route("GET", "/topics", "list_topics", (READ,)),
    Route("DELETE", "/topics", "delete_topics", (ADMIN,)),
    Route("GET", "/topics/:topic", "get_topic", (READ,)),
    Route("PATCH", "/topics/:topic", "patch_topic", (ADMIN,)),
    Route("DELETE", "/topics/:topic", "delete_topic", (ADMIN,)),
    Route("GET", "/topics/:topic/lanes", "list_lanes", (READ,)),
    Route("GET", "/topics/:topic/tasks", "list_tasks", (READ,)),
    Route("POST", "/topics/:topic/tasks", "insert_tasks", (PRODUCE,)),
    Route("PUT", "/topics/:topic/tasks", "upsert_tasks", (PRODUCE,)),
    Route("PATCH", "/topics/:topic/tasks", "patch_tasks", (CONSUME,)),
    Route("DELETE", "/topics/:topic/tasks", "delete_tasks", (ADMIN,)),
    Route("GET", "/topics/:topic/tasks/:id", "get_task", (READ,)),
    Route("POST", "/topics/:topic/tasks/:id", "insert_task", (PRODUCE,)),
    Route("PUT", "/topics/:topic/tasks/:id", "upsert_task", (PRODUCE,)),
    Route("PATCH", "/topics/:topic/tasks/:id", "patch_task", (CONSUME,)),
    Route("DELETE", "/topics/:topic/tasks/:id", "delete_task", (ADMIN,)),
    Route("GET", "/topics/:topic/promises", "list_promises", (CONSUME, READ)),
    Route("POST", "/topics/:topic/promises", "poll", (CONSUME,)),
    Route("DELETE", "/topics/:topic/promises", "delete_promises", (CONSUME,)),
    Route("GET", "/topics/:topic/promises/:id", "get_promise", (CONSUME, READ)),
    Route("POST", "/topics/:topic/promises/:id", "insert_promise", (CONSUME,)),
    Route("PUT", "/topics/:topic/promises/:id", "upsert_promise", (CONSUME,)),
    Route("PATCH", "/topics/:topic/promises/:id", "extend_promise", (CONSUME,)),
    Route("DELETE", "/topics/:topic/promises/:id", "delete_promise", (CONSUME,)),
    Route("POST", "/promises", "poll_topics", (CONSUME,)),
    Route("GET", "/values", "list_values", (CONSUME, READ)),
    Route("POST", "/values/changes", "wait_for_values", (CONSUME, READ)),
    Route("GET", "/values/:name", "get_value", (CONSUME, READ)),
    Route("PUT", "/values/:name", "set_value", (PRODUCE,)),
    Route("DELETE", "/values/:name", "delete_value", (PRODUCE,)),
    Route("GET", "/schedules", "list_schedules", (READ,)),
    Route("POST", "/schedules/preview", "preview_schedule", (ADMIN,)),
    Route("GET", "/schedules/:name", "get_schedule", (READ,)),
    Route("PUT", "/schedules/:name", "put_schedule", (ADMIN,)),
    Route("PATCH", "/schedules/:name", "patch_schedule", (ADMIN,)),
    Route("DELETE", "/schedules/:name", "delete_schedule", (ADMIN,)),
    Route("POST", "/schedules/:name/runs", "run_schedule", (ADMIN,)),
    Route("GET", "/livez", "get_liveness", ()),
    Route("GET", "/healthz", "get_health", ()),
    Route("GET", "/readyz", "get_readiness", ()),
    Route("GET", "/metrics", "get_metrics", (READ,)),
    Route("GET", "/", "get_docs", (), versioned=False),
    Route("GET", "/assets/:name", "get_asset", (), versioned=False),
    Route("GET", "/openapi.json", "get_openapi_json", (), versioned=False),
    Route("GET", "/openapi.yaml", "get_openapi_yaml", (), versioned=False),
)
