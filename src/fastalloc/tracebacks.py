"""An error of the program shows the program's frames, not ours.

    try:
        return app(environ)
    except BaseException as error:
        hide_frames(error)
        raise

A bare `raise` goes on with the traceback as it stands then, and does not add this frame again.
"""

from __future__ import annotations

import os

_PACKAGE = os.path.dirname(__file__)
_OURS = tuple(
    f"{_PACKAGE}/{name}"
    for name in ("integrations/", "requests/", "trackers/", "breaker.py", "spans.py", "switches.py")
)
_CORE = (
    "_core.pyx",
    "_detours.pxi",
    "_messages.pxi",
    "_requests.pxi",
    "_scopes.pxi",
    "_switches.pxi",
)


def hide_frames(error: BaseException) -> None:
    """Take our frames off the top of an error's traceback. One that is ours alone stays as it is."""
    entry = error.__traceback__
    while entry is not None and _is_ours(entry.tb_frame.f_code.co_filename):
        entry = entry.tb_next
    if entry is not None:
        error.__traceback__ = entry


def hide_catch(error: BaseException) -> BaseException:
    """An error that was thrown into a generator of ours, without the frame that has caught it, to be thrown
    into the program's."""
    caught = error.__traceback__
    return error.with_traceback(caught.tb_next if caught is not None else None)


def _is_ours(path: str) -> bool:
    return path.startswith(_OURS) or path.endswith(_CORE)
