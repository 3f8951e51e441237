"""The part of the door for what a stretch of code allocates, for trackers."""


cdef class Meter:
    """What the calling thread allocates between begin() and end(), added up over any number of such
    pairs (`times`), each in one thread. Exact, allocates nothing itself, and costs well under 0.1 us a call; but
    what else the thread runs in between (other tasks, greenlets) counts too, so use a phase where it
    may switch."""
    cdef uint64_t count_before, bytes_before
    cdef readonly uint64_t count, bytes, times

    def begin(self):
        """Count from here."""
        fa_thread_totals(&self.count_before, &self.bytes_before)

    def end(self):
        """Up to here."""
        cdef uint64_t count = 0, total = 0
        fa_thread_totals(&count, &total)
        self.times += 1
        if count >= self.count_before and total >= self.bytes_before:  # else: recording began anew
            self.count += count - self.count_before
            self.bytes += total - self.bytes_before
