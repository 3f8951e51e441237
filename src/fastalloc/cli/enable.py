"""Switch recording on again in running processes.

In the mode that each was in, or in --mode, which also switches processes that are recording. No signal is
sent and nothing restarted. The live heap begins empty: what was allocated meanwhile is not known. A
process stays off as long as the file `disabled` or the shared key says so.
"""

from __future__ import annotations

import argparse

from fastalloc.cli import switching
from fastalloc.config import MODES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define this command's options."""
    switching.add_arguments(parser)
    parser.add_argument(
        "--mode", choices=MODES[1:], help="the mode to record in (default: as it was before)"
    )


def run(args: argparse.Namespace) -> int:
    """Write the control words, and say what the processes made of it."""
    from fastalloc.recording.running import enable

    return switching.run(args, lambda path: enable(path, args.mode), is_on=True)
