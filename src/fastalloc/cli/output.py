"""How commands print: numbers with units, plain tables off a terminal, JSON."""

from __future__ import annotations

import json
import re
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from rich.console import Console
    from rich.progress import Progress, TaskID
    from rich.table import Table

    from fastalloc.recording.reader import Snapshot

UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
PLAIN_WIDTH = 4096
"""Off a terminal no line is ever folded or cut."""


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """--json, the same in every command."""
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def print_json(value: object) -> None:
    """`value` as JSON on stdout."""
    json.dump(value, sys.stdout, indent=2, default=str)
    sys.stdout.write("\n")


def printable(text: str) -> str:
    """`text` on one line, with escapes for what moves a terminal's cursor, changes its state, or
    shows text in another order than it is written: names come from recordings, which nobody vouches for."""
    return _UNPRINTABLE.sub(_escape, text) if not text.isprintable() else text


# Controls and separators of lines; marks of direction, embeddings, isolates; surrogates.
_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")


def make_console(stderr: bool = False) -> Console:
    """A console that colours and fits a terminal, and prints plain, uncut lines anywhere else.

    A string that is printed is one line, and so is a cell of a table of `make_table`.
    """
    from rich.console import Console
    from rich.segment import Segment

    class SafeConsole(Console):
        """Lets nothing through that is not `printable`: whatever it is in."""

        def print(self, *objects: Any, **options: Any) -> None:
            safe = (printable(each) if isinstance(each, str) else each for each in objects)
            super().print(*safe, **options)

        def render(self, *arguments: Any, **options: Any) -> Iterator[Segment]:
            for segment in super().render(*arguments, **options):
                text, style, control = segment
                if control or text.isprintable():
                    yield segment
                else:  # rich's own ends of lines are the only ones
                    yield Segment("\n".join(map(printable, text.split("\n"))), style)

    stream = sys.stderr if stderr else sys.stdout
    return SafeConsole(
        file=stream, width=None if stream.isatty() else PLAIN_WIDTH, highlight=False, markup=False
    )


def make_table(console: Console, title: str | None = None) -> Table:
    """An empty table: ruled on a terminal, columns of text elsewhere."""
    from rich import box
    from rich.table import Table

    class SafeTable(Table):
        """Cells given as strings are one line each."""

        def add_row(self, *cells: Any, **options: Any) -> None:
            safe = (printable(each) if isinstance(each, str) else each for each in cells)
            super().add_row(*safe, **options)

    return SafeTable(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD if console.is_terminal else None,
        pad_edge=False,
        header_style="bold",
    )


def format_bytes(count: float | None) -> str:
    """`count` bytes with a unit; '-' for none."""
    if count is None:
        return "-"
    value = float(count)
    for unit in UNITS:
        if abs(value) < 1024 or unit == UNITS[-1]:
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def format_known_bytes(count: float | None) -> str:
    """Like format_bytes, for values where 0 means that nobody knows."""
    return format_bytes(count or None)


def format_count(count: float) -> str:
    """A count with thousands apart; estimates are rounded."""
    return f"{count:,.0f}"


def format_seconds(seconds: float | None) -> str:
    """A duration in at most two units."""
    if seconds is None:
        return "-"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def shorten_path(text: str) -> str:
    """`path:line` without what every path of an installation has in common."""
    return re.sub(r"/\S*/(?:site-packages|dist-packages|lib/python3\.\d+)/", "", text)


def describe_losses(losses: dict[str, int]) -> str:
    """The losses that are not zero, in one line; empty if nothing was lost."""
    return ", ".join(
        f"{name.lower().replace('_', ' ')} {count:,}" for name, count in losses.items() if count
    )


def warnings(snapshot: Snapshot, facts: bool = True) -> list[str]:
    """What a reader must know before trusting the numbers: losses, native memory that is not seen, and an
    inconsistent copy. Without `facts`, only the last: the others are said elsewhere."""
    lines = []
    lost = describe_losses(snapshot.losses) if facts else ""
    if lost:
        lines.append(f"losses: {lost}")
    if facts and snapshot.native_reason:
        lines.append(f"native memory: {describe_native(snapshot)}")
    if snapshot.repaired:
        lines.append(
            "the process died while it wrote: totals were worked out again from the samples"
        )
    elif not snapshot.consistent:
        lines.append("the process wrote while this was read: numbers may disagree a little")
    return lines


def describe_native(snapshot: Snapshot) -> str:
    """Whether malloc and mmap are recorded, and why not or what is amiss, in one line."""
    if snapshot.native and snapshot.mode == "disabled":
        return "not recorded while recording is switched off"
    if snapshot.native:
        text = f"recorded, at {snapshot.header['native_slots']} addresses of malloc and mmap"
        return f"{text}; {snapshot.native_reason}" if snapshot.native_reason else text
    if snapshot.native_reason:
        return f"not recorded: {snapshot.native_reason}"
    return "not recorded: not asked for (option native)"


def describe_process(snapshot: Snapshot) -> dict[str, Any]:
    """The few facts every command says first."""
    return {
        "pid": snapshot.pid,
        "parent_pid": snapshot.parent_pid,
        "state": snapshot.state,
        "mode": snapshot.mode,
        "interval_bytes": snapshot.interval_bytes,
        "start_time": snapshot.start_time.isoformat(),
        "duration_seconds": snapshot.duration_seconds,
        "live_bytes": snapshot.live_bytes,
        "high_water_bytes": snapshot.high_water_bytes,
        "rss_bytes": snapshot.rss_bytes,
        "cgroup_bytes": snapshot.cgroup_bytes,
        "limit_bytes": snapshot.limit_bytes,
        "native": snapshot.native,
        "native_reason": snapshot.native_reason,
        "consistent": snapshot.consistent,
        "losses": {name: count for name, count in snapshot.losses.items() if count},
        "path": str(snapshot.path),
    }


class ProgressBar:
    """A bar on stderr for what turns out to take longer than a moment; none off a terminal."""

    PATIENCE_SECONDS = 1.0

    def __init__(self, title: str) -> None:
        self._title = title
        self._begun = time.monotonic()
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def update(self, done: int, total: int) -> None:
        """Say how far the work is."""
        if self._progress is None:
            if time.monotonic() - self._begun < self.PATIENCE_SECONDS:
                return
            self._begin()
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=done, total=total)

    def _begin(self) -> None:
        from rich.progress import Progress

        console = make_console(stderr=True)
        self._progress = Progress(console=console, transient=True, disable=not console.is_terminal)
        self._task = self._progress.add_task(self._title, total=None)
        self._progress.start()
