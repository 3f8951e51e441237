#!/usr/bin/env python3
"""What a user does with a wheel, from an empty environment on: install, record, kill, read, export, open in memray;
write a dump, and let the guard of the memory limit trip.

    PYTHON tools/wheels/journey.py WHEEL FOLDER

Run by the Python that the wheel is for. There is no compiler in the environment's sight. FOLDER is made anew.
Prints one line of JSON: each step and how long it took, or the step that failed and why; status 1 then.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path

APP = """
import time
import fastalloc

def hoard():
    return [bytes(10_000) for _ in range(4_000)]  # line 6: 40 MB that stay

with fastalloc.span("GET /orders/"):
    kept = hoard()
    passing = [bytes(10_000) for _ in range(1_000)]
    del passing
print(fastalloc.status().recording, flush=True)
time.sleep(600)
"""
HELD_BYTES = 4_000 * (10_000 + 33)
INTERVAL_BYTES = 65_536

READ = """
import json, sys
import fastalloc
rows = fastalloc.read(sys.argv[1]).top(group="line")
spans = fastalloc.read(sys.argv[1]).top(group="span")
print(json.dumps([[(row.key, row.live_bytes, row.error_bytes) for row in found] for found in (rows, spans)]))
"""
DUMP = """
import json
import fastalloc

fastalloc.start("light")
objects = [[] for _ in range(50_000)]
path = fastalloc.write_dump()
state = json.load(open(path + "/state.json"))
counts = {each["type"]: each["count"] for each in state["objects"]["items"]}
print(json.dumps([path, state["dump"]["skipped"], counts.get("builtins.list", 0)]))
"""
GUARD = """
import json, os, time
import fastalloc
from fastalloc import guard

trips = []
guard.on_trip(lambda trip: trips.append(trip.dump))

def rss():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

def guilty():
    limit = rss() + 100_000_000
    fastalloc.start("light", memory_limit_bytes=limit, guard_percent=90)
    kept = []
    while rss() < limit and fastalloc.status().guard != "tripped":
        kept.append(bytes(100_000))
    return kept

kept = guilty()
until = time.monotonic() + 60
while not trips and time.monotonic() < until:
    time.sleep(0.01)
print(json.dumps([fastalloc.status().guard, trips]))
"""
OPEN = """
import json, sys
from memray import FileReader
reader = FileReader(sys.argv[1])
records = list(reader.get_high_watermark_allocation_records(merge_threads=True))
lines = {}
for record in records:
    function, file, line = record.stack_trace()[0]
    lines[f"{file}:{line}"] = lines.get(f"{file}:{line}", 0) + record.size
