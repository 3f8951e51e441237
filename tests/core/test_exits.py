"""What a process says of its own end, and what it cannot say."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from tests.core.programs import Programs

START = "import fastalloc, os, sys\nfastalloc.start()\n"


def test_a_program_that_finishes_ends_cleanly(programs: Programs) -> None:
    snapshot = programs.run(START).snapshot()
    assert (snapshot.state, snapshot.exit_kind, snapshot.exit_name) == ("exited", "clean", "")


@pytest.mark.parametrize(
    ("end", "status", "kind", "name"),
    [
        ("raise LookupError('a secret')", 1, "exception", "LookupError"),
        ("sys.exit(3)", 3, "clean", ""),
        ("raise KeyboardInterrupt", -signal.SIGINT, "signal", "SIGINT"),
        ("try: 1/0\nexcept ZeroDivisionError: pass", 0, "clean", ""),
    ],
)
def test_the_exception_that_ends_the_program_is_named(
    programs: Programs, end: str, status: int, kind: str, name: str
) -> None:
    done = programs.run(START + end, returncode=status)
    snapshot = done.snapshot()
    assert (snapshot.state, snapshot.exit_kind, snapshot.exit_name) == ("exited", kind, name)
    assert b"a secret" not in done.recordings[0].read_bytes()


def test_an_exception_is_named_below_runpy_and_fastalloc_run(programs: Programs) -> None:
    for module in ("-m", "-m fastalloc run -m"):
        (programs.base / "ends.py").write_text(START + "raise LookupError")
        done = programs.run(
            f"""
            import os, sys
            sys.argv = [sys.executable, *"{module} ends".split()]
            os.execv(sys.executable, sys.argv)
            """,
            returncode=1,
        )
        assert done.snapshot().exit_name == "LookupError"


def test_an_exception_shown_at_a_prompt_or_by_a_test_runner_ends_nothing(
    programs: Programs,
) -> None:
    source = START + (
        "import code\n"
        "def runner():\n"
        "    code.InteractiveInterpreter().runsource('1/0')\n"
        "    assert sys.last_type is ZeroDivisionError\n"
        "runner()\n"
    )
    assert programs.run(source).snapshot().exit_kind == "clean"


def test_the_excepthook_of_the_program_stays_its_own(programs: Programs) -> None:
    source = START + "assert sys.excepthook is sys.__excepthook__"
    programs.run(source)


@pytest.mark.parametrize(
    ("end", "kind", "name"),
    [
        ("pass", "clean", ""),
        ("sys.exit(0)", "clean", ""),
        ("sys.exit(2)", "clean", "exit status 2"),
        ("raise LookupError", "exception", "LookupError"),
    ],
)
def test_a_child_of_multiprocessing_says_how_it_ends(
    programs: Programs, end: str, kind: str, name: str
) -> None:
    source = f"""
        import fastalloc, multiprocessing, os, sys, time
        fastalloc.start()
        def work():
            time.sleep(0.1)  # so that it gets a recording of its own
            kept = [bytes(1000) for _ in range(20000)]
            {end}
        process = multiprocessing.get_context("fork").Process(target=work)
        process.start()
        process.join()
        print('{{"child":', process.pid, '}}')
        """
    done = programs.run(source)
    child = done.snapshot(done.answer["child"])
    told = (child.state, child.exit_kind, child.exit_name)
    forgotten = ("exited", "clean", "exit status 1")  # later releases of 3.12 on
    assert told == ("exited", kind, name) or (
        name == "LookupError" and sys.version_info >= (3, 12) and told == forgotten
    )
    assert done.recordings[0] != child.path
    assert done.snapshot(child.parent_pid).exit_kind == "clean"


def test_leaving_by_os_exit_or_a_signal_says_nothing(programs: Programs) -> None:
    for end, status in (("os._exit(0)", 0), ("os.kill(os.getpid(), 15)", -signal.SIGTERM)):
        snapshot = programs.run(START + end, returncode=status).snapshot()
        assert (snapshot.state, snapshot.exit_kind) == ("killed", "unknown")


def test_an_integration_can_say_how_the_process_ends(programs: Programs) -> None:
    source = START + (
        "from fastalloc import profiler\n"
        "profiler.ending('signal', 'SIGTERM')\n"
        "profiler.ending('nonsense')\n"
        "os._exit(0)"
    )
    snapshot = programs.run(source).snapshot()
    assert (snapshot.state, snapshot.exit_kind, snapshot.exit_name) == (
        "exited",
        "signal",
        "SIGTERM",
    )


def test_what_a_parent_said_is_not_said_of_its_child(programs: Programs) -> None:
    source = START + (
        "from fastalloc import profiler\n"
        "profiler.ending('clean', 'early')\n"
        "pid = os.fork()\n"
        "fastalloc.status()\n"  # a recording of its own
        "if pid == 0: os._exit(0)\n"
        "os.waitpid(pid, 0)\n"
        "print('{\"child\":', pid, '}')\n"
    )
    done = programs.run(source)
    assert done.snapshot(done.answer["child"]).state == "killed"


def test_oom_kills_at_start_is_read_from_the_own_cgroup(programs: Programs) -> None:
    from fastalloc.limits import own_cgroup

    group = own_cgroup()
    if not group.folder or not Path(group.oom_events_path).exists():
        pytest.skip("no memory cgroup")
    snapshot = programs.run(START).snapshot()
    assert snapshot.options["cgroup"] == group.folder
    assert snapshot.options["cgroup_id"] == Path(group.folder).stat().st_ino
    assert len(snapshot.options["boot_id"]) == 36
