"""`fastalloc run` is `python`, recorded: the same program must not see a difference."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastalloc._core")

from fastalloc import read

SHOW = """
import json, sys
def annotated(x: int): ...
print(json.dumps({
    "name": __name__,
    "file": globals().get("__file__"),
    "package": globals().get("__package__"),
    "names": sorted(globals()),
    "loader": getattr(__loader__, "__name__", type(__loader__).__name__),
    "annotations": str(annotated.__annotations__),
    "argv": sys.argv,
    "path": sys.path[0],
    "main": sys.modules["__main__"].__dict__ is globals(),
    "builtins": __builtins__ is __import__("builtins"),
}))
"""


def start(
    command: list[str], cwd: Path, stdin: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end in `cwd`, where recordings go too."""
    return subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, "FASTALLOC_DIR": str(cwd / "recordings"), **environment},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def fastalloc_run(*arguments: str, cwd: Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """`fastalloc run ARGUMENTS...`."""
    command = [str(Path(sys.executable).with_name("fastalloc")), "run", *arguments]
    return start(command, cwd, stdin)


def recordings(cwd: Path) -> list[dict[str, Any]]:
    """What `fastalloc status` says of the recordings in `cwd`."""
    done = start([sys.executable, "-m", "fastalloc", "status", "--json"], cwd)
    rows: list[dict[str, Any]] = json.loads(done.stdout)["recordings"]
    return rows


@pytest.fixture
def cwd(tmp_path: Path) -> Path:
    """A folder with a script, a module and a folder that is a program."""
    folder = tmp_path.resolve()
    (folder / "show.py").write_text(SHOW)
    (folder / "program").mkdir()
    (folder / "program" / "__main__.py").write_text(SHOW)
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere" / "show.py").write_text(SHOW)
    return folder


@pytest.mark.parametrize(
    "arguments",
    [
        ("show.py", "--mode", "x", "-m", "y", "--help"),
        ("./elsewhere/../show.py",),
        ("-", "--help"),
        ("elsewhere/show.py", "--", "a"),
        ("-m", "show", "--version", "-c"),
        ("-m", "program", "b"),
        ("-c", SHOW, "-h", "c"),
        ("program", "d"),
    ],
    ids=lambda arguments: " ".join(arguments).replace(SHOW, "CODE"),
)
def test_the_program_sees_what_python_shows_it(cwd: Path, arguments: tuple[str, ...]) -> None:
    expected = start([sys.executable, *arguments], cwd, SHOW)
    assert expected.returncode == 0, expected.stderr
    found = fastalloc_run(*arguments, cwd=cwd, stdin=SHOW)
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout) == json.loads(expected.stdout)


def test_the_program_is_recorded(cwd: Path) -> None:
    (cwd / "hold.py").write_text("kept = [bytes(1000) for _ in range(20_000)]\n")
    done = fastalloc_run("--mode", "aggressive", "hold.py", cwd=cwd)
    assert done.returncode == 0, done.stderr
    [row] = recordings(cwd)
    assert row["state"] == "exited"
    assert row["mode"] == "aggressive"
    assert row["path"] in done.stderr
    assert row["high_water_bytes"] > 10_000_000


def test_options_reach_the_recorder(cwd: Path) -> None:
    options = ("--interval-bytes", "100000", "--max-frames", "5", "--dir", str(cwd / "other"))
    done = fastalloc_run(*options, "--quiet", "show.py", cwd=cwd)
    assert done.returncode == 0
    assert done.stderr == ""
    [path] = (cwd / "other").glob("*.recording")
    info = start([sys.executable, "-m", "fastalloc", "info", str(path), "--json"], cwd)
    answer = json.loads(info.stdout)
    assert answer["interval_bytes"] == 100000
    assert answer["options"]["options"]["max_frames"] == 5
    assert answer["options"]["program"].endswith("show.py")


