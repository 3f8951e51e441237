"""Dumps: the recording and what only Python knows, as a folder that appears all at once.

`write` makes one; docs/dump-format.md says what is in it. Loaded at start, so it holds no more than
what the start needs; the rest is loaded by the watcher some seconds later (`prepare`), off the path of
any request.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from fastalloc.config import Config
    from fastalloc.status import Status

    Section = Callable[[], object]

DIRECTORY_PREFIX = "dump-"


class Settings:
    """What `start` knows and a dump tells. program: what runs, without its arguments."""

    __slots__ = ("max_bytes", "max_ms", "program", "status")

    def __init__(
        self, max_bytes: int, max_ms: int, program: str, status: Callable[[], Status]
    ) -> None:
        self.max_bytes, self.max_ms = max_bytes, max_ms
        self.program, self.status = program, status


sections: dict[str, Section] = {}
settings: Settings | None = None


def add_section(name: str, function: Section) -> None:
    """Have each dump tell what `function()` returns, as `trackers.<name>` of state.json.

    It must return None (nothing to tell) or what JSON can say: dicts with str keys, lists, str, int,
    float, bool; an iterator of rows is written row by row, as far as there is room. No values of the
    program's data: counts, sizes, names. It runs in whatever thread writes the dump, under a breaker,
    and what takes it longer than its share of `dump_max_ms` counts as a failure. Replaces the section
    of that name.
    """
    sections[name] = function


def remove_section(name: str) -> None:
    """Forget the section of that name; does nothing without one."""
    sections.pop(name, None)


def write(reason: str) -> str:
    """Write the folder `dump-<pid>-<unix ms>` beside the recording; returns its path.

    Any thread, one dump at a time: others wait. OSError when the disk refuses, and then nothing is left
    behind; RuntimeError when nothing was ever recorded, or this thread is writing one already.
    Bounded by `dump_max_ms` and `dump_max_bytes`: what does not fit is left out, and says so.
    """
    from fastalloc.dumps import writer

    return writer.write(reason)


def begin(config: Config, program: str, status: Callable[[], Status]) -> None:
    """Recording has started."""
    global settings
    settings = Settings(config.dump_max_bytes, config.dump_max_ms, program, status)


def prepare() -> None:
    """Load and reserve all that a dump needs, so that writing one takes no more memory."""
    from fastalloc.dumps import writer

    writer.prepare()
