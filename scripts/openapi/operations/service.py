"""The service itself: is it up, can it serve, how is it doing."""

from __future__ import annotations

from typing import Final

from scripts.openapi.operations.operation import Answer, Operation

TAG: Final = {"name": "service", "description": "What operators and their machines ask."}

_METRICS: Final = """# HELP ratus_task_produced_count_total Tasks produced.
# TYPE ratus_task_produced_count_total counter
ratus_task_produced_count_total{producer="",topic="example"} 10.0
"""

OPERATIONS: Final = {
    "get_liveness": Operation(
        tag="service",
        summary="Is the process up?",
        description="Answers as long as the process does. Needs no token.",
        answers={200: Answer("It is.")},
    ),
    "get_health": Operation(
        tag="service",
        summary="Is the process up? (another name)",
        description="The same as `/livez`. Needs no token.",
        answers={200: Answer("It is.")},
    ),
    "get_readiness": Operation(
        tag="service",
        summary="Can the service serve?",
        description="Whether the engine can serve. Says no while the server starts and from the moment "
        "it begins to stop. Answers within a second. Needs no token.",
        answers={200: Answer("It can. The body is empty, or says what an operator should know.")},
        errors={503: "It cannot; the message says why."},
    ),
    "get_metrics": Operation(
        tag="service",
        summary="Metrics",
        description="Counters, gauges and histograms for Prometheus.",
        answers={
            200: Answer(
                "The metrics in the text format of Prometheus.",
                ("Metrics",),
                {"one": _METRICS},
                content_type="text/plain",
            )
        },
    ),
}
