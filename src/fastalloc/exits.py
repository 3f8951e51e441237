"""What a process can say of its own end: that it is clean, or which exception is the reason.

Law: nothing is put in the program's way. No signal handler, no excepthook: programs compare and
replace those. A process that is killed says nothing; post-mortem then looks for other evidence.
"""

from __future__ import annotations

import os
import sys

from fastalloc import _core, program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

_WITH_FINALIZERS = ("multiprocessing.util", "billiard.util")
"""Their children leave by os._exit, which runs no atexit function, but call finalizers before."""

_last = -1000
"""A finalizer's priority: after all others."""

_told: set[str] = set()
_watching = False


def note_end() -> None:
    """Called by atexit: note whether an exception is what ends the program. Never raises."""
    try:
        _note(_fatal_exception())
    except Exception:
        pass


def _note(exception: type[BaseException] | None) -> None:
    if exception is None or issubclass(exception, SystemExit):
        _core.note_exit("clean", "")
    elif issubclass(exception, KeyboardInterrupt):
        _core.note_exit("signal", "SIGINT")
    else:
        _core.note_exit("exception", exception.__name__)


def _fatal_exception() -> type[BaseException] | None:
    """The class of the exception that ended the main program, if one did.

    Python leaves what it has printed in `sys.last_*`. So do interactive prompts and test runners,
    with exceptions that ended nothing: the one that ended the program has passed through the
    outermost frame of all, which is the main module's, or runpy's.
    """
    traceback: Any = getattr(sys, "last_traceback", None)
    kind: Any = getattr(sys, "last_type", None)
    if traceback is None or kind is None or hasattr(sys, "ps1"):
        return None
    frame = traceback.tb_frame
    main = sys.modules.get("__main__")
    outermost = program.is_outermost(frame) and (
        frame.f_code.co_name == "_run_module_as_main" or frame.f_globals is vars(main)
    )
    return kind if outermost and issubclass(kind, BaseException) else None


def watch_children() -> None:
    """Let children that leave by os._exit say how they end, where their library has a way."""
    global _watching
    if not _watching:
        _watching = True
        os.register_at_fork(before=_before_fork)


def _before_fork() -> None:
    for name in _WITH_FINALIZERS:
        module = sys.modules.get(name)
        if module is None or name in _told:
            continue
        _told.add(name)
        try:
            module.register_after_fork(_before_fork, lambda _, util=module: _in_child(util))
        except Exception:  # another version of it: then its children just end
            pass


def _in_child(util: ModuleType) -> None:
    """Called by the library in its child, when it has forgotten the parent's finalizers."""
    util.Finalize(None, _end_of_child, exitpriority=_last)


def _end_of_child() -> None:
    """The last finalizer of a child.

    Up to Python 3.11 the exception that ends it is being handled. From 3.12 on it is forgotten by
    now, and only the exit status that multiprocessing has made of it is left.
    """
    try:
        kind, exception, _ = sys.exc_info()
        status: object = 0
        if isinstance(exception, SystemExit):
            status = exception.code
        elif kind is None and sys.version_info >= (3, 12):
            status = _status_of_child()
        if status and isinstance(status, int):
            _core.note_exit("clean", f"exit status {status}")
        else:
            _note(kind)
        _core.stop(at_exit=True)
    except Exception:
        pass


def _status_of_child() -> object:
    """What multiprocessing is about to leave with: a local of the function that forked."""
    frame: Any = sys._getframe()
    while frame is not None:
        if (
            frame.f_code.co_name == "_bootstrap"
        ):  # early 3.12: it has none yet, and no exception ends it
            return 0
        if frame.f_code.co_name == "_launch":
            return frame.f_locals.get("code")
        frame = frame.f_back
    return 0
