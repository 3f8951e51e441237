"""One recording in full.

Prints the process, its options, losses and totals, what its resident memory consists of and what that looks
like, tables of spans, phases and threads, and what happened. A running process is asked for its resident
memory: it looks within a second.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastalloc.cli import output
from fastalloc.cli.dumped import print_state
from fastalloc.cli.numbers import positive_count
from fastalloc.cli.recordings import add_recording_argument, find_recording
from fastalloc.cli.resident import print_resident

if TYPE_CHECKING:
    from rich.console import Console

    from fastalloc.recording.reader import Snapshot


ANSWER_SECONDS = 2.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define this command's options."""
    add_recording_argument(parser)
    parser.add_argument(
        "--limit",
        type=positive_count,
        default=10,
        metavar="COUNT",
        help="rows per table (default: %(default)s)",
    )
    output.add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Print the recording, part by part."""
    from fastalloc.recording.reader import read

    path = find_recording(args)
    snapshot = read(path)
    if snapshot.state == "running" and not snapshot.dump:
        _ask(path)
        snapshot = read(path)
    if args.json:
        from fastalloc.analysis.events import happened
        from fastalloc.analysis.resident import verdict

        more: dict[str, Any] = {"happened": [each._asdict() for each in happened(snapshot)]}
        more["verdict"] = verdict(snapshot)._asdict()
        if snapshot.dump:
            more["dump"] = snapshot.dump
        output.print_json(snapshot.to_dict() | more)
        return 0
    console = output.make_console()
    if snapshot.dump:
        print_state(console, snapshot.dump, args.limit)
    _print_facts(console, snapshot)
    print_resident(console, snapshot)
    _print_tables(console, snapshot, args.limit)
    return 0


def _ask(path: Path) -> None:
    """Of a running process. One that does not answer, or that is another user's, is shown as it is known."""
    from fastalloc.recording.errors import RecordingError
    from fastalloc.recording.running import look_at_resident

    with suppress(RecordingError, OSError):
        look_at_resident(path, ANSWER_SECONDS)


Row = Sequence[str]


def _print_facts(console: Console, snapshot: Snapshot) -> None:
    from fastalloc.analysis.failures import guilty_failure

    facts = {
        "recording": str(snapshot.path),
        "process": f"{snapshot.pid} (parent {snapshot.parent_pid}), {snapshot.state}",
        "program": str(snapshot.options.get("program", "-")),
        "python": snapshot.python_version,
        "started": f"{snapshot.start_time:%Y-%m-%d %H:%M:%S} UTC",
        "recorded for": output.format_seconds(snapshot.duration_seconds),
        "mode": f"{snapshot.mode}, interval {output.format_bytes(snapshot.interval_bytes)}",
        "allocations": f"{output.format_count(snapshot.total_count)}, "
        f"{output.format_bytes(snapshot.total_bytes)} (exact)",
        "live heap": f"{output.format_bytes(snapshot.live_bytes)} in "
        f"{output.format_count(snapshot.live_count)} blocks (estimated)",
        "high-water mark": output.format_bytes(snapshot.high_water_bytes),
        "native memory": output.describe_native(snapshot),
        "rss": output.format_known_bytes(snapshot.rss_bytes),
        "cgroup usage": output.format_known_bytes(snapshot.cgroup_bytes),
        "memory limit": output.format_known_bytes(snapshot.limit_bytes)
        + (f" ({snapshot.options['limit_source']})" if "limit_source" in snapshot.options else ""),
        "losses": output.describe_losses(snapshot.losses) or "none",
    }
    failure = guilty_failure(snapshot)
    if failure is not None:
        facts = {"failed allocation": failure.text(), **facts}
    _print_pairs(console, facts.items())
    for line in output.warnings(snapshot, facts=False):
        console.print(line, style="yellow")
    values, sources = (_dictionary(snapshot.options, name) for name in ("options", "sources"))
    _print_table(
        console,
        "options",
        ("option", "value", "from"),
        ((name, str(value), str(sources.get(name, ""))) for name, value in values.items()),
        len(values),
    )


def _dictionary(options: dict[str, Any], name: str) -> dict[str, Any]:
    """A part of the options; empty in a file that has something else in its place."""
    part = options.get(name)
    return part if isinstance(part, dict) else {}


def _print_pairs(console: Console, pairs: Iterable[tuple[str, str]]) -> None:
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in pairs:
        table.add_row(name, output.printable(value))
    console.print(table)


def _print_tables(console: Console, snapshot: Snapshot, limit: int) -> None:
    from fastalloc.analysis.events import happened

    _print_table(
        console,
        "open spans and spans that hold memory",
        ("span", "name", "attributes", "state", "allocations", "bytes", "live heap", "high-water"),
        (
            (
                str(span["id"]),
                str(span["name"]),
                str(span["attributes"]),
                "open" if span["open"] else "finished",
                output.format_count(span["count"]),
                output.format_bytes(span["bytes"]),
                output.format_bytes(span["live_bytes"]),
                output.format_bytes(span["high_water_bytes"]),
            )
            for span in _largest_first(snapshot.spans, "live_bytes")
            if span["id"]
        ),
        limit,
    )
    _print_table(
        console,
        "phases",
        ("phase", "of span", "entered", "allocations", "bytes", "live heap", "high-water"),
        (
            (
                str(phase["name"]) or "(none)",
                str(phase["span_name"]) or "(the process)",
                output.format_count(phase["entered"]),
                output.format_count(phase["count"]),
                output.format_bytes(phase["bytes"]),
                output.format_bytes(phase["live_bytes"]),
                output.format_bytes(phase["high_water_bytes"]),
            )
            for phase in _largest_first(snapshot.phases, "bytes")
        ),
        limit,
    )
    _print_table(
        console,
        "running threads",
        ("tid", "name", "allocations", "bytes"),
        (
            (
                str(thread["tid"]),
                str(thread["name"]),
                output.format_count(thread["count"]),
                output.format_bytes(thread["bytes"]),
            )
            for thread in _largest_first(snapshot.threads, "bytes")
        ),
        limit,
    )
    events = happened(snapshot)
    _print_table(
        console,
        "what happened, the last first",
        ("after", "what", "where", "span"),
        (
            (output.format_seconds(each.seconds), each.text, each.where, each.span)
            for each in reversed(events)
        ),
        limit,
    )


def _largest_first(array: Any, field: str) -> list[Any]:
    """The rows of a structured array, the largest `field` first."""
    return [array[index] for index in array[field].argsort(kind="stable")[::-1]]


def _print_table(
    console: Console, title: str, columns: Sequence[str], rows: Iterable[Row], limit: int
) -> None:
    """A table of at most `limit` rows; none if there is nothing to show."""
    shown = list(rows)
    if not shown:
        return
    console.print()
    console.print(title, style="bold")
    table = output.make_table(console)
    for index, column in enumerate(columns):
        number = column in ("allocations", "bytes", "live heap", "high-water", "entered")
        table.add_column(
            column, justify="right" if number else "left", no_wrap=number or index == 0
        )
    for row in shown[:limit]:
        table.add_row(*row)
    console.print(table)
    if len(shown) > limit:
        console.print(f"... and {len(shown) - limit} more (--limit)", style="dim")
