"""The line of the program that a query, a session or a form comes from: its own, not a framework's."""

from __future__ import annotations

import sys
import sysconfig

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

MAX_FRAMES = 150
MAX_KNOWN = 4096  # files whose kind is remembered

PROGRAM, LIBRARY, FRAMEWORK = range(3)
# Whose frames never are where a query comes from.
FRAMEWORKS = (
    *("django", "sqlalchemy", "sqlmodel", "flask_sqlalchemy", "psycopg", "psycopg2", "MySQLdb"),
    *("asgiref", "starlette", "fastapi", "flask", "werkzeug", "jinja2", "anyio", "greenlet"),
    *("uvicorn", "gunicorn", "celery", "kombu", "billiard", "gevent"),
)
_OURS = "fastalloc"
_OUR_PROGRAMS = ("demo",)  # of our package, what is a program like any other

_kinds: dict[str, int] = {}
_short: dict[str, str] = {}
_STANDARD = tuple({sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")})
_PACKAGES = tuple({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})


def place(depth: int = 1) -> str:
    """`path:line` of the nearest caller that is the program's own; where there is none, of the nearest
    in a library; "" where there are only frameworks. Some 2 to 5 us."""
    frame: FrameType | None = sys._getframe(depth)
    library: FrameType | None = None
    greenlet: Any = (
        None  # whose frames these are, once one has ended: the thread's current one before
    )
    for _ in range(MAX_FRAMES):
        if frame is None:
            greenlet, frame = _parent_of(greenlet)
            if frame is None:
                break
        kind = _kind(frame)
        if kind == PROGRAM:
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        if kind == LIBRARY and library is None:
            library = frame
        frame = frame.f_back
    return f"{library.f_code.co_filename}:{library.f_lineno}" if library is not None else ""


def _parent_of(greenlet: Any) -> tuple[Any, FrameType | None]:
    """(the greenlet that waits for this one, its frame): an AsyncSession's work is done in a greenlet, for
    which the program's coroutine waits in another."""
    module = sys.modules.get("greenlet")
    if module is None:
        return None, None
    parent = (greenlet or module.getcurrent()).parent
    return parent, parent.gr_frame if parent is not None else None


def short(where: str) -> str:
    """`path:line` without what the interpreter's search path tells: "shop/views.py:31"."""
    known = _short.get(where)
    if known is None:
        known = where
        for root in sorted(sys.path, key=len, reverse=True):
            if root and where.startswith(f"{root}/"):
                known = where[len(root) + 1 :]
                break
        if len(_short) < MAX_KNOWN:
            _short[where] = known
    return known


def _kind(frame: FrameType) -> int:
    file = frame.f_code.co_filename
    kind = _kinds.get(file)
    if kind is None:
        kind = _kind_of(file, str(frame.f_globals.get("__name__", "")))
        if len(_kinds) < MAX_KNOWN:
            _kinds[file] = kind
    return kind


def _kind_of(file: str, module: str) -> int:
    names = module.split(".")
    if names[0] == _OURS:
        return PROGRAM if names[1:2] and names[1] in _OUR_PROGRAMS else FRAMEWORK
    if names[0] in FRAMEWORKS or file.startswith("<"):
        return FRAMEWORK
    if file.startswith(_PACKAGES):
        return LIBRARY
    return FRAMEWORK if file.startswith(_STANDARD) else PROGRAM
