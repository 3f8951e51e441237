"""The command line: one file per command, with a docstring that is its help, and two functions.

`add_arguments` defines the options, `run` does the work. Commands parse and print; what they
print is worked out in `analysis` and `recording`. Modules here import nothing heavy at the top:
`fastalloc run` shares its process with the program it records.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn, Protocol

from fastalloc.cli import (
    demo,
    disable,
    dump,
    enable,
    export,
    flamegraph,
    info,
    post_mortem,
    prune,
    run,
    status,
    token,
    top,
)
from fastalloc.cli.errors import CommandError
from fastalloc.cli.output import printable
from fastalloc.recording.errors import RecordingError


class Command(Protocol):
    """What a command's module offers, besides the docstring."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, args: argparse.Namespace) -> int: ...


COMMANDS: dict[str, Command] = {
    "run": run,
    "status": status,
    "top": top,
    "info": info,
    "dump": dump,
    "post-mortem": post_mortem,
    "prune": prune,
    "export": export,
    "flamegraph": flamegraph,
    "token": token,
    "disable": disable,
    "enable": enable,
    "demo": demo,
}

EXIT_OK = 0
EXIT_BAD_INPUT = 2


class _Version(argparse.Action):
    """`--version`, looked up only when asked for: package metadata takes a while to read."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        sys.stdout.write(f"fastalloc {version('fastalloc-recorder')}\n")
        parser.exit()


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without repeating the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_BAD_INPUT, f"{self.prog}: {message} (see {self.prog} --help)\n")


def build_parser() -> argparse.ArgumentParser:
    """The parser for all commands."""
    parser = _Parser(
        prog="fastalloc",
        description="A flight recorder for memory in Python services.",
        epilog="`fastalloc COMMAND --help` says what a command does.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and leave")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, module in COMMANDS.items():
        text = (module.__doc__ or "").strip()
        summary, _, description = text.partition("\n")
        command = commands.add_parser(
            name,
            help=summary[0].lower() + summary[1:].rstrip("."),
            description=f"{summary}\n{description}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        module.add_arguments(command)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status is 2, with one line on stderr, for bad input."""
    args = build_parser().parse_args(arguments)
    command = COMMANDS[args.command]
    if args.command == "run":
        return command.run(
            args
        )  # whatever the recorded program raises is its own and passes through
    try:
        status_code = command.run(args)
        sys.stdout.flush()
    except (CommandError, RecordingError) as error:
        sys.stderr.write(f"fastalloc: {printable(str(error))}\n")
        return EXIT_BAD_INPUT
    except BrokenPipeError:
        # Our reader has left (`fastalloc top | head`), and Python would complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except OSError as error:
        # What no command has said better: a folder of another user's, a name too long
        where = f"{error.filename}: " if error.filename else ""
        sys.stderr.write(f"fastalloc: {printable(f'{where}{error.strerror or error}')}\n")
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return status_code
