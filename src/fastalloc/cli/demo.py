"""A web service is killed for its memory; see what its recording says.

Starts a small shop with a memory bug under real servers, sends requests until it is killed, and
reads the request and the line that held the memory from the recording it left.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from fastalloc.cli import output
from fastalloc.cli.errors import CommandError
from fastalloc.cli.numbers import positive_count

SERVERS = ("both", "gunicorn", "uvicorn")
NEEDED = ("django", "gunicorn", "uvicorn")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define this command's options."""
    from fastalloc.demo import LIMIT_BYTES, REQUESTS

    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("demo-output"),
        metavar="DIR",
        help="the folder for results (default: %(default)s)",
    )
    parser.add_argument(
        "--server",
        choices=SERVERS,
        default=SERVERS[0],
        help="what runs the service (default: %(default)s)",
    )
    parser.add_argument(
        "--limit-bytes",
        type=positive_count,
        default=LIMIT_BYTES,
        metavar="BYTES",
        help="the memory limit that kills it (default: %(default)s)",
    )
    parser.add_argument(
        "--requests",
        type=positive_count,
        default=REQUESTS,
        metavar="COUNT",
        help="requests at most (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Run the demo."""
    from fastalloc import demo

    console = output.make_console()
    try:
        return demo.run(args.output, args.server, args.limit_bytes, args.requests, console)
    except ModuleNotFoundError as error:
        if error.name not in NEEDED:
            raise
        raise CommandError(f"the demo needs {error.name}: pip install {error.name}") from None
