"""Which limits are found, and with which usage each is compared: on a tree of files made up here, since
cgroup v2's memory controller is not there on every machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastalloc import limits
from fastalloc.analysis import events, safety
from tests.core.programs import Programs, needs_memory_limit


def of_cgroups(found: list[limits.Limit]) -> list[tuple[int, str]]:
    return [
        (limit.limit_bytes, limit.source)
        for limit in found
        if limit.kind == "cgroup" and limit.limit_bytes
    ]


def describe(proc: Path, cgroup: str, mounts: list[str]) -> str:
    proc.mkdir()
    (proc / "cgroup").write_text(cgroup)
    (proc / "mountinfo").write_text("".join(mounts))
    return str(proc)


@pytest.fixture
def v2(tmp_path: Path) -> tuple[str, Path]:
    """(proc, mount point) of a process in /pod/app of cgroup v2."""
    mount = tmp_path / "unified"
    (mount / "pod" / "app").mkdir(parents=True)
    line = f"30 23 0:26 / {mount} rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
    return describe(tmp_path / "proc", "0::/pod/app\n", [line]), mount


def test_the_smallest_of_a_v2_cgroups_own_and_its_ancestors_limits_comes_first(
    v2: tuple[str, Path],
) -> None:
    proc, mount = v2
    (mount / "pod" / "app" / "memory.max").write_text("max\n")
    (mount / "pod" / "app" / "memory.high").write_text("3000000\n")
    (mount / "pod" / "memory.max").write_text("2000000\n")
    found = limits.find(proc=proc)
    assert of_cgroups(found) == [
        (2000000, f"{mount}/pod/memory.max"),
        (3000000, f"{mount}/pod/app/memory.high"),
    ]
    # Each is compared with the usage of the cgroup that it limits.
    assert found[0].usage_path == f"{mount}/pod/memory.current"
    assert found[1].usage_path == f"{mount}/pod/app/memory.current"
    assert limits.own_cgroup(proc).usage_path == f"{mount}/pod/app/memory.current"


def test_a_configured_limit_is_one_among_others(v2: tuple[str, Path]) -> None:
    proc, mount = v2
    (mount / "pod" / "app" / "memory.max").write_text("2000000\n")
    found = limits.find(1000000, proc=proc)
    assert [limit.source for limit in found[:2]] == [
        "memory_limit_bytes",
        f"{mount}/pod/app/memory.max",
    ]
    assert limits.find(3000000, proc=proc)[0].limit_bytes == 2000000


def test_a_container_sees_only_its_part_of_the_hierarchy(tmp_path: Path) -> None:
    mount = tmp_path / "memory"
    (mount / "inner").mkdir(parents=True)
    (mount / "memory.limit_in_bytes").write_text("500000\n")
    (mount / "inner" / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    line = f"31 23 0:27 /docker/abc {mount} rw - cgroup cgroup rw,memory\n"
    proc = describe(tmp_path / "proc", "5:memory:/docker/abc/inner\n", [line])
    found = limits.find(proc=proc)
    assert of_cgroups(found) == [(500000, f"{mount}/memory.limit_in_bytes")]
    assert found[0].usage_path == f"{mount}/memory.usage_in_bytes"


def test_what_the_kernel_does_not_tell_is_no_limit(tmp_path: Path) -> None:
    for proc in (str(tmp_path / "nowhere"), describe(tmp_path / "proc", "garbage", ["more\n"])):
        try:
            found = limits.find(proc=proc)
        except ValueError:
            pytest.fail("a line that cannot be read is passed over")
        assert of_cgroups(found) == []
        assert [limit.source for limit in found if limit.limit_bytes][-1] == "MemTotal"


def test_usage_is_the_cgroups_less_its_inactive_file_pages(
    programs: Programs, v2: tuple[str, Path]
) -> None:
    proc, mount = v2
    group = mount / "pod" / "app"
    (group / "memory.max").write_text("1000000000\n")
    (group / "memory.current").write_text("800000000\n")
    (group / "memory.stat").write_text("anon 1\nfile 300000000\ninactive_file 250000000\n")
    done = programs.run(
        f"""
        import fastalloc, time
        from fastalloc import limits
        from tests.core.inside import answer
        find = limits.find
        limits.find = lambda configured=0: find(configured, {proc!r})
        fastalloc.start()
        status = fastalloc.status()
        (limit,) = [limit for limit in status.limits if limit["kind"] == "cgroup"]
        answer(usage=limit["usage_bytes"], source=status.limit_source, guard=status.guard)
        open({str(group / "memory.stat")!r}, "w").write("anon 1\\nfile 3\\ninactive_file 10000000\\n")
        end = time.monotonic() + 5
        while fastalloc.status().guard == "armed" and time.monotonic() < end: time.sleep(0.01)
        answer(usage=limit["usage_bytes"], source=status.limit_source, guard=fastalloc.status().guard)
        """
    )
    answers = [line for line in done.stdout.splitlines() if line.startswith("{")]
    assert '"usage": 550000000' in answers[0] and '"guard": "armed"' in answers[0]
    assert done.answer["source"] == str(group / "memory.max")
    assert done.answer["guard"] == "warned"  # 79 %: of another process, for all that we know


@needs_memory_limit
@pytest.mark.parametrize(
    ("name", "kind"), [("RLIMIT_AS", "address_space"), ("RLIMIT_DATA", "data")]
)
def test_resource_limits_are_compared_with_what_they_limit(
    programs: Programs, name: str, kind: str
) -> None:
    done = programs.run(
        f"""
        import mmap, resource
        import fastalloc
        from tests.core.inside import answer
        resource.setrlimit(resource.{name}, (3 << 30, -1))
        fastalloc.start()
        (limit,) = [l for l in fastalloc.status().limits if l["source"] == "{name}"]
        untouched = mmap.mmap(-1, 512 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        (later,) = [l for l in fastalloc.status().limits if l["source"] == "{name}"]
        answer(kind=limit["kind"], grown=later["usage_bytes"] - limit["usage_bytes"],
               rss=fastalloc.status().rss_bytes)
        """
    )
    assert done.answer["kind"] == kind
    assert done.answer["grown"] >= 512 << 20
    assert done.answer["rss"] < 200 << 20


FAKED = """
        import os, time
        import fastalloc
        from fastalloc import limits
        from tests.core.inside import answer
        find = limits.find
        limits.find = lambda configured=0: find(configured, {proc!r})
        def write(name, text):
            with open(os.path.join({group!r}, name), "r+") as file: file.write(f"{{text}}\\n".ljust(20))
        def until(condition):
            end = time.monotonic() + 10
            while not condition() and time.monotonic() < end: time.sleep(0.02)
        def limit_bytes():
            return [l["limit_bytes"] for l in fastalloc.status().limits if l["kind"] == "cgroup"]
        def changes():
            events = fastalloc.snapshot().events
            return [[int(e["a"]), int(e["b"]), e["span_name"]] for e in events if e["kind"] == "limit"]
"""


def cgroup_of(v2: tuple[str, Path], limit: str, usage: int) -> tuple[Path, str]:
    """(folder, first lines of a program that takes it for its own)."""
    proc, mount = v2
    group = mount / "pod" / "app"
    (group / "memory.max").write_text(f"{limit}\n".ljust(20))
    (group / "memory.current").write_text(f"{usage}\n".ljust(20))
    (group / "memory.stat").write_text("anon 1\ninactive_file 0\n")
    return group, FAKED.format(proc=proc, group=str(group))


@pytest.mark.parametrize("before", ["1000000000", "max"])
def test_a_limit_that_is_lowered_or_set_while_the_program_runs_is_held(
    programs: Programs, v2: tuple[str, Path], before: str
) -> None:
    group, begin = cgroup_of(v2, before, 400_000_000)
    done = programs.run(
        begin
        + """
        fastalloc.start()
        write("memory.max", 440000000)
        until(lambda: fastalloc.status().guard == "tripped")
        status = fastalloc.status()
        answer(guard=status.guard, limit=status.limit_bytes, source=status.limit_source, changes=changes())
        """
    )
    source = str(group / "memory.max")
    assert done.answer == {
        "guard": "tripped",
        "limit": 440_000_000,
        "source": source,
        "changes": [[0 if before == "max" else 1_000_000_000, 440_000_000, source]],
    }


@pytest.mark.parametrize("after", ["2000000000", "max"])
def test_a_limit_that_was_raised_or_lifted_trips_nothing(
    programs: Programs, v2: tuple[str, Path], after: str
) -> None:
    _, begin = cgroup_of(v2, "500000000", 300_000_000)
    done = programs.run(
        begin
        + f"""
        fastalloc.start()
        write("memory.max", {after!r})
        write("memory.current", 480000000)  # 96 % of what it was
        until(changes)
        time.sleep(1.2)  # the watcher looks once more
        answer(trips=fastalloc.status().guard_trips, limits=limit_bytes(), changes=len(changes()))
        """
    )
    expected = [] if after == "max" else [int(after)]
    assert done.answer == {"trips": 0, "limits": expected, "changes": 1}


@needs_memory_limit
def test_a_resource_limit_that_the_program_sets_itself_is_held(programs: Programs) -> None:
    done = programs.run(
        """
        import resource
        import fastalloc
        from tests.core.inside import answer
        fastalloc.start()
        mapped = int(open("/proc/self/statm").read().split()[0]) * 4096
        resource.setrlimit(resource.RLIMIT_AS, (mapped + (300 << 20), -1))
        kept = []
        try:
            while True: kept.append(b"x" * 65536)  # at full speed: no second passes
        except MemoryError:
            del kept
        status = fastalloc.status()
        answer(trips=status.guard_trips,
               held=[l["source"] for l in status.limits if l["kind"] == "address_space"])
        """
    )
    assert done.answer == {"trips": 1, "held": ["RLIMIT_AS"]}


def test_v1_tells_of_a_limit_above_the_namespace(tmp_path: Path) -> None:
    mount = tmp_path / "memory"
    mount.mkdir()
    (mount / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    (mount / "memory.stat").write_text("cache 1\nhierarchical_memory_limit 700000\n")
    line = f"31 23 0:27 / {mount} rw - cgroup cgroup rw,memory\n"
    proc = describe(tmp_path / "proc", "5:memory:/\n", [line])
    first = limits.find(proc=proc)[0]
    assert (first.limit_bytes, first.source) == (700000, f"{mount}/memory.stat")
    assert first.usage_path == f"{mount}/memory.usage_in_bytes"
    (mount / "memory.limit_in_bytes").write_text("700000\n")  # its own, told twice
    assert of_cgroups(limits.find(proc=proc)) == [(700000, f"{mount}/memory.limit_in_bytes")]


@pytest.mark.parametrize(("share", "guard"), [(2, "tripped"), (4096, "armed")])
def test_the_machines_memory_is_compared_with_what_all_use(
    programs: Programs, tmp_path: Path, share: int, guard: str
) -> None:
    """By a process that holds its share of it: one that has next to nothing does not fill it."""
    meminfo = tmp_path / "meminfo"
    done = programs.run(
        f"""
        import time
        import fastalloc
        from fastalloc import counters, limits
        from tests.core.inside import answer
        total = {share} * counters._rss_bytes()
        meminfo = {str(meminfo)!r}
        with open(meminfo, "w") as file:
            file.write(f"MemTotal: {{total // 1024}} kB\\nMemFree: 1 kB\\nMemAvailable: {{total // 20480}} kB\\n")
        limits.find = lambda configured=0: [limits.Limit(total, "MemTotal", "machine", meminfo)]
        fastalloc.start()
        time.sleep(1.2)  # the watcher looks once a second
        answer(guard=fastalloc.status().guard, source=fastalloc.status().limit_source)
        """
    )
    assert done.answer == {"guard": guard, "source": "MemTotal"}


def test_readers_tell_limits_as_they_were_last(programs: Programs, v2: tuple[str, Path]) -> None:
    group, begin = cgroup_of(v2, "900000000", 100_000_000)
    done = programs.run(
        begin
        + """
        fastalloc.start()
        write("memory.max", 700000000)
        until(changes)
        """
    )
    snapshot = done.snapshot()
    (held,) = [limit for limit in safety.limits(snapshot) if limit["holds"]]
    assert held == {"limit_bytes": 700_000_000, "source": f"{group}/memory.max", "holds": True}
    assert all(limit["limit_bytes"] for limit in safety.limits(snapshot))
    texts = [event.text for event in events.happened(snapshot)]
    assert (
        f"the memory limit of {group}/memory.max was 900000000 bytes, and is 700000000 bytes"
    ) in texts