@pytest.mark.parametrize(
    ("code", "status"),
    [("import sys; sys.exit(3)", 3), ("raise SystemExit('no')", 1), ("1 / 0", 1)],
)
def test_the_exit_status_is_the_programs(cwd: Path, code: str, status: int) -> None:
    done = fastalloc_run("-c", code, cwd=cwd)
    assert done.returncode == status
    if code == "1 / 0":
        assert "ZeroDivisionError" in done.stderr


ENDINGS = {
    "error": "def f(x: int):\n    raise LookupError(f.__annotations__)\nf(1)",
    "in an import": "import shop",
    "syntax": "x = (",
    "interrupted": "raise KeyboardInterrupt",
    "hook": "import sys, traceback\n"
    "sys.excepthook = lambda kind, error, entry: print(kind, traceback.extract_tb(entry))\n1 / 0",
    "left by sys.exit": "import sys\ntry: 1 / 0\nfinally: sys.exit('gone')",
    "context": "try: 1 / 0\nexcept ZeroDivisionError as error: raise ValueError from error",
}


@pytest.mark.parametrize("how", ["script", "-m", "-c", "-", "folder"])
def test_a_program_ends_as_under_python(cwd: Path, how: str) -> None:
    (cwd / "shop.py").write_text("def load(): raise OSError('empty')\nload()\n")
    endings = ENDINGS if how == "script" else dict.fromkeys(("error", "syntax", "hook"))
    for ending in endings:
        source = ENDINGS[ending]
        for path in (cwd / "ends.py", cwd / "program" / "__main__.py"):
            path.write_text(source)
        arguments = {
            "script": ("ends.py",),
            "-m": ("-m", "ends"),
            "-c": ("-c", source),
            "-": ("-",),
            "folder": ("program",),
        }[how]
        expected = start([sys.executable, *arguments], cwd, source)
        found = fastalloc_run("--quiet", *arguments, cwd=cwd, stdin=source)
        assert expected.returncode != 0 or ending == "hook"
        assert (found.returncode, found.stdout, found.stderr) == (
            expected.returncode,
            expected.stdout,
            expected.stderr,
        ), ending


@pytest.mark.parametrize("arguments", [("-m", "absent"), ("-m", "shop.absent"), ("empty",)])
def test_a_program_that_is_not_there_is_missed_as_by_python(
    cwd: Path, arguments: tuple[str, ...]
) -> None:
    (cwd / "shop").mkdir()
    (cwd / "empty").mkdir()
    (cwd / "shop" / "__init__.py").write_text("")
    expected = start([sys.executable, *arguments], cwd)
    found = fastalloc_run("--quiet", *arguments, cwd=cwd)
    assert (found.returncode, found.stderr) == (expected.returncode, expected.stderr)
    assert found.returncode == 1 and "fastalloc" not in found.stderr.replace(sys.executable, "")


HOLD = """
import fastalloc
def hold(): return bytes(8_000_000)
kept = [hold()]
exec("kept.append(hold())")
fastalloc.stop()
"""


@pytest.mark.parametrize("how", ["script", "-m", "-c", "-", "folder"])
def test_stacks_begin_at_the_programs_first_line(cwd: Path, how: str) -> None:
    for path in (cwd / "hold.py", cwd / "program" / "__main__.py"):
        path.write_text(HOLD)
    arguments = {
        "script": ("hold.py",),
        "-m": ("-m", "hold"),
        "-c": ("-c", HOLD),
        "-": ("-",),
        "folder": ("program",),
    }[how]
    assert fastalloc_run(*arguments, cwd=cwd, stdin=HOLD).returncode == 0
    [path] = (cwd / "recordings").glob("*.recording")
    snapshot = read(path)
    large = snapshot.live[snapshot.live["size"] >= 8_000_000]
    stacks = {tuple(frame.function for frame in snapshot.stack(int(s["site"]))) for s in large}
    assert stacks == {("hold", "<module>"), ("hold", "<module>", "<module>")}


