# cython: language_level=3, binding=True, embedsignature=False, auto_pickle=False, autotestdict=False
"""The door to the C core: translates types and errors, and decides nothing.

Not public: `fastalloc` offers what this module does under its own names.
"""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.contextvars cimport PyContextVar_New, PyContextVar_Reset, PyContextVar_Set, get_value
from cpython.ref cimport PyObject
from libc.errno cimport errno
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset

import os
import sys

MODES = ("disabled", "standby", "light", "aggressive", "targeted")
STATES = ("empty", "running", "stopped", "exited")
MAX_FRAMES = FA_MAX_FRAMES


cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL


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
          uint32_t scale, bytes cgroup_usage_path, uint64_t limit_bytes, bint limit_of_cgroup):
    """Create a recording and hook the allocators. OSError, RuntimeError, ValueError."""
    cdef fa_config config
    config.directory = directory
    config.options = options
    config.mode = MODES.index(mode)
    config.interval_bytes = interval_bytes
    config.max_frames = max_frames
    config.scale = scale
    config.cgroup_usage_path = cgroup_usage_path
    config.limit_bytes = limit_bytes
    config.limit_of_cgroup = limit_of_cgroup
    config.python_version = sys.hexversion
    _check(fa_start(&config))


def stop(bint at_exit=False):
    """Unhook and close the recording. RuntimeError when none is on."""
    _check(fa_stop(at_exit))


def set_mode(str mode, uint64_t interval_bytes):
    """Switch what is hooked, and the interval, while the program runs."""
    _check(fa_set_mode(MODES.index(mode), interval_bytes))


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
        "mode": MODES[header.mode] if header.mode < 5 else "unknown",
        "active": fa_is_active() != 0,
        "interval_bytes": header.interval_bytes,
        "live_bytes": header.live_bytes,
        "samples": header.samples,
        "rss_bytes": header.rss_bytes,
        "cgroup_bytes": header.cgroup_bytes,
        "limit_bytes": header.limit_bytes,
        "free_design": ("divert", "filter")[header.free_design],
        "hooks_displaced": fa_hooks_displaced() != 0,
    }


def copy_recording():
    """A consistent copy of the recording's file contents, as bytes."""
    cdef Py_ssize_t size = <Py_ssize_t>fa_file_bytes()
    cdef bytes copy = PyBytes_FromStringAndSize(NULL, size)
    memset(PyBytes_AS_STRING(copy), 0, size)
    _check(fa_copy_recording(PyBytes_AS_STRING(copy), size))
    return copy


def thread_totals():
    """(allocations, bytes) of the calling thread since it was first seen: exact."""
    cdef uint64_t count = 0, total = 0
    fa_thread_totals(&count, &total)
    return count, total


# --- scopes -----------------------------------------------------------------------------------

# The running context names the scope it is in: a Scope, or None outside all.
cdef object _scope_variable = PyContextVar_New("fastalloc_scope", <PyObject *>None)


cdef class Scope:
    """An open span or phase. Entering and leaving never raise."""
    cdef fa_scope scope  # 0: not open, or nothing is recorded
    cdef int depth
    cdef readonly str name
    cdef Scope outer
    cdef object token

    def __cinit__(self, name, /, *args, **kwargs):
        self.name = name if type(name) is str else str(name)

    cdef fa_scope _open(self, fa_scope parent, const char *name, Py_ssize_t size):
        return 0

    def __enter__(self):
        cdef Py_ssize_t size = 0
        cdef const char *name
        self.depth += 1
        if self.depth > 1 or not fa_is_active():
            return self
        self._release()
        _watch_switches()
        self.outer = <Scope>get_value(_scope_variable)
        try:
            name = PyUnicode_AsUTF8AndSize(self.name, &size)
        except UnicodeEncodeError:
            name, size = "(not encodable)", 15
        self.scope = self._open(self.outer.scope if self.outer is not None else 0, name, size)
        if self.scope:
            self.token = PyContextVar_Set(_scope_variable, self)
            fa_switch_scope(self.scope)
        return self

    def __exit__(self, *exception):
        self.depth -= 1
        if self.depth > 0 or self.token is None:
            return None
        try:
            PyContextVar_Reset(_scope_variable, self.token)
        except (ValueError, RuntimeError):  # left in another context than entered (generators)
            if get_value(_scope_variable) is self:
                PyContextVar_Set(_scope_variable, self.outer)
        self.token = None
        self.outer = None
        fa_scope_close(self.scope)
        return None

    def suspend(self):
        """Leave the open scope for a while: a generator yields. Then resume()."""
        if self.token is not None:
            PyContextVar_Set(_scope_variable, self.outer)
            fa_switch_scope(self.outer.scope if self.outer is not None else 0)

    def resume(self):
        """Go on in the suspended scope, below the scope that is running now."""
        if self.token is not None:
            self.outer = <Scope>get_value(_scope_variable)
            self.token = PyContextVar_Set(_scope_variable, self)
            fa_switch_scope(self.scope)

    cdef void _release(self):
        if self.scope:
            fa_scope_release(self.scope)
            self.scope = 0

    def __dealloc__(self):
        self._release()


