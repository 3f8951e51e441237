"""Have a running process write a dump, and say where it is.

The process is asked through its recording: no signal, no ptrace. If it does not answer in time, because
it is stuck or its recorder is off, or if it has ended, its recording is copied from outside.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastalloc.cli import output
from fastalloc.cli.errors import CommandError
from fastalloc.cli.numbers import positive_count, positive_seconds
from fastalloc.cli.recordings import add_directory_option, directory_of, list_recordings

if TYPE_CHECKING:
    from collections.abc import Callable

POLL_SECONDS = 0.02


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define this command's options."""
    parser.add_argument("pid", metavar="PID", type=positive_count, help="the process")
    parser.add_argument(
        "--timeout",
        type=positive_seconds,
        default=10.0,
        metavar="SECONDS",
        help="how long to wait for the process (default: %(default)s)",
    )
    add_directory_option(parser)
    output.add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Ask, wait, and print the dump's path."""
    directory = directory_of(args)
    paths = list_recordings(directory, args.pid)
    if not paths:
        raise CommandError(
            f"no recording of process {args.pid} in {directory} (another folder: --dir)"
        )
    recording = paths[-1]
    try:
        why, path = _ask(recording, args.pid, args.timeout)
        if path is None:
            path = _from_outside(recording, args.pid, why)
    except OSError as error:
        raise CommandError(f"cannot write a dump in {directory}: {error.strerror}") from None
    if args.json:
        told = {"path": str(path), "pid": args.pid, "from_outside": bool(why), "why": why}
        output.print_json(told)
    else:
        if why:
            sys.stderr.write(f"fastalloc: {why}: only its recording was copied\n")
        sys.stdout.write(f"{path}\n")
    return 0


def _from_outside(recording: Path, pid: int, why: str) -> Path:
    from fastalloc.analysis.outside_dump import write_outside_dump

    return write_outside_dump(recording, pid, why)


def _ask(recording: Path, pid: int, seconds: float) -> tuple[str, Path | None]:
    """(why there is none, the dump that the process wrote)."""
    from fastalloc.recording.layout import HEADER, State
    from fastalloc.recording.process import is_alive
    from fastalloc.recording.source import File
    from fastalloc.recording.tables import read_header

    def header() -> Any:
        with File(recording) as file:
            return read_header(file)

    def runs() -> bool:
        return is_alive(pid, int(before["process_start_ticks"]))

    before = header()
    if not runs():
        return f"process {pid} has ended", None
    if before["state"] != State.RUNNING:
        return f"process {pid} does not record any more", None
    assert HEADER.fields is not None
    known = set(_dumps_of(recording.parent, pid))
    _add_request(recording, HEADER.fields["dump_requests"][1], int(before["dump_requests"]) + 1)
    if not _wait(lambda: header()["dumps"] != before["dumps"] or not runs(), seconds):
        return f"process {pid} did not answer within {seconds:g} s", None
    for path in _dumps_of(recording.parent, pid):
        if path not in known:
            return "", path
    return f"process {pid} ended before it wrote one", None


def _dumps_of(directory: Path, pid: int) -> list[Path]:
    """The newest first."""
    found = [path for path in directory.glob(f"dump-{pid}-*") if path.name[-1:].isdigit()]
    return sorted(found, key=lambda path: path.name, reverse=True)


def _add_request(recording: Path, offset: int, number: int) -> None:
    from fastalloc.recording.in_memory import open_no_other

    descriptor = open_no_other(recording, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.pwrite(descriptor, (number & 0xFFFF_FFFF).to_bytes(4, "little"), offset)
    finally:
        os.close(descriptor)


def _wait(done: Callable[[], bool], seconds: float) -> bool:
    until = time.monotonic() + seconds
    while not done():
        if time.monotonic() > until:
            return False
        time.sleep(POLL_SECONDS)
    return True
