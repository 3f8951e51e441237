"""Hooks go into the slots of loaded objects and out again, and nothing else changes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.native_memory.conftest import NativePrograms

PRELUDE = """
import ctypes, os, sys
import fastalloc
from tests.core.inside import *
from tests.native_memory.inside import *
"""
ANOTHER = """
#include <stdlib.h>
void *volatile last;
void *get(size_t n) { return last = malloc(n); }
void put(void *block) { free(block); }
"""


@pytest.fixture(scope="session")
def another(compile_library: Callable[..., Path]) -> Path:
    """A small library to load and unload."""
    return compile_library(ANOTHER, "another", "-Wl,-z,now")


def test_every_slot_and_every_page_is_as_before(programs: NativePrograms) -> None:
    """Slots of lazily bound calls may be bound afterwards: to what the linker would bind them to."""
    done = programs.run(
        PRELUDE
        + """
import sqlite3, ssl, mmap, resource  # all that start() imports, too
calls = open_calls()
calls.call_malloc  # bound in the table, not yet in the library
before, pages = slots(), protections()
during = []
for i in range(3):
    fastalloc.start(native=True)
    during.append((slots(), protections(), fastalloc.status().native_slots))
    fastalloc.stop()
after, pages_after = slots(), protections()
changed = {slot: (*before[slot], after[slot][2]) for slot in before if before[slot] != after[slot]}
hooked = [sum(before[slot] != now[slot] for slot in before) for now, _, _ in during]
lazily = [entry for entry in changed.values()
          if entry[3] not in {value for name, function, value in before.values() if function == entry[1]}]
def file_at(address):
    for line in open("/proc/self/maps"):
        start, end = (int(number, 16) for number in line.split()[0].split("-"))
        if start <= int(address, 16) < end: return os.path.realpath(line.split()[-1])
bound = [entry for entry in changed.values() if file_at(entry[2]) != os.path.realpath(entry[0])]
same_pages = [now == pages for _, now, _ in during]
patched = {before[slot][:2] for slot in before if before[slot] != during[0][0][slot]}
answer(same_set=set(before) == set(after), bound=bound, lazily=lazily, hooked=hooked,
       counted=[count for _, _, count in during], same_pages=same_pages, pages_after=pages_after == pages,
       patched=sorted((os.path.basename(name), function) for name, function in patched))
"""
    )
    answer = done.answer
    assert answer["same_set"] and answer["pages_after"] and all(answer["same_pages"])
    assert answer["lazily"] == []
    # Only slots that led back into their own object, unbound, may have changed, and CPython's, which we leave alone.
    theirs = [e for e in answer["bound"] if e[0] != "main" and "python" not in Path(e[0]).name]
    assert theirs == []
    assert answer["hooked"][0] > 20
    assert len(set(answer["hooked"])) == 1
    assert answer["counted"] == answer["hooked"]
    assert {"libcalls.so", "_sqlite3.cpython"} & {
        ".".join(name.split(".")[:2]) for name, _ in answer["patched"]
    }
    for name, function in answer["patched"]:
        assert not name.startswith(("libc.so", "ld-linux")), name
        # Our own: the sentinel, which is never called.
        assert not name.startswith("_core.") or function == "free"


def test_objects_loaded_later_are_patched_before_they_run(
    programs: NativePrograms, another: Path
) -> None:
    done = programs.run(
        PRELUDE
        + f"""
fastalloc.start(interval_bytes=1, native=True)
import sqlite3
connection = sqlite3.connect(":memory:")
connection.execute("create table t (a)")
connection.execute("insert into t values (zeroblob(3456789))")
library = ctypes.PyDLL({str(another)!r})
library.get.restype = ctypes.c_void_p
block = library.get(5432)
answer(sqlite=sum(s.size for s in live().values() if s.domain == MALLOC) > 3_000_000, block=sample_at(block))
"""
    )
    assert done.answer == {"sqlite": True, "block": [5432, 5432, 4]}


HOST = """
#include <dlfcn.h>
#include <pthread.h>
#include <stddef.h>
#include <unistd.h>
static void *run(void *path)
{
    void *handle = dlopen(path, RTLD_NOW);
    void *(*get)(size_t) = (void *(*)(size_t))dlsym(handle, "get");
    for (int i = 0; get && i < 4000; i++) {
        get(4321);
        usleep(1000);
    }
    return handle;
}
void host(void *path)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, run, path) == 0) pthread_join(thread, NULL);
}
"""


def test_a_library_that_a_thread_without_python_loads_is_seen_soon(
    programs: NativePrograms, another: Path, compile_library: Callable[..., Path]
) -> None:
    """By the clock it would take ten seconds; the thread takes four or five."""
    host = compile_library(HOST, "host", "-Wl,-z,now")
    done = programs.run(
        PRELUDE
        + f"""
