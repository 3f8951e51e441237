"""The part of the door for scopes: spans, phases and requests."""
from cpython.contextvars cimport PyContextVar_New, PyContextVar_Reset, PyContextVar_Set, get_value
from cpython.dict cimport PyDict_Size
from cpython.ref cimport PyObject

cimport cython


cdef extern from "Python.h":
    PyObject *PyImport_GetModuleDict()  # borrowed


# The running context names the scope it is in: a Scope, or None outside all.
cdef object _scope_variable = PyContextVar_New("fastalloc_scope", <PyObject *>None)


cdef object _NO_NAME = object()


def name_of(name):
    """`name` as text, whatever it is: a foreign __str__ may raise, or return what is no plain text."""
    if type(name) is str:
        return name
    try:
        text = getattr(name, "__qualname__", None)  # of a function or class
        return str.__str__(text if isinstance(text, str) else str(name))
    except Exception:
        return "(name could not be shown)"


@cython.freelist(16)
cdef class Part:
    """What the phases of one name in a request came to, nested ones included. own_bytes: without nested
    ones that have a part of their own."""
    cdef readonly uint64_t entered, duration_ns, count, bytes, own_bytes
    cdef readonly int64_t live_change_bytes


@cython.freelist(16)
cdef class Scope:
    """An open span or phase. Entering and leaving never raise."""
    cdef fa_scope scope  # 0: not open, or nothing is recorded
    cdef readonly Scope request  # the span that `parts` belongs to: itself, one around it, or None
    cdef dict parts  # of a request: Part by name
    cdef uint64_t parts_bytes  # of what has closed inside it and become a part
    cdef int depth
    cdef readonly str name
    cdef Scope outer
    cdef Scope innermost  # of what it holds while it is suspended
    cdef object token
    cdef bint moved  # `outer` is not what the token would go back to
    cdef bint quiet, apart  # of a Phase
    cdef readonly bint named_by_function  # it may be meant as a decorator without parentheses

    def __cinit__(self, name=_NO_NAME, /, *others, **kwargs):
        if name is _NO_NAME or others:
            kind = type(self).__name__
            raise TypeError(f"{kind} takes one name, as in {kind}(\"load\")")
        if type(name) is str:
            self.name = name
        else:
            self.name = name_of(name)
            self.named_by_function = callable(name)

    cdef fa_scope _open(self, fa_scope parent, const char *name, Py_ssize_t size):
        return 0

    def __enter__(self):
        self._enter()
        return self

    def __exit__(self, *exception):
        self._exit()

    cdef int _enter(self) except -1:
        cdef Py_ssize_t size = 0
        cdef const char *name
        self.depth += 1
        if self.depth > 1:
            return 0
        if not fa_is_active():
            fa_watcher_restart()  # a worker that was forked while switched off may be switched on
            return 0
        self._release()
        _watch_switches()
        self.outer = <Scope>get_value(_scope_variable)
        try:
            name = PyUnicode_AsUTF8AndSize(self.name, &size)
        except UnicodeEncodeError:
            name, size = "(not encodable)", 15
        self.scope = self._open(self.outer.scope if self.outer is not None else 0, name, size)
        if self.scope:
            if self.parts is None and self.outer is not None:
                self.request = self.outer if self.outer.parts is not None else self.outer.request
            self.token = PyContextVar_Set(_scope_variable, self)
            fa_switch_scope(self.scope)
        return 0

    cdef int _exit(self) except -1:
        cdef Scope inner
        cdef fa_totals totals
        self.depth -= 1
        if self.depth > 0 or self.token is None:
            return 0
        if <Scope>get_value(_scope_variable) is not self:
            inner = self._next_inside()
            if inner is not None:  # it is left before what was opened in it: that is open still
                inner.outer, inner.moved = self.outer, True
        elif self.moved:
            PyContextVar_Set(_scope_variable, self.outer)
        else:
            try:
                PyContextVar_Reset(_scope_variable, self.token)
            except (ValueError, RuntimeError):  # left in another context than entered (generators)
                PyContextVar_Set(_scope_variable, self.outer)
        self.moved = False
        self.token = None
        cdef Scope outer = self.outer
        self.outer = None
        inner = <Scope>get_value(_scope_variable)
        fa_scope_close(self.scope, inner.scope if inner is not None else 0, &totals)
        if self.request is not None:
            if not (self.quiet or self.apart):
                self._add_to_request(outer, &totals)
            self.request = None
        return 0

    cdef Scope _next_inside(self):
        """The scope of the running context that was opened in this one; None if there is none."""
        cdef Scope scope = <Scope>get_value(_scope_variable)
        cdef int steps
        for steps in range(1000):  # more than ever nest
            if scope is None or scope.outer is self:
                return scope
            scope = scope.outer
        return None

    cdef int _add_to_request(self, Scope outer, const fa_totals *totals) except -1:
        cdef dict parts = self.request.parts
        cdef Part part = <Part>parts.get(self.name)
        if part is None:
            if len(parts) >= 64:
                return 0
            part = parts[self.name] = Part.__new__(Part)
        part.entered += 1
        part.duration_ns += totals.duration_ns
        part.count += totals.count
        part.bytes += totals.bytes
        part.own_bytes += totals.bytes - min(self.parts_bytes, totals.bytes)
        self.parts_bytes = 0
        while outer is not None and outer.quiet:
            outer = outer.outer
        if outer is not None:
            outer.parts_bytes += totals.bytes
        part.live_change_bytes += totals.live_change_bytes
        return 0

    def totals(self):
        """(duration_ns, count, bytes, live_change_bytes, held_bytes, peak_bytes) so far; of a closed
        one: at its end. Zeros where it is not recorded."""
        cdef fa_totals totals
        fa_scope_totals(self.scope, &totals)
        return (totals.duration_ns, totals.count, totals.bytes, totals.live_change_bytes,
                totals.held_bytes, totals.peak_bytes)

    def record_closely(self, uint32_t interval_bytes):
        """Take samples so many bytes apart in this open scope and what opens inside it."""
        fa_scope_record_closely(self.scope, interval_bytes)

    def suspend(self):
        """Leave the open scope for a while: a generator yields. Then resume()."""
        cdef Scope innermost
        if self.token is not None:
            innermost = <Scope>get_value(_scope_variable)
            if innermost is not self and self._next_inside() is not None:
                self.innermost = innermost
            PyContextVar_Set(_scope_variable, self.outer)
            fa_switch_scope(self.outer.scope if self.outer is not None else 0)

    def resume(self):
        """Go on in the suspended scope, below the scope that is running now, with what is open in it."""
        cdef Scope innermost
        if self.token is not None:
            innermost = self.innermost if self.innermost is not None else self
            self.innermost = None
            self.outer = <Scope>get_value(_scope_variable)
            self.token = PyContextVar_Set(_scope_variable, innermost)
            self.moved = innermost is not self
            fa_switch_scope(innermost.scope)

    cdef void _release(self):
        if self.scope:
            fa_scope_release(self.scope)
            self.scope = 0

    def __dealloc__(self):
        self._release()


