"""Native frames: the C functions above the Python line, by name, on stacks of all kinds."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import fastalloc
from fastalloc.recording.symbols import demangled, module
from tests.native_memory.conftest import NativePrograms

HERE = Path(__file__).parent
BUILD_ID = "-Wl,--build-id=sha1"  # as most linkers have it by default; zig's does not

if tuple(map(int, platform.libc_ver()[1].split("."))) < (2, 35):
    pytest.skip("native frames need glibc 2.35", allow_module_level=True)

PRELUDE = """
import ctypes, os, sys, threading
import fastalloc
from tests.core.inside import *
def load(path):
    library = ctypes.CDLL(path)
    for name in ("frames_outer", "frames_deep", "in_thread", "in_context", "in_handler", "in_broken_stack"):
        if hasattr(library, name):
            getattr(library, name).restype = ctypes.c_void_p
    return library
fastalloc.start(interval_bytes=1, native=True, scale=16, native_frames=FRAMES)
status = fastalloc.status()
assert status.native and not status.native_frames_reason, status.native_frames_reason
def stack_of(address):
    snapshot = fastalloc.snapshot()
    found = snapshot.live[snapshot.live["address"] == address]
    assert len(found) == 1, hex(address)
    return [[frame.function, frame.is_native, frame.file] for frame in snapshot.stack(int(found["site"][0]))]
"""


@pytest.fixture(scope="session")
def frames(compile_library: Callable[..., Path]) -> Path:
    return compile_library(HERE / "frames.c", "frames", BUILD_ID)


def names(stack: list[list[object]]) -> list[object]:
    return [frame[0] for frame in stack]


def run(programs: NativePrograms, source: str, frames: int = 16) -> dict[str, object]:
    return programs.run(PRELUDE.replace("FRAMES", str(frames)) + source).answer


def test_functions_of_a_library_stand_above_the_python_line(
    programs: NativePrograms, frames: Path
) -> None:
    answer = run(
        programs,
        f"""
library = load({str(frames)!r})
def caller(): return library.frames_outer(ctypes.c_size_t(100_000))
address = caller()
snapshot = fastalloc.snapshot()
rows = {{group: [row.key for row in snapshot.top(group=group, limit=None)] for group in ("native_function", "line", "site")}}
answer(stack=stack_of(address), rows=rows)
""",
    )
    stack = answer["stack"]
    assert names(stack)[:3] == ["frames_leaf", "frames_middle", "frames_outer"]
    assert all(file == str(frames) for _, _, file in stack[:3])
    kinds = [native for _, native, _ in stack]
    assert kinds == sorted(kinds, reverse=True)  # C functions, then Python's
    first_python = kinds.index(False)
    assert stack[first_python][0] == "caller"
    assert "_PyEval_EvalFrameDefault" not in names(stack)
    rows = answer["rows"]
    assert "libframes.so:frames_leaf" in rows["native_function"]
    assert not any("libframes" in key for key in rows["line"])
    assert any(
        key.startswith("frames_leaf (libframes.so) <- frames_middle") for key in rows["site"]
    )


def test_none_are_kept_unless_asked_for(programs: NativePrograms, frames: Path) -> None:
    answer = run(
        programs,
        f"library = load({str(frames)!r})\n"
        "def caller(): return library.frames_outer(ctypes.c_size_t(100_000))\n"
        "answer(stack=stack_of(caller()))",
        frames=0,
    )
    assert names(answer["stack"])[0] == "caller"


def test_the_innermost_are_kept(programs: NativePrograms, frames: Path) -> None:
    answer = run(
        programs,
        f"library = load({str(frames)!r})\n"
        "def caller(): return library.frames_deep(200, ctypes.c_size_t(100_000))\n"
        "answer(stack=stack_of(caller()))",
        frames=5,
    )
    assert names(answer["stack"])[:6] == ["frames_leaf", *["frames_deep"] * 4, "caller"]


def test_below_a_deep_recursion_no_frame_is_told_that_is_cpythons(
    programs: NativePrograms, frames: Path
) -> None:
    """Where the eval loop's frame is too far to look for (3.13 on), there are none; never the interpreter's own."""
    answer = run(
        programs,
        f"""
library = load({str(frames)!r})
sys.setrecursionlimit(5000)
def caller(depth):
    return caller(depth - 1) if depth else library.frames_outer(ctypes.c_size_t(100_000))
answer(near=stack_of(caller(0)), far=stack_of(caller(2000)))
""",
    )
    near, far = ([frame for frame in answer[key] if frame[1]] for key in ("near", "far"))
    assert names(near)[:3] == ["frames_leaf", "frames_middle", "frames_outer"]
    assert far in ([], near)
    assert names(answer["far"])[len(far)] == "caller"


def test_a_thread_that_python_does_not_know_has_them_as_its_whole_stack(
    programs: NativePrograms, frames: Path
) -> None:
    answer = run(
        programs,
        f"""
