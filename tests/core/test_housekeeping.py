"""What ended processes leave is kept within bounds, and what tells of the last death stays."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from fastalloc import housekeeping
from fastalloc.housekeeping import Caps, prune
from fastalloc.recording.layout import HEADER, MAGIC, State
from tests.core.programs import Programs
from tests.recording.synthetic import SyntheticRecording

NONE = Caps(0, 0, 0, 0)
HOUR, DAY = 3600.0, 86400.0


class Left:
    """A folder with what processes left, each so many seconds old."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def recording(self, pid: int, age: float, state: str = "exited") -> str:
        path = self.path / f"fastalloc-{pid}-1700000000000.recording"
        SyntheticRecording(pid=pid, state=state).write(path)
        return self._aged(path, age)

    def dump(self, pid: int, age: float, reason: str = "manual", hidden: bool = False) -> str:
        path = self.path / f"{'.' if hidden else ''}dump-{pid}-1700000000000"
        path.mkdir()
        (path / "state.json").write_text(f'{{"version": 2, "reason": "{reason}", "x": 1}}')
        return self._aged(path, age)

    def _aged(self, path: Path, age: float) -> str:
        os.utime(path, (time.time() - age,) * 2)
        return path.name

    def names(self) -> set[str]:
        return {path.name for path in self.path.iterdir()}


@pytest.fixture
def left(tmp_path: Path) -> Left:
    return Left(tmp_path)


def pruned(left: Left, caps: Caps, **options: Any) -> dict[str, str]:
    removed = prune(str(left.path), caps, **options)
    return {Path(item.path).name: reason for item, reason in removed}


def test_the_offsets_are_those_of_the_layout() -> None:
    fields = HEADER.fields
    assert fields is not None
    assert fields["pid"][1] == housekeeping._PID_OFFSET
    assert fields["state"][1] == housekeeping._STATE_OFFSET
    assert State.RUNNING == housekeeping._RUNNING
    assert housekeeping._MAGIC == MAGIC


def test_without_bounds_all_stays(left: Left) -> None:
    for pid in range(1, 6):
        left.recording(pid, 400 * DAY)
    assert pruned(left, NONE) == {}
    assert len(left.names()) == 5


def test_the_oldest_goes_first_until_the_count_fits(left: Left) -> None:
    names = [left.recording(pid, (10 - pid) * HOUR) for pid in range(1, 6)]
    assert pruned(left, Caps(0, 2, 0, 0)) == dict.fromkeys(names[:3], "keep_count")
    assert left.names() == set(names[3:])


def test_the_oldest_goes_first_until_the_bytes_fit(left: Left) -> None:
    names = [left.recording(pid, (10 - pid) * HOUR) for pid in range(1, 6)]
    one = (left.path / names[0]).stat().st_blocks * 512
    assert list(pruned(left, Caps(3 * one, 0, 0, 0))) == names[:2]


def test_what_is_too_old_goes(left: Left) -> None:
    old, dump, young = left.recording(1, 3 * DAY), left.dump(2, 4 * DAY), left.recording(3, DAY)
    assert pruned(left, Caps(0, 0, 2, 0)) == {old: "keep_days", dump: "keep_days"}
    assert left.names() == {young}


