"""Draw a recording as a flame graph, an HTML page.

The page shows the high-water mark or, with --leaks, the live heap. memray draws it and must be
installed.
"""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from pathlib import Path

from fastalloc.cli import output
from fastalloc.cli.errors import CommandError
from fastalloc.cli.export import add_frame_option, report_file
from fastalloc.cli.recordings import add_recording_argument, find_recording


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define this command's options."""
    add_recording_argument(parser)
    parser.add_argument("--leaks", action="store_true", help="the live heap, not the mark")
    parser.add_argument("--temporal", action="store_true", help="over time, to choose a stretch")
    parser.add_argument("--inverted", action="store_true", help="leaves first")
    parser.add_argument("--split-threads", action="store_true", help="threads apart")
    add_frame_option(parser)
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="the HTML file to write (default: memray-flamegraph-NAME.html, after the recording, here)",
    )
    parser.add_argument("--force", action="store_true", help="overwrite a file that is there")
    output.add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Draw the page and say where it is."""
    from fastalloc.export import ExportError, flamegraph
    from fastalloc.recording.reader import read

    recording = find_recording(args)
    if args.output is None:
        args.output = Path(f"memray-flamegraph-{_name(recording)}.html")
    if args.output.exists() and not args.force:
        raise CommandError(f"{args.output} is there already; overwrite it by --force, or give -o")
    snapshot = read(recording)
    console = output.make_console(stderr=True)
    waiting = console.status("memray draws the page") if console.is_terminal else nullcontext()
    try:
        with waiting:
            flamegraph(
                snapshot,
                args.output,
                leaks=args.leaks,
                temporal=args.temporal,
                inverted=args.inverted,
                split_threads=args.split_threads,
                frames=args.frames,
            )
    except ExportError as error:
        raise CommandError(str(error)) from error
    report_file(args, str(snapshot.path))
    return 0


def _name(recording: Path) -> str:
    """The name of a recording or of a dump's folder, without its ending."""
    return recording.resolve().name.removesuffix(".recording")