def test_a_dump_shows_no_frames_of_the_command(cwd: Path) -> None:
    code = "import fastalloc\ndef ask(): print(fastalloc.write_dump())\nask()"
    done = fastalloc_run("-c", code, cwd=cwd)
    state = json.loads((Path(done.stdout.strip()) / "state.json").read_text())
    [main] = [thread for thread in state["threads"]["items"] if thread["name"] == "MainThread"]
    assert [frame["function"] for frame in main["stack"]] == ["ask", "<module>"]


def test_bad_options_end_it_before_the_program_begins(cwd: Path) -> None:
    for options in (("--mode", "loud"), ("--interval-bytes", "many"), ("--scale", "1000")):
        done = fastalloc_run(*options, "show.py", cwd=cwd)
        assert done.returncode == 2
        assert done.stdout == ""
        assert len(done.stderr.splitlines()) == 1


def test_where_it_cannot_record_the_program_runs_all_the_same(cwd: Path) -> None:
    (cwd / "in-the-way").write_text("")
    done = fastalloc_run("--dir", str(cwd / "in-the-way" / "x"), "show.py", cwd=cwd)
    assert done.returncode == 0
    assert json.loads(done.stdout)["name"] == "__main__"
    assert "fastalloc: recording in memory only: " in done.stderr


def test_one_that_is_started_by_the_environment_is_recorded_once(cwd: Path) -> None:
    command = [sys.executable, "-m", "fastalloc", "run", "--mode", "aggressive", "show.py"]
    done = start(command, cwd, FASTALLOC_MODE="light")
    assert done.returncode == 0, done.stderr
    assert [row["mode"] for row in recordings(cwd)] == ["aggressive"]


def test_a_command_that_reads_is_not_recorded_itself(cwd: Path) -> None:
    start([sys.executable, "-m", "fastalloc", "status"], cwd, FASTALLOC_MODE="light")
    assert recordings(cwd) == []


def test_a_forked_child_has_a_recording_of_its_own(cwd: Path) -> None:
    code = "import os\nif os.fork() == 0:\n    x = bytearray(20_000_000)\n    raise SystemExit\nos.wait()"
    done = fastalloc_run("-c", code, cwd=cwd)
    assert done.returncode == 0, done.stderr
    assert len(done.stderr.splitlines()) == 1, "only the parent says where its recording is"
    rows = recordings(cwd)
    assert len(rows) == 2
    assert {row["pid"] for row in rows} & {row["parent_pid"] for row in rows}


def test_a_forked_child_that_leaves_at_once_leaves_no_recording(cwd: Path) -> None:
    code = "import os\nif os.fork() == 0: os._exit(0)\nos.wait()"
    assert fastalloc_run("-c", code, cwd=cwd).returncode == 0
    assert len(recordings(cwd)) == 1


def test_a_killed_program_leaves_its_recording(cwd: Path) -> None:
    code = (
        "import os, signal\n"
        "kept = [bytes(100_000) for _ in range(300)]\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = fastalloc_run("-c", code, cwd=cwd)
    assert done.returncode == -signal.SIGKILL
    [row] = recordings(cwd)
    assert row["state"] == "killed"
    assert row["live_bytes"] > 15_000_000


def test_the_main_module_can_be_found_by_worker_processes(cwd: Path) -> None:
    (cwd / "workers.py").write_text(
        "import multiprocessing\n"
        "def double(x): return 2 * x\n"
        "if __name__ == '__main__':\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        print(pool.map(double, [1, 2]))\n"
    )
    done = fastalloc_run("workers.py", cwd=cwd)
    assert done.stdout == "[2, 4]\n", done.stderr


def test_a_threads_work_after_the_programs_last_line_is_done(cwd: Path) -> None:
    code = (
        "import threading, time, sys\n"
        "def late():\n"
        "    time.sleep(0.2)\n"
        "    print(sys.modules['__main__'].answer)\n"
        "threading.Thread(target=late).start()\n"
        "answer = 42"
    )
    assert fastalloc_run("-c", code, cwd=cwd).stdout == "42\n"
