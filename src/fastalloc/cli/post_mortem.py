"""How recorded processes died, and what held their memory.

Looks at every recording in the folder whose process has ended and says how: cleanly, by an
exception or a signal, out of memory, by a failed allocation, or killed; with the evidence, and
whether it is certain. Of those that died badly it shows who held the memory, what was running, the
largest jump, and how usage climbed in the last minute.

Ends with status 1 if a process died badly, 0 if none did, 2 for bad input.
"""

from __future__ import annotations

import argparse
import json
import os
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from fastalloc.cli import output
from fastalloc.cli.errors import CommandError
from fastalloc.cli.numbers import positive_count
from fastalloc.cli.recordings import place_of

if TYPE_CHECKING:
    from rich.console import Console

    from fastalloc.analysis.fleets import Fleet
    from fastalloc.analysis.post_mortem import Death, Point, Report
    from fastalloc.recording.holders import Row

EXIT_FOUND = 1
UNITS = {"s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define this command's options."""
    parser.add_argument(
        "directory",
        metavar="DIR",
        nargs="?",
        type=Path,
        help="the folder of recordings (default: FASTALLOC_DIR, or else /var/tmp/fastalloc-<uid>)",
    )
    parser.add_argument(
        "--since",
        type=_instant,
        metavar="TIME",
        help="only processes seen since then: 90s, 15min, 2h, 3d, or 2026-03-12T03:00",
    )
    parser.add_argument(
        "--limit",
        type=positive_count,
        default=5,
        metavar="COUNT",
        help="rows of each kind, for each process (default: %(default)s)",
    )
    parser.add_argument(
        "--log",
        action="store_true",
        help="one line of JSON for each process that died badly and was not told before",
    )
    output.add_json_option(parser)


def _instant(text: str) -> datetime:
    """A time ago, or an instant (without a zone: UTC)."""
    for unit in sorted(UNITS, key=len, reverse=True):
        if text.endswith(unit):
            try:
                ago = timedelta(seconds=float(text.removesuffix(unit)) * UNITS[unit])
                return datetime.now(UTC) - ago
            except (ValueError, OverflowError):
                break
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text} is neither a time ago (90s, 15min, 2h, 3d) nor an instant (2026-03-12T03:00)"
        ) from None
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


def run(args: argparse.Namespace) -> int:
    """Print what is found; the status says whether it is bad."""
    from fastalloc.analysis.post_mortem import examine

    directory = place_of(args.directory)
    if not directory.is_dir():
        raise CommandError(f"{directory}: there is no such folder (or set FASTALLOC_DIR)")
    try:
        report = examine(directory, args.since, args.limit)
    except OSError as error:
        raise CommandError(f"cannot list {directory}: {error.strerror}") from None
    bad = [death for death in report.deaths if death.ending.is_bad]
    if args.log:
        _log(directory, bad)
    elif args.json:
        output.print_json(
            {
                "directory": str(directory),
                "alive": report.alive,
                "ended": len(report.deaths),
                "died_badly": len(bad),
                "deaths": [death.to_dict() for death in report.deaths],
                "fleets": [fleet.to_dict() for fleet in report.fleets],
                "unreadable": report.unreadable,
            }
        )
    else:
        _print(output.make_console(), directory, report, bad)
    return EXIT_FOUND if bad else 0


TOLD = ".post-mortem-told"
"""Names of recordings that `--log` has told of, a line each."""
MAX_TOLD_BYTES = 1 << 20


def _log(directory: Path, bad: list[Death]) -> None:
    """A line for each that is not among those told, which it then is."""
    path = directory / TOLD
    told = _told(path)
    names = [death.snapshot.path.name for death in bad]
    for name, death in zip(names, bad, strict=True):
        if name not in told:
            print(json.dumps(death.to_line()))
    if set(names) - told:
        new = path.with_name(f"{TOLD}-{os.getpid()}")
        # A folder that cannot be written is told of again.
        with suppress(OSError):
            with suppress(FileNotFoundError):
                new.unlink()
            # Anew: in a folder of somebody else, a link may lie in wait.
            with new.open("x") as file:
                file.write("".join(f"{name}\n" for name in names))
            new.replace(path)


def _told(path: Path) -> set[str]:
    try:
        if not path.is_file() or path.stat().st_size > MAX_TOLD_BYTES:
            return set()
        return set(path.read_text(errors="replace").splitlines())
    except OSError:
        return set()


def _print(console: Console, directory: Path, report: Report, bad: list[Death]) -> None:
    from rich.text import Text

    well = len(report.deaths) - len(bad)
    console.print(f"{directory}: {len(bad)} died badly, {well} ended well, {report.alive} alive")
    for death in bad:
        console.print()
        for name, lines in _parts(death):
            for number, line in enumerate(lines):
                label = f"  {name if number == 0 else '':<12}" if name else ""
                text = Text(label + output.printable(line), style="" if name else "bold")
                console.print(text)
    for fleet in report.fleets:
        if not (fleet.died_badly or fleet.odd_pid):
            continue
        console.print()
        for line in _fleet(fleet):
            console.print(Text(output.printable(line)))
    for sentence in report.unreadable:
        console.print(Text(output.printable(f"unreadable: {sentence}"), style="yellow"))


