"""Metrics through the real libraries, in one process and in preforked workers."""

from __future__ import annotations

import time

import pytest

from tests.core.conftest import allocator, programs
from tests.core.programs import Programs
from tests.integrations.servers import APPS, GUNICORN, serving

__all__ = ["allocator", "programs"]


def parsed(text: str) -> dict[tuple[str, frozenset], float]:
    from prometheus_client.parser import text_string_to_metric_families

    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.mark.slow
def test_prometheus_reads_one_process_when_it_scrapes(tmp_path) -> None:
    pytest.importorskip("prometheus_client")
    limit = {"FASTALLOC_MEMORY_LIMIT_BYTES": "1GiB"}
    with serving(tmp_path, *GUNICORN, f"{APPS}.metrics_app", ready="Booting", **limit) as server:
        for n in (1, 2, 3):
            server.get(f"/orders/{n}/")
        samples = parsed(server.get("/metrics").body.decode())
    domain = frozenset({("domain", "raw")})
    assert samples["fastalloc_heap_live_bytes", domain] == pytest.approx(60e6, rel=0.2)
    assert 0 < samples["fastalloc_memory_limit_utilization_ratio", frozenset()] < 1
    assert samples["fastalloc_dumps_total", frozenset()] == 0
    assert samples["fastalloc_overhead_cpu_seconds_total", frozenset()] >= 0
    route = {("http_route", "/orders/{id}/"), ("task", "")}
    delta = "fastalloc_request_memory_delta_bytes"
    assert samples[f"{delta}_count", frozenset(route)] == 3
    assert samples[f"{delta}_bucket", frozenset({*route, ("le", "1.6777216e+07")})] == 0
    assert samples[f"{delta}_bucket", frozenset({*route, ("le", "6.7108864e+07")})] == 3


@pytest.mark.slow
def test_prometheus_adds_up_preforked_workers(tmp_path) -> None:
    pytest.importorskip("prometheus_client")
    folder = tmp_path / "values"
    folder.mkdir()
    command = (*GUNICORN, "--workers", "2", "--preload", f"{APPS}.metrics_app")
    environment = {"PROMETHEUS_MULTIPROC_DIR": str(folder)}
    with serving(tmp_path, *command, ready="Booting", **environment) as server:
        pids = set()
        deadline = time.monotonic() + 20
        asked = 0
        while len(pids) < 2 and time.monotonic() < deadline:
            pids.add(server.get("/orders/1/").body.decode())
            asked += 1
        shown: set[str] = set()
        while not pids <= shown and time.monotonic() < deadline:
            time.sleep(0.3)
            samples = parsed(server.get("/metrics").body.decode())
            live = {key: v for key, v in samples.items() if key[0] == "fastalloc_heap_live_bytes"}
            shown = {dict(labels)["pid"] for (_, labels), value in live.items() if value > 15e6}
    assert pids <= shown  # each worker's live heap, apart
    route = frozenset({("http_route", "/orders/{id}/"), ("task", "")})
    assert samples["fastalloc_request_memory_delta_bytes_count", route] == asked


OPENTELEMETRY = """
import fastalloc
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
import fastalloc.integrations.opentelemetry
from fastalloc import requests
from fastalloc.integrations.jobs import job
from tests.core.inside import *
reader = InMemoryMetricReader()
fastalloc.integrations.opentelemetry.instrument(MeterProvider([reader]))
fastalloc.start(memory_limit_bytes=1 << 30)
kept = Blocks(20).allocate(1_000_000)
for n in (1, 2):
    request = requests.begin("GET /orders/<int:id>/")
    held = Blocks(30).allocate(1_000_000)
    request.end()
    held.release()
with job("import orders"): pass
fastalloc.write_dump("test")
found = {}
for resource in reader.get_metrics_data().resource_metrics:
    for scope in resource.scope_metrics:
        assert scope.scope.name == "fastalloc"
        for metric in scope.metrics:
            found[metric.name] = [metric.unit, [
                [dict(point.attributes), getattr(point, "value", getattr(point, "sum", None)), getattr(point, "count", None)]
                for point in metric.data.data_points]]
answer(found=found)
"""


def test_opentelemetry_reads_the_same(programs: Programs) -> None:
    pytest.importorskip("opentelemetry.sdk")
    found = programs.run(OPENTELEMETRY).answer["found"]
    assert set(found) == {
        *("fastalloc.heap.live", "fastalloc.memory.limit.utilization", "fastalloc.dumps"),
        *("fastalloc.overhead.cpu", "fastalloc.request.memory.delta"),
    }
    unit, points = found["fastalloc.heap.live"]
    live = {point[0]["fastalloc.heap.domain"]: point[1] for point in points}
    assert unit == "By" and live["raw"] == pytest.approx(20e6, rel=0.4)
    assert 0 < found["fastalloc.memory.limit.utilization"][1][0][1] < 1
    assert found["fastalloc.dumps"][1][0][1] == 1
    unit, points = found["fastalloc.request.memory.delta"]
    by_route = {tuple(point[0].items()): point for point in points}
    orders = by_route[(("http.route", "/orders/<int:id>/"),)]
    assert unit == "By" and orders[2] == 2 and orders[1] == pytest.approx(60e6, rel=0.3)
    assert by_route[(("fastalloc.task", "import orders"),)][2] == 1