host = ctypes.CDLL({str(host)!r}).host
host.argtypes = [ctypes.c_char_p]
fastalloc.start(interval_bytes=1000, native=True, scale=8)
path = fastalloc.status().recording
fastalloc.read(path)
host({str(another)!r}.encode())
answer(seen=int(sum(fastalloc.read(path).live["size"] == 4321)))
"""
    )
    assert done.answer["seen"] > 0


def test_an_indirect_function_that_allocates_is_seen(
    programs: NativePrograms, compile_library: Callable[..., Path]
) -> None:
    """The slot of an IFUNC holds what its resolver chose, and is left alone; what that calls is seen."""
    source = """
#include <stdlib.h>
static void *plain(size_t n) { return malloc(n); }
static void *(*choose(void))(size_t) { return plain; }
void *get(size_t n) __attribute__((ifunc("choose")));
static void *local(size_t n) __attribute__((ifunc("choose")));
void *get_here(size_t n) { return local(n); }
"""
    library = compile_library(source, "indirect", "-Wl,-z,lazy")
    done = programs.run(
        PRELUDE
        + f"""
library = ctypes.PyDLL({str(library)!r})
for get in (library.get, library.get_here): get.restype, get.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
library.get_here(1)
fastalloc.start(interval_bytes=1, native=True)
seen = [sample_at(library.get(5432)), sample_at(library.get_here(5433))]
fastalloc.stop()
answer(seen=seen, after=[library.get(10) is not None, library.get_here(10) is not None])
"""
    )
    assert done.answer["seen"] == [[5432, 5432, 4], [5433, 5433, 4]]
    assert done.answer["after"] == [True, True]


def test_a_static_program_cannot_load_us() -> None:
    pytest.skip("a static program has no dynamic linker: no Python is there to load the core")


def test_objects_unloaded_and_loaded_again(programs: NativePrograms, another: Path) -> None:
    """Taking hooks out never touches an object that is gone; one that comes back at the same address
    is patched anew."""
    done = programs.run(
        PRELUDE
        + f"""
import _ctypes
def load():
    library = ctypes.PyDLL({str(another)!r})
    library.get.restype = ctypes.c_void_p
    library.put.argtypes = [ctypes.c_void_p]
    return library
seen = []
for i in range(50):
    fastalloc.start(interval_bytes=1, native=True)
    for j in range(i % 3 + 1):
        library = load()
        block = library.get(4321)
        seen.append(sample_at(block) == (4321, 4321, 4))
        library.put(block)
        if j < i % 3 or i % 2: _ctypes.dlclose(library._handle)
    fastalloc.stop()
    if not i % 2:
        library.put(library.get(10))
        _ctypes.dlclose(library._handle)
answer(seen=len(seen), right=sum(seen), loaded="libanother" in open("/proc/self/maps").read())
"""
    )
    assert done.answer["loaded"] is False
    assert done.answer["seen"] == done.answer["right"] == 99


def test_who_asks_for_symbols_and_libraries_is_still_known(
    programs: NativePrograms, compile_library: Callable[..., Path], tmp_path: Path
) -> None:
    """dlopen looks in the RUNPATH of the library that calls it, dlsym(RTLD_NEXT) behind it."""
    hidden = compile_library("int hidden = 42;", "hidden")
    finder = compile_library(
        Path(__file__).with_name("calls.c"),
        "finder",
        f"-Wl,--enable-new-dtags,-rpath,{hidden.parent}",
    )
    done = programs.run(
        PRELUDE
        + """
