"""All that the hooks of native memory must stand, at once and for as long as asked.

    python -m tests.native_memory.storm --seconds 600

In one process: threads with and without the GIL, and some that Python knows nothing of, allocate and check what
they wrote; libraries are loaded and unloaded; signals arrive whose handler maps memory; and meanwhile
recording starts, stops, is switched off and on, is read, and the process forks. Ends with status 1, and what went wrong,
if a byte was damaged, a thread or a child failed, or a slot was left with anything but what the linker put there.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent

PRELUDE = """
import _ctypes, os, signal, sqlite3, sys, threading, time
sys.setswitchinterval(0.0005)
import fastalloc
from tests.core.inside import *
from tests.native_memory.inside import *
calls, without_gil = open_calls(), open_calls(ctypes.CDLL)

go_on, damaged, failures, turns = True, [], [], {}
def guarded(work):
    def run():
        try:
            while go_on:
                work()
                turns[work.__name__] = turns.get(work.__name__, 0) + 1
        except BaseException as error:
            failures.append(f"{work.__name__}: {error!r}")
    return run
def foreign(): damaged.append(calls.storm_in_foreign_threads(3))
def free_of_gil(): damaged.append(without_gil.storm(threading.get_ident(), 3000))
def with_gil(): damaged.append(calls.storm(threading.get_ident(), 300))
def raw(): damaged.append(library_without_gil.storm(RAW, threading.get_ident(), 2000))
def database():
    connection = sqlite3.connect(":memory:")
    connection.execute("create table t (a, b)")
    connection.executemany("insert into t values (?, ?)", [(i, "x" * i) for i in range(200)])
    assert connection.execute("select count(*) from t").fetchone() == (200,)
    connection.close()
def loading():
    for path in LIBRARIES:
        opened = ctypes.PyDLL(path)
        opened.get.restype = ctypes.c_void_p
        opened.put.argtypes = [ctypes.c_void_p]
        opened.put(opened.get(5000))
        _ctypes.dlclose(opened._handle)
def loading_without_gil():
    # By the C library alone: no dlsym of ours, no GIL.
    for path in LIBRARIES:
        handle = dlopen(path.encode(), 2)
        assert handle
        dlclose(handle)
dlopen, dlclose = ctypes.CDLL(None).dlopen, ctypes.CDLL(None).dlclose
dlopen.restype, dlopen.argtypes, dlclose.argtypes = ctypes.c_void_p, [ctypes.c_char_p, ctypes.c_int], [ctypes.c_void_p]
LIBRARIES = os.environ["TEST_LIBRARIES"].split(":")
works = [foreign, free_of_gil, with_gil, raw, database, loading, loading_without_gil]
threads = []
def start_storm():
    threads.extend(threading.Thread(target=guarded(work), daemon=True) for work in works)
    for thread in threads: thread.start()
def stop_storm():
    global go_on
    go_on = False
    for thread in threads: thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    return sum(damaged)
"""
LOADED = """
#include <stdlib.h>
#include <string.h>
static void *mine[20];
__attribute__((constructor)) static void begin(void) { for (int i = 0; i < 20; i++) mine[i] = malloc(3000 + i); }
__attribute__((destructor)) static void end(void) { for (int i = 0; i < 20; i++) free(mine[i]); }
void *get(size_t n) { return strdup("x") ? malloc(n) : 0; }
void put(void *block) { free(block); }
"""
PROGRAM = """
import collections, random
chance = random.Random(SEED)
done = collections.Counter()
MODES = ("light", "light", "aggressive", "standby")

def in_child(number):
    damaged = calls.storm(number, 1000)
    for block in [calls.call_malloc(1 << 20) for i in range(5)]: calls.call_free(block)
    native = fastalloc.status().native
    if number % 2: fastalloc.stop()
    return damaged == 0 and native

def fork():
    done["forks"] += 1
    pid = os.fork()
    if pid == 0:
        try: os._exit(0 if in_child(done["forks"]) else 3)
        finally: os._exit(4)
    until = time.monotonic() + 60
    while (ended := os.waitpid(pid, os.WNOHANG)) == (0, 0):
        if time.monotonic() > until:
            os.kill(pid, signal.SIGABRT)
            failures.append(f"child {done['forks']} hangs")
            os.waitpid(pid, 0)
            return
        time.sleep(0.001)
    if ended[1]: failures.append(f"child {done['forks']}: status {ended[1]}")

def switch():
    done["switches"] += 1
    fastalloc.disable()
    if fastalloc.status().native: failures.append("native while switched off")
    fastalloc.enable()

