"""Which recording a command is about: a path, a dump's folder, a PID, or the newest one."""

from __future__ import annotations

import argparse
from pathlib import Path

from fastalloc.cli.errors import CommandError
from fastalloc.recording.folder import recordings


def add_recording_argument(parser: argparse.ArgumentParser) -> None:
    """RECORDING and --dir, with one meaning for all commands."""
    parser.add_argument(
        "recording",
        metavar="RECORDING",
        nargs="?",
        help="a recording's path, a dump's folder, or a PID; left out: the newest recording",
    )
    add_directory_option(parser)


def add_directory_option(parser: argparse.ArgumentParser) -> None:
    """--dir: where recordings are looked for."""
    parser.add_argument(
        "--dir",
        type=Path,
        metavar="DIR",
        help="where recordings are (default: FASTALLOC_DIR, or else /var/tmp/fastalloc-<uid>)",
    )


def directory_of(args: argparse.Namespace) -> Path:
    """The directory that `args` name, or the default one."""
    return place_of(args.dir)


def place_of(given: Path | None) -> Path:
    """The folder that recordings lie in when `given` is meant: itself, the default one for None, or the user's own
    inside."""
    from fastalloc import directory

    return Path(directory.to_read(str(given or directory.default())))


def list_recordings(directory: Path, pid: int | None = None) -> list[Path]:
    """The recordings in `directory` (of process `pid` alone, if given), the newest last."""
    try:
        entries = recordings(directory)
    except OSError as error:
        raise CommandError(f"cannot list {directory}: {error.strerror}") from None
    return [entry.path for entry in entries if pid in (None, entry.pid)]


def find_recording(args: argparse.Namespace) -> Path:
    """The recording that RECORDING names; CommandError where there is none."""
    name: str | None = args.recording
    if name is not None and (Path(name).exists() or not name.isdecimal()):
        path = Path(name)
        if not path.exists():
            raise CommandError(f"{name}: there is no such file or folder, and it is not a PID")
        return path
    directory = directory_of(args)
    pid = None if name is None else int(name)
    paths = list_recordings(directory, pid)
    if not paths:
        whose = "no recording" if pid is None else f"no recording of process {pid}"
        raise CommandError(f"{whose} in {directory} (another folder: --dir, or FASTALLOC_DIR)")
    return paths[-1]
