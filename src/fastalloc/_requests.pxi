"""The part of the door for requests: what is done in every one of them, and so is compiled.

A request passes here once, with caches that its own work has filled: each bytecode of ours then costs some
30 ns, ten times what a loop in a benchmark shows. What only few requests need is Python's, in requests/.
"""


cdef uint64_t _growing_bytes = UINT64_MAX


def set_growing_bytes(uint64_t size):
    """From how many bytes of its own a running request asks whether to be looked at closely."""
    global _growing_bytes
    _growing_bytes = size


cdef class RequestSpan(Span):
    """A span with phases of its own, one after the other. See fastalloc.requests.Request, which adds what is
    done where a request is looked at closely: _look, _mark and _finish."""
    cdef public str kind, error, chosen
    cdef public object status
    cdef public bint ended
    cdef public list checkpoints
    cdef public dict phases, digests
    cdef public str _forced_route
    cdef public bint _named, _recorded
    cdef public object _route_of
    cdef Phase _phase

    def __cinit__(self, name, /, **attributes):
        self.kind = self.error = self.chosen = self._forced_route = ""
        self.status = 0
        self.checkpoints = []
        self.digests = {}

    def open(self, str kind, bint named, route_of):
        """Begin; whether it is recorded."""
        self.kind = kind
        self._named = named
        self._route_of = route_of
        self._recorded = fa_is_active()
        if not self._recorded:
            self.phases = {}
            return False
        self.phases = self.gather()
        self.__enter__()
        return True

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
        cdef fa_totals totals
        if self.chosen:
            return True
        if not self._recorded:
            return False
        if self._route_of is None:
            fa_scope_totals(self.scope, &totals)
            if totals.held_bytes < _growing_bytes:
                return False
        return bool(self._look())

    def enter(self, str name):
        """Go on in the phase `name` of the request; the one before is left. Where it is looked at in
        detail, with a checkpoint."""
        if self._phase is not None:
            self.leave()
        if self._recorded and not self.ended:
            if self._is_detailed():
                self._mark(name)
            self._phase = Phase(name)
            self._phase.__enter__()

    def leave(self):
        """Leave the phase that `enter` entered last."""
        cdef Phase left = self._phase
        self._phase = None
        if left is not None:
            left.__exit__(None, None, None)

    def end(self, error=None):
        """The work is done, or `error` has ended it: leave phase and span. Does nothing the second
        time."""
        if self.ended:
            return
        if error is not None:
            self.error = type(error).__name__
        self.leave()
        if self.chosen:
            self._mark("end")
        self.ended = True
        if self._recorded:
            self.__exit__(None, None, None)
            self._finish()


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

    def add(self, RequestSpan request, bint is_error):
        """One more request, which has ended. Gives the most that its own blocks held, in bytes."""
        cdef fa_totals totals
        fa_scope_totals(request.scope, &totals)
        cdef double ms = totals.duration_ns / 1e6, mib = totals.bytes / 1048576.0
        cdef uint64_t rest = totals.bytes
        cdef int width = 0
        self.count += 1
        self.errors += is_error
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