calls = open_calls()
def look(): return [calls.next_of(b"malloc"), calls.next_of(b"call_malloc"), bool(calls.open_by_name(b"libhidden.so"))]
before = look()
fastalloc.start(native=True)
status = fastalloc.status()
during = look()
fastalloc.stop()
try: ctypes.CDLL("libhidden_not.so"); missing = False
except OSError: missing = True
answer(before=before, during=during, after=look(), native=status.native, missing=missing)
""",
        env={"TEST_CALLS": str(finder)},
    )
    assert done.answer["native"] and done.answer["missing"]
    if not done.answer["before"][2]:
        pytest.skip("the linker here keeps no -rpath: there is no RUNPATH to look in")
    assert done.answer["before"] == done.answer["during"] == done.answer["after"]
    assert done.answer["during"][2] is True


def test_tools_that_patched_before_us_are_left_alone(programs: NativePrograms) -> None:
    pytest.importorskip("memray")
    done = programs.run(
        PRELUDE
        + """
import memray
with memray.Tracker("trace.bin", native_traces=False):
    before = slots()
    fastalloc.start(native=True, interval_bytes=1000)
    status = fastalloc.status()
    during = slots()
    kept = [bytearray(5000) for i in range(1000)]
    samples = fastalloc.status().samples
fastalloc.stop()
answer(native=status.native, active=status.active, reason=status.native_reason, slots=status.native_slots,
       changed=[(before[s], during[s]) for s in before if before[s] != during.get(s)], samples=samples)
"""
    )
    assert done.answer["active"] and not done.answer["native"]
    assert "_memray" in done.answer["reason"] and "another tool" in done.answer["reason"]
    assert done.answer["changed"] == [] and done.answer["slots"] == 0
    assert done.answer["samples"] > 100


def test_tools_that_come_later_are_left_alone(programs: NativePrograms) -> None:
    pytest.importorskip("memray")
    done = programs.run(
        PRELUDE
        + """
import memray
calls = open_calls()
before = slots()
fastalloc.start(native=True, interval_bytes=1000)
first = fastalloc.status().native
blocks = [calls.call_malloc(10_000) for i in range(100)]
tracker = memray.Tracker("trace.bin")
tracker.__enter__()
theirs = slots()
status = fastalloc.status()
domains = sorted({s.domain for s in live().values()})
with_us = slots()
fastalloc.stop()
after_stop = slots()
tracker.__exit__(None, None, None)
for block in blocks: calls.call_free(block)
after = slots()
originals = {(f, v) for n, f, v in before.values()}
answer(first=first, native=status.native, reason=status.native_reason, domains=domains,
       untouched=all(with_us[s] == after_stop[s] for s in theirs),
       taken_back=[(theirs[s], with_us[s]) for s in theirs if theirs[s] != with_us[s] and with_us[s] != before.get(s)],
       strange=[entry for slot, entry in after.items() if slot in before and (entry[1], entry[2]) not in originals])
"""
    )
    answer = done.answer
    assert answer["first"] is True and answer["native"] is False
    assert "another tool" in answer["reason"]
    assert not {4, 5} & set(answer["domains"])
    assert answer["untouched"]
    assert answer["taken_back"] == []  # what changed was ours, and is as it was
    assert answer["strange"] == []


@pytest.mark.parametrize("name", ["libjemalloc.so.2", "libtcmalloc_minimal.so.4"])
def test_preloaded_allocators_are_the_originals(programs: NativePrograms, name: str) -> None:
    probe = subprocess.run(
        [sys.executable, "-c", "print(open('/proc/self/maps').read())"],
        env={"LD_PRELOAD": name},
        capture_output=True,
        text=True,
        check=False,
    )
    if name not in probe.stdout:
        pytest.skip(f"{name} is not installed")
    done = programs.run(
        PRELUDE
        + """
