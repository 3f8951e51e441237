"""Which of a master's workers is the odd one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fastalloc.analysis.endings import Ending
from fastalloc.analysis.fleets import Fleet, fleets
from fastalloc.analysis.lives import life
from fastalloc.recording.reader import read
from tests.recording.synthetic import SECOND, SyntheticRecording

MIB = 1 << 20
BAD = Ending("out_of_memory", "certain", "", [])
GOOD = Ending("clean", "certain", "", [])


def worker(
    folder: Path, pid: int, held: int, parent: int = 10, program: str = "app.py", begin: int = 0
) -> Any:
    """A worker that holds `held` MiB in a line of its own and 4 MiB that all have; it lives a minute."""
    recording = SyntheticRecording(
        pid=pid,
        parent_pid=parent,
        start_time_ns=(1_700_000_000 + begin) * SECOND,
        duration_ns=60 * SECOND,
    )
    recording.live(size=4 * MIB, site=recording.site([("load", "/app/load.py", 1)]))
    if held:
        recording.live(size=held * MIB, site=recording.site([("keep", "/app/keep.py", 7)]))
    recording.options({"program": program, "boot_id": "b"})
    return read(recording.write(folder / f"fastalloc-{pid}-{begin}.recording"))


def only(snapshots: list[Any], bad: tuple[int, ...] = ()) -> Fleet:
    endings = {each.path: BAD if each.pid in bad else GOOD for each in snapshots}
    (fleet,) = fleets([life(each) for each in snapshots], endings)
    return fleet


def test_the_one_that_died_among_the_living_is_odd(tmp_path: Path) -> None:
    workers = [worker(tmp_path, pid, held) for pid, held in ((1, 1), (2, 60), (3, 2), (4, 1))]
    fleet = only(workers, bad=(2,))
    assert (fleet.pids, fleet.died_badly, fleet.odd_pid) == ([1, 2, 3, 4], [2], 2)
    assert fleet.odd_reason == "it alone died badly"
    assert fleet.more is not None
    assert fleet.more.key == "/app/keep.py:7"
    assert fleet.more.change_bytes in (58 * MIB, 59 * MIB)


def test_the_largest_is_odd_where_all_live_or_all_died(tmp_path: Path) -> None:
    workers = [worker(tmp_path, pid, held) for pid, held in ((1, 1), (2, 1), (3, 80))]
    for bad in ((), (1, 2, 3)):
        fleet = only(workers, bad)
        assert fleet.odd_pid == 3
        assert "more than twice" in fleet.odd_reason


def test_workers_that_are_alike_have_no_odd_one(tmp_path: Path) -> None:
    fleet = only([worker(tmp_path, pid, 50 + pid) for pid in (1, 2, 3)], bad=(1, 2, 3))
    assert (fleet.odd_pid, fleet.more) == (0, None)


@pytest.mark.parametrize("other", [{"parent": 11}, {"program": "other.py"}])
def test_processes_of_another_master_are_no_fleet(tmp_path: Path, other: dict[str, Any]) -> None:
    workers = [worker(tmp_path, 1, 1), worker(tmp_path, 2, 1, **other)]
    assert fleets([life(each) for each in workers], {}) == []


def test_a_fleet_is_plain_values_for_json(tmp_path: Path) -> None:
    fleet = only([worker(tmp_path, pid, held) for pid, held in ((1, 1), (2, 80))])
    assert fleet.to_dict()["more"]["key"] == "/app/keep.py:7"


def test_containers_that_follow_each_other_are_no_fleet(tmp_path: Path) -> None:
    """All are process 1, and their workers' master is process 1, in a pid namespace of one number."""
    mains = [worker(tmp_path, 1, 1, parent=0, begin=begin) for begin in (0, 30, 90)]
    workers = [
        worker(tmp_path, 7 + each, 1, parent=1, begin=begin)
        for each, begin in enumerate((0, 30, 100, 110))
    ]
    found = fleets([life(each) for each in (*mains, *workers)], {})
    assert [fleet.pids for fleet in found] == [[7, 8], [9, 10]]


def test_a_worker_that_the_master_replaced_is_of_its_fleet(tmp_path: Path) -> None:
    stays = worker(tmp_path, 2, 1, begin=50)
    workers = [worker(tmp_path, 1, 1), stays, worker(tmp_path, 3, 1, begin=100)]
    assert only(workers).pids == [1, 2, 3]
