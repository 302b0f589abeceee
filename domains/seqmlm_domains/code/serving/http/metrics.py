"""What Prometheus reads of the service: counts and times, never anything that was sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from seqmlm_domains.code.serving.queue_statistics import LATENCY_BOUNDS_S, QueueStatistics

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class ServiceMetrics:
    """The measures of one service.

    Args:
        statistics: asked for the state of the completion queue at each reading.
    """

    def __init__(self, statistics: Callable[[], QueueStatistics]) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._registry.register(_QueueCollector(statistics))
        self._answers = Counter(
            "seqmlm_http_answers",
            "Requests answered over HTTP; status 0: the client left before.",
            ("method", "route", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "seqmlm_http_answer_seconds",
            "From the first byte read of a request to the last of its answer.",
            ("status",),
            buckets=LATENCY_BOUNDS_S,
            registry=self._registry,
        )

    def count(self, *, method: str, route: str, status: int, elapsed_s: float) -> None:
        """Count one answer.

        Args:
            method: of HTTP; those that no route has are counted together.
            route: path of the route, not of the request.
            status: of HTTP.
            elapsed_s: since the first byte of the request was read.
        """
        known = method if method in METHODS else "other"
        self._answers.labels(known, route, str(status)).inc()
        self._seconds.labels(str(status)).observe(elapsed_s)

    def text(self) -> bytes:
        """Return the measures in Prometheus's text format."""
        return generate_latest(self._registry)


class _QueueCollector(Collector):
    def __init__(self, statistics: Callable[[], QueueStatistics]) -> None:
        self._statistics = statistics

    def collect(self) -> Iterator[Metric]:
        now = self._statistics()
        ended = CounterMetricFamily(
            "seqmlm_completions", "Completion requests that have ended.", labels=["outcome"]
        )
        for outcome, number in now.ended.items():
            ended.add_metric([outcome.value], number)
        yield ended
        for name, text, number in (
            ("accepted", "Completion requests that got a place in the queue.", now.accepted),
            ("rejected", "Completion requests that found the queue full.", now.rejected),
            ("forward_passes", "Batches that went through the model.", now.batches),
            ("forward_requests", "Requests that these batches answered.", now.batched),
        ):
            yield CounterMetricFamily(f"seqmlm_completions_{name}", text, value=number)
        yield GaugeMetricFamily(
            "seqmlm_completions_unanswered", "Accepted and not ended.", value=now.unanswered
        )
        yield GaugeMetricFamily(
            "seqmlm_completions_waiting", "Of these, not in a batch yet.", value=now.waiting
        )
        yield _latencies(now)


def _latencies(statistics: QueueStatistics) -> Metric:
    bounds = [*map(str, LATENCY_BOUNDS_S), "+Inf"]
    return HistogramMetricFamily(
        "seqmlm_completion_seconds",
        "From the acceptance of a completion request to its answer.",
        buckets=list(zip(bounds, accumulate(statistics.latency.counts), strict=True)),
        sum_value=statistics.latency.total_s,
    )
