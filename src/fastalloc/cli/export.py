"""Write a recording as another tool's file.

The file of kind `aggregated` holds the live heap and the high-water mark, one row per stack; that
of kind `all` holds the known samples with their times. Each memray release reads only its own
format: name the one that will read the file, unless it is the one installed here.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from fastalloc.cli import output
from fastalloc.cli.errors import CommandError
from fastalloc.cli.recordings import add_recording_argument, find_recording

TARGETS = ("memray",)
KINDS = ("aggregated", "all")
FRAMES = ("span", "phase", "thread")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define this command's options."""
    add_recording_argument(parser)
    parser.add_argument(
        "--to", choices=TARGETS, default=TARGETS[0], help="the tool (default: %(default)s)"
    )
    parser.add_argument(
        "--kind", choices=KINDS, default=KINDS[0], help="what to write (default: %(default)s)"
    )
    parser.add_argument(
        "--memray-version", metavar="X.Y.Z", help="the memray that will read it (default: ours)"
    )
    add_frame_option(parser)
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE", help="the file to write"
    )
    output.add_json_option(parser)


def add_frame_option(parser: argparse.ArgumentParser) -> None:
    """--frame, the same in all that draws stacks."""
    parser.add_argument(
        "--frame",
        dest="frames",
        action="append",
        default=[],
        choices=FRAMES,
        help="show this above every stack; may be repeated, outermost first",
    )


def run(args: argparse.Namespace) -> int:
    """Write the file and say so."""
    from fastalloc.export import ExportError, export_memray
    from fastalloc.recording.reader import read

    snapshot = read(find_recording(args))
    try:
        with output.ProgressBar("exporting") as progress:
            export_memray(
                snapshot,
                args.output,
                kind=args.kind,
                memray_version=args.memray_version,
                frames=args.frames,
                progress=progress.update,
            )
    except ExportError as error:
        raise CommandError(str(error)) from error
    report_file(args, str(snapshot.path))
    return 0


def report_file(args: argparse.Namespace, recording: str) -> None:
    """Say which file was written."""
    size = args.output.stat().st_size
    if args.json:
        output.print_json({"output": str(args.output), "bytes": size, "recording": recording})
    else:
        output.make_console().print(f"{args.output}: {output.format_bytes(size)}, from {recording}")
