"""How a process ended: the evidence, and no more certainty than it gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fastalloc.analysis.endings import Ending, ending
from fastalloc.analysis.lives import life
from fastalloc.analysis.machine import INITIAL_PID_NAMESPACE, KernelKill, Machine
from fastalloc.recording.layout import Exit, Guard
from fastalloc.recording.reader import read
from tests.recording.synthetic import SECOND, SyntheticRecording

MIB = 1 << 20
BOOT = "b00t"
START = 1_700_000_000


class FakeMachine(Machine):
    """One whose kernel's log and cgroup are as given; `kills` None: the cgroup is gone."""

    def __init__(
        self, kills: int | None = None, log: list[KernelKill] | None = None, boot_id: str = BOOT
    ) -> None:
        super().__init__()
        self._kills, self.kernel_kills, self.boot_id = kills, log or [], boot_id  # type: ignore[misc]

    def oom_kills(self, folder: str, number: int) -> int | None:
        return self._kills if (folder, number) == ("/cg", 5) else None


class Folder:
    """Recordings of one cgroup with a limit of 100 MiB."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.snapshots: list[Any] = []

    def add(
        self,
        *,
        percent: int = 97,
        begin: int = 0,
        seconds: int = 60,
        state: str = "running",
        kills_at_start: int = 0,
        rss: int = 0,
        **header: int,
    ) -> Any:
        """A process that began `begin` s after START and was last seen `seconds` s later."""
        pid = header.pop("pid", 4000 + len(self.snapshots))
        recording = SyntheticRecording(
            pid=pid,
            state=state,
            duration_ns=seconds * SECOND,
            start_time_ns=(START + begin) * SECOND,
            start_monotonic_ns=(1_000 + begin) * SECOND,
            cgroup_bytes=percent * MIB,
            rss_bytes=(rss or percent) * MIB,
            limit_bytes=100 * MIB,
            usage_ns=seconds * SECOND,
            oom_kills_at_start=kills_at_start,
            pid_namespace=INITIAL_PID_NAMESPACE,
            **{name: value for name, value in header.items() if name != "exit_name"},
        )
        recording.header["exit_name"] = recording.string(str(header.get("exit_name", "")))
        recording.options(
            {
                "limit_source": "/sys/fs/cgroup/memory.max",
                "boot_id": BOOT,
                "cgroup": "/cg",
                "cgroup_id": 5,
            }
        )
        path = recording.write(self.path / f"fastalloc-{pid}-{(START + begin) * 1000}.recording")
        self.snapshots.append(read(path))
        return self.snapshots[-1]

    def ending(self, snapshot: Any, machine: Machine) -> Ending:
        return ending(snapshot, machine, [life(each) for each in self.snapshots])


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def kind(end: Ending) -> tuple[str, str]:
    return end.kind, end.certainty


def test_what_the_process_said_comes_first(folder: Folder) -> None:
    said = folder.add(state="exited", exit_kind=Exit.EXCEPTION, exit_name="LookupError")
    end = folder.ending(said, FakeMachine(kills=7))
    assert (*kind(end), end.name, end.is_bad) == ("exception", "certain", "LookupError", True)


def test_a_process_that_announced_its_end_and_was_gone_is_not_killed(folder: Folder) -> None:
    said = folder.add(exit_kind=Exit.SIGNAL, exit_name="SIGTERM", exit_ns=58 * SECOND)
    end = folder.ending(said, FakeMachine(kills=1))
    assert (*kind(end), end.is_bad) == ("signal", "certain", False)
    assert "2.0 s before its last sign of life" in end.evidence[0]


@pytest.mark.parametrize(("name", "is_bad"), [("SIGTERM", False), ("SIGSEGV", True)])
def test_some_signals_are_meant(folder: Folder, name: str, is_bad: bool) -> None:
    said = folder.add(state="exited", exit_kind=Exit.SIGNAL, exit_name=name)
    assert folder.ending(said, FakeMachine()).is_bad is is_bad


def test_the_kernels_log_is_certain_where_the_pid_is_its_own(folder: Folder) -> None:
    dead = folder.add(percent=40)
    line = KernelKill(dead.pid, 1_061.0, "Out of memory: Killed process 4000 (python)")
    end = folder.ending(dead, FakeMachine(log=[line]))
    assert kind(end) == ("out_of_memory", "certain")
    assert line.text in end.evidence[0]


def test_the_kernels_log_of_another_boot_or_an_earlier_kill_says_nothing(folder: Folder) -> None:
    dead = folder.add(percent=40)
    early = KernelKill(dead.pid, 1_000.0, "")
    late = KernelKill(dead.pid, 1_061.0, "")
    for machine in (FakeMachine(log=[early]), FakeMachine(log=[late], boot_id="other")):
        assert kind(folder.ending(dead, machine)) == ("killed", "unknown")


def test_a_counted_kill_near_the_limit_is_certain(folder: Folder) -> None:
    end = folder.ending(folder.add(percent=97), FakeMachine(kills=1))
    assert kind(end) == ("out_of_memory", "certain")
    assert end.evidence == [
        "its cgroup has counted 1 kill for memory since",
        "its cgroup used 97 % of the limit when last seen",
    ]


def test_a_counted_kill_far_from_the_limit_is_likely(folder: Folder) -> None:
    end = folder.ending(folder.add(percent=40), FakeMachine(kills=1))
    assert kind(end) == ("out_of_memory", "likely")


def test_where_none_was_counted_it_was_not_memory(folder: Folder) -> None:
    dead = folder.add(percent=97, kills_at_start=2)
    end = folder.ending(dead, FakeMachine(kills=2))
    assert kind(end) == ("killed", "unknown")
    assert "it was not that" in end.evidence[0]


def test_after_the_container_is_gone_usage_makes_it_likely_only(folder: Folder) -> None:
    machine = FakeMachine(kills=None, boot_id="another machine")
    assert kind(folder.ending(folder.add(percent=97), machine)) == ("out_of_memory", "likely")
    assert kind(folder.ending(folder.add(percent=60), machine)) == ("killed", "unknown")


def test_the_guard_speaks_for_memory_too(folder: Folder) -> None:
    dead = folder.add(percent=60, guard_state=Guard.TRIPPED)
    end = folder.ending(dead, FakeMachine(kills=None))
    assert kind(end) == ("out_of_memory", "likely")
    assert "the guard of its limit had acted" in end.evidence


def test_the_allocation_that_the_guard_saw_coming_is_told(folder: Folder) -> None:
    trip = {"guard_size": 200 * MIB, "guard_usage_bytes": 16 * MIB}
    dead = folder.add(percent=16, guard_state=Guard.TRIPPED, **trip)
    assert (
        "the guard of its limit had acted: an allocation of 209715200 bytes was asked for, with "
        "16777216 bytes in use"
    ) in folder.ending(dead, FakeMachine(kills=1)).evidence
    recording = SyntheticRecording(guard_state=Guard.TRIPPED, state="running", **trip)
    recording.options({"limit_source": "/sys/fs/cgroup/memory.max"})
    site = recording.site(
        [("decode", "/usr/lib/python3.11/codecs.py", 3), ("load", "/app/a.py", 7)]
    )
    node = int(recording.tables[4 + 1][site]["node"])
    recording.event("guard", time_ns=1, a=Guard.TRIPPED, b=16 * MIB, node=node)
    snapshot = read(recording.write(folder.path / "recording"))
    (text,) = [each for each in ending(snapshot, FakeMachine(), []).evidence if "guard" in each]
    assert "209715200 bytes was asked for at /app/a.py:7 in load" in text


def test_a_successors_first_reading_tells_when_the_cgroup_is_gone(folder: Folder) -> None:
    dead = folder.add(percent=97, begin=0, seconds=60)
    folder.add(percent=20, begin=61, kills_at_start=1, state="exited")
    machine = FakeMachine(kills=None)
    assert kind(folder.ending(dead, machine)) == ("out_of_memory", "certain")


def test_one_kill_is_not_blamed_on_two(folder: Folder) -> None:
    small = folder.add(percent=97, rss=30)
    large = folder.add(percent=97, rss=60)
    machine = FakeMachine(kills=1)
    assert kind(folder.ending(large, machine)) == ("out_of_memory", "likely")
    assert kind(folder.ending(small, machine)) == ("killed", "unknown")
    assert kind(folder.ending(small, FakeMachine(kills=2))) == ("out_of_memory", "certain")


def test_a_later_death_is_not_explained_by_an_earlier_kill(folder: Folder) -> None:
    first = folder.add(percent=97, seconds=60)
    second = folder.add(percent=97, begin=62, seconds=60, kills_at_start=1)
    machine = FakeMachine(kills=1)
    assert kind(folder.ending(first, machine)) == ("out_of_memory", "certain")
    assert kind(folder.ending(second, machine)) == ("killed", "unknown")


def test_a_memoryerror_with_the_allocation_that_failed(folder: Folder, tmp_path: Path) -> None:
    recording = SyntheticRecording(state="exited", exit_kind=Exit.EXCEPTION)
    recording.header["exit_name"] = recording.string("MemoryError")
    site = recording.site([("load", "/app/orders.py", 10)])
    node = int(recording.tables[4 + 1][site]["node"])
    recording.event("failed_allocation", time_ns=59 * SECOND, node=node, a=33554432)
    end = ending(read(recording.write(tmp_path / "recording")), FakeMachine(), [])
    assert kind(end) == ("failed_allocation", "certain")
    assert "33554432 bytes failed at /app/orders.py:10 in load, 1.0 s before" in end.evidence[0]


def test_a_kill_long_after_the_last_sign_of_life_was_that_of_another_process(
    folder: Folder,
) -> None:
    dead = folder.add(percent=40)
    for seconds, told in ((59, "out_of_memory"), (61, "killed")):
        line = KernelKill(dead.pid, 1_060.0 + seconds, "Out of memory: Killed process 4000 (java)")
        assert folder.ending(dead, FakeMachine(log=[line])).kind == told


def test_nor_is_it_this_ones_when_its_pid_was_given_again_by_then(folder: Folder) -> None:
    dead = folder.add(percent=40)
    later = folder.add(percent=40, begin=70, seconds=20, pid=dead.pid, process_start_ticks=9)
    line = KernelKill(dead.pid, 1_090.0, "Out of memory: Killed process 4000 (python)")
    assert folder.ending(dead, FakeMachine(log=[line])).kind == "killed"
    assert folder.ending(later, FakeMachine(log=[line])).kind == "out_of_memory"


def test_a_process_that_went_over_to_another_program_did_not_die(folder: Folder) -> None:
    first = folder.add(pid=4000, process_start_ticks=77, seconds=10)
    again = folder.add(pid=4000, process_start_ticks=77, begin=11)
    last = folder.add(pid=4000, process_start_ticks=77, begin=12)
    other = folder.add(pid=4000, process_start_ticks=78, begin=200)
    machine = FakeMachine(kills=2)
    for snapshot in (first, again):
        end = folder.ending(snapshot, machine)
        assert (*kind(end), end.is_bad) == ("exec", "certain", False)
    assert ", 11.0 s after" in folder.ending(first, machine).evidence[0]
    for snapshot in (last, other):
        assert folder.ending(snapshot, machine).kind == "out_of_memory"


def test_a_master_that_waits_in_c_is_judged_by_what_its_workers_read(folder: Folder) -> None:
    """It had read the usage once, long before the whole cgroup was killed."""
    master = folder.add(percent=6, seconds=2, rss=20)
    line = KernelKill(master.pid, 1_091.0, "Out of memory: Killed process 4000 (python)")
    assert folder.ending(master, FakeMachine(kills=2)).certainty == "likely"
    assert folder.ending(master, FakeMachine(kills=2, log=[line])).kind == "out_of_memory"
    assert (
        not folder.ending(master, FakeMachine(kills=2, log=[line])).evidence[0].startswith("the k")
    )
    folder.add(percent=99, begin=30, seconds=60, rss=80, parent_pid=master.pid)
    end = folder.ending(master, FakeMachine(kills=2))
    assert kind(end) == ("out_of_memory", "certain")
    assert "its cgroup used 99 % of the limit when last seen, by process 4001 in it" in end.evidence
    # and the kernel's line is its own, though its last sign of life is old
    end = folder.ending(master, FakeMachine(kills=2, log=[line]))
    assert end.evidence[0].startswith("the kernel's log")


def test_a_stranger_in_the_cgroup_and_one_that_lives_are_no_witnesses(folder: Folder) -> None:
    master = folder.add(percent=6, seconds=2)
    folder.add(percent=99, begin=30, parent_pid=2)
    folder.add(percent=99, begin=30, parent_pid=master.pid, state="exited")
    assert "its cgroup used 6 % of the limit when last seen" in (
        folder.ending(master, FakeMachine(kills=1)).evidence
    )
