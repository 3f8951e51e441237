"""Metrics by opentelemetry-api; what becomes of them is the SDK's configuration.

    import fastalloc.integrations.opentelemetry
    fastalloc.integrations.opentelemetry.instrument()

in each process, as for other instruments: an SDK's readers do not survive a fork.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from fastalloc import gauges, requests

from ._measures import BUCKETS_BYTES, DELTA, DUMPS, LIVE, OVERHEAD, UTILIZATION, route_and_task
from ._measures import utilization as utilization_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opentelemetry.metrics import MeterProvider

__all__ = ["instrument"]


def instrument(meter_provider: MeterProvider | None = None) -> None:
    """Add our instruments to a meter of `meter_provider`, by default the global one.

    Attributes: fastalloc.heap.domain of the live heap; http.route, or fastalloc.task, of a request. A
    request costs some microseconds more, which are the SDK's.
    """
    meter = metrics.get_meter("fastalloc", meter_provider=meter_provider)
    meter.create_observable_gauge(LIVE.name, [_live], LIVE.unit, LIVE.help)
    meter.create_observable_gauge(
        UTILIZATION.name, [_utilization], UTILIZATION.unit, UTILIZATION.help
    )
    meter.create_observable_counter(DUMPS.name, [_dumps], DUMPS.unit, DUMPS.help)
    meter.create_observable_counter(OVERHEAD.name, [_overhead], OVERHEAD.unit, OVERHEAD.help)
    delta = meter.create_histogram(
        DELTA.name,
        DELTA.unit,
        DELTA.help,
        explicit_bucket_boundaries_advisory=BUCKETS_BYTES,
    )

    def record(request: requests.Request, totals: tuple[int, ...]) -> None:
        route, task = route_and_task(request)
        delta.record(totals[5], {"http.route": route} if route else {"fastalloc.task": task})

    requests.listen(record)


def _live(options: CallbackOptions) -> Iterable[Observation]:
    for domain, count in gauges.read()["live_bytes"].items():
        yield Observation(count, {"fastalloc.heap.domain": domain})


def _utilization(options: CallbackOptions) -> Iterable[Observation]:
    part = utilization_of(gauges.read())
    if part is not None:
        yield Observation(part)


def _dumps(options: CallbackOptions) -> Iterable[Observation]:
    yield Observation(gauges.read()["dumps"])


def _overhead(options: CallbackOptions) -> Iterable[Observation]:
    yield Observation(gauges.read()["own_cpu_ns"] / 1e9)
