"""Switch recording off in running processes.

Each stops at its next sample and takes its hooks away within a second. No signal is sent and nothing
restarted; the recordings stay readable. `fastalloc enable` switches on again. Processes that start
later record: to keep all of them off, make a file named `disabled` in the folder of the recordings.
"""

from __future__ import annotations

import argparse

from fastalloc.cli import switching


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define this command's options."""
    switching.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Write the control words, and say what the processes made of it."""
    from fastalloc.recording.running import disable

    return switching.run(args, disable, is_on=False)
