"""A web service is killed for its memory; see what its recording says.

Starts a small service with a memory bug under a real server, sends it requests until it is
killed, and reads the request and the line that held the memory from the recording it left.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from fastalloc.cli import output
from fastalloc.cli.errors import CommandError

SERVERS = ("gunicorn", "uvicorn")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define this command's options."""
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("demo-output"),
        metavar="DIR",
        help="where results go",
    )
    parser.add_argument(
        "--server", choices=SERVERS, default=SERVERS[0], help="the server that runs the service"
    )
    parser.add_argument(
        "--limit-bytes",
        type=int,
        default=256 << 20,
        metavar="BYTES",
        help="the limit that kills it",
    )
    parser.add_argument(
        "--requests",
        type=int,
        default=2000,
        metavar="COUNT",
        help="how many requests to send at most",
    )


def run(args: argparse.Namespace) -> int:
    """Run the demo."""
    try:
        from fastalloc import demo
    except ImportError as error:
        raise CommandError(f"the demo needs {error.name}, which is not installed") from None
    return demo.run(
        args.output, args.server, args.limit_bytes, args.requests, output.make_console()
    )
