"""However many dumps are written, the disk stays within its bounds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.core.disks import small_disk
from tests.core.programs import Programs
from tests.dumps.states import PRELUDE, left_overs

MIB = 1 << 20
WRITES = (
    PRELUDE
    + """
fastalloc.start(interval_bytes=1000, keep_count=5, keep_bytes=3 << 20, keep_free_bytes={floor} << 20)
kept = [bytes(1000) for _ in range(2000)]
folder = os.environ["FASTALLOC_DIR"]
least, refused, last = 1 << 60, 0, ""
for _ in range({times}):
    try:
        last = fastalloc.write_dump("guard")
    except OSError as error:
        refused, said = refused + 1, str(error)
    disk = os.statvfs(folder)
    least = min(least, disk.f_bavail * disk.f_frsize)
status = fastalloc.status()
for _ in range(200):  # the watcher tidies up in a moment
    if len([name for name in os.listdir(folder) if "dump-" in name]) <= 5: break
    time.sleep(0.02)
answer(least=least, refused=refused, said=said if refused else "", last=last,
       error=status.dump_error, active=status.active)
"""
)


@pytest.fixture
def disk(programs: Programs) -> Iterator[Path]:
    """A file system of 40 MiB where the first program records."""
    with small_disk(programs.base / "recordings-1", 40) as folder:
        yield folder


def test_the_floor_of_free_space_holds_and_the_last_dump_is_there(
    programs: Programs, disk: Path
) -> None:
    done = programs.run(WRITES.replace("{floor}", "20").replace("{times}", "150"))
    assert done.answer["refused"] == 0
    # One dump at most was written beyond what had been free.
    assert done.answer["least"] >= 19 * MIB
    assert Path(done.answer["last"]).is_dir()
    assert len(list(disk.glob("dump-*"))) <= 5
    assert left_overs(disk) == []


def test_where_the_floor_cannot_be_kept_no_dump_is_written_and_the_status_says_why(
    programs: Programs, disk: Path
) -> None:
    # The recording has a file, because the disk was larger when it was made.
    fill = "fd = os.open(folder + '/ballast', os.O_CREAT | os.O_WRONLY); os.posix_fallocate(fd, 0, 30 << 20)"
    source = WRITES.replace("least, ", fill + "\nleast, ", 1)
    done = programs.run(source.replace("{floor}", "20").replace("{times}", "3"))
    assert done.answer["refused"] == 3 and done.answer["active"]
    assert "keep_free_bytes" in done.answer["said"] and "keep_free_bytes" in done.answer["error"]
    assert (disk / "ballast").exists() and not list(disk.glob("*dump-*"))


def test_bounds_are_kept_after_a_watcher_that_did_not_come_to_it(programs: Programs) -> None:
    done = programs.run(
        PRELUDE
        + """
from fastalloc import background
def at_once(job):
    job()
    return True
background.soon = at_once
fastalloc.start(keep_count=5)
for _ in range(12): fastalloc.write_dump()
for taken in (False, True):  # too many wait; the job is lost, as it is while the breaker is open
    background.soon = lambda job: taken
    fastalloc.write_dump()
background.soon = at_once
fastalloc.write_dump()
answer(dumps=len([name for name in os.listdir(os.environ["FASTALLOC_DIR"]) if name.startswith("dump-")]))
"""
    )
    assert 1 <= done.answer["dumps"] <= 5
