"""Signals by name, and which of them may be used for ours. Loaded only where one is named."""

from __future__ import annotations

import signal

# They cannot be caught, say that the program is broken, or are its own business.
_NO_DUMP_SIGNALS = {
    *("SIGKILL", "SIGSTOP", "SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGABRT", "SIGTRAP"),
    *("SIGSYS", "SIGCHLD", "SIGCLD", "SIGINT", "SIGTERM", "SIGALRM", "SIGPROF"),
}


def signal_number(name: object) -> int:
    """The number of a signal by its name. ValueError where no handler can or should be put."""
    base, _, offset = name.strip().partition("+") if isinstance(name, str) else ("", "", "")
    number = getattr(signal, base, None) if base.startswith("SIG") and base[3:].isalnum() else None
    if not isinstance(number, int) or base in _NO_DUMP_SIGNALS:
        raise ValueError(f"{name!r} is no signal for it (such as SIGUSR2)")
    if offset:
        last = signal.SIGRTMAX - signal.SIGRTMIN
        if base != "SIGRTMIN" or not offset.isdecimal() or int(offset) > last:
            raise ValueError(f"{name!r} is none of SIGRTMIN+1 to SIGRTMIN+{last}")
        number += int(offset)
    return number
