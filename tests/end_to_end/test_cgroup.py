"""The cgroup helper: it finds its place in every layout, and takes along what it brought."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fastalloc.demo.cgroup import CgroupUnavailable, MemoryCgroup, _places

V1_MOUNT = "30 24 0:26 {root} {top}/memory rw,relatime shared:9 - cgroup cgroup rw,memory"
V2_MOUNT = "35 24 0:30 {root} {top} rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"


def proc_of(folder: Path, cgroup: str, mountinfo: str) -> Path:
    proc = folder / "proc"
    proc.mkdir()
    (proc / "cgroup").write_text(cgroup)
    (proc / "mountinfo").write_text(mountinfo)
    return proc


def hand_down(folder: Path, controllers: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cgroup.subtree_control").write_text(controllers)


def test_on_v1_the_place_is_below_the_own_cgroup(tmp_path: Path) -> None:
    top = tmp_path / "fs"
    mounts = V1_MOUNT.format(root="/", top=top)
    proc = proc_of(tmp_path, "4:memory:/jobs/7\n3:cpu,cpuacct:/\n", mounts)
    assert list(_places(proc)) == [(1, top / "memory/jobs/7")]


def test_on_v1_in_a_container_the_mounts_root_is_not_the_top(tmp_path: Path) -> None:
    top = tmp_path / "fs"
    mounts = V1_MOUNT.format(root="/docker/abc", top=top)
    proc = proc_of(tmp_path, "4:memory:/docker/abc/inner\n", mounts)
    assert list(_places(proc)) == [(1, top / "memory/inner")]


def test_on_v2_a_sibling_does_where_the_parent_hands_memory_down(tmp_path: Path) -> None:
    top = tmp_path / "fs"
    hand_down(top / "user/app", "cpu memory\n")
    hand_down(top / "user/app/service", "\n")
    mounts = V2_MOUNT.format(root="/", top=top)
    proc = proc_of(tmp_path, "0::/user/app/service\n", mounts)
    assert list(_places(proc)) == [(2, top / "user/app")]


def test_on_v2_never_above_the_mount(tmp_path: Path) -> None:
    hand_down(tmp_path, "memory\n")
    top = tmp_path / "fs"
    hand_down(top, "\n")
    proc = proc_of(tmp_path, "0::/\n", V2_MOUNT.format(root="/", top=top))
    assert list(_places(proc)) == []


def test_without_any_cgroup_it_says_why(tmp_path: Path) -> None:
    with pytest.raises(CgroupUnavailable, match="no memory controller is mounted"):
        MemoryCgroup(1 << 20, proc=tmp_path / "nothing").__enter__()


def test_a_folder_that_is_no_cgroup_is_left_as_it_was(tmp_path: Path) -> None:
    place = tmp_path / "fs/memory/own"
    place.mkdir(parents=True)
    mounts = V1_MOUNT.format(root="/", top=tmp_path / "fs")
    proc = proc_of(tmp_path, "4:memory:/own\n", mounts)
    with pytest.raises(CgroupUnavailable, match="the limit was not accepted"):
        MemoryCgroup(1 << 20, proc=proc).__enter__()
    assert list(place.iterdir()) == []


@pytest.mark.oom
def test_the_kernel_kills_inside_and_the_group_counts_it(group: MemoryCgroup) -> None:
    code = "kept = []\nwhile True: kept.append(bytearray(1 << 20))"
    done = subprocess.run([sys.executable, "-c", code], preexec_fn=group.enter, check=False)
    assert done.returncode == -signal.SIGKILL
    assert group.oom_kills() == 1


@pytest.mark.oom
def test_leaving_ends_what_still_runs_inside_and_removes_the_group(group: MemoryCgroup) -> None:
    sleeper = subprocess.Popen(["sleep", "60"], preexec_fn=group.enter)
    assert group.processes() == [sleeper.pid]
    group.__exit__(None, None, None)
    assert sleeper.wait(10) == -signal.SIGKILL
    assert not group.path.exists()
    group.path.mkdir()  # for the fixture, which leaves it once more
