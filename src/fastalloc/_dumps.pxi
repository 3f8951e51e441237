"""The part of the door for dumps: what they are made of, and their writing. One at a time: dumps/ sees to that."""
from cpython.ref cimport Py_DECREF

cdef object _module_of = type.__dict__["__module__"].__get__
cdef object _name_of = type.__dict__["__qualname__"].__get__


cdef str _string(uint32_t id):
    cdef size_t size = 0
    cdef const char *text = fa_string(id, &size)
    return text[:size].decode("utf-8", "replace")


def dump_reserve(size_t touched, size_t most):
    """Reserve memory for dumps: `most` bytes of text, the first `touched` of them there at once. OSError."""
    _check(fa_dump_reserve(touched, most))


def dump_begin(size_t limit):
    """Begin a dump's text, of `limit` bytes at most; how many it may have."""
    return fa_dump_begin(limit)


def dump_text(str text, size_t spare):
    """Add to the text. False: there is no room for it and `spare` bytes more."""
    cdef Py_ssize_t size = 0
    cdef const char *utf8 = PyUnicode_AsUTF8AndSize(text, &size)
    return fa_dump_text(utf8, size, spare) != 0


def dump_position():
    """Bytes of the text so far."""
    return fa_dump_position()


def dump_rewind(size_t position):
    """Cut the text to a former position."""
    fa_dump_rewind(position)


def dump_write(uint64_t instant_ms, uint64_t headroom):
    """Write the recording's copy and the text as dump-<pid>-<instant>. Its path. OSError, RuntimeError."""
    cdef char path[1400]
    cdef fa_status status
    cdef int error
    with nogil:
        status = fa_dump_write(instant_ms, headroom, path, sizeof(path))
        error = errno
    if status == FA_ERROR_SYSTEM:
        raise OSError(error, f"{os.strerror(error)}, {fa_error_step().decode()}")
    _check(status)
    return os.fsdecode(<bytes>path)


def dump_signal(int number):
    """Have a signal ask for a dump. OSError."""
    cdef fa_status status = fa_dump_signal(number)
    if status == FA_ERROR_SYSTEM:
        raise OSError(errno, os.strerror(errno))


def dump_signals():
    """How often that signal has come since the last call."""
    return fa_dump_signals()


def header():
    """The recording's header, as plain values: what state() leaves out. Empty before the first start."""
    cdef const fa_header *header = fa_get_header()
    if header == NULL:
        return {}
    return {
        "now_ns": fa_now_ns(),
        "start_time_ns": header.start_time_ns,
        "python_version": header.python_version,
        "max_frames": header.max_frames,
        "layout_version": header.layout_version,
        "high_water_bytes": header.high_water_bytes,
        "high_water_ns": header.high_water_ns,
        "freed": header.freed,
        "own_cpu_ns": header.own_cpu_ns,
        "guard_state": header.guard_state,
        "guard_trips": header.guard_trips,
        "guard_percent": header.guard_percent,
        "summary_percent": header.summary_percent,
        "guard_ns": header.guard_ns,
        "guard_usage_bytes": header.guard_usage_bytes,
        "guard_size": header.guard_size,
        "dumps": header.dumps,
        "forked_ns": header.forked_ns,
        "losses": [header.losses[i] for i in range(FA_LOSS_COUNT)],
    }


def headroom():
    """Bytes until the memory limit, to a hundredth of it; -1: no limit is known. About 10 us."""
    return fa_headroom()


def open_spans():
    """Yields how many spans are open beyond those told, then those that hold most memory, as dicts."""
    cdef const fa_span *spans = NULL
    cdef size_t more = 0
    cdef size_t count = fa_open_spans(&spans, &more)
    cdef uint64_t now = fa_now_ns()
    cdef size_t i
    yield more
    for i in range(count):
        yield {
            "id": spans[i].id,
            "parent_id": spans[i].parent_id,
            "name": _string(spans[i].name),
            "attributes": (<bytes>spans[i].attributes).decode("utf-8", "replace"),
            "thread": _string(fa_thread_name_string(spans[i].thread_name)),
            "tid": spans[i].tid,
            "seconds": (now - spans[i].start_ns) / 1e9 if now > spans[i].start_ns else 0.0,
            "count": spans[i].count,
            "bytes": spans[i].bytes,
            "live_bytes": spans[i].held.live_bytes,
        }


def checkpoints():
    """Yields the last checkpoints, the newest last, as dicts."""
    cdef const fa_record *records = NULL
    cdef size_t count = fa_checkpoints(&records)
    cdef size_t i
    for i in range(count):
        yield {
            "time_ns": records[i].time_ns,
            "name": _string(records[i].name),
            "span_id": records[i].span_id,
            "span": _string(records[i].span_name),
            "thread": _string(fa_thread_name_string(records[i].thread_name)),
            "bytes": records[i].bytes,
            "live_bytes": records[i].live_bytes,
            "live_change_bytes": records[i].live_change_bytes,
            "rss_bytes": records[i].rss_bytes,
        }


def running_threads():
    """What each thread counts for now: kernel's id -> (span's id, phase's name)."""
    cdef uint32_t index = 0, tid = 0, phase = 0
    cdef uint64_t span_id = 0
    found = {}
    while True:
        index = fa_next_thread(index, &tid, &span_id, &phase)
        if not index:
            return found
        found[tid] = (span_id, _string(phase))


def span_of(context):
    """The number of the span that a Context is in; 0: none."""
    cdef object scope = context.get(_scope_variable)
    return fa_scope_span_id((<Scope>scope).scope) if isinstance(scope, Scope) else 0


def counting_writes():
    """Whether count_objects writes to the objects: in a forked child that copies the pages it shares."""
    return fa_counting_writes() != 0


def count_objects(tuple wanted, double seconds, size_t most):
    """Count the objects that the garbage collector knows, by type: (rows of (type, count), the `most`
    frequent first; all seen; whether all were seen; up to 256 objects of the types `wanted`).
    None: this interpreter does not show them."""
    cdef fa_object_counts counts
    cdef void *types[4]
    cdef uint64_t count = 0
    cdef void *found
    cdef size_t wanted_count = min(len(wanted), 4)
    for i in range(wanted_count):
        types[i] = <void *>wanted[i]
    if not fa_count_objects(types, wanted_count, <uint64_t>(seconds * 1e9), &counts):
        return None
    rows, kept = [], []
    while len(rows) < most:
        found = fa_most_frequent_type(&count)
        if found == NULL:
            break
        kind = <object>found
        Py_DECREF(kind)
        module = _module_of(kind)
        rows.append((f"{module}.{_name_of(kind)}" if type(module) is str else _name_of(kind), count))
    fa_forget_types()
    for i in range(counts.kept):
        kept.append(<object>counts.objects[i])
        Py_DECREF(kept[i])
    return rows, counts.seen, bool(counts.complete), kept


# --- resident memory ------------------------------------------------------------------------

def look_at_resident():
    """Note in the recording what resident memory consists of now; the same as a dict, None for what cannot
    be told. Fields as in struct fa_resident. resident.h says what it costs."""
    cdef fa_look look
    with nogil:
        fa_look_begin(&look)
    fa_look_at_arenas(&look)
    with nogil:
        fa_look_end(&look)
    return {name: None if value == UINT64_MAX else value for name, value in (<dict>look.found).items()}
