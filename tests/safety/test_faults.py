"""Whatever fails under the recorder, the program's answers and its exit code are those without it.

Each fault strikes one program twice, with and without fastalloc: before the start, or in the middle of the work.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import fastalloc
from tests.core import disks
from tests.core.programs import Finished, Programs
from tests.core.test_clock import JUMPING

WORK = """
import contextlib, os, resource, shutil, signal, sys, threading, time, warnings
warnings.simplefilter("ignore")
WITH = {with_it}
folder = os.environ["FASTALLOC_DIR"]
os.makedirs(folder, 0o700, exist_ok=True)
@contextlib.contextmanager
def limited(what, to):
    before = resource.getrlimit(what)
    resource.setrlimit(what, (to, before[1]))
    try: yield
    finally: resource.setrlimit(what, before)
def mapped(): return int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
def begin():
    if not WITH: return
    import fastalloc
    fastalloc.start(**OPTIONS)
def span(name):
    if not WITH: return contextlib.nullcontext()
    import fastalloc
    return fastalloc.span(name)
def forked():
    # A handler that forks does not do so inside another fork: CPython's own at-fork functions do not bear it.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    try:
        pid = os.fork()
        if pid == 0:
            with span("child"): kept = [bytes(500) for _ in range(2000)]
            os._exit(len(kept) % 251)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
def step(n):
    with span("GET /" + str(n % 7)):
        return sum(map(len, [bytes(n % 977) for _ in range(300)])) + len(str(dict.fromkeys(range(n))))
OPTIONS = {{"interval_bytes": 4096}}
exec({before!r})
total = 0
for n in range(400):
    total += step(n)
    if n == 200: exec({amid!r})
print(total, forked())
exec({after!r})
sys.exit(total % 100 + 1)
"""


class Fault(NamedTuple):
    """Python text, run before the work (which has to begin), in its middle, after it."""

    before: str = "begin()"
    amid: str = ""
    after: str = ""


SIGNALS = """
begin()
import random
seen = dict.fromkeys((signal.SIGALRM, signal.SIGUSR1, signal.SIGCHLD), 0)
def handler(number, frame):
    seen[number] += 1
    [bytes(n) for n in range(50)]
for number in seen: signal.signal(number, handler)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
def disturb():
    for _ in range(300):
        time.sleep(random.random() / 500)
        os.kill(os.getpid(), signal.SIGUSR1)
disturber = threading.Thread(target=disturb)
disturber.start()
"""
CALM = """
disturber.join()
signal.setitimer(signal.ITIMER_REAL, 0)
print(all(seen.values()))
"""
FORKING = """
begin()
forks = []
def handler(number, frame):
    if len(forks) < 20: forks.append(forked())
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
"""
FORKED = """
while len(forks) < 20: step(3)
signal.setitimer(signal.ITIMER_REAL, 0)
print(sorted(set(forks)))
"""
# The guard trips in the middle of the work, all callbacks and a section of the dump raise.
RAISING = """
OPTIONS.update(memory_limit_bytes=mapped() + (500 << 20), guard_percent=1, summary_percent=1)
begin()
called = []
if WITH:
    from fastalloc import dumps, guard
    def fails(*unused):
        called.append(1)
        raise {error}
    guard.on_trip(fails)
    guard.on_warning(fails)
    dumps.add_section("fails", fails)
