"""The part of the door for what trackers put around a framework's functions: compiled, since a program passes here
in each of its queries, and nearly always in a request that nobody looks at closely.

    caller --> Detour --+-- a request is looked at ----> detailed (Python: sections, counts) --> original
                        +-- none: the same arguments, untouched ---------------------------> original
"""

cdef extern from "Python.h":
    ctypedef PyObject *(*vectorcallfunc)(PyObject *, PyObject *const *, size_t, PyObject *) noexcept
    ctypedef PyObject *(*ternaryfunc)(PyObject *, PyObject *, PyObject *) noexcept
    ctypedef struct detour_type "PyTypeObject":
        ternaryfunc tp_call
        Py_ssize_t tp_vectorcall_offset
        unsigned long tp_flags
    unsigned long Py_TPFLAGS_HAVE_VECTORCALL
    unsigned long Py_TPFLAGS_METHOD_DESCRIPTOR
    # Both without `except`: an error passes through as it is, and no frame of this file is put into its traceback.
    PyObject *PyObject_Vectorcall(PyObject *function, PyObject *const *args, size_t count, PyObject *names) noexcept
    PyObject *PyVectorcall_Call(PyObject *function, PyObject *args, PyObject *kwargs) noexcept
    object PyMethod_New(object function, object instance)
    void PyErr_SetObject(object kind, object error)
    void PyType_Modified(object kind)


cdef dict _works = {}  # id of a request: what trackers keep of it


def set_works(dict works):
    """What trackers keep of the requests that are looked at, by the id of each: as its owner writes it, from here
    on."""
    global _works
    _works = works


cpdef current_work():
    """What trackers keep of the request that runs in this context, None where it is not looked at. Never raises.
    0.05 us where it is not.

    Whether a request shall be looked at after all is asked each time while its size alone decides. While its name
    is not known, the first time and every eighth after that: its router has to be asked, which costs more.
    """
    cdef Scope scope
    cdef RequestSpan request
    try:
        scope = <Scope>current_request()
        if scope is None or not isinstance(scope, RequestSpan):
            return None
        request = <RequestSpan>scope
        if request.ended:
            return None
        if request._route_of is not None and request.chosen == "":
            request._asked += 1
            if request._asked % 8 != 1:
                return None
        return _works.get(id(request)) if request._is_detailed() else None
    except Exception:
        return None


cdef class Detour:
    """Detour(original, detailed, anywhere=False): calls `detailed` while the request of the running context is
    looked at closely, with `anywhere` while any request of the process is; else `original`. 0.1 us.

    A method where it is a class's attribute, as a function is; what it is asked for beyond that, the original has.
    """
    cdef vectorcallfunc call
    cdef object original, detailed
    cdef bint anywhere
    cdef dict __dict__  # __wrapped__, and what else functools.wraps takes over
    cdef object __weakref__

    def __cinit__(self, original, detailed, bint anywhere=False):
        self.original, self.detailed, self.anywhere = original, detailed, anywhere
        self.call = _take

    def __get__(self, instance, owner):
        return self if instance is None else PyMethod_New(self, instance)

    def __getattr__(self, name):
        return getattr(self.original, name)

    def __call__(self, *args, **kwargs):  # replaced below
        raise NotImplementedError

    def __repr__(self):
        return repr(self.original)

    def __reduce__(self):
        return self.__qualname__  # found again by its name, as a function is


cdef PyObject *_take(PyObject *detour, PyObject *const *args, size_t count, PyObject *names) noexcept:
    cdef Detour self = <Detour>detour
    cdef bint looked_at
    try:
        looked_at = len(_works) != 0 if self.anywhere else current_work() is not None
    except BaseException as error:  # an interrupt, while a route was asked for
        PyErr_SetObject(type(error), error)
        return NULL
    return PyObject_Vectorcall(<PyObject *>(self.detailed if looked_at else self.original), args, count, names)


cdef void _prepare_detours():
    cdef Detour example = Detour(None, None)
    cdef detour_type *kind = <detour_type *>Detour
    kind.tp_call = PyVectorcall_Call
    kind.tp_vectorcall_offset = <char *>&example.call - <char *><void *>example
    kind.tp_flags |= Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_METHOD_DESCRIPTOR
    PyType_Modified(Detour)


_prepare_detours()
