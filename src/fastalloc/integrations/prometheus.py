"""Metrics by prometheus_client.

    import fastalloc.integrations.prometheus
    fastalloc.integrations.prometheus.register()

once, when the service starts; also before workers are forked. With PROMETHEUS_MULTIPROC_DIR set the
workers' values are on disk as that mode wants them, at most five seconds old; without it they are read
when they are scraped.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from fastalloc import gauges, requests

from ._measures import BUCKETS_BYTES, DELTA, DUMPS, LIVE, OVERHEAD, UTILIZATION, route_and_task
from ._measures import utilization as utilization_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Metric

__all__ = ["register"]

MULTIPROCESS_SECONDS = 5.0
JOB = "prometheus metrics"


def register(registry: CollectorRegistry = REGISTRY) -> None:
    """Add our metrics to `registry`. ValueError when they are there already.

    A request costs about 2 us more.
    """
    delta = Histogram(
        DELTA.prometheus_name,
        DELTA.help,
        ["http_route", "task"],
        buckets=BUCKETS_BYTES,
        registry=registry,
    )

    def observe(request: requests.Request, totals: tuple[int, ...]) -> None:
        delta.labels(*route_and_task(request)).observe(totals[5])

    requests.listen(observe)
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        _Multiprocess(registry).begin()
    else:
        registry.register(_Collector())


class _Collector(Collector):
    """Reads when it is scraped."""

    def collect(self) -> Iterator[Metric]:
        now = gauges.read()
        live = GaugeMetricFamily(LIVE.prometheus_name, LIVE.help, labels=["domain"])
        for domain, count in now["live_bytes"].items():
            live.add_metric([domain], count)
        yield live
        part = utilization_of(now)
        if part is not None:
            yield GaugeMetricFamily(UTILIZATION.prometheus_name, UTILIZATION.help, value=part)
        yield CounterMetricFamily(DUMPS.prometheus_name, DUMPS.help, value=now["dumps"])
        yield CounterMetricFamily(
            OVERHEAD.prometheus_name, OVERHEAD.help, value=now["own_cpu_ns"] / 1e9
        )


class _Multiprocess:
    """Writes every few seconds, in the watcher's thread of each process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        given: dict[str, Any] = {"registry": registry}
        self._live = Gauge(
            LIVE.prometheus_name, LIVE.help, ["domain"], multiprocess_mode="liveall", **given
        )
        self._utilization = Gauge(
            UTILIZATION.prometheus_name, UTILIZATION.help, multiprocess_mode="livemax", **given
        )
        self._dumps = Counter(DUMPS.prometheus_name, DUMPS.help, **given)
        self._overhead = Counter(OVERHEAD.prometheus_name, OVERHEAD.help, **given)
        self._told: dict[str, float] = {}

    def begin(self) -> None:
        from fastalloc import background

        background.every(MULTIPROCESS_SECONDS, self._write, JOB)

    def _write(self) -> None:
        now = gauges.read()
        for domain, count in now["live_bytes"].items():
            self._live.labels(domain).set(count)
        part = utilization_of(now)
        if part is not None:
            self._utilization.set(part)
        self._count(self._dumps, "dumps", now["dumps"])
        self._count(self._overhead, "own_cpu_ns", now["own_cpu_ns"] / 1e9)

    def _count(self, counter: Counter, name: str, total: float) -> None:
        """A counter of the library can only be added to."""
        told = self._told.get(name, 0.0)
        if total > told:
            counter.inc(total - told)
        self._told[name] = total