cdef class Span(Scope):
    """See fastalloc.span."""
    cdef readonly dict attributes

    def __cinit__(self, name, /, **attributes):
        self.attributes = attributes

    @property
    def id(self):
        """Number of this span in this process, from 1; 0 when it is not being recorded."""
        return fa_scope_span_id(self.scope)

    def rename(self, name):
        """Give the span its final name (a route known only later). Costs about 1 us."""
        cdef Py_ssize_t size = 0
        cdef const char *text
        self.name = name if type(name) is str else str(name)
        try:
            text = PyUnicode_AsUTF8AndSize(self.name, &size)
        except UnicodeEncodeError:
            return
        fa_scope_rename(self.scope, text, size)

    cdef fa_scope _open(self, fa_scope parent, const char *name, Py_ssize_t size):
        cdef bytes text
        if not self.attributes:
            return fa_span_open(parent, name, size, NULL, 0)
        try:
            text = " ".join([f"{key}={value}" for key, value in self.attributes.items()]).encode(
                "utf-8", "replace")
        except Exception:  # a foreign __str__
            text = b"(attributes could not be shown)"
        return fa_span_open(parent, name, size, text, len(text))


cdef class Phase(Scope):
    """See fastalloc.phase."""

    cdef fa_scope _open(self, fa_scope parent, const char *name, Py_ssize_t size):
        return fa_phase_open(parent, name, size)


cdef void _tell_scopes_to_core():
    cdef Scope example = Scope("")
    fa_watch_scopes(<void *>Scope, <char *>&example.scope - <char *><void *>example,
                    <void *>_scope_variable, hash(_scope_variable))


_tell_scopes_to_core()


# Called before a scope opens until it returns True: watches for what switches contexts.
cdef object _watcher = None


cdef void _watch_switches():
    global _watcher
    if _watcher is not None:
        try:
            if _watcher():
                _watcher = None
        except Exception:
            _watcher = None


def set_switch_watcher(watcher):
    """`watcher()` is called before each scope opens, until it returns True."""
    global _watcher
    _watcher = watcher


def watch_tasks(dict current_tasks):
    """Follow asyncio's tasks from step to step. False: not possible on this version."""
    return fa_watch_tasks(<void *>current_tasks) == 0


def follow_context(*args):
    """The running context has changed: count for its scope from here on."""
    fa_follow_context()


cdef object _original_handle_run = None


def set_handle_run(original):
    """What run_handle calls: asyncio.Handle._run as it was."""
    global _original_handle_run
    _original_handle_run = original


def run_in_scope(context, function, *args):
    """function(*args), which enters `context` (a Context), counted for the scope that it names."""
    cdef Scope scope = <Scope>context.get(_scope_variable)
    cdef fa_step step = fa_step_begin(scope.scope if scope is not None else 0)
    try:
        return function(*args)
    finally:
        fa_step_end(step)


def run_handle(self):
    """asyncio.Handle._run, counted for the scope that the handle's context names."""
    return run_in_scope(self._context, _original_handle_run, self)


cdef class Steps:
    """Awaits a coroutine, counting each of its steps for the scope of the running context: for
    event loops whose tasks cannot be followed."""
    cdef object coroutine

    def __cinit__(self, coroutine):
        self.coroutine = coroutine

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        return self._step(self.coroutine.send, (None,))

    def send(self, value):
        return self._step(self.coroutine.send, (value,))

    def throw(self, *error):
        return self._step(self.coroutine.throw, error)

    def close(self):
        self.coroutine.close()

    cdef object _step(self, function, tuple args):
        fa_task_enter()
        try:
            value = function(*args)
        except BaseException:  # also StopIteration: the task goes on in who awaited this
            fa_follow_context()
            raise
        fa_task_leave()
        return value


def checkpoint(name):
    """See fastalloc.checkpoint."""
    cdef Py_ssize_t size = 0
    cdef const char *text
    if fa_is_active():
        try:
            text = PyUnicode_AsUTF8AndSize(name if type(name) is str else str(name), &size)
        except UnicodeEncodeError:
            return
        fa_checkpoint(text, size)


def set_process_phase(str name):
    """What runs outside all spans counts for this phase from here on."""
    cdef bytes text = name.encode()
    fa_set_process_phase(text, len(text))


def set_thread_name(uint32_t tid, str name):
    """Name the thread with this kernel id in all samples it takes from here on."""
    cdef bytes text = name.encode("utf-8", "replace")
    fa_set_thread_name(tid, text, len(text))
