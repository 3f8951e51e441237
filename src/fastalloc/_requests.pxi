"""The part of the door for requests: what is done in every one of them, and so is compiled.

A request passes here once, with caches that its own work has filled: each bytecode of ours then costs some
30 ns, ten times what a loop in a benchmark shows. What only few requests need is Python's, in requests/.
"""

from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec


cdef uint64_t _growing_bytes = UINT64_MAX, _large_bytes = 0


def set_sizes(uint64_t growing_bytes, uint64_t large_bytes):
    """From how many bytes of its own a running request asks whether to be looked at closely, and one that
    has ended whether to be kept."""
    global _growing_bytes, _large_bytes
    _growing_bytes, _large_bytes = growing_bytes, large_bytes


# What most requests need of the choice of requests and of the sums of their routes, so that Python is asked only
# where there is something to decide.
cdef int64_t _lot_left = -1  # requests before the next one that is chosen by lot; -1: not drawn yet
cdef dict _looks_due = {}  # route: when one is to be looked at, by time.monotonic()
cdef dict _totals_of = {}  # route: RouteTotals
cdef bint _all_are_told = True
cdef bint _takes_tokens = False


def options_changed(bint takes_tokens):
    """What is said of requests may be other now: who is chosen by lot is drawn anew."""
    global _lot_left, _takes_tokens
    _lot_left = -1
    _takes_tokens = takes_tokens


def takes_tokens():
    """Whether a token may force a closer look: else none need be looked for. 0.05 us."""
    return _takes_tokens


def set_looks_due(dict due):
    """When a request of a route is to be looked at, by time.monotonic(): as its owner writes it, from here on."""
    global _looks_due
    _looks_due = due


def set_route_totals(dict totals, bint all_are_told):
    """The RouteTotals of each route: as its owner writes it, from here on. all_are_told: call _finish at the
    end of every request, not only of those that are chosen, large, or the first of their route."""
    global _totals_of, _all_are_told
    _totals_of, _all_are_told = totals, all_are_told


cdef bint _a_look_is_due(str route) except -1:
    cdef timespec now
    due = _looks_due.get(route)
    if due is None:
        return True
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec + now.tv_nsec * 1e-9 >= <double>due