library = load({str(frames)!r})
stack = stack_of(library.in_thread(ctypes.c_size_t(100_000)))
lines = [row.key for row in fastalloc.snapshot().top(group="line", limit=None)]
answer(stack=stack, lines=lines, losses=fastalloc.snapshot().losses)
""",
    )
    assert names(answer["stack"])[:4] == [
        "frames_leaf",
        "frames_middle",
        "frames_outer",
        "frames_thread",
    ]
    assert all(native for _, native, _ in answer["stack"])
    assert "libframes.so:frames_leaf" in answer["lines"]


@pytest.mark.parametrize("above", [False, True], ids=["below Python's", "above Python's"])
@pytest.mark.parametrize("call", ["in_context", "in_handler"])
def test_foreign_stacks(programs: NativePrograms, frames: Path, call: str, above: bool) -> None:
    """With unreadable pages on both sides: reading past either end would be the end."""
    answer = run(
        programs,
        f"""
import mmap
library = load({str(frames)!r})
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
page, pages = mmap.PAGESIZE, 64
space = libc.mmap(None, ctypes.c_size_t((pages + 2) * page), 0, 0x22, -1, ctypes.c_long(0))
assert libc.mprotect(ctypes.c_void_p(space + page), ctypes.c_size_t(pages * page), 3) == 0
stacks = []
def call():
    for _ in range(3):
        stacks.append(stack_of(library.{call}(ctypes.c_void_p(space + page), ctypes.c_size_t(pages * page), ctypes.c_size_t(100_000))))
if {above}:  # the stack of a thread that starts now lies below: the kernel fills addresses from the top
    thread = threading.Thread(target=call); thread.start(); thread.join()
else: call()
answer(stacks=stacks)
""",
    )
    for stack in answer["stacks"]:
        assert names(stack)[:3] == ["frames_leaf", "frames_middle", "frames_outer"]


@pytest.mark.parametrize("value", [0, 1, 8, 0x10, 2**47 - 8, 2**63, 2**64 - 8, 0xDEADBEEF0])
def test_a_broken_stack_ends_the_walk_alone(
    programs: NativePrograms, compile_library: Callable[..., Path], value: int
) -> None:
    library = compile_library(HERE / "frames.c", "broken", "-fno-omit-frame-pointer")
    answer = run(
        programs,
        f"""
library = load({str(library)!r})
answer(stack=stack_of(library.in_broken_stack(ctypes.c_size_t({value}), ctypes.c_size_t(100_000))))
""",
    )
    assert names(answer["stack"])[:2] == ["frames_leaf", "in_broken_stack"]


def test_a_module_loaded_where_another_was_is_another_one(
    programs: NativePrograms, compile_library: Callable[..., Path], tmp_path: Path
) -> None:
    source = (HERE / "frames.c").read_text()
    first = compile_library(source, "first")
    second = compile_library(source.replace("frames_leaf", "later_leaf"), "second")
    at = tmp_path / "libplugin.so"
    answer = run(
        programs,
        f"""
import _ctypes, shutil
stacks, bases = [], []
for source in ({str(first)!r}, {str(second)!r}) * 3:
    if os.path.exists({str(at)!r}): os.unlink({str(at)!r})
    shutil.copy(source, {str(at)!r})
    library = load({str(at)!r})
    bases.append(ctypes.cast(library.frames_outer, ctypes.c_void_p).value)
    address = library.frames_outer(ctypes.c_size_t(100_000))
    stacks.append(stack_of(address))
    ctypes.CDLL(None).free(ctypes.c_void_p(address))
    _ctypes.dlclose(library._handle)
answer(stacks=stacks, bases=bases)
""",
    )
    assert len(set(answer["bases"])) < len(answer["bases"])  # the same address came again
    leaves = [names(stack)[0] for stack in answer["stacks"]]
    assert leaves == ["frames_leaf", "later_leaf"] * 3


def test_a_file_that_was_replaced_names_nothing(
    programs: NativePrograms, frames: Path, compile_library: Callable[..., Path], tmp_path: Path
) -> None:
    at = tmp_path / "libplugin.so"
    shutil.copy(frames, at)
    done = programs.run(
        PRELUDE.replace("FRAMES", "8")
        + f"library = load({str(at)!r})\nlibrary.frames_outer(ctypes.c_size_t(1_000_000))\nanswer()"
    )

    def leaf() -> str:
        module.cache_clear()
        snapshot = fastalloc.read(done.recordings[-1])
        return snapshot.stack(snapshot.top(group="site", limit=1)[0].site)[0].function

    assert leaf() == "frames_leaf"
    at.unlink()
    assert leaf().startswith("libplugin.so+0x")
    assert leaf().endswith("(file missing)")
    other = (HERE / "frames.c").read_text().replace("frames_leaf", "another_leaf")
    shutil.copy(compile_library(other, "another", BUILD_ID), at)
    assert leaf().endswith("(file replaced)")


@pytest.mark.parametrize("identity", ["-Wl,--build-id=none", "-Wl,--build-id=sha1"])
def test_modules_with_and_without_a_build_id(
    programs: NativePrograms, compile_library: Callable[..., Path], identity: str
) -> None:
    library = compile_library(HERE / "frames.c", "identity", identity)
    answer = run(
        programs,
        f"library = load({str(library)!r})\n"
        "answer(stack=stack_of(library.frames_outer(ctypes.c_size_t(100_000))))",
    )
    assert names(answer["stack"])[0] == "frames_leaf"


def test_a_forked_child_goes_on(programs: NativePrograms, frames: Path) -> None:
    answer = run(
        programs,
        f"""
