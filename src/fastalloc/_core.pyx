# cython: language_level=3, freethreading_compatible=True, binding=False, embedsignature=True, embedsignature.format=clinic, auto_pickle=False, autotestdict=False
"""The door to the C core: translates types and errors, and decides nothing.

Not public: `fastalloc` offers what this module does under its own names. Compatible with free-threaded
builds in that importing it does not switch the GIL on; `start` refuses them.
"""
# binding=False: functions are C's own. Those of Cython's own kind, with their code objects, take 100 KiB more at the
# import. What their signatures are is told by embedsignature: stubtest holds _core.pyi to it.
from cpython.object cimport PyObject
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.errno cimport errno
from libc.stdint cimport UINT64_MAX, uint32_t, uint64_t, uintptr_t
from libc.string cimport memcpy, memset

import os
import sys

MODES = ("disabled", "standby", "light", "aggressive", "targeted")
STATES = ("empty", "running", "stopped", "exited")
EXITS = ("unknown", "clean", "exception", "signal")
MAX_FRAMES = FA_MAX_FRAMES
MAX_NATIVE_FRAMES = FA_MAX_NATIVE_FRAMES


cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL
    PyObject *context_type "((PyObject *)&PyContext_Type)"


Context = <object>context_type  # without loading contextvars, a library that some programs never need


cdef int _check(fa_status status) except -1:
    """The only place that turns a status into an exception."""
    if status == FA_OK:
        return 0
    if status == FA_ERROR_SYSTEM:
        raise OSError(errno, f"{os.strerror(errno)}, {fa_error_step().decode()}")
    if status == FA_ERROR_RUNNING:
        raise RuntimeError("recording is already on")
    if status == FA_ERROR_STOPPED:
        raise RuntimeError("recording is not on")
    if status == FA_ERROR_UNSUPPORTED:
        raise RuntimeError(fa_unsupported().decode())
    raise ValueError("an option is out of range")


# --- life -------------------------------------------------------------------------------------

def unsupported():
    """Why this interpreter cannot be hooked; None when it can."""
    cdef const char *reason = fa_unsupported()
    return reason.decode() if reason != NULL else None


def start(*, bytes directory, bytes options, str mode, uint64_t interval_bytes, uint32_t max_frames,
          uint32_t scale, bytes cgroup_usage_path, list limits, dict guard,
          bytes oom_events_path, uint64_t keep_free_bytes, bint native=False, uint32_t native_frames=0,
          bint in_memory=False):
    """Create a recording and hook the allocators. OSError, RuntimeError, ValueError.

    limits: (bytes, number of its kind, path of the usage, path of the limit), up to FA_LIMITS. guard: see _guard_config.
    """
    cdef fa_limit found[FA_LIMITS]
    cdef fa_config config
    config.directory = directory
    config.options = options
    config.mode = MODES.index(mode)
    config.interval_bytes = interval_bytes
    config.max_frames = max_frames
    config.scale = scale
    config.cgroup_usage_path = cgroup_usage_path
    config.limits = found
    config.limit_count = _guard_config(found, &config, limits, guard)
    config.python_version = sys.hexversion
    config.oom_events_path = oom_events_path
    config.keep_free_bytes = keep_free_bytes
    config.native = native
    config.native_frames = native_frames
    config.in_memory = in_memory
    _check(fa_start(&config))


def stop(bint at_exit=False):
    """Unhook and close the recording. RuntimeError when none is on."""
    _check(fa_stop(at_exit))


def set_mode(str mode, uint64_t interval_bytes):
    """Switch what is hooked, and the interval, while the program runs. Keeps the GIL."""
    _check(fa_set_mode(MODES.index(mode), interval_bytes))


def mode():
    """The mode the recorder is in now: it may have changed by itself. "disabled" while it is off."""
    return MODES[fa_get_header().mode] if fa_is_active() else "disabled"


def note_exit(str kind, str name):
    """Note how this process is about to end: "clean", "exception" or "signal", and its name."""
    cdef bytes text = name.encode("utf-8", "replace")
    fa_note_exit(EXITS.index(kind), text, len(text))


