"""The metrics that a server publishes for Prometheus.

One :class:`Metrics` belongs to one server; nothing here is global, so two servers in one process share
nothing but the metrics of the process itself.
"""

from ratus.metrics.exposition import CONTENT_TYPE
from ratus.metrics.recorder import Metrics
from ratus.metrics.series import OTHER
from ratus.metrics.timing import measure
from ratus.metrics.topic_stats import TopicStats, scrape

__all__ = ["CONTENT_TYPE", "OTHER", "Metrics", "TopicStats", "measure", "scrape"]