print(json.dumps(lines))
"""


class Journey:
    """The steps, in order. Each returns what the report says of it."""

    def __init__(self, wheel: Path, folder: Path) -> None:
        self.wheel, self.folder = wheel, folder
        self.python = folder / "env/bin/python"
        self.command = folder / "env/bin/fastalloc"
        self.app = folder / "app.py"
        self.recordings = folder / "recordings"
        kept = {
            k: v
            for k, v in os.environ.items()
            if k.startswith(("PIP_", "QEMU_", "LANG", "HOME", "SSL"))
        }
        self.env = {**kept, "PATH": str(folder / "env/bin")}  # no compiler, nothing of the system
        self.recording = ""

    def run(self, *command: str | Path, env: dict[str, str] | None = None) -> str:
        done = subprocess.run(command, env=env or self.env, capture_output=True, text=True)
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines()
            raise AssertionError(
                f"{Path(command[0]).name} ended with {done.returncode}: {' '.join(said[-3:])}"
            )
        return done.stdout

    def install(self) -> str:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        # The interpreter itself may lie in a folder that is not on the new PATH.
        self.run(sys.executable, "-m", "venv", self.folder / "env", env=dict(os.environ))
        self.run(
            self.python,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--only-binary",
            ":all:",
            f"{self.wheel}[memray]",
        )
        return self.run(self.command, "--version").strip()

    def record_and_kill(self) -> str:
        self.app.write_text(APP)
        env = self.env | {
            "FASTALLOC_MODE": "light",
            "FASTALLOC_INTERVAL_BYTES": str(INTERVAL_BYTES),
            "FASTALLOC_DIR": str(self.recordings),
        }
        app = subprocess.Popen([self.python, self.app], env=env, stdout=subprocess.PIPE, text=True)
        assert app.stdout
        try:
            self.recording = app.stdout.readline().strip()
            assert self.recording, "nothing is recorded"
            live = json.loads(self.run(self.command, "status", "--json", env=env))
            assert str(app.pid) in json.dumps(live), "status does not show the running process"
        finally:
            app.send_signal(signal.SIGKILL)
            app.wait()
        return f"{Path(self.recording).stat().st_size:,} bytes left"

    def read(self) -> str:
        lines, spans = json.loads(self.run(self.python, "-c", READ, self.recording))
        key, held, error = lines[0]
        assert key == f"{self.app}:6", f"the line that holds most is {key}"
        assert abs(held - HELD_BYTES) < 5 * error, (
            f"{held} bytes read, {HELD_BYTES} held (one error: {error})"
        )
        assert spans[0][0].startswith("GET /orders/"), f"the span that holds most is {spans[0][0]}"
        info = json.loads(self.run(self.command, "info", "--json", self.recording))
        assert info, "info says nothing"
        return f"{held / HELD_BYTES:.1%} of what is held"

    def export(self) -> str:
        self.capture = self.folder / "app.memray"
        self.run(self.command, "export", "--to", "memray", self.recording, "-o", self.capture)
        return f"{self.capture.stat().st_size:,} bytes"

    def open_in_memray(self) -> str:
        lines = json.loads(self.run(self.python, "-c", OPEN, self.capture))
        found = lines.get(f"{self.app}:6", 0)
        assert abs(found - HELD_BYTES) < 0.2 * HELD_BYTES, f"memray reads {found} bytes"
        page = self.folder / "app.html"
        self.run(self.python, "-m", "memray", "flamegraph", "-o", page, self.capture)
        assert "hoard" in page.read_text(), "the flame graph lacks the function"
        return self.run(self.python, "-m", "memray", "--version").strip()

    def dump(self) -> str:
        env = self.env | {"FASTALLOC_DIR": str(self.folder / "dumps")}
        path, skipped, lists = json.loads(self.run(self.python, "-c", DUMP, env=env))
        assert lists >= 50_000, f"the dump knows of {lists} lists; skipped: {skipped}"
        return self.readable(path)

    def trip(self) -> str:
        env = self.env | {"FASTALLOC_DIR": str(self.folder / "trips")}
        state, dumps = json.loads(self.run(self.python, "-c", GUARD, env=env))
        assert state == "tripped", f"the guard is {state}"
        assert dumps, "its callbacks were not called"
        assert dumps[0], "it wrote no dump"
        return self.readable(dumps[0])

    def readable(self, dump: str) -> str:
        assert json.loads(self.run(self.command, "info", "--json", dump)), "info says nothing"
        held = json.loads(self.run(self.command, "top", "--json", dump))
        assert held, "top says nothing"
        return f"{(Path(dump) / 'state.json').stat().st_size:,} bytes of state"


def main() -> int:
    if len(sys.argv) != 3:
        print("usage: journey.py WHEEL FOLDER", file=sys.stderr)
        return 2
    journey = Journey(Path(sys.argv[1]).absolute(), Path(sys.argv[2]).absolute())
    report: dict[str, object] = {
        "python": platform.python_version(),
        "architecture": platform.machine(),
        "abi": sysconfig.get_config_var("EXT_SUFFIX"),
        "wheel": journey.wheel.name,
    }
    steps: dict[str, Callable[[], str]] = {
        "install": journey.install,
        "record, kill": journey.record_and_kill,
        "read": journey.read,
        "export": journey.export,
        "open in memray": journey.open_in_memray,
        "dump": journey.dump,
        "guard": journey.trip,
    }
    failed = ""
    for name, step in steps.items():
        began = time.monotonic()
        try:
            report[name] = f"{step()}, {time.monotonic() - began:.1f} s"
        except Exception as error:
            failed = report[name] = f"FAILED: {error}"
            break
    print(json.dumps(report))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
