"""Thread names: Python keeps them to itself, so the core is told when a thread starts.

`threading.Thread._bootstrap_inner` is what every thread runs first; it is wrapped while recording.
Threads that run already are named at start. Where the attribute is missing, samples carry the
kernel's name for the thread.

So `threading` is loaded at start, which is half of what the start takes. To wait until the program does would
be cheaper and wrong: our watcher may come first (`logging` needs it), and until CPython 3.13 the thread that
imports `threading` is the main thread for it, ever after.
"""

from __future__ import annotations

import sys

from fastalloc import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from threading import Thread
    from typing import Any


def name_threads() -> None:
    """Name the threads that run now, and each that starts from here on."""
    import threading

    for thread in threading.enumerate():
        if thread.native_id is not None:
            _core.set_thread_name(thread.native_id, thread.name)
    original: Any = getattr(threading.Thread, "_bootstrap_inner", None)
    if original is None or getattr(original, "fastalloc_wrapped", False):
        return

    def _bootstrap_inner(self: Thread) -> None:
        _name(self)
        original(self)

    _bootstrap_inner.fastalloc_wrapped = True  # type: ignore[attr-defined]
    threading.Thread._bootstrap_inner = _bootstrap_inner  # type: ignore[attr-defined]


def _name(thread: Thread) -> None:
    if _core.is_active():
        try:
            threading = sys.modules["threading"]
            _core.set_thread_name(threading.get_native_id(), thread.name)
        except Exception:  # a foreign Thread without a name: the kernel's serves
            pass
