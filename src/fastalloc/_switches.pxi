"""The part of the door for what switches contexts: see switches.py."""
from cpython.object cimport PyObject, PyTypeObject


cdef extern from "Python.h":
    int METH_NOARGS
    ctypedef PyObject *(*PyCFunction)(PyObject *, PyObject *) noexcept
    ctypedef struct PyMethodDef:
        const char *ml_name
        PyCFunction ml_meth
        int ml_flags
        const char *ml_doc
    object PyDescr_NewMethod(PyTypeObject *kind, PyMethodDef *method)
    PyObject *PyObject_GetAttr(PyObject *of, PyObject *name) noexcept
    int PyCallable_Check(PyObject *one) noexcept
    Py_ssize_t tuple_size "PyTuple_GET_SIZE"(PyObject *names) noexcept
    void PyErr_Clear() noexcept
    void keep "Py_INCREF"(PyObject *one) noexcept  # of objects that Cython does not count
    void give_back "Py_XDECREF"(PyObject *one_or_none) noexcept
    void *PyMem_Malloc(size_t size) noexcept
    void PyMem_Free(void *memory) noexcept


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


def run_in_scope(context, function, argument):
    """function(argument), which enters `context` (a Context), counted for the scope that it names."""
    cdef fa_step step = fa_step_begin(fa_scope_in(<void *>context))
    try:
        return function(argument)
    finally:
        fa_step_end(step)


# --- asyncio's handles ------------------------------------------------------------------------

# asyncio.Handle._run as it was, and the method that stands in its place: one as C's classes have it, which is
# called without being bound first. A function of this module would not bind to a handle at all.
cdef object _original_handle_run = None
cdef object _handle_run = None
cdef PyMethodDef _handle_run_definition
_handle_run_definition.ml_name = "_run"
_handle_run_definition.ml_meth = _run_handle
_handle_run_definition.ml_flags = METH_NOARGS
_handle_run_definition.ml_doc = NULL
cdef str _CONTEXT = "_context"


cdef PyObject *_run_handle(PyObject *handle, PyObject *nothing) noexcept:
    cdef PyObject *context = PyObject_GetAttr(handle, <PyObject *>_CONTEXT)
    cdef fa_scope scope = FA_SCOPE_UNKNOWN
    if context == NULL:
        PyErr_Clear()
    else:
        scope = fa_scope_in(context)
        give_back(context)
    if scope == FA_SCOPE_UNKNOWN:  # the handle's context is no Context
        return PyObject_CallOneArg(<PyObject *>_original_handle_run, handle)
    cdef fa_step step = fa_step_begin(scope)
    cdef PyObject *result = PyObject_CallOneArg(<PyObject *>_original_handle_run, handle)
    fa_step_end(step)
    return result


def watch_handles(type handle):
    """Let `handle._run`, asyncio.Handle's, count for the scope that the handle's context names, from here on."""
    global _original_handle_run, _handle_run
    if _handle_run is None or _handle_run.__objclass__ is not handle:
        _original_handle_run = handle._run
        _handle_run = PyDescr_NewMethod(<PyTypeObject *>handle, &_handle_run_definition)
    elif handle._run is not _original_handle_run:
        return  # it is ours, or what another tool has put around ours: twice around would call in a circle
    handle._run = _handle_run


# --- what is called when its context has been entered already ----------------------------------

@cython.final
@cython.freelist(64)
cdef class Step:
    """What step() and following() make. What is asked of it is asked of the function."""
    cdef vectorcallfunc call
    cdef object function

    def __call__(self, *args, **kwargs):  # never: the slot, and its wrapper, are set below
        raise NotImplementedError

    def __getattr__(self, name):
        return getattr(self.function, name)

    def __repr__(self):
        return repr(self.function)


cdef Step _new_step(function, vectorcallfunc call):
    cdef Step made = Step.__new__(Step)
    made.function, made.call = function, call
    return made


def step(function):
    """`function`, a callback or a task's step, as one that is counted for the scope that the running context names.
    Then the thread goes back to what it was in before."""
    return _new_step(function, _take_step)


def following(function):
    """`function`, as one that follows the context that it is called in, since the thread may be elsewhere. Nests."""
    return _new_step(function, _take_following)


cdef PyObject *_take_step(PyObject *step, PyObject *const *args, size_t count, PyObject *names) noexcept:
    fa_task_enter()
    cdef PyObject *result = PyObject_Vectorcall(<PyObject *>(<Step>step).function, args, count, names)
    fa_task_leave()
    return result


cdef PyObject *_take_following(PyObject *step, PyObject *const *args, size_t count, PyObject *names) noexcept:
    cdef fa_scope before = fa_present_scope()
    fa_follow_context()
    cdef PyObject *result = PyObject_Vectorcall(<PyObject *>(<Step>step).function, args, count, names)
    fa_switch_scope(before)
    return result


@cython.final
cdef class LoopMethod:
    """LoopMethod(original, before): a method of a loop that is asked to call something, which comes after `before`
    arguments, and then is a step(). By keyword, it stays what it is. Passes for the original."""
    cdef vectorcallfunc call
    cdef object original
    cdef size_t at  # the loop itself comes first
    cdef dict __dict__  # for functools.update_wrapper

    def __cinit__(self, original, size_t before):
        self.original, self.at, self.call = original, 1 + before, _ask

    def __get__(self, instance, owner):
        return self if instance is None else PyMethod_New(self, instance)

    def __getattr__(self, name):
        return getattr(self.original, name)

    def __call__(self, *args, **kwargs):  # never: the slot, and its wrapper, are set below
        raise NotImplementedError

    @property
    def __class__(self):
        return type(self.original)

    def __repr__(self):
        return repr(self.original)


cdef enum:
    MOST = 16  # arguments, as a rule


cdef PyObject *_ask(PyObject *method, PyObject *const *args, size_t count, PyObject *names) noexcept:
    cdef LoopMethod self = <LoopMethod>method
    cdef PyObject *room[MOST]
    cdef PyObject **handed = room
    cdef Py_ssize_t given = PyVectorcall_NARGS(count), number = given + (tuple_size(names) if names != NULL else 0)
    cdef Py_ssize_t at = self.at
    # By keyword, or a mistake, or another tool has put itself around ours, which then is there twice.
    if given <= at or not PyCallable_Check(args[at]) or type(<object>args[at]) is Step:
        return PyObject_Vectorcall(<PyObject *>self.original, args, count, names)
    if number > MOST:
        handed = <PyObject **>PyMem_Malloc(number * sizeof(PyObject *))
    cdef PyObject *step = _step_of(args[at])
    cdef PyObject *result
    if handed != NULL and step != NULL:
        memcpy(handed, args, number * sizeof(PyObject *))
        handed[at] = step
        result = PyObject_Vectorcall(<PyObject *>self.original, handed, given, names)
    else:  # no memory: the callback goes uncounted
        result = PyObject_Vectorcall(<PyObject *>self.original, args, count, names)
    give_back(step)
    if handed != room:
        PyMem_Free(handed)
    return result


cdef PyObject *_step_of(PyObject *function) noexcept:
    try:
        made = _new_step(<object>function, _take_step)
    except MemoryError:
        return NULL
    keep(<PyObject *>made)
    return <PyObject *>made


cdef void _prepare_steps():
    cdef Step step = _new_step(None, NULL)
    cdef LoopMethod method = LoopMethod(None, 0)
    _call_directly(Step, <char *>&step.call - <char *><void *>step, 0)
    _call_directly(LoopMethod, <char *>&method.call - <char *><void *>method, Py_TPFLAGS_METHOD_DESCRIPTOR)


_prepare_steps()