def read():
    done["snapshots"] += 1
    fastalloc.snapshot()

def record():
    done["starts"] += 1
    interval = int(10 ** chance.uniform(1.7, 5.7))
    fastalloc.start(chance.choice(MODES), interval_bytes=interval, native=True, native_frames=chance.choice((0, 0, 8)))
    if not fastalloc.status().native: failures.append(f"start {done['starts']}: {fastalloc.status().native_reason}")
    until = time.monotonic() + chance.choice((0, 0.01, 0.1, 1))
    while time.monotonic() < until:
        chance.choice((fork, switch, read, lambda: time.sleep(0.005)))()
    done["samples"] += fastalloc.status().samples
    losses.update(fastalloc.snapshot().losses)
    fastalloc.stop()
    os.remove(fastalloc.status().recording)

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGESIZE") >> 20

losses = collections.Counter()
fastalloc.start(native=True)
fastalloc.snapshot()
fastalloc.stop()
before = slots()
start_storm()
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])  # the other threads handle them
calls.begin_signals(1000)
begun = time.monotonic()
resident_first = 0
while time.monotonic() - begun < SECONDS and not failures:
    record()
    if not resident_first and time.monotonic() - begun > SECONDS / 5: resident_first = resident()
resident_last = resident()
done["signals"] = calls.end_signals()
bad = stop_storm()
bound = {}
for name, function, value in before.values(): bound.setdefault(function, set()).add(value)
wrong = [entry for slot, entry in slots().items() if before.get(slot, entry) != entry and entry[2] not in bound[entry[1]]]
answer(seconds=round(time.monotonic() - begun, 1), damaged=bad, failures=failures, wrong=wrong, done=done, turns=turns,
       idle=[work.__name__ for work in works if not turns.get(work.__name__)],
       losses={name: count for name, count in losses.items() if count}, resident_mib=[resident_first, resident_last])
"""


def build(folder: Path) -> dict[str, str]:
    """Compile what the program loads; the environment that names it."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise SystemExit("need a C compiler")

    def library(source: Path, name: str, *options: str) -> str:
        path = folder / f"lib{name}.so"
        flags = ["-O1", "-g", "-fno-builtin", "-shared", "-fPIC", "-lpthread", "-ldl"]
        subprocess.run([compiler, str(source), "-o", str(path), *options, *flags], check=True)
        return str(path)

    loaded = folder / "loaded.c"
    loaded.write_text(LOADED)
    return {
        "TEST_ALLOCATOR": library(
            HERE.parent / "core" / "allocator.c",
            "allocator",
            f"-I{sysconfig.get_path('include')}",
        ),
        "TEST_CALLS": library(HERE / "calls.c", "calls", "-Wl,-z,lazy"),
        "TEST_SLOTS": library(HERE / "slots.c", "slots"),
        "TEST_LIBRARIES": ":".join(
            [
                library(loaded, "loaded_now", "-Wl,-z,now,-z,relro"),
                library(loaded, "loaded_lazily", "-Wl,-z,lazy,-z,norelro"),
            ]
        ),
    }


def run(seconds: float, seed: int, folder: Path) -> int:
    """Let it storm; prints what was done and what went wrong. 0: nothing did."""
    environment = {
        **{name: text for name, text in os.environ.items() if not name.startswith("FASTALLOC_")},
        **build(folder),
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
        "PYTHONFAULTHANDLER": "1",
        "FASTALLOC_DIR": str(folder / "recordings"),
        "FASTALLOC_OVERHEAD_PERCENT": "0",
    }
    source = PRELUDE + PROGRAM.replace("SECONDS", repr(seconds)).replace("SEED", repr(seed))
    process = subprocess.Popen(
        [sys.executable, "-c", source], env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        out, _ = process.communicate(timeout=seconds + 180)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)  # faulthandler says where it hangs
        out, _ = process.communicate()
    answers = [line for line in out.splitlines() if line.startswith("{")]
    if process.returncode or not answers:
        print(f"seed {seed}: ended with status {process.returncode}\n{out}")
        return 1
    answer = json.loads(answers[-1])
    print(f"seed {seed}: {json.dumps(answer, indent=1)}")
    return int(any(answer[name] for name in ("damaged", "failures", "wrong", "idle")))


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--seed", type=int, default=None, help="default: another each time")
    args = parser.parse_args()
    seed = args.seed if args.seed is not None else int.from_bytes(os.urandom(3), "big")
    with tempfile.TemporaryDirectory() as folder:
        return run(args.seconds, seed, Path(folder))


if __name__ == "__main__":
    sys.exit(main())
