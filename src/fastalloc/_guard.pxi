# --- the guard --------------------------------------------------------------------------------

GUARD_STATES = ("off", "armed", "warned", "tripped")


cdef uint32_t _guard_config(fa_limit *found, fa_config *config, list limits, dict guard) except? 99:
    """Fill in what the guard needs; how many limits there are. The paths belong to `limits`."""
    cdef uint32_t count = 0
    for limit_bytes, kind, usage_path, path in limits[:FA_LIMITS]:
        found[count].bytes = limit_bytes
        found[count].kind = kind
        found[count].usage_path = usage_path
        found[count].path = path
        count += 1
    config.summary_percent = guard["summary_percent"]
    config.guard_percent = guard["guard_percent"]
    config.guard_rearm_percent = guard["guard_rearm_percent"]
    config.guard_cooldown_ns = <uint64_t>guard["guard_cooldown_seconds"] * 1000000000
    config.standby_light_percent = guard["standby_light_percent"]
    config.standby_aggressive_percent = guard["standby_aggressive_percent"]
    return count


def guard_stop_tracking():
    """After a trip: no samples and no object hooks, until the guard is armed again."""
    fa_guard_stop_tracking()


def guard_rearm():
    """Arm the guard again; tracking goes on as before."""
    fa_guard_rearm()


def guard_has_stopped():
    """Whether the guard has stopped tracking."""
    return fa_guard_has_stopped() != 0


cdef list _usages():
    """(usage, limit, 0: none at present) for each; both 0 where another thread reads just now."""
    cdef uint64_t used[FA_LIMITS]
    cdef uint64_t limits[FA_LIMITS]
    cdef uint32_t count = fa_guard_usages(used, limits)
    return [(used[i], limits[i]) for i in range(count)]


def guard_trip():
    """The last trip: usage, size of the allocation that was to be made (0: none in particular), and the
    innermost frame of the thread that made it ("" if not known)."""
    cdef char frame[600]
    cdef size_t length = fa_guard_frame(frame, sizeof(frame))
    cdef const fa_header *header = fa_get_header()
    return header.guard_usage_bytes, header.guard_size, frame[:length].decode("utf-8", "replace")