def _fleet(fleet: Fleet) -> list[str]:
    """Of the workers of one master: how many ended badly, and which is the odd one."""
    program = _program(fleet.program)
    lines = [
        f"workers of {fleet.parent_pid}{program}: {len(fleet.pids)} recorded, {fleet.alive} alive, "
        f"{len(fleet.died_badly)} died badly"
    ]
    if fleet.odd_pid:
        lines.append(f"  the odd one is {fleet.odd_pid}: {fleet.odd_reason}")
        if fleet.more:
            lines.append(
                f"  it held {output.format_bytes(fleet.more.change_bytes)} more than "
                f"{fleet.middle_pid} at {output.shorten_path(fleet.more.key)}"
            )
    return lines


def _program(path: str) -> str:
    """The program's name behind a space; of a package that is run, the package's."""
    whole = Path(path)
    name = whole.parent.name if whole.name == "__main__.py" else whole.name
    return f" {name}" if name else ""


def _parts(death: Death) -> list[tuple[str, list[str]]]:
    """What is said of one process: (label, lines)."""
    return [
        ("", [_headline(death)]),
        ("evidence", death.ending.evidence),
        ("spans", [_holder(death, row) for row in death.spans if row.live_bytes]),
        ("lines", [_line(death, row) for row in death.lines if row.live_bytes]),
        ("stack", _stack(death)),
        ("running", _running(death)),
        ("jump", _jump(death)),
        ("last minute", _climb(death)),
        ("dumps", [str(path) for path in death.dumps]),
        ("recording", [str(death.snapshot.path), *output.warnings(death.snapshot)]),
    ]


def _headline(death: Death) -> str:
    from fastalloc.analysis.endings import KINDS

    snapshot, end = death.snapshot, death.ending
    name = f" ({end.name})" if end.name else ""
    program = _program(death.program)
    sure = f", {end.certainty}" if end.certainty != "unknown" else ""
    return (
        f"process {snapshot.pid}{program}: {KINDS[end.kind]}{name}{sure}; last seen "
        f"{death.last_seen:%Y-%m-%d %H:%M:%S} UTC after {output.format_seconds(snapshot.duration_seconds)}"
    )


def _holder(death: Death, row: Row) -> str:
    total = death.snapshot.live_bytes
    share = f", {row.live_bytes / total:.0%} of the live heap" if total else ""
    return (
        f"{output.shorten_path(row.key)}  {output.format_bytes(row.live_bytes)} "
        f"± {output.format_bytes(row.error_bytes)}{share}"
    )


FRAMES = 8
"""Of a stack, off JSON."""


def _stack(death: Death) -> list[str]:
    frames = [output.shorten_path(frame) for frame in death.stack]
    more = len(frames) - FRAMES
    return frames[:FRAMES] + ([f"and {more} more, down to {frames[-1]}"] if more > 0 else [])


def _line(death: Death, row: Row) -> str:
    """A line of the program, and where below it most of the memory was asked for."""
    stack = death.snapshot.stack(row.site)
    python = [frame for frame in stack if not frame.is_native] or stack
    leaf = python[0].place if stack else row.key
    through = "" if leaf == row.key else f", most of it by {output.shorten_path(leaf)}"
    return _holder(death, row) + through


def _running(death: Death) -> list[str]:
    return [
        f"{span.name}{' > ' + ', '.join(span.phases) if span.phases else ''}"
        f"{' [' + span.attributes + ']' if span.attributes else ''} in {span.thread or '-'} "
        f"for {output.format_seconds(span.age_seconds)}, holds "
        f"{output.format_bytes(span.live_bytes)}"
        for span in death.running
    ]


def _jump(death: Death) -> list[str]:
    if death.jump is None:
        return []
    jump = death.jump
    when = (
        f"ended {output.format_seconds(jump.before_end_seconds)} before"
        if jump.kind != "open span"
        else "never finished"
    )
    return [
        f"+{output.format_bytes(jump.change_bytes)} in {jump.kind} {jump.name}, "
        f"which took {output.format_seconds(jump.seconds)} and {when}"
    ]


BARS = "▁▂▃▄▅▆▇█"


def _climb(death: Death) -> list[str]:
    """A small graph of usage, its ends in figures."""
    points = death.climb
    if not points:
        return []
    of_cgroup = death.usage.of_cgroup and any(point.cgroup_bytes for point in points)
    values = [_value(point, of_cgroup) for point in points]
    top = max(*values, death.usage.limit_bytes if of_cgroup else 0, 1)
    graph = "".join(BARS[min(int(value / top * len(BARS)), len(BARS) - 1)] for value in values)
    what = "cgroup" if of_cgroup else "rss"
    limit = f" of {output.format_bytes(death.usage.limit_bytes)}" if death.usage.limit_bytes else ""
    seconds = points[0].before_end_seconds - points[-1].before_end_seconds
    return [
        f"{graph}  {what} {output.format_bytes(values[0])} -> {output.format_bytes(values[-1])}"
        f"{limit} in {output.format_seconds(seconds)}"
    ]


def _value(point: Point, of_cgroup: bool) -> int:
    return point.cgroup_bytes if of_cgroup else point.rss_bytes
