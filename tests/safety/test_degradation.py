"""Where something cannot work, less is recorded, status says how much and why, and the program runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import fastalloc
from fastalloc.recording.folder import recordings
from tests.core import disks
from tests.safety.service import Service, wait_until

SOON = """
from fastalloc import background, place
background.every(0.1, place.to_file, place.JOB)
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for 3 MiB: too little for a recording."""
    with disks.small_disk(tmp_path / "disk", 3) as folder:
        yield folder


def test_a_full_disk_costs_the_file_until_there_is_room(small_disk: Path) -> None:
    with Service(small_disk, SOON, keep_free_bytes=0) as service:
        status = service.status()
        assert (status["level"], status["recording"]) == ("memory", "")
        assert "No space left" in status["reason"]
        assert service.is_on()
        kept = service.ask("fastalloc.snapshot().live_bytes")
        assert kept > 5_000_000  # the service holds 10 MB: one sample per 512 KiB
        assert service.ask("[s['name'] for s in fastalloc.snapshot().to_dict()['phases']]")

        resize = ["mount", "-o", "remount,size=64m", str(small_disk)]
        subprocess.run(resize, check=True)
        wait_until(lambda: service.status()["recording"], 5)
        status = service.status()
        assert (status["level"], status["reason"]) == ("full", "")
        snapshot = fastalloc.read(service.recording)
        assert snapshot.state == "running" and snapshot.consistent
        assert snapshot.live_bytes > 5_000_000  # what was held before is known still
        wait_until(lambda: fastalloc.read(service.recording).total_count > snapshot.total_count, 5)


def test_a_folder_that_vanished_and_one_that_is_in_the_way(tmp_path: Path) -> None:
    folder = tmp_path / "file"
    folder.write_text("no folder")
    with Service(folder, SOON) as service:
        assert service.status()["level"] == "memory"
        assert service.is_on()
        folder.unlink()
        wait_until(lambda: service.status()["level"] == "full", 5)
        assert service.recording.exists()


def test_a_child_of_a_process_without_a_file_records_in_memory_too(tmp_path: Path) -> None:
    folder = tmp_path / "file"
    folder.write_text("no folder")
    setup = """
def in_child():
    reading, writing = os.pipe()
    if not os.fork():
        more = [bytes(10_000) for _ in range(1000)]
        with fastalloc.span("child"): pass
        snapshot = fastalloc.snapshot()
        os.write(writing, json.dumps([fastalloc.status().level, int(snapshot.live_bytes)]).encode())
        os._exit(0)
    os.wait()
    return json.loads(os.read(reading, 1000))
"""
    with Service(folder, setup) as service:
        level, live_bytes = service.ask("in_child()")
        assert level == "memory" and live_bytes > 12_000_000
        assert service.is_on()


def test_a_dump_without_a_disk_is_an_error_of_the_disk(tmp_path: Path) -> None:
    folder = tmp_path / "file"
    folder.write_text("no folder")
    setup = """
def dump():
    try:
        return fastalloc.write_dump()
    except OSError as error:
        return str(error)
"""
    with Service(folder, setup) as service:
        assert service.ask("dump()")
        assert folder.read_text() == "no folder"
        assert service.is_on()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a read-only file system")
def test_a_read_only_disk(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with Service(small_disk) as service:
        status = service.status()
        assert status["level"] == "memory"
        assert status["active"] and status["reason"]


def test_without_the_core_status_tells_what_the_kernel_counts(tmp_path: Path) -> None:
    code = """
import json, sys, warnings
warnings.simplefilter("ignore")
sys.modules["fastalloc._core"] = None
import fastalloc
fastalloc.start()
print(json.dumps(fastalloc.status().to_dict()))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, cwd=tmp_path
    )
    status = json.loads(done.stdout)
    assert status["level"] == "counters" and not status["active"]
    assert status["rss_bytes"] > 1 << 20 and status["limit_bytes"] > 1 << 20
    assert "core" in status["reason"]


def fastalloc_command(*arguments: object) -> tuple[int, str]:
    command = [sys.executable, "-m", "fastalloc", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_a_recording_in_memory_is_seen_and_switched_from_outside(small_disk: Path) -> None:
    with Service(small_disk, keep_free_bytes=0) as service:
        assert service.status()["level"] == "memory"
        of_folder = ("--dir", small_disk)
        status, text = fastalloc_command("status", service.pid, *of_folder, "--json")
        (row,) = json.loads(text)["recordings"]
        assert status == 0 and (row["pid"], row["state"]) == (service.pid, "running")
        assert row["live_bytes"] > 5_000_000
        status, text = fastalloc_command("top", service.pid, *of_folder)
        assert status == 0 and f"process {service.pid}, running" in text
        assert fastalloc_command("disable", "--all", *of_folder)[0] == 0
        assert not service.is_on()
        assert fastalloc_command("enable", service.pid, *of_folder)[0] == 0
        assert service.is_on()
        (link,) = small_disk.iterdir()
        assert link.is_symlink()
        assert fastalloc.read(link).state == "running"
    # It went with its process, and nothing claims that there were a recording.
    assert fastalloc_command("status", *of_folder)[1].startswith("0 recordings")


def test_children_without_a_file_are_seen_too_and_a_closed_descriptor_is_no_trouble(
    small_disk: Path,
) -> None:
    setup = """
def child():
    pid = os.fork()
    if not pid:
        with fastalloc.span("child"): pass
        os.closerange(3, 1000)
        reused = [os.open("/dev/null", os.O_RDONLY) for _ in range(300)]
        fastalloc.stop()
        os._exit(0 if all(os.fstat(fd) for fd in reused) else 1)
    return os.waitpid(pid, 0)[1]

def waiting():
    global reading, writing
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        with fastalloc.span("child"): pass
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    return pid
"""
    with Service(small_disk, setup, keep_free_bytes=0) as service:
        assert service.ask("child()") == 0
        pid = service.ask("waiting()")
        wait_until(lambda: len(list(small_disk.iterdir())) == 2, 5)
        _, text = fastalloc_command("status", "--dir", small_disk, "--json")
        rows = json.loads(text)["recordings"]
        assert sorted(row["pid"] for row in rows) == sorted([service.pid, pid])
        assert all(row["state"] == "running" for row in rows)
        service.ask("os.close(writing)")


def test_when_there_is_room_again_a_file_takes_the_links_place(small_disk: Path) -> None:
    with Service(small_disk, SOON, keep_free_bytes=0) as service:
        wait_until(lambda: [path.is_symlink() for path in small_disk.iterdir()] == [True], 5)
        subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
        wait_until(lambda: service.status()["recording"], 5)
        assert [path.is_symlink() for path in small_disk.iterdir()] == [False]
        assert service.is_on()


def test_a_link_to_anything_else_is_not_followed(tmp_path: Path) -> None:
    """The process is gone, and its pid or its descriptor is another's."""
    with (tmp_path / "secret").open("w") as file:
        for number, target in enumerate(
            (f"/proc/{os.getpid()}/fd/{file.fileno()}", "/proc/1/fd/0")
        ):
            (tmp_path / f"fastalloc-{os.getpid()}-{number}.recording").symlink_to(target)
        assert recordings(tmp_path) == []
        status, text = fastalloc_command("disable", os.getpid(), "--dir", tmp_path)
        assert status == 2 and len(text.splitlines()) == 1
