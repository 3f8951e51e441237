"""Libraries that are loaded while we look: nobody waits for ever, neither for the GIL nor for the linker."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.native_memory.conftest import NativePrograms

PRELUDE = """
import ctypes, os, sys, threading, time
import fastalloc
from tests.core.inside import *
from tests.native_memory.inside import *
dlopen = ctypes.CDLL(None).dlopen
dlopen.restype, dlopen.argtypes = ctypes.c_void_p, [ctypes.c_char_p, ctypes.c_int]
"""


def test_an_initializer_that_wants_the_gil_gets_it(
    programs: NativePrograms, compile_library: Callable[..., Path]
) -> None:
    """A thread loads it without the GIL, and holds the linker's lock; we look meanwhile, and hold the GIL."""
    source = """
#include <unistd.h>
int PyGILState_Ensure(void);
void PyGILState_Release(int);
__attribute__((constructor)) static void want(void)
{
    usleep(300000);
    PyGILState_Release(PyGILState_Ensure());
}
"""
    library = compile_library(source, "wants", "-Wl,-z,now")
    done = programs.run(
        PRELUDE
        + f"""
fastalloc.start(native=True, interval_bytes=1)
loader = threading.Thread(target=dlopen, args=({str(library)!r}.encode(), 2))
loader.start()
while loader.is_alive(): fastalloc.status()
answer(native=fastalloc.status().native)
""",
        timeout=30,
    )
    assert done.answer == {"native": True}


COMES_AND_GOES = """
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>
static pthread_t threads[2];
static atomic_int ends, turns;
static void *run(void *path)
{
    while (!ends) {
        void *handle = dlopen(path, RTLD_NOW);
        if (handle) turns++;
        if (!handle || dlclose(handle) != 0) break;
        usleep(100);
    }
    return NULL;
}
void begin(char *path) { for (int i = 0; i < 2; i++) pthread_create(&threads[i], NULL, run, path); }
int end(void)
{
    ends = 1;
    for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
    return turns;
}
"""


@pytest.mark.parametrize("seconds", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_looks_go_on_while_initializers_want_the_gil(
    programs: NativePrograms, compile_library: Callable[..., Path], seconds: int
) -> None:
    """Threads load it without the GIL, over and over, and hold the linker's lock; whoever waits for that lock
    with the GIL waits for ever. Symbols and libraries are asked for beforehand: the linker itself would wait so."""
    source = """
#include <stdlib.h>
#include <unistd.h>
int PyGILState_Ensure(void);
void PyGILState_Release(int);
static void *volatile block;
__attribute__((constructor)) static void want(void)
{
    usleep(1000);
    PyGILState_Release(PyGILState_Ensure());
    block = malloc(10);
}
__attribute__((destructor)) static void end(void) { free(block); }
"""
    library = compile_library(source, "wants_again", "-Wl,-z,now")
    host = compile_library(COMES_AND_GOES, "comes_and_goes", "-Wl,-z,now")
    done = programs.run(
        PRELUDE
        + f"""
from fastalloc import _core
host = ctypes.CDLL({str(host)!r})
host.begin.argtypes = [ctypes.c_char_p]
host.begin, host.end
def turn(i):
    fastalloc.start(native=True, native_frames=8, interval_bytes=1000)
    for j in range(20): fastalloc.status()
    fastalloc.snapshot()
    fastalloc.disable()
    fastalloc.enable()
    status = fastalloc.status()
    native = status.native or status.native_reason
    fastalloc.stop()
    os.remove(fastalloc.status().recording)
    return native
turn(0)
path = {str(library)!r}.encode()
host.begin(path)
native, until = [], time.monotonic() + {seconds}
while time.monotonic() < until: native.append(turn(1))
answer(loaded=host.end() > 100, native=[n for n in native if n is not True], turns=len(native) > 3)
""",
        timeout=60,
    )
    assert done.answer == {"loaded": True, "native": [], "turns": True}


def test_a_child_forked_while_a_library_was_loaded_says_so(
    programs: NativePrograms, compile_library: Callable[..., Path]
) -> None:
    """It has the lock of the linker's list from a thread that it has not: it must not go through the objects."""
    source = """
#define _GNU_SOURCE
#include <link.h>
#include <unistd.h>
static int wait(struct dl_phdr_info *info, size_t size, void *pipes)
{
    char byte;
    (void)info, (void)size;
    return write(((int *)pipes)[0], "", 1) == 1 && read(((int *)pipes)[1], &byte, 1) == 1;
}
int hold(int holding, int let_go) { return dl_iterate_phdr(wait, (int[]){holding, let_go}); }
"""
    library = compile_library(source, "waiting", "-Wl,-z,now")
    done = programs.run(
        PRELUDE
        + f"""
import json, signal
(held, holding), (go_on, let_go), (told, tell) = os.pipe(), os.pipe(), os.pipe()
hold = ctypes.CDLL({str(library)!r}).hold
calls = open_calls()
fastalloc.start(native=True, interval_bytes=1)
fastalloc.status()
holder = threading.Thread(target=hold, args=(holding, go_on))
holder.start()
os.read(held, 1)
pid = os.fork()
if pid == 0:
    signal.alarm(20)
    status = fastalloc.status()
    seen = calls.call_malloc(4444)
    os.write(tell, json.dumps([status.native, status.native_reason, sample_at(seen)]).encode())
    fastalloc.stop()
    os._exit(0)
code = os.waitpid(pid, 0)[1]
os.write(let_go, b"x")
holder.join()
answer(code=code, child=json.loads(os.read(told, 4096)), native=fastalloc.status().native_reason)
"""
    )
    native, reason, seen = done.answer["child"]
    assert done.answer["code"] == 0
    assert native and "forked while another thread was loading a library" in reason
    assert seen == [4444, 4444, 4]
    assert done.answer["native"] == ""


def test_a_child_that_waited_in_vain_once_goes_on_when_the_linker_is_free(
    programs: NativePrograms, compile_library: Callable[..., Path]
) -> None:
    """It cannot tell a library that takes long from one that a thread was loading which it has not."""
    source = """
#include <stdlib.h>
#include <unistd.h>
__attribute__((constructor)) static void begin(void)
{
    char byte;
    if (write(atoi(getenv("TEST_HOLDING")), "", 1) != 1 || read(atoi(getenv("TEST_GO_ON")), &byte, 1) != 1) abort();
}
"""
    library = compile_library(source, "slow", "-Wl,-z,now")
    done = programs.run(
        PRELUDE
        + f"""
import json, signal
(held, holding), (go_on, let_go), (told, tell) = os.pipe(), os.pipe(), os.pipe()
os.environ.update(TEST_HOLDING=str(holding), TEST_GO_ON=str(go_on))
fastalloc.start(native=True, interval_bytes=1)
fastalloc.status()
pid = os.fork()
if pid == 0:
    signal.alarm(60)
    loader = threading.Thread(target=dlopen, args=({str(library)!r}.encode(), 2))
    loader.start()
    os.read(held, 1)
    first = fastalloc.status().native_reason
    os.write(let_go, b"x")
    loader.join()
    while fastalloc.status().native_reason: time.sleep(0.01)
    os.write(tell, json.dumps(first).encode())
    os._exit(0)
code = os.waitpid(pid, 0)[1]
answer(code=code, first=json.loads(os.read(told, 4096)) if code == 0 else "")
"""
    )
    assert done.answer["code"] == 0
    assert "forked while another thread was loading a library" in done.answer["first"]
