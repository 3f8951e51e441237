"""What holds the memory: the biggest holders of a recording.

On a terminal, while the process runs, the table renews itself until Ctrl-C. Bytes are estimated
from samples, with at most one standard error after the sign ±.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING, Any

from fastalloc.cli import output
from fastalloc.cli.numbers import positive_count, positive_seconds
from fastalloc.cli.recordings import add_recording_argument, find_recording

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console, RenderableType

    from fastalloc.recording.reader import Row, Snapshot

GROUPS = (
    "site",
    "line",
    "own_line",
    "function",
    "native_function",
    "span",
    "phase",
    "thread",
    "module",
    "domain",
)
STACK_SEPARATOR = " <- "
ORDERS = ("live_bytes", "live_count", "high_water_bytes")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define this command's options."""
    add_recording_argument(parser)
    parser.add_argument(
        "--by", choices=ORDERS, default=ORDERS[0], help="what to order by (default: %(default)s)"
    )
    parser.add_argument(
        "--group", choices=GROUPS, default="line", help="what a row is (default: %(default)s)"
    )
    parser.add_argument(
        "--limit",
        type=positive_count,
        default=20,
        metavar="COUNT",
        help="rows at most (default: %(default)s)",
    )
    parser.add_argument("--once", action="store_true", help="print one table and leave")
    parser.add_argument(
        "--interval",
        type=positive_seconds,
        default=2.0,
        metavar="SECONDS",
        help="between renewals (default: %(default)s)",
    )
    output.add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Print the table, again and again where that makes sense."""
    from fastalloc.recording.reader import read

    path = find_recording(args)
    snapshot = read(path)
    if args.json:
        output.print_json(
            {
                **output.describe_process(snapshot),
                "by": args.by,
                "group": args.group,
                "rows": [
                    _row_to_dict(row)
                    for row in snapshot.top(by=args.by, group=args.group, limit=args.limit)
                ],
            }
        )
        return 0
    console = output.make_console()
    if snapshot.state == "running" and sys.stdout.isatty() and not args.once:
        _watch(console, path, args)
    else:
        console.print(_render(console, snapshot, args))
    return 0


def _watch(console: Console, path: Path, args: argparse.Namespace) -> None:
    from rich.live import Live

    from fastalloc.recording.reader import read

    snapshot = read(path)
    with Live(_render(console, snapshot, args), console=console, auto_refresh=False) as live:
        try:
            while snapshot.state == "running":
                time.sleep(args.interval)
                snapshot = read(path)
                live.update(_render(console, snapshot, args), refresh=True)
        except KeyboardInterrupt:
            pass  # how one leaves a live view


def _rows(snapshot: Snapshot, args: argparse.Namespace) -> list[Row]:
    return snapshot.top(by=args.by, group=args.group, limit=args.limit)


def _row_to_dict(row: Row) -> dict[str, Any]:
    names = (
        "key",
        "live_bytes",
        "live_count",
        "high_water_bytes",
        "error_bytes",
        "samples",
        "oldest_seconds",
    )
    return {name: getattr(row, name) for name in names}


def _label(key: str, folded: bool) -> str:
    """A row's key as it is shown: short paths, and a stack's frames on lines of their own."""
    frames = [output.printable(output.shorten_path(frame)) for frame in key.split(STACK_SEPARATOR)]
    return ("\n  <- " if folded else STACK_SEPARATOR).join(frames) or "(none)"


def _render(console: Console, snapshot: Snapshot, args: argparse.Namespace) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    total = snapshot.high_water_bytes if args.by == "high_water_bytes" else snapshot.live_bytes
    table = output.make_table(console)
    for name in ("live heap", "±", "share", "count", "high-water", "oldest"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column(args.group, overflow="fold")
    for row in _rows(snapshot, args):
        if not getattr(row, args.by):
            continue  # held something once, and holds nothing now
        held = row.high_water_bytes if args.by == "high_water_bytes" else row.live_bytes
        table.add_row(
            output.format_bytes(row.live_bytes),
            output.format_bytes(row.error_bytes),
            f"{held / total:.0%}" if total else "-",
            output.format_count(row.live_count),
            output.format_bytes(row.high_water_bytes),
            output.format_seconds(row.oldest_seconds),
            Text(_label(row.key, folded=console.is_terminal)),
        )
    usage = f"rss {output.format_known_bytes(snapshot.rss_bytes)}"
    if snapshot.limit_bytes:
        usage += f" of {output.format_bytes(snapshot.limit_bytes)} allowed"
    head = Text(
        f"process {snapshot.pid}, {snapshot.state}, {snapshot.mode}, "
        f"recorded for {output.format_seconds(snapshot.duration_seconds)}\n"
        f"live heap {output.format_bytes(snapshot.live_bytes)}, "
        f"high-water mark {output.format_bytes(snapshot.high_water_bytes)}, {usage}"
    )
    parts: list[RenderableType] = [head, table]
    parts += [Text(line, style="yellow") for line in output.warnings(snapshot)]
    return Group(*parts)
