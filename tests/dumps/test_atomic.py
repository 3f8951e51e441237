"""Whoever looks finds a whole dump or none: after kills, on a full disk, while others write."""

from __future__ import annotations

import random
import subprocess
import time
from pathlib import Path

import pytest

import fastalloc
from tests.core.disks import small_disk
from tests.core.programs import Programs, needs_memory_limit
from tests.dumps.states import PRELUDE, left_overs, load

KEEPS_DUMPING = (
    PRELUDE
    + """
fastalloc.start(interval_bytes=1000)
kept = [bytes(1000) for _ in range(5000)]
while True:
    path = fastalloc.write_dump()
    print(path, flush=True)
    if len(sys.argv) > 9: break
"""
)


def test_a_kill_at_any_moment_leaves_whole_dumps_only(programs: Programs) -> None:
    lots = random.Random(3)
    seen = 0
    for _ in range(6):
        process = programs.start(KEEPS_DUMPING)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(lots.uniform(0.0, 0.03))
        process.kill()
        process.communicate()
        for path in process.directory.glob("dump-*"):
            load(path)
            snapshot = fastalloc.read(path)
            assert snapshot.consistent and "error" not in snapshot.dump
            assert snapshot.live_bytes > 4_000_000
            seen += 1
        hidden = [name for name in left_overs(process.directory) if name[0] != "."]
        assert not hidden, "only hidden folders may be left by a kill"
    assert seen >= 6


def test_a_watching_reader_never_sees_half_a_dump(programs: Programs) -> None:
    process = programs.start(KEEPS_DUMPING)
    seen: set[Path] = set()
    try:
        until = time.monotonic() + 20
        while len(seen) < 10 and time.monotonic() < until:
            for path in set(process.directory.glob("dump-*")) - seen:
                load(path)
                assert fastalloc.read(path).consistent
                seen.add(path)
    finally:
        process.kill()
        process.communicate()
    assert len(seen) >= 10


IN_TROUBLE = (
    PRELUDE
    + """
fastalloc.start()
folder = os.environ["FASTALLOC_DIR"]
{trouble}
try:
    path = fastalloc.write_dump(); said = ""
except OSError as error:
    path = ""; said = str(error)
answer(path=path, said=said, active=fastalloc.status().active,
       kinds=fastalloc.status().state, sum=sum(range(10)))
"""
)


@pytest.mark.parametrize("pages", [0, 10])
def test_a_full_disk_costs_the_dump_and_nothing_else(programs: Programs, pages: int) -> None:
    with small_disk(programs.base / "recordings-1", 6) as folder:  # of the first program
        fill = f"""
file = os.open(folder + "/ballast", os.O_WRONLY | os.O_CREAT)
try:
    while True: os.write(file, bytes(4096))
except OSError: pass
size = os.lseek(file, 0, os.SEEK_CUR); os.ftruncate(file, size - {pages} * 4096); os.close(file)
"""
        env = {"FASTALLOC_KEEP_FREE_BYTES": "0"}
        done = programs.run(IN_TROUBLE.replace("{trouble}", fill), env=env)
        assert "No space left" in done.answer["said"] and done.answer["active"]
        assert left_overs(folder) == ["ballast"]
        events = done.snapshot().events
        assert events[events["kind"] == "dump"]["a"].tolist() == [1, 3]


def test_a_folder_that_vanished_costs_the_dump_and_nothing_else(programs: Programs) -> None:
    done = programs.run(
        IN_TROUBLE.replace("{trouble}", "import shutil; shutil.rmtree(folder)"),
    )
    assert "No such file" in done.answer["said"] and "folder" in done.answer["said"]
    assert done.answer["active"] and done.answer["sum"] == 45
    assert not done.directory.exists()


def test_a_read_only_disk_costs_the_dump_and_nothing_else(programs: Programs) -> None:
    with small_disk(programs.base / "recordings-1", 20) as folder:
        # The recording is mapped for writing, so the folder is hidden under a read-only mount of its own.
        trouble = """
import subprocess
subprocess.run(["mount", "--bind", folder, folder], check=True)
subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
"""
        env = {"FASTALLOC_KEEP_FREE_BYTES": "0"}
        try:
            done = programs.run(IN_TROUBLE.replace("{trouble}", trouble), env=env)
            assert "Read-only" in done.answer["said"] and done.answer["active"]
            assert left_overs(folder) == []
        finally:
            subprocess.run(["umount", str(folder)], check=False)  # the one that the program made


def test_a_dumps_files_belong_to_its_user_alone(programs: Programs) -> None:
    done = programs.run(IN_TROUBLE.replace("{trouble}", "os.umask(0)"))
    path = Path(done.answer["path"])
    assert path.stat().st_mode & 0o777 == 0o700
    assert [file.stat().st_mode & 0o777 for file in sorted(path.iterdir())] == [0o600, 0o600]
    assert path.parent == done.directory and path.name.startswith("dump-")