cpdef Scope current_request():
    """The request that runs in this context: the innermost Span that was made one. None outside."""
    cdef Scope scope = <Scope>get_value(_scope_variable)
    if scope is None or scope.parts is not None:
        return scope
    return scope.request


cdef class Span(Scope):
    """See fastalloc.span."""
    cdef readonly dict attributes

    def __cinit__(self, name=_NO_NAME, /, **attributes):
        self.attributes = attributes

    @property
    def id(self):
        """Number of this span in this process, from 1; 0 when it is not being recorded."""
        return fa_scope_span_id(self.scope)

    def gather(self):
        """Make this span a request: what closes inside it is added up in the dict that is returned,
        a Part by name, 64 of them at most. To be called before it is entered."""
        self.parts = {}
        return self.parts

    def rename(self, name):
        """Give the span its final name (a route known only later). What it has counted so far, and its
        phases, goes along; records of phases that have ended keep the name. Costs about 1 us."""
        self._name(name)

    cdef int _name(self, name) except -1:
        cdef Py_ssize_t size = 0
        cdef const char *text
        self.name = name_of(name)
        try:
            text = PyUnicode_AsUTF8AndSize(self.name, &size)
        except UnicodeEncodeError:
            return 0
        fa_scope_rename(self.scope, text, size)
        return 0

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
    """See fastalloc.phase. quiet: without a record at its end, and no part of the request's. apart:
    it counts for itself alone, not for the span, request and phase around it."""

    def __cinit__(self, name=_NO_NAME, /, *, bint quiet=False, bint apart=False):
        self.quiet, self.apart = quiet, apart

    cdef fa_scope _open(self, fa_scope parent, const char *name, Py_ssize_t size):
        return fa_phase_open(0 if self.apart else parent, name, size, self.quiet)


cdef void _tell_scopes_to_core():
    cdef Scope example = Scope("")
    fa_watch_scopes(<void *>Scope, <char *>&example.scope - <char *><void *>example,
                    <void *>_scope_variable, hash(_scope_variable))


_tell_scopes_to_core()


# What watches for what switches contexts. Asked before a scope opens: until it says that nothing is left to watch
# for (True), and while it says that all which is imported is watched (False) only after more was imported.
cdef object _watcher = None
cdef Py_ssize_t _modules_seen = -1


cdef void _watch_switches():
    global _watcher, _modules_seen
    if _watcher is None:
        return
    cdef Py_ssize_t modules = PyDict_Size(<object>PyImport_GetModuleDict())
    if modules == _modules_seen:
        return
    try:
        answer = _watcher()
        _modules_seen = modules if answer is False else -1
        if answer is True:
            _watcher = None
    except Exception:
        _watcher = None


def set_switch_watcher(watcher):
    """`watcher()` is called before scopes open. It says True: no more; False: not before another module is imported;
    None: again before the next."""
    global _watcher, _modules_seen
    _watcher = watcher
    _modules_seen = -1


def checkpoint(name):
    """See fastalloc.checkpoint."""
    cdef Py_ssize_t size = 0
    cdef const char *text
    if fa_is_active():
        try:
            name = name_of(name)
            text = PyUnicode_AsUTF8AndSize(name, &size)
        except UnicodeEncodeError:
            text, size = "(not encodable)", 15
        fa_checkpoint(text, size)


def set_process_phase(str name):
    """What runs outside all spans counts for this phase from here on."""
    cdef bytes text = name.encode()
    fa_set_process_phase(text, len(text))


def set_thread_name(uint32_t tid, str name):
    """Name the thread with this kernel id in all samples it takes from here on."""
    cdef bytes text = name.encode("utf-8", "replace")
    fa_set_thread_name(tid, text, len(text))
