"""What a dump takes while it is written, in a memory cgroup that is nearly full."""

from __future__ import annotations

from typing import Any

import pytest
from benchmarks.dumps import CASES, measure

from fastalloc.demo.cgroup import CgroupUnavailable

LIMIT = 96 << 20
KIB = 1024


def measured(case: str, share: float) -> list[dict[str, Any]]:
    try:
        rows: list[dict[str, Any]] = measure(case, LIMIT, 3, share)["rows"]
    except CgroupUnavailable as unavailable:
        pytest.skip(str(unavailable))
    return rows


@pytest.mark.slow
@pytest.mark.oom
@pytest.mark.parametrize("case", CASES)
def test_at_nine_tenths_of_the_limit_a_dump_takes_a_small_part_of_the_rest(case: str) -> None:
    rows = measured(case, 0.9)
    for row in rows:
        # 9.6 MiB are left. Text and copy are some hundred KiB; stacks become objects of Python's when they
        # are first looked at. The cgroup is charged in steps of 256 KiB by each of 4 cores.
        assert row["rss"] < 2048 * KIB
        assert row["cgroup"] < 3072 * KIB
        assert row["copy"] < 1024 * KIB and row["text"] <= 512 * KIB
    assert min(row["cgroup"] for row in rows) < 1536 * KIB


@pytest.mark.slow
@pytest.mark.oom
def test_with_next_to_nothing_left_a_dump_is_written_and_the_program_lives() -> None:
    for row in measured("40 threads", 0.985):  # 1.4 MiB are left
        assert row["cgroup"] < 1400 * KIB
        assert row["copy"] < 1024 * KIB and row["text"] < 300 * KIB