def test_the_copy_takes_no_more_disk_than_is_in_use(programs: Programs) -> None:
    done = programs.run(IN_TROUBLE.replace("{trouble}", ""))
    copy = (Path(done.answer["path"]) / "recording.fastalloc").stat()
    assert copy.st_size > 4 << 20
    assert copy.st_blocks * 512 < 1 << 20


def test_a_copy_in_pieces_is_as_good(programs: Programs) -> None:
    """As near the limit, where the pages of a whole copy are too many."""
    done = programs.run(
        PRELUDE
        + """
from fastalloc import _core
fastalloc.start(interval_bytes=1000)
with fastalloc.span("s"):
    kept = [bytes(1000) for _ in range(5000)]
    path = fastalloc.write_dump()
    def write(headroom):
        _core.dump_begin(65536)
        _core.dump_text('{"version": 1}', 0)
        return _core.dump_write(int(time.time() * 1000), headroom)
    paths = [write(1), write(0)]
def churn():
    while not end.is_set():
        with fastalloc.span("s"): bytes(100_000)
end = threading.Event()
sys.setswitchinterval(1e-4)
threads = [threading.Thread(target=churn) for _ in range(3)]
for thread in threads: thread.start()
torn = [write(1) for _ in range(10)]
end.set()
for thread in threads: thread.join()
fastalloc.stop()
answer(paths=paths, torn=torn, after=write(1))
"""
    )
    pieces, whole = (fastalloc.read(path) for path in done.answer["paths"])
    assert pieces.consistent and whole.consistent
    assert pieces.live_bytes == pytest.approx(whole.live_bytes, abs=100_000)
    assert pieces.live_bytes > 4_000_000 and len(pieces.live) > 1000
    for path in done.answer["torn"]:
        snapshot = fastalloc.read(path)
        assert snapshot.live_bytes > 4_000_000
        assert snapshot.consistent or snapshot.repaired
    assert fastalloc.read(done.answer["after"]).consistent


def test_a_dump_outlives_a_restart_under_it(programs: Programs) -> None:
    done = programs.run(
        PRELUDE
        + """
import threading
fastalloc.start(keep_count=0)
ended, written, failed = False, [], []
def dump():
    while not ended:
        try: written.append(fastalloc.write_dump())
        except (OSError, RuntimeError) as error: failed.append(str(error))
dumper = threading.Thread(target=dump)
dumper.start()
for turn in range(150):
    fastalloc.stop()
    fastalloc.start(keep_count=0, scale=1 + turn % 2 * 15)  # its tables lie elsewhere each time
    if turn % 10 == 0: time.sleep(0.02)
ended = True
dumper.join()
answer(written=written, failed=len(failed))
"""
    )
    assert done.answer["written"]
    for path in done.answer["written"]:
        snapshot = fastalloc.read(path)
        assert "error" not in snapshot.dump


def test_a_recording_in_memory_only_is_dumped_as_well(programs: Programs) -> None:
    (programs.base / "folder").write_text("in the way")
    done = programs.run(
        PRELUDE
        + """
folder = os.environ["FASTALLOC_DIR"]
fastalloc.start(dir=folder, interval_bytes=1000)
kept = [bytes(1000) for _ in range(5000)]
level = fastalloc.status().level
os.remove(folder); os.mkdir(folder)
path = fastalloc.write_dump()
answer(path=path, level=level)
""",
        env={"FASTALLOC_DIR": str(programs.base / "folder"), "PYTHONWARNINGS": "ignore"},
    )
    assert done.answer["level"] == "memory"
    assert fastalloc.read(done.answer["path"]).live_bytes > 4_000_000


@needs_memory_limit
def test_where_nothing_can_be_mapped_any_more_a_prepared_dump_is_written(
    programs: Programs,
) -> None:
    done = programs.run(
        PRELUDE
        + """
import resource
fastalloc.start(interval_bytes=1000)
kept = [bytes(1000) for _ in range(5000)]
def limit(mib):
    pages = int(open("/proc/self/statm").read().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * 4096 + (mib << 20), -1))
limit(0)
try: said = fastalloc.write_dump()
except (OSError, MemoryError) as error: said = type(error).__name__
limit(64)
fastalloc.dumps.prepare()
limit(1)
path = fastalloc.write_dump()
answer(path=path, said=said, state=state_of(path)["dump"]["skipped"])
"""
    )
    assert done.answer["state"] == {}
    snapshot = fastalloc.read(done.answer["path"])
    assert snapshot.consistent and snapshot.live_bytes > 4_000_000
    # Without the preparation there may be no memory left for the modules: the program goes on.
    assert (
        done.answer["said"] in ("OSError", "MemoryError", "ImportError")
        or Path(done.answer["said"]).exists()
    )
