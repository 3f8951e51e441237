"""The services among the workloads: without the middleware but in the row that measures spans."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from benchmarks.turns import Worker

import fastalloc


@pytest.mark.parametrize("row", ["light", "spans"])
@pytest.mark.parametrize("workload", ["django_request", "fastapi_request"])
def test_only_the_row_of_spans_has_a_span_for_each_request(
    row: str, workload: str, tmp_path: Path
) -> None:
    for package in ("django", "fastapi", "uvicorn"):
        pytest.importorskip(package)
    with Worker(Path(sys.executable), row, workload, str(tmp_path), 1, None) as worker:
        worker.ready()
        worker.seconds(1)
    (file,) = tmp_path.glob("*/recordings/*.recording")
    # Of spans that are over, the table of spans keeps those that hold memory; the records tell of each.
    names = {record["span_name"] for record in fastalloc.read(file).to_dict()["records"]}
    assert ("GET /orders/" in names) == (row == "spans"), names
