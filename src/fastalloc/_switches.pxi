"""The part of the door for what switches contexts: see switches.py."""
from cpython.object cimport PyObject, PyTypeObject


cdef extern from "Python.h":
    int METH_NOARGS
    ctypedef PyObject *(*PyCFunction)(PyObject *, PyObject *)
    ctypedef struct PyMethodDef:
        const char *ml_name
        PyCFunction ml_meth
        int ml_flags
        const char *ml_doc
    object PyDescr_NewMethod(PyTypeObject *kind, PyMethodDef *method)


def watch_contexts():
    """Follow every change of the running context. False: not possible on this version (before 3.14)."""
    return fa_watch_contexts() == 0


def watch_tasks(dict current_tasks):
    """Follow asyncio's tasks from step to step. False: not possible on this version."""
    return fa_watch_tasks(<void *>current_tasks) == 0


def context_number():
    """Tells the running context from others that exist now: a phase belongs to one. 0.05 us."""
    return <uintptr_t>fa_context()


def follow_context(*args):
    """The running context has changed: count for its scope from here on."""
    fa_follow_context()


def run_in_scope(context, function, *args):
    """function(*args), which enters `context` (a Context), counted for the scope that it names."""
    cdef Scope scope = <Scope>context.get(_scope_variable)
    cdef fa_step step = fa_step_begin(scope.scope if scope is not None else 0)
    try:
        return function(*args)
    finally:
        fa_step_end(step)


def run_step(function, *args):
    """function(*args), a callback or a task's step, counted for the scope that the running context
    names. Then the thread goes back to what it was in before."""
    fa_task_enter()
    try:
        return function(*args)
    finally:
        fa_task_leave()


def run_following(function):
    """function(), which has been called in the context that it runs in; the thread may be elsewhere. Nests."""
    cdef fa_scope before = fa_present_scope()
    fa_follow_context()
    try:
        return function()
    finally:
        fa_switch_scope(before)


# asyncio.Handle._run as it was, and the method that stands in its place: one as C's classes have it, which is
# called without being bound first. A function of this module would not bind to a handle at all.
cdef object _original_handle_run = None
cdef object _handle_run = None
cdef PyMethodDef _handle_run_definition
_handle_run_definition.ml_name = "_run"
_handle_run_definition.ml_meth = <PyCFunction>_run_handle
_handle_run_definition.ml_flags = METH_NOARGS
_handle_run_definition.ml_doc = NULL


cdef object _run_handle(object handle, PyObject *nothing):
    return run_in_scope(handle._context, _original_handle_run, handle)


def watch_handles(type handle):
    """Let `handle._run`, asyncio.Handle's, count for the scope that the handle's context names, from here on."""
    global _original_handle_run, _handle_run
    if _handle_run is None or _handle_run.__objclass__ is not handle:
        _original_handle_run = handle._run
        _handle_run = PyDescr_NewMethod(<PyTypeObject *>handle, &_handle_run_definition)
    elif handle._run is not _original_handle_run:
        return  # it is ours, or what another tool has put around ours: twice around would call in a circle
    handle._run = _handle_run