def has_recording():
    """Whether a recording is open, be it switched off for now."""
    cdef const fa_header *header = fa_get_header()
    return header != NULL and header.state == FA_STATE_RUNNING


def is_active():
    """Whether samples are being taken."""
    return fa_is_active() != 0


def state():
    """The recording's header as far as `status` shows it; empty before the first start."""
    fa_settle()
    cdef const fa_header *header = fa_get_header()
    if header == NULL:
        return {}
    return {
        "recording": os.fsdecode(fa_recording_path()),
        "pid": header.pid,
        "state": STATES[header.state] if header.state < 4 else "unknown",
        "mode": MODES[fa_guard_mode()],
        "active": fa_is_active() != 0 and not fa_guard_has_stopped(),
        "interval_bytes": header.interval_bytes,
        "live_bytes": header.live_bytes,
        "samples": header.samples,
        "freed": header.freed,
        "rss_bytes": header.rss_bytes,
        "cgroup_bytes": header.cgroup_bytes,
        "limit_bytes": header.limit_bytes,
        "limit_usage_bytes": header.limit_usage_bytes,
        "limit_index": header.limit_index,
        "usages": _usages(),  # of each limit, with its bytes
        "guard": GUARD_STATES[header.guard_state] if header.guard_state < 4 else "unknown",
        "guard_trips": header.guard_trips,
        "free_design": ("divert", "filter")[header.free_design],
        "hooks_displaced": fa_hooks_displaced() != 0,
        "own_cpu_ns": header.own_cpu_ns,
        "own_cpu_millionths": header.own_cpu_millionths,
        "native": fa_native_is_on() != 0,
        "native_reason": fa_native_reason().decode("utf-8", "replace"),
        "native_frames_reason": fa_native_frames_reason().decode("utf-8", "replace"),
        "native_slots": fa_native_slots(),
    }


def native_prepare():
    """Before a start with native memory: ask the linker what is to be asked, once; wait for whoever loads a library."""
    with nogil:
        fa_native_prepare()


def native_wait():
    """Before set_mode, where native memory may be recorded again: wait for whoever loads a library."""
    with nogil:
        fa_native_wait()


def native_look():
    """Follow what was loaded, or patched by others, since: about 1 ms."""
    if not fa_native_is_on():
        return
    with nogil:
        fa_native_wait()
    fa_native_look()


def copy_recording():
    """A consistent copy of the recording's file contents, as bytes."""
    cdef Py_ssize_t size = <Py_ssize_t>fa_file_bytes()
    cdef bytes copy = PyBytes_FromStringAndSize(NULL, size)
    memset(PyBytes_AS_STRING(copy), 0, size)
    _check(fa_copy_recording(PyBytes_AS_STRING(copy), size))
    return copy


def live_by_domain():
    """Bytes of the live heap by domain, estimated, in the order of enum fa_domain. Some 10 us."""
    cdef uint64_t[8] totals
    assert FA_DOMAIN_COUNT <= 8
    fa_live_by_domain(totals)
    return [totals[i] for i in range(FA_DOMAIN_COUNT)]


cdef tuple _host = ()  # keeps the code objects that the core knows by address


def end_stacks_at(caller, callee):
    """Leave out of stacks the frame of the code object `callee` where `caller` called it, and all below."""
    global _host
    _host += (caller, callee)
    fa_end_stacks_at(<void *>caller, <void *>callee)


def thread_totals():
    """(allocations, bytes) of the calling thread since it was first seen: exact."""
    cdef uint64_t count = 0, total = 0
    fa_thread_totals(&count, &total)
    return count, total


include "_control.pxi"  # the control word, and what recording costs
include "_scopes.pxi"  # spans, phases and requests
include "_calls.pxi"  # what passes for a function
include "_switches.pxi"  # what switches between them
include "_meter.pxi"  # what a stretch of code allocates
include "_requests.pxi"  # what is done in every request
include "_detours.pxi"  # what trackers put around functions
include "_messages.pxi"  # what an ASGI request passes
include "_dumps.pxi"  # what dumps are made of, and their writing
include "_guard.pxi"  # the guard
include "_watcher.pxi"  # the watcher's thread