def test_below_the_floor_of_free_space_the_oldest_goes(
    left: Left, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [left.recording(pid, (10 - pid) * HOUR) for pid in range(1, 4)]
    one = (left.path / names[0]).stat().st_blocks * 512
    monkeypatch.setattr(housekeeping, "_free_bytes", lambda _: 10 * one)
    assert pruned(left, Caps(0, 0, 0, 10 * one)) == {}
    assert pruned(left, Caps(0, 0, 0, 11 * one)) == {names[0]: "keep_free_bytes"}


def test_what_tells_of_a_death_goes_last_and_the_newest_never(left: Left) -> None:
    killed = [left.recording(2**22 + pid, (50 - pid) * HOUR, "running") for pid in range(3)]
    oom = [left.dump(pid, (50 - pid) * HOUR, "guard") for pid in range(1, 4)]
    clean = left.recording(9, HOUR)
    manual = left.dump(10, 2 * HOUR)
    assert set(pruned(left, Caps(0, 6, 0, 0))) == {clean, manual}
    assert set(pruned(left, Caps(0, 1, 1, 0))) == {*killed[:2], *oom[:2]}
    assert left.names() == {killed[2], oom[2]}
    assert pruned(left, Caps(1, 1, 1, 1 << 62)) == {}


def test_what_is_young_or_in_the_making_stays(left: Left) -> None:
    left.recording(1, 30)
    left.dump(2, HOUR / 2, hidden=True)
    assert pruned(left, Caps(1, 1, 1, 1 << 62)) == {}


def test_a_dump_that_was_never_finished_goes_in_the_end(left: Left) -> None:
    name = left.dump(2, 2 * HOUR, hidden=True)
    assert pruned(left, NONE) == {name: "never finished"}
    assert left.names() == set()


def test_a_dry_run_deletes_nothing(left: Left) -> None:
    name = left.recording(1, 3 * DAY)
    assert pruned(left, Caps(0, 0, 2, 0), dry_run=True) == {name: "keep_days"}
    assert left.names() == {name}


def test_foreign_files_stay(left: Left) -> None:
    (left.path / "notes.txt").write_text("mine")
    (left.path / "dump-1-2").write_text("a file, no dump")
    (left.path / "fastalloc-1-2.recording").mkdir()
    (left.path / "fastalloc-3-4.recording").symlink_to(left.path / "notes.txt")
    for name in left.names():
        os.utime(left.path / name, (1, 1), follow_symlinks=False)
    assert pruned(left, Caps(1, 1, 1, 1 << 62)) == {}


def test_the_logs_of_requests_count_for_their_recording_and_go_with_it(left: Left) -> None:
    gone, kept = left.recording(1, 2 * DAY), left.recording(2, HOUR)
    for name in (gone, kept):
        for ending in (".requests.jsonl", ".requests.1.jsonl"):
            (left.path / name.replace(".recording", ending)).write_text("{}\n" * 5000)
    sizes = {Path(item.path).name: item.bytes for item in housekeeping.look(str(left.path))}
    assert sizes[gone] >= (left.path / gone).stat().st_blocks * 512 + 2 * 15_000
    assert pruned(left, Caps(0, 0, 1, 0)) == {gone: "keep_days"}
    stem = kept.removesuffix(".recording")
    assert left.names() == {kept, f"{stem}.requests.jsonl", f"{stem}.requests.1.jsonl"}


def test_a_folder_that_is_gone_has_nothing_in_it(tmp_path: Path) -> None:
    assert prune(str(tmp_path / "gone"), Caps(1, 1, 1, 1)) == []
    assert housekeeping.make_room(str(tmp_path / "gone"), Caps(1, 1, 1, 1), 1)


def test_a_living_process_keeps_its_file_and_the_dead_ones_go(programs: Programs) -> None:
    source = """
        import fastalloc, os, time
        from pathlib import Path
        from fastalloc import background, housekeeping
        housekeeping.FIRST_AFTER_SECONDS = 0.1
        fastalloc.start(keep_count=1)
        own = Path(fastalloc.status().recording)
        os.utime(own, (1, 1))
        for pid in (1, 2):
            (own.parent / f"fastalloc-{pid}-1.recording").write_bytes(b"x")
            aged = time.time() - 1000 + pid
            os.utime(own.parent / f"fastalloc-{pid}-1.recording", (aged, aged))
        for _ in range(200):
            if len(list(own.parent.iterdir())) == 2: break
            time.sleep(0.05)
        left = sorted(path.name for path in own.parent.iterdir())
        assert left == sorted([own.name, "fastalloc-2-1.recording"]), left
        """
    programs.run(source)
