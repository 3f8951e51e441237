"""Which processes are recorded, and how they stand.

Lists every recording in the folder, those of ended processes too, or only those of one process. Of one
process, it also says which memory limit holds, and how the safety mechanisms stand.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from fastalloc.cli import output
from fastalloc.cli.errors import CommandError
from fastalloc.cli.recordings import add_directory_option, directory_of, list_recordings

if TYPE_CHECKING:
    from pathlib import Path

STATE_STYLES = {"running": "green", "killed": "bold red"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define this command's options."""
    parser.add_argument("pid", metavar="PID", nargs="?", type=int, help="only this process")
    add_directory_option(parser)
    output.add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Print one row per recording."""
    directory = directory_of(args)
    paths = list_recordings(directory, args.pid)
    if args.pid is not None and not paths:
        raise CommandError(
            f"no recording of process {args.pid} in {directory} (another folder: --dir)"
        )
    rows = [_describe(path) for path in paths]
    if args.json:
        output.print_json({"directory": str(directory), "recordings": rows})
    else:
        _print(directory, rows)
        if args.pid is not None:
            _print_safety([row for row in rows if "error" not in row][-1:])
    return 0


def _describe(path: Path) -> dict[str, Any]:
    from fastalloc.analysis.safety import limit_source, mechanisms
    from fastalloc.recording.errors import RecordingError
    from fastalloc.recording.reader import read

    try:
        snapshot = read(path)
        return output.describe_process(snapshot) | {
            "limit_source": limit_source(snapshot),
            "limit_usage_bytes": snapshot.header["limit_usage_bytes"],
            "safety": mechanisms(snapshot),
            "native_memory": output.describe_native(snapshot),
        }
    except RecordingError as error:
        return {"path": str(path), "error": str(error)}


def _print(directory: Path, rows: list[dict[str, Any]]) -> None:
    console = output.make_console()
    console.print(f"{len(rows)} recording{'' if len(rows) == 1 else 's'} in {directory}")
    readable = [row for row in rows if "error" not in row]
    if readable:
        table = output.make_table(console)
        for name in ("pid", "state", "mode"):
            table.add_column(name, no_wrap=True)
        for name in ("live heap", "high-water", "rss", "limit", "for", "losses"):
            table.add_column(name, justify="right", no_wrap=True)
        for row in readable:
            table.add_row(
                str(row["pid"]),
                row["state"],
                row["mode"],
                output.format_bytes(row["live_bytes"]),
                output.format_bytes(row["high_water_bytes"]),
                output.format_known_bytes(row["rss_bytes"]),
                output.format_known_bytes(row["limit_bytes"]),
                output.format_seconds(row["duration_seconds"]),
                output.format_count(sum(row["losses"].values())),
                style=STATE_STYLES.get(row["state"]),
            )
        console.print(table)
    for row in rows:
        if "error" in row:
            console.print(f"unreadable: {row['error']}", style="yellow")
        elif row["state"] == "running" and row["safety"]["off"]:
            reason = row["safety"]["off_reason"]
            console.print(f"{row['pid']} is switched off: {reason}", style="yellow")


def _limit(row: dict[str, Any]) -> str:
    """The limit in force, where it comes from, and how much of it is used."""
    if not row["limit_bytes"]:
        return "none"
    used = row["limit_usage_bytes"]
    share = f", {output.format_bytes(used)} used" if used else ""
    return f"{output.format_bytes(row['limit_bytes'])} ({row['limit_source']}){share}"


def _print_safety(rows: list[dict[str, Any]]) -> None:
    """The mechanisms of the newest recording."""
    console = output.make_console()
    for row in rows:
        safety, guard = row["safety"], row["safety"]["guard"]
        budget = safety["overhead_percent"]
        widened = safety["interval_bytes"] != safety["asked_interval_bytes"]
        asked = output.format_bytes(safety["asked_interval_bytes"])
        percent = safety["request_percent"]
        facts = {
            "memory limit": _limit(row),
            "other limits": ", ".join(
                f"{output.format_bytes(limit['limit_bytes'])} ({limit['source']})"
                for limit in safety["limits"]
                if not limit["holds"]
            )
            or "none",
            "requests in detail": f"{percent:g} %" if isinstance(percent, (int, float)) else "-",
            "kill switch": f"off: {safety['off_reason']}" if safety["off"] else "on",
            "shared key": safety["kill_switch_url"] or "none",
            "interval": output.format_bytes(safety["interval_bytes"])
            + (f", asked for {asked}" if widened else ""),
            "own CPU time": f"{safety['own_cpu_percent']:.3f} % of the process's"
            + (f", budget {budget:g} %" if isinstance(budget, (int, float)) else ""),
            "guard": f"{guard['state']}, tripped {guard['trips']} times"
            + (f", at {guard['percent']} % of the limit" if guard["percent"] else ""),
            "native memory": row["native_memory"],
            "layers switched off": ", ".join(safety["breakers_open"]) or "none",
        }
        console.print()
        for name, value in facts.items():
            console.print(f"{name + ':':<21} {value}")