library = load({str(frames)!r})
before = library.frames_outer(ctypes.c_size_t(100_000))
r, w = os.pipe()
if not os.fork():
    import json
    os.write(w, json.dumps([stack_of(before)[:3], stack_of(library.frames_outer(ctypes.c_size_t(100_000)))[:3]]).encode())
    os._exit(0)
os.close(w)
import json
with os.fdopen(r) as pipe: stacks = json.loads(pipe.read())
os.wait()
answer(stacks=stacks)
""",
    )
    for stack in answer["stacks"]:
        assert names(stack) == ["frames_leaf", "frames_middle", "frames_outer"]


def test_greenlets(programs: NativePrograms, frames: Path) -> None:
    pytest.importorskip("greenlet")
    answer = run(
        programs,
        f"""
import greenlet
library = load({str(frames)!r})
stacks = []
def one(other):
    for _ in range(20):
        address = library.frames_outer(ctypes.c_size_t(100_000))
        stacks.append(stack_of(address)[:3] + [[any(name[0] == "one" for name in stack_of(address))]])
        if others: others[len(stacks) % len(others)].switch(None)
others = [greenlet.greenlet(one) for _ in range(4)]
for each in list(others):
    each.switch(None)
answer(stacks=stacks)
""",
    )
    assert len(answer["stacks"]) > 20
    for stack in answer["stacks"]:
        assert names(stack) == ["frames_leaf", "frames_middle", "frames_outer", True]


def test_a_storm_of_threads(programs: NativePrograms, frames: Path) -> None:
    """Threads of both kinds, garbage, and modules that come and go."""
    answer = run(
        programs,
        f"""
import _ctypes, sqlite3
library = load({str(frames)!r})
free = ctypes.CDLL(None).free
def native():
    for _ in range(100): free(ctypes.c_void_p(library.in_thread(ctypes.c_size_t(500))))
def deep():
    for depth in range(300): free(ctypes.c_void_p(library.frames_deep(depth, ctypes.c_size_t(500))))
def loading():
    for _ in range(100): _ctypes.dlclose(ctypes.CDLL({str(frames)!r})._handle)
def database():
    for _ in range(10):
        base = sqlite3.connect(":memory:")
        base.execute("create table t(a)")
        base.executemany("insert into t values(?)", [("x" * 500,) for _ in range(50)])
        base.close()
threads = [threading.Thread(target=each) for each in (native, deep, loading, database) * 2]
for thread in threads: thread.start()
for thread in threads: thread.join()
answer(active=fastalloc.status().active)
""",
    )
    assert answer["active"]


def test_numpy_names_its_functions_to_memray_too(programs: NativePrograms, tmp_path: Path) -> None:
    """What its linear algebra works in: since 2.5 numpy asks Python for the memory of arrays."""
    memray = pytest.importorskip("memray")
    pytest.importorskip("numpy")
    done = programs.run(
        PRELUDE.replace("FRAMES", "16")
        + "import numpy\ndef make(): return numpy.linalg.inv(numpy.eye(300))\nkept = make()\nanswer()"
    )
    from fastalloc.export import export_memray

    snapshot = fastalloc.read(done.recordings[-1])
    functions = [row.key for row in snapshot.top(group="native_function", limit=3)]
    assert any("openblas" in key for key in functions), functions
    file = tmp_path / "exported.bin"
    export_memray(snapshot, file)
    total = 0
    seen = []
    for record in memray.FileReader(file).get_leaked_allocation_records():
        stack = record.stack_trace()
        total += record.size
        if any(function == "make" for function, _, _ in stack):
            seen += [function for function, file, _ in stack if "_multiarray_umath" in file]
    assert total == snapshot.live_bytes
    assert seen


def test_names_of_cplusplus() -> None:
    assert demangled(b"plain") == "plain"
    assert demangled(b"_ZN3fooC1Ei") in ("foo::foo(int)", "_ZN3fooC1Ei")
    assert demangled(b"_Znotmangled") == "_Znotmangled"
