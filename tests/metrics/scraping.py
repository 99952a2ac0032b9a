"""Reading what a scrape gives, with the parser of the Prometheus client library."""

from __future__ import annotations

import asyncio

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from ratus.metrics import Metrics


def scrape(metrics: Metrics) -> str:
    return asyncio.run(metrics.render()).decode()


def samples_of(text: str, name: str) -> list[Sample]:
    """The samples whose name is exactly this one."""
    return [
        sample
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    ]


def values_of(text: str, name: str, *labels: str) -> dict[tuple[str, ...], float]:
    """Value by label values; raises if a series is there twice."""
    values: dict[tuple[str, ...], float] = {}
    for sample in samples_of(text, name):
        key = tuple(sample.labels[label] for label in labels)
        assert key not in values, f"{name}{key} is there twice"
        values[key] = sample.value
    return values