"""
CALLED = """
end = time.monotonic() + 20
while WITH and not called and time.monotonic() < end: time.sleep(0.01)
print(not WITH or bool(called))
"""
GONE = "shutil.rmtree(folder)"

FAULTS = {
    "nothing": Fault(),
    "the folder is removed before": Fault(GONE + "; open(folder, 'w').close(); begin()"),
    "the folder is removed amid the work": Fault(amid=GONE),
    "a file takes the folder's place": Fault(amid=GONE + "; open(folder, 'w').close()"),
    "no descriptor is left at the start": Fault(
        "import fastalloc\nwith limited(resource.RLIMIT_NOFILE, 3): begin()"
    ),
    "no descriptor is left amid the work": Fault(
        amid="with limited(resource.RLIMIT_NOFILE, 3): print(forked(), step(5))"
    ),
    "mappings are refused at the start": Fault(
        "with limited(resource.RLIMIT_AS, mapped() + (3 << 20)):\n"
        "    try: begin()\n"
        "    except MemoryError: pass  # of the import, which is the program's"
    ),
    "mappings are refused amid the work": Fault(
        amid="with limited(resource.RLIMIT_AS, mapped()): print(step(5))\nprint(forked())"
    ),
    "files may not grow": Fault("resource.setrlimit(resource.RLIMIT_FSIZE, (1000, -1)); begin()"),
    "files may not grow from now on": Fault(
        amid="resource.setrlimit(resource.RLIMIT_FSIZE, (1000, -1)); print(forked())"
    ),
    "signals come at any time": Fault(SIGNALS, "print(forked())", CALM),
    "a handler forks": Fault(FORKING, "", FORKED),
    **{
        f"callbacks raise {error}": Fault(RAISING.format(error=error), "", CALLED)
        for error in ("ValueError", "SystemExit(9)", "KeyboardInterrupt", "MemoryError")
    },
}


def run(programs: Programs, fault: Fault, with_it: bool, env: dict[str, str]) -> Finished:
    folder = env.get("FASTALLOC_DIR") or str(programs.base / f"of-{with_it}")
    source = WORK.format(with_it=with_it, **fault._asdict())
    return programs.run(source, env={**env, "FASTALLOC_DIR": folder}, returncode=None)


def compare(programs: Programs, fault: Fault, env: dict[str, str] | None = None) -> Finished:
    """The run with fastalloc, which told what the run without told."""
    without, with_it = (run(programs, fault, each, env or {}) for each in (False, True))
    assert without.returncode > 0, without.stderr  # its own exit code, no signal
    assert without.stdout.count("\n") >= 1 and "Traceback" not in without.stderr, without.stderr
    told = (with_it.returncode, with_it.stdout)
    assert told == (without.returncode, without.stdout), with_it.stderr
    assert "Traceback" not in with_it.stderr
    return with_it


@pytest.mark.parametrize("name", FAULTS)
def test_answers_and_exit_code_are_those_without_fastalloc(programs: Programs, name: str) -> None:
    compare(programs, FAULTS[name])


def test_the_recorder_is_at_work_in_what_is_compared(programs: Programs) -> None:
    run(programs, FAULTS["nothing"], True, {})
    paths = list((programs.base / "of-True").glob("*.recording"))
    snapshots = [fastalloc.read(path) for path in paths]
    assert max(len(snapshot.records) for snapshot in snapshots) >= 400
    assert run(programs, FAULTS["nothing"], False, {}).returncode > 0
    assert not list((programs.base / "of-False").glob("*.recording"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 6 MiB: one recording fits."""
    with disks.small_disk(tmp_path / "disk", 6) as folder:
        yield folder


FILL = """
try: open(os.path.join(folder, "fill"), "wb").write(bytes(8 << 20))
except OSError: print("full")
os.truncate(os.path.join(folder, "fill"), 0) if {empty} else None
"""


@pytest.mark.parametrize(
    "fault",
    [
        Fault(before=FILL.format(empty=False) + "begin()"),
        Fault(amid=FILL.format(empty=False)),
        Fault(amid=FILL.format(empty=True)),
    ],
    ids=["before", "amid the work", "for a moment"],
)
def test_a_full_disk_changes_nothing(programs: Programs, small_disk: Path, fault: Fault) -> None:
    compare(programs, fault, {"FASTALLOC_DIR": str(small_disk)})


def test_jumps_of_the_clock_change_nothing(programs: Programs, tmp_path: Path) -> None:
    source, library = tmp_path / "jumping.c", tmp_path / "jumping.so"
    source.write_text(JUMPING)
    compiler = shutil.which("cc") or "gcc"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    compare(programs, FAULTS["nothing"], {"LD_PRELOAD": str(library)})
