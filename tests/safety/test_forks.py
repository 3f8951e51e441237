"""A fork comes at the worst moment: inside an allocation, on top of the recorder, or beside fork
handlers that allocate. The program's answers and its children's are those without fastalloc."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

import fastalloc
from tests.core.programs import Programs
from tests.core.test_fork import assert_consistent
from tests.safety.test_faults import Fault, compare, run

PRELUDE = """
import ctypes
forks = ctypes.PyDLL(os.environ["TEST_FORKS"])
forks.fork_in_allocator.argtypes = [ctypes.c_int, ctypes.c_long]
forks.fork_on_top_of.argtypes = [ctypes.c_size_t, ctypes.c_size_t]
RAW, MEM, OBJ = range(3)
def codes():
    codes = (ctypes.c_int * 64)()
    return codes[:forks.exit_codes(codes)]
# A child goes on where it was forked, to the end of the step; and takes that once more.
unforked = step
def step(n):
    value = unforked(n)
    if forks.is_child(): os._exit(7 if value == unforked(n) else 8)
    return value
OPTIONS["interval_bytes"] = {interval}
"""

# Some fork while fastalloc starts.
BELOW = """
forks.fork_in_allocator({domain}, {every})
forks.forks_at_most(4)
begin()
"""
CODES = "print(codes())"


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The compiled forks.c."""
    built = tmp_path_factory.mktemp("forks") / "forks.so"
    compiler = shutil.which("cc") or "gcc"
    command = [compiler, "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    source = Path(__file__).with_name("forks.c")
    subprocess.run([*command, str(source), "-o", str(built), "-lpthread"], check=True)
    return str(built)


def fault(before: str, interval: int = 1) -> Fault:
    return Fault(PRELUDE.format(interval=interval) + before, after=CODES)


@pytest.mark.parametrize(
    ("domain", "every", "interval"),
    [("RAW", 331, 1), ("MEM", 499, 4096), ("OBJ", 1999, 1), ("OBJ", 1999, 4096)],
)
def test_a_fork_inside_the_allocator_that_the_hooks_forward_to(
    programs: Programs, library: str, domain: str, every: int, interval: int
) -> None:
    told = fault(BELOW.format(domain=domain, every=every) + "forks.forks_at_most(12)", interval)
    done = compare(programs, told, {"TEST_FORKS": library})
    assert str([7] * 12) in done.stdout


HANDLERS = """
forks.allocate_in_handlers(0)
{begin}
forks.allocate_in_handlers(1)
{then}
"""
OWN_FORKS = """
def step(n):
    value = unforked(n)
    if n % 40 == 0: print(forked())
    return value
"""


@pytest.mark.parametrize("by", ["the program", "its allocator"])
def test_fork_handlers_that_allocate(programs: Programs, library: str, by: str) -> None:
    begin, then = "begin()", OWN_FORKS
    if by == "its allocator":
        begin, then = BELOW.format(domain="OBJ", every=1999), "forks.forks_at_most(12)"
    told = fault(HANDLERS.format(begin=begin, then=then))
    done = compare(programs, told, {"TEST_FORKS": library})
    assert by == "the program" or str([7] * 12) in done.stdout


BESIDE_A_WAITER = """
begin()
forks.forks_at_most(12)
def step(n):
    if n < 12 and not forks.is_child():
        if WITH:
            from fastalloc import background
            background.soon(list)  # for which our thread needs the GIL, at once
        forks.fork_after(30)
    value = unforked(n)
    if forks.is_child(): os._exit(7 if value == unforked(n) else 8)
    return value
"""


def test_a_library_that_forks_while_our_thread_waits_for_the_gil(
    programs: Programs, library: str
) -> None:
    done = compare(programs, fault(BESIDE_A_WAITER), {"TEST_FORKS": library})
    assert str([7] * 12) in done.stdout


FROM_PYTHON = """
begin()
import gc
children = []
def fork_here(*unused):
    if len(children) < 12 and threading.current_thread() is threading.main_thread():
        mine = len(children)  # the next signal may come before forked() is back
        children.append(None)
        children[mine] = forked()
class Fleeting:
    def __init__(self): self.itself = self
    def __del__(self): fork_here()
def step(n):
    value = unforked(n)
    [[] for _ in range(200)]  # more than come from a free list: garbage is collected
    {each}
    return value
gc.set_threshold(50)
{once}
"""
TOLD = """
signal.setitimer(signal.ITIMER_REAL, 0)
print(len(children) >= 12, set(children))  # 13: a signal between the look and the next line
"""
PLACES = {
    "a callback of the collector": ("", "gc.callbacks.append(fork_here)"),
    "a finalizer": ("n % 10 or Fleeting()", ""),
    "a signal handler": (
        "while n == 399 and len(children) < 12: unforked(3)",
        "signal.signal(signal.SIGALRM, fork_here); signal.setitimer(signal.ITIMER_REAL, .003, .003)",
    ),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_fork_in_the_middle_of_what_python_does(
    programs: Programs, library: str, place: str
) -> None:
    each, once = PLACES[place]
    told = fault(FROM_PYTHON.format(each=each, once=once))._replace(after=TOLD)
    done = compare(programs, told, {"TEST_FORKS": library})
    assert "True {243}" in done.stdout


ATTRIBUTED = """
import ctypes, os
import fastalloc
from tests.core.inside import *
forks = ctypes.PyDLL(os.environ["TEST_FORKS"])
forks.fork_in_allocator(OBJ, 300)
fastalloc.start(interval_bytes=1)
shared = Blocks(30).allocate(5000)
forks.forks_at_most(12)
with fastalloc.span("request"):
    while not forks.is_child() and forks.exit_codes((ctypes.c_int * 64)()) < 12:
        before = [object() for _ in range(50)]
    if forks.is_child():
        own = Blocks(20).allocate(7000)
        fastalloc.status()  # so that it has a recording of its own at once
if forks.is_child():
    fastalloc.stop()
    os._exit(0)
fastalloc.stop()
"""


@pytest.mark.parametrize("python_malloc", ["pymalloc", "malloc"])
def test_a_child_forked_inside_an_allocation_is_still_in_its_span(
    programs: Programs, library: str, python_malloc: str
) -> None:
    env = {"TEST_FORKS": library, "PYTHONMALLOC": python_malloc}
    done = programs.run(ATTRIBUTED, env=env)
    children = [each for each in map(fastalloc.read, done.recordings) if each.header["forked_ns"]]
    assert len(children) == 12
    for child in children:
        assert_consistent(child)
        (span,) = child.records[child.records["kind"] == "span"]
        assert span["name"] == "request" and span["bytes"] >= 20 * 7000
        sizes = child.live["size"]
        assert set(child.live["span_id"][sizes == 7000]) == {span["span_id"]}
        assert [(sizes == size).sum() for size in (5000, 7000)] == [30, 20]


ON_TOP = (
    PRELUDE.format(interval=1)
    + """
begin()
core = [line.split("-") for line in open("/proc/self/maps") if "_core" in line and "r-xp" in line]
forks.forks_at_most(12)
forks.fork_on_top_of(int(core[0][0], 16), int(core[-1][1].split()[0], 16))
signal.setitimer(signal.ITIMER_PROF, 0.003, 0.003)
"""
)
LATER = """
while len(codes()) < 12: step(3)
signal.setitimer(signal.ITIMER_PROF, 0)
print(codes())
"""


def test_a_handler_in_c_that_forks_on_top_of_the_recorder(programs: Programs, library: str) -> None:
    done = run(programs, Fault(ON_TOP, after=LATER), True, {"TEST_FORKS": library})
    assert str([7] * 12) in done.stdout, done.stderr
    paths = (programs.base / "of-True").glob("*.recording")
    for recording in map(fastalloc.read, paths):
        assert_consistent(recording)
        assert set(recording.records["name"]) <= {"child", *(f"GET /{n}" for n in range(7))}
