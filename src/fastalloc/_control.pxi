# --- control and overhead ---------------------------------------------------------------------

def control():
    """The control word (enum fa_control)."""
    return fa_control()


def control_replace(uint32_t old, uint32_t new):
    """Write the control word, if it still is `old`. Whether it was."""
    return fa_control_replace(old, new) != 0


def note_off(uint32_t off):
    """Tell readers why recording is switched off (enum fa_off)."""
    fa_note_off(off)


def to_file():
    """What was started in memory goes on in a file. OSError; RuntimeError when nothing is recorded."""
    _check(fa_to_file())


def note_own_cpu(uint32_t millionths):
    """Tell readers the part of the process's CPU time that recording takes."""
    fa_note_own_cpu(millionths)


def note_overhead(uint32_t millionths, uint64_t interval_bytes):
    """Recording takes too much, or little again: another interval from now on; 0: off."""
    fa_note_overhead(millionths, interval_bytes)


def note_breaker(str layer, bint is_open):
    """Tell readers that a layer was switched off, or is on again."""
    cdef bytes text = layer.encode("utf-8", "replace")
    fa_note_breaker(text, len(text), is_open)


cdef class LeftOut:
    """Inside `with LeftOut():` what this thread allocates is not the program's: nothing of it is recorded."""
    cdef fa_thread *_slot

    def __enter__(self):
        self._slot = fa_leave_out()

    def __exit__(self, *_):
        fa_take_in(self._slot)
        self._slot = NULL
