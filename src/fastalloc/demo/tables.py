"""How the demo's story looks in a terminal, and as plain text elsewhere."""

from __future__ import annotations

import linecache
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from fastalloc.recording.reader import Snapshot

    from .story import Outcome

MIB = 1 << 20
PLAIN_WIDTH = 1000  # off a terminal nothing is folded or cut


class Screen:
    """Where the story is told."""

    def __init__(self, console: Console | None = None) -> None:
        width = None if sys.stdout.isatty() else PLAIN_WIDTH
        self._console = console or Console(width=width, highlight=False, markup=False)

    def title(self, text: str) -> None:
        self._console.print()
        self._console.print(Text(text, style="bold underline"))

    def line(self, text: str, style: str = "") -> None:
        self._console.print(Text(text, style=style), soft_wrap=True)

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Something takes a second or two."""
        if self._console.is_terminal:
            with self._console.status(f"{what} ..."):
                yield
        else:
            self.line(f"{what} ...")
            yield

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """A bar that stands at what its function is called with; nothing off a terminal."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        shown = self._console.is_terminal
        with Progress(*columns, console=self._console, transient=True, disable=not shown) as bar:
            task = bar.add_task(what, total=total)
            yield lambda done: bar.update(task, completed=done)

    def ending(self, outcome: Outcome, snapshot: Snapshot) -> None:
        """How it ended, and what the recording is."""
        tally = outcome.tally
        self.line(
            f"{tally.sent} requests in {tally.seconds:.1f} s, {tally.bloating} of them statements "
            f"that were answered, {tally.lost} lost. Then: {outcome.ending or 'nothing happened.'}"
        )
        self.line(f"Read from {outcome.recording}")
        facts = [
            f"process {snapshot.pid}, {snapshot.state} after {snapshot.duration_seconds:.1f} s",
            f"live heap {_mib(snapshot.live_bytes)}",
            f"RSS at last look {_mib(snapshot.rss_bytes)}",
        ]
        if outcome.in_flight:
            facts.append(f"in flight: {', '.join(outcome.in_flight)}")
        self.line("; ".join(facts))
        lost = ", ".join(f"{name} {count}" for name, count in snapshot.losses.items() if count)
        if lost:
            self.line(f"Losses: {lost}", style="yellow")

    def rows(self, title: str, kind: str, rows: Sequence[Any], whole_bytes: float) -> None:
        """A table of Snapshot.top()."""
        table = Table(
            title=title,
            title_justify="left",
            title_style="bold",
            box=box.SIMPLE_HEAD if self._console.is_terminal else None,
            pad_edge=False,
        )
        with_code = kind == "line" and self._console.width >= 120
        table.add_column(kind, overflow="fold", min_width=24)
        for column, width in (("held", 9), ("±", 8), ("share", 5), ("count", 9), ("oldest", 6)):
            table.add_column(column, justify="right", no_wrap=True, min_width=width)
        if with_code:
            table.add_column("code", no_wrap=True, overflow="ellipsis")
        for row in rows:
            cells = [
                shown_path(row.key) if kind == "line" else row.key,
                _mib(row.live_bytes),
                _mib(row.error_bytes),
                f"{100 * row.live_bytes / max(whole_bytes, 1):.1f}%",
                f"{row.live_count:,.0f}",
                f"{row.oldest_seconds:.0f} s",
            ]
            if with_code:
                cells.append(_code(row.key))
            table.add_row(*map(Text, cells))
        self._console.print()
        self._console.print(table)

    def verdict(self, failures: Sequence[str], success: str) -> None:
        for failure in failures:
            self.line(f"Not as it should be: {failure}", style="bold red")
        if not failures:
            self.line(success, style="bold green")


def shown_path(key: str) -> str:
    """`path:line` without the part that the interpreter's search path already tells."""
    roots = sorted((f"{root}/" for root in sys.path if root), key=len, reverse=True)
    return next((key.removeprefix(root) for root in roots if key.startswith(root)), key)


def _code(key: str) -> str:
    path, _, line = key.rpartition(":")
    return linecache.getline(path, int(line)).strip() if line.isdigit() else ""


def _mib(count: float) -> str:
    return f"{count / MIB:.1f} MiB"