calls = open_calls()
fastalloc.start(native=True, interval_bytes=1)
status = fastalloc.status()
blocks = [calls.call_malloc(3210), calls.call_calloc(1, 3211), calls.call_aligned_alloc(64, 3264)]
samples = [sample_at(block) for block in blocks]
mapped = [s.domain for s in live().values() if s.domain == MMAP]
for i in range(20): assert calls.storm(i, 3000) == 0
for block in blocks: calls.call_free(block)
fastalloc.stop()
answer(native=status.native, reason=status.native_reason, samples=samples, mapped=mapped)
""",
        env={"LD_PRELOAD": name},
    )
    assert done.answer["native"], done.answer["reason"]
    assert done.answer["samples"] == [[3210, 3210, 4], [3211, 3211, 4], [3264, 3264, 4]]
    assert done.answer["mapped"] == []  # what the allocator maps it hands out itself


OWN_ALLOCATOR = """
#include <stddef.h>
static char room[1 << 20] __attribute__((aligned(64)));
static size_t used;
size_t foreign_frees, served;
void *malloc(size_t n) { served++; void *at = room + used; used += (n + 63) & ~63ul; return at; }
void *calloc(size_t count, size_t n) { return malloc(count * n); }
void *realloc(void *block, size_t n) { (void)block; return malloc(n); }
void free(void *block) { if (block && ((char *)block < room || (char *)block >= room + sizeof room)) foreign_frees++; }
"""
USES_OWN_ALLOCATOR = """
#include <stdlib.h>
void *own_get(size_t n) { return malloc(n); }
void own_put(void *block) { free(block); }
"""


@pytest.mark.parametrize("binding", ["lazy", "now"])
def test_libraries_with_an_allocator_of_their_own_keep_it(
    programs: NativePrograms, compile_library: Callable[..., Path], binding: str
) -> None:
    own = compile_library(OWN_ALLOCATOR, "own")
    uses = compile_library(
        USES_OWN_ALLOCATOR,
        "uses",
        *(f"-Wl,-z,{binding}", str(own), f"-Wl,-rpath,{own.parent}"),
    )
    done = programs.run(
        PRELUDE
        + f"""
calls = open_calls()
fastalloc.start(native=True, interval_bytes=1)
library = ctypes.PyDLL({str(uses)!r}, mode=os.RTLD_LAZY | os.RTLD_DEEPBIND | os.RTLD_LOCAL)
library.own_get.restype = ctypes.c_void_p
library.own_put.argtypes = [ctypes.c_void_p]
own = ctypes.PyDLL({str(own)!r}, mode=os.RTLD_NOW | os.RTLD_NOLOAD)
blocks = [library.own_get(100) for i in range(10)]
for block in blocks: library.own_put(block)
still = sample_at(calls.call_malloc(999))
status = fastalloc.status()
fastalloc.stop()
blocks = [library.own_get(100) for i in range(10)]
for block in blocks: library.own_put(block)
answer(served=ctypes.c_size_t.in_dll(own, "served").value, native=status.native, still=still,
       foreign=ctypes.c_size_t.in_dll(own, "foreign_frees").value)
"""
    )
    assert done.answer == {"served": 20, "foreign": 0, "native": True, "still": [999, 999, 4]}


def test_who_is_no_kin_of_a_second_allocator_is_seen(
    programs: NativePrograms, compile_library: Callable[..., Path]
) -> None:
    """Of two lazily bound libraries, one was opened as the program's are, and one shares a scope of its own
    with a second allocator, which it does not itself need."""
    own = compile_library(OWN_ALLOCATOR, "own")
    lazy = "#include <stdlib.h>\nvoid *NAME_get(size_t n) { return malloc(n); }\n"
    other = compile_library(lazy.replace("NAME", "other"), "other", "-Wl,-z,lazy")
    helper = compile_library(lazy.replace("NAME", "helper"), "helper", "-Wl,-z,lazy")
    plugin = compile_library(
        "int plugin;",
        "plugin",
        "-Wl,--no-as-needed",
        *(str(own), str(helper), f"-Wl,-rpath,{own.parent}:{helper.parent}"),
    )
    done = programs.run(
        PRELUDE
        + f"""
fastalloc.start(native=True, interval_bytes=1)
deep = os.RTLD_LAZY | os.RTLD_DEEPBIND | os.RTLD_LOCAL
plugin = ctypes.PyDLL({str(plugin)!r}, mode=deep)
other = ctypes.PyDLL({str(other)!r}, mode=os.RTLD_LAZY)
helper = ctypes.PyDLL({str(helper)!r}, mode=os.RTLD_LAZY | os.RTLD_NOLOAD)
own = ctypes.PyDLL({str(own)!r}, mode=os.RTLD_NOW | os.RTLD_NOLOAD)
for get in (other.other_get, helper.helper_get): get.restype, get.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
served = ctypes.c_size_t.in_dll(own, "served")
answer(other=sample_at(other.other_get(5432)), before=served.value, helper=sample_at(helper.helper_get(5433)), after=served.value)
"""
    )
    assert done.answer == {"other": [5432, 5432, 4], "before": 0, "helper": None, "after": 1}
