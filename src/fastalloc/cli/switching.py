"""What `fastalloc enable` and `fastalloc disable` have in common."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastalloc.cli import output
from fastalloc.cli.errors import CommandError
from fastalloc.cli.recordings import add_directory_option, directory_of, list_recordings
from fastalloc.recording.folder import RECORDING_NAME

if TYPE_CHECKING:
    from fastalloc.recording.running import Running

WAIT_SECONDS = 3.0  # for the processes to do it: they look once a second


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """PID or --all, and the folder."""
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("pid", metavar="PID", nargs="?", type=int, help="this process")
    which.add_argument("--all", action="store_true", help="all processes recorded in the folder")
    add_directory_option(parser)
    output.add_json_option(parser)


def run(args: argparse.Namespace, ask: Callable[[Path], Running], *, is_on: bool) -> int:
    """`ask` each process, wait until it has answered, print a row for each. The exit status is 0
    when all did it in time."""
    directory = directory_of(args)
    rows = [_ask(path, ask) for path in _paths(directory, args)]
    _wait(rows, is_on)
    for row in rows:
        running = row.pop("running", None)
        if running is not None:
            running.__exit__()
    if args.json:
        output.print_json({"directory": str(directory), "processes": rows})
    else:
        _print(directory, rows)
    return 0 if all(row.get("done") for row in rows) else 1


def _paths(directory: Path, args: argparse.Namespace) -> list[Path]:
    """The newest recording of each process that runs."""
    newest = {}
    for path in list_recordings(directory, args.pid):
        match = RECORDING_NAME.fullmatch(path.name)
        pid = int(match["pid"]) if match else 0
        if Path(f"/proc/{pid}").exists():
            newest[pid] = path
    if not newest:
        whose = "no process that runs" if args.pid is None else f"process {args.pid} is not"
        what = "is recorded" if args.pid is None else "running, or not recorded"
        raise CommandError(f"{whose} {what} in {directory} (another folder: --dir)")
    return list(newest.values())


def _ask(path: Path, ask: Callable[[Path], Running]) -> dict[str, Any]:
    from fastalloc.recording.errors import RecordingError

    row: dict[str, Any] = {"path": str(path)}
    try:
        running = ask(path)
    except RecordingError as error:
        return row | {"error": str(error), "done": False}
    return row | {"pid": running.pid, "running": running, "done": False}


def _wait(rows: list[dict[str, Any]], is_on: bool) -> None:
    """Until each process has answered, with the mode it is in then."""
    from fastalloc.recording.errors import RecordingError
    from fastalloc.recording.layout import Control, Mode, Off, State

    until = time.monotonic() + WAIT_SECONDS
    waiting = [row for row in rows if "running" in row]
    while waiting:
        for row in tuple(waiting):
            try:
                header = row["running"].read()
            except RecordingError as error:  # somebody changed the file meanwhile
                row["error"] = str(error)
                waiting.remove(row)
                continue
            answered = header["control"] in (Control.RUN, Control.DISABLE)
            row["mode"] = _name(Mode, header["mode"])
            row["off"] = _name(Off, header["off"]) if header["off"] else ""
            row["done"] = bool(answered and (header["mode"] != Mode.DISABLED) == is_on)
            has_ended = header["state"] != State.RUNNING
            if row["done"] or has_ended or (answered and is_on and header["off"]):
                waiting.remove(row)
        if time.monotonic() > until:
            return
        time.sleep(0.02)


def _name(kind: type[IntEnum], value: int) -> str:
    return kind(value).name.lower() if value in set(kind) else "unknown"


def _print(directory: Path, rows: list[dict[str, Any]]) -> None:
    console = output.make_console()
    for row in rows:
        if "error" in row:
            console.print(row["error"], style="yellow")
            continue
        text = f"{row['pid']}  {row['mode']}"
        if row["off"] == "file":
            text += f", switched off by the file {directory / 'disabled'}"
        elif row["off"] == "key":
            text += ", switched off by the shared key"
        elif not row["done"]:
            text += ", has not answered yet; it stops at its next sample and looks once a second"
        console.print(text)
