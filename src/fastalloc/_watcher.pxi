# --- the watcher's thread -------------------------------------------------------------------

REASONS = ("timer", "control", "dump", "warned", "tripped", "rearm", "resident", "native")  # by bit
cdef object _work = None


cdef uint64_t _do_work(uint32_t reasons) noexcept with gil:
    try:
        seconds = _work(reasons)
        return UINT64_MAX if seconds < 0 else <uint64_t>(min(seconds, 1e9) * 1e9)
    except BaseException:  # not the thread's to end the program
        return UINT64_MAX


def set_work(work):
    """Let the watcher call `work(reasons)`, a bit for each of REASONS; it returns in how many seconds
    it wants to be called again, -1: not by the clock."""
    global _work
    _work = work
    fa_set_work(_do_work)


def work_due(double seconds):
    """Have `work` called in that time at the latest."""
    fa_work_due(<uint64_t>(max(seconds, 0.0) * 1e9))


def watcher_join(double seconds):
    """End the watcher, without the GIL, when its work ends within that time. False: it did not."""
    cdef uint64_t wait_ns = <uint64_t>(max(seconds, 0.0) * 1e9)
    cdef bint gone
    with nogil:
        gone = fa_watcher_join(wait_ns)
    return gone


def watcher_restart():
    """After a fork, begin to watch again. False: it is too early, ask again."""
    return fa_watcher_restart() != 0


def watcher_restart_soon():
    """In a forked child: begin to watch as soon as the fork is through."""
    fa_watcher_restart_soon()
