"""What ended processes leave is kept within bounds, and what tells of the last death stays."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from fastalloc import housekeeping, leftovers
from fastalloc.housekeeping import Caps, prune
from fastalloc.recording.layout import HEADER, MAGIC, Exit, State
from tests.core.programs import Programs
from tests.recording.synthetic import SyntheticRecording

NONE = Caps(0, 0, 0, 0)
HOUR, DAY = 3600.0, 86400.0


class Left:
    """A folder with what processes left, each so many seconds old."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def recording(
        self, pid: int, age: float, state: str = "exited", begun: int = 0, **header: int
    ) -> str:
        path = self.path / f"fastalloc-{pid}-{1700000000000 + begun}.recording"
        SyntheticRecording(pid=pid, state=state, **header).write(path)
        return self._aged(path, age)

    def dump(
        self, pid: int, age: float, reason: str = "manual", hidden: bool = False, made: int = 0
    ) -> str:
        path = self.path / f"{'.' if hidden else ''}dump-{pid}-{1700000000000 + made}"
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
    assert fields["pid"][1] == leftovers._PID_OFFSET
    assert fields["process_start_ticks"][1] == leftovers._TICKS_OFFSET
    assert fields["state"][1] == leftovers._STATE_OFFSET
    assert fields["exit_kind"][1] == leftovers._EXIT_OFFSET
    assert State.RUNNING == leftovers._RUNNING
    assert (Exit.UNKNOWN, Exit.EXCEPTION) == (leftovers._UNKNOWN, leftovers._EXCEPTION)
    assert leftovers._MAGIC == MAGIC


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


DEAD = 2**22  # pids from here on are nobody's


def test_a_survivors_dump_does_not_push_out_that_of_a_death(left: Left) -> None:
    died = left.recording(DEAD, 9 * HOUR, "running")
    told = left.dump(DEAD, 9 * HOUR, "guard", made=5)
    left.dump(DEAD, 10 * HOUR, "guard", made=4)
    left.dump(DEAD, 8 * HOUR, "manual", made=6)
    left.recording(DEAD + 1, HOUR)  # ended well, and had been near its limit
    left.dump(DEAD + 1, 2 * HOUR, "guard", made=7)
    pruned(left, Caps(1, 1, 1, 1 << 62))
    assert left.names() == {died, told}


def test_the_dumps_of_a_process_that_ended_well_go_with_its_recording(left: Left) -> None:
    recording = left.recording(DEAD, 3 * DAY)
    dump = left.dump(DEAD, HOUR, "guard", made=5)
    assert pruned(left, Caps(0, 0, 2, 0)) == {recording: "keep_days", dump: "keep_days"}


def test_a_living_process_keeps_its_newest_dump_and_the_newest_for_want_of_memory(
    left: Left, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leftovers, "_is_locked", lambda _: True)
    alive = left.recording(DEAD, 9 * HOUR, "running")
    names = [
        left.dump(DEAD, 9 * HOUR - made, reason, made=made)
        for made, reason in enumerate(("guard", "guard", "manual", "manual"))
    ]
    assert set(pruned(left, Caps(0, 1, 0, 0))) == {names[0], names[2]}
    assert left.names() == {alive, names[1], names[3]}


def test_a_process_that_went_over_to_another_program_did_not_die(left: Left) -> None:
    ended = {"process_start_ticks": 77}
    first = left.recording(DEAD, 9 * HOUR, "running", **ended)
    second = left.recording(DEAD, 8 * HOUR, "running", begun=9, **ended)
    assert set(pruned(left, Caps(0, 1, 0, 0))) == {first}
    assert left.names() == {second}


@pytest.mark.parametrize("state", ["exited", "running"])
def test_an_exception_is_a_death_and_an_end_that_was_announced_is_none(
    left: Left, state: str
) -> None:
    bad = left.recording(DEAD, 9 * HOUR, state, exit_kind=Exit.EXCEPTION)
    left.recording(DEAD + 1, 8 * HOUR, state, exit_kind=Exit.CLEAN)
    pruned(left, Caps(0, 1, 0, 0))
    assert left.names() == {bad}


def test_a_dump_with_folders_in_it_goes_whole_and_links_are_not_followed(left: Left) -> None:
    precious = left.path / "mine"
    precious.mkdir()
    (precious / "notes.txt").write_text("mine")
    dump = left.path / left.dump(3, 3 * DAY)
    (dump / "deep" / "deeper").mkdir(parents=True)
    (dump / "deep" / "file").write_text("x")
    (dump / "link").symlink_to(precious)
    left._aged(dump, 3 * DAY)
    assert set(pruned(left, Caps(0, 0, 1, 0))) == {dump.name}
    assert left.names() == {"mine"} and (precious / "notes.txt").exists()


def test_what_is_young_or_in_the_making_stays(left: Left) -> None:
    left.recording(1, 30)
    left.dump(2, HOUR / 2, hidden=True)
    assert pruned(left, Caps(1, 1, 1, 1 << 62)) == {}


def test_a_dump_that_was_never_finished_goes_in_the_end(left: Left) -> None:
    name = left.dump(2, 2 * HOUR, hidden=True)
    assert pruned(left, NONE) == {name: "never finished"}
    assert left.names() == set()


def test_a_link_to_a_recording_in_memory_that_is_gone_goes_in_the_end(left: Left) -> None:
    for pid, age in ((DEAD, 2 * HOUR), (DEAD + 1, 60), (os.getpid(), 2 * HOUR)):
        link = left.path / f"fastalloc-{pid}-1700000000000.recording"
        link.symlink_to(f"/proc/{pid}/fd/0")
        os.utime(link, (time.time() - age,) * 2, follow_symlinks=False)
    assert pruned(left, NONE) == {f"fastalloc-{DEAD}-1700000000000.recording": "leads nowhere"}
    assert len(left.names()) == 2


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
    sizes = {Path(item.path).name: item.bytes for item in leftovers.look(str(left.path))}
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
