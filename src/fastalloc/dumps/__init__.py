"""Dumps: the recording and what only Python knows, as a folder that appears all at once.

`write` makes one; docs/dump-format.md says what is in it. Loaded at start, so it holds no more than
what the start needs; the rest is loaded by the watcher a moment later (`prepare`), off the path of
any request.
"""

from __future__ import annotations

from fastalloc import _core, background, housekeeping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from fastalloc.config import Config
    from fastalloc.status import Status

    Section = Callable[[], object]

TIDY_SECONDS = 1.0  # of the watcher's thread, after a dump: the rest is for the next time
PREPARE_SECONDS = 0.25  # after the start: a few milliseconds of the watcher's thread


class Settings:
    """What `start` knows and a dump tells. program: what runs, without its arguments. caps: the bounds
    that the folder is kept within."""

    __slots__ = ("caps", "directory", "max_bytes", "max_ms", "program", "signal", "status")

    def __init__(self, config: Config, program: str, status: Callable[[], Status]) -> None:
        self.max_bytes, self.max_ms = config.dump_max_bytes, config.dump_max_ms
        self.directory, self.caps = config.dir, housekeeping.caps_of(config)
        self.signal, self.program, self.status = config.dump_signal, program, status


sections: dict[str, Section] = {}
settings: Settings | None = None
last_dump = ""  # its path
last_error = ""  # why the last one could not be written, "" if it was


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

    Any thread, one dump at a time: others wait. OSError when the disk refuses, or would keep less than
    `keep_free_bytes` though what may go has been deleted; then nothing is left behind. RuntimeError when nothing was ever recorded, or this thread is writing one already.
    Bounded by `dump_max_ms` and `dump_max_bytes`: what does not fit is left out, and says so.
    """
    global last_dump, last_error
    from fastalloc.dumps import writer

    try:
        last_dump = writer.write(reason)
    except (OSError, RuntimeError) as error:
        last_error = str(error)
        raise
    last_error = ""
    background.soon(_tidy)
    return last_dump


def _tidy() -> None:
    """The watcher deletes what is now beyond the bounds."""
    if settings is not None:
        housekeeping.prune(settings.directory, settings.caps, seconds=TIDY_SECONDS)


def outcome() -> dict[str, object]:
    """How the last dump went, for `status`."""
    return {"last_dump": last_dump, "dump_error": last_error}


def begin(config: Config, program: str, status: Callable[[], Status]) -> None:
    """Recording has started."""
    global settings, last_error
    settings = Settings(config, program, status)
    background.on("dump", _requested)
    background.on("warned", prepare)  # memory may climb before that
    background.every(PREPARE_SECONDS, prepare, "prepare dumps")
    if config.dump_signal:
        from fastalloc.signals import signal_number

        try:
            _core.dump_signal(signal_number(config.dump_signal))
        except OSError as error:
            last_error = f"dump_signal {config.dump_signal}: {error}"


def _requested() -> None:
    """Asked for by the signal, or by `fastalloc dump` through the recording. A line in the log says
    where the dump is, or why there is none."""
    from fastalloc import logs

    reason = "request"
    if _core.dump_signals() and settings is not None:
        reason = f"signal {settings.signal}"
    try:
        logs.tell("dump written", {"reason": reason, "path": write(reason)})
    except (OSError, RuntimeError) as error:
        logs.tell("dump not written", {"reason": reason, "error": str(error)})
        raise


def prepare() -> None:
    """Load and reserve all that a dump needs, once, so that writing one takes no more memory."""
    from fastalloc.dumps import writer

    writer.prepare()
    background.cancel("prepare dumps")
