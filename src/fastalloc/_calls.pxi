"""The part of the door for what passes for a function and is called without a tuple of arguments being made."""

cimport cython

cdef extern from "Python.h":
    ctypedef PyObject *(*vectorcallfunc)(PyObject *, PyObject *const *, size_t, PyObject *) noexcept
    ctypedef PyObject *(*ternaryfunc)(PyObject *, PyObject *, PyObject *) noexcept
    ctypedef struct callable_type "PyTypeObject":
        ternaryfunc tp_call
        Py_ssize_t tp_vectorcall_offset
        unsigned long tp_flags
    unsigned long Py_TPFLAGS_HAVE_VECTORCALL
    unsigned long Py_TPFLAGS_METHOD_DESCRIPTOR
    # All without `except`: an error passes through as it is, and no frame of ours is put into its traceback.
    PyObject *PyObject_Vectorcall(PyObject *function, PyObject *const *args, size_t count, PyObject *names) noexcept
    PyObject *PyObject_CallOneArg(PyObject *function, PyObject *argument) noexcept
    PyObject *PyVectorcall_Call(PyObject *function, PyObject *args, PyObject *kwargs) noexcept
    Py_ssize_t PyVectorcall_NARGS(size_t count) noexcept
    object PyMethod_New(object function, object instance)
    ctypedef struct slot_wrapper "PyWrapperDescrObject":
        void *d_wrapped
    void PyType_Modified(callable_type *kind)


cdef void _call_directly(kind, Py_ssize_t offset, unsigned long flags):
    """A class of ours keeps a vectorcallfunc at `offset`: all calls of its objects go there. It has to have a
    __call__, which is never called."""
    cdef callable_type *type = <callable_type *><PyObject *>kind
    type.tp_call = PyVectorcall_Call
    type.tp_vectorcall_offset = offset
    type.tp_flags |= Py_TPFLAGS_HAVE_VECTORCALL | flags
    cdef object wrapper = kind.__dict__["__call__"]
    if wrapper.__class__.__name__ != "wrapper_descriptor":  # of another shape
        raise TypeError(f"{kind.__name__}.__call__ is no slot's")
    (<slot_wrapper *><PyObject *>wrapper).d_wrapped = <void *>PyVectorcall_Call
    PyType_Modified(type)
