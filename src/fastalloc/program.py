"""Where the program begins that `fastalloc run` runs: above frames of the command, which are not its own.

Recorded stacks end there, as under `python`, and so does the traceback by which exits.py tells how the program
ended.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType, FrameType

_command = ""


def begin(command: str, caller: CodeType, callee: CodeType) -> None:
    """The program's frames are those above `callee` where `caller` has called it. `command`: the file whose
    frames run it."""
    global _command
    _command = command
    try:
        from fastalloc import _core
    except ImportError:  # nothing is recorded here
        return
    _core.end_stacks_at(caller, callee)


def is_outermost(frame: FrameType) -> bool:
    """Nothing of the program lies below `frame`."""
    below = frame.f_back
    return below is None or below.f_code.co_filename == _command
