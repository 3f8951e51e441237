"""What the machine tells of the dead, whatever a recording claims."""

from __future__ import annotations

import os
from pathlib import Path

from fastalloc.analysis.machine import Machine

RECORD = (
    "3,1,61000000,-;Memory cgroup out of memory: Killed process {pid} (python) anon-rss:1kB\n"
    " SUBSYSTEM=memory\n"
)


def machine_of(folder: Path, mount: Path) -> Machine:
    proc = folder / "proc"
    (proc / "self").mkdir(parents=True)
    (proc / "self/mountinfo").write_text(
        f"35 24 0:30 / {mount} rw,nosuid - cgroup2 cgroup2 rw\n24 1 0:1 / / rw - ext4 /dev/a rw\n"
    )
    return Machine(proc, folder / "kmsg")


def test_a_counter_is_read_by_the_cgroups_number(tmp_path: Path) -> None:
    group = tmp_path / "cgroups/app"
    group.mkdir(parents=True)
    (group / "memory.events").write_text("low 0\noom 3\noom_kill 2\noom_group_kill 1\n")
    machine = machine_of(tmp_path, tmp_path / "cgroups")
    number = group.stat().st_ino
    assert machine.oom_kills(str(group), number) == 2
    assert machine.oom_kills(str(group), number + 1) is None, "a later cgroup of the same name"
    assert machine.oom_kills(str(tmp_path / "cgroups/gone"), number) is None


def test_nothing_outside_cgroups_is_opened(tmp_path: Path) -> None:
    group = tmp_path / "cgroups/app"
    group.mkdir(parents=True)
    outside = tmp_path / "outside"
    outside.mkdir()
    os.mkfifo(group / "memory.events")  # opening it would wait
    (group / "memory.oom_control").symlink_to(outside)
    machine = machine_of(tmp_path, tmp_path / "cgroups")
    (outside / "memory.events").write_text("\noom_kill 9\n")
    assert machine.oom_kills(str(outside), outside.stat().st_ino) is None
    assert machine.oom_kills(f"{group}/../../outside", outside.stat().st_ino) is None
    assert machine.oom_kills(str(group), group.stat().st_ino) is None
    assert machine.oom_kills("\0", 1) is None


def test_the_kernels_kills_are_read_from_its_log(tmp_path: Path) -> None:
    machine = machine_of(tmp_path, tmp_path)
    (tmp_path / "kmsg").write_text(RECORD.format(pid=77))
    (kill,) = machine.kernel_kills
    assert (kill.pid, kill.seconds) == (77, 61.0)
    assert kill.text.endswith("anon-rss:1kB")


def test_a_log_that_may_not_be_read_tells_nothing(tmp_path: Path) -> None:
    assert Machine(tmp_path / "none", tmp_path / "none").kernel_kills == []