cdef class RequestSpan(Span):
    """A span with phases of its own, one after the other. See fastalloc.requests.Request, which adds what is
    to be done only for few: _draw, _begin, _look, _choose_for_route, _mark, _finish and _keep."""
    cdef public str kind, error, chosen
    cdef public object status
    cdef public bint ended
    cdef public list checkpoints
    cdef public dict phases, digests
    cdef public object work  # what trackers keep of it, while they look at it
    cdef public str _forced_route
    cdef public bint _named, _recorded
    cdef public object _route_of  # a callable that tells its route, or a Sending
    cdef Phase _phase
    cdef uint32_t _asked  # how often a tracker has wanted to know whether to look at it

    def __cinit__(self, name, /, **attributes):
        self.kind = self.error = self.chosen = self._forced_route = ""
        self.status = 0
        self.checkpoints = []
        self.digests = {}

    def open(self, str kind, bint named, route_of, token):
        """Begin, and choose whether to look at it closely."""
        self._start(kind, named, route_of, token)

    cdef int _start(self, str kind, bint named, route_of, token) except -1:
        self.kind = kind
        self._named = named
        self._route_of = route_of
        self._recorded = fa_is_active()
        if not self._recorded:
            self.phases = {}
            return 0
        self.phases = self.parts = {}
        self._enter()
        cdef uint32_t mode = fa_get_header().mode
        cdef bint drawn = mode == FA_MODE_LIGHT and self._is_drawn()
        if token or drawn or mode > FA_MODE_LIGHT or (named and _a_look_is_due(self.name)):
            self._begin(token, drawn)
        return 0

    cdef bint _is_drawn(self) except -1:
        """Whether it is the one that is chosen by lot."""
        global _lot_left
        if _lot_left < 0:
            _lot_left = self._draw()
        _lot_left -= 1
        return _lot_left < 0

    def rename(self, name):
        """Give the request its final name, the route being known now. Whether to look at one of this
        route is decided here, for each name once."""
        self._rename(name)

    cdef int _rename(self, name) except -1:
        cdef bint known = self._named
        self._route_of = None
        self._named = True
        if name != self.name:
            self._name(name)
        elif known:
            return 0
        if self._recorded and not self.chosen and (self._forced_route or _a_look_is_due(self.name)):
            self._choose_for_route()
        return 0

    def _route(self):
        """Its name by the route that it has taken; None while that is not known."""
        if isinstance(self._route_of, Sending):
            return (<Sending>self._route_of).route()
        return self._route_of() if self._route_of is not None else None

    @property
    def phase(self):
        """The phase that was entered last and not left, or ""."""
        return self._phase.name if self._phase is not None else ""

    @property
    def detailed(self):
        """Whether trackers shall look at it closely. May become true while it runs: once its route is
        known, or once it has grown large. Costs 0.1 us."""
        return self._is_detailed()

    cdef bint _is_detailed(self) except -1:
        if self.chosen != "":
            return True
        if not self._recorded:
            return False
        if self._route_of is None or isinstance(self._route_of, Sending) and (<Sending>self._route_of).route() is None:
            if fa_scope_held_bytes(self.scope) < _growing_bytes:
                return False
        return bool(self._look())

    def enter(self, str name):
        """Go on in the phase `name` of the request; the one before is left. Where it is looked at in
        detail, with a checkpoint."""
        self._go_on(name)

    cdef int _go_on(self, str name) except -1:
        self._leave()
        if self._recorded and not self.ended:
            if self._is_detailed():
                self._mark(name)
            self._enter_phase(name)
        return 0

    cdef int _enter_phase(self, str name) except -1:
        self._phase = Phase.__new__(Phase, name)
        self._phase._enter()
        return 0

    def leave(self):
        """Leave the phase that `enter` entered last."""
        self._leave()

    cdef int _leave(self) except -1:
        cdef Phase left = self._phase
        self._phase = None
        if left is not None:
            left._exit()
        return 0

    def end(self, error=None):
        """The work is done, or `error` has ended it: leave phase and span. Does nothing the second
        time."""
        self._end(error)

    cdef int _end(self, error) except -1:
        cdef RouteTotals totals
        if self.ended:
            return 0
        if error is not None:
            self.error = type(error).__name__
        self._leave()
        if self.chosen:
            self._mark("end")
        self.ended = True
        if self._recorded:
            self._exit()
            totals = <RouteTotals>_totals_of.get(self.name)
            if totals is None or self.chosen or _all_are_told:
                self._finish()
            elif totals.add(self) >= _large_bytes:
                self._keep()
        return 0

    @property
    def is_error(self):
        """Whether it ended with an exception, or with a status that says that it failed."""
        if isinstance(self.status, int):
            return self.error != "" or 500 <= self.status < 600
        return self.error != "" or self.status in ("FAILURE", "failed")


cdef class RouteTotals:
    """What the requests of one route came to. Sums of squares are of MiB and of ms, or they would not fit a
    double's 53 bits."""
    cdef readonly uint64_t count, errors
    cdef uint64_t bytes, bytes_max, peak_bytes_max
    cdef uint64_t bytes_log2[65]
    cdef int64_t held_bytes
    cdef double ms, ms_max, ms_squared, mib_squared

    def __cinit__(self):
        memset(self.bytes_log2, 0, sizeof(self.bytes_log2))

    cpdef uint64_t add(self, RequestSpan request) except? 0:
        """One more request, which has ended. Gives the most that its own blocks held, in bytes."""
        cdef fa_totals totals
        fa_scope_totals(request.scope, &totals)
        cdef double ms = totals.duration_ns / 1e6, mib = totals.bytes / 1048576.0
        cdef uint64_t rest = totals.bytes
        cdef int width = 0
        self.count += 1
        self.errors += bool(request.is_error)
        self.bytes += totals.bytes
        self.held_bytes += totals.held_bytes
        self.ms += ms
        self.ms_squared += ms * ms
        self.mib_squared += mib * mib
        self.ms_max = max(self.ms_max, ms)
        self.bytes_max = max(self.bytes_max, totals.bytes)
        self.peak_bytes_max = max(self.peak_bytes_max, <uint64_t>totals.peak_bytes)
        while rest:
            rest >>= 1
            width += 1
        self.bytes_log2[width] += 1
        return totals.peak_bytes

    def to_dict(self):
        """Fit for JSON. bytes_log2: requests by the bits that their bytes need."""
        return {
            "count": self.count,
            "errors": self.errors,
            "bytes": self.bytes,
            "bytes_max": self.bytes_max,
            "mib_squared": round(self.mib_squared, 6),
            "bytes_log2": {str(width): self.bytes_log2[width] for width in range(65) if self.bytes_log2[width]},
            "held_bytes": self.held_bytes,
            "peak_bytes_max": self.peak_bytes_max,
            "ms": round(self.ms, 3),
            "ms_max": round(self.ms_max, 3),
            "ms_squared": round(self.ms_squared, 3),
        }
