"""A disk that is full, read-only or gone costs the recording, never the program."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fastalloc
from tests.core import disks
from tests.core.programs import Programs

WORK = """
import fastalloc, json, os, shutil, sys, warnings
warnings.simplefilter("ignore")
fastalloc.start(keep_free_bytes=KEEP)
def work():
    kept = []
    for n in range(300):
        with fastalloc.span("GET /orders/"):
            kept.append([bytes(1000) for _ in range(200)])
            fastalloc.checkpoint("half")
        if n == 100: DURING
    return sum(map(len, kept))
assert work() == 60_000
print(json.dumps({"reason": fastalloc.status().reason, "samples": fastalloc.status().samples}))
"""


def run(programs: Programs, folder: Path, keep: int = 0, during: str = "pass") -> Any:
    source = WORK.replace("KEEP", str(keep)).replace("DURING", during)
    return programs.run(source, env={"FASTALLOC_DIR": str(folder)})


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB."""
    with disks.small_disk(tmp_path / "disk", 1) as folder:
        yield folder


def test_on_a_full_disk_the_recording_lies_in_memory_and_status_says_why(
    programs: Programs, small_disk: Path
) -> None:
    done = run(programs, small_disk)
    assert "No space left" in done.answer["reason"]
    assert done.answer["samples"] > 0
    assert list(small_disk.iterdir()) == []


def test_below_the_floor_the_recording_lies_in_memory(programs: Programs, tmp_path: Path) -> None:
    done = run(programs, tmp_path / "recordings", keep=1 << 50)
    assert "leaving keep_free_bytes of the disk free" in done.answer["reason"]
    assert list((tmp_path / "recordings").iterdir()) == []


def test_a_disk_that_fills_up_later_costs_nothing(programs: Programs, small_disk: Path) -> None:
    # The space was reserved at the start: 16 MiB hold a recording, and then nothing more.
    subprocess.run(["mount", "-o", "remount,size=16m", str(small_disk)], check=True)
    fill = (
        'exec(\'try: open(os.path.dirname(fastalloc.status().recording) + "/fill", "wb")'
        '.write(bytes(32 << 20))\\nexcept OSError: print("full")\')'
    )
    done = run(programs, small_disk, during=fill)
    assert "full" in done.stdout
    assert done.answer["reason"] == ""
    (path,) = small_disk.glob("*.recording")
    assert fastalloc.read(path).state == "exited"
    assert len(fastalloc.read(path).records) > 100


def test_on_a_full_disk_a_forked_child_goes_on_without(
    programs: Programs, small_disk: Path
) -> None:
    subprocess.run(["mount", "-o", "remount,size=6m", str(small_disk)], check=True)
    fork = "pid = os.fork()\n        if n == 100 and pid: assert os.waitpid(pid, 0)[1] == 0"
    done = run(programs, small_disk, during=fork)
    assert len(list(small_disk.glob("*.recording"))) == 1
    assert done.answer["samples"] > 0


def test_a_folder_that_is_removed_costs_the_recording_only(
    programs: Programs, tmp_path: Path
) -> None:
    folder = tmp_path / "recordings"
    gone = "shutil.rmtree(os.path.dirname(fastalloc.status().recording))"
    done = run(programs, folder, during=gone)
    assert done.answer["samples"] > 0
    assert not folder.exists()


def test_a_read_only_disk_costs_the_recording_only(programs: Programs, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    done = run(programs, small_disk)
    assert "Read-only" in done.answer["reason"] or "cannot be written" in done.answer["reason"]


LOSES = """
import fastalloc, json, os, random, sys, threading, time, warnings
fastalloc.start(interval_bytes=2000)
path = fastalloc.status().recording
chance = random.Random(SEED)
stop = False
def work(number):
    kept, total = [], 0
    while not stop:
        with fastalloc.span(f"GET /{number}/"), fastalloc.phase("view"):
            kept.append([bytes(1000) for _ in range(50)])
            fastalloc.checkpoint("half")
        total += sum(map(len, kept[-1]))
        if len(kept) > 200: del kept[:150]
    assert total % 50_000 == 0 and total
    done.append(number)
done = []
threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
for thread in threads: thread.start()
time.sleep(chance.uniform(0.05, 0.3))
os.truncate(path, SIZE)
time.sleep(0.5)
answer = {"reason": fastalloc.status().reason, "active": fastalloc.status().active}
stop = True
for thread in threads: thread.join()
assert sorted(done) == [0, 1, 2]
child = os.fork()
if child == 0:
    kept = [bytes(1000) for _ in range(50_000)]
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
print(json.dumps(answer))
"""


def kernel_copies_memory() -> bool:
    """Whether process_vm_readv is there: qemu's user-mode emulation has none, and some sandboxes forbid it."""
    done = ctypes.CDLL(None).process_vm_readv(os.getpid(), None, 0, None, 0, 0)
    return bool(done == 0)


@pytest.mark.parametrize("size", [0, 4096, 200_000, 1_500_000])
@pytest.mark.parametrize("seeds", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_a_recording_that_is_cut_short_under_the_program_costs_the_recording_only(
    programs: Programs, size: int, seeds: int
) -> None:
    for seed in range(seeds):
        source = LOSES.replace("SEED", str(seed)).replace("SIZE", str(size))
        done = programs.run(source, env={"PYTHONFAULTHANDLER": ""})
        assert "its file was lost" in done.answer["reason"]
        # Without it what is left of the file cannot be told from what is gone.
        assert done.answer["active"] == (size > 0 and kernel_copies_memory())


def test_the_watcher_survives_it_too(programs: Programs) -> None:
    done = programs.run("""
import os, time
import fastalloc
from tests.core.inside import *
fastalloc.start()
path = fastalloc.status().recording
time.sleep(0.3)
os.truncate(path, 0)
time.sleep(1.5)  # the watcher alone comes by, with the program's signals blocked
answer(reason=fastalloc.status().reason)
""")
    assert "its file was lost" in done.answer["reason"]


@pytest.mark.parametrize(
    ("before", "says"), [("", ""), ("import faulthandler; faulthandler.enable()\n", "Bus error")]
)
@pytest.mark.parametrize("end", ["os.kill(os.getpid(), 7)", "ctypes.string_at(at, 1)"])
def test_any_other_bus_error_ends_the_program_as_ever(
    programs: Programs, before: str, says: str, end: str
) -> None:
    source = before + (
        "import ctypes, fastalloc, mmap, os, tempfile\n"
        "fastalloc.start()\n"
        "file = tempfile.TemporaryFile()\n"
        "os.ftruncate(file.fileno(), 8192)\n"
        "memory = mmap.mmap(file.fileno(), 8192)\n"
        "at = ctypes.addressof(ctypes.c_char.from_buffer(memory, 5000))\n"
        "os.ftruncate(file.fileno(), 0)\n"
        f"{end}\n"
    )
    done = programs.run(source, env={"PYTHONFAULTHANDLER": ""}, returncode=-7)
    assert says in done.stderr
