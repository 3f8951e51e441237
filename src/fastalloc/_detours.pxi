"""The part of the door for what trackers put around a framework's functions: compiled, since a program passes here
in each of its queries, and nearly always in a request that nobody looks at closely.

    caller --> Detour --+-- a request is looked at ----> detailed (Python: sections, counts) --> original
                        +-- none: the same arguments, untouched ---------------------------> original
"""

cdef extern from "Python.h":
    int Py_EnterRecursiveCall(const char *where) noexcept
    void Py_LeaveRecursiveCall()
    void PyErr_SetObject(object kind, object error)


cdef set _works = set()


def set_works(set works):
    """The works of all requests that are looked at: as its owner writes it, from here on. A request's own is its
    `work`."""
    global _works
    _works = works


cpdef current_work():
    """What trackers keep of the request that runs in this context, None where it is not looked at. Raises nothing but
    what stops the program (an interrupt, while a route is asked for). 0.05 us where it is not.

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
        return request.work if request._is_detailed() else None
    except Exception:
        return None


@cython.final
cdef class Detour:
    """Detour(original, detailed, anywhere=False): calls `detailed` while the request of the running context is
    looked at closely, with `anywhere` while any request of the process is; else `original`. 0.1 us.

    Passes for a function: a method where it is a class's attribute, of the original's class, and whatever it is asked
    for and has not the original has. Each call takes some of the C stack, as any from C does.
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

    def __call__(self, *args, **kwargs):  # never: the slot, and its wrapper, are set below
        raise NotImplementedError

    @property
    def __class__(self):
        return type(self.original)  # so isinstance and inspect.isfunction take it for one

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
        _hide_frames(error)
        PyErr_SetObject(type(error), error)
        return NULL
    if Py_EnterRecursiveCall(""):
        return NULL
    cdef PyObject *result = PyObject_Vectorcall(
        <PyObject *>(self.detailed if looked_at else self.original), args, count, names)
    Py_LeaveRecursiveCall()
    return result


cdef void _hide_frames(error):
    from fastalloc.tracebacks import hide_frames

    hide_frames(error)


cdef void _prepare_detours():
    cdef Detour example = Detour(None, None)
    _call_directly(Detour, <char *>&example.call - <char *><void *>example, Py_TPFLAGS_METHOD_DESCRIPTOR)


_prepare_detours()
